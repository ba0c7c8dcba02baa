// Command conformance runs the test suites of programs that others wrote with their memory from hakmem,
// and prints how the results differ from those without it.
//
//	go run . [-short] [-race] [-keep] [-timeout 30m] [NAME...]
//
// For each program it fetches the module at a named version through the go command, copies it to a
// temporary directory, and runs the tests there. In a second copy it swaps the seam, the place where the
// program gets its memory, and runs the tests three times: as they are, with HAKMEM_HARDEN=1, and with
// HAKMEM_GUARD=1/1000. With -race there is one run instead, with the race detector in it and in the run without
// hakmem. A test that fails with hakmem only runs once more. Programs whose runs without hakmem
// are the same share one. Standard output is a table in Markdown. The exit status is 1 when a test fails with
// hakmem, twice, that does not fail without it, and is not known to be at fault itself. With -short the packages
// are left out that take long to compile; the table says which.
//
// Its own tests run no suite of others. It needs the go command, a module proxy, and the tree of hakmem
// around the working directory.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// mode is a way in which hakmem runs.
type mode struct {
	name string
	env  []string
}

var modes = []mode{
	{name: "plain"},
	{name: "HAKMEM_HARDEN=1", env: []string{"HAKMEM_HARDEN=1"}},
	{name: "HAKMEM_GUARD=1/1000", env: []string{"HAKMEM_GUARD=1/1000"}},
}

// raceModes are the modes where the tests run with the race detector. Settings of hakmem would not change what it sees.
var raceModes = []mode{{name: "-race"}}

// row is a line of the table: one run with hakmem next to the run without it.
type row struct {
	program       program
	mode          string
	without, with outcome
	passedAgain   []testName // those of with.failed that passed when they ran once more
	leftOut       []reason   // tests and packages that did not run
}

// worse returns what fails only with hakmem, and does so twice.
func (r *row) worse() []testName {
	return slices.DeleteFunc(only(r.with, r.without), func(n testName) bool { return slices.Contains(r.passedAgain, n) })
}

// isAbout says whether the reason's test is n, or n is one of its subtests that it includes.
func (k reason) isAbout(n testName) bool {
	test, all := strings.CutSuffix(k.what, "/...")
	return n.String() == test || all && strings.HasPrefix(n.String(), test+"/")
}

// only returns what failed in one of the runs, but not in the other.
func only(in, not outcome) []testName {
	return slices.DeleteFunc(slices.Clone(in.failed), func(n testName) bool { return slices.Contains(not.failed, n) })
}

// settings is what the command line says.
type settings struct {
	short   bool
	race    bool // with the race detector, with hakmem and without
	timeout string
	temp    string // where copies and logs go
	copied  string // what the copy in use is called when the next one takes its place; empty: there is none
	fetch   func(module, version string) (dir string, err error)
	now     func() time.Time
	words   io.Writer // progress
}

func main() {
	var s settings
	flag.BoolVar(&s.short, "short", false, "run the suites with their -short, and without the tests and packages that the program's entry leaves out for it")
	flag.BoolVar(&s.race, "race", false, "run the suites with the race detector, with hakmem and without; it needs cgo")
	keep := flag.Bool("keep", false, "keep the copies and the logs of the tests, and say where they are")
	flag.StringVar(&s.timeout, "timeout", "30m", "how long the tests of one package may take in one run")
	flag.Parse()
	s.fetch, s.now, s.words = fetch, time.Now, os.Stderr
	ok, err := s.main(flag.Args(), *keep, os.Stdout)
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(2)
	case !ok:
		os.Exit(1)
	}
}

// main runs the named programs and prints the table. It reports whether all is as without hakmem.
func (s *settings) main(names []string, keep bool, to io.Writer) (ok bool, err error) {
	list, err := chosen(names)
	if err != nil {
		return false, err
	}
	if s.temp, err = os.MkdirTemp("", "conformance"); err != nil {
		return false, err
	}
	if keep {
		fmt.Fprintln(s.words, "copies and logs:", s.temp)
	} else {
		defer os.RemoveAll(s.temp)
	}
	rows, err := s.compareAll(list)
	if len(rows) > 0 { // what was found out is printed, also where the rest could not be
		ok = printTable(to, rows, s.now())
	}
	return ok, errors.Join(err, s.setAside())
}

