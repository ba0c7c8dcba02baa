package main

import (
	"os"
	"path/filepath"
	"strings"
)

// fastcache, of which only the tests are taken: they run in the package, so its source is replaced by that of
// the adapter.
var _ = register(program{
	name:    "fastcache",
	module:  "github.com/VictoriaMetrics/fastcache",
	version: "v1.13.2",
	tests:   []string{"."},
	prepare: fastcacheSource,
})

func fastcacheSource(dir string) error {
	if err := requireHakmem(dir); err != nil {
		return err
	}
	source, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return err
	}
	for _, file := range source {
		if !strings.HasSuffix(file, "_test.go") {
			if err := os.Remove(file); err != nil {
				return err
			}
		}
	}
	tree, err := root()
	if err != nil {
		return err
	}
	if source, err = filepath.Glob(filepath.Join(tree, "adapters", "fastcache", "*.go")); err != nil {
		return err
	}
	for _, file := range source {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if err := writeFile(dir, filepath.Base(file), string(text)); err != nil {
			return err
		}
	}
	return nil
}
