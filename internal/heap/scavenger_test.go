package heap

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hakmem/hakmem/internal/asan"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/policy"
	"github.com/hakmem/hakmem/internal/sizeclass"
	"github.com/hakmem/hakmem/internal/testkit"
)

// TestMain stops the clock: tests look into the engine, and some put other memory
// in the place of its tables. What they leave behind must fit together.
func TestMain(m *testing.M) {
	if asan.On {
		fmt.Println("skipped: -asan; these tests look into where freed blocks go, which hardening changes: the public package's run")
		return
	}
	SetClock(&testkit.Clock{})
	status := m.Run()
	if err := CheckInvariants(); err != nil {
		fmt.Fprintln(os.Stderr, "after all tests:", err)
		status = 1
	}
	os.Exit(status)
}

// closedFronts returns 20 fronts of Heaps that are closed, each with something in its
// magazines' memory.
func closedFronts(t *testing.T) (fronts []uintptr) {
	t.Helper()
	for range 20 {
		f := NewHeapFront()
		for _, size := range []uintptr{16, 1000, 20_000} {
			if bad := Free(f, Malloc(f, size)); bad.Kind != OK {
				t.Fatalf("%+v", bad)
			}
		}
		fronts = append(fronts, f)
	}
	for _, f := range fronts {
		CloseHeapFront(f)
	}
	return fronts
}

// remember returns how many of the fronts have something in their magazines' memory,
// without what lies in a system page with something else.
func remember(fronts []uintptr) (n int) {
	for _, f := range fronts {
		start, size := magazines(f)
		for slot := start; slot < start+size; slot += 8 {
			if *word(slot) != 0 {
				n++
				break
			}
		}
	}
	return n
}

// TestSpareFronts: the memory of closed Heaps' magazines is returned when nobody
// wanted it for a tick, and by Trim; one that is used again keeps it.
func TestSpareFronts(t *testing.T) {
	clock := withClock(t)
	fronts := closedFronts(t)
	if n := remember(fronts); n != len(fronts) {
		t.Fatalf("%d of %d fronts have memory: the test looks in the wrong place", n, len(fronts))
	}
	if clock.Pending() == 0 {
		t.Fatal("Heaps were closed, and no tick will come")
	}
	clock.Advance(tickTime()) // when it is told how many there are
	used := fronts[15:]       // of the pool the last five
	for range 3 {
		for range used {
			NewHeapFront()
		}
		if n := remember(used); n != len(used) {
			t.Errorf("%d of %d fronts in use have memory", n, len(used))
		}
		for _, f := range used {
			CloseHeapFront(f)
		}
		clock.Advance(tickTime())
	}
	if n := remember(fronts[:15]); n != 0 {
		t.Errorf("%d of 15 fronts that nobody wanted have memory", n)
	}
	if n := remember(used); n != len(used) {
		t.Errorf("%d of %d fronts that were used in each tick have memory", n, len(used))
	}
	clock.Advance(time.Hour)
	if n := remember(fronts); n != 0 || clock.Pending() != 0 {
		t.Errorf("%d fronts have memory after an hour, %d timers are set", n, clock.Pending())
	}

	fronts = closedFronts(t)
	Trim()
	if n := remember(fronts); n != 0 {
		t.Errorf("%d fronts have memory after Trim", n)
	}
	clock.Advance(time.Hour)
}

func frontsInUse() int {
	var t Totals
	ReadTotals(&t)
	return t.Fronts
}

// TestSpareFrontsRefused: a front whose memory the system does not take stays as it
// is, one that is left without memory is not used until it has some again, and Err
// tells.
func TestSpareFrontsRefused(t *testing.T) {
	defer osmem.Inject(nil)
	decommitted := fmt.Errorf("%w: %w", osmem.ErrInjected, osmem.ErrDecommitted)
	for _, x := range []struct {
		discard, commit error
		told            string
		lost            bool
	}{
		{osmem.ErrInjected, nil, "return of free pages", false},
		{decommitted, nil, "return of free pages", false},
		{decommitted, osmem.ErrInjected, "commit of pages", true},
	} {
		withClock(t)
		forgetSurvived(t)
		fronts := closedFronts(t)
		pool, used := len(frontPool.free), frontsInUse()
		osmem.Inject(func(op osmem.Op) error {
			switch op {
			case osmem.OpDiscard:
				return x.discard
			case osmem.OpCommit:
				return x.commit
			}
			return nil
		})
		left := returnSpare(true)
		osmem.Inject(nil)
		if left != x.lost || spareMemory() != x.lost {
			t.Errorf("%v, %v: something left: %v, %v, want %v", x.discard, x.commit, left, spareMemory(), x.lost)
		}
		if n := len(frontPool.lost); (n == len(fronts)) != x.lost || len(frontPool.free)+n != pool {
			t.Errorf("%v, %v: %d of %d fronts lost, %d of %d in the pool", x.discard, x.commit, n, len(fronts), len(frontPool.free), pool)
		}
		if n := frontsInUse(); n != used {
			t.Errorf("%v, %v: %d fronts are in use, before there were %d", x.discard, x.commit, n, used)
		}
		if !told(x.told) {
			t.Errorf("%v, %v: not told: %v", x.discard, x.commit, Survived())
		}
		if err := CheckInvariants(); err != nil {
			t.Error(err)
		}
		if returnSpare(false) || len(frontPool.free) != pool {
			t.Errorf("%v, %v: %d of %d in the pool when there is memory again", x.discard, x.commit, len(frontPool.free), pool)
		}
		closedFronts(t) // all of them can be used again
	}
}

// withClock gives the scavenger a clock that the test moves, a heap without free
// memory, and the default window.
func withClock(t *testing.T) *testkit.Clock {
	t.Helper()
	if !Ready() {
		t.Fatal(Survived())
	}
	c := &testkit.Clock{}
	c.Skip(time.Hour)
	SetClock(c)
	Trim()
	s := &scavenger
	s.mu.Lock()
	region.mu.Lock()
	s.window, s.judging, s.purged, s.againWas = decay(), false, 0, pageUse.again
	s.peaks = [peakBuckets]peakBucket{}
	region.mu.Unlock()
	clear(s.fronts[:])
	s.mu.Unlock()
	t.Cleanup(func() {
		SetClock(&testkit.Clock{})
		mustHold(t)
	})
	return c
}

