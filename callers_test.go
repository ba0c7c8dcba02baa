package hakmem_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/engine"
	"github.com/hakmem/hakmem/internal/learn"
	"github.com/hakmem/hakmem/internal/policy"
	"github.com/hakmem/hakmem/internal/testkit"
	"github.com/hakmem/hakmem/internal/testkit/workout"
)

// Tests of HAKMEM_SITES=pc: blocks without a site get their caller as one.

// here returns the function and the line that call it, as the name of a site has them.
func here() string {
	var pcs [1]uintptr
	runtime.Callers(2, pcs[:])
	f, _ := runtime.CallersFrames(pcs[:]).Next()
	return f.Function + ":" + strconv.Itoa(f.Line)
}

// siteNamed returns the statistics of the site with a name.
func siteNamed(name string) (hakmem.SiteStats, error) {
	var names []string
	for _, s := range workout.ReadStats().Sites {
		if s.Name == name {
			return s, nil
		}
		names = append(names, s.Name)
	}
	return hakmem.SiteStats{}, fmt.Errorf("no site %s, only\n%s", name, strings.Join(names, "\n"))
}

// callsGeneric, callsInlined and the methods of caller call hakmem each in another way.
//
//go:noinline
func callsGeneric[T any]() (unsafe.Pointer, string) { return unsafe.Pointer(hakmem.New[T]()), here() }

func callsInlined(size uintptr) (unsafe.Pointer, string) { return hakmem.Malloc(size), here() }

type caller struct{ heap *hakmem.Heap }

func (c caller) ofHeap(size uintptr) (unsafe.Pointer, string) { return c.heap.Malloc(size), here() }

func (c *caller) ofPointer(size uintptr) (unsafe.Pointer, string) {
	return hakmem.AlignedAlloc(512, size), here()
}

var _ = testkit.Child("callers", callers)

