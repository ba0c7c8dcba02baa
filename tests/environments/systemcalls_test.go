package environments_test

import (
	"bytes"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// These tests hold the table of system calls in docs/environments.md against the sources and
// against two lists of what sandboxes allow. The sources are read as Linux builds them, on the two
// processors with a fast section, so the tests run on every system.

const module = "github.com/hakmem/hakmem"

var (
	root     = filepath.Join("..", "..")
	callsDoc = filepath.Join(root, "docs", "environments.md")
)

// The system calls of a file that Go's library opens: it asks for the file's kind, tries to wait for
// it by epoll, reads or writes it and closes it.
var (
	readsFile  = strings.Fields("openat fstat fcntl epoll_create1 eventfd2 epoll_ctl read close")
	writesFile = append(slices.Clone(readsFile), "write")
	readsDir   = append(slices.Clone(readsFile), "getdents64", "lseek")
)

// callsOfLibrary has the system calls of those functions of Go's library that hakmem may use and
// that make some. They are listed because the library reaches them through interfaces.
var callsOfLibrary = map[string][]string{
	"os.Getpagesize": nil, "os.LookupEnv": nil, "os.Environ": nil, "os.Getenv": nil, // the runtime knows these
	"os.Open": readsFile, "os.ReadFile": readsFile, "os.Create": writesFile, "os.ReadDir": readsDir,
	"os.CreateTemp": append(slices.Clone(writesFile), "fchmod"), // and what is done with the file
	"os.Lstat":      {"newfstatat"}, "os.Rename": {"newfstatat", "renameat"}, "os.Remove": {"unlinkat"},
	"os.Stat":            {"newfstatat"},
	"path/filepath.Glob": append(slices.Clone(readsDir), "newfstatat"),
	"path/filepath.Join": nil, "path/filepath.Dir": nil, "path/filepath.Base": nil,
}

// library are the packages that callsOfLibrary is about.
var library = []string{"os", "path/filepath"}

// harmless are the packages of Go's library that make no system call which Go's runtime would not
// make without them.
var harmless = strings.Fields(`bufio bytes unicode/utf8 cmp io/fs context encoding/binary encoding/json errors fmt io iter maps math math/bits math/rand/v2 path reflect
	runtime runtime/debug runtime/pprof runtime/trace slices sort strconv strings sync sync/atomic time unsafe weak C`)

// callSet is a set of system calls.
type callSet map[string]bool

func (s callSet) String() string { return strings.Join(slices.Sorted(maps.Keys(s)), ", ") }

// sourceTree reads packages as they are built for one target.
type sourceTree struct {
	t    *testing.T
	ctx  build.Context
	used map[string]callSet // by "osmem.Commit" or "os.Create": what it calls
	pkgs map[string]*sourcePackage
}

// sourcePackage is one package.
type sourcePackage struct {
	files   []*ast.File
	bodies  map[string][]ast.Node          // of functions and methods, by their bare names; values of variables
	imports map[ast.Node]map[string]string // of the body's file: local name → path
	linked  map[string]string              // functions without a body → those that are linked to them
}

func newSourceTree(t *testing.T, arch string, tags ...string) *sourceTree {
	ctx := build.Default
	ctx.GOOS, ctx.GOARCH, ctx.BuildTags, ctx.CgoEnabled = "linux", arch, tags, false
	return &sourceTree{t: t, ctx: ctx, used: map[string]callSet{}, pkgs: map[string]*sourcePackage{}}
}

// dirOf returns the directory of a package of the module, of golang.org/x/sys or of Go's library.
func (s *sourceTree) dirOf(pkg string) string {
	if pkg == module || strings.HasPrefix(pkg, module+"/") {
		return filepath.Join(root, filepath.FromSlash(strings.TrimPrefix(strings.TrimPrefix(pkg, module), "/")))
	}
	out, err := exec.Command("go", "list", "-f", "{{.Dir}}", pkg).Output()
	if err != nil {
		s.t.Skipf("skipped: go list does not find the sources of %s: %v", pkg, err)
	}
	return string(bytes.TrimSpace(out))
}

func (s *sourceTree) load(pkg string) *sourcePackage {
	if p := s.pkgs[pkg]; p != nil {
		return p
	}
	dir := s.dirOf(pkg)
	list, err := s.ctx.ImportDir(dir, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	p := &sourcePackage{bodies: map[string][]ast.Node{}, imports: map[ast.Node]map[string]string{}, linked: map[string]string{}}
	for _, name := range list.GoFiles {
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(dir, name), nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			s.t.Fatal(err)
		}
		p.files = append(p.files, f)
		for _, group := range f.Comments {
			for _, c := range group.List {
				if w := strings.Fields(c.Text); len(w) == 3 && w[0] == "//go:linkname" {
					p.linked[w[1]] = w[2]
				}
			}
		}
		imports := importsOf(f)
		add := func(name string, body ast.Node) {
			p.bodies[name] = append(p.bodies[name], body)
			p.imports[body] = imports
		}
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Body != nil {
					add(d.Name.Name, d.Body)
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					v, ok := spec.(*ast.ValueSpec)
					if !ok || d.Tok != token.VAR {
						continue
					}
					for i, value := range v.Values {
						for _, name := range v.Names[i:min(i+1, len(v.Names))] {
							add(name.Name, value) // it may be called, as sync.OnceValue's is
						}
						if _, literal := value.(*ast.FuncLit); !literal {
							add("init", withoutFunctions(value))
						}
					}
				}
			}
		}
	}
	s.pkgs[pkg] = p
	return p
}