func use() (used, warm int) {
	region.mu.Lock()
	defer region.mu.Unlock()
	return pageUse.used, pageUse.warm
}

// fillBytes allocates total bytes in blocks of size and touches each page.
func fillBytes(t *testing.T, total, size uintptr) (blocks []uintptr) {
	t.Helper()
	for range total / size {
		p := Malloc(0, size)
		if p == 0 {
			t.Fatal("out of memory", Survived())
		}
		for i := uintptr(0); i < size; i += 4096 {
			*u8(p + i) = 1
		}
		blocks = append(blocks, p)
	}
	return blocks
}

func freeBlocks(t *testing.T, blocks []uintptr) {
	t.Helper()
	for _, p := range blocks {
		if bad := Free(0, p); bad.Kind != OK {
			t.Fatalf("Free(%#x) = %+v", p, bad)
		}
	}
}

const mebibyte = 1 << 20

// TestScavengerReturnsAPeak: after a peak of blocks of every kind the memory is
// kept for the window, returned before 5 s have passed, and then nothing is left
// that would call again.
func TestScavengerReturnsAPeak(t *testing.T) {
	for _, size := range []uintptr{48, 1000, 5000, 32 << 10, 100 << 10, 2 << 20, 5 << 20} {
		c := withClock(t)
		before, _ := use()
		blocks := fillBytes(t, 64*mebibyte, size)
		freeBlocks(t, blocks)
		if c.Pending() == 0 {
			t.Fatalf("%d bytes: no timer after 64 MiB were freed", size)
		}
		c.Advance(time.Second)
		if used, warm := use(); used+warm < 60*16 {
			t.Errorf("%d bytes: %d pages of the peak left after a second: nothing was kept", size, used+warm)
		}
		c.Advance(4 * time.Second)
		if used, warm := use(); used+warm-before > 6*16 {
			t.Errorf("%d bytes: %d pages in use and %d warm after 5 s, %d were in use before the peak", size, used, warm, before)
		}
		c.Advance(30 * time.Second)
		if used, warm := use(); warm != 0 || used > before {
			t.Errorf("%d bytes: %d pages in use and %d warm in the end, %d in use before", size, used, warm, before)
		}
		if n := c.Pending(); n != 0 || scavenger.armed.Load() {
			t.Errorf("%d bytes: %d timers are set with nothing to return", size, n)
		}
		// It starts again.
		freeBlocks(t, fillBytes(t, mebibyte, size))
		if c.Pending() == 0 && size <= mebibyte {
			t.Errorf("%d bytes: no timer for what was freed later", size)
		}
	}
}

// TestScavengerKeepsWhatIsWanted: demand that comes back within the window never
// leads to a return; KEEP=always sets no timer at all.
func TestScavengerKeepsWhatIsWanted(t *testing.T) {
	c := withClock(t)
	was := pageUse.returned
	for range 10 {
		freeBlocks(t, fillBytes(t, 64*mebibyte, 256<<10))
		c.Advance(2 * time.Second)
	}
	// Not the magazines of a P that the test has left: 2 MiB each.
	if n := pageUse.returned - was; n > 6*16 {
		t.Errorf("demand of 64 MiB every 2 s: %d pages were returned", n)
	}

	c = withClock(t)
	withPolicy(t, map[string]string{"HAKMEM_KEEP": "always"})
	freeBlocks(t, fillBytes(t, 64*mebibyte, 256<<10))
	if n := c.Pending(); n != 0 {
		t.Errorf("HAKMEM_KEEP=always: %d timers", n)
	}
	Trim() // still works
	if _, warm := use(); warm != 0 {
		t.Errorf("HAKMEM_KEEP=always: %d warm pages after Trim", warm)
	}
}

// withPolicy sets gates for the test.
func withPolicy(t *testing.T, gates map[string]string) {
	t.Helper()
	old := policy.Current()
	s, errs := policy.Build(func(name string) (string, bool) { v, ok := gates[name]; return v, ok })
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	policy.Set(s, nil)
	t.Cleanup(func() { policy.Set(old, nil) })
}

// TestScavengerLearns: what comes of a decision moves the window, within its
// bounds, and the tracker counts it.
func TestScavengerLearns(t *testing.T) {
	period := func(c *testkit.Clock, d time.Duration) {
		freeBlocks(t, fillBytes(t, 64*mebibyte, 256<<10))
		c.Advance(d)
	}
	t.Run("in vain", func(t *testing.T) {
		c := withClock(t)
		was := pageUse
		for range 4 {
			period(c, time.Minute)
		}
		if got := scavenger.window; got != 220 {
			t.Errorf("the window is %d ms after four minutes with a peak each, want its least, 220", got)
		}
		if pageUse.vain-was.vain < 4*50*16 || pageUse.again != was.again {
			t.Errorf("kept in vain: %d pages, faulted again: %d; want 4 peaks of 1024 or nearly so, and none",
				pageUse.vain-was.vain, pageUse.again-was.again)
		}
	})
	t.Run("faulted again", func(t *testing.T) {
		c := withClock(t)
		was := pageUse
		period(c, 6*time.Second)
		period(c, 6*time.Second) // takes what was returned 2 or 3 s ago
		period(c, 0)
		if got := scavenger.window; got != 3080 {
			t.Errorf("the window is %d ms after memory was missed, want its most, 3080", got)
		}
		if pageUse.again-was.again < 50*16 {
			t.Errorf("faulted again: %d pages, want a peak of 1024 or nearly so", pageUse.again-was.again)
		}
		if got := pageUse.again - was.again; got > pageUse.returned-was.returned {
			t.Errorf("faulted again: %d pages of %d returned", got, pageUse.returned-was.returned)
		}
	})
	t.Run("kept and reused", func(t *testing.T) {
		c := withClock(t)
		was := pageUse
		period(c, time.Second)
		period(c, time.Second)
		if pageUse.reused-was.reused < 40*16 { // the rest comes from magazines and shared slots
			t.Errorf("kept and reused: %d pages, want most of a peak of 1024", pageUse.reused-was.reused)
		}
	})
}

