package engine

import (
	"sync/atomic"
	"unsafe"

	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/site"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// This file describes one page: its metadata, what its fields mean for a slab and for a large
// block, and the arithmetic between addresses, pages and chunks. A page's metadata is written by
// the goroutine that makes it part of a slab or a large block, or gives it back; slab.go and
// large.go say under which lock.

// slabClassNow returns the class of a page that was a slab's a moment ago. If the caller does not
// hold a block of the slab, the page may have become a large block's in the meantime. The class of
// a large block is not a slab's, so the result is then the trap class, which has no blocks.
func (m *pageMeta) slabClassNow() *sizeclass.Class {
	if c := m.class; c <= sizeclass.Num {
		return &sizeclass.Classes[c]
	}
	return &sizeclass.Classes[0]
}

// pageKind says what a page is used for.
type pageKind uint8

const (
	kindFree       pageKind = iota // no block: never used, or given back
	kindTiny                       // a slab of a class up to 1 KiB
	kindMid                        // part of a slab of a class above 1 KiB
	kindLarge                      // first page of a large block
	kindLargeTail                  // another page of a large block
	kindLargeFreed                 // first page of a large block that was freed; not used since
	kindSlabFreed                  // page of a slab that was given back; not used since
)

// pageMeta describes one page. A slab or a large block is known by its first page; only that page
// has the slab fields in use. A pageMeta is two cache lines.
//
// The second line begins with what a free above 1 KiB reads. For every page of a mid slab that is
// the slab's start, the place of its live bytes, and the reciprocal of its block size. recip is 0
// for all other pages, and the fast path takes a 0 as "not mine". The first page of a large block
// has the same three for its one block (large.go). It also has the live byte of that block, so that
// the free needs no other line.
//
// This line is the second one, an odd line, so that it stays out of the cache set of the first byte
// of every OS page: programs write there (docs/ledger.md, "Cache sets").
type pageMeta struct {
	// mid has the live bytes of the mid blocks that begin in this page, one for each KiB. See
	// live.go.
	mid [pageSize >> kibShift]uint8

	start  mem.Addr     // address of the run's first page
	live0  mem.Addr     // kindMid, kindLarge: plus a block's KiB number, its live byte's address
	recip  uint64       // kindMid: sizeclass.Class.Recip; kindLarge: 1
	class  sizeclass.ID // kindTiny, kindMid: the slab's; kindLarge: 0 above 2 MiB
	kind   pageKind
	flags  largeFlags // large blocks: flagArena
	bucket bucket     // what the page was last used for: see residency.go
	pages  uint32     // first page of a large block or slab: length in pages

	// Large blocks: usable bytes and live state. Slabs: see the constants of slab states.
	largeSize mem.Bytes
	slabState atomic.Uint32
	slabList  atomic.Uint32 // the slab's listID; 0 when the page begins no slab
	live      liveState
	// lowWordOrUnits is where the holder of the carve right (slab.go) last found a free block, or how
	// many units of a large block's last page are used.
	lowWordOrUnits uint8
	// resident is the set of the page's units that may be resident. It counts while the page is in
	// its chunk's set partly. Owned by region.mu.
	resident unitSet
	// Two words that mean one thing for a slab and another for a large block. Only the accessors
	// below touch them.
	siteOrListed uint32
	holesOrSeal  uint64
}

// lowWord is the word of a slab's bitmap where the holder of the carve right last found a free
// block.
func (m *pageMeta) lowWord() uint32     { return uint32(m.lowWordOrUnits) }
func (m *pageMeta) setLowWord(w uint32) { m.lowWordOrUnits = uint8(w) }

// units is how many units of a large block's last page the block uses. It counts while the page is
// in its chunk's set short. Owned by region.mu.
func (m *pageMeta) units() uint8     { return m.lowWordOrUnits }
func (m *pageMeta) setUnits(n uint8) { m.lowWordOrUnits = n }

// list is the list that the slab is in, which says its class and its lane; 0 when the page begins no
// slab. It is stable for whoever holds a block of the slab or the carve right.
func (m *pageMeta) list() listID { return listID(m.slabList.Load()) }

// runBytes is the length of the slab or large block of which m is the first page.
func (m *pageMeta) runBytes() mem.Bytes { return pageCount(m.pages).bytes() }

// site is a large block's site.
func (m *pageMeta) site() site.ID     { return site.ID(m.siteOrListed) }
func (m *pageMeta) setSite(s site.ID) { m.siteOrListed = uint32(s) }

// listed is the moment when a slab became PARTIAL, in times.listed.
func (m *pageMeta) listed() stamp       { return stamp(m.siteOrListed) }
func (m *pageMeta) setListed(now stamp) { m.siteOrListed = uint32(now) }

// holes is the set of those units of a slab that have no memory: nobody used them since their pages
// were free or their memory was returned (punch.go). It is owned by the holder of the carve right. If
// nobody has it, the class's lock owns the set.
func (m *pageMeta) holes() uint64         { return m.holesOrSeal }
func (m *pageMeta) setHoles(units uint64) { m.holesOrSeal = units }

// largeSeal is where the sealed size of a hardened large block lies (hardened.go).
func (m *pageMeta) largeSeal() *uint64 { return &m.holesOrSeal }

const (
	pageMetaSize  = 128
	pageMetaShift = 7
	// maxWords is the number of bitmap words reserved for each page: a slab of the smallest class
	// has 4096 blocks.
	maxWords = pageSize / sizeclass.Granule / 64
)

// largeFlags are facts about a large block.
type largeFlags uint8

const flagArena largeFlags = 1 // the large block belongs to an Arena: Free refuses it

// cached reports whether m is the first page of a large block that was freed and lies in a magazine, a
// cache or the quarantine. m.kind is kindLarge. Without live state such a block looks like a live one.
func (m *pageMeta) cached() bool { return checkLive && m.live == 0 && m.flags&flagArena == 0 }

// meta returns the metadata of a page.
func meta(page pageNo) *pageMeta {
	return (*pageMeta)(ptr(region.pages.base + mem.Addr(page)<<pageMetaShift))
}

// liveOffset is where a large block's live byte lies in the metadata of its first page.
const liveOffset = unsafe.Offsetof(pageMeta{}.live)

// live0 returns the address of the byte at offset of the page's metadata, less the number of the
// page's first KiB.
func live0(page pageNo, offset mem.Bytes) mem.Addr {
	return region.pages.base + mem.Addr(page)<<pageMetaShift + mem.Addr(offset) - mem.Addr(page)<<(pageShift-kibShift)
}

// usableBytes returns the usable size of a block, including the bytes that hardening takes for
// itself. m is the metadata of the block's page.
func usableBytes(m *pageMeta, large bool) mem.Bytes {
	if large {
		return m.largeSize
	}
	return m.class.Bytes()
}

// liveSited is the live state of a block that has a site. Its magazine is a trap like class 0's, so
// the free takes the slow path, which finds the class in the page's metadata.
const liveSited = setClasses - 1

// liveWatched is the live state of a block whose allocation is in a trace, has its stack recorded, or is a
// sample of the profile. Its magazine is a trap as well, so that the slow path reports the free.
const liveWatched = setClasses - 2

const setClasses = 128 // words side by side: numLists rounded up to a power of two

// setUnit is the bytes of the partial sets (partialset.go) for each page of the region.
const setUnit = setClasses * 8 / 64

// liveHuge is the live state of a large block without a class. Its magazine is a trap, like those
// of liveSited and liveWatched.
const liveHuge = setClasses - 3

// The numbers of classes, which are live states too, end below these, and each list has a word.
const (
	_ = uint(liveHuge - 1 - sizeclass.NumAll)
	_ = uint(setClasses - numLists)
)

// largeClass returns the class of a large block of that many bytes, or 0 for a huge one.
func largeClass(usable mem.Bytes) sizeclass.ID {
	if usable > sizeclass.MaxLarge {
		return 0
	}
	return sizeclass.LargeOf(usable)
}

// classLive is the live state that says a large block's class and no more.
func (m *pageMeta) classLive() liveState {
	if m.class == 0 {
		return liveHuge
	}
	return liveState(m.class)
}

// bucket is a kind of page, by the size of the blocks in it.
type bucket uint8

const (
	bucketTiny  bucket = iota // up to 1 KiB
	bucketMid                 // up to 32 KiB
	bucketLarge               // up to 2 MiB
	bucketHuge                // above 2 MiB
	numBuckets
)

// page returns the page of the region in which p lies.
func (p Block) page() pageNo { return pageAt(mem.Addr(p)) }

// pageAt returns the page of the region in which the address a lies.
func pageAt(a mem.Addr) pageNo { return pageNo((a - region.base) >> pageShift) }

// addr returns the first address of the page.
func (n pageNo) addr() mem.Addr { return region.base + mem.Addr(n)<<pageShift }

// addr returns the first address of the chunk.
func (c chunkNo) addr() mem.Addr { return region.base + mem.Addr(c)<<superShift }

// chunk returns the chunk that the page is in. inChunk returns the page's number in that chunk.
func (n pageNo) chunk() chunkNo { return chunkNo(n / superPages) }

func (n pageNo) inChunk() uint32 { return uint32(n % superPages) }

// spot says at which pages a run may begin: those whose number is shift more than a multiple of
// align, which is a power of two.
type spot struct {
	align pageAlign
	shift pageNo
}

// from returns the first such page from n on.
func (at spot) from(n pageNo) pageNo {
	return (n-at.shift+pageNo(at.align)-1)&^(pageNo(at.align)-1) + at.shift
}

// page returns the chunk's first page.
func (c chunkNo) page() pageNo { return pageNo(c * superPages) }

// bytes returns how many bytes n pages have. pagesOf returns how many pages n bytes need.
func (n pageCount) bytes() mem.Bytes { return mem.Bytes(n) << pageShift }

func pagesOf(n mem.Bytes) pageCount { return pageCount((n + pageSize - 1) >> pageShift) }
