package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestMutants checks that every mutant still fits its file, so that the list follows the engine.
// Whether the mutants are caught takes half an hour to find out: go run ./proof/mutants.
func TestMutants(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, m := range mutants {
		if seen[m.name] || m.name == "" || m.why == "" {
			t.Errorf("mutant %q: twice, or without a name or a reason", m.name)
		}
		seen[m.name] = true
		text, err := m.apply(root)
		if err != nil {
			t.Errorf("%s: %v", m.name, err)
			continue
		}
		if was, _ := os.ReadFile(filepath.Join(root, m.file)); string(was) == string(text) {
			t.Errorf("%s changes nothing", m.name)
		}
	}
	if len(mutants) < 20 {
		t.Errorf("%d mutants, want at least 20", len(mutants))
	}
}

// TestTable checks that most mutants have a test in docs/testing.md that can be tried first, so that a
// change of the page's form is noticed.
func TestTable(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	tests, err := readTable(root)
	if err != nil {
		t.Fatal(err)
	}
	known := 0
	for _, m := range mutants {
		if o := tests[m.name]; o.test != "" {
			known++
		}
	}
	if known < len(mutants)*9/10 {
		t.Errorf("docs/testing.md has tests for %d of %d mutants, want nine tenths", known, len(mutants))
	}
	if o, want := tests["or-not-atomic"], (oneTest{"engine", "TestWordsAtOnce", "internal/engine"}); o != want {
		t.Errorf("or-not-atomic: %+v, want %+v", o, want)
	}
}