// TestScavengerEndsWithNothing: with the real clock and a short window, a program
// that has stopped allocating has no goroutine and no timer of hakmem's.
func TestScavengerEndsWithNothing(t *testing.T) {
	withClock(t)
	SetClock(nil)
	withPolicy(t, map[string]string{"HAKMEM_DECAY_MS": "20"})
	goroutines := runtime.NumGoroutine()
	blocks := fillBytes(t, 16*mebibyte, 100<<10)
	blocks = append(blocks, fillBytes(t, mebibyte, 100)...)
	freeBlocks(t, blocks)
	if !scavenger.armed.Load() {
		t.Fatal("no timer after 17 MiB were freed")
	}
	for deadline := time.Now().Add(20 * time.Second); scavenger.armed.Load(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("the timer is still set after 20 s")
		}
	}
	scavenger.mu.Lock() // the last tick has ended
	ticks := scavenger.ticks.Load()
	scavenger.mu.Unlock()
	if ticks == 0 {
		t.Error("no tick")
	}
	if _, warm := use(); warm != 0 {
		t.Errorf("%d pages are warm", warm)
	}
	for range 1000 { // its goroutine may still be on its way out
		if runtime.NumGoroutine() <= goroutines {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if n := runtime.NumGoroutine(); n > goroutines {
		buf := make([]byte, 1<<16)
		t.Errorf("%d goroutines, %d before:\n%s", n, goroutines, buf[:runtime.Stack(buf, true)])
	}
}

// TestScavengerDrainsIdleFronts: a front that nobody uses is drained, one that is
// used is not.
func TestScavengerDrainsIdleFronts(t *testing.T) {
	if !canPin {
		t.Skip("without pinning there are no fronts of Ps")
	}
	c := withClock(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var blocks []uintptr
	used := drains.Load()
	for range 40 {
		c.Advance(tickTime())
		p := Malloc(0, 64)
		if p == 0 {
			t.Fatal(Survived())
		}
		blocks = append(blocks, p)
	}
	freeBlocks(t, blocks)
	busy := drains.Load() - used
	c.Advance(8 * time.Second)
	if busy > 1 { // the other Ps' from before
		t.Errorf("a front in use was drained %d times", busy)
	}
	if idle := drains.Load() - used - busy; idle == 0 {
		t.Error("an idle front was not drained in 8 s")
	}
	for i := range Fronts {
		if Fronts[i] != trapFront {
			t.Errorf("P %d still has a front", i)
		}
	}
}

// TestHeapTrimsItself: what lies idle in a Heap's magazines goes back when the
// Heap comes to a slow path and the scavenger has been at work twice.
func TestHeapTrimsItself(t *testing.T) {
	c := withClock(t)
	f := warmFront(t)
	p := Malloc(f, mebibyte)
	if bad := Free(f, p); bad.Kind != OK {
		t.Fatal(bad)
	}
	class := sizeclass.SpanOf(mebibyte)
	for range 3 {
		if held(f, class) == 0 {
			break
		}
		kick()
		c.Advance(tickTime())
		Free(f, Malloc(f, 100<<10)) // other work
	}
	if n := held(f, class); n != 0 {
		t.Errorf("%d idle spans in the Heap's magazine", n)
	}
}

// TestTrimTakesEverything: magazines, shared slots, the BigCache, whales.
func TestTrimTakesEverything(t *testing.T) {
	withClock(t)
	before, _ := use()
	site := RegisterSite("trim takes everything")
	var blocks []uintptr
	for _, size := range []uintptr{64, 2000, 40 << 10, mebibyte, 3 * mebibyte, 40 * mebibyte} {
		for range 20 {
			blocks = append(blocks, Malloc(0, size), MallocAt(site, size))
		}
	}
	freeBlocks(t, blocks)
	var totals Totals
	ReadTotals(&totals)
	if totals.Shared.Blocks == 0 || totals.Big.Blocks == 0 || totals.Whale.Blocks == 0 {
		t.Errorf("caches are empty: shared %+v, big %+v, whale %+v", totals.Shared, totals.Big, totals.Whale)
	}
	Trim()
	if used, warm := use(); used > before || warm != 0 {
		t.Errorf("%d pages in use, %d warm; %d in use before", used, warm, before)
	}
}

// TestSpanCaches: hits, misses and evictions of the three caches.
func TestSpanCaches(t *testing.T) {
	withClock(t)
	a, b := RegisterSite("span caches a"), RegisterSite("span caches b")
	var was, is Totals
	t.Run("BigCache", func(t *testing.T) {
		ReadTotals(&was)
		const size = 300 << 10
		p := MallocAt(a, size)
		Free(0, p)
		if q := MallocAt(b, size); q == p {
			t.Error("another site got the site's block")
		} else {
			Free(0, q)
		}
		if q := Malloc(0, size); q == p {
			t.Error("an allocation without a site got the site's block")
		} else {
			Free(0, q)
		}
		if q := MallocAt(a, size+1000); q != p { // the same class
			t.Errorf("the site got %#x back, want %#x", q, p)
		}
		x := MallocAt(a, size)
		Free(0, p)
		Free(0, x) // evicts p
		if q := MallocAt(a, size); q != x {
			t.Errorf("the site got %#x back, want %#x", q, x)
		}
		Free(0, x)
		ReadTotals(&is)
		if h, m, e := is.Big.Hits-was.Big.Hits, is.Big.Misses-was.Big.Misses, is.Big.Evictions-was.Big.Evictions; h != 2 || m != 3 || e != 1 {
			t.Errorf("%d hits, %d misses, %d evictions; want 2, 3, 1", h, m, e)
		}
		if bad := Free(0, x); bad.Kind != Freed {
			t.Errorf("a second free of a block in the BigCache: %+v", bad)
		}
	})
	t.Run("shared", func(t *testing.T) {
		Trim()
		ReadTotals(&was)
		const size, n = 2 * mebibyte, 10 // one fits a magazine
		blocks := fillBytes(t, n*size, size)
		freeBlocks(t, blocks)
		ReadTotals(&is)
		if is.Shared.Blocks < n-2 || is.SpanFrees != was.SpanFrees {
			t.Errorf("%d blocks in shared slots, %d went back; want %d and 0", is.Shared.Blocks, is.SpanFrees-was.SpanFrees, n-1)
		}
		again := fillBytes(t, n*size, size)
		ReadTotals(&is)
		if h := is.Shared.Hits - was.Shared.Hits; h < n-2 {
			t.Errorf("%d hits, want %d", h, n-1)
		}
		others := 0
		for _, p := range again {
			if !slices.Contains(blocks, p) {
				others++
			}
		}
		if others > 1 { // one may wait in the magazine of a P that the test has left
			t.Errorf("other blocks came back: %#x, want %#x", again, blocks)
		}
		freeBlocks(t, again)
		freeBlocks(t, fillBytes(t, 40*size, size))
		ReadTotals(&is)
		if is.Shared.Blocks != warmSlots || is.Shared.Evictions == was.Shared.Evictions {
			t.Errorf("%+v, want %d blocks and evictions", is.Shared, warmSlots)
		}
	})
	t.Run("whale", func(t *testing.T) {
		Trim()
		withPolicy(t, map[string]string{"HAKMEM_WHALE_BYTES": "33554432"})
		ReadTotals(&was)
		const size = 10 * mebibyte
		blocks := fillBytes(t, 4*size, size)
		freeBlocks(t, blocks) // three fit: the first is evicted
		ReadTotals(&is)
		if is.Whale.Blocks != 3 || is.Whale.Bytes != 3*size || is.Whale.Evictions-was.Whale.Evictions != 1 {
			t.Errorf("%+v, want 3 blocks of 10 MiB, 1 eviction", is.Whale)
		}
		if q := Malloc(0, size-4096); q != blocks[3] {
			t.Errorf("got %#x, want the one freed last, %#x", q, blocks[3])
		} else if bad := Free(0, q); bad.Kind != OK {
			t.Error(bad)
		} else if bad := Free(0, q); bad.Kind != Freed {
			t.Errorf("a second free of a block in the whale cache: %+v", bad)
		}
		if q := Malloc(0, size/2); slices.Contains(blocks, q) && q != blocks[0] {
			t.Errorf("a block of another size came from the cache: %#x of %#x", q, blocks)
		} else {
			Free(0, q)
		}
		q := Malloc(0, 40*mebibyte) // larger than the cache
		Free(0, q)
		ReadTotals(&is)
		if is.Whale.Hits-was.Whale.Hits != 1 || is.Whale.Bytes > 32*mebibyte {
			t.Errorf("%+v, want 1 hit more than %d and at most 32 MiB", is.Whale, was.Whale.Hits)
		}
	})
}

// TestMemoryLimits: beyond the hard limit nothing, after a free again; near the
// soft one nothing is kept.
func TestMemoryLimits(t *testing.T) {
	noLimit := func() {
		if err := SetMemoryLimit(0, 0); err != nil {
			t.Error(err)
		}
	}
	for _, tt := range []struct {
		soft, hard uint64
		want       string
	}{
		{2, 1, "soft limit of 2 bytes above the hard limit of 1"},
		{0, 1 << 20, "hard limit of 1048576 bytes"},
	} {
		if err := SetMemoryLimit(tt.soft, tt.hard); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("SetMemoryLimit(%d, %d) = %v, want it to say %q", tt.soft, tt.hard, err, tt.want)
		}
		if soft, hard := MemoryLimit(); soft != 0 || hard != 0 {
			t.Errorf("a refused limit is in force: %d, %d", soft, hard)
		}
	}
	for _, size := range []uintptr{64, 900, 6000, 40 << 10, mebibyte, 5 * mebibyte} {
		withClock(t)
		used, warm := use()
		hard := uint64(used+warm)<<pageShift + 64*mebibyte
		if err := SetMemoryLimit(0, hard); err != nil {
			t.Fatal(err)
		}
		var blocks []uintptr
		total := uintptr(0)
		for {
			p := Malloc(0, size)
			if p == 0 {
				break
			}
			blocks = append(blocks, p)
			if size > sizeclass.MaxMid {
				total += roundUp(size, pageSize)
			} else {
				total += size
			}
			if total > 80*mebibyte {
				t.Fatalf("%d bytes: %d MiB in spite of a limit of 64", size, total>>20)
			}
		}
		if total < 50*mebibyte {
			t.Errorf("%d bytes: nil after %d MiB, the limit is 64", size, total>>20)
		}
		if used, warm := use(); uint64(used+warm)<<pageShift > hard {
			t.Errorf("%d bytes: %d pages, the limit is %d bytes", size, used+warm, hard)
		}
		for range 1000 {
			if p := Malloc(0, size); p != 0 {
				blocks = append(blocks, p)
			}
		}
		// Freeing makes allocations work again: of this size and of others.
		freeBlocks(t, blocks)
		for _, other := range []uintptr{size, 300, 20 << 10, 3 * mebibyte} {
			p := Malloc(0, other)
			if p == 0 {
				t.Errorf("%d bytes: all freed, and no %d bytes", size, other)
				continue
			}
			Free(0, p)
		}
		noLimit()
	}

	c := withClock(t)
	used, _ := use()
	if err := SetMemoryLimit(uint64(used)<<pageShift+64*mebibyte, 0); err != nil {
		t.Fatal(err)
	}
	defer noLimit()
	blocks := fillBytes(t, 80*mebibyte, 256<<10)
	c.Advance(0) // the tick that was asked for
	freeBlocks(t, blocks)
	c.Advance(2 * tickTime())
	if now, warm := use(); now+warm-used > 60*16 {
		t.Errorf("above the soft limit, all freed: %d pages left after two ticks, most of a peak of 1280", now+warm-used)
	}
}

// TestResizeInPlace: a span grows into the free pages behind it and shrinks where
// it is; its contents and its class are right, and a double free of it is found.
func TestResizeInPlace(t *testing.T) {
	withClock(t)
	p := Malloc(0, 100<<10)
	*u8(p), *u8(p + 100<<10 - 1) = 1, 2
	used, _ := use()
	for _, size := range []uintptr{128 << 10, 190 << 10, 3 * mebibyte, 70 << 10, 33 << 10, 40 << 10, 10 * mebibyte, 500 << 10} {
		if !Resize(p, size) {
			t.Fatalf("no %d bytes in place, with nothing behind", size)
		}
		n, _, bad := Size(p)
		if want, _ := sizeclass.SpanSize(size); bad.Kind != OK || n != want {
			t.Errorf("%d bytes: size %d, %+v; want %d", size, n, bad, want)
		}
		if *u8(p) != 1 || size > 100<<10 && size < 3*mebibyte && *u8(p + 100<<10 - 1) != 2 && size < 200<<10 {
			t.Errorf("%d bytes: contents changed", size)
		}
		now, _ := use()
		pages := int(roundUp(n, pageSize) >> pageShift)
		if now-used != pages-2 {
			t.Errorf("%d bytes: %d pages more in use, want %d", size, now-used, pages-2)
		}
		if bad := Free(0, p+roundUp(n, pageSize)); bad.Kind == OK || bad.Block == p {
			t.Errorf("%d bytes: the page behind the block: %+v", size, bad)
		}
		if bad := Free(0, p+roundUp(n, pageSize)-16); bad.Kind != Interior || bad.Block != p {
			t.Errorf("%d bytes: the block's last page: %+v", size, bad)
		}
	}
	q := Malloc(0, 64<<10)
	if q > p && Resize(p, q-p+1) {
		t.Error("grew over a live block")
	}
	if Resize(p, 1<<60) || Resize(p, 1000) {
		t.Error("an impossible size, or one that is no span's, was granted")
	}
	if bad := Free(0, p); bad.Kind != OK {
		t.Error(bad)
	}
	if bad := Free(0, p); bad.Kind != Freed {
		t.Errorf("a second free: %+v", bad)
	}
	if Resize(p, 600<<10) {
		t.Error("a freed block was resized")
	}
	Free(0, q)

	site := RegisterSite("resize")
	p = MallocAt(site, 100<<10)
	if Resize(p, 5*mebibyte) {
		if _, bytes, blocks := Site(site); bytes != 5*mebibyte || blocks != 1 {
			t.Errorf("the site has %d bytes in %d blocks", bytes, blocks)
		}
	}
	Free(0, p)
	if _, bytes, blocks := Site(site); bytes != 0 || blocks != 0 {
		t.Errorf("the site has %d bytes in %d blocks", bytes, blocks)
	}
}

// TestRuns: eachRun finds what setRun made.
func TestRuns(t *testing.T) {
	for _, want := range [][][2]int{
		{}, {{0, 1}}, {{31, 2}}, {{0, 128}}, {{5, 3}, {31, 1}, {33, 62}, {96, 32}}, {{32, 32}, {127, 1}}, {{0, 32}, {64, 32}},
	} {
		var masks [4]uint32
		for _, r := range want {
			setRun(masks[:], r[0], r[1])
		}
		got := [][2]int{}
		eachRun(masks[:], func(from, n int) { got = append(got, [2]int{from, n}) })
		if !slices.Equal(got, want) {
			t.Errorf("%v gives %v", want, got)
		}
		for _, r := range want {
			clearRun(masks[:], r[0], r[1])
		}
		if masks != [4]uint32{} {
			t.Errorf("%v: clearRun leaves %x", want, masks)
		}
	}
}

// TestHoles: the memory of free blocks goes back although their slabs have live
// blocks, these keep their contents, and the blocks can be had again. It is done
// once, and not before the window has passed.
func TestHoles(t *testing.T) {
	if osmem.PageSize() != punchUnit {
		t.Skipf("system pages of %d bytes", osmem.PageSize())
	}
	for _, size := range []uintptr{16, 48, 1024, 3 << 10, 20 << 10} {
		c := withClock(t)
		const total = 32 * mebibyte
		blocks := fillBytes(t, total, size)
		var live, rest []uintptr
		k := int(256 * 1024 / size) // one in 256 KiB stays
		for i, p := range blocks {
			if i%k == 0 {
				mark(p, size, uint64(p))
				live = append(live, p)
			} else {
				rest = append(rest, p)
			}
		}
		was := punched.Load()
		freeBlocks(t, rest)
		c.Advance(time.Second)
		if n := punched.Load() - was; n != 0 {
			t.Errorf("%d bytes: %d bytes of holes after a second", size, n)
		}
		c.Advance(4 * time.Second)
		// Slabs of small blocks are one page, so three of four are EMPTY.
		slab := uintptr(pageSize) << sizeclass.Classes[sizeclass.Of(size)].Order
		want := uint64(total / 256 / 1024 * (min(slab, 256<<10) - 2*max(size, 8192)) / 2)
		got := punched.Load() - was
		if got < want || got > total {
			t.Errorf("%d bytes: %d KiB of holes, want at least %d", size, got>>10, want>>10)
		}
		c.Advance(time.Minute)
		kick()
		c.Advance(time.Minute)
		if again := punched.Load() - was - got; again > got/8 {
			t.Errorf("%d bytes: %d KiB of holes were made again", size, again>>10)
		}
		if c.Pending() != 0 {
			t.Errorf("%d bytes: the timer does not stop", size)
		}
		for _, p := range live {
			if !marked(p, size, uint64(p)) {
				t.Fatalf("%d bytes: the block at %#x has lost its contents", size, p)
			}
		}
		more := fillBytes(t, total/2, size)
		for _, p := range live {
			if !marked(p, size, uint64(p)) {
				t.Fatalf("%d bytes: the block at %#x has lost its contents when others were allocated", size, p)
			}
		}
		freeBlocks(t, append(more, live...))
	}
}

// TestWhaleOfDuringATick: a block that is freed after a tick read the time is not old.
func TestWhaleOfDuringATick(t *testing.T) {
	c := withClock(t)
	c.Advance(time.Minute)
	now := milliseconds()
	p := Malloc(0, 3*mebibyte)
	c.Advance(time.Millisecond)
	freeBlocks(t, []uintptr{p})
	look := func(now, age uint32) int {
		scavenger.mu.Lock()
		defer scavenger.mu.Unlock()
		trimCaches(now, age)
		region.mu.Lock()
		defer region.mu.Unlock()
		return len(whales.spans)
	}
	if look(now, decay()) != 1 {
		t.Error("a tick dropped a block that was freed while it ran")
	}
	if look(now, 0) != 0 {
		t.Error("Trim left a block that was freed while it ran")
	}
}

func TestWholePages(t *testing.T) {
	for _, tt := range []struct {
		page, length int
		system       uintptr
		from, n      int
	}{
		{3, 5, 4 << 10, 3, 5},
		{3, 5, 16 << 10, 4, 4},
		{4, 4, 16 << 10, 4, 4},
		{5, 2, 16 << 10, 8, 0},
		{1, 63, 16 << 10, 4, 60},
		{1, 62, 64 << 10, 16, 32},
		{16, 16, 64 << 10, 16, 16},
		{17, 30, 64 << 10, 32, 0},
		{0, 1024, 64 << 10, 0, 1024},
	} {
		if from, n := wholePages(tt.page, tt.length, 4<<10, tt.system); n != tt.n || n > 0 && from != tt.from {
			t.Errorf("pages %d+%d, system pages of %d KiB: %d+%d, want %d+%d", tt.page, tt.length, tt.system>>10, from, n, tt.from, tt.n)
		}
	}
}

// TestPurgeVeryOldPages: pages that nobody used for more than half of what 32 bits
// of milliseconds can say go back like others.
func TestPurgeVeryOldPages(t *testing.T) {
	for _, age := range []uint32{1 << 31, 3 << 30, 1<<32 - 1<<24} {
		c := withClock(t)
		withPolicy(t, map[string]string{"HAKMEM_WHALE_BYTES": "0"})
		freeBlocks(t, fillBytes(t, 8*mebibyte, 4*mebibyte))
		region.mu.Lock()
		for i := region.first >> superShift; i < region.committed.Load()>>superShift; i++ {
			super(i).freedAt = milliseconds() - age
		}
		region.mu.Unlock()
		if _, warm := use(); warm == 0 {
			t.Fatal("nothing is warm")
		}
		c.Advance(5 * time.Second)
		if _, warm := use(); warm != 0 {
			t.Errorf("%d days old: %d pages are still warm", age/1000/3600/24, warm)
		}
	}
}

// TestRefusedOnce: where a limit refuses an allocation because nothing is warm, it
// does not ask every superslab that has free pages.
func TestRefusedOnce(t *testing.T) {
	withClock(t)
	const supers, size = 40, 64
	blocks := fillBytes(t, supers*superSize, size)
	var rest, kept []uintptr
	for _, p := range blocks {
		if (p-region.base)>>pageShift%superPages == 7 {
			rest = append(rest, p)
		} else {
			kept = append(kept, p)
		}
	}
	freeBlocks(t, rest)
	Trim()
	used, warm := use()
	if warm != 0 {
		t.Fatalf("%d warm pages after Trim", warm)
	}
	if err := SetMemoryLimit(0, uint64(used)<<pageShift); err != nil {
		t.Fatal(err)
	}
	defer SetMemoryLimit(0, 0)
	for Malloc(0, 200) != 0 { // of what there is
	}
	was := limitHit.Load()
	if p := Malloc(0, 200); p != 0 {
		t.Fatalf("a block at %#x beyond the limit", p)
	}
	if n := limitHit.Load() - was; n == 0 || n > 4 { // with stage 3, and both again after a reclaim
		t.Errorf("one failed allocation was refused %d times; %d superslabs have a free page", n, supers)
	}
	freeBlocks(t, kept)
}

// TestPunchRoundOfManyTicks: slabs that become PARTIAL behind the cursor of a round
// that takes several ticks are looked at by the next one.
func TestPunchRoundOfManyTicks(t *testing.T) {
	if osmem.PageSize() != punchUnit {
		t.Skipf("system pages of %d bytes", osmem.PageSize())
	}
	defer func(was int) { punchScan = was }(punchScan)
	punchScan = 4
	c := withClock(t)
	// 32 slabs of a high class that are PARTIAL and done.
	const low, high, slabs = 48, 1024, 32
	var kept []uintptr
	free := func(own uintptr, blocks []uintptr) { // but one of each slab
		page := uintptr(0)
		for _, p := range blocks {
			if p>>pageShift != page {
				page = p >> pageShift
				kept = append(kept, p)
			} else if bad := Free(own, p); bad.Kind != OK {
				t.Fatal(bad)
			}
		}
	}
	blocks := fillBytes(t, slabs*pageSize, high)
	h := NewHeapFront()
	defer CloseHeapFront(h)
	var burst []uintptr
	for range slabs * pageSize / low {
		p := Malloc(h, low)
		mark(p, low, uint64(p))
		burst = append(burst, p)
	}
	free(0, blocks)
	c.Advance(time.Minute)
	if c.Pending() != 0 {
		t.Fatal("the timer does not stop")
	}
	kick()
	for i := 0; scavenger.punchAt.class != sizeclass.Of(high); i++ {
		if i == 100 || c.Pending() == 0 {
			t.Fatalf("no tick ended within the class of %d bytes", high)
		}
		c.Advance(tickTime())
	}
	was := punched.Load()
	free(h, burst) // through a Heap, whose front keeps no timer alive
	c.Advance(time.Minute)
	if c.Pending() != 0 {
		t.Fatal("the timer does not stop")
	}
	if n := punched.Load() - was; n < slabs*pageSize/2 {
		t.Errorf("%d KiB of holes of %d KiB in slabs that became PARTIAL in the middle of a round", n>>10, slabs*pageSize>>10)
	}
	for _, p := range kept {
		if bad := Free(0, p); bad.Kind != OK {
			t.Fatal(bad)
		}
	}
}

// mark writes the first and the last word of a block's size, a multiple of 8, and
// one in each page, which is what a hole could take.
func mark(p, size uintptr, key uint64) {
	eachMark(p, size, func(i uintptr) bool { *u64(i) = key ^ uint64(i); return true })
}

func marked(p, size uintptr, key uint64) bool {
	whole := true
	eachMark(p, size, func(i uintptr) bool { whole = *u64(i) == key^uint64(i); return whole })
	return whole
}

func eachMark(p, size uintptr, at func(uintptr) bool) {
	for i := p; i < p+size && at(i); i += 2048 {
	}
	at(p + size - 8)
}

// TestHolesWhileUsed: goroutines allocate and free while the slabs are punched
// all the time; no block loses its contents.
func TestHolesWhileUsed(t *testing.T) {
	withClock(t)
	SetClock(nil)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for g := range uint64(3) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(g, 7))
			sizes := []uintptr{16, 64, 200, 1500, 9000}
			slots := make([]struct{ p, size uintptr }, 20_000)
			for i := range 400_000 {
				s := &slots[r.IntN(len(slots))]
				if s.p != 0 {
					if !marked(s.p, s.size, g) {
						t.Errorf("the block of %d bytes at %#x has lost its contents", s.size, s.p)
						return
					}
					if bad := Free(0, s.p); bad.Kind != OK {
						t.Error(bad)
						return
					}
					s.p = 0
				}
				if i%5 > 0 && i%100_000 < 70_000 {
					s.size = sizes[r.IntN(len(sizes))]
					s.p = Malloc(0, s.size)
					mark(s.p, s.size, g)
				}
			}
			for _, s := range slots {
				if s.p != 0 {
					Free(0, s.p)
				}
			}
		})
	}
	was := punched.Load()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				scavenger.mu.Lock()
				punchSlabs(0, 0, 1, math.MaxInt)
				scavenger.mu.Unlock()
				runtime.Gosched()
			}
		}
	}()
	wg.Wait()
	close(stop)
	<-done
	if punched.Load() == was {
		t.Error("no slab was punched")
	}
	Trim()
}

