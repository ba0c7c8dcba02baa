package engine

import (
	"math/bits"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/mem"
)

// This file says of each chunk of the region how much of it is used, and how much has memory.

// PartBytes is the length of a part of the region: a chunk.
const PartBytes = superSize

// RegionPart says what one chunk is used for, in bytes. Together the four are the chunk. It has the fields of
// the public type.
type RegionPart struct{ Used, Holes, Warm, Returned uint64 }

// RegionParts has room for what one call of ReadRegion reads, under one lock.
type RegionParts [purgeBatch]RegionPart

// ReadRegion reads the parts of the region from number at on, in ascending order of address. Part 0 is the first
// chunk for blocks. It returns how many it has read, and 0 behind the last chunk that is committed. Any
// goroutine, not entered.
//
// Others go on meanwhile. What is known of a chunk is of one moment, except for the holes of its slabs, which
// are read like the live blocks in a walk: single words that do not tear.
func ReadRegion(at int, parts *RegionParts) (n int) {
	check.MustNotBeEntered("ReadRegion")
	if !region.ready.Load() {
		return 0
	}
	region.mu.Lock()
	defer region.mu.Unlock()
	for c := region.firstChunk() + chunkNo(at); n < len(parts) && c < region.endChunk(); c++ {
		parts[n] = partAt(c)
		n++
	}
	return n
}

// partAt says what chunk c is used for. Under region.mu.
func partAt(c chunkNo) RegionPart {
	check.MustHold(&region.mu, "partAt")
	if ownerOf(c) != 0 {
		return RegionPart{Used: superSize}
	}
	s := super(c)
	out := s.free | s.lost // pages that nobody uses
	in := pageCount((^out).count()).bytes()
	holes := in - s.residentBytes(c, s.dirty&^out)
	if s.isSlabs {
		holes += holesIn(c)
	}
	holes = min(holes, in) // a slab may be given back meanwhile, and its words reused
	warm := s.residentBytes(c, s.dirty&out)
	return RegionPart{
		Used:     uint64(in - holes),
		Holes:    uint64(holes),
		Warm:     uint64(warm),
		Returned: uint64(superSize - in - warm),
	}
}

// holesIn returns the bytes of the holes in the slabs of superslab c.
func holesIn(c chunkNo) (n mem.Bytes) {
	for page := c.page(); page < (c + 1).page(); page++ {
		if m := meta(page); m.list() != 0 {
			n += mem.Bytes(bits.OnesCount64(m.holes())) * pageCount(m.pages).holeUnit(holePage)
		}
	}
	return n
}
