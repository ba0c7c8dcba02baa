// Mutants shows what the tests are worth: it puts one defect at a time into a copy of one of the
// engine's files and expects some test to fail.
//
//	go run ./proof/mutants              all of them, and a table
//	go run ./proof/mutants -run REGEXP  those whose names match
//	go run ./proof/mutants -list        their names and what they break
//
// The tree is not changed: the compiler gets the changed file through -overlay. A mutant is caught when a
// test fails or does not end in time, which the table says. The test that caught it before, by the table in
// docs/testing.md, is tried first and by itself, which takes seconds where the suites take minutes. Before
// its first use each test and each suite runs without a defect, because one that fails then would seem to
// catch every mutant. Exit status 1: a mutant survived.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/hakmem/hakmem/proof/internal/repository"
)

// suites are tried in turn until one fails: the quick ones first. The time limits are several times
// what they take. A mutant that makes the engine loop or wait for ever is caught by them.
var suites = []struct {
	name string
	args []string
}{
	{"engine", []string{"-timeout=3m", "./internal/engine", "./internal/learn", "./internal/policy", "./internal/sizeclass", "./internal/golden/...", "./internal/osmem", "./hakmemtest"}}, // not internal/learn/sim, which takes half a minute
	{"package", []string{"-timeout=3m", "-short", ".", "./tests/..."}},
	{"misuse", []string{"-timeout=3m", "-short", "./misuse"}},
	{"proof", []string{"-timeout=8m", "./proof"}},
}

// suiteLimit ends a suite that does not even end by its own time limit.
const suiteLimit = 10 * time.Minute

func main() {
	run := flag.String("run", "", "only mutants whose names match this `regexp`")
	list := flag.Bool("list", false, "print what there is, and do nothing")
	flag.Parse()
	if err := mutate(*run, *list); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func mutate(run string, list bool) error {
	which, err := regexp.Compile(run)
	if err != nil {
		return fmt.Errorf("-run %q: %w", run, err)
	}
	root, err := repository.Root()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	before, err := readTable(root)
	if err != nil {
		return err
	}
	alone := map[string]bool{} // by test: whether it passes by itself without a defect
	var survived []string
	fmt.Print("| mutant | what it breaks | caught by | after, s |\n|---|---|---|---|\n")
	for _, m := range mutants {
		if !which.MatchString(m.name) {
			continue
		}
		if list {
			fmt.Printf("| %s | %s | | |\n", m.name, m.why)
			continue
		}
		began := time.Now()
		first := before[m.name]
		if first.test != "" {
			passes, known := alone[first.test]
			if !known {
				by, err := runSuite(ctx, root, "", first.args())
				if err != nil {
					return err
				}
				passes = by == ""
				alone[first.test] = passes
			}
			if !passes {
				first = oneTest{}
			}
		}
		by, err := m.caughtBy(ctx, root, first)
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		if by == "" {
			by = "**nothing**"
			survived = append(survived, m.name)
		}
		fmt.Printf("| %s | %s | %s | %.0f |\n", m.name, m.why, by, time.Since(began).Seconds())
	}
	if len(survived) > 0 {
		return fmt.Errorf("%d survived: %s", len(survived), strings.Join(survived, ", "))
	}
	return nil
}

// apply returns the file's text with the defect.
func (m mutant) apply(root string) ([]byte, error) {
	text, err := os.ReadFile(filepath.Join(root, m.file))
	if err != nil {
		return nil, err
	}
	if n := strings.Count(string(text), m.old); n != 1 {
		return nil, fmt.Errorf("%s has %d times %q: bring the mutant up to date", m.file, n, m.old)
	}
	return []byte(strings.Replace(string(text), m.old, m.new, 1)), nil
}

// oneTest is a test that caught a mutant before.
type oneTest struct{ suite, test, directory string }

func (o oneTest) args() []string {
	return []string{"-timeout=3m", "-run=^" + o.test + "$", "./" + o.directory}
}

// caught matches a row of the table in docs/testing.md whose mutant a test caught.
var caught = regexp.MustCompile(`(?m)^\| ([a-z0-9-]+) \| .* \| (\w+): (Test\w+)`)

// readTable returns the tests that caught mutants before, by mutant.
func readTable(root string) (map[string]oneTest, error) {
	page, err := os.ReadFile(filepath.Join(root, "docs", "testing.md"))
	if err != nil {
		return nil, err
	}
	files, _, err := repository.Files(root)
	if err != nil {
		return nil, err
	}
	directory := map[string]string{} // by test, "" if there are several of this name
	test := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	for _, file := range files {
		if !strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			return nil, err
		}
		for _, t := range test.FindAllSubmatch(text, -1) {
			d := path.Dir(file)
			if was, twice := directory[string(t[1])]; twice && was != d {
				d = ""
			}
			directory[string(t[1])] = d
		}
	}
	tests := map[string]oneTest{}
	for _, row := range caught.FindAllSubmatch(page, -1) {
		if d := directory[string(row[3])]; d != "" {
			tests[string(row[1])] = oneTest{suite: string(row[2]), test: string(row[3]), directory: d}
		}
	}
	return tests, nil
}