// TestMetadataIsSmall: what hakmem's own tables have in memory for mid blocks and
// spans is at most 2 % of it.
func TestMetadataIsSmall(t *testing.T) {
	resident := func() (n int) {
		vec := make([]byte, 1<<16)
		for _, a := range region.areas() {
			from := uintptr(0)
			if a == &region.live {
				from = region.first >> pageShift * a.unit &^ (pageSize - 1)
			}
			if a.committed <= from {
				continue
			}
			pages, err := osmem.Resident(a.base+from, a.committed-from, vec)
			if err != nil {
				t.Skip(err)
			}
			n += pages * osmem.PageSize()
		}
		return n
	}
	for _, size := range []uintptr{1152, 3 << 10, 8 << 10, 32 << 10, 40 << 10, 256 << 10, 5 * mebibyte} {
		withClock(t)
		before := resident()
		const total = 128 * mebibyte
		blocks := fillBytes(t, total, size)
		if n := resident() - before; n > total/50 {
			t.Errorf("%d bytes: %d KiB of metadata for 128 MiB, over 2 %%", size, n>>10)
		} else {
			t.Logf("%d bytes: %.2f %%", size, 100*float64(n)/total)
		}
		freeBlocks(t, blocks)
	}
}

// TestWhalesAreKept: demand for large blocks that comes every 2 s never faults,
// also when the timer has stopped in between.
func TestWhalesAreKept(t *testing.T) {
	c := withClock(t)
	calls := osmem.Calls(osmem.OpDiscard)
	for range 5 {
		p := fillBytes(t, 10*mebibyte, 10*mebibyte)
		c.Advance(2 * time.Second)
		freeBlocks(t, p)
		c.Advance(2 * time.Second)
	}
	if n := osmem.Calls(osmem.OpDiscard) - calls; n != 0 {
		t.Errorf("%d times memory was returned", n)
	}
}

