package heap

import (
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/sizeclass"
)

// spanStats counts spans. Live figures are exact when quiescent.
var spanStats struct {
	liveBlocks, liveBytes atomic.Int64
	allocs, frees         atomic.Uint64
}

// mallocSpan returns a span of at least size bytes whose address is a multiple
// of alignPages pages, or 0. Its pages come from the page tree, lowest address
// first; the tail of the last page beyond the usable size is never touched.
func mallocSpan(size, alignPages uintptr, site uint32) uintptr {
	p, _ := newSpan(size, alignPages, site, 0)
	return p
}

// newSpan also reports whether the span still reads as zero.
func newSpan(size, alignPages uintptr, site uint32, flags uint8) (p uintptr, zero bool) {
	usable, ok := sizeclass.SpanSize(size)
	if !Ready() || !ok || usable > region.size-region.first {
		return noMemory(), false
	}
	n := roundUp(usable, pageSize) >> pageShift
	page, zero, ok := takeRun(n, alignPages)
	if !ok && reclaim() {
		if page, zero, ok = takeRun(n, alignPages); !ok {
			reclaimFailed()
		}
	}
	if !ok {
		return noMemory(), false
	}
	p = region.base + page<<pageShift
	for i := range n {
		m := meta(page + i)
		m.start, m.recip, m.class, m.kind = p, 0, 0, kindSpanTail
	}
	m := meta(page)
	m.pages, m.spanSize, m.site, m.flags, m.kind = uint32(n), usable, site, flags, kindSpan
	spanStats.allocs.Add(1)
	spanStats.liveBlocks.Add(1)
	spanStats.liveBytes.Add(int64(usable))
	if site != 0 {
		siteAdd(site, int64(usable), 1)
	}
	return p, zero
}

// takeRun takes n pages from the page tree, committing more if it must.
func takeRun(n, alignPages uintptr) (page uintptr, clean, ok bool) {
	r := &region
	r.mu.Lock()
	defer r.mu.Unlock()
	want := n + alignPages - 1 // a run this long holds an aligned one
	page, ok = r.tree.find(uint32(want))
	if !ok {
		// What is free at the end of the committed pages need not be committed again.
		end := r.committed.Load()
		have := uintptr(0)
		for have < want && have < end>>pageShift {
			p := end>>pageShift - have - 1
			s := super(p / superPages)
			if s.isSlabs || s.free>>(p%superPages)&1 == 0 {
				break
			}
			have++
		}
		if grow((want-have)<<pageShift) != nil {
			return 0, false, false
		}
		if page, ok = r.tree.find(uint32(want)); !ok {
			fatal("page tree lost the pages just committed", 0, 0)
		}
	}
	page = roundUp(page, alignPages)
	return page, r.tree.mark(page, n, false), true
}

// freeSpan gives the span at p back. The kind of its first page decides, under
// the region's lock, which of two frees at the same time is the second.
func freeSpan(p uintptr) Fault {
	page := (p - region.base) >> pageShift
	m := meta(page)
	region.mu.Lock()
	defer region.mu.Unlock()
	if m.kind != kindSpan || m.start != p {
		return fault(p, m, Freed)
	}
	releaseSpan(page, m)
	return Fault{}
}

// releaseSpan returns a live span's pages to the tree. Under region.mu.
func releaseSpan(page uintptr, m *pageMeta) {
	n := uintptr(m.pages)
	if m.site != 0 {
		siteAdd(m.site, -int64(m.spanSize), -1)
	}
	spanStats.frees.Add(1)
	spanStats.liveBlocks.Add(-1)
	spanStats.liveBytes.Add(-int64(m.spanSize))
	m.kind = kindSpanFreed
	for i := uintptr(1); i < n; i++ {
		meta(page + i).kind = kindFree
	}
	region.tree.mark(page, n, true)
}

// MallocZero is Malloc for the current P or a Heap, with n bytes cleared; a
// span that still reads as zero is not cleared again.
func MallocZero(own, n uintptr) uintptr {
	if n > sizeclass.MaxMid {
		p, zero := newSpan(n, 1, 0, 0)
		if p != 0 && !zero {
			Zero(ptr(p), n)
		}
		return p
	}
	p := Malloc(own, n)
	if p != 0 {
		Zero(ptr(p), n)
	}
	return p
}

// Chunk returns a span for an Arena's use: Free and its kin refuse it.
func Chunk(size uintptr) (p, usable uintptr) {
	p, _ = newSpan(max(size, sizeclass.MaxMid+1), 1, 0, flagArena)
	if p == 0 {
		return 0, 0
	}
	return p, meta((p - region.base) >> pageShift).spanSize
}

// FreeChunk gives an Arena's span back.
func FreeChunk(p uintptr) {
	page := (p - region.base) >> pageShift
	region.mu.Lock()
	defer region.mu.Unlock()
	m := meta(page)
	if m.kind != kindSpan || m.start != p || m.flags&flagArena == 0 {
		fatal("an Arena's chunk is not one", p, 0)
	}
	releaseSpan(page, m)
}
