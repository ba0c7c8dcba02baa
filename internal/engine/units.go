package engine

import (
	"math/bits"

	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// kibShift is log2 of how far apart live bytes of mid blocks are. The smallest of
// these blocks has 1152 bytes.
const kibShift = 10

// purgeBatch is how many chunks, 2 MiB each, one round of a purge takes out of
// use at a time: runs merge across their borders, so 64 MiB need one system call
// where they are wholly free.
const purgeBatch = 32

const (
	pageShift = sizeclass.PageShift
	pageSize  = sizeclass.PageSize

	// A superslab is 32 pages, 2 MiB: the size of a huge page on amd64 and
	// arm64, and one bit of a uint32 for each page.
	superPages = 32
	superShift = pageShift + 5
	superSize  = 1 << superShift

	granuleShift = 4

	// minRegion is the least region worth having; below it init gives up.
	minRegion = 256 << 20
	// metaStep is how much of the region each commit of metadata covers, so
	// that metadata needs few system calls: 5 MiB of maps for 64 MiB.
	metaStep = 64 << 20
)

// Front is the address of a front: see front.go. 0 is none.
type Front mem.Addr

// Block is the address of a block that the program may hold, live or free. 0 is none.
type Block mem.Addr

func (p Block) addr() mem.Addr { return mem.Addr(p) }

type (
	// pageNo is the number of a page of the region, chunkNo that of a chunk of 32 pages.
	pageNo  uintptr
	chunkNo uintptr
	// pageCount is a number of pages; pageAlign too: what a run's first page is a multiple of.
	pageCount uintptr
	pageAlign uintptr
	// pageSet is a set of the pages of a chunk, a bit for each.
	pageSet uint32
	// slabOrder is log2 of a slab's pages.
	slabOrder uint32
	// blockIndex is a block's number in its slab.
	blockIndex uint32
	// stamp is a moment in milliseconds of times.clock. It wraps after 49 days; only
	// differences are used. millis is such a difference.
	stamp  uint32
	millis uint32
	// liveState is a block's live byte: see live.go.
	liveState uint8
)

func (m pageSet) count() int { return bits.OnesCount32(uint32(m)) }

// since returns how long before s the moment t was.
func (s stamp) since(t stamp) millis { return millis(s - t) }