// TestIdleSlotsAreReturned: what lies in shared slots after a peak goes back
// although the first of them is used all the time.
func TestIdleSlotsAreReturned(t *testing.T) {
	c := withClock(t)
	const size, alive = 2 * mebibyte, 12
	freeBlocks(t, fillBytes(t, alive*size, size))
	class := sizeclass.SpanOf(size)
	for range 40 {
		c.Advance(250 * time.Millisecond)
		p := takeShared(class)
		if p == 0 || !giveShared(class, p) {
			t.Fatal("no span in the shared slots")
		}
	}
	var totals Totals
	ReadTotals(&totals)
	if totals.Shared.Blocks != 1 {
		t.Errorf("%d spans in shared slots after 10 s in which one was used", totals.Shared.Blocks)
	}
}

// TestLateSpanInBigCache: a span that two overlapping frees put into the BigCache
// and into a magazine, and that went back to the page tree from there, is dropped
// when it leaves the BigCache.
func TestLateSpanInBigCache(t *testing.T) {
	withClock(t)
	site := RegisterSite("late span")
	const size = 300 << 10
	class := sizeclass.SpanOf(size)
	for name, next := range map[string]func() uintptr{
		"by an allocation": func() uintptr { return MallocAt(site, size) },
		"by an eviction": func() uintptr {
			q := mallocSpan(size, 1, 0)
			if p, c := giveBig(site, class, q); p == 0 || c != class {
				t.Errorf("evicted %#x of class %d", p, c)
			} else if late := releaseSpans([]uintptr{p}); late != p {
				t.Errorf("the page tree took the span twice: late %#x, want %#x", late, p)
			}
			return takeBig(site, class)
		},
	} {
		TakeLateFree()
		was := lateFrees.Load()
		p := MallocAt(site, size)
		Free(0, p)
		if late := releaseSpans([]uintptr{p}); late != 0 { // the other copy
			t.Fatalf("%s: late %#x", name, late)
		}
		if q := next(); q == 0 || q == p && meta((p-region.base)>>pageShift).live == 0 {
			t.Errorf("%s: got %#x", name, q)
		} else if meta((q-region.base)>>pageShift).live != 0 {
			Free(0, q)
		} else {
			releaseSpans([]uintptr{q})
		}
		if lateFrees.Load() != was+1 {
			t.Errorf("%s: %d late double frees, want 1", name, lateFrees.Load()-was)
		}
	}
	TakeLateFree()
	Trim()
}

