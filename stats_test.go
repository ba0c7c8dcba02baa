package hakmem_test

import (
	"runtime"
	"testing"
	"unsafe"

	"github.com/hakmem/hakmem/internal/testkit/workout"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/asan"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/sizeclass"
	"github.com/hakmem/hakmem/internal/testkit"
)

// ReadStats is exact when nothing allocates or frees. These tests compare it with books of their
// own.

// books records what a test has alive.
type books struct {
	classes            map[uint64]uint64 // number of blocks by the size of their class
	bytes, blocks      uint64
	larges, spanBytes  uint64
	siteBytes, sited   uint64
	allocated, spanned uint64 // ever, not only now
}

func (k *books) add(p unsafe.Pointer, sited bool) {
	n := uint64(hakmem.UsableSize(p))
	k.bytes += n
	k.blocks++
	k.allocated++
	if n > sizeclass.MaxMid {
		k.larges++
		k.spanned++
		k.spanBytes += n
	} else {
		k.classes[n]++
	}
	if sited {
		k.sited++
		k.siteBytes += n
	}
}

func (k *books) remove(p unsafe.Pointer, sited bool) {
	n := uint64(hakmem.UsableSize(p))
	k.bytes -= n
	k.blocks--
	if n > sizeclass.MaxMid {
		k.larges--
		k.spanBytes -= n
	} else {
		k.classes[n]--
	}
	if sited {
		k.sited--
		k.siteBytes -= n
	}
}

// mustBalance checks that the change from base to now is what the books say.
func (k *books) mustBalance(t *testing.T, when string, base *hakmem.Stats, site hakmem.Site) {
	t.Helper()
	now := workout.ReadStats()
	if got, n := now.Live-base.Live, now.LiveBlocks-base.LiveBlocks; got != k.bytes || n != k.blocks {
		t.Errorf("%s: live %d bytes in %d blocks, the books have %d in %d", when, got, n, k.bytes, k.blocks)
	}
	if got, n := now.Large.LiveBytes-base.Large.LiveBytes, now.Large.LiveBlocks-base.Large.LiveBlocks; got != k.spanBytes || n != k.larges {
		t.Errorf("%s: %d bytes in %d spans, the books have %d in %d", when, got, n, k.spanBytes, k.larges)
	}
	if now.Large.Allocs-now.Large.Frees != now.Large.LiveBlocks+now.Large.CachedBlocks {
		t.Errorf("%s: spans: %d made, %d freed, %d live, %d warm", when, now.Large.Allocs, now.Large.Frees, now.Large.LiveBlocks, now.Large.CachedBlocks)
	}
	if made := now.Large.Allocs - base.Large.Allocs; made > k.spanned {
		t.Errorf("%s: %d spans made of free pages, the books have %d allocations", when, made, k.spanned)
	}
	for i, c := range now.Classes {
		if got := c.Live - base.Classes[i].Live; got != k.classes[c.Size] {
			t.Errorf("%s: class %d: %d live, the books have %d", when, c.Size, got, k.classes[c.Size])
		}
	}
	x := now.Sites[site-1]
	if x.Site != site || x.LiveBytes != k.siteBytes || x.LiveBlocks != k.sited {
		t.Errorf("%s: site %+v, the books have %d bytes in %d blocks", when, x, k.siteBytes, k.sited)
	}
	mustAddUp(t, when, &now)
}

