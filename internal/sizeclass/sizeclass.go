// Package sizeclass owns the table of size classes: which size a block of n bytes gets, and how a
// slab of a class is cut.
//
// The fixed classes are made at init and never change: 16-byte steps up to 128 B and then eight to
// each doubling, up to 32 KiB. So a block above 128 B is at most 12.5 % larger than was asked for.
// Two spare classes have no size until Define gives them one, while the program runs (spare.go).
// Class 0 is not a size but the trap class (see package engine).
//
// The numbers of the fixed classes ascend with their sizes. That of a spare class says nothing about
// its size, so what goes from size to size goes by Next.
package sizeclass

import (
	"math/bits"

	"github.com/hakmem/hakmem/internal/mem"
)

const (
	// Granule is the smallest block size and the alignment of every block.
	Granule = 16
	// MaxTiny is the largest tiny class: the live state of its blocks is in the live map. MaxMid is
	// the largest class of slabs. A block above it is a large block.
	MaxTiny = 1 << 10
	MaxMid  = 32 << 10
	// Step is what class sizes above MaxTiny are multiples of: an eighth of the doubling from 1 to 2 KiB.
	Step = MaxTiny / 8
	// NumTiny and NumFixed count the classes 1..NumTiny and 1..NumFixed, whose sizes are fixed. There
	// are 8 steps of 16 B, then 3 doublings to 1 KiB and 5 more to 32 KiB, with eight classes each.
	NumTiny  = 8 + 3*8
	NumFixed = NumTiny + 5*8
	// NumSpare counts the spare classes NumFixed+1..Num, and Num all classes of slabs. Class numbers are
	// bytes of live state, of which package engine keeps those from 125 on for itself: four are left
	// after the classes of large blocks. Each class takes 1 KiB of address space in every front.
	NumSpare = 2
	Num      = NumFixed + NumSpare
	// MaxLarge is the size of the largest large block that has a class, and of a superslab. Classes
	// Num+1..NumAll are those of large blocks: 6 doublings from 32 KiB on, with eight classes each.
	MaxLarge = 2 << 20
	NumLarge = 6 * 8
	NumAll   = Num + NumLarge

	// PageShift is log2 of the size of a page, 64 KiB, which is the unit of slabs and large blocks.
	PageShift = 16
	PageSize  = 1 << PageShift
	// MaxOrder bounds a slab to 2^MaxOrder pages (512 KiB), in which the largest class of slabs has 16 blocks.
	MaxOrder = 3
	// leastBlocks is the least number of blocks in a slab, and mostRest the most of it, in percent, that may be
	// left over. With slabs of 16 to 63 blocks, whatever was left over, the recorded program sqlite took a third
	// more memory: it uses 17 classes above 1 KiB, most of them for a few blocks (docs/ledger.md, "Smaller
	// slabs"). The class with the largest rest that has slabs of MaxOrder leaves 3.5 %.
	leastBlocks, mostRest = 8, 4
)

// ID is the number of a size class. 0 is the trap class, 1..Num are the classes of slabs, and the
// rest up to NumAll are those of large blocks.
type ID uint8

// Bytes returns the bytes of a block of class c; of a large block, the usable bytes. A spare class that
// is not defined has 0.
func (c ID) Bytes() mem.Bytes {
	if c > Num {
		return LargeBytes(c)
	}
	return mem.Bytes(Classes[c].Size)
}

// Align returns the alignment of the blocks of class c: the largest power of two that divides a
// slab's class size, because slabs begin on a page; a page for large blocks.
func (c ID) Align() mem.Align {
	if c > Num {
		return PageSize
	}
	s := mem.Align(Classes[c].Size)
	return s & -s
}

// AlignOf returns the alignment that a block of size bytes has by its class.
func AlignOf(size mem.Bytes) mem.Align {
	if size > MaxMid {
		return PageSize
	}
	return Of(size).Align()
}

// Class describes one size class of slabs.
type Class struct {
	Size    uint32 // bytes of a block
	Blocks  uint32 // blocks in a slab
	Words   uint32 // 64-bit words of a slab's bitmap
	Order   uint32 // a slab is 2^Order pages
	Recip   uint64 // ⌈2^64/Size⌉: see Index
	LastBit uint64 // mask of the bits in use in the bitmap's last word
}

var (
	// Classes is indexed by class. Entry 0 is the trap class, all zero, and so are those of spare
	// classes until they are defined.
	Classes = makeClasses()
	// Small has the class of each size ≤ MaxTiny, at index (size+15)/16. From the test of the size
	// the compiler proves that this index is in bounds.
	Small = makeSmall()
	// Mid has the class of each size in (MaxTiny, MaxMid], at index (size-1)/Step: class boundaries
	// above 1 KiB are multiples of Step. Define changes entries while others read them.
	Mid = makeMid()
)

