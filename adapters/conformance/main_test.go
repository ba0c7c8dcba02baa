package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// toy is a module whose tests end in every way, some of them only with hakmem.
var toy = map[string]string{
	"go.mod":       "module example.com/toy\n\ngo 1.26.0\n",
	"toy.go":       "package toy\n\n// Alloc is the seam.\nfunc Alloc(n int) []byte { return make([]byte, n) }\n",
	"race_test.go": "//go:build race\n\npackage toy\n\nimport \"testing\"\n\nfunc TestRaced(t *testing.T) {}\n",
	"toy_test.go": `package toy

import (
	"os"
	"testing"
)

func TestPasses(t *testing.T) { t.Run("inside", func(t *testing.T) { Alloc(1)[0] = 1 }) }
func TestSkips(t *testing.T)  { t.Skip() }
func TestFails(t *testing.T)  { t.Error("always") }
func TestEnds(t *testing.T)   { os.Exit(1) }
func TestHardened(t *testing.T) {
	if os.Getenv("HAKMEM_HARDEN") != "" {
		t.Error("hardened")
	}
}
func TestOnce(t *testing.T) {
	if cap(Alloc(100)) == 112 {
		if _, err := os.Stat("second"); err != nil {
			os.WriteFile("second", nil, 0o666)
			t.Error("the first time")
		}
	}
}
func TestZero(t *testing.T) {
	if os.Getenv("TOY") != "1" {
		t.Error("the program's environment is not there")
	}
	if cap(Alloc(100)) != 100 {
		panic("the block is larger")
	}
}
`,
}

// makeToy writes the module as the module cache would have it.
func makeToy(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, text := range toy {
		if err := writeFile(dir, name, text); err != nil {
			t.Fatal(err)
		}
	}
	tree, err := root()
	if err != nil {
		t.Fatal(err)
	}
	sums, err := os.ReadFile(filepath.Join(tree, "go.sum")) // of what hakmem requires
	if err != nil {
		t.Fatal(err)
	}
	if err := writeFile(dir, "go.sum", string(sums)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// swapToy makes the toy's blocks blocks of hakmem, with all the bytes that they have.
func swapToy(dir string) error {
	if err := requireHakmem(dir); err != nil {
		return err
	}
	return edit(dir, "toy.go", "// Alloc is the seam.\nfunc Alloc(n int) []byte { return make([]byte, n) }", `import (
	"unsafe"

	"github.com/hakmem/hakmem"
)

func Alloc(n int) []byte {
	p := hakmem.Malloc(uintptr(n))
	return unsafe.Slice((*byte)(p), hakmem.UsableSize(p))[:n]
}`)
}

// TestCompare runs the toy's tests without hakmem and with it, in every mode.
func TestCompare(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped with -short: it compiles and runs a module's tests five times")
	}
	from := makeToy(t)
	p := program{
		name: "toy", module: "example.com/toy", version: "v1.0.0", tests: []string{"."}, env: []string{"TOY=1"}, skip: []reason{{"^TestEnds$", "it ends its process"}},
		prepare: swapToy,
	}
	fresh := func() *settings {
		return &settings{
			timeout: "5m", temp: t.TempDir(), now: time.Now, words: io.Discard,
			fetch: func(string, string) (string, error) { return from, nil },
		}
	}
	// Where a seam is not swapped nothing is compared. The rows before that are kept.
	still := p
	still.name, still.prepare = "still", requireNothing
	t.Setenv("HAKMEM_HARDEN", "1") // not of the runs' concern
	s := fresh()
	rows, err := s.compareAll([]program{p, still})
	if err == nil || !strings.Contains(err.Error(), "still: ") || !strings.Contains(err.Error(), "the seam is not swapped") {
		t.Errorf("a prepare that does nothing: %v", err)
	}
	if err := s.setAside(); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"toy-without", "toy-with", "still-with"} {
		if _, err := os.Stat(filepath.Join(s.temp, name, "toy.go")); err != nil {
			t.Errorf("the copy %s is not kept: %v", name, err)
		}
	}
	without := outcome{passed: 5, skipped: 1, failed: names("TestFails")}
	for i, with := range []outcome{
		// TestZero panics where a block has its whole class, and so no later test runs; it is the last.
		{passed: 3, skipped: 1, failed: names("TestFails", "TestOnce", "TestZero")},
		{passed: 4, skipped: 1, failed: names("TestFails", "TestHardened")},
		{passed: 4, skipped: 1, failed: names("TestFails", "TestZero")},
	} {
		if i >= len(rows) {
			t.Fatalf("there are %d rows", len(rows))
		}
		r := rows[i]
		if r.mode != modes[i].name || !same(r.without, without) || !same(r.with, with) {
			t.Errorf("row %d of %s: without hakmem %+v, want %+v; with it %+v, want %+v", i, r.mode, r.without, without, r.with, with)
		}
	}
	for i, worse := range [][]testName{names("TestZero"), names("TestHardened"), names("TestZero")} {
		if got := rows[i].worse(); !slices.Equal(got, worse) {
			t.Errorf("row %d: worse than without are %v, want %v", i, got, worse)
		}
	}
	// With the race detector there is one run with hakmem, and the detector is in both.
	if why := withoutRace(t); why != "" {
		t.Log("not tried with the race detector: ", why)
	} else {
		s := fresh()
		s.race, s.short = true, true
		p.raceSlow = []reason{{"^TestPasses$", "it has a subtest"}}
		without.passed-- // TestRaced comes, TestPasses and its subtest are left out
		with := outcome{passed: 2, skipped: 1, failed: names("TestFails", "TestOnce", "TestZero")}
		rows, err := s.compare(p, map[string]outcome{})
		if err != nil {
			t.Fatal(err)
		}
		if len(rows) != 1 || rows[0].mode != "-race" || !same(rows[0].without, without) || !same(rows[0].with, with) {
			t.Errorf("with the race detector: %+v, want without hakmem %+v, with it %+v", rows, without, with)
		}
	}
}

