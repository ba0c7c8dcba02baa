package engine

import (
	"math/bits"

	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// Live state says of every block whether it is handed out. It is what makes a
// double free, and every other invalid free, an error that is always found.
//
// For blocks up to 1 KiB it is the live map: one byte for each 16-byte granule
// of the region, out of line. 0 means that no live block starts there,
// otherwise it is the block's class. Byte stores do not tear and neighbours are
// independent, so plain stores are right; a bit would need a locked operation.
//
// For blocks above 1 KiB, where 64 KiB of heap would touch 4 KiB of map for a
// handful of blocks, it is a byte for each KiB, in which at most one of them can
// begin: half of a page's metadata. Its address follows from the block's, so that
// an allocation need not read the metadata, which may be in no cache.
//
// Large blocks have theirs in the other half, with what a free of one reads (pageMeta).

// midLive returns the address of the live byte of the mid block at p:
// meta(page).mid[k % 64] of its page = k/64, for the k-th KiB of the region.
//
//go:nosplit
func midLive(p Block) mem.Addr {
	k := (p - Block(Base)) >> kibShift
	return mem.Addr(Pages) + mem.Addr(k+k&^(pageSize>>kibShift-1)) // 64 k/64 twice: metadata are 128 bytes
}

// largeLive returns that of the large block at p.
//
//go:nosplit
func largeLive(p Block) mem.Addr {
	return mem.Addr(Pages) + (mem.Addr(p)-mem.Addr(Base))>>pageShift<<pageMetaShift + mem.Addr(liveOffset)
}

// liveOf returns that of the tiny block at p.
func liveOf(p Block) mem.Addr { return mem.Addr(Live) + p.addr()>>granuleShift }

// slabLive returns that of the block at p of a slab of class c.
func slabLive(p Block, c sizeclass.ID) mem.Addr {
	if c <= sizeclass.NumTiny {
		return liveOf(p)
	}
	return midLive(p)
}

// liveByte returns the address of the live byte of the block at p and whether
// the block is a large block; for what is not the start of a block, why says what it
// is. The caller decides by large block, not by another look at the page: a free of the
// same large block at the same time may change its kind in between.
func liveByte(p Block) (at mem.Addr, m *pageMeta, large bool, why Kind) {
	off := mem.Addr(p) - region.base
	if off >= mem.Addr(region.committed.Load()) || off < mem.Addr(region.first) {
		if off < mem.Addr(region.size) {
			return 0, nil, false, NeverAllocated
		}
		return 0, nil, false, Foreign
	}
	m = meta(pageNo(off >> pageShift))
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

// setLive marks the block at p, of class c, as live with value v. The caller
// owns the block.
func setLive(p Block, c sizeclass.ID, v liveState) {
	if c > sizeclass.Num {
		putState(largeLive(p), v)
	} else {
		putState(slabLive(p, c), v)
	}
	if tracked {
		raceAcquire(p, c.Bytes())
	}
}

// state and putState read and write a byte of live state. In race builds the live
// map is memory that the detector watches, and what hakmem does there is its own
// affair.
//
//go:norace
//go:nocheckptr
func state(at mem.Addr) liveState { return liveState(*u8(at)) }

//go:norace
//go:nocheckptr
func putState(at mem.Addr, v liveState) { *u8(at) = uint8(v) }

// isLive reports whether the block at p of a slab of class c is marked live.
func isLive(p Block, c sizeclass.ID) bool { return state(slabLive(p, c)) != 0 }

// nonZero counts the bytes that are not 0 in n bytes at a, both multiples of 8. For
// the live map, which in race builds is memory that the detector watches.
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
