package proof

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// exceptions are the exported functions that no action reaches, with the reason.
var exceptions = map[string]string{
	"ContainerLimit":            "reads files of the system: tested in internal/cgroup",
	"hakmemtest.NoLeaks":        "takes a testing.TB and ends with it: tested in its package",
	"hakmemtest.Ignore":         "an option of NoLeaks",
	"hakmemtest.IgnoreFunction": "an option of NoLeaks",
}

// exported returns the exported functions of the package in dir, and the exported
// methods of its exported types, as Type.Method.
func exported(t *testing.T, dir, prefix string) (names []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no files in %s: %v", dir, err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || !f.Name.IsExported() {
				continue
			}
			name := prefix + f.Name.Name
			if f.Recv != nil {
				of := f.Recv.List[0].Type
				if star, ok := of.(*ast.StarExpr); ok {
					of = star.X
				}
				recv, ok := of.(*ast.Ident)
				if !ok {
					t.Fatalf("%s: a method of %T, which this test does not know", name, of)
				}
				if !recv.IsExported() {
					continue
				}
				name = prefix + recv.Name + "." + f.Name.Name
			}
			names = append(names, name)
		}
	}
	return names
}

// TestEveryFunctionIsAnAction checks that every function of the public surface is in the model,
// too.
func TestEveryFunctionIsAnAction(t *testing.T) {
	reached := map[string]bool{}
	for _, a := range actions {
		for _, name := range a.reaches {
			reached[name] = true
		}
	}
	there := map[string]bool{}
	for _, name := range append(exported(t, "..", ""), exported(t, "../hakmemtest", "hakmemtest.")...) {
		if there[name] {
			continue // a file for another platform
		}
		there[name] = true
		why, excepted := exceptions[name]
		switch {
		case !reached[name] && !excepted:
			t.Errorf("%s: no action of the model reaches it: add one to actions_test.go", name)
		case reached[name] && excepted:
			t.Errorf("%s is excepted (%s), and an action reaches it", name, why)
		}
	}
	for name := range reached {
		if !there[name] {
			t.Errorf("an action says that it reaches %s, which is not there", name)
		}
	}
	for name := range exceptions {
		if !there[name] {
			t.Errorf("%s is excepted and not there", name)
		}
	}
	t.Logf("%d exported functions and methods, %d excepted", len(there), len(exceptions))
}

// TestActionsCallWhatTheySay checks that the file of the actions calls every function that is named
// in an action's list.
func TestActionsCallWhatTheySay(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "actions_test.go", nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	uses := map[string]bool{} // "hakmem.Malloc", ".Close"
	ast.Inspect(f, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			uses["."+s.Sel.Name] = true
			if x, ok := s.X.(*ast.Ident); ok {
				uses[x.Name+"."+s.Sel.Name] = true
			}
		}
		return true
	})
	for _, a := range actions {
		for _, name := range a.reaches {
			_, method, isMethod := strings.Cut(name, ".")
			if isMethod && !uses["."+method] || !isMethod && !uses["hakmem."+name] {
				t.Errorf("action %q says that it reaches %s, which nothing in the file calls", a.name, name)
			}
		}
	}
}