// withoutRace says why no program can be built with the race detector here, if that is so.
func withoutRace(t *testing.T) string {
	t.Helper()
	out, err := goOutput(t.TempDir(), nil, "env", "CGO_ENABLED", "CC")
	if err != nil {
		t.Fatal(err)
	}
	cgo, compiler, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if cgo != "1" {
		return "cgo is off"
	}
	if _, err := exec.LookPath(strings.Fields(compiler)[0]); err != nil {
		return err.Error()
	}
	return ""
}

func requireNothing(string) error { return nil }

func names(tests ...string) (n []testName) {
	for _, test := range tests {
		n = append(n, testName{"example.com/toy", test})
	}
	return n
}

func same(a, b outcome) bool {
	return a.passed == b.passed && a.skipped == b.skipped && slices.Equal(a.failed, b.failed)
}

func TestReadEvents(t *testing.T) {
	for _, c := range []struct {
		name, events string
		want         outcome
	}{
		{"nothing", "", outcome{}},
		{"go's own words", "go: downloading x\n{\"Action\":\"pass\",\"Package\":\"p\",\"Test\":\"A\"}\n", outcome{passed: 1}},
		{"a package fails with its test", `
{"Action":"run","Package":"p","Test":"A"}
{"Action":"fail","Package":"p","Test":"A"}
{"Action":"fail","Package":"p"}
`, outcome{failed: []testName{{"p", "A"}}}},
		{"a package fails as a whole", `
{"Action":"run","Package":"p","Test":"A"}
{"Action":"pass","Package":"p","Test":"A"}
{"Action":"fail","Package":"p"}
`, outcome{passed: 1, failed: []testName{{"p", ""}}}},
		{"a test that ran when the process ended", `
{"Action":"run","Package":"p","Test":"A"}
{"Action":"run","Package":"p","Test":"B"}
{"Action":"skip","Package":"p","Test":"B"}
{"Action":"output","Package":"p","Test":"A","Output":"panic"}
{"Action":"fail","Package":"p"}
`, outcome{skipped: 1, failed: []testName{{"p", "A"}}}},
		{"no compilation", `{"Action":"build-fail","ImportPath":"p [p.test]"}
{"Action":"fail","Package":"q"}
`, outcome{failed: []testName{{"p [p.test]", ""}, {"q", ""}}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := readEvents(strings.NewReader(c.events))
			if err != nil || !same(got, c.want) {
				t.Errorf("%+v, %v, want %+v", got, err, c.want)
			}
		})
	}
	if _, err := readEvents(strings.NewReader("{\"Action\":")); err == nil {
		t.Error("half an event is no error")
	}
}

