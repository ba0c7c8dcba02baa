package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/hakmem/hakmem/bench"
)

// sameDriver reports whether the C driver's source in dir belongs to this version of the program's
// loops.
func sameDriver(dir string) bool {
	for _, name := range bench.DriverFiles {
		ours, err := bench.Native.ReadFile("native/" + name)
		theirs, err2 := os.ReadFile(filepath.Join(dir, name))
		if err != nil || err2 != nil || !bytes.Equal(ours, theirs) {
			return false
		}
	}
	return true
}

// buildDriver returns the path of the C driver, and builds the driver if it is missing or older
// than its source. It is built in the source tree if that has the same source, and otherwise in the
// user's cache directory, from the copy inside this program.
func buildDriver(ctx context.Context) (string, error) {
	if err := onLinux(); err != nil {
		return "", err
	}
	if tree := sourceTree(); tree != "" {
		native := filepath.Join(tree, "bench", "native")
		if sameDriver(native) {
			path, err := makeDriver(ctx, native, filepath.Join(native, "build"))
			if err == nil {
				return path, nil
			} // a tree that is read-only is no obstacle
		}
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	// The name of the directory distinguishes versions of the driver.
	files := map[string][]byte{}
	sum := sha256.New()
	for _, name := range bench.DriverFiles {
		text, err := bench.Native.ReadFile("native/" + name)
		if err != nil {
			return "", err
		}
		files[name] = text
		sum.Write(text)
	}
	dir := filepath.Join(cache, "hakmem", fmt.Sprintf("driver-%x", sum.Sum(nil)[:8]))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("cannot build the C driver: %w", err)
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, text) {
			continue // an unchanged file keeps its time, and so the driver built from it is not older
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			return "", fmt.Errorf("cannot build the C driver: %w", err)
		}
	}
	return makeDriver(ctx, dir, dir)
}

// makeDriver brings the driver in directory out up to date with source.
func makeDriver(ctx context.Context, source, out string) (string, error) {
	path := filepath.Join(out, "driver")
	if built, err := os.Stat(path); err == nil {
		fresh := true
		for _, name := range bench.DriverFiles {
			f, err := os.Stat(filepath.Join(source, name))
			fresh = fresh && err == nil && built.ModTime().After(f.ModTime())
		}
		if fresh {
			return path, nil
		}
	}
	text, err := exec.CommandContext(ctx, "sh", filepath.Join(source, "setup.sh"), "--build", out).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("cannot build the C driver: %w: %s", err, firstLine(string(text)))
	}
	return path, nil
}

// buildCgo builds this program with the allocator that calls C's malloc through cgo.
func buildCgo(ctx context.Context) (string, error) {
	if _, err := exec.LookPath("gcc"); err != nil && os.Getenv("CC") == "" {
		return "", errors.New("no gcc here, which cgo needs")
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = os.TempDir()
	}
	path := filepath.Join(dir, "hakmem", fmt.Sprintf("cgo-%d", os.Getpid()))
	if err := buildSelf(ctx, path, []string{"CGO_ENABLED=1"}, "-tags", "hakmem_cgo"); err != nil {
		return "", fmt.Errorf("it does not build: %w", err)
	}
	return path, nil
}