// compareAll compares programs, up to the first error. The rows are those that there are by then.
func (s *settings) compareAll(list []program) (rows []row, err error) {
	baselines := map[string]outcome{}
	for _, p := range list {
		more, err := s.compare(p, baselines)
		rows = append(rows, more...)
		if err != nil {
			return rows, fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return rows, nil
}

// compare runs one program without hakmem and then with it. baselines holds the runs without it that
// several programs share. The rows are those that there are, also if there is an error.
func (s *settings) compare(p program, baselines map[string]outcome) ([]row, error) {
	from, err := s.fetch(p.module, p.version)
	if err != nil {
		return nil, err
	}
	var args []string
	if s.short {
		args = append(args, "-short")
		if p.short != "" {
			args = append(args, "-run", p.short)
		}
	}
	in := modes
	if s.race {
		args = append(args, "-race")
		in = raceModes
	}
	var packages []reason
	if s.short {
		packages = p.slow
	}
	skip := p.skip
	if s.short && s.race {
		skip = slices.Concat(skip, p.raceSlow)
	}
	leftOut := slices.Concat(skip, packages)
	if len(skip) > 0 {
		var patterns []string
		for _, l := range skip {
			patterns = append(patterns, l.what)
		}
		args = append(args, "-skip", strings.Join(patterns, "|"))
	}
	for _, l := range leftOut {
		fmt.Fprintf(s.words, "%s: %s is left out: %s\n", p.name, l.what, l.why)
	}
	key := fmt.Sprintf("%q", []any{p.module, p.version, p.tests, leftOut, p.env, args})
	without, known := baselines[key]
	if !known {
		su, err := s.suite(p, from, "without", args, packages)
		if err != nil {
			return nil, err
		}
		if without, err = s.one(p, su, "without", "", nil); err != nil {
			return nil, err
		}
		baselines[key] = without
	}
	su, err := s.suite(p, from, "with", args, packages)
	if err != nil {
		return nil, err
	}
	if err := p.prepare(su.dir); err != nil {
		return nil, err
	}
	switch swapped, err := su.usesHakmem(); {
	case err != nil:
		return nil, err
	case !swapped:
		return nil, fmt.Errorf("after prepare no test of %s imports %s: the seam is not swapped", p.module, ours)
	}
	var rows []row
	for _, m := range in { // in one copy, or each run would compile the module anew
		with, err := s.one(p, su, m.name, "", m.env)
		if err != nil {
			return rows, err
		}
		r := row{program: p, mode: m.name, without: without, with: with, leftOut: leftOut}
		// Suites have tests that depend on time. What fails for that reason will pass the next time.
		if worse := r.worse(); pattern(worse) != "" && len(worse) > 0 {
			again, err := s.one(p, su, m.name+" again", pattern(worse), m.env)
			if err != nil {
				return rows, err
			}
			r.passedAgain = slices.DeleteFunc(worse, func(n testName) bool { return slices.Contains(again.failed, n) })
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// suite copies the module. Tests leave files behind, so what is in the module cache is left alone. All copies are made in
// the same directory, one after the other: the go command compiles a package anew where its directory has another name.
func (s *settings) suite(p program, from, what string, args []string, without []reason) (*suite, error) {
	if err := s.setAside(); err != nil {
		return nil, err
	}
	s.copied = p.name + "-" + what
	dir := s.module()
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		return nil, err
	}
	su := &suite{dir: dir, tests: p.tests, env: p.env, args: args, timeout: s.timeout}
	return su, su.leaveOut(without)
}

// module is the directory of the copy in use.
func (s *settings) module() string { return filepath.Join(s.temp, "module") }

// setAside makes room for another copy.
func (s *settings) setAside() error {
	if s.copied == "" {
		return nil
	}
	name := s.copied
	s.copied = ""
	return os.Rename(s.module(), filepath.Join(s.temp, name))
}

// one runs the tests once: those that match the pattern, or all if it is empty.
func (s *settings) one(p program, su *suite, what, pattern string, env []string) (outcome, error) {
	log, err := os.Create(filepath.Join(s.temp, p.name+"-"+strings.NewReplacer("/", "-", "=", "-", " ", "-").Replace(what)+".log"))
	if err != nil {
		return outcome{}, err
	}
	defer log.Close()
	began := s.now()
	o, err := su.run(env, pattern, log)
	fmt.Fprintf(s.words, "%s, %s: %d passed, %d failed, %d skipped, %v\n",
		p.name, what, o.passed, len(o.failed), o.skipped, s.now().Sub(began).Round(time.Second))
	return o, err
}

// printTable prints the table and, below it, the tests that fail in one of two runs only. It reports
// whether no test fails with hakmem that does not fail without it, except for those that are known.
func printTable(to io.Writer, rows []row, now time.Time) (ok bool) {
	fmt.Fprintf(to, "%s, %s, %s/%s. Subtests count.\n\n", now.Format(time.DateOnly), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	fmt.Fprintln(to, "| program | module | settings | without: passed / failed / skipped | with hakmem | fail only with hakmem | fail only without |")
	fmt.Fprintln(to, "|---|---|---|---|---|---|---|")
	ok = true
	var notes strings.Builder
	for _, r := range rows {
		worse, better := r.worse(), only(r.without, r.with)
		fmt.Fprintf(to, "| %s | %s %s | %s | %s | %s | %d | %d |\n", r.program.name, r.program.module, r.program.version, r.mode,
			counts(r.without), counts(r.with), len(worse), len(better))
		for _, n := range worse {
			if slices.ContainsFunc(r.program.known, func(k reason) bool { return k.isAbout(n) }) {
				continue
			}
			ok = false
			fmt.Fprintf(&notes, "* %s, %s: fails only with hakmem: %v\n", r.program.name, r.mode, n)
		}
		for _, k := range r.program.known {
			if among := slices.DeleteFunc(slices.Clone(worse), func(n testName) bool { return !k.isAbout(n) }); len(among) > 0 {
				fmt.Fprintf(&notes, "* %s, %s: %d of those that fail only with hakmem do so through a fault of their own: %s: %s\n", r.program.name, r.mode, len(among), k.what, k.why)
			}
		}
		for _, n := range r.passedAgain {
			fmt.Fprintf(&notes, "* %s, %s: failed with hakmem, and passed when it ran once more: %v\n", r.program.name, r.mode, n)
		}
		for _, n := range better {
			fmt.Fprintf(&notes, "* %s, %s: fails only without hakmem: %v\n", r.program.name, r.mode, n)
		}
	}
	for i, r := range rows {
		if i > 0 && rows[i-1].program.name == r.program.name {
			continue // each mode leaves out the same
		}
		for _, l := range r.leftOut {
			fmt.Fprintf(&notes, "* %s: left out: %s: %s\n", r.program.name, l.what, l.why)
		}
	}
	if notes.Len() > 0 {
		fmt.Fprintf(to, "\n%s", notes.String())
	}
	return ok
}

func counts(o outcome) string { return fmt.Sprintf("%d / %d / %d", o.passed, len(o.failed), o.skipped) }