// mustAddUp checks the equations that must hold within one result of ReadStats.
func mustAddUp(t *testing.T, when string, s *hakmem.Stats) {
	t.Helper()
	var live, blocks, inMagazines, slabs uint64
	for i, c := range s.Classes {
		k := &sizeclass.Classes[sizeclass.Of(mem.Bytes(c.Size))]
		if c.Size != uint64(k.Size) {
			t.Fatalf("%s: class %d has size %d, want %d", when, i, c.Size, k.Size)
		}
		if c.Live+c.Free+c.InMagazines != c.Slabs*uint64(k.Blocks) {
			t.Errorf("%s: class %d: %d live + %d free + %d in magazines is not %d slabs of %d", when, c.Size, c.Live, c.Free, c.InMagazines, c.Slabs, k.Blocks)
		}
		live += c.Live * c.Size
		blocks += c.Live
		inMagazines += c.InMagazines * c.Size
		slabs += c.Slabs * uint64(sizeclass.PageSize<<k.Order)
	}
	if live+s.Large.LiveBytes != s.Live || blocks+s.Large.LiveBlocks != s.LiveBlocks || inMagazines != s.InMagazines {
		t.Errorf("%s: classes and spans have %d bytes in %d blocks, %d in magazines; the totals are %d, %d, %d", when,
			live+s.Large.LiveBytes, blocks+s.Large.LiveBlocks, inMagazines, s.Live, s.LiveBlocks, s.InMagazines)
	}
	if s.Committed > s.Reserved || slabs+s.Large.LiveBytes > s.Committed {
		t.Errorf("%s: reserved %d, committed %d, in slabs %d and spans %d", when, s.Reserved, s.Committed, slabs, s.Large.LiveBytes)
	}
	if uint64(s.Superslabs)*2<<20 > s.Committed || slabs > uint64(s.Superslabs)*2<<20 {
		t.Errorf("%s: %d superslabs, %d bytes of slabs, %d committed", when, s.Superslabs, slabs, s.Committed)
	}
}

func TestStatsBalance(t *testing.T) {
	classSizes(t)
	quiet(t)
	hakmem.Trim()
	site := hakmem.RegisterSite("TestStatsBalance")
	h := hakmem.NewHeap()
	base := workout.ReadStats()
	k := books{classes: map[uint64]uint64{}}
	r := newRand(t, 23)
	type held struct {
		p     unsafe.Pointer
		sited bool
	}
	var live []held
	for step := range 30_000 {
		if len(live) > 0 && r.UintN(5) < 2 {
			i := r.IntN(len(live))
			x := live[i]
			live[i] = live[len(live)-1]
			live = live[:len(live)-1]
			k.remove(x.p, x.sited)
			if step%2 == 0 {
				hakmem.Free(x.p)
			} else {
				h.Free(x.p)
			}
			continue
		}
		size := testkit.RandomSize(r) / 2
		var x held
		switch step % 5 {
		case 0:
			x = held{hakmem.MallocAt(site, size), true}
		case 1:
			x.p = h.Malloc(size)
		case 2:
			x.p = hakmem.Calloc(1, size)
		case 3:
			x.p = hakmem.Realloc(hakmem.Malloc(size/3), size)
		default:
			x.p = hakmem.Malloc(size)
		}
		k.add(x.p, x.sited)
		live = append(live, x)
		if step%5000 == 0 {
			k.mustBalance(t, "on the way", &base, site)
		}
	}
	k.mustBalance(t, "allocated", &base, site)
	hakmem.Trim()
	k.mustBalance(t, "trimmed", &base, site)
	for i, x := range live {
		if i%2 == 0 {
			k.remove(x.p, x.sited)
			hakmem.Free(x.p)
		}
	}
	k.mustBalance(t, "half freed", &base, site)
	h.Close()
	hakmem.Trim()
	k.mustBalance(t, "half freed, Heap closed, trimmed", &base, site)
	if s := workout.ReadStats(); s.InMagazines != 0 || s.Fronts != 0 {
		t.Errorf("after Close and Trim: %d bytes in magazines, %d fronts", s.InMagazines, s.Fronts)
	}
	for i, x := range live {
		if i%2 == 1 {
			k.remove(x.p, x.sited)
			hakmem.Free(x.p)
		}
	}
	k.mustBalance(t, "freed", &base, site)
}

// TestStatsHeapMagazines checks that Trim does not reach into a Heap, and that Close gives its
// magazines back.
func TestStatsHeapMagazines(t *testing.T) {
	quiet(t)
	noFronts(t)
	h := hakmem.NewHeap()
	h.Free(h.Malloc(64))
	hakmem.Trim()
	s := workout.ReadStats()
	if s.InMagazines == 0 || s.InMagazines%64 != 0 || s.Fronts != 1 {
		t.Errorf("a Heap that freed a block of 64 bytes: %d bytes in magazines, %d fronts", s.InMagazines, s.Fronts)
	}
	mustAddUp(t, "with an open Heap", &s)
	h.Close()
	if s := workout.ReadStats(); s.InMagazines != 0 || s.Fronts != 0 {
		t.Errorf("after Close: %d bytes in magazines, %d fronts", s.InMagazines, s.Fronts)
	}
}

