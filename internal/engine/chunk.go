package engine

import (
	"sync/atomic"
	"unsafe"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/mem"
)

// This file describes a chunk, 2 MiB of the region: its metadata, and the books on what its pages
// are used for. region.mu owns both, with the exceptions that the fields of superMeta name.

// superMeta describes a chunk. It is a superslab if isSlabs is set; otherwise its pages are the
// page tree's. The fields are owned by region.mu, except emptyMask, wasDirty and wasEmpty.
type superMeta struct {
	// free is the set of pages that belong to no slab (in a superslab) or to no large block.
	free pageSet
	// dirty is the set of pages that were handed out since their memory was last zero.
	dirty pageSet
	// emptyMask is the superslab's set of EMPTY slabs, by first page. All blocks of an EMPTY slab
	// are free. The set is a hint; the truth is in the bitmaps. A goroutine that completes a slab's
	// bitmap adds the slab without a lock, and a goroutine that takes the slab removes it.
	emptyMask atomic.Uint32
	isSlabs   bool
	// tiny is the set of pages whose part of the live map may have memory behind it.
	tiny pageSet
	// purged is the set of pages whose memory was returned to the system and that were not used
	// since. purgedAt is when memory was last returned, and freedAt when a page was last given
	// back.
	purged   pageSet
	purgedAt stamp
	freedAt  stamp
	// lost is the set of pages that may not be touched: see discard in purge.go.
	lost pageSet
	// wasDirty is what dirty was when all pages were last handed out together. Until they are given
	// back, it is owned by the goroutine that has them.
	wasDirty pageSet
	// wasEmpty is what emptyMask was when the scavenger last looked. Owned by the scavenger.
	wasEmpty pageSet
}

const superMetaSize = unsafe.Sizeof(superMeta{})

// super returns the metadata of chunk c.
func super(c chunkNo) *superMeta {
	return (*superMeta)(ptr(region.supers + mem.Addr(c)*mem.Addr(superMetaSize)))
}

// pageUse counts the region's pages by what they are used for, and keeps track of whether it was
// right to keep or to return them. Owned by region.mu. Every page that changes hands goes through
// superMeta.take or give, which update the counts.
var pageUse struct {
	used  int // pages of slabs and of large blocks, cached ones included
	dirty int // free pages that have memory behind them
	peak  int // the highest value of used since the scavenger's last tick

	// What came of keeping and returning pages, counted in pages.
	reused   uint64 // kept dirty, and taken again
	returned uint64 // given back to the operating system
	vain     uint64 // of those returned: kept before that for the whole window
	again    uint64 // of those returned: taken and faulted in again within the horizon
}

// take hands out the pages m of the chunk, which are free. clean reports whether all of them still
// read as zero. Under region.mu.
func (s *superMeta) take(m pageSet) (clean bool) {
	check.MustHold(&region.mu, "take")
	u := &pageUse
	dirty := (s.dirty & m).count()
	if m == pageSet(^uint32(0)) {
		s.wasDirty = s.dirty
	}
	u.used += m.count()
	u.dirty -= dirty
	u.reused += uint64(dirty)
	u.peak = max(u.peak, u.used)
	if back := s.purged & m; back != 0 {
		s.purged &^= back
		if milliseconds().since(s.purgedAt) <= horizon() {
			u.again += uint64(back.count())
		}
	}
	s.free &^= m
	s.dirty |= m
	return dirty == 0
}

// leavePages takes n pages out of the count of pages in use: their memory is about to move to other
// pages, which count from now on (take). So a move counts no memory twice, and a limit sees what it
// adds. The pages belong to the caller until giveMoved. A negative n undoes it. Under region.mu.
func leavePages(n int) {
	check.MustHold(&region.mu, "leavePages")
	pageUse.used -= n
}

// giveMoved takes back the pages m of the chunk, which leavePages took out of the count and whose
// memory has left. They read as zero. Under region.mu.
func (s *superMeta) giveMoved(m pageSet) {
	check.MustHold(&region.mu, "giveMoved")
	s.free |= m
	s.dirty &^= m
}

// keptMemory notes that free pages m of the chunk have memory, although it should have left, and that
// those of lost may not be touched (discard in purge.go). Under region.mu.
func (s *superMeta) keptMemory(m, lost pageSet) {
	check.MustHold(&region.mu, "keptMemory")
	pageUse.dirty += m.count()
	s.dirty |= m
	s.lost |= lost
	s.free &^= lost
	s.freedAt = times.now
}

// give takes back the pages m of the chunk, which were handed out and last used at the given time.
// Under region.mu.
func (s *superMeta) give(m pageSet, at stamp) {
	check.MustHold(&region.mu, "give")
	n := m.count()
	pageUse.used -= n
	pageUse.dirty += n
	s.free |= m
	now := times.now
	if int32(at-now) > 0 {
		at = now
	}
	if now-at <= now-s.freedAt { // the later of the two
		s.freedAt = at
	}
}
