package engine

import (
	"github.com/hakmem/hakmem/internal/asan"
	"github.com/hakmem/hakmem/internal/mem"
)

// This file decides where the region and its metadata lie. It has no state.
//
// A layout gives each of them a place, large enough for the whole region. Where the system lets a
// program choose addresses, only the beginning of each place is reserved at first, and the rest
// when it is needed (space.go). Elsewhere one reservation takes everything at once.

// areaUnits are the bytes for each page.
var areaUnits = [numAreas]mem.Bytes{
	areaLive:  pageSize >> granuleShift,
	areaPages: pageMetaSize,
	areaBits:  maxWords * 8,
	areaSets:  setUnit,
	areaSites: pageSize >> granuleShift * 2,
}

// layout is where everything lies whose size depends on the region's size. Offsets count from the
// layout's beginning, a multiple of superSize.
type layout struct {
	first      mem.Bytes // of the region: its live map
	region     mem.Bytes // bytes of the region, first included
	frontCount uintptr   // the number of fronts
	areas      [numAreas]mem.Bytes
	fixed      mem.Bytes
	supers     mem.Bytes
	tree       mem.Bytes
	fronts     mem.Bytes
	total      mem.Bytes
}

// layoutFor places a region that has size bytes for blocks, and so many fronts.
func layoutFor(size mem.Bytes, fronts uintptr) (l layout) {
	// The live map covers its own pages too. It is a 16th of the whole.
	l.first = (size / 15).Up(superSize)
	l.region, l.frontCount = size+l.first, fronts
	npages := pageCount(l.region >> pageShift)
	l.total = l.region
	place := func(n mem.Bytes) (at mem.Bytes) {
		at = l.total
		l.total += n.Up(superSize)
		return at
	}
	for i, unit := range areaUnits {
		if i > 0 { // the live map lies in the region
			l.areas[i] = place(mem.Bytes(npages) * unit)
		}
	}
	_, fixed := region.fixedParts(npages)
	l.fixed = place(fixed)
	l.supers = place(superBytes(chunkNo(npages / superPages)))
	l.tree = place(treeSize(chunkNo(npages / superPages)))
	l.fronts = place(mem.Bytes(fronts) * frontSize)
	return l
}

// part is one of the structures whose size depends on the region's size alone.
type part struct {
	addr *mem.Addr
	n    mem.Bytes
}

// fixedParts lists the owners of chunks, the hints of EMPTY slabs and the upper levels of the
// partial sets, with their total size. They are committed as a whole, 0.004 % of the region, and
// touched only as far as the region is used.
func (r *regionState) fixedParts(npages pageCount) (parts [5]part, total mem.Bytes) {
	supers := npages / superPages
	parts = [...]part{
		{&r.owners, mem.Bytes(supers * 4)},
		{&emptyHints, mem.Bytes((supers/64 + 1) * 8)},
		{&setLevels[1], upperSetSize(npages, 12)},
		{&setLevels[2], upperSetSize(npages, 18)},
		{&setLevels[3], upperSetSize(npages, 24)},
	}
	for _, p := range parts {
		total += p.n.Up(64)
	}
	return parts, total.Up(pageSize)
}

// mayChoose says whether this build may choose the region's address. The sanitizers map shadow
// memory at addresses of their own and want the rest to lie where the system puts it.
const mayChoose = !asan.On && !msan && !tracked

// firstBlocks is the part of the region that is reserved at first where no limit is set. What
// qemu's user emulation keeps for it and its metadata is some 110 MB. Beyond that the reserved part
// doubles.
const firstBlocks = 16 << 30

// places are where regions may lie: at a random multiple of 2 MiB, so that addresses of blocks cannot
// be guessed.
//
// The first one is the middle of a user's address space of 47 bits, to which neither the system nor
// Go goes: the former places mappings from the top down, the latter its heap from 0xc000000000 (on
// arm64 from 0x4000000000) up. Go's race detector has its shadow memory below, and C's sanitizers
// theirs above. The second one is for address spaces of 39 bits, with Go's heap behind it.
var places = [...]struct {
	from   mem.Addr
	random int64     // 2^random multiples of 2 MiB
	most   mem.Bytes // the largest region
}{
	{0x4000 << 32, 23, maxRegion}, // 16 TiB of addresses
	{0x10 << 32, 14, 128 << 30},   // 32 GiB of addresses
}

// placeTries is how many addresses of a place are tried. A second one is needed only where a program
// has several copies of hakmem, as with c-shared libraries.
const placeTries = 4
