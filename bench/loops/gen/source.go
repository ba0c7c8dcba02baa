package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// What the generator needs to know about loops.go: its syntax, its types, its helpers. All of it is
// read once, before the copies are made.

const (
	sourceName = "loops.go"
	// suffix ends the name of each function in loops.go; a copy has the family's name in its place.
	suffix = "Observed"
	// anyAllocator is what the comments of loops.go call the allocator.
	anyAllocator = "any allocator"
)

// source is loops.go, parsed and typed.
type source struct {
	fset *token.FileSet
	file *ast.File
	text string
	info types.Info
	// helpers are the functions that use the allocator between another function's enter and leave.
	// That function passes its variables on to them.
	helpers      map[string]bool
	helperParams map[*ast.FieldList]bool
}

// readSource reads loops.go. The types in it follow from the other files of the package.
func readSource(dir string) (*source, error) {
	s := &source{fset: token.NewFileSet(), info: types.Info{Types: map[ast.Expr]types.TypeAndValue{}}}
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	var files []*ast.File
	for _, name := range names {
		base := filepath.Base(name)
		if strings.HasSuffix(base, "_test.go") || strings.HasSuffix(base, "_gen.go") {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		text = []byte(strings.ReplaceAll(string(text), "\r\n", "\n")) // a checkout on Windows
		f, err := parser.ParseFile(s.fset, name, text, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
		if base == sourceName {
			s.file, s.text = f, string(text)
		}
	}
	if s.file == nil {
		return nil, fmt.Errorf("no %s in %s; run go generate in bench/loops", sourceName, dir)
	}
	// The type checker reports errors here: the declarations of other packages are unknown, and
	// files for several systems declare the same names. These errors do not concern the types of
	// slots. A slot that was not recognised as one would not compile.
	config := types.Config{Importer: nothing{}, Error: func(error) {}}
	_, _ = config.Check("bench", s.fset, files, &s.info)
	s.findHelpers()
	return s, nil
}

// nothing imports packages without contents. Only unsafe has any; the type checker knows it.
type nothing struct{}

func (nothing) Import(name string) (*types.Package, error) {
	if name == "unsafe" {
		return types.Unsafe, nil
	}
	p := types.NewPackage(name, path.Base(name))
	p.MarkComplete()
	return p, nil
}

// functions calls do for each function of loops.go.
func (s *source) functions(do func(*ast.FuncDecl)) {
	for _, d := range s.file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok {
			do(f)
		}
	}
}

// findHelpers sets s.helpers and s.helperParams: the functions that call the observer or another
// helper, and do not call enter.
func (s *source) findHelpers() {
	s.helpers, s.helperParams = map[string]bool{}, map[*ast.FieldList]bool{}
	for found := true; found; {
		found = false
		s.functions(func(f *ast.FuncDecl) {
			uses, enters := false, false
			ast.Inspect(f, func(n ast.Node) bool {
				if call, ok := n.(*ast.CallExpr); ok {
					op, isObserver := observed(call)
					uses = uses || isObserver || s.helpers[calls(call)]
					enters = enters || op == "enter"
				}
				return true
			})
			if uses && !enters && !s.helpers[f.Name.Name] {
				s.helpers[f.Name.Name], s.helperParams[f.Type.Params], found = true, true, true
			}
		})
	}
}

// observed returns the method of w.obs that is called.
func observed(call *ast.CallExpr) (op string, ok bool) {
	method, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return "", false
	}
	field, ok := method.X.(*ast.SelectorExpr)
	if !ok || field.Sel.Name != "obs" {
		return "", false
	}
	return method.Sel.Name, true
}

// calls returns the name of the function that is called, or "" where that is no plain name.
func calls(call *ast.CallExpr) string {
	if name, ok := call.Fun.(*ast.Ident); ok {
		return name.Name
	}
	return ""
}

// isSlot reports whether e is a variable that holds a block between two operations: a word in
// memory, and not a local variable.
func (s *source) isSlot(e ast.Expr) bool {
	switch e.(type) {
	case *ast.IndexExpr, *ast.SelectorExpr, *ast.StarExpr:
		t, ok := s.info.Types[e]
		return ok && t.IsValue() && t.Type == types.Typ[types.UnsafePointer]
	}
	return false
}

// at is an error with the place in loops.go that it is about.
func (s *source) at(n ast.Node, format string, args ...any) error {
	return errors.New(s.fset.Position(n.Pos()).String() + ": " + fmt.Sprintf(format, args...))
}