// TestStatsAfterTrim checks that when nothing is live nothing is held, except metadata.
func TestStatsAfterTrim(t *testing.T) {
	quiet(t)
	hakmem.Trim()
	base := workout.ReadStats()
	var ps []unsafe.Pointer
	for _, size := range boundarySizes(1 << 20) {
		for range 20 {
			ps = append(ps, hakmem.Malloc(size))
		}
	}
	for _, p := range ps {
		hakmem.Free(p)
	}
	hakmem.Trim()
	s := workout.ReadStats()
	if s.InMagazines != 0 || s.Live != base.Live {
		t.Errorf("after Trim: %d bytes in magazines, live %d, before %d", s.InMagazines, s.Live, base.Live)
	}
	for i, c := range s.Classes {
		if c.Live == 0 && c.Slabs != 0 {
			t.Errorf("after Trim: class %d has %d slabs and nothing live", c.Size, c.Slabs)
		}
		if c.Slabs > base.Classes[i].Slabs {
			t.Errorf("after Trim: class %d has %d slabs, before %d", c.Size, c.Slabs, base.Classes[i].Slabs)
		}
	}
	if s.Superslabs > base.Superslabs {
		t.Errorf("after Trim: %d superslabs, before %d", s.Superslabs, base.Superslabs)
	}
	if s.SystemCalls.Decommit == base.SystemCalls.Decommit {
		t.Error("Trim of megabytes of free memory made no decommit call")
	}
	hakmem.Trim()
	if again := workout.ReadStats(); again.SystemCalls != s.SystemCalls {
		t.Errorf("a second Trim made system calls: %+v, before %+v", again.SystemCalls, s.SystemCalls)
	}
}

// stageSum is the number of times that a magazine was filled, added up over all places it can be
// filled from.
func stageSum(s *hakmem.Stats) uint64 {
	return s.Stages.OwnLease + s.Stages.Empty + s.Stages.Partial + s.Stages.CrossClass + s.Stages.Superslab
}

// TestStatsCounters follows the counters of one class through known work, with a Heap, because
// nothing else uses its front.
func TestStatsCounters(t *testing.T) {
	classSizes(t)
	quiet(t)
	for _, size := range []uintptr{16, 48, 1024, 5000, 32 << 10} {
		hakmem.Trim()
		h := hakmem.NewHeap()
		i := 0
		s := workout.ReadStats()
		for s.Classes[i].Size < uint64(size) {
			i++
		}
		blocks := uint64(sizeclass.Classes[sizeclass.Of(mem.Bytes(size))].Blocks)
		delta := func(f func(c *hakmem.ClassStats) uint64) uint64 {
			now := workout.ReadStats()
			return f(&now.Classes[i]) - f(&s.Classes[i])
		}
		misses := func(c *hakmem.ClassStats) uint64 { return c.Misses }
		refills := func(c *hakmem.ClassStats) uint64 { return c.Refills }
		flushes := func(c *hakmem.ClassStats) uint64 { return c.Flushes }
		slabs := func(c *hakmem.ClassStats) uint64 { return c.Slabs }

		p := h.Malloc(size)
		now := workout.ReadStats()
		if m, r, n := delta(misses), delta(refills), delta(slabs); m != 1 || r != 1 || n > 1 {
			t.Errorf("size %d: the first block: %d misses, %d refills, %d slabs, want 1, 1, at most 1", size, m, r, n)
		}
		if got := stageSum(&now) - stageSum(&s); got != 1 {
			t.Errorf("size %d: the first block: stages %+v, before %+v: want one more", size, now.Stages, s.Stages)
		}
		h.Free(p)

		s = workout.ReadStats()
		for range 1000 { // served by the magazine
			h.Free(h.Malloc(size))
		}
		if m, r, f := delta(misses), delta(refills), delta(flushes); m+r+f != 0 {
			t.Errorf("size %d: turns within the magazine: %d misses, %d refills, %d flushes", size, m, r, f)
		}

		s = workout.ReadStats()
		var ps []unsafe.Pointer
		for range 10 * blocks {
			ps = append(ps, h.Malloc(size))
		}
		now = workout.ReadStats()
		m, r, n := delta(misses), delta(refills), delta(slabs)
		// At least 9, because the magazine may begin with a slab's worth of blocks, and no refill
		// brings more than that.
		if m != r || r < 9 || r > 10*blocks || n < 9 || n > 11 {
			t.Errorf("size %d: %d blocks, %d a slab: %d misses, %d refills, %d slabs", size, 10*blocks, blocks, m, r, n)
		}
		if got := stageSum(&now) - stageSum(&s); got != r {
			t.Errorf("size %d: %d refills, stages %+v, before %+v", size, r, now.Stages, s.Stages)
		}
		if delta(flushes) != 0 {
			t.Errorf("size %d: %d flushes while only allocating", size, delta(flushes))
		}
		// The 1 is p, which a Free put into the magazine.
		if hits := delta(func(c *hakmem.ClassStats) uint64 { return c.FrontHits }); hits+m+1 != 10*blocks {
			t.Errorf("size %d: %d hits and %d misses for %d allocations", size, hits, m, 10*blocks)
		}

		s = workout.ReadStats()
		for _, p := range ps {
			h.Free(p)
		}
		if f := delta(flushes); f == 0 || f > 10*blocks {
			t.Errorf("size %d: %d blocks freed: %d flushes", size, 10*blocks, f)
		}
		if delta(misses)+delta(refills) != 0 {
			t.Errorf("size %d: %d misses, %d refills while only freeing", size, delta(misses), delta(refills))
		}
		s = workout.ReadStats()
		h.Close()
		if f := delta(flushes); f != 1 {
			t.Errorf("size %d: Close of a Heap that holds blocks: %d flushes, want 1", size, f)
		}
	}
}

