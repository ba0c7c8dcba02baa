package engine

import "github.com/hakmem/hakmem/internal/mem"

// This file counts the memory of the site map. A page's part of the map has memory from the moment
// when a block with a site begins in the page until a purge returns both, or the page becomes a hole as a
// whole (punch.go). Which pages these are is
// atomic (superMeta.sited): the holder of a block adds the block's page without a lock.

// countSite counts the part of the site map in which the label of the block at p will lie, and
// reports whether the hard limit has room for it. The caller holds the block.
func countSite(p Block) bool {
	s, bit := super(p.page().chunk()), uint32(1)<<p.page().inChunk()
	for {
		old := s.sited.Load()
		if old&bit != 0 {
			return true
		}
		more := mapBytes(pageSet(old|bit), region.sites.unit) - mapBytes(pageSet(old), region.sites.unit)
		if !reserve(more) {
			limitHit.Add(1)
			return false
		}
		if s.sited.CompareAndSwap(old, old|bit) {
			return true
		}
		uncount(more) // another page of the chunk was first
	}
}

// unsite notes that the site map has no memory for the pages m, which are out of use, and returns by
// how much the count of memory is too large now.
func (s *superMeta) unsite(m pageSet) mem.Bytes {
	old := pageSet(s.sited.And(^uint32(m)))
	return mapBytes(old, region.sites.unit) - mapBytes(old&^m, region.sites.unit)
}
