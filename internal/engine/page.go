package engine

import (
	"sync/atomic"
	"unsafe"

	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/site"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// slabClassNow is the class of a page that was a slab's a moment ago. To who does
// not hold a block of it the page may have become a large block's since, whose class is
// none of a slab's; then it is the trap class, which has no blocks.
func (m *pageMeta) slabClassNow() *sizeclass.Class {
	if c := m.class; c <= sizeclass.Num {
		return &sizeclass.Classes[c]
	}
	return &sizeclass.Classes[0]
}

// pageKind is what a page is used for.
type pageKind uint8

const (
	kindFree       pageKind = iota // no block: never used, or given back
	kindTiny                       // a slab of a class up to 1 KiB
	kindMid                        // part of a slab of a class above 1 KiB
	kindLarge                      // first page of a large block
	kindLargeTail                  // another page of a large block
	kindLargeFreed                 // first page of a large block that was freed, not used since
	kindSlabFreed                  // page of a slab that was given back, not used since
)

// pageMeta describes one page. A slab or large block is known by its first page,
// which alone has the slab fields. It is two cache lines.
//
// The second begins with what a free above 1 KiB reads: for every page of a mid
// slab, the slab's start, where live bytes are, and the reciprocal of its block size.
// recip is 0 for all other pages, which the fast path takes as "not mine". The
// first page of a large block has the same for its one block (large block.go), and the live byte
// of that block besides, so that it needs no other line. That this line is the
// second, an odd one, keeps it out of the cache set in which the first byte of
// every OS page lies: programs write there (docs/ledger.md, "Cache sets").
type pageMeta struct {
	// mid has the live bytes of the mid blocks that begin in this page, one for each
	// KiB. See live.go.
	mid [pageSize >> kibShift]uint8

	start  mem.Addr     // address of the run's first page
	live0  mem.Addr     // kindMid, kindLarge: kib of a block + live0 is the address of its live byte
	recip  uint64       // kindMid: sizeclass.Class.Recip; kindLarge: 1
	class  sizeclass.ID // kindTiny, kindMid; kindLarge: 0 above 2 MiB
	kind   pageKind
	flags  largeFlags // large blocks: flagArena
	bucket bucket     // what it was last used for: see residency.go
	pages  uint32     // first page of a large block or slab: length in pages

	// Large blocks: usable bytes, live state, site. Slabs: see the state constants.
	largeSize mem.Bytes
	slabState atomic.Uint32
	slabClass atomic.Uint32 // 0 when it is no slab
	live      liveState
	lowWord   uint8 // where the carve right's holder last found a free block
	// Two words that mean one thing for a slab and another for a large block; only the accessors
	// below touch them.
	siteOrListed uint32
	holesOrSeal  uint64
}

// runBytes is the length of the slab or large block of which m is the first page.
func (m *pageMeta) runBytes() mem.Bytes { return pageCount(m.pages).bytes() }

// site is a large block's site.
func (m *pageMeta) site() site.ID     { return site.ID(m.siteOrListed) }
func (m *pageMeta) setSite(s site.ID) { m.siteOrListed = uint32(s) }

// listed is when a slab became PARTIAL, by times.listed.
func (m *pageMeta) listed() stamp       { return stamp(m.siteOrListed) }
func (m *pageMeta) setListed(now stamp) { m.siteOrListed = uint32(now) }

// holes is the set of a PARTIAL slab's units whose memory was returned since it was last
// LEASED (punch.go). Owned by the goroutine that has the slab CLAIMED, else by the class's
// lock.
func (m *pageMeta) holes() uint64         { return m.holesOrSeal }
func (m *pageMeta) setHoles(units uint64) { m.holesOrSeal = units }

// largeSeal is where the sealed size of a hardened large block lies (harden.go).
func (m *pageMeta) largeSeal() *uint64 { return &m.holesOrSeal }

const (
	pageMetaSize  = 128
	pageMetaShift = 7
	// maxWords is the bitmap words reserved for each page: a slab of the
	// smallest class has 4096 blocks.
	maxWords = pageSize / sizeclass.Granule / 64
)

// largeFlags are facts about a large block.
type largeFlags uint8

const flagArena largeFlags = 1 // the large block belongs to an Arena: Free refuses it

func meta(page pageNo) *pageMeta {
	return (*pageMeta)(ptr(region.pages.base + mem.Addr(page)<<pageMetaShift))
}

const liveOffset = unsafe.Offsetof(pageMeta{}.live)

// live0 returns the address of the byte at offset of the page's metadata, less the
// page's first kib.
func live0(page pageNo, offset mem.Bytes) mem.Addr {
	return region.pages.base + mem.Addr(page)<<pageMetaShift + mem.Addr(offset) - mem.Addr(page)<<(pageShift-kibShift)
}

// usableBytes is the size of the block at p without what hardening keeps of it.
func usableBytes(m *pageMeta, large bool) mem.Bytes {
	if large {
		return m.largeSize
	}
	return m.class.Bytes()
}

// liveSited stands in the live state of a block that has a site. Its magazine
// is a trap like class 0's, so that the free comes to the slow path, which
// knows the class from the page.
const liveSited = setClasses - 1

// liveWatched is the same for a block whose allocation is in a trace or has its
// stack recorded: its free is for the slow path to tell.
const liveWatched = setClasses - 2

const setClasses = 128 // words side by side: Num+1 rounded up to a power of two

// liveHuge is the live state of a large block without a class. Its magazine is a trap,
// like those of liveSited and liveWatched.
const liveHuge = setClasses - 3

// bucket is a kind of pages, by the blocks in them.
type bucket uint8

const (
	bucketTiny  bucket = iota // up to 1 KiB
	bucketMid                 // to 32 KiB
	bucketLarge               // to 2 MiB
	bucketHuge                // above
	numBuckets
)

// page returns the page of the region in which p lies.
func (p Block) page() pageNo { return pageAt(mem.Addr(p)) }

// pageAt returns the page of the region in which the address a lies.
func pageAt(a mem.Addr) pageNo { return pageNo((a - region.base) >> pageShift) }

// addr returns the first address of the page.
func (n pageNo) addr() mem.Addr { return region.base + mem.Addr(n)<<pageShift }

func (c chunkNo) addr() mem.Addr { return region.base + mem.Addr(c)<<superShift }

// chunk returns the chunk that the page is in, inChunk its number there.
func (n pageNo) chunk() chunkNo { return chunkNo(n / superPages) }

func (n pageNo) inChunk() uint32 { return uint32(n % superPages) }

// up returns the first page from n on that is aligned.
func (n pageNo) up(to pageAlign) pageNo { return (n + pageNo(to) - 1) &^ (pageNo(to) - 1) }

// page returns the chunk's first page, addr its first address.
func (c chunkNo) page() pageNo { return pageNo(c * superPages) }

// bytes is how many bytes so many pages have; pagesOf how many pages so many bytes need.
func (n pageCount) bytes() mem.Bytes { return mem.Bytes(n) << pageShift }

func pagesOf(n mem.Bytes) pageCount { return pageCount((n + pageSize - 1) >> pageShift) }
