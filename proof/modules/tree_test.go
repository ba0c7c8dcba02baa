package modules

import (
	"encoding/json"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hakmem/hakmem/proof/internal/repository"
)

// ours begins the path of every module of the tree.
const ours = "github.com/hakmem/hakmem"

func isOurs(path string) bool { return path == ours || strings.HasPrefix(path, ours+"/") }

// module is a module of the tree.
type module struct {
	path  string
	dir   string   // below the root, with slashes; "." is the root
	files []string // below dir, with slashes

	require []version
	replace []string // what its go.mod replaces
}

// version is a module at a version.
type version struct{ Path, Version string }

func (v version) String() string { return v.Path + "@" + v.Version }

// tree is the repository's work tree.
type tree struct {
	root    string
	modules []*module // by path
	version string    // what they require of each other
}

// readTree lists the modules of the tree and their files.
func readTree(t *testing.T) *tree {
	t.Helper()
	root, err := repository.Root()
	if err != nil {
		t.Fatal(err)
	}
	tr := &tree{root: root}
	files, byGit, err := repository.Files(root)
	switch {
	case err != nil:
		t.Fatal(err)
	case !byGit:
		t.Log("git does not list the files: all are taken, also what it would ignore")
	}
	byDir := map[string]*module{}
	for _, file := range files {
		if path.Base(file) == "go.mod" {
			m := readModule(t, root, path.Dir(file))
			byDir[m.dir] = m
			tr.modules = append(tr.modules, m)
		}
	}
	slices.SortFunc(tr.modules, func(a, b *module) int { return strings.Compare(a.path, b.path) })
	for _, file := range files { // each belongs to the innermost module around it
		dir := path.Dir(file)
		for byDir[dir] == nil && dir != "." {
			dir = path.Dir(dir)
		}
		if m := byDir[dir]; m != nil {
			m.files = append(m.files, strings.TrimPrefix(file, m.dir+"/"))
		}
	}
	for _, m := range tr.modules {
		for _, r := range m.require {
			switch {
			case !isOurs(r.Path):
			case tr.version == "":
				tr.version = r.Version
			case tr.version != r.Version:
				t.Errorf("%s requires %v, another module %s: they are released together, so write the same version in all", m.path, r, tr.version)
			}
		}
	}
	if tr.version == "" {
		t.Fatalf("no module of %s requires another", root)
	}
	return tr
}

// readModule reads the go.mod in a directory of the tree.
func readModule(t *testing.T, root, dir string) *module {
	t.Helper()
	var file struct {
		Module  version
		Require []version
		Replace []struct{ Old version }
	}
	readJSON(t, &file, "mod", "edit", "-json", filepath.Join(root, dir, "go.mod"))
	m := &module{path: file.Module.Path, dir: dir, require: file.Require}
	for _, r := range file.Replace {
		m.replace = append(m.replace, r.Old.Path)
	}
	return m
}

// readJSON reads what a go command prints.
func readJSON(t *testing.T, into any, args ...string) {
	t.Helper()
	out, err := exec.Command("go", args...).Output()
	if err == nil {
		err = json.Unmarshal(out, into)
	}
	if err != nil {
		t.Fatalf("go %s: %v", strings.Join(args, " "), err)
	}
}

// TestRequirements: the go.mod files are what a module's users need, and go.work has what the
// tree needs.
func TestRequirements(t *testing.T) {
	tr := readTree(t)
	var work struct {
		Use     []struct{ DiskPath string }
		Replace []struct{ Old, New version }
	}
	readJSON(t, &work, "work", "edit", "-json", filepath.Join(tr.root, "go.work"))
	used := map[string]bool{}
	for _, u := range work.Use {
		used[path.Clean(u.DiskPath)] = true
	}
	replaced := map[version]string{}
	for _, r := range work.Replace {
		replaced[r.Old] = path.Clean(r.New.Path)
	}
	dirs := map[string]string{}
	for _, m := range tr.modules {
		dirs[m.path] = m.dir
		want := ours
		if m.dir != "." {
			want += "/" + m.dir
		}
		if m.path != want {
			t.Errorf("%s/go.mod is of module %s, want %s: a module's path is where it lies", m.dir, m.path, want)
		}
		if len(m.replace) > 0 {
			t.Errorf("%s/go.mod replaces %q: `go install` refuses such a module; move the directives to go.work", m.dir, m.replace)
		}
		if !used[m.dir] {
			t.Errorf("go.work does not use %s, which holds module %s: add it", m.dir, m.path)
		}
	}
	for _, m := range tr.modules {
		for _, r := range m.require {
			if isOurs(r.Path) && replaced[r] != dirs[r.Path] {
				t.Errorf("%s requires %v, which go.work replaces by %q, want %q: the tree would not build before %s is released", m.path, r, replaced[r], dirs[r.Path], r.Version)
			}
		}
	}
	for _, m := range tr.modules { // what a library brings along is its users' as well
		if m.path == ours && !slices.Equal(m.require, []version{{"golang.org/x/sys", m.requires("golang.org/x/sys")}}) {
			t.Errorf("%s requires %v, want golang.org/x/sys only", m.path, m.require)
		}
	}
}

// requires returns the version that m requires of another module.
func (m *module) requires(path string) string {
	for _, r := range m.require {
		if r.Path == path {
			return r.Version
		}
	}
	return ""
}
