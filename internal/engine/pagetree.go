package engine

import (
	"math/bits"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/osmem"
)

// pageTree finds runs of free pages, lowest address first. Owned by region.mu.
//
// It is a binary tree over the region's chunks of 32 pages. It is laid out level by level as an
// array, with the root at 1 and the children of node i at 2i and 2i+1. Each node covers a range of
// pages. It has the length of the free run at the start of its range, of the one at the end, and of
// the longest one, and it says whether the range has a chunk that is wholly free. The pages of a
// single chunk are the free mask of its superMeta.
//
// To find, take or free a run of n pages costs O(log chunks + n/32); there are 20 levels for 1 TiB.
// There is no list to walk and nothing to coalesce, so the worst case is the usual case.
type pageTree struct {
	base   mem.Addr // array of treeNode, 2·leaves entries
	leaves uintptr  // a power of two, at least the number of chunks
}

// tree is the page tree of the region.
var tree pageTree

// treeNode describes the free runs in a node's range of pages: at its start, at its end, and the
// longest, in pages. whole is 1 if a chunk of the range is wholly free.
type treeNode struct{ pre, suf, max, whole uint32 }

const treeNodeSize = 16

func leavesFor(chunks chunkNo) uintptr { return 1 << bits.Len64(uint64(chunks-1)) }

func treeSize(chunks chunkNo) mem.Bytes { return mem.Bytes(2 * leavesFor(chunks) * treeNodeSize) }

func (t *pageTree) init(chunks chunkNo) { t.leaves = leavesFor(chunks) }

func (t *pageTree) node(i uintptr) *treeNode {
	return (*treeNode)(ptr(t.base + mem.Addr(i*treeNodeSize)))
}

// add makes the chunks [from, to) free. Their pages are newly committed.
func (t *pageTree) add(from, to chunkNo) {
	for c := from; c < to; c++ {
		super(c).free = pageSet(^uint32(0))
	}
	t.update(from, to-1)
}