// callers looks for each function that allocates whether the block has its caller as its site: with every block
// drawn, and with settings that take other paths.
func callers(string) error {
	h := hakmem.NewHeap()
	c := caller{h}
	for _, x := range []struct {
		what  string
		alloc func() (unsafe.Pointer, string)
	}{
		{"Malloc", func() (unsafe.Pointer, string) { return hakmem.Malloc(100), here() }},
		{"Malloc of 5000 bytes", func() (unsafe.Pointer, string) { return hakmem.Malloc(5000), here() }},
		{"Malloc of 100 KiB", func() (unsafe.Pointer, string) { return hakmem.Malloc(100 << 10), here() }},
		{"Malloc of 3 MiB", func() (unsafe.Pointer, string) { return hakmem.Malloc(3 << 20), here() }},
		{"Calloc", func() (unsafe.Pointer, string) { return hakmem.Calloc(10, 10), here() }},
		{"Calloc of 100 KiB", func() (unsafe.Pointer, string) { return hakmem.Calloc(100, 1024), here() }},
		{"AlignedAlloc", func() (unsafe.Pointer, string) { return hakmem.AlignedAlloc(8, 100), here() }},
		{"AlignedAlloc to 64", func() (unsafe.Pointer, string) { return hakmem.AlignedAlloc(64, 100), here() }},
		{"AlignedAlloc to 1 MiB", func() (unsafe.Pointer, string) { return hakmem.AlignedAlloc(1<<20, 100), here() }},
		{"Realloc of nothing", func() (unsafe.Pointer, string) { return hakmem.Realloc(nil, 100), here() }},
		{"Alloc", func() (unsafe.Pointer, string) { return unsafe.Pointer(unsafe.SliceData(hakmem.Alloc(100))), here() }},
		{"AllocZeroed", func() (unsafe.Pointer, string) {
			return unsafe.Pointer(unsafe.SliceData(hakmem.AllocZeroed(100))), here()
		}},
		{"New", func() (unsafe.Pointer, string) { return unsafe.Pointer(hakmem.New[[9]int64]()), here() }},
		{"MakeSlice", func() (unsafe.Pointer, string) {
			return unsafe.Pointer(unsafe.SliceData(hakmem.MakeSlice[int32](3, 30))), here()
		}},
		{"Heap.Malloc", func() (unsafe.Pointer, string) { return h.Malloc(100), here() }},
		{"Heap.Malloc of 100 KiB", func() (unsafe.Pointer, string) { return h.Malloc(100 << 10), here() }},
		{"Heap.Calloc", func() (unsafe.Pointer, string) { return h.Calloc(10, 10), here() }},
		{"Heap.Calloc of 100 KiB", func() (unsafe.Pointer, string) { return h.Calloc(100, 1024), here() }},
		{"Heap.Realloc of nothing", func() (unsafe.Pointer, string) { return h.Realloc(nil, 100), here() }},
		{"a generic function", callsGeneric[[5]int64]},
		{"an inlined function", func() (unsafe.Pointer, string) { return callsInlined(100) }},
		{"a closure in a closure", func() (p unsafe.Pointer, at string) {
			func() { p, at = hakmem.Malloc(100), here() }()
			return p, at
		}},
		{"a method value", func() (unsafe.Pointer, string) { f := h.Malloc; return f(100), here() }},
		{"a function value", func() (unsafe.Pointer, string) { f := hakmem.Malloc; return f(100), here() }},
		{"a method", func() (unsafe.Pointer, string) { return c.ofHeap(100) }},
		{"a method of a pointer", func() (unsafe.Pointer, string) { return c.ofPointer(100) }},
		{"a goroutine", func() (p unsafe.Pointer, at string) {
			var wg sync.WaitGroup
			wg.Go(func() { p, at = hakmem.Malloc(100), here() })
			wg.Wait()
			return p, at
		}},
	} {
		for range 2 { // the first finds out who calls, the second knows it
			p, name := x.alloc()
			s, err := siteNamed(name)
			if err != nil {
				return fmt.Errorf("%s: %w", x.what, err)
			}
			size := uint64(hakmem.UsableSize(p))
			if s.LiveBlocks != 1 || s.LiveBytes < size || s.LiveBytes != size && !engine.Gated() && policy.AtStart().Guard == 0 || s.OneIn != 1 {
				return fmt.Errorf("%s: %+v, want one block of %d bytes", x.what, s, size)
			}
			q := hakmem.Realloc(p, 2*hakmem.UsableSize(p)+1)
			if s, _ = siteNamed(name); s.LiveBlocks != 1 {
				return fmt.Errorf("%s: %+v after a Realloc", x.what, s)
			}
			hakmem.Free(q)
			if s, _ = siteNamed(name); s.LiveBlocks != 0 || s.LiveBytes != 0 {
				return fmt.Errorf("%s: %+v after the free", x.what, s)
			}
			if m, instead := workout.MisuseOf(func() { hakmem.Free(q) }); m == nil {
				return fmt.Errorf("%s: a double free: %s", x.what, instead)
			}
		}
	}
	for _, s := range workout.ReadStats().Sites {
		if strings.HasPrefix(s.Name, "github.com/hakmem/hakmem.") || strings.Contains(s.Name, "/internal/engine.") {
			return fmt.Errorf("hakmem calls itself: %s", s.Name)
		}
	}
	named := hakmem.RegisterSite("named")
	hakmem.Free(hakmem.MallocAt(named, 100))
	if s, err := siteNamed("named"); err != nil || s.OneIn != 1 {
		return fmt.Errorf("a site with a name: %+v, %w", s, err)
	}
	h.Close()
	return workout.NothingLost()
}

// needCallers skips a test where no block has a site.
func needCallers(t *testing.T) {
	t.Helper()
	if !engine.CheckLive {
		t.Skip("skipped: hakmem_nolive: blocks have no sites")
	}
}

