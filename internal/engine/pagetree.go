package engine

import (
	"fmt"
	"math/bits"
	"unsafe"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/sizeclass"
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
//
// The tree covers the chunks that are reserved. When more are, it doubles, which makes all nodes
// anew: one for each 1 MiB, in a few nanoseconds each.
type pageTree struct {
	base   mem.Addr // array of treeNode, 2·leaves entries
	leaves uintptr  // a power of two, at least the number of chunks
	space  space    // what is reserved for the array
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

// cover makes the tree, and the chunks' metadata, large enough for so many chunks. Under region.mu.
func (t *pageTree) cover(chunks chunkNo) error {
	check.MustHold(&region.mu, "cover")
	was, had := t.leaves, t.bytes()
	if leavesFor(chunks) <= was {
		return nil
	}
	if treeSize(chunks).Up(pageSize) > t.space.most {
		return fmt.Errorf("page tree: %d chunks are more than the region may have", chunks)
	}
	for _, a := range []struct {
		in   *space
		size mem.Bytes
	}{{&region.supersIn, superBytes(chunkNo(leavesFor(chunks)))}, {&t.space, treeSize(chunks).Up(pageSize)}} {
		size := min(a.size, a.in.most)
		if err := a.in.ensure(size); err != nil {
			return err
		}
		if err := osmem.Commit(a.in.base, size); err != nil {
			return err
		}
	}
	// All nodes become zero. Writing zeroes would take memory for nodes that nobody has written.
	if size := treeSize(chunkNo(was)).Down(osmem.PageSize()); was > 0 && (size == 0 || osmem.Discard(t.base, size) != nil) {
		clear(unsafe.Slice(t.node(0), 2*was))
	} else {
		clear(unsafe.Slice(t.node(uintptr(size/treeNodeSize)), 2*was-uintptr(size/treeNodeSize)))
	}
	t.init(chunks)
	region.metaCommitted.Add(uintptr(t.bytes() - had))
	for c := region.firstChunk(); c < region.endChunk(); c++ {
		if ownerOf(c) == 0 && super(c).free != 0 { // the nodes of all others are zero already
			t.update(c, c)
		}
	}
	return nil
}

// bytes returns what is committed of the tree and of the chunks' metadata.
func (t *pageTree) bytes() mem.Bytes {
	if t.leaves == 0 {
		return 0
	}
	return treeSize(chunkNo(t.leaves)).Up(pageSize) + min(superBytes(chunkNo(t.leaves)), region.supersIn.most)
}

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
		*t.node(uintptr(chunkNo(t.leaves) + c)) = leaf(m)
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

// leaf returns the node of a chunk whose free pages are m.
func leaf(m pageSet) treeNode {
	switch m {
	case 0:
		return treeNode{}
	case ^pageSet(0):
		return treeNode{superPages, superPages, superPages, 1}
	}
	return treeNode{uint32(bits.TrailingZeros32(uint32(^m))), uint32(bits.LeadingZeros32(uint32(^m))), longestRun(m), 0}
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
	for c := page.chunk(); c.page() < page+pageNo(n); c++ {
		if s := super(c); s.isSlabs || c.part(page, n)&^s.free != 0 {
			return false
		}
	}
	return true
}

// usedOf returns which of the free pages m of chunk c were used before or, where nothing is learnt, which of
// them have memory. Under region.mu.
func usedOf(c chunkNo, m pageSet) pageSet {
	used := m & super(c).dirty
	if used != m && learns() {
		used |= wereUsed(c, m&^used)
	}
	return used
}

// anyNew reports whether one of the n free pages from page on has never been used. What was returned
// meanwhile plays no part: it must not decide where blocks go (keep.go).
func (t *pageTree) anyNew(page pageNo, n pageCount) bool {
	for c := page.chunk(); c.page() < page+pageNo(n); c++ {
		part := c.part(page, n)
		if usedOf(c, part) != part {
			return true
		}
	}
	return false
}

// takeFor hands out n pages from page on to the large block at p. Chunks that it gets as a whole are
// noted as the block's (takeOwned), except the one in which the block begins. clean reports whether
// none of the pages has memory behind it, so that all still read as zero.
func (t *pageTree) takeFor(page pageNo, n pageCount, p Block) (clean bool) {
	clean = true
	t.each(page, n, func(c chunkNo, m pageSet) {
		switch {
		case m == ^pageSet(0) && c > p.page().chunk():
			clean = takeOwned(c, p) && clean
		default:
			settleBucket(c)
			clean = super(c).take(c, m) && clean
		}
	})
	return clean
}

// give takes back n pages from page on, which were last used at the given time. A chunk of which it
// takes back a part must not be a huge block's as a whole.
func (t *pageTree) give(page pageNo, n pageCount, at stamp) {
	t.each(page, n, func(c chunkNo, m pageSet) {
		if ownerOf(c) != 0 {
			disown(c)
		}
		super(c).give(c, m, at)
	})
}

// giveMoved takes back n pages from page on whose memory has left: see superMeta.giveMoved. What give
// says of chunks holds here, too.
func (t *pageTree) giveMoved(page pageNo, n pageCount) {
	t.each(page, n, func(c chunkNo, m pageSet) {
		if ownerOf(c) != 0 {
			disown(c)
		}
		super(c).giveMoved(m)
	})
}

// part returns which of the n pages from page on are in chunk c.
func (c chunkNo) part(page pageNo, n pageCount) pageSet {
	m, end := ^pageSet(0), page+pageNo(n)-1 // the last page
	if c == page.chunk() {
		m &= ^pageSet(0) << page.inChunk()
	}
	if c == end.chunk() {
		m &= ^pageSet(0) >> (superPages - 1 - end.inChunk())
	}
	return m
}

// each calls f for each chunk of the n pages from page on, with those of the pages that are in the
// chunk. Then it updates the tree.
func (t *pageTree) each(page pageNo, n pageCount, f func(c chunkNo, m pageSet)) {
	chunksOf(page, n, f)
	t.update(page.chunk(), (page + pageNo(n) - 1).chunk())
}

// chunksOf calls f for each chunk of the n pages from page on, with those of the pages that are in
// the chunk.
func chunksOf(page pageNo, n pageCount, f func(c chunkNo, m pageSet)) {
	first, last := page.chunk(), (page + pageNo(n) - 1).chunk()
	for c := first; c <= last; c++ {
		f(c, c.part(page, n))
	}
}

// lastUnits returns how many units of its last page a large block of usable bytes uses. What is
// behind them is never touched. Where the system may make huge pages by itself, it is resident
// nevertheless. Of a huge block, all of it counts: it is a 32nd of the block at most.
func lastUnits(usable mem.Bytes) uint8 {
	n := usable % pageSize
	if n == 0 || region.huge || usable > sizeclass.MaxLarge {
		return pageSize / residentUnit
	}
	return uint8(n.Up(osmem.PageSize()) / residentUnit)
}

// growth returns by how much the count grows if the n free pages from page on are taken, of the
// last of which only the first units are used. Under region.mu.
func (t *pageTree) growth(page pageNo, n pageCount, units uint8) (bytes mem.Bytes) {
	chunksOf(page, n, func(c chunkNo, m pageSet) { bytes += super(c).growth(c, m) })
	if units == pageSize/residentUnit {
		return bytes
	}
	last := page + pageNo(n) - 1
	was := super(last.chunk()).resident(last)
	return bytes - (allUnits &^ was).bytes() + (firstUnits(units) &^ was).bytes()
}

// growthBeyond is growth for the large block at p, which gets also pages that are not committed yet
// (takeBeyond). Under region.mu.
func (t *pageTree) growthBeyond(page pageNo, n pageCount, units uint8, p Block) (bytes mem.Bytes) {
	bytes = -(allUnits &^ firstUnits(units)).bytes()
	chunksOf(page, n, func(c chunkNo, m pageSet) {
		switch {
		case c < region.endChunk():
			bytes += super(c).growth(c, m)
		case m.whole() && c > p.page().chunk():
			bytes += superSize // its tables are not touched
		case region.huge: // see superMeta.brings
			bytes += superSize + tablePages.bytes()
		default:
			bytes += pageCount(m.count()).bytes() + tablePages.bytes()
		}
	})
	return bytes
}

// takeLarge hands out the n pages from page on to the large block at p, which uses only the first
// units of the last one. The caller has reserved their growth. clean is as for takeFor. Under
// region.mu.
func (t *pageTree) takeLarge(page pageNo, n pageCount, units uint8, p Block) (clean bool) {
	last := page + pageNo(n) - 1
	was := super(last.chunk()).resident(last)
	clean = t.takeFor(page, n, p)
	useLast(last, was, units)
	return clean
}

// useLast notes that page is the last one of a large block, which uses its first units; the units
// was may have been resident before. Under region.mu.
func useLast(page pageNo, was unitSet, units uint8) {
	check.MustHold(&region.mu, "useLast")
	s, bit := super(page.chunk()), pageSet(1)<<page.inChunk()
	if s.short &^= bit; units == pageSize/residentUnit {
		s.setResident(page, allUnits)
		return
	}
	s.setResident(page, was|firstUnits(units))
	s.short |= bit
	meta(page).setUnits(units)
}

// usedOfLast returns which units of a large block's last page count. Under region.mu.
func usedOfLast(page pageNo) unitSet {
	if s := super(page.chunk()); s.short>>page.inChunk()&1 != 0 {
		return s.resident(page)
	}
	return allUnits
}
