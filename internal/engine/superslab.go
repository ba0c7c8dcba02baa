package engine

import (
	"math/bits"
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// This file cuts superslabs, the chunks whose pages are used for slabs. region.mu owns the state of
// the pool.

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

// takePages takes 2^order pages of a superslab for a slab. Without fresh it takes them from the
// superslabs that there are (the cross-class stage). With fresh it may also make a new superslab
// (the fresh stage). It returns false if there are no pages. Takes region.mu.
func takePages(order slabOrder, fresh bool) (page pageNo, ok bool) {
	region.mu.Lock()
	defer region.mu.Unlock()
	over := false
	for i, w := range poolHints[order] {
		for ; w != 0 && !(over && pageUse.dirty == 0); w &= w - 1 {
			if page, ok = cutPages(chunkNo(i*64+bits.TrailingZeros64(w)), order); ok {
				return page, true
			}
			// Beyond the memory limit: another superslab may have dirty pages, if there are any.
			over = true
		}
	}
	if over && (!fresh || pageUse.dirty == 0) {
		refuseByLimit()
		return 0, false
	}
	if !fresh {
		return 0, false
	}
	c, ok := tree.findWhole()
	if !ok && within(1<<order) && bringBack(superSize) {
		c, ok = tree.findWhole()
	}
	if !ok {
		if !allowed(1<<order) || grow(superSize) != nil {
			return 0, false
		}
		if c, ok = tree.findWhole(); !ok {
			fatal("page tree lost the pages just committed", 0, 0)
		}
	}
	super(c).isSlabs = true
	tree.update(c, c)
	superslabs.Add(1)
	if page, ok = cutPages(c, order); !ok {
		refuseByLimit()
	}
	return page, ok
}

// cutPages takes the lowest aligned run of superslab c, which has one, if the memory limit allows
// it.
func cutPages(c chunkNo, order slabOrder) (page pageNo, ok bool) {
	s := super(c)
	b := bits.TrailingZeros32(uint32(alignedRuns(s.free, order)))
	m := (pageSet(1)<<(1<<order) - 1) << b
	ok = within((m &^ s.dirty).count())
	if ok {
		settleBucket(c)
		s.take(m)
		if order == 0 { // as for all slabs of tiny classes, and few others
			s.tiny |= m
		}
	}
	unslab(c)
	return c.page() + pageNo(b), ok
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
// goes back to the page tree. Takes region.mu.
func giveBackPages(page pageNo, order slabOrder) {
	region.mu.Lock()
	defer region.mu.Unlock()
	c := page.chunk()
	super(c).give(pageSet((uint32(1)<<(1<<order)-1)<<(page.inChunk())), times.now)
	unslab(c)
}
