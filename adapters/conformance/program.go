package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
)

// program is one program that others wrote, and how it is put on hakmem. Each has a file of its own.
type program struct {
	name            string   // what the command line and the table call it
	module, version string   // what is fetched
	tests           []string // the packages whose tests run, relative to the module: ".", "./compute/..."

	// prepare swaps the seam in a copy of the module at dir, so that the program gets its memory from
	// hakmem. replaceModule, requireHakmem, writeFile and edit help it.
	prepare func(dir string) error

	env   []string // added to the environment of every run, with hakmem and without: "NAME=value"; GOFLAGS needs -mod=mod
	short string   // the pattern of go test's -run for -short; empty: all tests
	skip  []reason // patterns of tests that do not run, as go test's -skip has them
	slow  []reason // packages as in tests, whose tests -short leaves out
	known []reason // tests that fail with hakmem through a fault of their own, as testName.String names them; "…/..." means a test with its subtests

	raceSlow []reason // patterns as in skip, of tests that -short leaves out with -race only
}

// reason says why something is so.
type reason struct{ what, why string }

// programs is every program there is. Package-level declarations add to it: var _ = register(…).
var programs []program

// register adds a program to programs.
func register(p program) bool {
	programs = append(programs, p)
	return true
}

// chosen returns the programs with the given names, in the order of their registration; all of them
// when no name is given.
func chosen(names []string) ([]program, error) {
	var known []string
	var found []program
	for _, p := range programs {
		known = append(known, p.name)
		if len(names) == 0 || slices.Contains(names, p.name) {
			found = append(found, p)
		}
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("no program %q: use one of %q", name, known)
		}
	}
	return found, nil
}

// ours is the path of hakmem's module, and in front of the paths of its other modules.
const ours = "github.com/hakmem/hakmem"

// root finds the tree of hakmem around the working directory.
func root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && bytes.HasPrefix(text, []byte("module "+ours+"\n")) {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("the working directory is not in a tree of hakmem: run the command there")
		}
		dir = parent
	}
}

// replaceModule makes the module at dir use another module of hakmem's tree in place of the module path:
// replaceModule(dir, "modernc.org/memory", "adapters/moderncmemory"). An empty sub is hakmem itself.
func replaceModule(dir, path, sub string) error {
	tree, err := root()
	if err != nil {
		return err
	}
	return goCommand(dir, "mod", "edit", "-replace", path+"="+filepath.Join(tree, filepath.FromSlash(sub)))
}

// requireHakmem makes the module at dir require hakmem and the given modules of its tree, as they are
// in the tree: requireHakmem(dir, "adapters/sqlite").
func requireHakmem(dir string, subs ...string) error {
	for _, sub := range append(subs, "") {
		path := ours
		if sub != "" {
			path += "/" + sub
		}
		// The replacement has no version, so any version will do here.
		if err := goCommand(dir, "mod", "edit", "-require", path+"@v0.0.0"); err != nil {
			return err
		}
		if err := replaceModule(dir, path, sub); err != nil {
			return err
		}
	}
	return nil
}

// writeFile adds a file to the module at dir.
func writeFile(dir, name, text string) error {
	file := filepath.Join(dir, filepath.FromSlash(name))
	if _, err := os.Stat(file); err == nil {
		return fmt.Errorf("%s is there already: give the added file another name", file)
	}
	return os.WriteFile(file, []byte(text), 0o644)
}

// edit replaces a text that a file of the module at dir has exactly once.
func edit(dir, name, before, after string) error {
	file := filepath.Join(dir, filepath.FromSlash(name))
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if n := bytes.Count(text, []byte(before)); n != 1 {
		return fmt.Errorf("%s has %q %d times, want once: the module has changed, so the seam must be looked at again", file, before, n)
	}
	return os.WriteFile(file, bytes.Replace(text, []byte(before), []byte(after), 1), 0o644)
}

// goCommand runs a go command in dir.
func goCommand(dir string, args ...string) error {
	_, err := goOutput(dir, nil, args...)
	return err
}

// goOutput runs a go command in dir, with more in its environment, and returns what it prints.
func goOutput(dir string, more []string, args ...string) ([]byte, error) {
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	cmd.Env = environment(more)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go %q in %s: %w\n%s", args, dir, err, complaint.Bytes())
	}
	return out, nil
}
