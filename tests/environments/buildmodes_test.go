package environments_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"
)

// The programs of testdata/modes, built in every mode in which Go builds programs and libraries.
// Each does the work of package work there, and prints ok. The modes with position-independent code
// share what they compile, because all of them use -trimpath.

// toolLimit ends a build or a program that hangs. A busy machine may have to compile Go's library.
const toolLimit = 5 * time.Minute

// modes returns a function that builds one of the programs of testdata/modes and returns the
// file. The test is skipped where that makes no sense.
func modes(t *testing.T) (build func(program string, flags ...string) string) {
	t.Helper()
	if testing.Short() {
		t.Skip("skipped: -short; the programs have none of this build's tags")
	}
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("skipped: no go command: ", err)
	}
	dir := t.TempDir()
	return func(program string, flags ...string) string {
		t.Helper()
		file := filepath.Join(dir, program)
		for _, f := range flags {
			switch f {
			case "-buildmode=c-archive":
				file += ".a"
			case "-buildmode=c-shared", "-buildmode=plugin":
				file += ".so"
			}
		}
		run(t, "", append(append([]string{"go", "build", "-o", file}, flags...), "./testdata/modes/"+program)...)
		return file
	}
}

// run runs a command in a directory and returns what it prints. The test fails if it fails.
func run(t *testing.T, dir string, command ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), toolLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Dir = dir
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "HAKMEM_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	if dir != "" { // another module, which is complete by itself
		cmd.Env = append(cmd.Env, "GOWORK=off", "GOFLAGS=", "GOPROXY=off")
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, out[:min(len(out), 4000)])
	}
	return string(out)
}

// mustSayOK runs a program of testdata/modes.
func mustSayOK(t *testing.T, command ...string) {
	t.Helper()
	if out := run(t, "", command...); out != "ok\n" {
		t.Errorf("%s: it printed %q, want ok", strings.Join(command, " "), out)
	}
}

// needC skips the test where C programs cannot be linked with Go libraries the way it does.
func needC(t *testing.T) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("skipped: links as on Linux")
	}
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("skipped: no gcc: ", err)
	}
	t.Setenv("CGO_ENABLED", "1")
}

func TestBuildModes(t *testing.T) {
	build := modes(t)
	t.Run("exe", func(t *testing.T) { mustSayOK(t, build("exe", "-buildmode=exe")) })
	t.Run("pie", func(t *testing.T) { mustSayOK(t, build("exe", "-buildmode=pie", "-trimpath")) })
	t.Run("c-archive", func(t *testing.T) {
		needC(t)
		archive := build("clib", "-buildmode=c-archive", "-trimpath")
		program := filepath.Join(t.TempDir(), "program")
		run(t, "", "gcc", "-o", program, "testdata/modes/c/archive.c", archive, "-lpthread", "-ldl")
		mustSayOK(t, program)
	})
}

// TestTwoCopies: a process loads two shared objects that each have a Go runtime and a hakmem.
func TestTwoCopies(t *testing.T) {
	build := modes(t)
	needC(t)
	library := build("clib", "-buildmode=c-shared", "-trimpath")
	content, err := os.ReadFile(library)
	if err != nil {
		t.Fatal(err)
	}
	second := filepath.Join(t.TempDir(), "second.so") // the same file would be loaded once
	if err := os.WriteFile(second, content, 0o755); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "program")
	run(t, "", "gcc", "-o", program, "testdata/modes/c/two.c", "-lpthread", "-ldl")
	mustSayOK(t, program, library, second)
}

// TestPlugin: a program and its plugin share one hakmem, and each other's blocks.
func TestPlugin(t *testing.T) {
	build := modes(t)
	needC(t)
	mustSayOK(t, build("pluginhost", "-trimpath"), build("plugin", "-buildmode=plugin", "-trimpath"))
}

var xsysPattern = regexp.MustCompile(`(?m)^(?:require )?\s*(golang\.org/x/sys v\S+)`)

// TestVendored: a module that has hakmem in its vendor directory, and no way to fetch anything.
func TestVendored(t *testing.T) {
	modes(t)
	dir := t.TempDir()
	here, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.FromSlash(name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	write := func(name string, b []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	needs := xsysPattern.FindSubmatch(read(root + "/go.mod"))
	if needs == nil {
		t.Fatal("go.mod does not require golang.org/x/sys")
	}
	version := regexp.MustCompile(`(?m)^go .*$`).Find(read(root + "/go.mod"))
	write("go.mod", fmt.Appendf(nil, "module vendored.test\n\n%s\n\nrequire %s v0.0.0\n\nrequire %s // indirect\n\nreplace %s => %s\n", version, module, needs[1], module, here))
	write("go.sum", read(root+"/go.sum"))
	write("main.go", read("testdata/modes/exe/main.go"))
	run(t, dir, "go", "mod", "vendor")
	if _, err := os.Stat(filepath.Join(dir, "vendor", filepath.FromSlash(module), "malloc.go")); err != nil {
		t.Fatal("hakmem is not in the vendor directory: ", err)
	}
	program := filepath.Join(t.TempDir(), "program")
	run(t, dir, "go", "build", "-mod=vendor", "-o", program, ".")
	mustSayOK(t, program)
}
