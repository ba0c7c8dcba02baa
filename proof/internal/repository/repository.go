// Package repository finds the source tree on which the commands of proof work.
package repository

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Root returns the directory of the repository, which contains go.work.
func Root() (string, error) {
	out, err := exec.Command("go", "env", "GOWORK").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOWORK: %w", err)
	}
	file := strings.TrimSpace(string(out))
	if file == "" || file == "off" {
		return "", errors.New("no go.work here: run it inside the repository, without GOWORK=off")
	}
	return filepath.Dir(file), nil
}

// Files lists the regular files below root that would be in a commit, with slashes. What git
// ignores is not in a release, and so must not be needed. Where git cannot tell, Files lists all
// files and byGit is false.
func Files(root string) (files []string, byGit bool, err error) {
	add := func(file string) {
		// A deleted file can still be in the index, and a link is left out of a module.
		if info, err := os.Lstat(filepath.Join(root, filepath.FromSlash(file))); err == nil && info.Mode().IsRegular() {
			files = append(files, file)
		}
	}
	out, err := exec.Command("git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	if err == nil {
		for file := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
			add(file)
		}
		return files, true, nil
	}
	err = filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && d.Name() == ".git" {
			return fs.SkipDir
		}
		rel, err := filepath.Rel(root, file)
		add(filepath.ToSlash(rel))
		return err
	})
	return files, false, err
}
