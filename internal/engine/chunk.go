package engine

import (
	"math/bits"
	"sync/atomic"
	"unsafe"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/osmem"
)

// This file describes a chunk, 2 MiB of the region: its metadata, and the books on what its pages
// are used for. region.mu owns both, with the exceptions that the fields of superMeta name.

// superMeta describes a chunk. It is a superslab if isSlabs is set; otherwise its pages are the
// page tree's. The fields are owned by region.mu, except emptyMask, sited, wasDirty and wasEmpty.
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
	// partly is the set of dirty pages of which only some units may be resident. pageMeta.resident
	// says which.
	partly pageSet
	// short is the set of pages in use that are the last one of a large block and not used as a
	// whole. pageMeta.units says how much of them is used.
	short pageSet
	// torn is the set of those pages of short whose unused end may not be touched: the return of its
	// memory failed halfway. They become lost pages when their block gives them back.
	torn pageSet
	// sited is the set of pages whose part of the site map may have memory behind it. A bit is set
	// by the goroutine that holds a block of the page, without a lock, and removed by a purge.
	sited atomic.Uint32
	// tables says which tables of the chunk count as memory. They are never returned.
	tables tableSet
	// wasDirty is what dirty was when all pages were last handed out together. Until they are given
	// back, it is owned by the goroutine that has them.
	wasDirty pageSet
	// wasEmpty is what emptyMask was when the scavenger last looked. Owned by the scavenger.
	wasEmpty pageSet
}

// anyLost says that findLost (purge.go) may have something to do.
var anyLost atomic.Bool

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

// take hands out the pages m of the chunk, which are free. The caller has reserved what the count of
// memory grows by (growth). clean reports whether all of them still read as zero. Under region.mu.
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
	s.partly &^= m
	s.tables = s.tablesWanted()
	return dirty == 0
}

// give takes back the pages m of the chunk, which were handed out and last used at the given time.
// Under region.mu.
func (s *superMeta) give(m pageSet, at stamp) {
	check.MustHold(&region.mu, "give")
	n := m.count()
	pageUse.used -= n
	pageUse.dirty += n
	if torn := m & s.torn; torn != 0 {
		s.torn &^= torn
		s.lost |= torn
		anyLost.Store(true)
	}
	s.free |= m &^ s.lost
	s.short &^= m
	now := times.now
	if int32(at-now) > 0 {
		at = now
	}
	if now-at <= now-s.freedAt { // the later of the two
		s.freedAt = at
	}
}

// resident returns which units of the page may be resident. Under region.mu.
func (s *superMeta) resident(page pageNo) unitSet {
	switch bit := pageSet(1) << page.inChunk(); {
	case s.dirty&bit == 0:
		return 0
	case s.partly&bit != 0:
		return meta(page).resident
	}
	return allUnits
}

// setResident notes which units of the page, which is dirty, may be resident. Under region.mu.
func (s *superMeta) setResident(page pageNo, units unitSet) {
	check.MustHold(&region.mu, "setResident")
	bit := pageSet(1) << page.inChunk()
	if s.partly &^= bit; units != allUnits {
		s.partly |= bit
		meta(page).resident = units
	}
}

// residentBytes returns how many bytes of the dirty pages m of chunk c may be resident. Under
// region.mu.
func (s *superMeta) residentBytes(c chunkNo, m pageSet) mem.Bytes {
	n := pageCount(m.count()).bytes()
	for p := s.partly & m; p != 0; p &= p - 1 {
		n -= (allUnits &^ meta(c.page()+pageNo(bits.TrailingZeros32(uint32(p)))).resident).bytes()
	}
	return n
}

// growth returns by how much the count grows if the pages m of chunk c, which are free, are taken.
// Under region.mu.
func (s *superMeta) growth(c chunkNo, m pageSet) mem.Bytes {
	n := pageCount(m.count()).bytes() - s.residentBytes(c, m&s.dirty)
	return n + s.tablesWanted().bytes() - s.tables.bytes()
}

// tableSet says which tables of a chunk count.
type tableSet uint8

const (
	tablePages  tableSet = 1 << iota // the page table, the classes of pages, the partial sets
	tableBitmap                      // the bitmaps of slabs
)

func (t tableSet) bytes() (n mem.Bytes) {
	if t&tablePages != 0 {
		n += superPages * (pageMetaSize + setUnit + 1)
	}
	if t&tableBitmap != 0 {
		n += superPages * maxWords * 8
	}
	return n
}

// tablesWanted returns the tables that a chunk has touched once a page of it is in use.
func (s *superMeta) tablesWanted() tableSet {
	t := s.tables | tablePages
	if s.isSlabs {
		t |= tableBitmap
	}
	return t
}

// mapBytes returns the memory of the part of a map that belongs to the pages m of a chunk. The map
// has unit bytes for each page.
func mapBytes(m pageSet, unit mem.Bytes) (n mem.Bytes) {
	system := osmem.PageSize()
	if system <= unit {
		return mem.Bytes(m.count()) * unit
	}
	// An OS page has the part of several pages.
	each := system / unit
	for i := mem.Bytes(0); i < superPages; i += each {
		if m>>i&(1<<each-1) != 0 {
			n += system
		}
	}
	return n
}
