package hakmem_test

import (
	"flag"
	"fmt"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/testkit"
)

// Every call of the operating system that the engine makes fails: each place in
// the source by itself, at its first, second and third calls (as far as there are so
// many) and at all of them, then all at random. The places are read from the source, so that a new one
// cannot be forgotten; one that the work here does not reach is a failure.

func init() {
	children["call site refused"] = callSiteRefused
	children["calls refused at random"] = callsRefusedAtRandom
}

var faults = flag.Int("faults", 1, "how often to inject each kind of failure; 10 takes some minutes")

// faultModes are the gates under which calls fail, on top of quick.
var faultModes = map[string][]string{
	"plain":   nil,
	"harden":  {"HAKMEM_HARDEN=1"},
	"guard":   {"HAKMEM_GUARD=1/1"},
	"sampled": {"HAKMEM_GUARD=1/20"},
	"pinned":  {"HAKMEM_GUARD=1/20", "HAKMEM_FRONT_FASTLANE=0"},
	"both":    {"HAKMEM_HARDEN=1", "HAKMEM_GUARD=1/20"},
}

// callSite is a call of an osmem function that can be refused: "purge.go:141".
type callSite struct{ file, line, name string }

func (s callSite) String() string { return s.file + ":" + s.line }

// parsed parses the files of dir that this build has, without tests.
func parsed(t *testing.T, dir string) (files []*ast.File, set *token.FileSet) {
	t.Helper()
	ctx := build.Default
	if raceEnabled {
		ctx.BuildTags = append(ctx.BuildTags, "race")
	}
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(names) == 0 {
		t.Fatal("no sources in", dir, err)
	}
	set = token.NewFileSet()
	for _, name := range names {
		if ok, err := ctx.MatchFile(dir, filepath.Base(name)); err != nil || !ok || strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(set, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	return files, set
}

// refusable returns the functions of osmem whose calls ask Inject: those that
// reach do.
func refusable(t *testing.T) map[string]bool {
	files, _ := parsed(t, filepath.Join("internal", "osmem"))
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

// callSites returns every place in hakmem that calls such a function.
func callSites(t *testing.T) (sites []callSite) {
	counted := refusable(t)
	for _, dir := range []string{".", filepath.Join("internal", "heap")} {
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

// here returns the place in hakmem that called osmem. It is asked by Inject's
// function.
func here() string {
	var pcs [32]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	for {
		f, more := frames.Next()
		if strings.HasPrefix(f.Function, "github.com/hakmem/hakmem/internal/heap.") {
			return filepath.Base(f.File) + ":" + strconv.Itoa(f.Line)
		}
		if !more {
			return "elsewhere"
		}
	}
}

// injector refuses calls. Of two refused discards one leaves the memory
// decommitted, as it may happen where that is done in two steps.
type injector struct {
	sync.Mutex
	calls, refused map[string]int // by place
	decommit       int
}

// begin makes refuse decide; calls come from many goroutines.
func (in *injector) begin(refuse func(op osmem.Op, site string, nth int) bool) {
	in.calls, in.refused = map[string]int{}, map[string]int{}
	osmem.Inject(func(op osmem.Op) error {
		site := here()
		in.Lock()
		defer in.Unlock()
		in.calls[site]++
		if !refuse(op, site, in.calls[site]) {
			return nil
		}
		in.refused[site]++
		err := fmt.Errorf("%w: %v at %s", osmem.ErrInjected, op, site)
		if op == osmem.OpDiscard {
			if in.decommit++; in.decommit%2 == 0 {
				err = fmt.Errorf("%w: %w", err, osmem.ErrDecommitted)
			}
		}
		return err
	})
}

// end ends it and wants each place that refused to be told by Err and every
// refusal to be counted.
func (in *injector) end(failedBefore uint64) error {
	osmem.Inject(nil)
	hakmem.Trim() // waits for a tick that is still at work
	in.Lock()
	refused := maps.Clone(in.refused)
	in.Unlock() // hakmem's locks come before this one
	text, total := fmt.Sprint(hakmem.Err()), 0
	for site, n := range refused {
		total += n
		if !strings.Contains(text, " at "+site) {
			return fmt.Errorf("refused at %s, which Err() does not tell: %s", site, text)
		}
	}
	s := readStats()
	if s.SystemCalls.Failed-failedBefore < uint64(total) {
		return fmt.Errorf("%d calls refused, %d counted", total, s.SystemCalls.Failed-failedBefore)
	}
	if total > 0 && (len(s.Errors) == 0 || len(s.Errors) > 40) {
		return fmt.Errorf("%d calls refused, Stats has %d errors", total, len(s.Errors))
	}
	return nil
}

// busy is the stress under which calls fail: goroutines with blocks of every
// kind, Heaps, Arenas, Realloc and sites (work), sparse slabs, Trim and ReadStats,
// while the scavenger is as quick as it can be.
func busy(seed uint64) error {
	var wg sync.WaitGroup
	errs := make(chan any, 8)
	tolerate := func(do func() error) {
		wg.Go(func() {
			v := testkit.PanicOf(func() { failIf(do()) })
			if _, ok := v.(*hakmem.OutOfMemoryError); v != nil && !ok {
				errs <- v
			}
		})
	}
	for g := range uint64(2) {
		tolerate(func() error { _, err := work(seed*10+g, 12<<20, 2000); return err })
	}
	tolerate(func() error { return arenas(seed) })
	tolerate(func() error { return sparse(seed) })
	tolerate(func() error {
		for range 6 {
			hakmem.Trim()
			readStats()
		}
		return nil
	})
	wg.Wait()
	select {
	case v := <-errs:
		return fmt.Errorf("panic: %v", v)
	default:
		return nil
	}
}

// arenas fills Arenas, some beyond what is to be had, and looks at what they hold.
func arenas(seed uint64) (err error) {
	r := rand.New(rand.NewPCG(seed, 4))
	a := hakmem.NewArena()
	defer a.Close()
	for range 4 {
		var blocks []block
		v := testkit.PanicOf(func() {
			for held := uintptr(0); held < 4<<20; {
				b := block{size: uintptr(1 + r.UintN(200_000)), key: uint64(held)}
				b.p = a.Alloc(b.size, 1<<r.UintN(13))
				fill(b.p, b.size, b.key)
				blocks = append(blocks, b)
				held += b.size
			}
		})
		if _, ok := v.(*hakmem.OutOfMemoryError); v != nil && !ok {
			return fmt.Errorf("Arena: panic: %v", v)
		}
		for _, b := range blocks {
			if !intact(b.p, b.size, b.key) {
				return fmt.Errorf("Arena: %v is damaged", b)
			}
		}
		a.Reset()
	}
	return nil
}

// sparse keeps one of 40 blocks, so that there are holes to return, twice.
func sparse(seed uint64) error {
	for round := range uint64(2) {
		var kept []block
		for _, size := range []uintptr{200, 1000, 3000} {
			var blocks []block
			for i := range 1<<20/size + 40 {
				b := block{hakmem.Malloc(size), size, seed + round + uint64(i)}
				if b.p != nil {
					fill(b.p, b.size, b.key)
					blocks = append(blocks, b)
				}
			}
			for i, b := range blocks {
				if i%40 == 0 {
					kept = append(kept, b)
					continue
				}
				hakmem.Free(b.p)
			}
		}
		hakmem.Trim()
		for _, b := range kept {
			if !intact(b.p, b.size, b.key) {
				return fmt.Errorf("in a sparse slab: %v is damaged", b)
			}
			hakmem.Free(b.p)
		}
	}
	return nil
}

// givenBack is nothingLost, and wants no page to be in use or warm after Trim. The
// scavenger may be at work beside it; it gives back what Trim finds in its hands.
func givenBack() error {
	if err := comesBack(); err != nil {
		return err
	}
	if err := nothingLost(); err != nil {
		return err
	}
	hakmem.Trim()
	s := readStats()
	if s.Scavenger.Used != 0 || s.Scavenger.Warm != 0 || s.Superslabs != 0 || s.Spans.WarmBlocks != 0 || s.Guard.Live != 0 {
		return fmt.Errorf("all freed, trimmed: %d bytes used, %d warm, %d superslabs, %d warm spans, %d guarded blocks",
			s.Scavenger.Used, s.Scavenger.Warm, s.Superslabs, s.Spans.WarmBlocks, s.Guard.Live)
	}
	for _, x := range s.Sites {
		if x.LiveBlocks != 0 || x.LiveBytes != 0 {
			return fmt.Errorf("all freed: site %q has %d bytes in %d blocks", x.Name, x.LiveBytes, x.LiveBlocks)
		}
	}
	return nil
}

// callSiteRefused: arg is "file:line function nth", nth = 0 for all calls. Where the
// call mends a discard that failed, discards fail as well.
func callSiteRefused(arg string) error {
	var site, function string
	var nth int
	if _, err := fmt.Sscanf(arg, "%s %s %d", &site, &function, &nth); err != nil {
		return err
	}
	mends := function == "Commit" && strings.HasPrefix(site, "purge.go:")
	failed := osmem.Failed()
	var in injector
	in.begin(func(op osmem.Op, at string, n int) bool {
		if at == site {
			return nth == 0 || n == nth
		}
		return mends && op == osmem.OpDiscard
	})
	reached := func() bool { in.Lock(); defer in.Unlock(); return in.refused[site] > 0 }
	for seed := range uint64(8) { // what depends on the scavenger's moments needs patience
		if err := busy(seed); err != nil {
			return err
		}
		if reached() || nth > 1 { // some are made once only
			break
		}
	}
	if !reached() {
		if nth > 1 {
			fmt.Println(notReached)
			return nil
		}
		in.Lock()
		defer in.Unlock()
		return fmt.Errorf("%s is called %d times: let busy reach it", site, in.calls[site])
	}
	if err := in.end(failed); err != nil {
		return err
	}
	return givenBack()
}

// TestEveryCallSiteRefused: whichever call fails, no block is lost or changed, no
// lock is left held, Err tells, the next try is possible, and in the end all is
// given back.
func TestEveryCallSiteRefused(t *testing.T) {
	sites := callSites(t)
	if len(sites) < 12 { // as of writing 18
		t.Fatalf("only %d calls of osmem were found: %v", len(sites), sites)
	}
	nths := []int{0, 1, 2, 3}
	if testing.Short() || raceEnabled {
		nths = nths[:1]
	}
	for n := 2; n <= *faults; n++ {
		nths = append(nths, 2*n+1)
	}
	refusals := 0
	for _, s := range sites {
		if s.name == "ReserveTracked" && !raceEnabled {
			t.Errorf("%v reserves in Go's heap without the race detector", s)
		}
		for _, nth := range nths {
			mode := "plain"
			if s.file == "guard.go" {
				mode = "guard"
			}
			t.Logf("%v %s, call %d, %s", s, s.name, nth, mode)
			if !inChild(t, "call site refused", fmt.Sprintf("%v %s %d", s, s.name, nth), append(faultModes[mode], quick...)...) {
				t.Logf("it is not called %d times", nth)
				break
			}
			refusals++
		}
	}
	t.Logf("%d places, %d cases in which a call was refused", len(sites), refusals)
}

// callsRefusedAtRandom: arg is the seed, which also says how many.
func callsRefusedAtRandom(arg string) error {
	seed, err := strconv.ParseUint(arg, 10, 64)
	if err != nil {
		return err
	}
	r := rand.New(rand.NewPCG(seed, 5))
	odds := []uint{3, 10, 40}[seed%3]
	failed := osmem.Failed()
	var in injector
	in.begin(func(osmem.Op, string, int) bool { return r.UintN(odds) == 0 })
	for i := range uint64(2) {
		if err := busy(seed*100 + i); err != nil {
			return err
		}
	}
	osmem.Inject(nil)
	hakmem.Trim() // waits for a tick that is still at work
	in.Lock()
	refused := 0
	for _, n := range in.refused {
		refused += n
	}
	in.Unlock()
	if refused == 0 {
		return fmt.Errorf("nothing was refused of %v", in.calls)
	}
	if err := reported(); err != nil {
		return err
	}
	if n := osmem.Failed() - failed; n < uint64(refused) {
		return fmt.Errorf("%d calls refused, %d counted", refused, n)
	}
	return givenBack()
}

// TestCallsRefusedAtRandom: any call may fail, also while blocks are hardened and
// guarded.
func TestCallsRefusedAtRandom(t *testing.T) {
	seeds := 3 * *faults
	if testing.Short() || raceEnabled {
		seeds = 1
	}
	for mode, gates := range faultModes {
		for seed := range seeds {
			t.Logf("%s, seed %d", mode, seed)
			inChild(t, "calls refused at random", strconv.Itoa(seed), append(gates, quick...)...)
		}
	}
}
