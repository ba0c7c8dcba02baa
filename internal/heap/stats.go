package heap

import (
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/sizeclass"
)

// ClassTotals is what Totals says of one class.
type ClassTotals struct {
	Size                           uint64
	Free, InMagazines              uint64 // blocks
	Blocks                         uint64 // all blocks of the class's slabs
	Slabs                          uint64
	Hits, Misses, Refills, Flushes uint64
	Empty, Partial, Cross          uint64 // acquisitions by stage
	Fresh                          uint64
}

// Totals is a picture of the engine: exact when nobody allocates or frees.
type Totals struct {
	Reserved, Committed, Metadata  uint64
	OwnHits                        uint64
	Classes                        [sizeclass.Num + 1]ClassTotals
	SpanBlocks, SpanBytes          uint64 // live
	WarmBlocks, WarmBytes          uint64 // in magazines
	SpanAllocs, SpanFrees          uint64
	Superslabs, Fronts             int
	Drains, LateFrees, OutOfMemory uint64
}

// ReadTotals fills t. Any goroutine. It walks the page table up to the
// committed bound and every front: 20 µs for an idle heap, 1 ms for a gigabyte.
func ReadTotals(t *Totals) {
	*t = Totals{}
	for c := range t.Classes {
		t.Classes[c].Size = uint64(classSize(uint8(c)))
	}
	t.OutOfMemory = outOfMemory.Load()
	if !region.ready.Load() {
		return
	}
	t.Reserved = uint64(region.size - region.first)
	t.Committed = uint64(region.committed.Load() - region.first)
	t.Metadata = uint64(region.metaCommitted.Load())
	t.Superslabs = int(superslabs.Load())
	t.SpanAllocs, t.SpanFrees = spanStats.allocs.Load(), spanStats.frees.Load()
	t.Drains, t.LateFrees = drains.Load(), lateFrees.Load()

	for c := range classes {
		cs, ct := &classes[c], &t.Classes[c]
		cs.mu.Lock()
		ct.Empty, ct.Partial, ct.Cross, ct.Fresh = cs.empty, cs.partial, cs.cross, cs.fresh
		cs.mu.Unlock()
	}
	for page := region.first >> pageShift; page < region.committed.Load()>>pageShift; page++ {
		m := meta(page)
		c := m.slabClass.Load()
		if c == 0 {
			if m.kind == kindSpan {
				t.SpanBlocks++
				t.SpanBytes += uint64(m.spanSize)
			}
			continue
		}
		k, ct := &sizeclass.Classes[c], &t.Classes[c]
		ct.Slabs++
		ct.Blocks += uint64(k.Blocks)
		ct.Free += uint64(slabID(page + 1).freeBlocks(k))
	}
	for i := uintptr(0); i < frontPool.built.Load(); i++ {
		f := frontPool.base + i*frontSize
		t.OwnHits += atomic.LoadUint64(&head(f).ownHits)
		for c := uint8(1); c <= sizeclass.Num; c++ {
			ct := &t.Classes[c]
			n := held(f, c)
			ct.InMagazines += uint64(n)
			ct.Hits += atomic.LoadUint64(&head(f).hits[c])
			if seen := uintptr(head(f).seen[c]); seen > n {
				ct.Hits += uint64(seen - n)
			}
			ct.Misses += atomic.LoadUint64(misses(f, c))
			ct.Refills += atomic.LoadUint64(refills(f, c))
			ct.Flushes += atomic.LoadUint64(flushes(f, c))
		}
		for c := uint8(sizeclass.Num + 1); c <= sizeclass.NumAll; c++ {
			n := uint64(held(f, c))
			t.WarmBlocks += n
			t.WarmBytes += n * uint64(sizeclass.SpanBytes(c))
		}
	}
	// What is warm was counted as alive above.
	t.SpanBlocks -= min(t.SpanBlocks, t.WarmBlocks)
	t.SpanBytes -= min(t.SpanBytes, t.WarmBytes)
	frontPool.mu.Lock()
	t.Fronts = int(frontPool.built.Load()) - len(frontPool.free)
	frontPool.mu.Unlock()
}