func makeClasses() (t [Num + 1]Class) {
	size := uint32(0)
	for c := 1; c <= NumFixed; c++ {
		step := uint32(Granule)
		if size >= 128 {
			step = 1 << (bits.Len32(size) - 1) / 8
		}
		size += step
		order := uint32(0)
		for order < MaxOrder && !fits(mem.Bytes(size), order) {
			order++
		}
		t[c] = makeClass(mem.Bytes(size), order)
	}
	return t
}

// fits reports whether a slab of 2^order pages is large enough for blocks of size bytes. The smallest such slab is
// taken: most classes of a program have few blocks, and one slab at least.
func fits(size mem.Bytes, order uint32) bool {
	slab := mem.Bytes(PageSize) << order
	return slab/size >= leastBlocks && slab%size*100 <= mostRest*slab
}

// makeClass returns the class of blocks of size bytes whose slabs are 2^order pages.
func makeClass(size mem.Bytes, order uint32) Class {
	blocks := uint32((PageSize << order) / size)
	return Class{
		Size: uint32(size), Blocks: blocks, Words: (blocks + 63) / 64, Order: order,
		Recip:   ^uint64(0)/uint64(size) + 1,
		LastBit: ^uint64(0) >> ((64 - blocks%64) % 64),
	}
}

func makeSmall() (t [MaxTiny/Granule + 1]ID) {
	c := ID(1)
	for i := range t {
		if uint32(i*Granule) > Classes[c].Size {
			c++
		}
		t[i] = c
	}
	return t
}

func makeMid() (t [MaxMid / Step]ID) {
	c := ID(NumTiny + 1)
	for i := MaxTiny / Step; i < len(t); i++ {
		if uint32(i+1)*Step > Classes[c].Size {
			c++
		}
		t[i] = c
	}
	return t
}

// Of returns the class of a block of size bytes, size ≤ MaxMid.
func Of(size mem.Bytes) ID {
	if size <= MaxTiny {
		return Small[(size+Granule-1)/Granule]
	}
	return Mid[uint8((size-1)/Step)]
}

// Index returns the index of the block of class c that holds the byte at offset off of a slab, and
// whether off is the start of that block. off must be below 2^32. Index multiplies by the
// reciprocal instead of dividing (Granlund and Montgomery, PLDI 1994): with r = ⌈2^64/size⌉ the
// high word of off·r is the quotient, and the low word is below r exactly when nothing remains.
func (c *Class) Index(off mem.Bytes) (i uint32, start bool) {
	hi, lo := bits.Mul64(uint64(off), c.Recip)
	return uint32(hi), lo < c.Recip
}

// ShortBits is the shift of Short. Let the product of reciprocal and size be e too large, with e ≤
// Size+1. Then off·r >> ShortBits is the quotient if off·e < 2^ShortBits. Offsets are below 2^19
// (MaxOrder) and sizes at most 2^15, and off·r stays below 2^64 even for 16 B.
const ShortBits = 40

// Short returns a reciprocal for many divisions of offsets that are known to be starts of blocks:
// off·Short() >> ShortBits is the index. It needs one multiplication without a high word, and so it
// is cheaper than Index.
func (c *Class) Short() uint64 { return c.Recip>>(64-ShortBits) + 1 }

// LargeOf returns the class of a large block of size bytes, MaxMid < size ≤ MaxLarge. The blocks of
// the class have LargeSize(size) bytes. The leading four bits of size-1 are the eighth of the
// doubling, 8 to 15. LargeOf is nosplit because the fast section uses it.
//
//go:nosplit
func LargeOf(size mem.Bytes) ID {
	k := bits.Len64(uint64(size - 1))
	return ID(Num + 1 - 8 + (k-16)*8 + int((size-1)>>(uint(k-4)&63)))
}

// LargeBytes returns the usable bytes of a large block of class c, Num < c ≤ NumAll.
func LargeBytes(c ID) mem.Bytes {
	k, i := (c-Num-1)/8+16, (c-Num-1)%8+8
	return mem.Bytes(i+1) << (k - 4)
}

// LargeSize returns the usable bytes of a large block for size > MaxMid bytes: size rounded up to
// an eighth of its doubling, which is at least 4 KiB. ok is false when the result does not fit.
func LargeSize(size mem.Bytes) (n mem.Bytes, ok bool) {
	step := mem.Bytes(1) << (bits.Len64(uint64(size-1)) - 1) / 8
	n = size.Up(step)
	return n, n >= size
}
