package refused_test

import (
	"flag"
	"fmt"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/testkit"
	"github.com/hakmem/hakmem/internal/testkit/workout"
)

// These tests make every call of the operating system fail that the engine makes. Each call site in
// the source fails by itself: at its first, second and third call (as far as there are so many),
// and at all of its calls. Then calls fail at random everywhere. The sites are read from the
// source, so that a new one cannot be forgotten. A site that the load here does not reach is a
// failure.

// root is the directory of the public package's sources.
var root = filepath.Join("..", "..")

var faults = flag.Int("faults", 1, "how often to inject each kind of failure; 10 takes some minutes")

// faultModes are the settings under which calls fail, in addition to quick.
var faultModes = map[string][]string{
	"plain":   nil,
	"harden":  {"HAKMEM_HARDEN=1"},
	"guard":   {"HAKMEM_GUARD=1/1"},
	"sampled": {"HAKMEM_GUARD=1/20"},
	"pinned":  {"HAKMEM_GUARD=1/20", "HAKMEM_FAST_SECTION=0"},
	"touched": {"HAKMEM_TOUCH=populate"},
	"both":    {"HAKMEM_HARDEN=1", "HAKMEM_GUARD=1/20"},
}

// callSite is a call of an osmem function that can be refused. Its position is written
// "purge.go:141".
type callSite struct{ file, line, name string }

func (s callSite) String() string { return s.file + ":" + s.line }

