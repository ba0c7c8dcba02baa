package main

import (
	"bytes"
	"os"
	"testing"
)

// TestUpToDate fails when the template was changed and the loops were not
// generated again.
func TestUpToDate(t *testing.T) {
	want, err := generate()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../loops_gen.go")
	if err != nil {
		t.Fatal(err)
	}
	got = bytes.ReplaceAll(got, []byte("\r\n"), []byte("\n")) // a checkout on Windows
	if !bytes.Equal(got, want) {
		t.Error("loops_gen.go is not what gen writes; run go generate in bench")
	}
}
