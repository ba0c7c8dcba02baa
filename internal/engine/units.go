package engine

import (
	"math/bits"

	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// This file holds the units that the engine counts in: the constants of the region's geometry, and
// types for addresses, pages, chunks and times. It has no state.

// kibShift is log2 of the distance between the live bytes of mid blocks. The smallest mid block has
// 1152 bytes, so at most one of them begins in each KiB.
const kibShift = 10

// purgeBatch is how many chunks of 2 MiB one round of a purge takes out of use at a time. Runs
// merge across the borders of chunks, so 64 MiB that are wholly free need one system call.
const purgeBatch = 32

const (
	pageShift = sizeclass.PageShift
	pageSize  = sizeclass.PageSize

	// A superslab is 32 pages, 2 MiB. That is the size of a huge page on amd64 and arm64, and a
	// uint32 has one bit for each of its pages.
	superPages = 32
	superShift = pageShift + 5
	superSize  = 1 << superShift

	granuleShift = 4

	// minRegion is the smallest region worth having: what one commit of metadata covers. If less
	// address space than that can be had, reserveRegion gives up.
	minRegion = metaStep
	// metaStep is how much of the region each commit of metadata covers: 5 MiB of maps for 64 MiB.
	// With such steps metadata needs few system calls.
	metaStep = 64 << 20
)

// Front is the address of a front: see front.go. 0 is none.
type Front mem.Addr

// Block is the address of a block that the program may hold, live or free. 0 is none.
type Block mem.Addr

func (p Block) addr() mem.Addr { return mem.Addr(p) }

// Keep is the number of a block's first bytes that keep what they hold. The bytes behind them, up to the size
// that was asked for, are cleared. KeepAll clears nothing.
type Keep mem.Bytes

const KeepAll = ^Keep(0)

type (
	// pageNo is the number of a page in the region. chunkNo is the number of a chunk of 32 pages.
	pageNo  uintptr
	chunkNo uintptr
	// chunkCount is a number of chunks.
	chunkCount uintptr
	// pageCount is a number of pages. pageAlign is one too: the first page of an aligned run is a
	// multiple of it.
	pageCount uintptr
	pageAlign uintptr
	// chunkRun is a run of chunks, from the first to the one before to.
	chunkRun struct{ from, to chunkNo }
	// pageRun is a run of n pages from first on.
	pageRun struct {
		first pageNo
		n     pageCount
	}
	// pageSet is a set of the pages of a chunk, with a bit for each.
	pageSet uint32
	// slabOrder is log2 of a slab's pages.
	slabOrder uint32
	// blockIndex is a block's number in its slab.
	blockIndex uint32
	// stamp is a moment in milliseconds of the clock. It wraps after 49 days, so only differences
	// of stamps are used. millis is such a difference.
	stamp  uint32
	millis uint32
	// liveState is a block's live byte: see live.go.
	liveState uint8
)

func (m pageSet) count() int { return bits.OnesCount32(uint32(m)) }

// whole reports whether the set has all pages of the chunk.
func (m pageSet) whole() bool { return m == ^pageSet(0) }

// since returns how long before s the moment t was.
func (s stamp) since(t stamp) millis { return millis(s - t) }

// A unitSet is a set of the units of a page of which it is known whether they may be resident. A
// unit is 4 KiB, the smallest OS page.
type unitSet uint16

const (
	residentUnit = 4 << 10
	allUnits     = ^unitSet(0)

	_ = uint(pageSize/residentUnit-16) + uint(16-pageSize/residentUnit) // a bit for each unit
)

func (u unitSet) bytes() mem.Bytes { return mem.Bytes(bits.OnesCount16(uint16(u))) * residentUnit }

// firstUnits returns the first n units of a page.
func firstUnits(n uint8) unitSet { return unitSet(uint32(1)<<n - 1) }
