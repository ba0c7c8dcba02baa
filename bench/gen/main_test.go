package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// TestUpToDate fails when a template was changed and the loops were not
// generated again.
func TestUpToDate(t *testing.T) {
	files, err := generate()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join("..", name))
		if err != nil {
			t.Fatal(err)
		}
		got = bytes.ReplaceAll(got, []byte("\r\n"), []byte("\n")) // a checkout on Windows
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not what gen writes; run go generate in bench", name)
		}
	}
	if found, _ := filepath.Glob("../loops_*_gen.go"); len(found) != len(files) {
		t.Errorf("%d generated files where gen writes %d: delete what is left over of %v", len(found), len(files), found)
	}
}