func TestCallers(t *testing.T) {
	needCallers(t)
	for _, settings := range [][]string{nil, {"HAKMEM_FAST_SECTION=0"}, {"HAKMEM_HARDEN=1"}, {"HAKMEM_GUARD=1"}, {"HAKMEM_GUARD=1/3"}, {"HAKMEM_MODE=minimal"}} {
		testkit.InChild(t, "callers", "", append(settings, "HAKMEM_SITES=pc/1")...)
	}
}

var _ = testkit.Child("one caller in", oneCallerIn)

// oneCallerIn allocates by calls that count in different ways. Of each, one in N has its caller as its site, and
// guarded blocks are drawn as if there were no sites.
func oneCallerIn(string) error {
	n, guard := float64(policy.AtStart().Sites.Rate()), float64(policy.AtStart().Guard)
	h := hakmem.NewHeap()
	named := hakmem.RegisterSite("named")
	all := 0
	for _, x := range []struct {
		what  string
		times int
		alloc func() (unsafe.Pointer, string)
	}{
		{"Malloc", 100_000, func() (unsafe.Pointer, string) { return hakmem.Malloc(16), "Malloc" }},
		{"Heap.Malloc", 100_000, func() (unsafe.Pointer, string) { return h.Malloc(32), "Heap.Malloc" }},
		{"AlignedAlloc", 20_000, func() (unsafe.Pointer, string) { return hakmem.AlignedAlloc(64, 64), "" }},
		{"Calloc of 40 KiB", 2000, func() (unsafe.Pointer, string) { return hakmem.Calloc(10, 4096), "" }},
		{"MallocAt", 20_000, func() (unsafe.Pointer, string) { return hakmem.MallocAt(named, 16), "" }},
	} {
		before := sampledBlocks()
		blocks := make([]unsafe.Pointer, 0, x.times)
		for range x.times {
			p, _ := x.alloc()
			if p == nil {
				return hakmem.Err()
			}
			blocks = append(blocks, p)
		}
		all += x.times
		got, want := float64(sampledBlocks()-before), float64(x.times)/n
		if x.what == "MallocAt" {
			want = 0
		}
		if sigma := math.Sqrt(want * (1 - 1/n)); math.Abs(got-want) > 5*sigma {
			return fmt.Errorf("%s: %.0f of %d blocks have their caller, want %.0f with a deviation of %.0f", x.what, got, x.times, want, sigma)
		}
		for _, p := range blocks {
			hakmem.Free(p)
		}
	}
	for _, s := range workout.ReadStats().Sites {
		if want := map[bool]float64{true: 1, false: n}[s.Name == "named"]; float64(s.OneIn) != want {
			return fmt.Errorf("%+v, want one in %.0f", s, want)
		}
	}
	if left := sampledBlocks(); left != 0 {
		return fmt.Errorf("%d blocks have their caller after all were freed", left)
	}
	if guard > 0 {
		s := workout.ReadStats().Guard
		got, want := float64(s.Samples+s.Skipped), float64(all)/guard
		if sigma := math.Sqrt(want * (1 - 1/guard)); math.Abs(got-want) > 5*sigma {
			return fmt.Errorf("%.0f of %d blocks are guarded or should be, want %.0f with a deviation of %.0f", got, all, want, sigma)
		}
	}
	h.Close()
	return workout.NothingLost()
}

// sampledBlocks returns how many live blocks have their caller as their site.
func sampledBlocks() (n uint64) {
	for _, s := range workout.ReadStats().Sites {
		if s.Name != "named" {
			n += s.LiveBlocks
		}
	}
	return n
}

