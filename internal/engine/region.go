package engine

import (
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/mem"
)

// This file holds the reserved region: what the fast paths read of it, its state and its metadata
// areas. region.mu owns the state; the exceptions are named where they are declared.

// The variables that the fast paths read of the region. They are written once, when the region is
// reserved, under region.mu, before any block is handed out. (Where reserved memory cannot be read,
// Granules grows with each commit: see osmem.ReadableReserve.) They are plain variables because a
// field of a struct would cost the last unit of the inliner's budget in the Heap's fast paths.
var (
	// Base is the region's first address. Until there is a region it is noBase, an address chosen
	// so that the distance from it to any pointer is not a distance within a region.
	Base uintptr = noBase
	// Granules bounds (p-Base)>>4 for pointers p into the region. It is 0 until there is a region.
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

// area is one kind of metadata: a fixed number of bytes for each page of the region, committed as
// the region is. Owned by region.mu.
type area struct {
	base      mem.Addr
	unit      mem.Bytes // bytes for each page of the region
	committed mem.Bytes // bytes from base that need no further commit
	lazy      bool      // committed only when it is first needed
}

// of returns the metadata of n pages, in bytes.
func (a *area) of(n pageCount) mem.Bytes { return mem.Bytes(n) * a.unit }

// The region is one range of address space. The first slow path reserves it, and it is never
// unmapped while the process lives, so a stale pointer never points into memory that Go has taken
// since.
//
// The region begins with the live map of the whole region, so that one address, the base, leads to
// a block's page and to its live byte. The pages for blocks follow. Committed pages are contiguous.
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

	// huge says that the system makes huge pages of the region by itself, or may.
	huge bool

	live   area     // one byte for each granule: see live.go
	pages  area     // a pageMeta for each page: see page.go
	bits   area     // a bitmap of maxWords words for each page: see slab.go
	sets   area     // level 0 of the partial sets: see partialset.go
	sites  area     // a uint16 for each granule, committed lazily: see site.go
	supers mem.Addr // a superMeta for each chunk: see chunk.go

	metaCommitted atomic.Uintptr // bytes of metadata that may be written

	refusal error // why the last allocation that ran out of memory did so
	limited bool  // the reason was the hard memory limit instead
}

// areas lists the kinds of metadata that grow with the committed pages.
func (r *regionState) areas() [5]*area {
	return [...]*area{&r.live, &r.pages, &r.bits, &r.sets, &r.sites}
}

// InLiveMap reports whether a is the address of a byte of the live map. For tests.
func InLiveMap(a mem.Addr) bool { return a-region.base < mem.Addr(region.first) }
