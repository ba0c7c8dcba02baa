package engine

import (
	"math/bits"

	"github.com/hakmem/hakmem/internal/mem"
)

// This file holds the partial sets. The partial set of a list has the list's partly free slabs, by
// first page: a slab is in it if and only if its state is PARTIAL. Owned by the list's lock.
//
// A set is a bitmap over the region's pages, with three levels of summary above it. Each bit of a
// summary says that a word of the level below is not zero, so adding a member, removing one and
// finding the lowest cost four words. The words of all lists for the same 64 pages lie side by
// side. So the sets of a small heap share one page of memory, however many classes it uses.

// setLevels holds the address of each level. Entry 0 is the address of region.sets.
var setLevels [4]mem.Addr

// upperSetSize returns the bytes of a level of summary. Each of its words stands for 2^shift pages.
func upperSetSize(npages pageCount, shift uint) mem.Bytes {
	return mem.Bytes((npages>>shift + 1) * setClasses * 8)
}

// setWord returns word i of a list's set at the given level.
func setWord(level int, list listID, i uintptr) *uint64 {
	return u64(setLevels[level] + mem.Addr((i*setClasses+uintptr(list))*8))
}

// setAdd adds a page to a list's set.
func setAdd(list listID, page pageNo) {
	for l := range setLevels {
		w := setWord(l, list, uintptr(page>>6))
		old := *w
		*w |= 1 << (page & 63)
		if old != 0 {
			return
		}
		page >>= 6
	}
}

// setRemove removes a page from a list's set.
func setRemove(list listID, page pageNo) {
	for l := range setLevels {
		w := setWord(l, list, uintptr(page>>6))
		*w &^= 1 << (page & 63)
		if *w != 0 {
			return
		}
		page >>= 6
	}
}

// setNext returns the lowest member of a list's set at or after page from.
func setNext(list listID, from pageNo) (page pageNo, ok bool) {
	// The word of the first page may not be readable.
	if mem.Bytes(region.committed.Load()) == region.first {
		return 0, false
	}
	// Up: find a level that has a bit set at or after from's position in its word.
	from = max(from, region.firstPage())
	l := 0
	for {
		if from>>6 >= pageNo(setWords(l)) {
			return 0, false
		}
		if w := *setWord(l, list, uintptr(from>>6)) >> (from & 63); w != 0 {
			from += pageNo(bits.TrailingZeros64(w))
			break
		}
		if l == len(setLevels)-1 { // one word covers a TiB, and the region is a little larger
			from = (from>>6 + 1) << 6
			continue
		}
		from = from>>6 + 1
		l++
	}
	// Down: follow the lowest bits.
	for ; l > 0; l-- {
		from = from<<6 + pageNo(bits.TrailingZeros64(*setWord(l-1, list, uintptr(from))))
	}
	return from, true
}

// setWords returns how many words a level has for each list that may be read.
func setWords(level int) uintptr {
	return uintptr((region.endPage()-1)>>(6*uint(level+1)) + 1)
}