// TestStatsStages makes every stage of the search for a slab happen.
func TestStatsStages(t *testing.T) {
	quiet(t)
	const size = 512 // a slab has 128, two refills and more
	hakmem.Trim()
	h := hakmem.NewHeap()
	defer func() { h.Close() }() // the Heap that h is by then
	base := workout.ReadStats()
	var ps []unsafe.Pointer
	for range 128 * 100 { // 100 slabs, which are more than three superslabs
		ps = append(ps, h.Malloc(size))
	}
	s := workout.ReadStats()
	if s.Stages.Superslab == base.Stages.Superslab || s.Stages.CrossClass == base.Stages.CrossClass || s.Stages.OwnLease == base.Stages.OwnLease {
		t.Errorf("100 slabs: stages %+v, before %+v", s.Stages, base.Stages)
	}
	if s.Superslabs < base.Superslabs+3 {
		t.Errorf("100 slabs: %d superslabs, before %d", s.Superslabs, base.Superslabs)
	}
	// Free one block in each slab, which makes the slabs PARTIAL.
	base = workout.ReadStats()
	for i := 0; i < len(ps); i += 32 {
		h.Free(ps[i])
		ps[i] = nil
	}
	h.Close() // the blocks in its magazines go back to the slabs
	h = hakmem.NewHeap()
	for i := 0; i < len(ps); i += 32 {
		ps[i] = h.Malloc(size)
	}
	s = workout.ReadStats()
	if s.Stages.Partial == base.Stages.Partial || s.Stages.CrossClass != base.Stages.CrossClass || s.Stages.Superslab != base.Stages.Superslab {
		t.Errorf("blocks of partly free slabs: stages %+v, before %+v", s.Stages, base.Stages)
	}
	// Free all blocks without a Trim, which makes the slabs EMPTY.
	for _, p := range ps {
		h.Free(p)
	}
	h.Close()
	h = hakmem.NewHeap()
	base = workout.ReadStats()
	ps = ps[:0]
	for range 128 * 100 {
		ps = append(ps, h.Malloc(size))
	}
	s = workout.ReadStats()
	if s.Stages.Empty == base.Stages.Empty || s.Stages.Superslab != base.Stages.Superslab {
		t.Errorf("EMPTY slabs of the class: stages %+v, before %+v", s.Stages, base.Stages)
	}
	// EMPTY slabs must serve another class before a new superslab does.
	for _, p := range ps {
		h.Free(p)
	}
	h.Close()
	h = hakmem.NewHeap()
	base = workout.ReadStats()
	var others []unsafe.Pointer
	for range 64 * 50 {
		others = append(others, h.Malloc(1024))
	}
	s = workout.ReadStats()
	// (When all slabs of a superslab are taken for the other class, that counts as a new superslab,
	// but it is not new memory.)
	if s.Stages.CrossClass == base.Stages.CrossClass || s.Committed != base.Committed || s.Superslabs > base.Superslabs {
		t.Errorf("EMPTY slabs of another class: %d superslabs, stages %+v; before %d, %+v", s.Superslabs, s.Stages, base.Superslabs, base.Stages)
	}
	for _, p := range others {
		h.Free(p)
	}
}

