package engine

import (
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/mem"
)

// This file holds the reserved region: what the fast paths read of it, its state and its metadata
// areas. region.mu owns the state; the exceptions are named where they are declared.

// The variables that the fast paths read of the region. They are written under region.mu: Granules
// with each commit, before any block of the memory is handed out, and the others once, when the
// region is reserved. They are plain variables because a field of a struct would cost the last unit
// of the inliner's budget in the Heap's fast paths.
var (
	// Base is the region's first address. Until there is a region it is noBase, an address chosen
	// so that the distance from it to any pointer is not a distance within a region.
	Base uintptr = noBase
	// Granules bounds (p-Base)>>4 for pointers p into the committed part of the region. It is 0
	// until there is one.
	Granules uintptr
	// Live is Base less Base>>4. The live map begins at Base, so the live byte of p is at Base +
	// (p-Base)>>4, which is Live + p>>4.
	Live uintptr
	// Pages is the address of the page table's first entry.
	Pages uintptr
)

const (
	// MaxPages is the number of pages of the largest region: 1 TiB for blocks and a 15th of that
	// for the live map, rounded up to an 8th.
	MaxPages = (maxRegion + maxRegion/8) >> pageShift

	maxRegion = 1 << 40

	// noBase has the top bit and the lowest bit set. The distance from it to a pointer is over 2^62
	// or not a multiple of 16.
	noBase = 1<<63 + 1
)

// PageClass has a byte for each page of the region: the class of the tiny slab that the page is, or
// 0. With one byte a page, the classes of a gigabyte fit the first-level cache. It is a plain array
// for the largest region, because untouched memory costs nothing and the array's address and length
// are constants.
var PageClass [MaxPages]uint8

// The kinds of metadata that have a fixed number of bytes for each page of the region.
const (
	areaLive  = iota // one byte for each granule: see live.go
	areaPages        // a pageMeta for each page: see page.go
	areaBits         // a bitmap of maxWords words for each page: see slab.go
	areaSets         // level 0 of the partial sets: see partialset.go
	areaSites        // a uint16 for each granule, committed lazily: see site.go
	numAreas
)

// area is one kind of metadata, committed as the region is. Owned by region.mu.
type area struct {
	base      mem.Addr
	unit      mem.Bytes // bytes for each page of the region
	committed mem.Bytes // bytes from base that need no further commit
	lazy      bool      // committed only when it is first needed
	// space is what is reserved of the area. It begins with the first page for blocks: those before
	// it, which hold the live map, need no metadata.
	space space
}

// sitesOn says that the site map is committed. It is set once, under region.mu (siteMap).
var sitesOn atomic.Bool

// inUse reports whether the area is committed as far as the region is. Any goroutine.
func (a *area) inUse() bool { return a != &region.sites || sitesOn.Load() }

// start is where the metadata of the first page for blocks begins.
func (a *area) start() mem.Bytes { return mem.Bytes(a.space.base - a.base) }

// of returns the metadata of n pages, in bytes.
func (a *area) of(n pageCount) mem.Bytes { return mem.Bytes(n) * a.unit }

// regionName labels the region's mappings.
const regionName = "hakmem: region"

// The region is one range of address space. The first slow path reserves it, and it is never
// unmapped while the process lives, so a stale pointer never points into memory that Go has taken
// since.
//
// The region begins with the live map of the whole region, so that one address, the base, leads to
// a block's page and to its live byte. The pages for blocks follow. Committed pages are contiguous.
// How much of the region is reserved, and where it lies, is in space.go.
//
// All fields are owned by mu, except those that tryReserve writes once. A goroutine that has seen
// ready set may read these without it.
var region regionState

// These four return the committed pages for blocks, and their chunks: the first one, and the one
// after the last.
func (r *regionState) firstPage() pageNo   { return pageNo(r.first >> pageShift) }
func (r *regionState) endPage() pageNo     { return pageNo(r.committed.Load() >> pageShift) }
func (r *regionState) firstChunk() chunkNo { return chunkNo(r.first >> superShift) }
func (r *regionState) endChunk() chunkNo   { return chunkNo(r.committed.Load() >> superShift) }

type regionState struct {
	mu    check.Mutex[check.Region]
	ready atomic.Bool
	tries uint // calls of Ready so far that found no region

	base      mem.Addr
	size      mem.Bytes
	first     mem.Bytes      // offset of the first page for blocks
	committed atomic.Uintptr // offset up to which pages may be touched
	step      mem.Bytes      // next commit step, before its limits are applied; 0: none yet
	blocks    space          // what is reserved from first on

	// huge says that, when the region was reserved, the system made huge pages of such memory by
	// itself. Then what is touched of a chunk brings memory for all of it.
	huge bool
	// hugeRest is what counts then of the live map beyond the parts that belong to blocks: its first
	// chunk.
	hugeRest mem.Bytes

	live, pages, bits, sets, sites area
	supers                         mem.Addr // a superMeta for each chunk that the page tree covers: see chunk.go
	supersIn                       space    // where supers lies
	owners                         mem.Addr // a uint32 for each chunk: see ownerWord

	metaCommitted atomic.Uintptr // bytes of metadata that may be written

	refusal error // why the last allocation that ran out of memory did so
	limited bool  // the reason was the hard memory limit instead
}

// areas lists the kinds of metadata that grow with the committed pages.
func (r *regionState) areas() [numAreas]*area {
	return [...]*area{areaLive: &r.live, areaPages: &r.pages, areaBits: &r.bits, areaSets: &r.sets, areaSites: &r.sites}
}

// InLiveMap reports whether a is the address of a byte of the live map. For tests.
func InLiveMap(a mem.Addr) bool { return a-region.base < mem.Addr(region.first) }
