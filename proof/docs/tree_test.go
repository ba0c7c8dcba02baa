package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/hakmem/hakmem/proof/internal/repository"
)

// tree is what the repository has that a document can name.
type tree struct {
	root     string
	paths    map[string]bool            // files and directories, below the root
	declared map[string]map[string]bool // name → the files that declare it
	members  map[string]map[string]bool // type or variable → its fields and methods
	embeds   map[string]map[string]bool // type or variable → the types that it embeds
	fields   map[string]bool            // names of fields: what such a name has depends on the type
	vars     map[string]string          // variables of packages → the type's name, if it has one
	public   map[string]bool            // exported names of the root package
	packages map[string]bool            // by name
	tests    map[string]bool            // functions that go test runs
	words    map[string]bool            // strings of the sources that are one word, and names in tags of fields
	settings map[string]bool            // HAKMEM_ variables
	tags     map[string]bool            // build tags hakmem_
	flags    map[string]map[string]bool // directory → flags of the command or the tests in it
	verbs    map[string]map[string]bool // verb of the command hakmem → its flags
	loads    map[string]bool            // workloads
	pages    map[string]*page
}

var (
	settingPattern  = regexp.MustCompile(`\bHAKMEM_[A-Z0-9_]*[A-Z0-9]\b`)
	tagPattern      = regexp.MustCompile(`\bhakmem_[a-z_]+\b`)
	wordPattern     = regexp.MustCompile(`^[A-Za-z_][\w-]*$`)
	fieldTagPattern = regexp.MustCompile(`\w+:"([^",]*)`)
	flagPattern     = regexp.MustCompile(`\w\.(?:Bool|Int|Int64|Uint|Uint64|Float64|String|Duration|Func|Var|TextVar)(?:Var)?\((?:&?[\w.]+, )?"([a-z][\w-]*)"`)
	assemblyPattern = regexp.MustCompile(`(?m)^(?:TEXT\s+·(\w+)|#define\s+(\w+)|DATA\s+·(\w+)|GLOBL\s+·(\w+))`)
	testPattern     = regexp.MustCompile(`^(Test|Fuzz|Benchmark|Example)([A-Z_]\w*)?$`)
	helpFlagPattern = regexp.MustCompile(`--?([a-z][\w-]*)`)
)

// theTree reads the repository once: every test asks the same questions of it.
var theTree = sync.OnceValues(func() (*tree, error) {
	root, err := repository.Root()
	if err != nil {
		return nil, err
	}
	tr := &tree{root: root, paths: map[string]bool{}, declared: map[string]map[string]bool{}, members: map[string]map[string]bool{}, embeds: map[string]map[string]bool{}, fields: map[string]bool{}, vars: map[string]string{},
		public: map[string]bool{}, packages: map[string]bool{}, tests: map[string]bool{}, words: map[string]bool{}, settings: map[string]bool{},
		tags: map[string]bool{}, flags: map[string]map[string]bool{}, verbs: map[string]map[string]bool{}, loads: map[string]bool{}, pages: map[string]*page{}}
	files, _, err := repository.Files(root)
	if err != nil {
		return nil, err
	}
	for _, name := range files {
		for p := name; !tr.paths[p]; p = path.Dir(p) { // up to "."
			tr.paths[p] = true
		}
		var err error
		switch ext := path.Ext(name); {
		case path.Dir(name) == "proof/docs": // its bad examples are not names of the tree
		case ext == ".go":
			err = tr.readGo(name)
		case ext == ".s", ext == ".h":
			err = tr.readAssembly(name)
		case ext == ".md":
			err = tr.readPage(name)
		}
		if err != nil {
			return nil, err
		}
	}
	return tr, tr.readCommand()
})

func getTree(t *testing.T) *tree {
	t.Helper()
	tr, err := theTree()
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func (tr *tree) read(name string) (string, error) {
	data, err := os.ReadFile(filepath.Join(tr.root, filepath.FromSlash(name)))
	return string(data), err
}

func (tr *tree) readPage(name string) error {
	text, err := tr.read(name)
	tr.pages[name] = readPage(name, text)
	return err
}

func (tr *tree) declare(name, file string) { add(tr.declared, name, file) }

func add(to map[string]map[string]bool, key, value string) {
	if to[key] == nil {
		to[key] = map[string]bool{}
	}
	to[key][value] = true
}

// readAssembly notes the functions, the data and the macros of a file.
func (tr *tree) readAssembly(name string) error {
	text, err := tr.read(name)
	for _, m := range assemblyPattern.FindAllStringSubmatch(text, -1) {
		tr.declare(m[1]+m[2]+m[3]+m[4], name)
	}
	return err
}

// readGo notes what a Go file declares, its strings, its build tags and its flags.
func (tr *tree) readGo(name string) error {
	text, err := tr.read(name)
	if err != nil {
		return err
	}
	f, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	tr.packages[f.Name.Name] = true
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "//go:build ") {
			for _, tag := range tagPattern.FindAllString(line, -1) {
				tr.tags[tag] = true
			}
		}
	}
	for _, m := range flagPattern.FindAllStringSubmatch(text, -1) {
		add(tr.flags, path.Dir(name), m[1])
	}
	for _, d := range f.Decls {
		tr.readDeclaration(name, d)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Field: // of a struct, an interface or a function
			for _, id := range n.Names {
				tr.declare(id.Name, name)
			}
			if n.Tag != nil {
				for _, m := range fieldTagPattern.FindAllStringSubmatch(n.Tag.Value, -1) {
					tr.words[m[1]] = true
				}
			}
		case *ast.BasicLit:
			if s, err := strconv.Unquote(n.Value); err == nil && n.Kind == token.STRING && wordPattern.MatchString(s) {
				tr.words[s] = true
				if name == "internal/policy/settings.go" && settingPattern.MatchString(s) {
					tr.settings[s] = true
				}
			}
		case *ast.ValueSpec: // a test's own variable of the environment has a name that ends in Var
			for i, id := range n.Names {
				if strings.HasSuffix(id.Name, "Var") && i < len(n.Values) {
					if lit, ok := n.Values[i].(*ast.BasicLit); ok && settingPattern.MatchString(lit.Value) {
						tr.settings[strings.Trim(lit.Value, `"`)] = true
					}
				}
			}
		}
		return true
	})
	return nil
}