func TestTable(t *testing.T) {
	p := program{name: "toy", module: "example.com/toy", version: "v1.0.0"}
	var b bytes.Buffer
	day := time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)
	good := row{program: p, mode: "plain", without: outcome{passed: 5, failed: names("A"), skipped: 1}, with: outcome{passed: 5, failed: names("C"), skipped: 1}, passedAgain: names("C")}
	bad := row{program: p, mode: "HAKMEM_HARDEN=1", without: outcome{passed: 6}, with: outcome{passed: 5, failed: names("B")}}
	if !printTable(&b, []row{good}, day) {
		t.Error("a test that fails only without hakmem is held against it")
	}
	b.Reset()
	excused := bad
	excused.program.known = []reason{{"example.com/toy.B", "it reads what it has freed"}, {"example.com/toy.B/b/...", "the same"}}
	excused.with.failed = names("B", "B/b", "B/b/c")
	excused.leftOut = []reason{{"./slow/...", "an hour"}}
	if !printTable(&b, []row{excused, excused}, day) {
		t.Error("a test that is known to be at fault is held against hakmem")
	}
	for _, want := range []string{
		"| toy | example.com/toy v1.0.0 | HAKMEM_HARDEN=1 | 6 / 0 / 0 | 5 / 3 / 0 | 3 | 0 |\n",
		"* toy, HAKMEM_HARDEN=1: 1 of those that fail only with hakmem do so through a fault of their own: example.com/toy.B: it reads what it has freed\n",
		"* toy, HAKMEM_HARDEN=1: 2 of those that fail only with hakmem do so through a fault of their own: example.com/toy.B/b/...: the same\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, b.String())
		}
	}
	if n := strings.Count(b.String(), "* toy: left out: ./slow/...: an hour\n"); n != 1 {
		t.Errorf("what was left out is named %d times:\n%s", n, b.String())
	}
	for _, other := range []string{"B/bb", "B/a", "BB"} {
		excused.with.failed = names(other)
		if printTable(&b, []row{excused}, day) {
			t.Errorf("%s is excused by %v", other, excused.program.known)
		}
	}
	b.Reset()
	b.Reset()
	if printTable(&b, []row{good, bad}, day) {
		t.Error("a test that fails only with hakmem is not")
	}
	for _, want := range []string{
		"2026-11-30, go",
		"| toy | example.com/toy v1.0.0 | plain | 5 / 1 / 1 | 5 / 1 / 1 | 0 | 1 |\n",
		"| toy | example.com/toy v1.0.0 | HAKMEM_HARDEN=1 | 6 / 0 / 0 | 5 / 1 / 0 | 1 | 0 |\n",
		"* toy, plain: fails only without hakmem: example.com/toy.A\n",
		"* toy, plain: failed with hakmem, and passed when it ran once more: example.com/toy.C\n",
		"* toy, HAKMEM_HARDEN=1: fails only with hakmem: example.com/toy.B\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, b.String())
		}
	}
}

func TestPattern(t *testing.T) {
	for want, tests := range map[string][]testName{
		"^(A|B)$": names("B/a", "A", "B/b", "B"),
		"":        {{"example.com/toy", "A"}, {"example.com/toy", ""}},
	} {
		if got := pattern(tests); got != want {
			t.Errorf("the pattern of %v is %q, want %q", tests, got, want)
		}
	}
}

