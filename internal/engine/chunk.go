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
	away      bool // the chunk's memory is not committed
	// sparse says that memory was returned while other parts of the chunk were in use. smallPages
	// says that the chunk has the advice that keeps the system from making a huge page of it. Both
	// are written under region.mu and scavenger.mu, for chunks of the live map too (hugepages.go); of a
	// chunk that one block has as a whole, smallPages also by the holder of the block (touch.go).
	sparse, smallPages bool
	// huge says that the pages were last used for a huge block that had the chunk as a whole, so that
	// their records do not say so (bucketAt).
	huge bool
	// tiny is the set of pages whose part of the live map may have memory behind it.
	tiny pageSet
	// purged is the set of pages whose memory was returned to the system and that were not used
	// since. purgedAt is when memory was last returned, and freedAt when a page was last given
	// back.
	purged   pageSet
	purgedAt stamp
	freedAt  stamp
	// lost is the set of pages that may not be touched: see returnMemory, and away.go for chunks that
	// are away.
	lost pageSet
	// refused is the set of pages with memory that the system refused to take back, refusedAt when
	// that was last, and refusals how often in a row (refused.go). Written under scavenger.mu and
	// region.mu together, read under either.
	refused   pageSet
	refusedAt stamp
	refusals  uint8
	// rounds is how many rounds in a row the chunk was in use as a whole, and collapsed says that a huge
	// page was made of it, or tried, since then (collapse.go). Written under scavenger.mu and region.mu
	// together.
	rounds    uint8
	collapsed bool
	// unused is the set of free pages that are dirty because they got memory together with another page
	// of the chunk (brings). They still read as zero.
	unused pageSet
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
	// by the goroutine that holds a block of the page, without a lock, and removed by whoever returns
	// the memory, when nobody holds a block there.
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

// superBytes returns the bytes of the metadata of so many chunks.
func superBytes(chunks chunkNo) mem.Bytes {
	return (mem.Bytes(chunks) * mem.Bytes(superMetaSize)).Up(pageSize)
}

// super returns the metadata of chunk c.
func super(c chunkNo) *superMeta {
	return (*superMeta)(ptr(region.supers + mem.Addr(c)*mem.Addr(superMetaSize)))
}

// A huge block may have a chunk as a whole. Then the pages of the chunk have no records of it in their
// metadata: what is there is of an earlier use, and nothing that a fast path would accept. Instead the
// chunk's word says which block has it, by the number of the block's first page; otherwise the word is
// 0. So what a huge block costs is proportional to its chunks, at four bytes each. The chunk in which
// the block begins is never of this kind.
//
// Of such a chunk free is empty, and dirty says which pages had memory when the block got them: what
// wasDirty says of other chunks. The pages are in use, whatever dirty says.

// ownerWord is that word. Owned by region.mu; a goroutine that has the block may read it, and whoever
// looks up a wrong pointer.
func ownerWord(c chunkNo) *uint32 {
	return (*uint32)(ptr(region.owners + mem.Addr(c)*4))
}

// ownerOf returns the first page of the huge block that has chunk c without records of its pages, or 0.
func ownerOf(c chunkNo) pageNo { return pageNo(*ownerWord(c)) }

// takeOwned hands out all pages of the chunk c, which are free, to the huge block at p. clean reports whether all of them still read as zero. Under region.mu.
func takeOwned(c chunkNo, p Block) (clean bool) {
	s := super(c)
	dirty := s.dirty &^ s.unused
	s.take(c, ^pageSet(0))
	s.dirty = dirty
	*ownerWord(c) = uint32(p.page())
	return dirty == 0
}

// takeNew hands out chunks that have just been committed, and that the page tree does not have, to the
// huge block at p. The only thing that is written is which block has them. Under region.mu. The caller
// has reserved their memory.
func takeNew(r chunkRun, p Block) {
	check.MustHold(&region.mu, "takeNew")
	for c := r.from; c < r.to; c++ {
		*ownerWord(c) = uint32(p.page())
	}
	pageUse.used += int(r.to-r.from) * superPages
}

// disown makes a chunk that a huge block has as a whole one whose pages are used like others. The
// caller writes their records, or takes the pages back. Under region.mu.
func disown(c chunkNo) {
	s := super(c)
	s.wasDirty, s.dirty, s.huge = s.dirty, ^pageSet(0), true
	count(s.tablesWanted().bytes() - s.tables.bytes())
	s.tables = s.tablesWanted()
	*ownerWord(c) = 0
}

// bucketAt returns what a page was last used for.
func bucketAt(page pageNo) bucket {
	if c := page.chunk(); ownerOf(c) != 0 || super(c).huge {
		return bucketHuge
	}
	return meta(page).bucket
}

// settleBucket writes into the records of a chunk's pages what they were last used for, before some of
// them are used for something else. Under region.mu.
func settleBucket(c chunkNo) {
	if s := super(c); s.huge {
		for page := c.page(); page < (c + 1).page(); page++ {
			meta(page).bucket = bucketHuge
		}
		s.huge = false
	}
}

