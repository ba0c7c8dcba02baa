package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestBuildSelf: what cannot be built says why, in one line. What can is built by the tests of
// proof/modules, which also have an installed program.
func TestBuildSelf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hakmem")
	err := buildSelf(t.Context(), path, nil, "-compiler=none")
	if err == nil || !strings.Contains(err.Error(), `"none"`) || strings.Contains(err.Error(), "\n") {
		t.Errorf("an impossible build: %v", err)
	}
	t.Setenv("PATH", t.TempDir())
	if err := buildSelf(t.Context(), path, nil); err == nil || !strings.Contains(err.Error(), "needs the go command") {
		t.Errorf("without Go: %v", err)
	}
}
