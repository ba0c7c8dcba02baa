package heap

import (
	"math/bits"
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/sizeclass"
)

// emptyHints is the address of a bitmap with a bit for every superslab whose
// emptyMask may be non-zero, so that a search skips the others 64 at a time.
var emptyHints uintptr

// poolHints has, for each slab order, a bit for every superslab with a free
// aligned run of that order. Owned by region.mu; grown with the region.
var poolHints [sizeclass.MaxOrder + 1][]uint64

// superslabs is the number of superslabs now in use.
var superslabs atomic.Int64

// markEmpty notes that the slab of blocks at page is EMPTY. Any goroutine.
func markEmpty(page uintptr) {
	c := page / superPages
	super(c).emptyMask.Or(1 << (page % superPages))
	atomic.OrUint64(u64(emptyHints+c/64*8), 1<<(c%64))
}

// unmarkEmpty notes that the slab at page is no longer to be had.
func unmarkEmpty(page uintptr) {
	super(page / superPages).emptyMask.And(^(uint32(1) << (page % superPages)))
}

func isMarkedEmpty(page uintptr) bool {
	return super(page/superPages).emptyMask.Load()>>(page%superPages)&1 != 0
}

// alignedRuns returns the set of first pages of free, aligned runs of 2^order
// pages in m.
func alignedRuns(m uint32, order uint32) uint32 {
	for o := uint32(0); o < order; o++ {
		m &= m >> (1 << o)
	}
	starts := [...]uint32{^uint32(0), 0x55555555, 0x11111111, 0x01010101}
	return m & starts[order]
}

// updatePool keeps poolHints true to the superslab's free set.
func updatePool(c uintptr) {
	s := super(c)
	for o := range poolHints {
		for uintptr(len(poolHints[o])) <= c/64 {
			poolHints[o] = append(poolHints[o], 0)
		}
		w := &poolHints[o][c/64]
		if s.isSlabs && alignedRuns(s.free, uint32(o)) != 0 {
			*w |= 1 << (c % 64)
		} else {
			*w &^= 1 << (c % 64)
		}
	}
}

// takePages takes 2^order pages of a superslab for a slab: stage 2 (of the
// superslabs there are) when fresh is false, stage 3 (a new one) when true. It
// returns false when there are none. Takes region.mu.
func takePages(order uint32, fresh bool) (page uintptr, ok bool) {
	region.mu.Lock()
	defer region.mu.Unlock()
	over := false
	for i, w := range poolHints[order] {
		for ; w != 0 && !(over && pageUse.warm == 0); w &= w - 1 {
			if page, ok = cutPages(uintptr(i*64+bits.TrailingZeros64(w)), order); ok {
				return page, true
			}
			over = true // beyond the memory limit: another superslab may have warm pages, if there are any
		}
	}
	if over && (!fresh || pageUse.warm == 0) {
		refuseByLimit()
		return 0, false
	}
	if !fresh {
		return 0, false
	}
	c, ok := tree.findWhole()
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

// cutPages takes the lowest aligned run of superslab c, which has one, if the
// memory limit allows.
func cutPages(c uintptr, order uint32) (page uintptr, ok bool) {
	s := super(c)
	b := bits.TrailingZeros32(alignedRuns(s.free, order))
	m := (uint32(1)<<(1<<order) - 1) << b
	ok = within(bits.OnesCount32(m &^ s.dirty))
	if ok {
		s.take(m)
		if order == 0 { // as all slabs of tiny classes, and few others
			s.tiny |= m
		}
	}
	unslab(c)
	return c*superPages + uintptr(b), ok
}

// unslab gives chunk c back to the page tree if it is a superslab without slabs,
// and makes the pool agree with it in any case. Under region.mu.
func unslab(c uintptr) {
	s := super(c)
	if s.isSlabs && s.free == ^uint32(0) {
		s.isSlabs = false
		superslabs.Add(-1)
		tree.update(c, c)
	}
	updatePool(c)
}

// giveBackPages returns a slab's pages to its superslab, and a superslab
// without slabs to the page tree. Takes region.mu.
func giveBackPages(page uintptr, order uint32) {
	region.mu.Lock()
	defer region.mu.Unlock()
	c := page / superPages
	super(c).give((uint32(1)<<(1<<order)-1)<<(page%superPages), times.now)
	unslab(c)
}