// withoutFunctions returns those calls in a variable's value that are made when the package is
// initialised. What stands in a function literal is not.
func withoutFunctions(value ast.Expr) ast.Node {
	var calls ast.BlockStmt
	ast.Inspect(value, func(n ast.Node) bool {
		if _, literal := n.(*ast.FuncLit); literal {
			return false
		}
		if call, ok := n.(*ast.CallExpr); ok {
			calls.List = append(calls.List, &ast.ExprStmt{X: &ast.CallExpr{Fun: call.Fun}})
		}
		return true
	})
	return &calls
}

// importsOf returns a file's imports by the names under which it uses them.
func importsOf(f *ast.File) map[string]string {
	imports := map[string]string{}
	for _, i := range f.Imports {
		p, _ := strconv.Unquote(i.Path.Value)
		name := path.Base(p)
		if name == "v2" {
			name = path.Base(path.Dir(p))
		}
		if i.Name != nil {
			name = i.Name.Name
		}
		imports[name] = p
	}
	return imports
}

// callsOf returns the system calls that a function of a package can make: the constants SYS_X in
// its body and in those of the functions that it calls, by name. Of calls of values and methods
// only the name is known, so all functions of that name in the package count.
func (s *sourceTree) callsOf(pkg, function string) callSet {
	calls, seen := callSet{}, map[string]bool{}
	var walk func(pkg, function string)
	walk = func(pkg, function string) {
		if key := pkg + "." + function; seen[key] {
			return
		} else {
			seen[key] = true
		}
		if slices.Contains(library, pkg) {
			list, known := callsOfLibrary[pkg+"."+function]
			if !known {
				s.t.Errorf("%s.%s is not in the table callsOfLibrary: add what it calls", pkg, function)
			}
			for _, c := range list {
				calls[c] = true
			}
			return
		}
		p := s.load(pkg)
		if to := p.linked[function]; p.bodies[function] == nil && to != "" {
			if from, name, _ := strings.Cut(to, "."); from == "syscall" {
				walk(from, name)
			}
		}
		for _, body := range p.bodies[function] {
			imports := p.imports[body]
			ast.Inspect(body, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.Ident:
					if name, ok := strings.CutPrefix(n.Name, "SYS_"); ok {
						calls[strings.ToLower(name)] = true
					}
				case *ast.CallExpr:
					switch f := n.Fun.(type) {
					case *ast.Ident:
						walk(pkg, f.Name)
					case *ast.SelectorExpr:
						from, isPackage := imports[nameOf(f.X)]
						switch {
						case !isPackage:
							walk(pkg, f.Sel.Name)
						case makesCalls(from) || strings.HasPrefix(from, module):
							walk(from, f.Sel.Name)
						}
					}
				}
				return true
			})
		}
	}
	walk(pkg, function)
	if function == "BeginLook" { // its result has methods, which whoever calls it calls
		walk(pkg, "Next")
		walk(pkg, "Close")
	}
	return calls
}

func nameOf(x ast.Expr) string {
	if id, ok := x.(*ast.Ident); ok {
		return id.Name
	}
	return ""
}

// makesCalls reports whether functions of a package outside the module make system calls.
func makesCalls(pkg string) bool {
	return slices.Contains(library, pkg) || pkg == "syscall" || strings.HasPrefix(pkg, "golang.org/x/sys/")
}

// readUses notes every function of osmem and of other packages that make system calls, wherever
// the root package or a package that it imports calls it.
func (s *sourceTree) readUses() {
	osmem := module + "/internal/osmem"
	var read func(pkg string)
	done := map[string]bool{}
	read = func(pkg string) {
		if done[pkg] {
			return
		}
		done[pkg] = true
		for _, f := range s.load(pkg).files {
			imports := importsOf(f)
			for _, from := range imports {
				switch {
				case strings.HasPrefix(from, module):
					read(from)
				case makesCalls(from):
				case !slices.Contains(harmless, from):
					s.t.Errorf("%s imports %s: say in this test what system calls that makes", pkg, from)
				}
			}
			if pkg == osmem { // its functions count where they are called
				s.used["osmem.init"] = s.callsOf(osmem, "init")
				continue
			}
			ast.Inspect(f, func(n ast.Node) bool {
				sel, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				from := imports[nameOf(sel.X)]
				switch {
				case from == "os" && (sel.Sel.Name == "File" || sel.Sel.Name == "Stderr" || sel.Sel.Name == "Stdout"): // no functions
					return true
				case from != osmem && !makesCalls(from):
					return true
				}
				if name := path.Base(from) + "." + sel.Sel.Name; s.used[name] == nil {
					s.used[name] = s.callsOf(from, sel.Sel.Name)
				}
				return true
			})
		}
	}
	read(module)
	for name, calls := range s.used {
		if len(calls) == 0 {
			delete(s.used, name)
		}
	}
}

