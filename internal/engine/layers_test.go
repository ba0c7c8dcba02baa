package engine

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/build"
	"go/importer"
	"go/parser"
	gotoken "go/token"
	"go/types"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// floors is the order of the package's files, from the ground up; the package comment (doc.go) says
// what each floor is. A file may use what the files before it declare.
var floors = []struct{ name, files string }{
	{"ground", "doc.go names.go units.go ptr.go survived.go live_on.go live_off.go learn_on.go learn_off.go list.go pin_runtime.go pin_none.go clock.go frames.go frames_none.go"},
	{"region", "space.go region.go page.go race_on.go race_off.go msan_on.go msan_off.go track_none.go track_race.go modes.go site.go"},
	{"pages", "usage.go holdscale.go keep.go lifetimes.go siterule.go rules.go chunk.go sitetable.go pagetree.go grow.go away.go"},
	{"blocks", "finding.go live.go partialset.go superslab.go residency.go refused.go hugepages.go probe.go touch.go purge.go holetime.go batch.go slab.go sizes.go"},
	{"fronts", "share.go room.go front.go magazine.go large.go large_cache.go hardened.go frontpool.go layout.go reserve.go heaps.go enter.go wmax.go ace.go ebb.go lane.go"},
	{"scavenger", "giveback.go harvest.go drain.go budget.go largeuse.go batchwindow.go latency.go peaks.go learner.go collapse.go idle.go sweep.go punch.go refill.go scavenger.go reclaim.go"},
	{"calls", "spill.go heapfront.go callers.go sample.go profile.go guard.go large_alloc.go harden.go alloc.go move.go fastlive.go pinned.go road_pinned.go road_p.go road_p_unix.go road_p_freebsd.go road_p_windows.go road_amd64.go road_arm64.go road_none.go road.go"},
	{"whole", "limits.go trim.go watch.go record.go abandon.go walk.go address.go resident.go regionmap.go stats.go learnt.go checker.go invariants_fronts.go invariants_region.go invariants.go"},
}

// TestLayers: each file is on a floor, and none uses what a file above it declares. All declarations
// count: functions, methods, types, fields, variables and constants. The test looks at the package
// as several builds see it.
func TestLayers(t *testing.T) {
	level := map[string]int{}
	for _, f := range floors {
		for _, file := range strings.Fields(f.files) {
			level[file] = len(level)
			if _, err := os.Stat(file); err != nil {
				t.Errorf("floors has a file that there is not: %v", err)
			}
		}
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if _, known := level[file]; !known && !strings.HasSuffix(file, "_test.go") {
			t.Errorf("%s is on no floor: add it to floors", file)
		}
	}
	for _, tag := range []string{"", "race", "race hakmem_racetrack", "hakmem_pin", "hakmem_nopin", "hakmem_nolive", "hakmem_nolearn", "hakmem_check"} {
		for a, names := range arrows(t, tag) {
			if level[a.from] < level[a.to] {
				t.Errorf("tag %q: %s goes up to %s, for %s: move them, or pass a value down", tag, a.from, a.to, strings.Join(slices.Sorted(maps.Keys(names)), " "))
			}
		}
	}
}

// TestWhoKnowsTheLayout: the files that know how a front is laid out are those that front.go lists.
func TestWhoKnowsTheLayout(t *testing.T) {
	source, err := os.ReadFile("front.go")
	if err != nil {
		t.Fatal(err)
	}
	_, list, begins := strings.Cut(string(source), "// Who knows this layout")
	list, _, ends := strings.Cut(list, "// All other files")
	if !begins || !ends {
		t.Fatal("front.go has no list of who knows its layout")
	}
	layout := strings.Fields("topsOffset leasesOffset missesOffset refillsOffset flushesOffset headOffset tinyOffset midOffset quarantineOffset " +
		"ownerOffset guessMissOffset sampleOffset profileOffset TinyMag MidMag frontSkew trapSlot top loadTop storeTop last sentinel magSize")
	knows := map[string]bool{"road_amd64.h": true, "road_arm64.go": true, "heap.go": true} // not Go, not of this system, not of this package
	for a, names := range arrows(t, "") {
		if a.to == "front.go" && slices.ContainsFunc(layout, func(name string) bool { return names[name] }) {
			knows[a.from] = true
		}
	}
	listed := map[string]bool{}
	for _, name := range regexp.MustCompile(`\w+\.(go|h)\b`).FindAllString(list, -1) {
		listed[name] = true
	}
	delete(knows, "road_amd64.go") // names words of a front for checkers that do not read the assembly
	if !maps.Equal(knows, listed) {
		t.Errorf("%v know the layout; front.go lists %v", slices.Sorted(maps.Keys(knows)), slices.Sorted(maps.Keys(listed)))
	}
}

// arrow says that the file from uses what the file to declares.
type arrow struct{ from, to string }

// fset has the positions of all that these tests parse and import.
var fset = gotoken.NewFileSet()

// imported is the importer of what this package imports. It reads the compiler's descriptions of
// the packages in an untagged build.
var imported = sync.OnceValues(func() (types.Importer, error) {
	list := exec.Command("go", "list", "-export", "-deps", "-json=ImportPath,Export", ".")
	list.Stderr = os.Stderr
	out, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("go list -export: %w", err)
	}
	exports := map[string]string{}
	for d := json.NewDecoder(bytes.NewReader(out)); d.More(); {
		var p struct{ ImportPath, Export string }
		if err := d.Decode(&p); err != nil {
			return nil, err
		}
		exports[p.ImportPath] = p.Export
	}
	return importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) {
		if exports[path] == "" {
			return nil, fmt.Errorf("no export data of %s", path)
		}
		return os.Open(exports[path])
	}), nil
})

// arrowsOf has what arrows returned, by tag.
var arrowsOf = map[string]map[arrow]map[string]bool{}

// arrows returns which file uses which other file, and the names that it uses, in a build with the
// given tag; "" is a build without one.
func arrows(t *testing.T, tag string) map[arrow]map[string]bool {
	t.Helper()
	if arrowsOf[tag] != nil {
		return arrowsOf[tag]
	}
	packages, err := imported()
	switch {
	case errors.Is(err, exec.ErrNotFound):
		t.Skipf("skipped: %v", err)
	case err != nil:
		t.Fatal(err)
	}
	context := build.Default
	context.BuildTags = append(slices.Clip(context.BuildTags), strings.Fields(tag)...)
	p, err := context.ImportDir(".", 0)
	if err != nil {
		t.Fatal(err)
	}
	var files []*ast.File
	for _, name := range p.GoFiles {
		f, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}}
	config := types.Config{
		Importer: packages,
		// Names that another package has only in builds with this tag are missing from its export
		// data.
		Error: func(error) {},
	}
	pkg, _ := config.Check(p.ImportPath, fset, files, info)
	found := map[arrow]map[string]bool{}
	for id, object := range info.Uses {
		if object.Pkg() != pkg || !object.Pos().IsValid() {
			continue
		}
		a := arrow{filepath.Base(fset.Position(id.Pos()).Filename), filepath.Base(fset.Position(object.Pos()).Filename)}
		if a.from == a.to {
			continue
		}
		if found[a] == nil {
			found[a] = map[string]bool{}
		}
		found[a][object.Name()] = true
	}
	if len(found) < 200 {
		t.Fatalf("tag %q: only %d arrows found: the package was not understood", tag, len(found))
	}
	arrowsOf[tag] = found
	return found
}
