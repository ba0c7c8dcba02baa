// Command coverage makes docs/coverage.md: how much of hakmem's internal packages all tests of the
// core module cover, each function with statements that are not covered, and why they are not. It
// fails when the total is below the goal or a function has no reason.
//
//	go run ./.ci/coverage [-run REGEXP] [-profile FILE] [-o docs/coverage.md]
//
// The reasons are in reasons.txt in this directory, one a line: file, function (or * for the whole
// file), a number of statements, and the text. They belong to functions, not to lines, so that they
// stay right when lines move. The number is the largest number of statements of the function that
// the reason excuses.
package main

import (
	"bufio"
	"bytes"
	"cmp"
	_ "embed"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

//go:embed reasons.txt
var reasonsText string

const (
	module = "github.com/hakmem/hakmem/"
	goal   = 95.0 // percent of the statements of ./internal/...
)

func main() {
	profile := flag.String("profile", "", "use this profile instead of running the tests")
	run := flag.String("run", ".", "run these tests")
	out := flag.String("o", "docs/coverage.md", "write the page here")
	flag.Parse()
	if err := coverage(*profile, *run, *out); err != nil {
		fmt.Fprintln(os.Stderr, "coverage:", err)
		os.Exit(1)
	}
}

func coverage(profile, run, out string) error {
	var failed error // of the tests: the page is made of what they covered all the same
	if profile == "" {
		dir, err := os.MkdirTemp("", "coverage")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		profile = filepath.Join(dir, "profile")
		// -short runs every kind of test, with fewer repetitions. Packages run one at a time,
		// because some tests count what the machine does.
		failed = command("go", "test", "-short", "-p", "1", "-timeout", "30m", "-covermode=atomic", "-coverpkg=./internal/...", "-run", run, "./...", "-args", "-test.gocoverdir="+dir)
		if err := command("go", "tool", "covdata", "textfmt", "-i="+dir, "-o", profile); err != nil {
			return err
		}
	}
	blocks, err := readProfile(profile)
	if err != nil {
		return err
	}
	reasons, err := readReasons(reasonsText)
	if err != nil {
		return err
	}
	page, problems, err := report(blocks, reasons)
	if err != nil {
		return err
	}
	if err := os.WriteFile(out, page, 0o644); err != nil {
		return err
	}
	if failed != nil {
		problems = append(problems, failed.Error())
	}
	if len(problems) > 0 {
		return fmt.Errorf("%d problems:\n%s", len(problems), strings.Join(problems, "\n"))
	}
	return nil
}

func command(name string, args ...string) error {
	c := exec.Command(name, args...)
	c.Stdout, c.Stderr = os.Stderr, os.Stderr
	if err := c.Run(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// block is a sequence of statements in a file of this repository.
type block struct {
	file                         string
	line, column, end, endColumn int
	statements                   int
}

// readProfile returns all blocks, and for each whether any test ran it.
func readProfile(name string) (map[block]bool, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	blocks := map[block]bool{}
	s := bufio.NewScanner(f)
	for s.Scan() {
		if strings.HasPrefix(s.Text(), "mode:") {
			continue
		}
		// file.go:line.column,line.column statements count
		file, rest, _ := strings.Cut(s.Text(), ":")
		b := block{file: strings.TrimPrefix(file, module)}
		var count int
		if _, err := fmt.Sscanf(rest, "%d.%d,%d.%d %d %d", &b.line, &b.column, &b.end, &b.endColumn, &b.statements, &count); err != nil {
			return nil, fmt.Errorf("%s: line %q", name, s.Text())
		}
		blocks[b] = blocks[b] || count > 0
	}
	return blocks, s.Err()
}

type reason struct {
	statements int
	text       string
	used       int
}

// readReasons reads lines "file function statements text", by "file function".
func readReasons(text string) (map[string]*reason, error) {
	reasons := map[string]*reason{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		f := strings.SplitN(line, " ", 4)
		if len(f) < 4 {
			return nil, fmt.Errorf("reasons.txt: %q", line)
		}
		n, err := strconv.Atoi(f[2])
		key := f[0] + " " + f[1]
		if err != nil || reasons[key] != nil {
			return nil, fmt.Errorf("reasons.txt: %q: no number, or the function a second time", line)
		}
		reasons[key] = &reason{statements: n, text: f[3]}
	}
	return reasons, nil
}

// functionAt returns the name of the function that holds line.
func functionAt(f *ast.File, set *token.FileSet, line int) string {
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || line < set.Position(fn.Pos()).Line || line > set.Position(fn.End()).Line {
			continue
		}
		if fn.Recv == nil {
			return fn.Name.Name
		}
		t := fn.Recv.List[0].Type
		if star, ok := t.(*ast.StarExpr); ok {
			t = star.X
		}
		if id, ok := t.(*ast.Ident); ok {
			return id.Name + "." + fn.Name.Name
		}
	}
	return "-"
}

func report(blocks map[block]bool, reasons map[string]*reason) (page []byte, problems []string, err error) {
	type sum struct{ all, covered int }
	packages := map[string]*sum{}
	total := sum{}
	var missed []block
	for b, ok := range blocks {
		dir := path.Dir(b.file)
		switch {
		case path.Dir(dir) == "internal/golden": // programs to be disassembled
			continue
		case dir == "internal/testkit/workout": // of tests: much of it runs only when it finds something
			continue
		}
		if packages[dir] == nil {
			packages[dir] = &sum{}
		}
		for _, s := range []*sum{packages[dir], &total} {
			s.all += b.statements
			if ok {
				s.covered += b.statements
			}
		}
		if !ok {
			missed = append(missed, b)
		}
	}
	slices.SortFunc(missed, func(a, b block) int {
		return cmp.Or(cmp.Compare(a.file, b.file), cmp.Compare(a.line, b.line), cmp.Compare(a.column, b.column))
	})

	var w bytes.Buffer
	percent := func(s sum) float64 { return 100 * float64(s.covered) / float64(max(s.all, 1)) }
	fmt.Fprintf(&w, "# Coverage\n\nMade by `go run ./.ci/coverage`, with %s on %s/%s: all tests of the core module in `-short` mode,\nand the processes that they start. Counted are the statements of `./internal/...`; the goal is %.0f %%.\nStatements that are reached only when two goroutines meet at the right moment differ from run to run.\n\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, goal)
	fmt.Fprintf(&w, "| package | statements | covered |\n|---|---|---|\n")
	for _, dir := range slices.Sorted(maps.Keys(packages)) {
		fmt.Fprintf(&w, "| %s | %d | %.1f %% |\n", dir, packages[dir].all, percent(*packages[dir]))
	}
	fmt.Fprintf(&w, "| all | %d | **%.1f %%** |\n\n", total.all, percent(total))
	if percent(total) < goal {
		problems = append(problems, fmt.Sprintf("%.1f %% of the statements are covered, the goal is %.0f %%", percent(total), goal))
	}
	fmt.Fprintf(&w, "## What is not covered, and why\n\nBy file and function, as in `.ci/coverage/reasons.txt`. A number in parentheses is the number of statements\nthat this part of the reason excuses.\n\n| file | function | statements | why |\n|---|---|---|---|\n")
	parsed := map[string]*ast.File{}
	set := token.NewFileSet()
	type row struct {
		file, function, why string
		statements          int
	}
	var rows []row
	for _, b := range missed {
		f := parsed[b.file]
		if f == nil {
			if f, err = parser.ParseFile(set, b.file, nil, 0); err != nil {
				return nil, nil, err
			}
			parsed[b.file] = f
		}
		name := functionAt(f, set, b.line)
		why := "**none**"
		r := reasons[b.file+" *"]
		if r != nil {
			name = "-"
		} else {
			r = reasons[b.file+" "+name]
		}
		if r != nil {
			why = r.text
			if r.used += b.statements; r.used > r.statements {
				problems = append(problems, fmt.Sprintf("%s:%d: %s: %d statements are not covered, and the reason is for %d", b.file, b.line, name, r.used, r.statements))
			}
		} else {
			problems = append(problems, fmt.Sprintf("%s:%d-%d: %s: %d statements are not covered: test them, or give a reason", b.file, b.line, b.end, name, b.statements))
		}
		// The blocks of a file are in the order of their lines, so those of a function follow each
		// other.
		if last := len(rows) - 1; last >= 0 && rows[last].file == b.file && rows[last].function == name {
			rows[last].statements += b.statements
			continue
		}
		rows = append(rows, row{b.file, name, why, b.statements})
	}
	for _, r := range rows {
		fmt.Fprintf(&w, "| %s | %s | %d | %s |\n", strings.TrimPrefix(r.file, "internal/"), r.function, r.statements, r.why)
	}
	return w.Bytes(), problems, nil
}