// TestStatsSteadyStateMakesNoSystemCalls checks that after a warm-up the same work needs no system
// call.
func TestStatsSteadyStateMakesNoSystemCalls(t *testing.T) {
	quiet(t)
	r := newRand(t, 29)
	var held [2000]unsafe.Pointer
	work := func(n int) {
		for range n {
			p := &held[r.IntN(len(held))]
			if *p != nil {
				hakmem.Free(*p)
				*p = nil
			} else {
				*p = hakmem.Malloc(uintptr(r.UintN(2000)))
			}
		}
	}
	work(200_000)
	before := workout.ReadStats()
	work(1_000_000)
	after := workout.ReadStats()
	calls := after.SystemCalls.Reserve + after.SystemCalls.Commit + after.SystemCalls.Decommit -
		before.SystemCalls.Reserve - before.SystemCalls.Commit - before.SystemCalls.Decommit
	if calls > 1 { // the peak of memory in use may still grow by a commit
		t.Errorf("%d memory system calls in 10^6 operations: %+v, before %+v", calls, after.SystemCalls, before.SystemCalls)
	}
	for _, p := range held {
		hakmem.Free(p)
	}
}

// TestStatsOutOfMemoryIsCounted counts the allocations that returned nil.
func TestStatsOutOfMemoryIsCounted(t *testing.T) {
	quiet(t)
	before := workout.ReadStats()
	for range 10 {
		if hakmem.Malloc(absurd) != nil {
			t.Fatal("an absurd size was granted")
		}
	}
	if got := workout.ReadStats().OutOfMemory - before.OutOfMemory; got != 10 {
		t.Errorf("10 failed allocations, %d counted", got)
	}
}

// noGoAllocs checks that f, once warm, allocates nothing on the Go heap.
func noGoAllocs(t *testing.T, what string, f func()) {
	t.Helper()
	for range 10 {
		f()
	}
	if n := testing.AllocsPerRun(200, f); n != 0 {
		t.Errorf("%s: %v Go allocations", what, n)
	}
}

func TestStatsReadWithoutGoAllocations(t *testing.T) {
	quiet(t)
	if err := hakmem.Err(); err != nil {
		t.Skipf("skipped: there are errors to copy: %v", err)
	}
	var s hakmem.Stats
	noGoAllocs(t, "ReadStats", func() { hakmem.ReadStats(&s) })
}

