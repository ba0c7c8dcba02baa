package modules

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// commandPath is the module of the command.
const commandPath = ours + "/cmd/hakmem"

// TestStranger builds every module as its users do.
func TestStranger(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped with -short: it compiles every module, some of them twice")
	}
	tr := readTree(t)
	proxy := t.TempDir()
	if err := tr.pack(proxy); err != nil {
		t.Fatal(err)
	}
	s := newStranger(t, proxy)
	tr.fetchOthers(t, s)
	t.Run("install", func(t *testing.T) { tr.installs(t, s) })
	t.Run("import", func(t *testing.T) { tr.imports(t, s) })
	t.Run("replace", func(t *testing.T) { tr.replaces(t, s) })
	for _, m := range tr.modules {
		t.Run(strings.TrimPrefix(m.path, "github.com/hakmem/"), func(t *testing.T) { tr.builds(t, s, m) })
	}
}

// fetchOthers downloads the modules of others that the tree needs. Where that cannot be done,
// nothing can be said of our own.
func (tr *tree) fetchOthers(t *testing.T, s *stranger) {
	t.Helper()
	args := []string{"mod", "download"}
	for _, m := range tr.modules {
		text, err := os.ReadFile(filepath.Join(tr.root, m.dir, "go.sum"))
		if os.IsNotExist(err) { // it needs none
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			// Of some only the go.mod is needed: a line of another form.
			f := strings.Fields(line)
			if v := f[0] + "@" + f[1]; !strings.HasSuffix(v, "/go.mod") && !slices.Contains(args, v) && !isOurs(f[0]) {
				args = append(args, v)
			}
		}
	}
	if out, err := s.run(s.dir(t, "nowhere"), "go", args...); err != nil {
		first, _, _ := strings.Cut(out, "\n")
		t.Skipf("skipped: not every module of others is in the module cache or can be had from a proxy: %s", first)
	}
}

// installs installs the command and uses it where there is no source.
func (tr *tree) installs(t *testing.T, s *stranger) {
	if _, err := s.run(s.dir(t, "nowhere"), "go", "install", commandPath+"@latest"); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(s.home, "bin", "hakmem")
	out, err := s.run(s.dir(t, "nowhere"), program, "version")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"hakmem " + tr.version, "bench " + tr.version, "cmd/hakmem " + tr.version, runtime.Version()} {
		if !slices.ContainsFunc(strings.Split(out, ","), func(part string) bool { return strings.HasPrefix(strings.TrimSpace(part), want) }) {
			t.Errorf("hakmem version prints %q, want %q", out, want)
		}
	}
	results, absent := tr.compares(t, s, program, "--placements", "1")
	if !slices.Contains(results, "hakmem") {
		t.Errorf("--placements: results of %q, absent %v", results, absent)
	}
	if reason := missing("gcc"); reason != "" {
		t.Log("the C driver and the cgo peer were not built: " + reason)
		return
	}
	if !slices.Contains(results, "cgo") {
		t.Errorf("cgo is absent: %s", absent["cgo"])
	}
	if reason := absent["glibc"]; runtime.GOOS == "linux" && !slices.Contains(results, "glibc") && reason != "the C library here is not glibc" {
		t.Errorf("glibc is absent: %s", reason)
	}
}

// missing says that a program is not there.
func missing(program string) string {
	if _, err := exec.LookPath(program); err != nil {
		return err.Error()
	}
	return ""
}

