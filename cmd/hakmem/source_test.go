package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestBuildSelf checks that a build that fails says why, in one line. Builds that succeed are
// tested by proof/modules, which also have an installed program.
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
