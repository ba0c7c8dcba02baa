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
