package heap

import (
	"sync/atomic"
	"unsafe"

	"github.com/hakmem/hakmem/internal/sizeclass"
)

// slabClassNow is the class of a page that was a slab's a moment ago. To who does
// not hold a block of it the page may have become a span's since, whose class is
// none of a slab's; then it is the trap class, which has no blocks.
func (m *pageMeta) slabClassNow() *sizeclass.Class {
	if c := m.class; c <= sizeclass.Num {
		return &sizeclass.Classes[c]
	}
	return &sizeclass.Classes[0]
}

// What a page is used for.
const (
	kindFree      uint8 = iota // no block: never used, or given back
	kindTiny                   // a slab of a class up to 1 KiB
	kindMid                    // part of a slab of a class above 1 KiB
	kindSpan                   // first page of a span
	kindSpanTail               // another page of a span
	kindSpanFreed              // first page of a span that was freed, not used since
	kindSlabFreed              // page of a slab that was given back, not used since
)

// pageMeta describes one page. A slab or span is known by its first page,
// which alone has the slab fields. It is two cache lines.
//
// The second begins with what a free above 1 KiB reads: for every page of a mid
// slab, the slab's start, where live bytes are, and the reciprocal of its block size.
// recip is 0 for all other pages, which the fast path takes as "not mine". The
// first page of a span has the same for its one block (span.go), and the live byte
// of that block besides, so that it needs no other line. That this line is the
// second, an odd one, keeps it out of the cache set in which the first byte of
// every system page lies: programs write there (docs/ledger.md, "Cache sets").
type pageMeta struct {
	// mid has the live bytes of the mid blocks that begin in this page, one for each
	// KiB. See live.go.
	mid [pageSize >> kibShift]uint8

	start  uintptr // address of the run's first page
	live0  uintptr // kindMid, kindSpan: kib of a block + live0 is the address of its live byte
	recip  uint64  // kindMid: sizeclass.Class.Recip; kindSpan: 1
	class  uint8   // kindTiny, kindMid; kindSpan: 0 above 2 MiB
	kind   uint8
	flags  uint8  // spans: flagArena
	bucket uint8  // what it was last used for: see residency.go
	pages  uint32 // first page of a span or slab: length in pages

	// Spans: usable bytes, live state, site. Slabs: see the state constants.
	spanSize  uintptr
	slabState atomic.Uint32
	slabClass atomic.Uint32 // 0 when it is no slab
	live      uint8
	lowWord   uint8 // where the carve right's holder last found a free block
	// site is a span's site; of a slab, since when it is PARTIAL, in milliseconds.
	site uint32
	// holes is the set of a PARTIAL slab's units whose memory was returned since it
	// was last LEASED (punch.go). Owned by who has the slab CLAIMED, else by the
	// class's lock.
	holes uint64
}

const (
	pageMetaSize  = 128
	pageMetaShift = 7
	// maxWords is the bitmap words reserved for each page: a slab of the
	// smallest class has 4096 blocks.
	maxWords = pageSize / sizeclass.Granule / 64
)

const flagArena = 1 // the span belongs to an Arena: Free refuses it

func meta(page uintptr) *pageMeta { return (*pageMeta)(ptr(region.pages.base + page<<pageMetaShift)) }

const liveOffset = unsafe.Offsetof(pageMeta{}.live)

// live0 returns the address of the byte at offset of the page's metadata, less the
// page's first kib.
func live0(page, offset uintptr) uintptr {
	return region.pages.base + page<<pageMetaShift + offset - page<<(pageShift-kibShift)
}

// usableBytes is the size of the block at p without what hardening keeps of it.
func usableBytes(m *pageMeta, span bool) uintptr {
	if span {
		return m.spanSize
	}
	return classSize(m.class)
}

// liveSited stands in the live state of a block that has a site. Its magazine
// is a trap like class 0's, so that the free comes to the slow path, which
// knows the class from the page.
const liveSited = setClasses - 1

// liveWatched is the same for a block whose allocation is in a trace or has its
// stack recorded: its free is for the slow path to tell.
const liveWatched = setClasses - 2

const setClasses = 128 // words side by side: Num+1 rounded up to a power of two

// liveBig is the live state of a span without a class. Its magazine is a trap,
// like those of liveSited and liveWatched.
const liveBig = setClasses - 3
