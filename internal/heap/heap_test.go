package heap

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// grown commits n bytes of the region, for tests that need pages to exist.
func grown(t *testing.T, n uintptr) {
	if !Ready() {
		t.Fatal(Survived())
	}
	region.mu.Lock()
	defer region.mu.Unlock()
	if have := region.committed.Load(); have < n {
		if err := grow(n - have); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPartialSetAgainstModel uses a class number that no size has.
func TestPartialSetAgainstModel(t *testing.T) {
	const class = setClasses - 2
	Ready()
	grown(t, region.first+512<<20) // 8192 pages: two levels of summary are crossed
	first := int(region.first >> pageShift)
	pages := int(region.committed.Load() >> pageShift)
	in := map[int]bool{}
	r := rand.New(rand.NewPCG(5, 6))
	for step := range 30_000 {
		p := first + r.IntN(pages-first)
		if r.IntN(3) > 0 {
			p = first + (p-first)&^63*17%(pages-first) // crowd some words, leave others empty
		}
		if in[p] {
			setRemove(class, uintptr(p))
			delete(in, p)
		} else if len(in) < 100 {
			setAdd(class, uintptr(p))
			in[p] = true
		}
		from := r.IntN(pages)
		want, wantOK := pages, false
		for q := range in {
			if q >= from && q < want {
				want, wantOK = q, true
			}
		}
		got, ok := setNext(class, uintptr(from))
		if ok != wantOK || ok && int(got) != want {
			t.Fatalf("step %d: setNext(%d) = %d, %v; want %d, %v of %v", step, from, got, ok, want, wantOK, in)
		}
	}
	for p := range in {
		setRemove(class, uintptr(p))
	}
	if p, ok := setNext(class, 0); ok {
		t.Fatalf("the emptied set still has %d", p)
	}
}

// TestPartialSetBeyondATiB: of the highest level one word has a TiB of pages, and a
// region is a TiB and the live map.
func TestPartialSetBeyondATiB(t *testing.T) {
	const class, page = setClasses - 2, uintptr(1) << 24
	withClock(t) // nobody else looks at what is committed
	if !Ready() || region.size>>pageShift < page+64 {
		t.Skipf("skipped: a region of %d GiB", region.size>>30)
	}
	froms := []uintptr{0, 1 << 20, page - 1, page, page + 3}
	for _, p := range append(froms[1:], page+4) { // what would be committed by then
		unit := uintptr(osmem.PageSize())
		if err := osmem.Commit((setLevels[0]+p>>6*setClasses*8)&^(unit-1), unit); err != nil {
			t.Fatal(err)
		}
	}
	was := region.committed.Load()
	region.committed.Store((page + 64) << pageShift)
	defer region.committed.Store(was)
	setAdd(class, page+3)
	for _, from := range froms {
		if got, ok := setNext(class, from); !ok || got != page+3 {
			t.Errorf("setNext(%d) = %d, %v; want %d", from, got, ok, page+3)
		}
	}
	if got, ok := setNext(class, page+4); ok {
		t.Errorf("setNext(%d) = %d, and nothing is there", page+4, got)
	}
	setRemove(class, page+3)
	if got, ok := setNext(class, 0); ok {
		t.Errorf("the emptied set still has %d", got)
	}
}

// spin burns time without a safe point: nosplit code has none.
//
//go:nosplit
//go:noinline
func spin(n int, started *atomic.Bool) (x uint64) {
	started.Store(true)
	for i := range n {
		x = x*6364136223846793005 + uint64(i)
	}
	return x
}

// TestGraceWaits: grace must not return while a pinned section or a nosplit
// section that was running when it was called still runs. Not a promise of Go,
// so checked for each version.
func TestGraceWaits(t *testing.T) {
	if !canPin {
		t.Skip("skipped: without pinning fronts are behind locks and need no grace")
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	const steps = 20_000_000 // some 20 ms: longer than any grace without a section
	sections := map[string]func(started, ended *atomic.Bool){
		"pinned": func(started, ended *atomic.Bool) {
			procPin()
			spin(steps, started)
			ended.Store(true)
			procUnpin()
		},
		"nosplit": func(started, ended *atomic.Bool) { nosplitSection(steps, started, ended) },
	}
	if raceEnabled {
		t.Log("skipped: the nosplit section, into which -race puts calls; such builds pin")
		delete(sections, "nosplit")
	}
	for name, section := range sections {
		// Five times the section must have been running when grace was called: a look
		// before is the control that waiting was needed.
		running := 0
		for try := 0; running < 5 && try < 100; try++ {
			var started, ended atomic.Bool
			var wg sync.WaitGroup
			wg.Go(func() { section(&started, &ended) })
			for !started.Load() {
				runtime.Gosched()
			}
			drainMu.Lock()
			early := ended.Load()
			grace()
			drainMu.Unlock()
			if !ended.Load() {
				t.Errorf("%s: grace returned while the section was running", name)
			}
			wg.Wait()
			if !early {
				running++
			}
		}
		if running < 5 {
			t.Errorf("%s: only %d times was a section running when grace was called: this test shows nothing any more", name, running)
		}
	}
}

//go:nosplit
//go:noinline
func nosplitSection(n int, started, ended *atomic.Bool) {
	spin(n, started)
	ended.Store(true)
}

// front returns a Heap's front for a test.
func front(t *testing.T) uintptr {
	f := NewHeapFront()
	if f == 0 {
		t.Fatal(Survived())
	}
	return f
}

func TestPopsAscend(t *testing.T) {
	f := front(t)
	defer CloseHeapFront(f)
	c := sizeclass.Of(48)
	var got []uintptr
	for range firstBatch {
		got = append(got, Malloc(f, 48))
	}
	if !slices.IsSorted(got) {
		t.Errorf("a refilled magazine pops %#x", got)
	}
	for _, p := range got {
		if bad := Free(f, p); bad.Kind != OK {
			t.Fatalf("%+v", bad)
		}
	}
	if n := held(f, c); n != firstBatch {
		t.Errorf("the magazine holds %d blocks, want %d", n, firstBatch)
	}
}

// TestLateDoubleFree builds by hand what two overlapping frees leave behind:
// two copies of a block in magazines, in each order of leaving them.
func TestLateDoubleFree(t *testing.T) {
	if !checkLive {
		t.Skip("skipped: hakmem_nolive does not look at the live state")
	}
	c := sizeclass.Of(64)
	copies := func(t *testing.T) (p uintptr) {
		p = Malloc(0, 64)
		setLive(p, c, 0) // freed: this copy is the first, the caller makes the second
		return p
	}
	late := func(t *testing.T, found uintptr, p uintptr, before uint64) {
		t.Helper()
		if found != p || lateFrees.Load() != before+1 {
			t.Errorf("found %#x (%d late frees), want %#x", found, lateFrees.Load()-before, p)
		}
	}
	t.Run("both flushed", func(t *testing.T) {
		p, before := copies(t), lateFrees.Load()
		if x := flush([]uintptr{p}, c); x != 0 {
			t.Fatalf("the first copy was refused: %#x", x)
		}
		late(t, flush([]uintptr{p}, c), p, before)
	})
	t.Run("both in one flush", func(t *testing.T) {
		p, before := copies(t), lateFrees.Load()
		late(t, flush([]uintptr{p, p}, c), p, before)
	})
	t.Run("one handed out again, one flushed", func(t *testing.T) {
		p, before := copies(t), lateFrees.Load()
		setLive(p, c, c)
		late(t, flush([]uintptr{p}, c), p, before)
		if bad := Free(0, p); bad.Kind != OK {
			t.Errorf("the holder's block is gone: %+v", bad)
		}
	})
	t.Run("one flushed, one handed out: found at the carve", func(t *testing.T) {
		f := front(t)
		defer CloseHeapFront(f)
		p := Malloc(f, 64)
		s := *lease(f, c)
		setLive(p, c, 0)
		flush([]uintptr{p}, c)
		setLive(p, c, c)
		before := lateFrees.Load()
		var all []uintptr
		for *lease(f, c) == s && len(all) < int(sizeclass.Classes[c].Blocks)*2 {
			q := Malloc(f, 64)
			if q == p {
				t.Fatal("a live block was handed out again")
			}
			all = append(all, q)
		}
		late(t, lateFound.Load(), p, before)
		for _, q := range append(all, p) {
			if bad := Free(f, q); bad.Kind != OK {
				t.Fatalf("%+v", bad)
			}
		}
	})
}

// TestEmptySlabsChangeClass: when all blocks of one class are freed, another
// class of the same slab size uses the pages, and no new superslab is made.
func TestEmptySlabsChangeClass(t *testing.T) {
	f := front(t)
	defer CloseHeapFront(f)
	const bytes = 64 << 20
	fill := func(size uintptr) {
		var all []uintptr
		for n := uintptr(0); n < bytes; n += size {
			p := Malloc(f, size)
			if p == 0 {
				t.Fatal(Survived())
			}
			all = append(all, p)
		}
		for _, p := range all {
			Free(f, p)
		}
	}
	fill(512)
	before, used := superslabs.Load(), region.committed.Load()
	for _, size := range []uintptr{960, 128, 2000, 32768} {
		fill(size)
		// A few slabs stay leased or partly in magazines with each class.
		if n := superslabs.Load(); n > before+before/4+2 || region.committed.Load() > used+used/4 {
			t.Errorf("after %d-byte blocks: %d superslabs, %d at first; %d bytes committed, %d at first",
				size, n, before, region.committed.Load(), used)
		}
	}
}

// TestHintOfNewSlabStays: who found that a page is no slab, and takes its hint
// away after it has become one and EMPTY, leaves that slab to be found.
func TestHintOfNewSlabStays(t *testing.T) {
	if !Ready() {
		t.Fatal(Survived())
	}
	c := sizeclass.Of(512)
	s := acquire(c)
	for !s.allFree(&sizeclass.Classes[c]) { // one of another test's
		defer retire(s)
		s = acquire(c)
	}
	retire(s)
	unmarkNone(s) // by who looked before that
	if !isMarkedEmpty(s.page()) {
		t.Error("the hint of an EMPTY slab is gone")
	}
	if _, ok := claimEmpty(s, 0); !ok {
		t.Fatal("the EMPTY slab cannot be claimed")
	}
	giveBackPages(s.page(), 0)
	markEmpty(s.page()) // late, by who gave the last block back
	if _, ok := claimEmpty(s, 0); ok || isMarkedEmpty(s.page()) {
		t.Error("the hint of a page that is no slab stays")
	}
}

// TestTrimReturnsMemory: after everything is freed, Trim leaves no superslab in
// use but those that leases hold, and the pages read as zero again.
func TestTrimReturnsMemory(t *testing.T) {
	var all []uintptr
	for range 100_000 {
		p := Malloc(0, 400)
		*word(p) = ^uintptr(0)
		all = append(all, p)
	}
	big := Malloc(0, 5<<20)
	*u8(big + 3<<20) = 1
	for _, p := range all {
		Free(0, p)
	}
	Free(0, big)
	Trim()
	for c := region.first >> superShift; c < region.committed.Load()>>superShift; c++ {
		s := super(c)
		if s.free&s.dirty != 0 {
			t.Fatalf("superslab %d: free pages %#x are still dirty", c, s.free&s.dirty)
		}
	}
	p, zero := newSpan(0, 5<<20, 1, 0, 0)
	if zero != allZeroes || slices.ContainsFunc(unsafe.Slice((*byte)(ptr(p)), 5<<20), func(b byte) bool { return b != 0 }) {
		t.Errorf("the span after Trim: zero = %v", zero)
	}
	Free(0, p)
}

// TestZeroDirty: of a span of which a part was used before, MallocZero clears that
// part, and leaves the superslabs alone that still read as zero.
func TestZeroDirty(t *testing.T) {
	const used, size = 3*superSize + 5*pageSize, 12*superSize + 3*pageSize + 100
	Trim()
	p := Malloc(0, size) // is where the next one of its size will be
	if !Resize(p, used) || !Resize(p, sizeclass.MaxMid+1) {
		t.Fatal("the span did not become smaller")
	}
	Trim()
	if !Resize(p, used) { // only so much has memory
		t.Fatal("the span did not grow")
	}
	b := unsafe.Slice((*byte)(ptr(p)), used)
	for i := range b {
		b[i] = 0xFF
	}
	// Not as a whole: it would go to the whale cache.
	if !Resize(p, sizeclass.MaxMid+1) {
		t.Fatal("the span did not become smaller")
	}
	Free(0, p)
	reclaimSkip.Store(0)
	if !reclaim(0) { // to the page tree, with its memory
		t.Fatal("nothing was reclaimed")
	}
	before, _ := osmem.ProcessFaults()
	q := MallocZero(0, size)
	faults, _ := osmem.ProcessFaults()
	if q != p {
		t.Fatalf("the span came back as %#x, not %#x: nothing was tested", q, p)
	}
	if n := faults - before; n*4096 > used+superSize*3 {
		t.Errorf("%d page faults to clear %d bytes of %d", n, used, size)
	}
	if i := slices.IndexFunc(unsafe.Slice((*byte)(ptr(q)), size), func(b byte) bool { return b != 0 }); i >= 0 {
		t.Errorf("byte %d is not 0", i)
	}
	Free(0, q)
	Trim()
}

// TestNoFrontWhileWatched: a slow path that met the trap before watching began
// does not give its P a front afterwards.
func TestNoFrontWhileWatched(t *testing.T) {
	Watch(WatchCalls, true)
	defer Watch(WatchCalls, false)
	if !installFront(pinned) {
		t.Fatal("no front")
	}
	for pid := range Fronts {
		if Fronts[pid] != trapFront {
			t.Errorf("P %d has a front", pid)
		}
	}
	p := Malloc(0, 100)
	if _, tok := enter(0); tok < 0 {
		t.Errorf("enter gave token %d, want a locked front's", tok)
	} else {
		leave(tok)
	}
	if bad := Free(0, p); bad.Kind != OK {
		t.Errorf("Free: %+v", bad)
	}
}