// readDeclaration notes a declaration of a file, and the members of a type or of a variable.
func (tr *tree) readDeclaration(file string, d ast.Decl) {
	declare := func(id *ast.Ident) {
		tr.declare(id.Name, file)
		if path.Dir(file) == "." && id.IsExported() && !strings.HasSuffix(file, "_test.go") {
			tr.public[id.Name] = true
		}
	}
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Recv != nil {
			tr.declare(d.Name.Name, file)
			add(tr.members, typeName(d.Recv.List[0].Type), d.Name.Name)
			if path.Dir(file) == "." {
				add(tr.members, "hakmem."+typeName(d.Recv.List[0].Type), d.Name.Name)
			}
			tr.declare(typeName(d.Recv.List[0].Type)+"."+d.Name.Name, file)
			return
		}
		declare(d.Name)
		if strings.HasSuffix(file, "_test.go") && testPattern.MatchString(d.Name.Name) {
			tr.tests[d.Name.Name] = true
		}
	case *ast.GenDecl:
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.TypeSpec:
				declare(s.Name)
				tr.readMembers(s.Name.Name, s.Type)
				if tr.public[s.Name.Name] { // other packages have types of that name
					tr.readMembers("hakmem."+s.Name.Name, s.Type)
				}
			case *ast.ValueSpec:
				for _, id := range s.Names {
					declare(id)
					if d.Tok == token.VAR {
						if was, ok := tr.vars[id.Name]; ok && was != typeName(s.Type) {
							tr.vars[id.Name] = "several types"
						} else {
							tr.vars[id.Name] = typeName(s.Type)
						}
						tr.readMembers(id.Name, s.Type)
					}
				}
			}
		}
	}
}

func (tr *tree) readMembers(of string, t ast.Expr) {
	s, ok := t.(*ast.StructType)
	if !ok {
		return
	}
	for _, f := range s.Fields.List {
		for _, id := range f.Names {
			add(tr.members, of, id.Name)
			tr.fields[id.Name] = true
		}
		if len(f.Names) == 0 { // embedded
			add(tr.embeds, of, typeName(f.Type))
		}
	}
}

// typeName is the name of a type, or "".
func typeName(t ast.Expr) string {
	switch t := t.(type) {
	case *ast.StarExpr:
		return typeName(t.X)
	case *ast.IndexExpr:
		return typeName(t.X)
	case *ast.IndexListExpr:
		return typeName(t.X)
	case *ast.Ident:
		return t.Name
	}
	return ""
}

// readCommand asks the command hakmem for its verbs, their flags and the workloads.
func (tr *tree) readCommand() error {
	dir, err := os.MkdirTemp("", "docs")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "hakmem.exe")
	build := exec.Command("go", "build", "-o", program, "./cmd/hakmem")
	build.Dir, build.Stderr = tr.root, os.Stderr
	if err := build.Run(); err != nil {
		return err
	}
	help := func(args ...string) (string, error) {
		out, err := exec.Command(program, append(args, "--help")...).Output()
		return string(out), err
	}
	root, err := help()
	if err != nil {
		return err
	}
	for _, names := range section(root, "COMMANDS:") {
		verb := strings.TrimSuffix(names, ",")
		if verb == "help" {
			continue
		}
		text, err := help(verb)
		if err != nil {
			return err
		}
		tr.verbs[verb] = map[string]bool{}
		texts := []string{text}
		for _, below := range section(text, "COMMANDS:") { // their flags count as the verb's
			text, err := help(verb, strings.TrimSuffix(below, ","))
			if err != nil {
				return err
			}
			texts = append(texts, text)
			if verb == "bench" { // it stands where a workload does
				tr.loads[strings.TrimSuffix(below, ",")] = true
			}
		}
		for _, text := range texts {
			_, options, _ := strings.Cut(text, "\nOPTIONS:\n")
			for line := range strings.Lines(options) {
				names, _, _ := strings.Cut(strings.TrimSpace(line), "   ") // what follows is the help text
				for _, m := range helpFlagPattern.FindAllStringSubmatch(names, -1) {
					tr.verbs[verb][m[1]] = true
				}
			}
		}
		for _, load := range section(text, "   Workloads:") {
			tr.loads[load] = true
		}
	}
	return nil
}

// section returns the first word of each line between the title and the next empty line.
func section(text, title string) []string {
	var words []string
	_, rest, _ := strings.Cut(text, "\n"+title+"\n")
	for line := range strings.Lines(rest) {
		f := strings.Fields(line)
		if len(f) == 0 {
			break
		}
		words = append(words, f[0])
	}
	return words
}
