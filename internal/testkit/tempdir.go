package testkit

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TempDir is t.TempDir with files that Wine can remove, too: t.TempDir fails the test where the
// system has no removal with the semantics of POSIX, which Wine 8 has not.
func TempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hakmem")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		var paths []string
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			paths = append(paths, path)
			return err
		})
		for _, path := range slices.Backward(paths) { // a directory after what is in it
			if e := os.Remove(path); err == nil {
				err = e
			}
		}
		if err != nil {
			t.Errorf("removal of a temporary directory: %v", err)
		}
	})
	return dir
}
