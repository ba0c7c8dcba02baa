package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// ours is the path of hakmem's module, and in front of the paths of its other modules.
const ours = "github.com/hakmem/hakmem"

// inPlaceOf says which module of the tree stands for which in the build that records. Those of hakmem stand
// for themselves, because the versions that they require of each other need not be released yet.
var inPlaceOf = map[string]string{
	ours:                     ours,
	ours + "/adapters/arrow": ours + "/adapters/arrow",
	ours + "/bench":          ours + "/bench",
	// Package trace does not use it, but bench requires it.
	ours + "/bench/cgomalloc": ours + "/bench/cgomalloc",
	"modernc.org/memory":      ours + "/adapters/moderncmemory",
}

// directories returns the directories of this module and of those that inPlaceOf names.
func directories() (map[string]string, error) {
	args := []string{"list", "-m", "-f", "{{.Path}}\t{{.Dir}}", ours + "/bench/programs"}
	for _, path := range inPlaceOf {
		args = append(args, path)
	}
	out, err := goOutput("", []string{"GOFLAGS="}, args...)
	if err != nil {
		return nil, fmt.Errorf("the working directory is not in a tree of hakmem; run the command there: %w", err)
	}
	dirs := map[string]string{}
	for line := range strings.Lines(string(out)) {
		path, dir, _ := strings.Cut(strings.TrimSpace(line), "\t")
		dirs[path] = dir
	}
	return dirs, nil
}

// build builds this command in temp with the replacements of inPlaceOf, and returns the path of the result. The
// replacements are in a copy of this module's go.mod, because no go.mod of the tree may have any: with them it
// could not be installed.
func build(dirs map[string]string, temp string) (string, error) {
	own := dirs[ours+"/bench/programs"]
	for _, name := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(filepath.Join(own, name))
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(temp, name), text, 0o644); err != nil {
			return "", err
		}
	}
	mod := filepath.Join(temp, "go.mod")
	edit := []string{"mod", "edit"}
	for path, by := range inPlaceOf {
		edit = append(edit, "-replace", path+"="+dirs[by])
	}
	if _, err := goOutput(own, nil, append(edit, mod)...); err != nil {
		return "", err
	}
	built := filepath.Join(temp, "programs")
	_, err := goOutput(own, []string{"GOWORK=off", "GOFLAGS=-mod=mod"}, "build", "-modfile", mod, "-o", built, ".")
	return built, err
}

// goOutput runs a go command in dir, with more in its environment, and returns what it prints.
func goOutput(dir string, more []string, args ...string) ([]byte, error) {
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), more...)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go %q: %w\n%s", args, err, complaint.Bytes())
	}
	return out, nil
}

// runChild runs a program in a process of its own and returns its recording.
func runChild(built, name string, stderr io.Writer) ([]byte, error) {
	cmd := exec.Command(built, "-child", name)
	// No setting of hakmem may change what is recorded. And modernc.org/libc copies the environment and the command
	// line into its memory: so they are the same everywhere.
	cmd.Args[0] = "programs"
	cmd.Env = []string{"LANG=C"}
	cmd.Stderr = stderr
	return cmd.Output()
}
