package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Pebble is a store of keys and values. Its block cache and its tables in memory get their memory from a package of
// its own, for which adapters/pebble has a patch.

var _ = register(program{
	name:    "pebble",
	module:  "github.com/cockroachdb/pebble/v2",
	version: "v2.1.7",
	tests:   []string{"./internal/manual", "./internal/cache"},
	prepare: pebbleManual,
	env:     []string{"GOFLAGS=-mod=mod -tags=hakmem"},
})

func pebbleManual(dir string) error {
	if err := requireHakmem(dir); err != nil {
		return err
	}
	patch, err := pebblePatch()
	if err != nil {
		return err
	}
	return applyPatch(dir, patch)
}

// pebblePatch returns the name of the patch.
func pebblePatch() (string, error) {
	tree, err := root()
	return filepath.Join(tree, "adapters", "pebble", "pebble-v2.1.7.patch"), err
}

// applyPatch changes the module at dir as a patch says, by git apply.
func applyPatch(dir, patch string) error {
	cmd := exec.Command("git", "apply", "-p1", patch)
	cmd.Dir = dir
	// In a repository around dir, git would look for the files at its root.
	cmd.Env = append(os.Environ(), "GIT_CEILING_DIRECTORIES="+filepath.Dir(dir))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("git apply %s in %s: %w\n%s", patch, dir, err, out)
	}
	return nil
}
