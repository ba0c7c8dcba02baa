// Command gen writes ../loops_*_gen.go: for every allocator a copy of the loops in ../loops.go that
// calls the allocator directly.
//
// loops.go calls an observer, which calls any allocator through a func value. That costs about as
// much as the allocators under test, and so would a call through an interface or a generic
// dictionary; the methods of hakmem.Heap inline only into code that names the type. In a copy, the
// statements of one allocator stand in place of each call of the observer (families.go), and slots
// are of the type that suits it. The rest is loops.go's, with its comments.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// generate returns the text of each file, made from the package in dir.
func generate(dir string) (map[string][]byte, error) {
	s, err := readSource(dir)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for i := range families {
		f := &families[i]
		text, err := s.copyFor(f)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
		files["loops_"+strings.ToLower(f.name)+"_gen.go"] = text
	}
	return files, nil
}

func main() {
	const dir = "." // go generate runs it in the package's directory
	files, err := generate(dir)
	for name, text := range files {
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), text, 0o644)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}