// caughtBy runs first, then the suites, over the defect and returns the first that fails, with its
// first failing test. first may be of no test.
func (m mutant) caughtBy(ctx context.Context, root string, first oneTest) (string, error) {
	text, err := m.apply(root)
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "mutant")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	changed, overlay := filepath.Join(dir, "changed.go"), filepath.Join(dir, "overlay.json")
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(root, m.file): changed}})
	if err != nil {
		return "", err
	}
	for name, b := range map[string][]byte{changed: text, overlay: replace} {
		if err := os.WriteFile(name, b, 0o644); err != nil {
			return "", err
		}
	}
	if first.test != "" {
		by, err := runSuite(ctx, root, overlay, first.args())
		if err != nil {
			return "", err
		}
		if by != "" {
			return first.suite + ": " + by, nil
		}
	}
	for _, s := range suites {
		if err := mustPass(ctx, root, s.name, s.args); err != nil {
			return "", err
		}
		by, err := runSuite(ctx, root, overlay, s.args)
		if err != nil {
			return "", err
		}
		if by != "" {
			return s.name + ": " + by, nil
		}
	}
	return "", nil
}

// passed has the suites that passed without a defect.
var passed = map[string]bool{}

// mustPass runs a suite without a defect, once, and returns an error if it fails.
func mustPass(ctx context.Context, root, name string, args []string) error {
	if passed[name] {
		return nil
	}
	by, err := runSuite(ctx, root, "", args)
	if err != nil {
		return err
	}
	if by != "" {
		return fmt.Errorf("without a defect %s fails in the suite %q: mend that first", by, name)
	}
	passed[name] = true
	return nil
}

var (
	failedTest = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)
	failedHow  = regexp.MustCompile(`(?m)^(?:panic: |fatal error: |unexpected fault address |FAIL\s)(.*)`)
)

// late matches the output of tests, or of their child processes, that were ended by their time
// limit.
var late = regexp.MustCompile(`panic: test timed out|signal: killed|context deadline exceeded`)

// runSuite returns what failed, or "" if nothing did. overlay may be "".
func runSuite(ctx context.Context, root, overlay string, args []string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, suiteLimit)
	defer cancel()
	// vet would refuse variables that some mutants leave unused. failfast: one failure is enough.
	line := append([]string{"test", "-count=1", "-vet=off", "-failfast", "-overlay=" + overlay}, args...)
	c := exec.CommandContext(ctx, "go", line...)
	c.Dir = root
	c.Env = append(os.Environ(), "RAPID_NOFAILFILE=1") // what fails by a mutant must not be tried again without it
	c.WaitDelay = 10 * time.Second
	out, err := c.CombinedOutput()
	switch {
	case ctx.Err() == context.DeadlineExceeded:
		return "no end in " + suiteLimit.String(), nil
	case ctx.Err() != nil:
		return "", ctx.Err()
	case err == nil:
		return "", nil
	case strings.Contains(string(out), "[build failed]"):
		return "", fmt.Errorf("it does not compile:\n%s", out)
	}
	if t := failedTest.FindSubmatch(out); t != nil {
		if late.Match(out) {
			return string(t[1]) + ", by its time limit", nil
		}
		return string(t[1]), nil
	}
	if h := failedHow.FindSubmatch(out); h != nil {
		how := []rune(string(h[1]))
		return string(how[:min(len(how), 60)]), nil
	}
	return "the process ends: " + err.Error(), nil
}
