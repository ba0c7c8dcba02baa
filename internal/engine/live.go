package engine

import (
	"math/bits"

	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// This file holds live state: for every block, a byte that says whether the block is handed out. It
// is what makes a double free, or any other invalid free, an error that is always found. The byte
// is owned by the goroutine that holds the block.
//
// For blocks up to 1 KiB live state is the live map, apart from the blocks: one byte for each
// 16-byte granule of the region. 0 means that no live block starts there; any other value is the
// block's class. Byte stores do not tear, and neighbouring bytes are independent, so plain stores
// are right. Setting a bit would need a locked operation.
//
// For blocks above 1 KiB, 64 KiB of heap would touch 4 KiB of such a map for a handful of blocks.
// They have a byte for each KiB instead, since at most one of them can begin there. These bytes are
// half of a page's metadata. The address of a block's byte follows from the address of the block,
// so that an allocation need not read the metadata, which may be in no cache.
//
// Large blocks have their byte in the other half of the metadata, next to what a free of a large
// block reads (pageMeta).

// midLive returns the address of the live byte of the mid block at p. For the k-th KiB of the
// region it is meta(k/64).mid[k%64].
//
//go:nosplit
func midLive(p Block) mem.Addr {
	k := (p - Block(Base)) >> kibShift
	// Metadata take 128 bytes a page, so the page's 64 KiB count twice.
	return mem.Addr(Pages) + mem.Addr(k+k&^(pageSize>>kibShift-1))
}

// largeLive returns the address of the live byte of the large block at p.
//
//go:nosplit
func largeLive(p Block) mem.Addr {
	return mem.Addr(Pages) + (mem.Addr(p)-mem.Addr(Base))>>pageShift<<pageMetaShift + mem.Addr(liveOffset)
}

// liveOf returns the address of the live byte of the tiny block at p.
func liveOf(p Block) mem.Addr { return mem.Addr(Live) + p.addr()>>granuleShift }

// slabLive returns the address of the live byte of the block at p, which belongs to a slab of
// class c.
func slabLive(p Block, c sizeclass.ID) mem.Addr {
	if c <= sizeclass.NumTiny {
		return liveOf(p)
	}
	return midLive(p)
}

// liveByte returns the address of the live byte of the block at p, and whether it is a large block.
// If p is not the start of a block, why says what it is. The caller decides by the result large and
// does not look at the page again, because a free of the same large block at the same time may
// change the page's kind in between.
func liveByte(p Block) (at mem.Addr, m *pageMeta, large bool, why Kind) {
	off := mem.Addr(p) - region.base
	if off >= mem.Addr(region.committed.Load()) || off < mem.Addr(region.first) {
		if off < mem.Addr(region.size) {
			return 0, nil, false, NeverAllocated
		}
		return 0, nil, false, Foreign
	}
	page := pageNo(off >> pageShift)
	if block := ownerOf(page.chunk()); block != 0 { // a page without a record of its own
		m = meta(block)
		switch {
		case m.flags&flagArena != 0:
			return 0, m, false, InArena
		case p%sizeclass.Granule != 0:
			return 0, m, false, Unaligned
		}
		return 0, m, false, Interior
	}
	m = meta(page)
	switch kind := m.kind; kind {
	case kindTiny:
		if p%sizeclass.Granule != 0 {
			return 0, m, false, Unaligned
		}
		if _, start := m.slabClassNow().Index(p.addr().From(m.start)); !start {
			return 0, m, false, Interior
		}
		return liveOf(p), m, false, OK
	case kindMid:
		hi, lo := bits.Mul64(uint64(mem.Addr(p)-m.start), m.recip)
		switch {
		case p%sizeclass.Granule != 0:
			return 0, m, false, Unaligned
		case lo >= m.recip || hi >= uint64(m.slabClassNow().Blocks):
			return 0, m, false, Interior
		}
		return midLive(p), m, false, OK
	case kindLarge, kindLargeTail:
		switch {
		case meta(pageAt(m.start)).flags&flagArena != 0:
			return 0, m, false, InArena
		case mem.Addr(p) == m.start && kind == kindLarge:
			return largeLive(p), m, true, OK
		case p%sizeclass.Granule != 0:
			return 0, m, false, Unaligned
		}
		return 0, m, false, Interior
	case kindLargeFreed:
		if first := meta(pageAt(m.start)); first.kind == kindLargeFreed && first.flags&flagArena != 0 {
			return 0, m, false, WasArena
		}
		return 0, m, false, Freed
	case kindSlabFreed:
		k := m.slabClassNow()
		if i, start := k.Index(p.addr().From(m.start)); start && i < k.Blocks {
			return 0, m, false, Freed
		}
	}
	return 0, m, false, NeverAllocated
}

// setLive marks the block at p, of class c, as live with the value v. The caller owns the block.
func setLive(p Block, c sizeclass.ID, v liveState) {
	if c > sizeclass.Num {
		putState(largeLive(p), v)
	} else {
		putState(slabLive(p, c), v)
	}
	if raced {
		raceAcquire(p, c.Bytes())
	}
}

// MarkWatched makes the free of the block at p, which the caller holds, come to a slow path whoever
// frees it, even if that is a Heap that has not noticed the watching yet. Otherwise that free would
// be missing, and the next allocation of the address would be seen while the block still counts as
// live.
func MarkWatched(p Block) {
	if at, _, _, why := liveByte(p); checkLive && why == OK && state(at) != liveSited {
		putState(at, liveWatched)
	}
}

// state and putState read and write a byte of live state. The race detector may watch the live
// map's memory (track_race.go), but what hakmem does there is of no interest to it.
//
//go:norace
//go:nocheckptr
func state(at mem.Addr) liveState { return liveState(*u8(at)) }

//go:norace
//go:nocheckptr
func putState(at mem.Addr, v liveState) { *u8(at) = uint8(v) }

// isLive reports whether the block at p, in a slab of class c, is marked live.
func isLive(p Block, c sizeclass.ID) bool { return state(slabLive(p, c)) != 0 }

// nonZero counts the bytes that are not 0 among the n bytes at a. Both a and n are multiples of 8.
// It is for the live map, whose memory the race detector may watch.
//
//go:norace
//go:nocheckptr
func nonZero(a mem.Addr, n mem.Bytes) (count int) {
	const low, high = 0x7F7F7F7F7F7F7F7F, 0x8080808080808080
	for end := a + mem.Addr(n); a < end; a += 8 {
		if v := *u64(a); v != 0 { // the top bit of each byte that is not 0
			count += bits.OnesCount64((v&low + low | v) & high)
		}
	}
	return count
}
