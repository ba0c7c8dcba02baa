package engine

import (
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/mem"
)

// What the fast paths need to know of the region. Written once, when the region
// is reserved, under region.mu, before any block is handed out. (Where reserved
// memory cannot be read, Granules grows with each commit; see
// osmem.ReadableReserve.) Plain variables, not a struct: a field would cost the
// Heap's fast paths the inliner's last unit.
var (
	// Base is the region's first address, and until there is a region noBase, an
	// address from which no pointer's distance is one within a region.
	Base uintptr = noBase
	// Granules bounds (p-Base)>>4 for pointers into the region; 0 until there is
	// one.
	Granules uintptr
	// Live is Base less Base>>4: the live map begins at Base, so the live byte
	// of p is at Live + p>>4, which is Base + (p-Base)>>4.
	Live uintptr
	// Pages is the address of the page table's first entry.
	Pages uintptr
)

const (
	// MaxPages is the pages of the largest region: 1 TiB for blocks and a 15th
	// of that for the live map, rounded up.
	MaxPages = (maxRegion + maxRegion/8) >> pageShift

	maxRegion = 1 << 40

	// noBase has the top bit and the lowest bit set: subtracted from a pointer
	// it leaves a distance of over 2^62, or one that is not a multiple of 16.
	noBase = 1<<63 + 1
)

// PageClass has the class of each page of the region: that of the tiny slab it
// is, or 0. One byte a page, so that the classes of a gigabyte fit the first
// cache; a plain array of the largest size, because untouched memory is free
// and its address and length are constants.
var PageClass [MaxPages]uint8

// area is one kind of metadata: a fixed number of bytes for each page of the
// region, committed as the region is. Owned by region.mu.
type area struct {
	base      mem.Addr
	unit      mem.Bytes // bytes for each page of the region
	committed mem.Bytes // bytes from base that need no commit any more
	lazy      bool      // committed only once it has a user
}

// of returns the metadata of n pages, in bytes.
func (a *area) of(n pageCount) mem.Bytes { return mem.Bytes(n) * a.unit }

// The region: one range of address space, reserved by the first slow path and
// never unmapped while the process lives, so that a stale pointer can never
// land in memory that Go has taken since. It begins with the live map of the
// whole region, so that one address, the base, leads to a block's page and to
// its live byte; the pages for blocks follow. Committed pages are contiguous.
// All fields are owned by mu, but for those written once by reserve, which may
// be read by who has seen ready.
var region regionState

// The pages, and chunks, of committed pages for blocks: from first to before end.
func (r *regionState) firstPage() pageNo   { return pageNo(r.first >> pageShift) }
func (r *regionState) endPage() pageNo     { return pageNo(r.committed.Load() >> pageShift) }
func (r *regionState) firstChunk() chunkNo { return chunkNo(r.first >> superShift) }
func (r *regionState) endChunk() chunkNo   { return chunkNo(r.committed.Load() >> superShift) }

type regionState struct {
	mu    check.Mutex[check.Region]
	ready atomic.Bool
	tries uint // calls of reserveRegion so far

	base      mem.Addr
	size      mem.Bytes
	first     mem.Bytes      // offset of the first page for blocks
	committed atomic.Uintptr // offset up to which pages may be touched
	step      mem.Bytes      // next commit step, before its limits; 0: none yet

	live   area     // one byte per granule: see live.go
	pages  area     // pageMeta: see slab.go
	bits   area     // one bitmap of maxWords words per page: see slab.go
	sets   area     // level 0 of the partial sets: see partialset.go
	sites  area     // one uint16 per granule, lazily: see site.go
	supers mem.Addr // superMeta per superslab

	metaCommitted atomic.Uintptr // bytes of metadata that may be written

	refusal error // why the last one that ran out of memory did
	limited bool  // that was the hard memory limit instead
}

// areas lists the metadata that grows with the committed pages.
func (r *regionState) areas() [5]*area {
	return [...]*area{&r.live, &r.pages, &r.bits, &r.sets, &r.sites}
}

// InLiveMap reports whether a is the address of a byte of the live map. For tests.
func InLiveMap(a mem.Addr) bool { return a-region.base < mem.Addr(region.first) }