// TestFreeingHelpsAtTheLimit: after a storm of failures, what is freed can be had
// in another size at once, wherever it went: page tree, whale cache, a Heap's
// magazines.
func TestFreeingHelpsAtTheLimit(t *testing.T) {
	noLimit := func() {
		if err := SetMemoryLimit(0, 0); err != nil {
			t.Error(err)
		}
	}
	defer noLimit()
	limit := func() {
		used, warm := use()
		if err := SetMemoryLimit(0, uint64(used+warm)<<pageShift+64*mebibyte); err != nil {
			t.Fatal(err)
		}
	}
	storm := func(own, size uintptr) (blocks []uintptr) {
		for failures := 0; failures < 1000; {
			if p := Malloc(own, size); p != 0 {
				blocks = append(blocks, p)
			} else {
				failures++
			}
		}
		return blocks
	}
	for _, whaleBytes := range []string{"0", "268435456"} {
		withClock(t)
		withPolicy(t, map[string]string{"HAKMEM_WHALE_BYTES": whaleBytes})
		limit()
		blocks := storm(0, 3*mebibyte)
		for i := 3; i < 13; i += 4 { // not neighbours
			freeBlocks(t, []uintptr{blocks[i], blocks[i+2]})
			p := Malloc(0, 5*mebibyte)
			if p == 0 {
				t.Fatalf("whale cache %s: 6 MiB were freed, and no 5 MiB", whaleBytes)
			}
			freeBlocks(t, []uintptr{p})
			blocks[i], blocks[i+2] = 0, 0
		}
		for _, p := range blocks {
			if p != 0 {
				freeBlocks(t, []uintptr{p})
			}
		}
		noLimit()
	}

	withClock(t)
	f := warmFront(t)
	limit()
	blocks := storm(f, 500<<10)
	for _, p := range blocks[:4] {
		if bad := Free(f, p); bad.Kind != OK {
			t.Fatal(bad)
		}
	}
	if p := Malloc(f, 100<<10); p == 0 {
		t.Error("a Heap gets nothing while its own magazines hold 2 MiB")
	} else {
		Free(f, p)
	}
	for _, p := range blocks[4:] {
		Free(f, p)
	}
}

