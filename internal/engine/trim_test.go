package engine

import (
	"slices"
	"testing"

	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/site"
)

// TestTrimTakesEverything: magazines, shared slots, the SiteCache, huge blocks.
func TestTrimTakesEverything(t *testing.T) {
	withClock(t)
	before, _ := use()
	label := site.Register("trim takes everything")
	var blocks []Block
	for _, size := range []mem.Bytes{64, 2000, 40 << 10, mebibyte, 3 * mebibyte, 40 * mebibyte} {
		for range 20 {
			blocks = append(blocks, Malloc(0, size), MallocAt(label, size))
		}
	}
	freeBlocks(t, blocks)
	var totals Totals
	ReadTotals(&totals)
	if totals.Shared.Blocks == 0 || totals.SiteCache.Blocks == 0 || totals.HugeCache.Blocks == 0 {
		t.Errorf("caches are empty: shared %+v, site %+v, huge %+v", totals.Shared, totals.SiteCache, totals.HugeCache)
	}
	Trim()
	if used, dirty := use(); used > before || dirty != 0 {
		t.Errorf("%d pages in use, %d dirty; %d in use before", used, dirty, before)
	}
}

// TestTrimReturnsMemory: after everything is freed, Trim leaves no superslab in use except those
// that leases hold, and the pages read as zero again.
func TestTrimReturnsMemory(t *testing.T) {
	var all []Block
	for range 100_000 {
		p := Malloc(0, 400)
		*word(p.addr()) = ^uintptr(0)
		all = append(all, p)
	}
	big := Malloc(0, 5<<20)
	*u8((big + 3<<20).addr()) = 1
	for _, p := range all {
		Free(0, p)
	}
	Free(0, big)
	Trim()
	for c := region.firstChunk(); c < region.endChunk(); c++ {
		s := super(c)
		if s.free&s.dirty != 0 {
			t.Fatalf("superslab %d: free pages %#x are still dirty", c, s.free&s.dirty)
		}
	}
	p, zero := newLarge(0, 5<<20, 1, 0, 0)
	if zero != allZeroes || slices.ContainsFunc(memory(p, 5<<20), func(b byte) bool { return b != 0 }) {
		t.Errorf("the large block after Trim: zero = %v", zero)
	}
	Free(0, p)
}

// TestLiveMapThatWasRead: where reads take memory, what was read of the live map goes back with the memory of
// the blocks.
func TestLiveMapThatWasRead(t *testing.T) {
	needsLook(t)
	defer osmem.AssumeReads(true)()
	const size = 1 << 20
	var blocks [8]Block
	sum := byte(0)
	for i := range blocks {
		blocks[i] = Malloc(0, size)
		clear(memory(blocks[i], size))
		for at := liveOf(blocks[i]); at < liveOf(blocks[i]+size); at++ {
			sum += *u8(at)
		}
	}
	for _, p := range blocks {
		Free(0, p)
	}
	Trim()
	for _, p := range blocks {
		from := liveOf(p).Up(osmem.PageSize())
		to := mem.Addr(mem.Bytes(liveOf(p + size)).Down(osmem.PageSize()))
		if n := residentBytes(t, from, to.From(from)); n != 0 {
			t.Errorf("%d bytes of the live map of %#x are resident; %d", n, uintptr(p), sum)
		}
	}
}
