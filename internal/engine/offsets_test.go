package engine

import (
	"go/ast"
	"go/build"
	"go/importer"
	"go/parser"
	gotoken "go/token"
	"go/types"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

// TestOffsets computes where the runtime's structures have the fields by which the fast section finds
// its P, from the sources of the Go version at hand, for every system and processor with a fast
// section. So the offsets are checked for systems on which no test runs, too.
func TestOffsets(t *testing.T) {
	if !HaveFast {
		t.Skip("skipped: this build has no fast section")
	}
	if runtime.GOOS != "linux" {
		t.Skip("skipped: the result is the same on every system; the run on Linux has it")
	}
	if _, err := os.Stat(filepath.Join(build.Default.GOROOT, "src/runtime/runtime2.go")); err != nil {
		t.Skip("skipped: the runtime's sources are not here: ", err)
	}
	defer func(old build.Context) { build.Default = old }(build.Default)
	build.Default.CgoEnabled, build.Default.BuildTags = false, []string{"hakmem_untested_go"}
	for _, target := range strings.Fields("linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 freebsd/amd64 freebsd/arm64 windows/amd64 windows/arm64") {
		build.Default.GOOS, build.Default.GOARCH, _ = strings.Cut(target, "/") // the importer's context
		pkg, err := importer.ForCompiler(gotoken.NewFileSet(), "source", nil).Import("runtime")
		if err != nil {
			t.Fatalf("%s: %v", target, err)
		}
		for _, field := range []struct {
			of, name string
			want     int64
		}{
			{"m", "p", constant(t, "road_p_*.go", "mP")},
			{"g", "m", constant(t, "road_amd64.go", "offsetGM")},
			{"p", "id", 0},     // wordAt(p) in findsP, and MOVL (DX) in road_amd64.h
			{"p", "status", 4}, // findsP
		} {
			if got := offset(t, pkg, field.of, field.name); got != field.want {
				t.Errorf("%s, %s: the runtime's %s has the field %s at %d, and hakmem takes it to be at %d", runtime.Version(), target, field.of, field.name, got, field.want)
			}
		}
	}
}

// offset returns the offset of a field in a structure of pkg, on the processor of build.Default.
func offset(t *testing.T, pkg *types.Package, structure, field string) int64 {
	t.Helper()
	object := pkg.Scope().Lookup(structure)
	if object == nil {
		t.Fatalf("%s has no type %s", pkg.Path(), structure)
	}
	s, ok := object.Type().Underlying().(*types.Struct)
	if !ok {
		t.Fatalf("%s.%s is no structure", pkg.Path(), structure)
	}
	var fields []*types.Var
	for i := range s.NumFields() {
		if fields = append(fields, s.Field(i)); s.Field(i).Name() == field {
			return types.SizesFor("gc", build.Default.GOARCH).Offsetsof(fields)[i]
		}
	}
	t.Fatalf("%s.%s has no field %s", pkg.Path(), structure, field)
	return 0
}

// constant returns the value of a constant that is declared as a number, in the one file that belongs
// to a build for build.Default's system. road_amd64.go stands for arm64, too: getm needs no offset
// there.
func constant(t *testing.T, pattern, name string) int64 {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	found := []string{}
	for _, file := range files {
		f, err := parser.ParseFile(gotoken.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		if ok, err := build.Default.MatchFile(".", file); err != nil {
			t.Fatal(err)
		} else if !ok && len(files) > 1 {
			continue
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if v, ok := n.(*ast.ValueSpec); ok && v.Names[0].Name == name {
				found = append(found, v.Values[0].(*ast.BasicLit).Value)
			}
			return true
		})
	}
	if len(found) != 1 {
		t.Fatalf("%s/%s: %s is %v in %s", build.Default.GOOS, build.Default.GOARCH, name, found, pattern)
	}
	n, err := strconv.ParseInt(found[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