// parsed parses those files of dir that belong to this build, without tests.
func parsed(t *testing.T, dir string) (files []*ast.File, set *token.FileSet) {
	t.Helper()
	ctx := build.Default
	if testkit.Race {
		ctx.BuildTags = append(ctx.BuildTags, "race")
	}
	if testkit.Tracked {
		ctx.BuildTags = append(ctx.BuildTags, "hakmem_racetrack")
	}
	p, err := ctx.ImportDir(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	set = token.NewFileSet()
	for _, name := range p.GoFiles {
		f, err := parser.ParseFile(set, filepath.Join(dir, name), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	return files, set
}

// refusable returns the functions of osmem whose system calls Inject can refuse: those that reach
// the function do.
func refusable(t *testing.T) map[string]bool {
	files, _ := parsed(t, filepath.Join(root, "internal", "osmem"))
	calls := map[string][]string{}
	for _, f := range files {
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil {
				ast.Inspect(fn, func(n ast.Node) bool {
					if c, ok := n.(*ast.CallExpr); ok {
						if id, ok := c.Fun.(*ast.Ident); ok {
							calls[fn.Name.Name] = append(calls[fn.Name.Name], id.Name)
						}
					}
					return true
				})
			}
		}
	}
	reaches := map[string]bool{"do": true}
	for grown := true; grown; {
		grown = false
		for fn, callees := range calls {
			if !reaches[fn] && slices.ContainsFunc(callees, func(c string) bool { return reaches[c] }) {
				reaches[fn], grown = true, true
			}
		}
	}
	return reaches
}

// callSites returns every place in hakmem that calls a refusable function.
func callSites(t *testing.T) (sites []callSite) {
	counted := refusable(t)
	for _, dir := range []string{root, filepath.Join(root, "internal", "engine")} {
		files, set := parsed(t, dir)
		for _, f := range files {
			ast.Inspect(f, func(n ast.Node) bool {
				s, ok := n.(*ast.SelectorExpr)
				if !ok || !counted[s.Sel.Name] {
					return true
				}
				if pkg, ok := s.X.(*ast.Ident); ok && pkg.Name == "osmem" {
					p := set.Position(s.Sel.Pos())
					sites = append(sites, callSite{filepath.Base(p.Filename), strconv.Itoa(p.Line), s.Sel.Name})
				}
				return true
			})
		}
	}
	return sites
}

// accounted ends the refusals. Err must name each place where a call was refused that it is to tell
// of, and every such refusal must be counted.
func accounted(calls *testkit.Refusals, failedBefore uint64) error {
	osmem.Inject(nil)
	hakmem.Trim() // waits for a tick that is still at work
	text := fmt.Sprint(hakmem.Err())
	total := 0
	for site, n := range calls.Counting() {
		total += n
		if !strings.Contains(text, " at "+site) {
			return fmt.Errorf("refused at %s, which Err() does not tell: %s", site, text)
		}
	}
	s := workout.ReadStats()
	if s.SystemCalls.Failed-failedBefore < uint64(total) {
		return fmt.Errorf("%d calls refused, %d counted", total, s.SystemCalls.Failed-failedBefore)
	}
	if total > 0 && (len(s.Errors) == 0 || len(s.Errors) > 40) {
		return fmt.Errorf("%d calls refused, Stats has %d errors", total, len(s.Errors))
	}
	return nil
}

// seldom are calls that busy need not reach, and where they are refused instead.
var seldom = map[string]string{
	"away.go Uncommit":          "internal/engine TestUncommitRefused",
	"away.go Commit":            "internal/engine TestUncommitRefused",
	"collapse.go Collapse":      "slabs that stay as they are for a minute: internal/engine TestCollapseRefused",
	"frontpool.go Uncommit":     "internal/engine TestFrontsInParts",
	"move.go Move":              "builds with -asan and hakmem_racetrack copy",
	"move.go Discard":           "where the system moves memory nothing is copied: internal/engine move_test.go",
	"pagetree.go Discard":       "a tree that doubles; zeroes are written instead",
	"reserve.go Reserve":        "TestReserveRefusedOnce",
	"reserve.go ReserveTracked": "with the tag hakmem_racetrack",
	"reserve.go ReserveAt":      "with -race -tags hakmem_racetrack, -asan and -msan the system chooses the place",
	"touch.go HugePages":        "where the region asks for huge pages, a block does not: internal/engine TestTouchRefused",
	"space.go ReserveAt":        "a second try, or a region that doubles: TestReserveRefusedOnce",
}

var _ = testkit.Child("call site refused", callSiteRefused)

// callSiteRefused refuses calls of one site. arg is "file:line function nth"; nth = 0 means all
// calls. If the site is one that repairs a failed discard, discards fail as well.
func callSiteRefused(arg string) error {
	var site, function string
	var nth int
	if _, err := fmt.Sscanf(arg, "%s %s %d", &site, &function, &nth); err != nil {
		return err
	}
	mends := function == "Commit" && strings.HasPrefix(site, "refused.go:")
	failed := osmem.Failed()
	calls := testkit.RefuseAt(here, func(c testkit.Call) bool {
		if c.Place == site {
			return nth == 0 || c.Nth == nth
		}
		return mends && c.Op == osmem.OpDiscard
	})
	reached := func() bool { return calls.Refused()[site] > 0 }
	for seed := range uint64(8) { // what depends on the scavenger's timing needs several attempts
		if err := busy(seed); err != nil {
			return err
		}
		if reached() || nth > 1 { // some calls are made only once
			break
		}
	}
	if !reached() {
		if file, _, _ := strings.Cut(site, ":"); nth > 1 || seldom[file+" "+function] != "" {
			fmt.Println(testkit.NotReached)
			return nil
		}
		return fmt.Errorf("%s is called %d times: let busy reach it", site, calls.Calls()[site])
	}
	if err := accounted(calls, failed); err != nil {
		return err
	}
	return workout.GivenBack()
}

// TestEveryCallSiteRefused checks that, whichever call fails, no block is lost or changed, no lock
// stays held, Err reports the refusal, the next attempt can succeed, and in the end all memory is
// given back.
func TestEveryCallSiteRefused(t *testing.T) {
	sites := callSites(t)
	if len(sites) < 12 { // there were 18 when this was written
		t.Fatalf("only %d calls of osmem were found: %v", len(sites), sites)
	}
	nths := []int{0, 1, 2, 3}
	if testing.Short() || testkit.Race {
		nths = nths[:1]
	}
	for n := 2; n <= *faults; n++ {
		nths = append(nths, 2*n+1)
	}
	refusals := 0
	for _, s := range sites {
		if mode := osmem.HugePageMode(); s.file == "hugepages.go" && (testkit.Race || mode != "always" && mode != "madvise") {
			t.Logf("%v: not called under the race detector, or where the system makes no huge pages (mode %q)", s, mode)
			continue
		}
		for _, nth := range nths {
			mode := "plain"
			switch s.file {
			case "guard.go":
				mode = "guard"
			case "touch.go":
				mode = "touched"
			}
			t.Logf("%v %s, call %d, %s", s, s.name, nth, mode)
			if !testkit.InChild(t, "call site refused", fmt.Sprintf("%v %s %d", s, s.name, nth), append(faultModes[mode], quick...)...) {
				t.Logf("it is not called %d times", nth)
				break
			}
			refusals++
		}
	}
	t.Logf("%d places, %d cases in which a call was refused", len(sites), refusals)
}

var _ = testkit.Child("calls refused at random", callsRefusedAtRandom)

var _ = testkit.Child("calls refused where charged", func(arg string) error {
	osmem.AssumeStrictCommit()
	return callsRefusedAtRandom(arg)
})

// callsRefusedAtRandom refuses random calls. arg is the seed, which also decides how many.
func callsRefusedAtRandom(arg string) error {
	seed, err := strconv.ParseUint(arg, 10, 64)
	if err != nil {
		return err
	}
	r := rand.New(rand.NewPCG(seed, 5))
	odds := []uint{3, 10, 40}[seed%3]
	failed := osmem.Failed()
	calls := testkit.RefuseAt(here, func(testkit.Call) bool { return r.UintN(odds) == 0 })
	for i := range uint64(2) {
		if err := busy(seed*100 + i); err != nil {
			return err
		}
	}
	if calls.Total() == 0 {
		return fmt.Errorf("nothing was refused of %v", calls.Calls())
	}
	counting := 0
	for _, n := range calls.Counting() {
		counting += n
	}
	if err := reportedOf(calls); err != nil {
		return err
	}
	if n := osmem.Failed() - failed; n < uint64(counting) {
		return fmt.Errorf("%d calls refused, %d counted", counting, n)
	}
	return workout.GivenBack()
}

// TestCallsRefusedAtRandom lets any call fail, also while blocks are hardened and guarded.
func TestCallsRefusedAtRandom(t *testing.T) { refuseAtRandom(t, "calls refused at random") }

// TestCallsRefusedWhereCharged is the same where the system charges for what is committed: there fronts
// are committed in parts, and Trim uncommits.
func TestCallsRefusedWhereCharged(t *testing.T) { refuseAtRandom(t, "calls refused where charged") }

func refuseAtRandom(t *testing.T, child string) {
	seeds := 3 * *faults
	if testing.Short() || testkit.Race {
		seeds = 1
	}
	for mode, settings := range faultModes {
		for seed := range seeds {
			t.Logf("%s, seed %d", mode, seed)
			testkit.InChild(t, child, strconv.Itoa(seed), append(settings, quick...)...)
		}
	}
}
