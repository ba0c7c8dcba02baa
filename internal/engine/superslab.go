package engine

import (
	"math/bits"
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// This file cuts superslabs, the chunks whose pages are used for slabs. region.mu owns the state of
// the pool.

// holePage is the OS page that holes are made of (punch.go). Tests set a larger one.
var holePage = osmem.PageSize()

// holeUnit returns the unit of the holes in a slab of n pages: a 64th of it, because a slab's holes
// are the bits of one word, and at least an OS page, because the system takes back whole pages. Both
// are powers of two, so units are whole OS pages and divide the slab, and a page of hakmem's is whole
// units: a 64th of the largest slab has 8 KiB.
func (n pageCount) holeUnit(osPage mem.Bytes) mem.Bytes { return max(n.bytes()/64, osPage) }

// poolHints has a bitmap for each slab order. A bit is set for every superslab with a free, aligned
// run of that order. Owned by region.mu; it grows with the region.
var poolHints [sizeclass.MaxOrder + 1][]uint64

// superslabs is the number of superslabs now in use.
var superslabs atomic.Int64

// alignedRuns returns the first pages of the free, aligned runs of 2^order pages in m.
func alignedRuns(m pageSet, order slabOrder) pageSet {
	for o := uint32(0); slabOrder(o) < order; o++ {
		m &= m >> (1 << o)
	}
	starts := [...]uint32{^uint32(0), 0x55555555, 0x11111111, 0x01010101}
	return m & pageSet(starts[order])
}

// updatePool makes poolHints agree with the superslab's free set.
func updatePool(c chunkNo) {
	s := super(c)
	for o := range poolHints {
		for chunkNo(len(poolHints[o])) <= c/64 {
			poolHints[o] = append(poolHints[o], 0)
		}
		w := &poolHints[o][c/64]
		if s.isSlabs && alignedRuns(s.free, slabOrder(o)) != 0 {
			*w |= 1 << (c % 64)
		} else {
			*w &^= 1 << (c % 64)
		}
	}
}

// takeFrom says where takePages may take pages.
type takeFrom uint8

const (
	fromUsed takeFrom = iota // from superslabs that there are, pages that were used before
	fromAny                  // from superslabs that there are
	fromNew                  // from a new superslab, too
)

// takePages takes 2^order pages of a superslab for a slab of blocks of size bytes. fromUsed and fromAny are the
// cross-class stage, fromNew is the fresh stage. It returns false if there are no pages. holes are the units of the
// slab that have no memory; there is one block outside of them. Takes region.mu.
func takePages(order slabOrder, size uint32, from takeFrom) (page pageNo, holes uint64, ok bool) {
	region.mu.Lock()
	defer region.mu.Unlock()
	over := false
	for i, w := range poolHints[order] {
		for ; w != 0 && !(over && pageUse.dirty == 0); w &= w - 1 {
			c := chunkNo(i*64 + bits.TrailingZeros64(w))
			free := super(c).free
			if from == fromUsed {
				if free = usedOf(c, free); alignedRuns(free, order) == 0 {
					continue
				}
			}
			if page, holes, ok = cutPages(c, free, order, size); ok {
				return page, holes, true
			}
			// Beyond the memory limit: another superslab may have dirty pages, if there are any.
			over = true
		}
	}
	fresh := from == fromNew
	if over && (!fresh || pageUse.dirty == 0) {
		if fresh {
			refuseByLimit()
		}
		return 0, 0, false
	}
	if !fresh {
		return 0, 0, false
	}
	c, ok := tree.findWhole()
	if !ok && within(mem.Bytes(size)) && bringBack(superSize) {
		c, ok = tree.findWhole()
	}
	if !ok {
		if !allowed(mem.Bytes(size)) || grow(superSize) != nil {
			return 0, 0, false
		}
		if c, ok = tree.findWhole(); !ok {
			fatal("page tree lost the pages just committed", 0, 0)
		}
	}
	super(c).isSlabs = true
	tree.update(c, c)
	superslabs.Add(1)
	if page, holes, ok = cutPages(c, super(c).free, order, size); !ok {
		refuseByLimit()
	}
	return page, holes, ok
}

// cutPages takes the lowest aligned run in the free pages of superslab c, which have one, if the memory limit
// allows it. Otherwise as takePages.
func cutPages(c chunkNo, free pageSet, order slabOrder, size uint32) (page pageNo, holes uint64, ok bool) {
	s := super(c)
	b := bits.TrailingZeros32(uint32(alignedRuns(free, order)))
	m := (pageSet(1)<<(1<<order) - 1) << b
	tiny := s.tiny
	if order == 0 { // as for all slabs of tiny classes, and few others
		tiny |= m
	}
	page = c.page() + pageNo(b)
	holes, empty := s.holesOf(page, order, size)
	ok = reserve(s.growth(c, m) - empty + liveBytes(tiny) - liveBytes(s.tiny))
	if ok {
		settleBucket(c)
		s.take(c, m)
		s.tiny = tiny
	}
	unslab(c)
	return page, holes, ok
}

// holesOf returns the units of a slab to be made of 2^order free pages that have no memory, except for
// those of its first block, of size bytes, and their bytes. Where the system makes huge pages, there
// are none. Under region.mu.
func (s *superMeta) holesOf(page pageNo, order slabOrder, size uint32) (holes uint64, empty mem.Bytes) {
	if region.huge {
		return 0, 0
	}
	unit := (pageCount(1) << order).holeUnit(holePage)
	each, wide := pageSize/unit, unit/residentUnit
	for i := range pageNo(1) << order {
		units := allUnits &^ s.resident(page+i)
		for j := range each {
			if mask := firstUnits(uint8(wide)) << (j * wide); units&mask == mask {
				holes |= 1 << (mem.Bytes(i)*each + j)
			}
		}
	}
	holes &^= 1<<((mem.Bytes(size)+unit-1)/unit) - 1
	return holes, mem.Bytes(bits.OnesCount64(holes)) * unit
}

// unslab gives chunk c back to the page tree if it is a superslab without slabs. In any case it
// makes the pool agree with the chunk. Under region.mu.
func unslab(c chunkNo) {
	check.MustHold(&region.mu, "unslab")
	s := super(c)
	if s.isSlabs && s.free == pageSet(^uint32(0)) {
		s.isSlabs = false
		superslabs.Add(-1)
		tree.update(c, c)
	}
	updatePool(c)
}

// giveBackPages returns a slab's pages to its superslab. If the superslab has no slabs left, it
// goes back to the page tree. holes are the units of the pages, of unit bytes each, whose memory was
// returned. Takes region.mu.
func giveBackPages(page pageNo, order slabOrder, holes uint64, unit mem.Bytes) {
	region.mu.Lock()
	defer region.mu.Unlock()
	c := page.chunk()
	s := super(c)
	s.give(c, pageSet((uint32(1)<<(1<<order)-1)<<(page.inChunk())), times.now)
	for each := pageSize / unit; holes != 0; page++ { // each: a page's units of the slab
		units := allUnits
		for i := range each {
			if holes>>i&1 != 0 {
				n := unit / residentUnit
				units &^= firstUnits(uint8(n)) << (i * n)
			}
		}
		s.setResident(page, units)
		holes >>= each
	}
	unslab(c)
}