// update recomputes the nodes of the chunks first to last, and those above them, from the chunks'
// free masks.
func (t *pageTree) update(first, last chunkNo) {
	for c := first; c <= last; c++ {
		m := super(c).free
		if super(c).isSlabs {
			m = 0 // its pages are in poolHints, not in the tree
		}
		n := t.node(uintptr(chunkNo(t.leaves) + c))
		n.pre = uint32(bits.TrailingZeros32(uint32(^m)))
		n.suf = uint32(bits.LeadingZeros32(uint32(^m)))
		n.max = longestRun(m)
		n.whole = n.max / superPages
	}
	size := uint32(superPages) // pages below one child
	for lo, hi := (chunkNo(t.leaves)+first)/2, (chunkNo(t.leaves)+last)/2; lo > 0; lo, hi, size = lo/2, hi/2, size*2 {
		for i := lo; i <= hi; i++ {
			l, r, n := t.node(uintptr(2*i)), t.node(uintptr(2*i+1)), t.node(uintptr(i))
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

// longestRun returns the length of the longest run of ones in m. Each step shortens every run by
// one.
func longestRun(m pageSet) (n uint32) {
	for ; m != 0; n++ {
		m &= m << 1
	}
	return n
}

// find returns the first page of the lowest run of n free pages.
func (t *pageTree) find(n pageCount) (page pageNo, ok bool) {
	if pageCount(t.node(1).max) < n {
		return 0, false
	}
	i, first, size := uintptr(1), uintptr(0), t.leaves*superPages
	for i < t.leaves {
		size /= 2
		l, r := t.node(2*i), t.node(2*i+1)
		switch {
		case pageCount(l.max) >= n:
			i = 2 * i
		case pageCount(l.suf+r.pre) >= n:
			return pageNo(first + size - uintptr(l.suf)), true
		default:
			i, first = 2*i+1, first+size
		}
	}
	m := super(chunkNo(i - t.leaves)).free
	for k := uint32(1); pageCount(k) < n; k++ {
		m &= m >> 1 // bit b is set: k+1 pages from b on are free
	}
	return pageNo(first + uintptr(bits.TrailingZeros32(uint32(m)))), true
}

// findWhole returns the lowest chunk whose pages are all free.
func (t *pageTree) findWhole() (chunk chunkNo, ok bool) {
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
	return chunkNo(i - t.leaves), true
}

// isFree reports whether the n committed pages from page on are free and in no superslab.
func (t *pageTree) isFree(page pageNo, n pageCount) bool {
	for p := page; p < page+pageNo(n); p++ {
		s := super(p.chunk())
		if s.isSlabs || s.free>>(p.inChunk())&1 == 0 {
			return false
		}
	}
	return true
}

// cleanPages returns how many of the n pages from page on have no memory behind them.
func (t *pageTree) cleanPages(page pageNo, n pageCount) (clean int) {
	for p := page; p < page+pageNo(n); p++ {
		if super(p.chunk()).dirty>>(p.inChunk())&1 == 0 {
			clean++
		}
	}
	return clean
}

// take hands out n pages from page on. clean reports whether none of them has memory behind it, so
// that all still read as zero.
func (t *pageTree) take(page pageNo, n pageCount) (clean bool) {
	clean = true
	t.each(page, n, func(s *superMeta, m pageSet) {
		if !s.take(m) {
			clean = false
		}
	})
	return clean
}

// give takes back n pages from page on, which were last used at the given time.
func (t *pageTree) give(page pageNo, n pageCount, at stamp) {
	t.each(page, n, func(s *superMeta, m pageSet) { s.give(m, at) })
}

// each calls f for each chunk of the n pages from page on, with those of the pages that are in the
// chunk. Then it updates the tree.
func (t *pageTree) each(page pageNo, n pageCount, f func(s *superMeta, m pageSet)) {
	chunksOf(page, n, func(c chunkNo, m pageSet) { f(super(c), m) })
	t.update(page.chunk(), (page + pageNo(n) - 1).chunk())
}

// chunksOf calls f for each chunk of the n pages from page on, with those of the pages that are in
// the chunk.
func chunksOf(page pageNo, n pageCount, f func(c chunkNo, m pageSet)) {
	end := page + pageNo(n) - 1 // the last page
	first, last := page.chunk(), end.chunk()
	for c := first; c <= last; c++ {
		m := ^pageSet(0)
		if c == first {
			m &= ^pageSet(0) << page.inChunk()
		}
		if c == last {
			m &= ^pageSet(0) >> (superPages - 1 - end.inChunk())
		}
		f(c, m)
	}
}

// lastUnits returns how many units of its last page a large block of usable bytes uses. What is
// behind them is never touched. Where the system may make huge pages by itself, it is resident
// nevertheless.
func lastUnits(usable mem.Bytes) uint8 {
	n := usable % pageSize
	if n == 0 || region.huge {
		return pageSize / residentUnit
	}
	return uint8(n.Up(osmem.PageSize()) / residentUnit)
}

// growth returns by how much the count grows if the n free pages from page on are taken, of the
// last of which only the first units are used. Under region.mu.
func (t *pageTree) growth(page pageNo, n pageCount, units uint8) (bytes mem.Bytes) {
	chunksOf(page, n, func(c chunkNo, m pageSet) { bytes += super(c).growth(c, m) })
	last := page + pageNo(n) - 1
	was := super(last.chunk()).resident(last)
	return bytes - (allUnits &^ was).bytes() + (firstUnits(units) &^ was).bytes()
}

// takeLarge hands out the n pages from page on, of the last of which only the first units will be
// used. The caller has reserved their growth. clean is as for take. Under region.mu.
func (t *pageTree) takeLarge(page pageNo, n pageCount, units uint8) (clean bool) {
	last := page + pageNo(n) - 1
	was := super(last.chunk()).resident(last)
	clean = t.take(page, n)
	useLast(last, was, units)
	return clean
}

// useLast notes that page is the last one of a large block, which uses its first units; the units
// was may have been resident before. Under region.mu.
func useLast(page pageNo, was unitSet, units uint8) {
	check.MustHold(&region.mu, "useLast")
	s, bit := super(page.chunk()), pageSet(1)<<page.inChunk()
	s.setResident(page, was|firstUnits(units))
	if s.short &^= bit; units != pageSize/residentUnit {
		s.short |= bit
		meta(page).setUnits(units)
	}
}