func TestOneCallerIn(t *testing.T) {
	needCallers(t)
	for _, settings := range [][]string{
		{"HAKMEM_SITES=pc"}, {"HAKMEM_SITES=pc/3"}, {"HAKMEM_SITES=pc/7", "HAKMEM_FAST_SECTION=0"},
		{"HAKMEM_SITES=pc/20", "HAKMEM_GUARD=1/50"}, {"HAKMEM_SITES=pc/1", "HAKMEM_GUARD=1/50"}, {"HAKMEM_SITES=pc/10", "HAKMEM_HARDEN=1"},
	} {
		testkit.InChild(t, "one caller in", "", settings...)
	}
}

//go:noinline
func cacheEntry() unsafe.Pointer { return hakmem.Malloc(64) }

//go:noinline
func requestBuffer() (unsafe.Pointer, string) { return hakmem.Malloc(64), here() }

var _ = testkit.Child("lanes of callers", lanesOfCallers)

// lanesOfCallers lets one caller's blocks live on among those of another that are freed soon: within seconds of
// the clock the first has its lane.
func lanesOfCallers(string) error {
	clock := &testkit.Clock{}
	clock.Skip(time.Hour)
	engine.SetClock(clock)
	var live []unsafe.Pointer
	for range 50 {
		var soon []unsafe.Pointer
		for i := range 1000 {
			if i%20 == 7 {
				live = append(live, cacheEntry())
			} else {
				p, _ := requestBuffer()
				soon = append(soon, p)
			}
		}
		clock.Advance(100 * time.Millisecond)
		for _, p := range soon {
			hakmem.Free(p)
		}
	}
	var long []string
	for _, s := range workout.ReadStats().Sites {
		if _, now := hakmem.ReadSiteRule(s.Site); now == hakmem.LaneLong {
			long = append(long, s.Name)
		}
	}
	if workout.ReadStats().Lanes.Samples == 0 && len(long) == 0 {
		return nil // with hakmem_nolearn nothing is learnt
	}
	if len(long) != 1 || !strings.Contains(long[0], ".cacheEntry:") {
		return fmt.Errorf("the callers in the long lane are %q", long)
	}
	slabs := workout.ReadStats().Lanes.Slabs
	for range 2000 {
		live = append(live, cacheEntry())
	}
	if n := workout.ReadStats().Lanes.Slabs; n <= slabs {
		return fmt.Errorf("%d slabs in the long lane, %d before 2000 blocks of it", n, slabs)
	}
	for _, p := range live {
		hakmem.Free(p)
	}
	return workout.NothingLost()
}

var _ = testkit.Child("rules of callers", rulesOfCallers)

// rulesOfCallers imports rules for callers by function and line: for one that is a site already, and for one that
// becomes one later.
func rulesOfCallers(string) error {
	var file bytes.Buffer
	if err := hakmem.ExportPolicy(&file); err != nil {
		return err
	}
	s, err := learn.ReadSnapshot(&file)
	if err != nil {
		return err
	}
	// Both calls are in this line. The first tells the name, the second meets the rule.
	for i, name := 0, ""; i < 2; i++ {
		if p, at := hakmem.Malloc(1), here(); i == 0 {
			name = at
			hakmem.Free(p)
		} else if r, _ := siteNamed(at); at != name {
			return fmt.Errorf("one line is %s and %s", name, at)
		} else if set, now := hakmem.ReadSiteRule(r.Site); set.HoldScale != 3 || now != hakmem.LaneLong {
			return fmt.Errorf("%s: the rule is %+v, now %v", at, set, now)
		}
		s.Sites = []learn.SiteRule{{Name: name, Long: true, Samples: 100, SiteSettings: learn.SiteSettings{HoldScale: 3}}}
		file.Reset()
		if err := s.Write(&file, nil); err != nil {
			return err
		}
		if err := hakmem.ImportPolicy(&file); err != nil {
			return err
		}
	}
	// A caller that was not met when the rule was imported.
	where := func(met bool) (p unsafe.Pointer, at string) {
		if met {
			p = hakmem.Malloc(1)
		}
		return p, here()
	}
	_, at := where(false)
	function, line, _ := strings.Cut(at, ".func")
	suffix, number, _ := strings.Cut(line, ":")
	n, _ := strconv.Atoi(number)
	name := function + ".func" + suffix + ":" + strconv.Itoa(n-2)
	s.Sites = []learn.SiteRule{{Name: name, NoLane: true, SiteSettings: learn.SiteSettings{Class: 500}}}
	file.Reset()
	if err := errors.Join(s.Write(&file, nil), hakmem.ImportPolicy(&file)); err != nil {
		return err
	}
	if _, err := siteNamed(name); err == nil {
		return fmt.Errorf("%s is a site before it has allocated", name)
	}
	p, _ := where(true)
	if n := hakmem.UsableSize(p); n != hakmem.GoodSize(500) {
		return fmt.Errorf("%s has a block of %d bytes", name, n)
	}
	return nil
}

