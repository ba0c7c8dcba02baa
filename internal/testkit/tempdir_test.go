package testkit

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestTempDir: the directory is there during the test, and afterwards nothing of it.
func TestTempDir(t *testing.T) {
	var dirs []string
	t.Run("uses two", func(t *testing.T) {
		dirs = []string{TempDir(t), TempDir(t)}
		if err := os.MkdirAll(filepath.Join(dirs[0], "a", "b"), 0o700); err != nil {
			t.Fatal(err)
		}
		for _, file := range []string{"f", "a/f", "a/b/f", "a/b/g"} {
			if err := os.WriteFile(filepath.Join(dirs[0], filepath.FromSlash(file)), []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	})
	if len(dirs) != 2 || dirs[0] == dirs[1] {
		t.Fatalf("directories %q", dirs)
	}
	for _, dir := range dirs {
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s afterwards: %v", dir, err)
		}
	}
}