// TestPrograms: every entry is whole, and the command line finds it.
func TestPrograms(t *testing.T) {
	all, err := chosen(nil)
	if err != nil || len(all) != len(programs) {
		t.Fatalf("%d of %d programs, %v", len(all), len(programs), err)
	}
	seen := map[string]bool{}
	for _, p := range all {
		if p.name == "" || p.module == "" || !strings.HasPrefix(p.version, "v") || len(p.tests) == 0 || p.prepare == nil || seen[p.name] {
			t.Errorf("entry %+v lacks something, or another has its name", p)
		}
		seen[p.name] = true
	}
	if _, err := chosen([]string{"nothing"}); err == nil || !strings.Contains(err.Error(), "sqlite-memory") {
		t.Errorf("an unknown name: %v", err)
	}
}

// TestLeaveOut: the tests of named packages do not run, and a name without packages is an error.
func TestLeaveOut(t *testing.T) {
	dir := makeToy(t)
	for _, name := range []string{"slow", "slow/deep", "quick"} {
		if err := os.Mkdir(filepath.Join(dir, filepath.FromSlash(name)), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := writeFile(dir, name+"/p.go", "package p\n"); err != nil {
			t.Fatal(err)
		}
	}
	s := suite{dir: dir, tests: []string{"./..."}}
	if err := s.leaveOut(nil); err != nil || !slices.Equal(s.tests, []string{"./..."}) {
		t.Errorf("without names: %q, %v", s.tests, err)
	}
	if err := s.leaveOut([]reason{{"./slow/...", "an hour"}}); err != nil || !slices.Equal(s.tests, []string{"example.com/toy", "example.com/toy/quick"}) {
		t.Errorf("%q, %v", s.tests, err)
	}
	for what, want := range map[string]string{"./gone/...": "./gone/...", "./...": "nothing remains"} {
		if err := s.leaveOut([]reason{{what, ""}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("without %s: %v", what, err)
		}
	}
}

// TestEdit: a module that has changed is not edited at another place, and no file of it is overwritten.
func TestEdit(t *testing.T) {
	dir := t.TempDir()
	if err := writeFile(dir, "a.go", "one two two"); err != nil {
		t.Fatal(err)
	}
	for _, before := range []string{"two", "three"} {
		if err := edit(dir, "a.go", before, "x"); err == nil || !strings.Contains(err.Error(), before) {
			t.Errorf("edit of %q: %v", before, err)
		}
	}
	if err := edit(dir, "a.go", "one", "1"); err != nil {
		t.Error(err)
	}
	if err := writeFile(dir, "a.go", "x"); err == nil {
		t.Error("a file was overwritten")
	}
	if text, err := os.ReadFile(filepath.Join(dir, "a.go")); err != nil || string(text) != "1 two two" {
		t.Errorf("the file is %q, %v", text, err)
	}
}

// TestPatch: the patch for Pebble fits the version that its entry names.
func TestPatch(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped with -short: it may download a module")
	}
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("skipped: git is not there, which applies the patch")
	}
	all, err := chosen([]string{"pebble"})
	if err != nil {
		t.Fatal(err)
	}
	from, err := fetch(all[0].module, all[0].version)
	if err != nil {
		t.Skip("skipped: the module can neither be found in the module cache nor be downloaded: ", err)
	}
	patch, err := pebblePatch()
	if err != nil {
		t.Fatal(err)
	}
	// In a copy of the files that it changes, which are in two directories.
	dir := t.TempDir()
	for _, sub := range []string{"internal/manual", "internal/buildtags"} {
		if err := os.CopyFS(filepath.Join(dir, sub), os.DirFS(filepath.Join(from, sub))); err != nil {
			t.Fatal(err)
		}
	}
	if err := applyPatch(dir, patch); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "internal/manual/manual_hakmem.go")); err != nil || !bytes.Contains(text, []byte(ours)) {
		t.Errorf("the file that takes hakmem's memory is not there: %v", err)
	}
	if err := applyPatch(dir, patch); err == nil || !strings.Contains(err.Error(), "manual_hakmem.go") {
		t.Errorf("the patch a second time: %v", err)
	}
}
