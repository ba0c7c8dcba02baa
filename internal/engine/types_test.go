package engine

import (
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"path/filepath"
	"strings"
	"testing"
)

// alike lists the functions with two or more parameters of one type, each with the reason why that
// is right: the compiler does not notice when such arguments are swapped.
var alike = map[string]string{
	"checker.bad":       "what was found and what was wanted may be anything",
	"checker.misplaced": "two bit sets of one slab, next to each other where they are made",
	"hold":              "the front that the caller entered and the one it belongs to are the same or 0",
	"SwapMemoryLimit":   "bounds, the lower one first; soft above hard is an error",
	"badLimits":         "bounds, the lower one first",
	"setMemoryLimit":    "bounds, the lower one first",
	"superMeta.outcome": "the pages tried, and those of them that were refused",
	"slabID.firstFree":  "a range",
	"slabID.ownsBlocks": "a range",
	"pageTree.add":      "a range",
	"pageTree.update":   "a range",
	"reserveSomewhere":  "a size, and how much of it at first: begin is never above size",
	"Front.commitRun":   "a range",
	"wholePages":        "a start and a length, as eachRun gives them",
	"setRun":            "a start and a length, as eachRun gives them",
	"fillGuard":         "a range",
	"putCanary":         "a range",
	"canaryWhole":       "a range",
	"commitTo":          "a range",
	"overflowed":        "what unseal returned, in its order",
	"Copy":              "to and from, as in copy and memmove",
	"copyPage":          "to and from, as in copy and memmove",
	"Moved.copyPages":   "from and to, as in osmem.Move",
	"moveMapping":       "from and to, as in osmem.Move",
	"reseal":            "what is and what is to be",
	"swapSeal":          "the old value and the new one, as in CompareAndSwap",
}

// TestParametersTellThemselves: no function has two parameters of one type, except those above.
func TestParametersTellThemselves(t *testing.T) {
	paths, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	met := map[string]bool{}
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(gotoken.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			name := f.Name.Name
			if f.Recv != nil {
				of := f.Recv.List[0].Type
				if p, ok := of.(*ast.StarExpr); ok {
					of = p.X
				}
				name = of.(*ast.Ident).Name + "." + name
			}
			for kind, n := range kinds(f.Type.Params) {
				if n < 2 || kind == "bool" || kind == "string" {
					continue
				}
				met[name] = true
				if alike[name] == "" {
					t.Errorf("%s: %s has %d parameters of type %s: give them types of their own (units.go), or a reason in alike", path, name, n, kind)
				}
			}
		}
	}
	for name := range alike {
		if !met[name] {
			t.Errorf("%s has no parameters of one type any more: take it out of alike", name)
		}
	}
}

// kinds counts the parameters of each type that is a plain name.
func kinds(params *ast.FieldList) map[string]int {
	n := map[string]int{}
	for _, p := range params.List {
		kind := ""
		switch t := p.Type.(type) {
		case *ast.Ident:
			kind = t.Name
		case *ast.SelectorExpr:
			kind = t.X.(*ast.Ident).Name + "." + t.Sel.Name
		}
		if kind != "" {
			n[kind] += max(1, len(p.Names))
		}
	}
	return n
}
