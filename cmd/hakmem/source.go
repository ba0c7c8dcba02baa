package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
)

// commandModule is the path of this program's package, which is also that of its module.
const commandModule = "github.com/hakmem/hakmem/cmd/hakmem"

// sourceTree returns the root of hakmem's source tree: the tree around the working directory, or
// else the one from which this program was built. It returns "" if there is none.
func sourceTree() string {
	var starts []string
	if dir, err := os.Getwd(); err == nil {
		starts = append(starts, dir)
	}
	if _, file, _, ok := runtime.Caller(0); ok && filepath.IsAbs(file) {
		starts = append(starts, filepath.Dir(file))
	}
	for _, dir := range starts {
		for {
			mod, err := os.ReadFile(filepath.Join(dir, "cmd", "hakmem", "go.mod"))
			if err == nil && bytes.Contains(mod, []byte("module "+commandModule)) {
				return dir
			}
			parent := filepath.Dir(dir)
			if parent == dir {
				break
			}
			dir = parent
		}
	}
	return ""
}

// installedFrom returns this program as an argument of `go install`, module@version, if it was
// built from that version of the module. It returns "" if the program was built from a source tree.
func installedFrom() string {
	info, ok := debug.ReadBuildInfo()
	// Only a module from the module cache has a sum. A build in a clone has a version as well, but
	// one that nobody can fetch.
	if !ok || info.Main.Path != commandModule || info.Main.Sum == "" {
		return ""
	}
	return commandModule + "@" + info.Main.Version
}

// buildSelf builds this program with the given flags and additions to the environment, and writes
// it to path. The source of an installed program is the module version from which it was installed.
// So what is measured is this program, whatever source tree surrounds the working directory.
func buildSelf(ctx context.Context, path string, env []string, flags ...string) error {
	if _, err := exec.LookPath("go"); err != nil {
		return fmt.Errorf("this is built from source, which needs the go command: %w", err)
	}
	if module := installedFrom(); module != "" {
		return installAt(ctx, path, module, env, flags)
	}
	tree := sourceTree()
	if tree == "" {
		return errors.New("this is built from hakmem's source: start this program inside the source tree, or take one that `go install " + commandModule + "@latest` has installed")
	}
	return runGo(ctx, env, append(append([]string{"build", "-C", filepath.Join(tree, "cmd", "hakmem"), "-o", path}, flags...), "."))
}

// installAt is `go install` of a module version to a path that the caller chooses. `go build` does
// not accept a version, and `go install` does not accept a path.
func installAt(ctx context.Context, path, module string, env, flags []string) error {
	parent := filepath.Dir(path)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	bin, err := os.MkdirTemp(parent, "install-") // in the file system of path, for Rename
	if err != nil {
		return err
	}
	defer os.RemoveAll(bin)
	if err := runGo(ctx, append(env, "GOBIN="+bin), append(append([]string{"install"}, flags...), module)); err != nil {
		return err
	}
	name := "hakmem"
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	return os.Rename(filepath.Join(bin, name), path)
}

// runGo runs the go command. If it fails, the error contains the first line of output that says
// what is wrong.
func runGo(ctx context.Context, env, args []string) error {
	c := exec.CommandContext(ctx, "go", args...)
	c.Env = append(os.Environ(), env...)
	text, err := c.CombinedOutput()
	if err == nil {
		return nil
	}
	var wrong []string
	for line := range strings.Lines(string(text)) {
		// Skip the progress of downloads, and the name of the package to which compiler errors
		// belong.
		if !strings.HasPrefix(line, "go: downloading ") && !strings.HasPrefix(line, "# ") {
			wrong = append(wrong, line)
		}
	}
	return fmt.Errorf("%w: %s", err, firstLine(strings.Join(wrong, "")))
}

// sameBuild returns those build flags of this program that change its code.
func sameBuild() []string {
	var flags []string
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return nil
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "-tags", "-gcflags", "-race":
			flags = append(flags, s.Key+"="+s.Value)
		}
	}
	return flags
}