// pageUse counts the region's pages by what they are used for, and what came of keeping or returning
// them. Owned by region.mu. Every page that changes hands goes through superMeta.take or give, which
// update the counts.
var pageUse struct {
	used  int // pages of slabs and of large blocks, cached ones included
	dirty int // free pages that have memory behind them
	// refused is how many of the dirty pages are in superMeta.refused.
	refused int

	// What came of keeping and returning pages, counted in pages.
	reused   uint64 // kept dirty, and taken again
	returned uint64 // given back to the operating system
	vain     uint64 // of those returned: kept before that for their hold time
	again    uint64 // of those returned: taken and faulted in again within the horizon
}

// take hands out the pages m of the chunk, which is c. They are free. The caller has reserved what the
// count of memory grows by (growth). clean reports whether all of them still read as zero. Under
// region.mu.
func (s *superMeta) take(c chunkNo, m pageSet) (clean bool) {
	check.MustHold(&region.mu, "take")
	u := &pageUse
	more := s.brings(m) &^ (m | s.dirty)
	used := s.dirty &^ s.unused // pages that need not read as zero
	if m == pageSet(^uint32(0)) {
		s.wasDirty = used
	}
	now := milliseconds()
	u.used += m.count()
	u.dirty += more.count() - (s.dirty & m).count()
	u.refused -= (s.refused & m).count()
	u.reused += uint64((used & m).count())
	noteTaken(c, m, now)
	unscalePages(c, m)
	if back := s.purged & m; back != 0 {
		s.purged &^= back
		if now.since(s.purgedAt) <= horizon() {
			u.again += uint64(back.count())
		}
	}
	s.free &^= m
	s.dirty |= m | more
	s.unused = (s.unused | more) &^ m
	if more != 0 {
		s.freedAt = now
	}
	s.partly &^= m
	s.tables = s.tablesWanted()
	return used&m == 0
}

// brings returns the free pages that get memory when the first of the pages m is touched. Where the
// system makes huge pages by itself, these are all of the chunk's, until it has the advice against
// that. Under region.mu.
func (s *superMeta) brings(m pageSet) pageSet {
	if region.huge && !s.smallPages {
		return s.free
	}
	return m
}

// leavePages takes n pages out of the count of pages in use: their memory is about to move to other
// pages, which count from now on (take). So a move counts no memory twice, and a limit sees what it
// adds. The pages belong to the caller until giveMoved. A negative n undoes it. Under region.mu.
func leavePages(n int) {
	check.MustHold(&region.mu, "leavePages")
	pageUse.used -= n
	uncount(mem.Bytes(n) * pageSize)
}

// giveMoved takes back the pages m of the chunk, which leavePages took out of the count and whose
// memory has left. They read as zero. Those that the system refused earlier count as dirty until it
// takes them back. Under region.mu.
func (s *superMeta) giveMoved(m pageSet) {
	check.MustHold(&region.mu, "giveMoved")
	kept := s.refused & m
	s.free |= m
	s.dirty &^= m
	s.foundMemory(kept)
	pageUse.refused += kept.count()
}

// keptMemory notes that free pages m of the chunk have memory, although it should have left. lost says
// that they may not be touched (returnMemory). Under region.mu.
func (s *superMeta) keptMemory(m pageSet, lost bool) {
	check.MustHold(&region.mu, "keptMemory")
	s.foundMemory(m)
	s.freedAt = milliseconds()
	if lost {
		pageUse.refused -= (s.refused & s.free & m).count()
		s.refused &^= m
		s.lost |= m
		s.free &^= m
	}
}

// foundMemory notes that pages m of the chunk, which nobody uses, have memory, although some of them
// counted as clean. It returns which. Under region.mu.
func (s *superMeta) foundMemory(m pageSet) (clean pageSet) {
	check.MustHold(&region.mu, "foundMemory")
	clean = m &^ s.dirty
	s.dirty |= m
	pageUse.dirty += clean.count()
	count(pageCount(clean.count()).bytes())
	return clean
}

// give takes back the pages m of the chunk, which is c. They were handed out, and last used at the given
// time; times.now stands for now. Under region.mu.
func (s *superMeta) give(c chunkNo, m pageSet, at stamp) {
	check.MustHold(&region.mu, "give")
	n := m.count()
	pageUse.used -= n
	pageUse.dirty += n
	if torn := m & s.torn; torn != 0 {
		s.torn &^= torn
		s.lost |= torn
		s.refused &^= torn
		anyLost.Store(true)
	}
	pageUse.refused += (s.refused & m).count()
	s.free |= m &^ s.lost
	s.short &^= m
	now := milliseconds()
	if at == times.now || int32(at-now) > 0 {
		at = now
	}
	noteFreed(c, m, at)
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
	n := pageCount((m | s.brings(m)&^s.dirty).count()).bytes() - s.residentBytes(c, m&s.dirty)
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

// liveBytes returns the memory of the part of the live map that belongs to the pages m of a chunk. Where
// the system makes huge pages by itself, it has memory as a whole.
func liveBytes(m pageSet) mem.Bytes {
	if region.huge && m != 0 {
		return region.live.of(superPages)
	}
	return mapBytes(m, region.live.unit)
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
