package engine

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/site"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// TestLargeCaches: hits, misses and evictions of the three caches.
func TestLargeCaches(t *testing.T) {
	withRoom(t)
	withClock(t)
	a, b := site.Register("large caches a"), site.Register("large caches b")
	var was, is Totals
	t.Run("BigCache", func(t *testing.T) {
		ReadTotals(&was)
		const size = 300 << 10
		p := MallocAt(a, size)
		Free(0, p)
		if q := MallocAt(b, size); q == p {
			t.Error("another label got the label's block")
		} else {
			Free(0, q)
		}
		if q := Malloc(0, size); q == p {
			t.Error("an allocation without a label got the label's block")
		} else {
			Free(0, q)
		}
		if q := MallocAt(a, size+1000); q != p { // the same class
			t.Errorf("the label got %#x back, want %#x", q, p)
		}
		x := MallocAt(a, size)
		Free(0, p)
		Free(0, x) // evicts p
		if q := MallocAt(a, size); q != x {
			t.Errorf("the label got %#x back, want %#x", q, x)
		}
		Free(0, x)
		ReadTotals(&is)
		if h, m, e := is.SiteCache.Hits-was.SiteCache.Hits, is.SiteCache.Misses-was.SiteCache.Misses, is.SiteCache.Evictions-was.SiteCache.Evictions; h != 2 || m != 3 || e != 1 {
			t.Errorf("%d hits, %d misses, %d evictions; want 2, 3, 1", h, m, e)
		}
		if bad := Free(0, x); bad.Kind != Freed {
			t.Errorf("a second free of a block in the SiteCache: %+v", bad)
		}
	})
	t.Run("shared", func(t *testing.T) {
		Trim()
		ReadTotals(&was)
		const size, n = 2 * mebibyte, 10 // one fits a magazine
		blocks := fillBytes(t, n*size, size)
		freeBlocks(t, blocks)
		ReadTotals(&is)
		if is.Shared.Blocks < n-2 || is.Large.Frees != was.Large.Frees {
			t.Errorf("%d blocks in shared slots, %d went back; want %d and 0", is.Shared.Blocks, is.Large.Frees-was.Large.Frees, n-1)
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
		if is.Shared.Blocks != sharedSlots || is.Shared.Evictions == was.Shared.Evictions {
			t.Errorf("%+v, want %d blocks and evictions", is.Shared, sharedSlots)
		}
	})
	t.Run("huge", func(t *testing.T) {
		Trim()
		withPolicy(t, map[string]string{"HAKMEM_HUGE_CACHE_BYTES": "33554432"})
		ReadTotals(&was)
		const size = 10 * mebibyte
		blocks := fillBytes(t, 2*size, size)
		freeBlocks(t, blocks) // there is room for one
		ReadTotals(&is)
		if is.HugeCache.Blocks != 1 || is.HugeCache.Bytes != size || is.HugeCache.Evictions-was.HugeCache.Evictions != 1 {
			t.Errorf("%+v, want 1 block of 10 MiB, 1 eviction", is.HugeCache)
		}
		if q := Malloc(0, size-4096); q != blocks[1] {
			t.Errorf("got %#x, want the one freed last, %#x", q, blocks[1])
		} else if bad := Free(0, q); bad.Kind != OK {
			t.Error(bad)
		} else if bad := Free(0, q); bad.Kind != Freed {
			t.Errorf("a second free of a block in the huge-block cache: %+v", bad)
		}
		if q := Malloc(0, size*3/2); q == blocks[1] {
			t.Error("10 MiB in the cache were handed out for 15")
		} else {
			Free(0, q)
		}
		q := Malloc(0, 40*mebibyte) // larger than the cache
		Free(0, q)
		ReadTotals(&is)
		if is.HugeCache.Hits-was.HugeCache.Hits != 1 || is.HugeCache.Blocks != 0 {
			t.Errorf("%+v, want 1 hit more than %d and no block", is.HugeCache, was.HugeCache.Hits)
		}
	})
}

// TestHugeIsNotAside: an allocation of another size gets the pages of the cached huge block, so that a program
// whose sizes differ touches no others.
func TestHugeIsNotAside(t *testing.T) {
	withClock(t)
	withPolicy(t, nil)
	// So much that the cached block is less than a 16th of it, and does not go because new memory is needed.
	before := []Block{Malloc(0, 300*mebibyte)}
	p := Malloc(0, 10*mebibyte)
	behind := Malloc(0, 10*mebibyte)
	freeBlocks(t, []Block{p})
	q := Malloc(0, 9*mebibyte)
	if q != p {
		t.Errorf("9 MiB are at %#x, and not in the 10 MiB at %#x that were freed", q, p)
	}
	freeBlocks(t, append(before, q, behind))
}

// TestSlotsLearn: a class has one open slot. It has more of them as its blocks are taken again, and fewer as they
// go back to the page tree.
func TestSlotsLearn(t *testing.T) {
	withClock(t)
	withRoom(t)
	const size = 300 << 10
	c := sizeclass.LargeOf(size)
	line := &shared[c-sizeclass.Num-1]
	line.won.Store(0)
	var blocks []Block // that are in no slot
	for range sharedSlots + 1 {
		p := mallocPages(size, 1, 0)
		if p == 0 {
			t.Fatal(Survived())
		}
		setLive(p, c, 0)
		blocks = append(blocks, p)
	}
	give := func() (n int) {
		for len(blocks) > 0 && giveShared(c, blocks[len(blocks)-1]) {
			blocks = blocks[:len(blocks)-1]
			n++
		}
		return n
	}
	take := func() {
		for p := takeShared(c); p != 0; p = takeShared(c) {
			blocks = append(blocks, p)
		}
	}
	if n := give(); n != 1 {
		t.Fatalf("%d slots are open at first, want 1", n)
	}
	for range 100 { // each is taken again
		take()
		give()
	}
	if n := sharedSlots + 1 - len(blocks); n != sharedSlots {
		t.Errorf("%d slots are open where each block is taken again, want %d", n, sharedSlots)
	}
	for range 2 { // the first look only notes what there is
		region.mu.Lock()
		dropShared()
		region.mu.Unlock()
	}
	if want := 1 + (mostWon-sharedSlots*lossWorth)/slotWorth; line.open() != want {
		t.Errorf("%d slots are open after %d blocks went back, want %d", line.open(), sharedSlots, want)
	}
	releaseAll(blocks)
}

// TestHugeFreedDuringATick: a huge block that is freed after a tick read the time is not old.
func TestHugeFreedDuringATick(t *testing.T) {
	c := withClock(t)
	c.Advance(time.Minute)
	now := milliseconds()
	p := Malloc(0, 3*mebibyte)
	c.Advance(time.Millisecond)
	freeBlocks(t, []Block{p})
	look := func(now, age millis) bool {
		scavenger.mu.Lock()
		defer scavenger.mu.Unlock()
		trimCaches(stamp(now), age)
		region.mu.Lock()
		defer region.mu.Unlock()
		return hugeCache.kept.p != 0
	}
	if !look(millis(now), decay()) {
		t.Error("a tick dropped a block that was freed while it ran")
	}
	if look(millis(now), 0) {
		t.Error("Trim left a block that was freed while it ran")
	}
}

// TestHugeBlocksAreKept: demand for huge blocks that comes every 2 s never causes a fault, even if the
// timer has stopped in between.
func TestHugeBlocksAreKept(t *testing.T) {
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

// TestIdleSlotsAreReturned: after a peak, the large blocks in shared slots are returned although
// the first slot is in use all the time.
func TestIdleSlotsAreReturned(t *testing.T) {
	withRoom(t)
	c := withClock(t)
	const size, alive = 2 * mebibyte, 12
	freeBlocks(t, fillBytes(t, alive*size, size))
	class := sizeclass.LargeOf(size)
	for range 40 {
		c.Advance(250 * time.Millisecond)
		p := takeShared(class)
		if p == 0 || !giveShared(class, p) {
			t.Fatal("no large block in the shared slots")
		}
	}
	var totals Totals
	ReadTotals(&totals)
	if totals.Shared.Blocks != 1 {
		t.Errorf("%d large blocks in shared slots after 10 s in which one was used", totals.Shared.Blocks)
	}
}

// TestLateLargeInSiteCache: two overlapping frees put a large block into the SiteCache and into a
// magazine. The copy in the magazine went back to the page tree; the other is dropped when it
// leaves the SiteCache.
func TestLateLargeInSiteCache(t *testing.T) {
	withRoom(t)
	withClock(t)
	label := site.Register("late large block")
	const size = 300 << 10
	class := sizeclass.LargeOf(size)
	for name, next := range map[string]func() Block{
		"by an allocation": func() Block { return MallocAt(label, size) },
		"by an eviction": func() Block {
			q := mallocPages(size, 1, 0)
			if p, c, _ := giveSiteCached(label, class, q); p == 0 || c != class {
				t.Errorf("evicted %#x of class %d", p, c)
			} else if late := lateIn(func() { releaseAll([]Block{p}) }); late != p {
				t.Errorf("the page tree took the large block twice: late %#x, want %#x", late, p)
			}
			return takeSiteCached(label, class)
		},
	} {
		TakeFinding()
		was := lateFrees.Load()
		p := MallocAt(label, size)
		Free(0, p)
		if late := lateIn(func() { releaseAll([]Block{p}) }); late != 0 { // the other copy
			t.Fatalf("%s: late %#x", name, late)
		}
		if q := next(); q == 0 || q == p && meta(p.page()).live == 0 {
			t.Errorf("%s: got %#x", name, q)
		} else if meta(q.page()).live != 0 {
			Free(0, q)
		} else {
			releaseAll([]Block{q})
		}
		if lateFrees.Load() != was+1 {
			t.Errorf("%s: %d late double frees, want 1", name, lateFrees.Load()-was)
		}
	}
	TakeFinding()
	Trim()
}

// TestLateLargeInSlot: a large block that two overlapping frees put into the magazine and into a
// shared slot is handed out once. The other copy is dropped when it leaves the slot.
func TestLateLargeInSlot(t *testing.T) {
	withRoom(t)
	f := heapFront(t)
	const size = 300 << 10
	c := sizeclass.LargeOf(size)
	TakeFinding()
	p := Malloc(f, size)
	Free(f, p)
	if !giveShared(c, p) { // the other copy
		t.Fatal("no shared slot is empty")
	}
	was := lateFrees.Load()
	first, second := Malloc(f, size), Malloc(f, size)
	if first != p || second == p || second == 0 {
		t.Errorf("the large block %#x is handed out as %#x and %#x", p, first, second)
	}
	if bad := TakeFinding(); lateFrees.Load() != was+1 || bad.Kind != LateFreed || bad.Addr != p.addr() {
		t.Errorf("%d late double frees, want 1; reported: %+v", lateFrees.Load()-was, bad)
	}
	Free(f, first)
	Free(f, second)
}

// TestSlotsAtOnce: goroutines take large blocks from the shared slots and put them back. No large
// block is with two of them, and none is lost.
func TestSlotsAtOnce(t *testing.T) {
	withRoom(t)
	const size, larges, goroutines = 300 << 10, 2, 4
	// A second on two busy cores. There goroutines seldom run at the same time, and it takes
	// millions of turns until two of them meet between two instructions.
	turns := 10_000_000
	if testing.Short() || raced {
		turns = 1_000_000
	}
	c := sizeclass.LargeOf(size)
	Trim()
	var all [larges]Block
	for i := range all {
		if all[i] = Malloc(0, size); all[i] == 0 {
			t.Fatal(Survived())
		}
	}
	for _, p := range all {
		setLive(p, c, 0)
		if !giveShared(c, p) {
			t.Fatal("no shared slot is empty")
		}
	}
	var taken [larges]atomic.Bool
	var twice atomic.Bool
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for i := 0; i < turns && !twice.Load(); i++ {
				p := takeShared(c)
				if p == 0 {
					continue
				}
				is := &taken[slices.Index(all[:], p)]
				if is.Swap(true) {
					twice.Store(true)
					t.Errorf("turn %d: the large block %#x is taken twice", i, p)
					return
				}
				is.Store(false)
				if !giveShared(c, p) {
					t.Errorf("turn %d: no slot is empty", i)
					return
				}
			}
		})
	}
	wg.Wait()
	for range all {
		p := takeShared(c)
		i := slices.Index(all[:], p)
		if i < 0 {
			t.Fatalf("a slot has %#x, which is none of %#x", p, all)
		}
		all[i] = 1 // seen
		releaseAll([]Block{p})
	}
	if p := takeShared(c); p != 0 {
		t.Errorf("a slot has %#x, more than was put in", p)
	}
}