// compares runs the verb that builds from source, for a moment.
func (tr *tree) compares(t *testing.T, s *stranger, program string, flags ...string) (results []string, absent map[string]string) {
	t.Helper()
	out, err := s.run(s.dir(t, "nowhere"), program, append([]string{"compare", "tiny_hot", "--json",
		"--alloc", "hakmem,cgo,glibc", "--iters", "2000", "--runs", "1", "--later", "0"}, flags...)...)
	if err != nil {
		t.Fatal(err)
	}
	var report struct {
		Results []struct{ Allocator string }
		Absent  []struct{ Allocator, Reason string }
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, r := range report.Results {
		results = append(results, r.Allocator)
	}
	absent = map[string]string{}
	for _, a := range report.Absent {
		absent[a.Allocator] = a.Reason
	}
	return results, absent
}

// imports builds and runs a program that uses the library.
func (tr *tree) imports(t *testing.T, s *stranger) {
	dir := s.dir(t, "program")
	writeFiles(t, dir, map[string]string{
		"go.mod": "module example.com/program\n\ngo 1.26.0\n\nrequire " + ours + " " + tr.version + "\n",
		"main.go": `package main

import "github.com/hakmem/hakmem"

func main() {
	b := hakmem.Alloc(100)
	copy(b, "a stranger's block")
	println(string(b[:18]))
	hakmem.FreeBytes(b)
}
`,
	})
	if _, err := s.run(dir, "go", "mod", "tidy"); err != nil {
		t.Fatal(err)
	}
	if out, err := s.run(dir, "go", "run", "."); err != nil || out != "a stranger's block\n" {
		t.Errorf("it prints %q, %v", out, err)
	}
	out, err := s.run(dir, "go", "list", "-m", "-f", "{{.Path}}", "all")
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Fields(out); !slices.Equal(got, []string{"example.com/program", ours, "golang.org/x/sys"}) {
		t.Errorf("with hakmem come the modules %q, want golang.org/x/sys only", got)
	}
}

// writeFiles writes files by their names.
func writeFiles(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

// replaces builds and runs a program that has our adapter in the place of modernc.org/memory, although the
// adapter's go.mod has another path.
func (tr *tree) replaces(t *testing.T, s *stranger) {
	dir := s.dir(t, "replacing")
	writeFiles(t, dir, map[string]string{
		"go.mod": "module example.com/replacing\n\ngo 1.26.0\n\nrequire modernc.org/memory v1.12.1\n\n" +
			"replace modernc.org/memory => " + ours + "/adapters/moderncmemory " + tr.version + "\n",
		"main.go": `package main

import (
	"github.com/hakmem/hakmem"
	"modernc.org/memory"
)

func main() {
	var a memory.Allocator
	p, _ := a.UnsafeMalloc(100)
	println(hakmem.UsableSize(p) == hakmem.GoodSize(100), a.Close() == nil)
}
`,
	})
	if _, err := s.run(dir, "go", "mod", "tidy"); err != nil {
		t.Fatal(err)
	}
	if out, err := s.run(dir, "go", "run", "."); err != nil || out != "true true\n" {
		t.Errorf("it prints %q, %v", out, err)
	}
}

// builds builds all packages of a module that lies on its own, and looks whether its requirements are
// what `go mod tidy` writes and all that its tests import is there.
func (tr *tree) builds(t *testing.T, s *stranger, m *module) {
	dir := s.dir(t, "src-"+strings.ReplaceAll(m.path, "/", "-"))
	if err := tr.unpack(m, dir); err != nil {
		t.Fatal(err)
	}
	if _, err := s.run(dir, "go", "mod", "tidy"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		was, _ := os.ReadFile(filepath.Join(tr.root, m.dir, name))
		is, _ := os.ReadFile(filepath.Join(dir, name))
		if got, want := othersLines(name, is), othersLines(name, was); got != want {
			t.Errorf("go mod tidy makes %s/%s\n%s\nit is\n%s\ndocs/releasing.md has the commands", m.dir, name, got, want)
		}
	}
	if _, err := s.run(dir, "go", "build", "./..."); err != nil {
		t.Error(err)
	}
	// Tests of modules compile in the workspace. Here it counts that all they import is there.
	if _, err := s.run(dir, "go", "list", "-test", "-deps", "./..."); err != nil {
		t.Error(err)
	}
	if m.path == commandPath {
		tr.buildsAlone(t, s, dir)
	}
}

// othersLines leaves our own modules' sums out of a go.sum: they exist once there is a release.
func othersLines(name string, text []byte) string {
	if name != "go.sum" {
		return string(text)
	}
	var b strings.Builder
	for line := range strings.Lines(string(text)) {
		if path, _, _ := strings.Cut(line, " "); !isOurs(path) {
			b.WriteString(line)
		}
	}
	return b.String()
}

// buildsAlone builds the command where it is no module version, and with -trimpath (of GOFLAGS)
// does not know its source's place either: it has to say what it cannot do, and the remedy.
func (tr *tree) buildsAlone(t *testing.T, s *stranger, dir string) {
	program := filepath.Join(s.home, "alone.exe")
	if _, err := s.run(dir, "go", "build", "-o", program, "."); err != nil {
		t.Fatal(err)
	}
	remedy := "go install " + commandPath + "@latest"
	out, err := s.run(s.dir(t, "nowhere"), program, "compare", "tiny_hot", "--alloc", "hakmem", "--placements", "1")
	if err == nil || !strings.Contains(out, "--placements") || !strings.Contains(out, remedy) {
		t.Errorf("--placements without source: %v, %q, want %q", err, out, remedy)
	}
	results, absent := tr.compares(t, s, program)
	if !slices.Contains(results, "hakmem") {
		t.Errorf("results of %q, absent %v", results, absent)
	}
	if missing("gcc") == "" && !strings.Contains(absent["cgo"], remedy) {
		t.Errorf("cgo is absent: %q, want %q", absent["cgo"], remedy)
	}
}