// TestNoGoAllocations checks that after a warm-up no path of the allocator uses the Go heap.
func TestNoGoAllocations(t *testing.T) {
	if asan.On {
		t.Skip("skipped: -asan; there instrumented code allocates from Go's heap")
	}
	if testkit.Race {
		t.Skip("skipped: -race; its instrumentation may allocate")
	}
	h := hakmem.NewHeap()
	defer h.Close()
	a := hakmem.NewArena()
	defer a.Close()
	site := hakmem.RegisterSite("TestNoGoAllocations")
	for _, k := range workout.Kinds {
		size, n := k.Size, int(k.Size)
		var many [300]unsafe.Pointer // enough to overflow every magazine
		for what, f := range map[string]func(){
			"Malloc, Free":         func() { hakmem.Free(hakmem.Malloc(size)) },
			"Calloc":               func() { hakmem.Free(hakmem.Calloc(1, size)) },
			"Realloc":              func() { hakmem.Free(hakmem.Realloc(hakmem.Realloc(hakmem.Malloc(size), 3*size), size)) },
			"AlignedAlloc":         func() { hakmem.Free(hakmem.AlignedAlloc(4096, size)) },
			"AlignedRealloc":       func() { hakmem.Free(hakmem.AlignedRealloc(hakmem.Malloc(size), 3*size, 4096)) },
			"MallocAt":             func() { hakmem.Free(hakmem.Realloc(hakmem.MallocAt(site, size), 2*size)) },
			"Alloc, FreeBytes":     func() { hakmem.FreeBytes(hakmem.Alloc(n)) },
			"AllocZeroed":          func() { hakmem.FreeBytes(hakmem.AllocZeroed(n)) },
			"New, Delete":          func() { hakmem.Delete(hakmem.New[plainStruct]()) },
			"New of a big T":       func() { hakmem.Delete(hakmem.New[[5000]int]()) },
			"MakeSlice, FreeSlice": func() { hakmem.FreeSlice(hakmem.MakeSlice[byte](n, n)) },
			"MakeSliceAt":          func() { hakmem.FreeSlice(hakmem.MakeSliceAt[byte](site, n, n)) },
			"AllocAt":              func() { hakmem.FreeBytes(hakmem.AllocAt(site, n)) },
			"Append, Grow, Clip": func() {
				hakmem.FreeSlice(hakmem.Clip(hakmem.Append(hakmem.Grow(hakmem.Append([]byte(nil), 1), n), 2, 3)))
			},
			"ReallocZeroed":        func() { hakmem.Free(hakmem.ReallocZeroed(hakmem.Malloc(size), size, 3*size)) },
			"AlignedReallocZeroed": func() { hakmem.Free(hakmem.AlignedReallocZeroed(hakmem.Malloc(size), size, 3*size, 4096)) },
			"AlignedCalloc":        func() { hakmem.Free(hakmem.AlignedCalloc(4096, size)) },
			"CallocAt":             func() { hakmem.Free(hakmem.CallocAt(site, 1, size)) },
			"AlignedAllocAt":       func() { hakmem.Free(hakmem.AlignedAllocAt(site, 4096, size)) },
			"Owns, Pointer":        func() { p := hakmem.Malloc(size); hakmem.Owns(hakmem.Pointer(uintptr(p))); hakmem.Free(p) },
			"UsableSize, GoodSize": func() { p := hakmem.Malloc(hakmem.GoodSize(size)); hakmem.UsableSize(p); hakmem.Free(p) },
			"Heap.Malloc, Free":    func() { h.Free(h.Malloc(size)) },
			"Heap.Calloc":          func() { h.Free(h.Calloc(1, size)) },
			"Heap.Realloc":         func() { h.Free(h.Realloc(h.Realloc(h.Malloc(size), 3*size), size)) },
			"Arena.Alloc, Reset":   func() { a.Alloc(size, 8); a.Alloc(10, 64); a.Reset() },
			"NewIn, MakeSliceIn":   func() { hakmem.NewIn[plainStruct](a); hakmem.MakeSliceIn[byte](a, n, n); a.Reset() },
			"RegisterSite":         func() { hakmem.RegisterSite("TestNoGoAllocations") },
			"300 at a time": func() {
				if size > 32<<10 {
					return
				}
				for i := range many {
					many[i] = hakmem.Malloc(size)
				}
				for i := range many {
					hakmem.Free(many[i])
				}
			},
		} {
			noGoAllocs(t, k.Name+": "+what, f)
		}
	}
	runtime.KeepAlive(a)
}

// TestFrontHitsAfterTrim checks that blocks which go back to their slabs are not counted as hits,
// and that earlier hits stay counted.
func TestFrontHitsAfterTrim(t *testing.T) {
	classSizes(t)
	const size = 4096
	of := func() hakmem.ClassStats {
		s := workout.ReadStats()
		for _, c := range s.Classes {
			if c.Size == size {
				return c
			}
		}
		t.Fatalf("no class of %d bytes", size)
		return hakmem.ClassStats{}
	}
	h := hakmem.NewHeap()
	hakmem.Trim()
	was := of()
	p, q := hakmem.Malloc(size), hakmem.Malloc(size)
	g := h.Malloc(size)
	hakmem.Trim()
	h.Free(g)
	h.Close()
	hakmem.Trim()
	now := of()
	if n := now.FrontHits + now.Misses - was.FrontHits - was.Misses; n != 3 || now.FrontHits-was.FrontHits > 1 {
		t.Errorf("3 allocations, and %d hits and %d misses", now.FrontHits-was.FrontHits, now.Misses-was.Misses)
	}
	hakmem.Free(p)
	hakmem.Free(q)
}
