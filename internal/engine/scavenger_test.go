package engine

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/sizeclass"
	"github.com/hakmem/hakmem/internal/testkit"
)

// TestScavengerReturnsAPeak: after a peak of blocks of every kind, of which nothing is known yet, the
// memory is kept for a second and returned before 8 s have passed. Then no timer is set any more.
func TestScavengerReturnsAPeak(t *testing.T) {
	for _, size := range []mem.Bytes{48, 1000, 5000, 32 << 10, 100 << 10, 2 << 20, 5 << 20} {
		c := withClock(t)
		before, _ := use()
		blocks := fillBytes(t, 64*mebibyte, size)
		freeBlocks(t, blocks)
		if c.Pending() == 0 {
			t.Fatalf("%d bytes: no timer after 64 MiB were freed", size)
		}
		c.Advance(time.Second)
		if used, dirty := use(); used+dirty < 50*16 {
			t.Errorf("%d bytes: %d pages of the peak left after a second: too little was kept", size, used+dirty)
		}
		c.Advance(7 * time.Second)
		if used, dirty := use(); used+dirty-before > 6*16 {
			t.Errorf("%d bytes: %d pages in use and %d dirty after 8 s, %d were in use before the peak", size, used, dirty, before)
		}
		c.Advance(30 * time.Second)
		if used, dirty := use(); dirty != 0 || used > before {
			t.Errorf("%d bytes: %d pages in use and %d dirty in the end, %d in use before", size, used, dirty, before)
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

// needLearning skips the tests of what is learnt where nothing is.
func needLearning(t *testing.T) {
	t.Helper()
	if !learning {
		t.Skip("skipped: hakmem_nolearn")
	}
}

// TestScavengerKeepsWhatIsWanted: demand that comes back soon is learnt, and does not lead to returns
// any more; KEEP=always sets no timer at all.
func TestScavengerKeepsWhatIsWanted(t *testing.T) {
	needLearning(t)
	for _, gap := range []time.Duration{500 * time.Millisecond, time.Second, 1700 * time.Millisecond} {
		c := withClock(t)
		for range 8 {
			freeBlocks(t, fillBytes(t, 64*mebibyte, 256<<10))
			c.Advance(gap)
		}
		was := pageUse.returned
		for range 10 {
			freeBlocks(t, fillBytes(t, 64*mebibyte, 256<<10))
			c.Advance(gap)
		}
		if n := pageUse.returned - was; n > 10*1024/10 {
			t.Errorf("demand of 64 MiB every %v: %d pages of 10,240 were returned", gap, n)
		}
	}

	c := withClock(t)
	withPolicy(t, map[string]string{"HAKMEM_KEEP": "always"})
	freeBlocks(t, fillBytes(t, 64*mebibyte, 256<<10))
	if n := c.Pending(); n != 0 {
		t.Errorf("HAKMEM_KEEP=always: %d timers", n)
	}
	Trim() // still works
	if _, dirty := use(); dirty != 0 {
		t.Errorf("HAKMEM_KEEP=always: %d dirty pages after Trim", dirty)
	}
}

// TestScavengerLearns: what came of keeping and returning is learnt, and the figures count it.
func TestScavengerLearns(t *testing.T) {
	needLearning(t)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // another P would keep blocks in its magazine, too
	period := func(c *testkit.Clock, d time.Duration) {
		freeBlocks(t, fillBytes(t, 64*mebibyte, 256<<10))
		c.Advance(d)
	}
	t.Run("rare demand", func(t *testing.T) {
		c := withClock(t)
		was := pageUse
		for range 12 {
			period(c, 20*time.Second)
		}
		if pageUse.vain-was.vain < 11*50*16 || pageUse.again > was.again+64 {
			t.Errorf("kept in vain: %d pages, faulted again: %d; want 12 peaks of 1024 or nearly so, and none",
				pageUse.vain-was.vain, pageUse.again-was.again)
		}
		freeBlocks(t, fillBytes(t, 64*mebibyte, 256<<10))
		c.Advance(time.Second) // magazines and shared slots keep theirs for a time
		if _, dirty := use(); dirty > 20*16 {
			t.Errorf("demand of 64 MiB every 20 s: a second later %d pages are dirty", dirty)
		}
	})
	t.Run("faulted again", func(t *testing.T) {
		c := withClock(t)
		was := pageUse
		period(c, 6*time.Second)
		period(c, 0) // takes what was returned 2 or 3 s ago
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

// TestSameAddresses: where blocks go does not depend on what was returned. So a wait says what every
// hold time would have cost.
func TestSameAddresses(t *testing.T) {
	needLearning(t)
	var first []Block
	for _, keep := range []string{"never", "always", "auto", "1s"} {
		c := withClock(t)
		// Caches are trimmed at ticks, which there are not with always.
		withPolicy(t, map[string]string{"HAKMEM_KEEP": keep, "HAKMEM_HUGE_CACHE_BYTES": "0"})
		r := rand.New(rand.NewPCG(1, 15))
		var live, all []Block
		for range 1000 {
			if len(live) > 0 && r.IntN(200) < len(live) {
				i := r.IntN(len(live))
				freeBlocks(t, live[i:i+1])
				live[i] = live[len(live)-1]
				live = live[:len(live)-1]
			} else {
				size := sizeclass.MaxLarge + 1 + mem.Bytes(r.IntN(3*mebibyte))
				p := Malloc(0, size)
				if p == 0 {
					t.Fatal(Survived())
				}
				live, all = append(live, p), append(all, p)
			}
			if r.IntN(20) == 0 {
				c.Advance(time.Duration(r.IntN(3000)) * time.Millisecond)
			}
		}
		freeBlocks(t, live)
		if first == nil {
			first = all
		} else if !slices.Equal(first, all) {
			t.Errorf("HAKMEM_KEEP=%s: blocks have other addresses than with never", keep)
		}
	}
}

// freedPages allocates 4 MiB, frees them, and returns what says whether one of their pages counts as new.
func freedPages(t *testing.T) (anyNew func() bool) {
	t.Helper()
	p := fillBytes(t, 4*mebibyte, 4*mebibyte)[0]
	page, n := p.page(), pageCount(4*superPages/2)
	freeBlocks(t, []Block{p})
	return func() bool {
		region.mu.Lock()
		defer region.mu.Unlock()
		return tree.anyNew(page, n)
	}
}

// TestUsedPages: a page that was used counts as one, whether its memory was returned or not.
func TestUsedPages(t *testing.T) {
	needLearning(t)
	withClock(t)
	withPolicy(t, map[string]string{"HAKMEM_HUGE_CACHE_BYTES": "0"})
	anyNew := freedPages(t)
	if anyNew() {
		t.Error("pages that were just freed count as new")
	}
	Trim()
	if anyNew() {
		t.Error("pages that were returned count as new")
	}
	region.mu.Lock()
	keeper.model = nil // as if none of them had ever been freed
	region.mu.Unlock()
	if !anyNew() {
		t.Error("pages that were never used do not count as new")
	}
}

// TestUsedPagesUnlearnt: where nothing is learnt, pages that still have memory count as used.
func TestUsedPagesUnlearnt(t *testing.T) {
	withClock(t)
	withPolicy(t, map[string]string{"HAKMEM_HUGE_CACHE_BYTES": "0", "HAKMEM_EVO": "off"})
	anyNew := freedPages(t)
	if anyNew() {
		t.Error("pages that were just freed count as new")
	}
	Trim()
	if !anyNew() {
		t.Error("pages that were returned do not count as new")
	}
}

// TestScavengerEndsWithNothing: with the real clock and a short window, a program that has stopped
// allocating has no goroutine and no timer of hakmem's.
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
	if _, dirty := use(); dirty != 0 {
		t.Errorf("%d pages are dirty", dirty)
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

// TestScavengerDrainsIdleFronts: a front that nobody uses is drained; a front that is used is not.
func TestScavengerDrainsIdleFronts(t *testing.T) {
	if !canPin {
		t.Skip("skipped: without pinning there are no fronts of Ps")
	}
	c := withClock(t)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // on another P the front of the first would be idle
	var blocks []Block
	used := drains.Load()
	for range 40 {
		c.Advance(tick())
		p := Malloc(0, 64)
		if p == 0 {
			t.Fatal(Survived())
		}
		blocks = append(blocks, p)
	}
	freeBlocks(t, blocks)
	busy := drains.Load() - used
	c.Advance(8 * time.Second)
	if busy > 1 { // those of the other Ps, from before
		t.Errorf("a front in use was drained %d times", busy)
	}
	if idle := drains.Load() - used - busy; idle == 0 {
		t.Error("an idle front was not drained in 8 s")
	}
	for i := range pFronts {
		if Front(pFronts[i]) != trapFront {
			t.Errorf("P %d still has a front", i)
		}
	}
}

// TestHeapTrimsItself: blocks that lie idle in a Heap's magazines are given back when the Heap
// comes to a slow path and the scavenger has ticked twice.
func TestHeapTrimsItself(t *testing.T) {
	c := withClock(t)
	f := heapFront(t)
	p := Malloc(f, mebibyte)
	if bad := Free(f, p); bad.Kind != OK {
		t.Fatal(bad)
	}
	class := sizeclass.LargeOf(mebibyte)
	for range 3 {
		if f.held(class) == 0 {
			break
		}
		kick()
		c.Advance(tick())
		Free(f, Malloc(f, 100<<10)) // other work
	}
	if n := f.held(class); n != 0 {
		t.Errorf("%d idle large blocks in the Heap's magazine", n)
	}
}

// TestClockReplaced: what an earlier clock was asked to do is no longer done, and the new clock has
// one timer.
func TestClockReplaced(t *testing.T) {
	was := withClock(t)
	freeBlocks(t, fillBytes(t, 4*mebibyte, 4096))
	if n := was.Pending(); n != 1 {
		t.Fatalf("%d timers are set, want 1", n)
	}
	c := &testkit.Clock{}
	c.Skip(time.Hour)
	SetClock(c)
	kick()
	kick()
	ticks := scavenger.ticks.Load()
	was.Advance(time.Hour)
	if n := scavenger.ticks.Load() - ticks; n != 0 || was.Pending() != 0 {
		t.Errorf("the earlier clock made %d ticks, and has %d timers", n, was.Pending())
	}
	if n := c.Pending(); n != 1 {
		t.Errorf("%d timers are set, want 1", n)
	}
	c.Advance(time.Hour)
	if n := c.Pending(); n != 0 || scavenger.armed.Load() {
		t.Errorf("%d timers are set for ever, armed: %v", n, scavenger.armed.Load())
	}
}