func TestLanesOfCallers(t *testing.T) {
	needCallers(t)
	classSizes(t)
	testkit.InChild(t, "lanes of callers", "", "HAKMEM_SITES=pc/1")
	testkit.InChild(t, "rules of callers", "", "HAKMEM_SITES=pc/1")
}

var _ = testkit.Child("no site left", noSiteLeft)

// noSiteLeft takes all sites. Blocks of callers that come later have none.
func noSiteLeft(string) error {
	for i := 0; hakmem.RegisterSite(strconv.Itoa(i)) != 0; i++ {
	}
	before := workout.ReadStats().Sites
	for range 3 {
		p, name := callsInlined(100)
		if s, err := siteNamed(name); p == nil || err == nil {
			return fmt.Errorf("a block at %p: %+v", p, s)
		}
		for b := range hakmem.LiveBlocks() {
			if b.Site != 0 {
				return fmt.Errorf("%+v", b)
			}
		}
		hakmem.Free(p)
	}
	if n := len(workout.ReadStats().Sites); n != len(before) {
		return fmt.Errorf("%d sites, %d before", n, len(before))
	}
	return workout.NothingLost()
}

func TestNoSiteLeft(t *testing.T) {
	needCallers(t)
	testkit.InChild(t, "no site left", "", "HAKMEM_SITES=pc/1")
}

var _ = testkit.Child("callers at once", callersAtOnce)

// callersAtOnce allocates and frees from several goroutines, whose blocks are freed by others.
func callersAtOnce(string) error {
	var wg sync.WaitGroup
	blocks := make(chan unsafe.Pointer, 100)
	rounds := 20_000
	if testkit.Race {
		rounds = 2000
	}
	for range 3 {
		wg.Go(func() {
			for i := range rounds {
				p, _ := callsInlined(uintptr(i%3) * 700)
				blocks <- p
				p, _ = requestBuffer()
				hakmem.Free(p)
				hakmem.Free(<-blocks)
			}
		})
	}
	wg.Wait()
	for _, s := range workout.ReadStats().Sites {
		if s.LiveBlocks != 0 || s.LiveBytes != 0 {
			return fmt.Errorf("%+v after all was freed", s)
		}
	}
	return workout.NothingLost()
}

func TestCallersAtOnce(t *testing.T) {
	needCallers(t)
	for _, sites := range []string{"pc/1", "pc/5"} {
		testkit.InChild(t, "callers at once", "", "HAKMEM_SITES="+sites)
	}
}

// BenchmarkCallers is what the setting costs: a pair of an allocation and a free, with and without a Heap. Run it with
// HAKMEM_SITES=names, pc and pc/1.
func BenchmarkCallers(b *testing.B) {
	b.Run("Malloc", func(b *testing.B) {
		for range b.N {
			hakmem.Free(hakmem.Malloc(64))
		}
	})
	b.Run("Heap", func(b *testing.B) {
		h := hakmem.NewHeap()
		defer h.Close()
		for range b.N {
			h.Free(h.Malloc(64))
		}
	})
}
