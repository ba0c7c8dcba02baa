package engine

import (
	"slices"
	"testing"
	"time"

	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// TestZeroDirty: when a part of a large block was used before, MallocZero clears that part, and
// leaves alone the chunks that still read as zero.
func TestZeroDirty(t *testing.T) {
	const used, size = 3*superSize + 5*pageSize, 12*superSize + 3*pageSize + 100
	Trim()
	p := Malloc(0, size) // lies where the next block of its size will be
	if !Resize(p, used, KeepAll) || !Resize(p, sizeclass.MaxMid+1, KeepAll) {
		t.Fatal("the large block did not become smaller")
	}
	Trim()
	if !Resize(p, used, KeepAll) { // only so much of it has memory
		t.Fatal("the large block did not grow")
	}
	b := memory(p, used)
	for i := range b {
		b[i] = 0xFF
	}
	// Not as a whole: that would go to the huge-block cache.
	if !Resize(p, sizeclass.MaxMid+1, KeepAll) {
		t.Fatal("the large block did not become smaller")
	}
	Free(0, p)
	reclaimSkip.Store(0)
	if !reclaim(0, pageSize) { // to the page tree, with its memory
		t.Fatal("nothing was reclaimed")
	}
	before, _ := osmem.ProcessFaults()
	q := MallocZero(0, size)
	findings, _ := osmem.ProcessFaults()
	if q != p {
		t.Fatalf("the large block came back as %#x, not %#x: nothing was tested", q, p)
	}
	if n := findings - before; n*4096 > used+superSize*3 {
		t.Errorf("%d page faults to clear %d bytes of %d", n, used, size)
	}
	if i := slices.IndexFunc(memory(q, size), func(b byte) bool { return b != 0 }); i >= 0 {
		t.Errorf("byte %d is not 0", i)
	}
	Free(0, q)
	Trim()
}

// TestFreeWithoutAFront: a P that has no front and can get none frees all the same. The block goes
// straight to its slab, and comes from there again.
func TestFreeWithoutAFront(t *testing.T) {
	withClock(t)
	blocks := fillBytes(t, mebibyte, 48)
	Trim() // the P's front goes to the pool
	frontPool.mu.Lock()
	most, pool := frontPool.max, frontPool.free
	frontPool.max, frontPool.free = frontPool.built.Load(), nil
	frontPool.mu.Unlock()
	if p := Malloc(0, 48); p != 0 {
		t.Errorf("Malloc = %#x without a front", p)
	}
	freeBlocks(t, blocks)
	if bad := Free(0, blocks[0]); bad.Kind != Freed {
		t.Errorf("a second free: %+v", bad)
	}
	frontPool.mu.Lock()
	frontPool.max, frontPool.free = most, pool
	frontPool.mu.Unlock()
	Trim()
	if used, dirty := use(); used != 0 || dirty != 0 {
		t.Errorf("all freed, trimmed: %d pages used, %d dirty", used, dirty)
	}
	freeBlocks(t, fillBytes(t, mebibyte, 48))
}

// TestInvalidFreeTrimsNoHeap: a Heap trims its magazines in its own slow paths. An invalid free is
// a slow path too, but changes nothing.
func TestInvalidFreeTrimsNoHeap(t *testing.T) {
	c := withClock(t)
	f := heapFront(t)
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
	n := f.held(class)
	if f.head().epoch == times.epoch.Load() || n == 0 {
		t.Fatalf("%d blocks in the magazine, and no turn to trim it: the test shows nothing", n)
	}
	if bad := Free(f, 1<<60); bad.Kind != Foreign {
		t.Errorf("%+v", bad)
	}
	if f.held(class) != n {
		t.Errorf("an invalid free trimmed the magazine: %d of %d blocks left", f.held(class), n)
	}
	if bad := Free(f, Malloc(0, 100_000)); bad.Kind != OK {
		t.Fatalf("%+v", bad)
	}
	if f.held(class) != 0 {
		t.Errorf("a valid one did not: %d blocks left", f.held(class))
	}
}

// sawGrowth calls do, by which the region must grow, and wants the scavenger to have seen
// it (kickGrown) when do is back.
func sawGrowth(t *testing.T, do func()) {
	t.Helper()
	kickGrown() // what was grown before is not do's
	was := region.committed.Load()
	do()
	switch seen, now := scavenger.seenGrown.Load(), region.committed.Load(); {
	case now == was:
		t.Errorf("the region has %d bytes still: nothing was tested", now)
	case seen != now:
		t.Errorf("the region has grown from %d bytes to %d; the scavenger has seen %d", was, now, seen)
	}
}

// longestFree returns the number of pages of the longest free run.
func longestFree() pageCount {
	region.mu.Lock()
	defer region.mu.Unlock()
	return pageCount(tree.node(1).max)
}

// TestSlabsGrowTheHeap: the scavenger sees that a heap grows by slabs.
func TestSlabsGrowTheHeap(t *testing.T) {
	withClock(t)
	var blocks []Block
	sawGrowth(t, func() {
		for was := region.committed.Load(); region.committed.Load() == was; {
			p := Malloc(0, sizeclass.MaxMid)
			if p == 0 {
				t.Fatal(Survived())
			}
			blocks = append(blocks, p)
		}
	})
	freeBlocks(t, blocks)
}

// TestResizeGrowsTheHeap: the scavenger sees that a heap grows by a block that grows in
// place, beyond the committed pages.
func TestResizeGrowsTheHeap(t *testing.T) {
	withClock(t)
	p := Malloc(0, (longestFree() + 1).bytes()) // ends among the last pages
	if p == 0 {
		t.Fatal(Survived())
	}
	sawGrowth(t, func() {
		beyond := pageCount(region.endPage()-p.page()) + 1
		if !Resize(p, beyond.bytes(), KeepAll) {
			t.Fatalf("the block does not grow to %d pages where it is", beyond)
		}
	})
	freeBlocks(t, []Block{p})
}
