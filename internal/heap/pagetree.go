package heap

import "math/bits"

// pageTree finds runs of free pages, lowest address first. Owned by region.mu.
//
// It is a binary tree over the region's chunks of 32 pages, laid out level by
// level as an array (root 1, children of i at 2i and 2i+1). Each node says of
// its range of pages how long the free run at its start, the one at its end
// and the longest one are, and whether an aligned chunk of 32 is wholly free.
// A chunk's own pages are the free mask of its superMeta.
//
// Finding, taking and freeing a run of n pages cost O(log chunks + n/32): 20
// levels for 1 TiB. There is no list to walk and nothing to coalesce, so the
// worst case is the usual one.
type pageTree struct {
	base   uintptr // treeNode array, 2·leaves entries
	leaves uintptr // a power of two ≥ chunks
}

// tree is the page tree of the region.
var tree pageTree

type treeNode struct{ pre, suf, max, whole uint32 }

const treeNodeSize = 16

func leavesFor(chunks uintptr) uintptr { return 1 << bits.Len64(uint64(chunks-1)) }

func treeSize(chunks uintptr) uintptr { return 2 * leavesFor(chunks) * treeNodeSize }

func (t *pageTree) init(chunks uintptr) { t.leaves = leavesFor(chunks) }

func (t *pageTree) node(i uintptr) *treeNode { return (*treeNode)(ptr(t.base + i*treeNodeSize)) }

// add makes the chunks [from, to) free: their pages are newly committed.
func (t *pageTree) add(from, to uintptr) {
	for c := from; c < to; c++ {
		super(c).free = ^uint32(0)
	}
	t.update(from, to-1)
}

// update recomputes the nodes above chunks first..last from their free masks.
func (t *pageTree) update(first, last uintptr) {
	for c := first; c <= last; c++ {
		m := super(c).free
		if super(c).isSlabs {
			m = 0 // its pages belong to the slab pool
		}
		n := t.node(t.leaves + c)
		n.pre = uint32(bits.TrailingZeros32(^m))
		n.suf = uint32(bits.LeadingZeros32(^m))
		n.max = longestRun(m)
		n.whole = n.max / superPages
	}
	size := uint32(superPages) // pages below one child
	for lo, hi := (t.leaves+first)/2, (t.leaves+last)/2; lo > 0; lo, hi, size = lo/2, hi/2, size*2 {
		for i := lo; i <= hi; i++ {
			l, r, n := t.node(2*i), t.node(2*i+1), t.node(i)
			n.pre, n.suf = l.pre, r.suf
			if l.pre == size {
				n.pre += r.pre
			}
			if r.suf == size {
				n.suf += l.suf
			}
			n.max = max(l.max, r.max, l.suf+r.pre)
			n.whole = l.whole | r.whole
		}
	}
}

// longestRun returns the length of the longest run of ones in m: each step
// shortens every run by one.
func longestRun(m uint32) (n uint32) {
	for ; m != 0; n++ {
		m &= m << 1
	}
	return n
}

// find returns the first page of the lowest run of n free pages.
func (t *pageTree) find(n uint32) (page uintptr, ok bool) {
	if t.node(1).max < n {
		return 0, false
	}
	i, first, size := uintptr(1), uintptr(0), t.leaves*superPages
	for i < t.leaves {
		size /= 2
		l, r := t.node(2*i), t.node(2*i+1)
		switch {
		case l.max >= n:
			i = 2 * i
		case l.suf+r.pre >= n:
			return first + size - uintptr(l.suf), true
		default:
			i, first = 2*i+1, first+size
		}
	}
	m := super(i - t.leaves).free
	for k := uint32(1); k < n; k++ {
		m &= m >> 1 // bit b: k+1 pages from b on are free
	}
	return first + uintptr(bits.TrailingZeros32(m)), true
}

// findWhole returns the lowest chunk all of whose pages are free.
func (t *pageTree) findWhole() (chunk uintptr, ok bool) {
	if t.node(1).whole == 0 {
		return 0, false
	}
	i := uintptr(1)
	for i < t.leaves {
		i *= 2
		if t.node(i).whole == 0 {
			i++
		}
	}
	return i - t.leaves, true
}

// isFree reports whether n committed pages from page on are free, and belong to no
// superslab.
func (t *pageTree) isFree(page, n uintptr) bool {
	for p := page; p < page+n; p++ {
		s := super(p / superPages)
		if s.isSlabs || s.free>>(p%superPages)&1 == 0 {
			return false
		}
	}
	return true
}

// cleanPages returns how many of n pages from page on have no memory behind
// them.
func (t *pageTree) cleanPages(page, n uintptr) (clean int) {
	for p := page; p < page+n; p++ {
		if super(p/superPages).dirty>>(p%superPages)&1 == 0 {
			clean++
		}
	}
	return clean
}

// take hands out n pages from page on. clean reports whether none of them has
// memory behind it, so that they still read as zero.
func (t *pageTree) take(page, n uintptr) (clean bool) {
	clean = true
	t.each(page, n, func(s *superMeta, m uint32) {
		if !s.take(m) {
			clean = false
		}
	})
	return clean
}

// give takes n pages from page on back, which were last used at the given time.
func (t *pageTree) give(page, n uintptr, at uint32) {
	t.each(page, n, func(s *superMeta, m uint32) { s.give(m, at) })
}

// each calls f for the chunks of n pages from page on, with their pages, and
// updates the tree.
func (t *pageTree) each(page, n uintptr, f func(s *superMeta, m uint32)) {
	first, last := page/superPages, (page+n-1)/superPages
	for c := first; c <= last; c++ {
		m := ^uint32(0)
		if c == first {
			m &= ^uint32(0) << (page % superPages)
		}
		if c == last {
			m &= ^uint32(0) >> (superPages - 1 - (page+n-1)%superPages)
		}
		f(super(c), m)
	}
	t.update(first, last)
}