// grownClock is a clock under which the heap grows, a long time later, the
// next time that somebody asks for the time: which is in the middle of a tick.
type grownClock struct {
	testkit.Clock
	later time.Duration
}

func (c *grownClock) Now() time.Duration {
	if later := c.later; later > 0 {
		c.later = 0
		c.Skip(later)
		kickGrown(0) // whoever asks for the time has region.mu
	}
	return c.Clock.Now()
}

// TestOneTimer: a heap that grows while a tick takes very long sets the timer
// anew, in the place of the one that it takes for lost, and not beside it.
func TestOneTimer(t *testing.T) {
	withClock(t)
	c := &grownClock{}
	c.Skip(time.Hour)
	SetClock(c)
	blocks := fillBytes(t, 4*mebibyte, 4096)
	kick()
	if n := c.Pending(); n != 1 {
		t.Fatalf("%d timers are set, want 1", n)
	}
	c.later = 2 * lostTicks * time.Second
	c.Advance(time.Second)
	if n := c.Pending(); n != 1 {
		t.Errorf("%d timers are set after the tick, want 1", n)
	}
	freeBlocks(t, blocks)
	c.Advance(time.Hour)
	if n := c.Pending(); n != 0 || scavenger.armed.Load() {
		t.Errorf("%d timers are set for ever, armed: %v", n, scavenger.armed.Load())
	}
}

