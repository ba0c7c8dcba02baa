package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
)

// fetch returns the directory of a module in the module cache.
func fetch(module, version string) (string, error) {
	out, err := goOutput(os.TempDir(), nil, "mod", "download", "-json", module+"@"+version)
	if err != nil {
		return "", err
	}
	var m struct{ Dir string }
	if err := json.Unmarshal(out, &m); err != nil {
		return "", err
	}
	return m.Dir, nil
}

// environment is that of every command here: this process's without what would change a build or what
// hakmem does, and with more.
func environment(more []string) []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "HAKMEM_") })
	// A copied module is no part of a workspace, and its go.sum lacks what hakmem requires.
	return append(append(env, "GOWORK=off", "GOFLAGS=-mod=mod"), more...)
}

// testName is a test as its package calls it. An empty test is the package as a whole.
type testName struct{ pkg, test string }

func (n testName) String() string {
	if n.test == "" {
		return n.pkg
	}
	return n.pkg + "." + n.test
}

// outcome is what became of the tests of one run.
type outcome struct {
	passed, skipped int
	failed          []testName // in the order of their names; a package that failed as a whole is there too
}

// suite is a module with its tests, as they are run.
type suite struct {
	dir     string   // the copy of the module
	tests   []string // packages
	env     []string // the program's
	args    []string // further arguments of go test
	timeout string   // for each package, as go test takes it
}

// run runs the tests with more in the environment, and writes what they print to log. An error is one of
// running them, no failed test. If pattern is not empty, only the tests run that it names, as for -run.
func (s *suite) run(more []string, pattern string, log io.Writer) (outcome, error) {
	args := append([]string{"test", "-json", "-count=1", "-timeout", s.timeout}, s.args...)
	if pattern != "" {
		args = append(args, "-run", pattern) // the last -run holds
	}
	cmd := exec.Command("go", append(args, s.tests...)...)
	cmd.Dir = s.dir
	cmd.Env = environment(append(slices.Clone(s.env), more...))
	var complaint bytes.Buffer
	cmd.Stderr = io.MultiWriter(&complaint, log)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return outcome{}, err
	}
	if err := cmd.Start(); err != nil {
		return outcome{}, err
	}
	o, err := readEvents(io.TeeReader(out, log))
	if err != nil {
		// Else the command could wait for a reader.
		_, _ = io.Copy(io.Discard, out)
	}
	failure := cmd.Wait()
	switch {
	case err != nil:
		return o, err
	case failure != nil && len(o.failed) == 0:
		return o, fmt.Errorf("go %q in %s: %w\n%s", args, s.dir, failure, complaint.Bytes())
	case o.passed+o.skipped+len(o.failed) == 0:
		return o, fmt.Errorf("go %q in %s ran no test", args, s.dir)
	}
	return o, nil
}

// leaveOut removes packages from those whose tests run.
func (s *suite) leaveOut(packages []reason) error {
	if len(packages) == 0 {
		return nil
	}
	tests, err := s.list(s.tests)
	if err != nil {
		return err
	}
	for _, p := range packages {
		out, err := s.list([]string{p.what})
		if err != nil {
			return err
		}
		if len(out) == 0 {
			return fmt.Errorf("%s, which is to be left out, has no packages: the module has changed", p.what)
		}
		tests = slices.DeleteFunc(tests, func(name string) bool { return slices.Contains(out, name) })
	}
	if len(tests) == 0 {
		return fmt.Errorf("of %q nothing remains without %v", s.tests, packages)
	}
	s.tests = tests
	return nil
}

// list returns the paths of packages.
func (s *suite) list(packages []string) ([]string, error) {
	out, err := goOutput(s.dir, s.env, append([]string{"list"}, packages...)...)
	return strings.Fields(string(out)), err
}

// readEvents counts what go test -json prints. Subtests count. A test that ran when its process ended
// has failed.
func readEvents(r io.Reader) (o outcome, err error) {
	failed, running := map[testName]bool{}, map[testName]bool{}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 64<<20) // an event has one line of a test's output, which may be a dump
	for lines.Scan() {
		var e struct{ Action, Package, Test, ImportPath string }
		if !bytes.HasPrefix(lines.Bytes(), []byte("{")) {
			continue // go's own words, such as those on downloads
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return o, fmt.Errorf("%q is no event of go test: %w", lines.Text(), err)
		}
		n := testName{e.Package, e.Test}
		switch e.Action {
		case "run":
			running[n] = true
			continue
		case "pass":
			if n.test != "" {
				o.passed++
			}
		case "skip":
			if n.test != "" {
				o.skipped++
			}
		case "fail":
			failed[n] = true
		case "build-fail":
			failed[testName{pkg: e.ImportPath}] = true
		default:
			continue
		}
		delete(running, n)
	}
	for n := range running {
		failed[n] = true
	}
	// A package fails with its tests. It is named only when no test of it is.
	byItsTests := map[string]bool{}
	for n := range failed {
		byItsTests[n.pkg] = byItsTests[n.pkg] || n.test != ""
	}
	for n := range failed {
		if n.test != "" || !byItsTests[n.pkg] {
			o.failed = append(o.failed, n)
		}
	}
	slices.SortFunc(o.failed, func(a, b testName) int { return strings.Compare(a.String(), b.String()) })
	return o, lines.Err()
}

// pattern returns the pattern of -run for some tests, with all their subtests. It is empty if a package
// failed as a whole: then no tests can be named.
func pattern(tests []testName) string {
	var top []string
	for _, n := range tests {
		if n.test == "" {
			return ""
		}
		name, _, _ := strings.Cut(n.test, "/")
		top = append(top, regexp.QuoteMeta(name))
	}
	slices.Sort(top)
	return "^(" + strings.Join(slices.Compact(top), "|") + ")$"
}

// usesHakmem reports whether the tests have hakmem in them, or what they have in its place.
func (s *suite) usesHakmem() (bool, error) {
	out, err := goOutput(s.dir, s.env, append([]string{"list", "-deps", "-test", "-f", "{{.ImportPath}}"}, s.tests...)...)
	return slices.Contains(strings.Split(string(out), "\n"), ours), err
}