// sourceUses merges what the builds of Linux use. The race detector's build has files of its own.
func sourceUses(t *testing.T) map[string]callSet {
	all := map[string]callSet{}
	for _, b := range []struct{ arch, tag string }{{"amd64", ""}, {"arm64", ""}, {"amd64", "race"}} {
		s := newSourceTree(t, b.arch, b.tag)
		s.readUses()
		for name, calls := range s.used {
			if all[name] == nil {
				all[name] = callSet{}
			}
			maps.Copy(all[name], calls)
		}
	}
	return all
}

// callPath is a row of the table: a path through hakmem that makes system calls.
type callPath struct {
	name      string
	when      string // whenAlways, whenAsked, or the setting that it needs
	functions []string
	calls     callSet
}

const (
	whenAlways = "by itself"
	whenAsked  = "on demand"
)

// readCallPaths reads the table that begins with "| path |".
func readCallPaths(t *testing.T) (paths []callPath) {
	t.Helper()
	text, err := os.ReadFile(callsDoc)
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(text), "\n| path | when | functions | system calls |\n")
	if !found {
		t.Fatalf("%s has no table with the columns path, when, functions, system calls", callsDoc)
	}
	for line := range strings.Lines(table) {
		if strings.HasPrefix(line, "|---") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "| \n"), "|")
		if len(cells) != 4 || !strings.HasPrefix(line, "|") {
			break
		}
		list := func(cell string) []string {
			words := strings.Split(cell, ",")
			for i := range words {
				words[i] = strings.Trim(words[i], " `")
			}
			return words
		}
		p := callPath{strings.TrimSpace(cells[0]), strings.TrimSpace(cells[1]), list(cells[2]), callSet{}}
		for _, c := range list(cells[3]) {
			p.calls[c] = true
		}
		paths = append(paths, p)
	}
	if len(paths) == 0 {
		t.Fatal("the table has no rows")
	}
	return paths
}

// TestSystemCallsAreListed: the table of docs/environments.md has every function that makes system
// calls, and each of its rows has exactly the calls that its functions make.
func TestSystemCallsAreListed(t *testing.T) {
	uses := sourceUses(t)
	listed := map[string]bool{}
	for _, p := range readCallPaths(t) {
		made := callSet{}
		for _, f := range p.functions {
			listed[f] = true
			if uses[f] == nil {
				t.Errorf("%s: hakmem does not call %s, or it makes no system call: take it out of the row", p.name, f)
			}
			maps.Copy(made, uses[f])
		}
		if !maps.Equal(made, p.calls) {
			t.Errorf("%s: the functions of the row make %s\nand the row has %s", p.name, made, p.calls)
		}
	}
	for name, calls := range uses {
		if !listed[name] {
			t.Errorf("%s makes %s and is in no row of the table in docs/environments.md: add it to the paths that call it", name, calls)
		}
	}
}

// readList reads a list of names from testdata.
func readList(t *testing.T, name string) callSet {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	list := callSet{}
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "#") {
			for _, w := range strings.Fields(line) {
				list[w] = true
			}
		}
	}
	if len(list) < 300 {
		t.Fatalf("%s has %d names", name, len(list))
	}
	return list
}

// outside has the calls that a sandbox may refuse although they are made on a path that runs by
// itself, and why nothing depends on them.
var outside = map[string]string{
	"process_madvise": "returns many ranges at once; it is made only where no filter is in force",
	"mincore":         "asks which pages are resident; it is made only where no filter is in force",
}

// TestSystemCallsAreAllowed: what hakmem calls without being asked is allowed by systemd's
// @system-service and by Docker's default profile.
func TestSystemCallsAreAllowed(t *testing.T) {
	needed := map[string]bool{}
	for _, file := range []string{"systemd-system-service.txt", "docker-default.txt"} {
		allowed := readList(t, file)
		for _, p := range readCallPaths(t) {
			if p.when == whenAsked {
				continue
			}
			for c := range p.calls {
				if allowed[c] {
					continue
				}
				if outside[c] != "" {
					needed[c] = true
					continue
				}
				t.Errorf("%s (%s) makes %s, which is not in %s", p.name, p.when, c, file)
			}
		}
	}
	for c := range outside {
		if !needed[c] {
			t.Errorf("%s is excused, and no path that runs by itself makes it any longer, or it is allowed: take it out of outside", c)
		}
	}
}