// TestInvalidFreeTrimsNoHeap: a Heap trims its magazines in its own slow paths, but
// an invalid free, which is one, changes nothing.
func TestInvalidFreeTrimsNoHeap(t *testing.T) {
	c := withClock(t)
	f := front(t)
	defer CloseHeapFront(f)
	class := sizeclass.Of(48)
	idle := func() {
		Free(0, Malloc(0, 3<<20)) // something to return, or the scavenger does not look
		c.Advance(time.Minute)
	}
	if bad := Free(f, Malloc(f, 48)); bad.Kind != OK {
		t.Fatalf("%+v", bad)
	}
	idle()
	trimHeap(f) // marks what lies there
	idle()
	n := held(f, class)
	if head(f).epoch == times.epoch.Load() || n == 0 {
		t.Fatalf("%d blocks in the magazine, and no turn to trim it: the test shows nothing", n)
	}
	if bad := Free(f, 1<<60); bad.Kind != Foreign {
		t.Errorf("%+v", bad)
	}
	if held(f, class) != n {
		t.Errorf("an invalid free trimmed the magazine: %d of %d blocks left", held(f, class), n)
	}
	if bad := Free(f, Malloc(0, 100_000)); bad.Kind != OK {
		t.Fatalf("%+v", bad)
	}
	if held(f, class) != 0 {
		t.Errorf("a valid one did not: %d blocks left", held(f, class))
	}
}
