package main

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hakmem/hakmem/proof/internal/repository"
)

func TestExecutions(t *testing.T) {
	for _, test := range []struct {
		out  string
		want int
	}{
		{"", 0},
		{"fuzz: elapsed: 0s, gathering baseline coverage: 3/640 completed\n", 0},
		{"fuzz: elapsed: 3s, execs: 77 (26/sec), new interesting: 0 (total: 4)\nfuzz: elapsed: 6s, execs: 1234 (400/sec), new interesting: 1 (total: 5)\nPASS\n", 1234},
	} {
		if n := executions([]byte(test.out)); n != test.want {
			t.Errorf("%q: %d executions, want %d", test.out, n, test.want)
		}
	}
}

func TestOnlyLate(t *testing.T) {
	for out, want := range map[string]bool{
		"--- FAIL: FuzzX (180.10s)\n    context deadline exceeded\nFAIL\n":                             true,
		"--- FAIL: FuzzX (1s)\n    Failing input written to testdata/x\n":                              false,
		"--- FAIL: FuzzX (1s)\n    context deadline exceeded\n    Failing input written to testdata/x": false,
		"panic: index out of range\n": false,
	} {
		if got := onlyLate([]byte(out)); got != want {
			t.Errorf("%q: %v", out, got)
		}
	}
}

// TestTargets checks that every target is found, and that a directory without one is an error.
func TestTargets(t *testing.T) {
	root, err := repository.Root()
	if err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]string{"proof": "FuzzAll", "bench/trace": "FuzzLoad"} {
		if names, err := targets(filepath.Join(root, dir)); err != nil || !slices.Contains(names, want) {
			t.Errorf("%s: %v, %v; want %s among them", dir, names, err, want)
		}
	}
	if names, err := targets(t.TempDir()); err == nil {
		t.Errorf("an empty directory has the targets %v", names)
	}
}

func TestBadFlags(t *testing.T) {
	for want, err := range map[string]error{
		"-run \"(\"":  fuzz(1, 1, "(", false),
		"-minutes 0":  fuzz(0, 1, "", false),
		"-parallel 0": fuzz(1, 0, "", false),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// TestRun checks that a target's core time and executions are counted, and that a target that
// cannot run is an error.
func TestRun(t *testing.T) {
	root, err := repository.Root()
	if err != nil {
		t.Fatal(err)
	}
	x := target{name: "FuzzReader", dir: filepath.Join(root, "bench", "trace")}
	if err := x.run(t.Context(), 2*time.Second, 1); err != nil || x.cores < 2*time.Second || x.programs == 0 || x.failures != 0 {
		t.Errorf("%+v, %v", x, err)
	}
	x = target{name: "FuzzNothing", dir: x.dir}
	if err := x.run(t.Context(), time.Nanosecond, 1); err == nil || x.failures != 0 {
		t.Errorf("a target that is not there: %+v, %v", x, err)
	}
}
