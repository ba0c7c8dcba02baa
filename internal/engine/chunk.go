package engine

import (
	"sync/atomic"
	"unsafe"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/mem"
)

// superMeta describes 2 MiB of the region: a superslab when isSlabs, otherwise
// a chunk of the page tree. free, dirty, isSlabs are owned by region.mu.
type superMeta struct {
	// free is the set of pages that belong to no slab (isSlabs) or no large block.
	free pageSet
	// dirty is the set of pages handed out since they were last zero.
	dirty pageSet
	// emptyMask is the superslab's set of EMPTY slabs, by first page: slabs all
	// of whose blocks are free. A hint: set without a lock by who completes a
	// slab's bitmap, cleared by who takes the slab; the bitmap is the truth.
	emptyMask atomic.Uint32
	isSlabs   bool
	// tiny is the set of pages whose live map may have memory behind it.
	tiny pageSet
	// purged is the set of pages whose memory was returned to the system and
	// that were not used since, purgedAt when that was last done, freedAt when a
	// page was last given back: both in milliseconds (scavenger.go).
	purged   pageSet
	purgedAt stamp
	freedAt  stamp
	// lost is the set of pages that may not be touched (purge.go, discard).
	lost pageSet
	// wasDirty is what dirty was when all pages were handed out together: until
	// they are given back, theirs who has them.
	wasDirty pageSet
	// wasEmpty is what emptyMask was when the scavenger last looked. Owned by the
	// scavenger.
	wasEmpty pageSet
}

const superMetaSize = unsafe.Sizeof(superMeta{})

func super(c chunkNo) *superMeta {
	return (*superMeta)(ptr(region.supers + mem.Addr(c)*mem.Addr(superMetaSize)))
}

// pageUse counts the region's pages by what they are, and keeps book on whether
// it was right to keep or to return them. Owned by region.mu. Every page that
// changes hands goes through superMeta.take or give, which keep it true.
var pageUse struct {
	used  int // pages of slabs and large blocks, those of cached large blocks too
	dirty int // free pages with memory behind them
	peak  int // the most that used was since the scavenger's last tick

	// The correctness tracker, in pages.
	reused   uint64 // kept warm, and taken again
	returned uint64 // given back to the operating system
	vain     uint64 // of those: kept for the scavenger's whole window before
	again    uint64 // of those: taken again, and so faulted again, within its horizon
}

// take hands out the pages m of the chunk, which are free. clean reports whether
// all of them still read as zero. Under region.mu.
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

// give takes back the pages m of the chunk, which were handed out and last used
// at the given time. Under region.mu.
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
	if now-at <= now-s.freedAt { // the later one
		s.freedAt = at
	}
}
