package hakmem

import (
	"fmt"
	"math/bits"
	"unsafe"

	"github.com/hakmem/hakmem/internal/engine"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/site"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// How Malloc and Free choose between the fast paths is in internal/engine/road.go; what they
// cannot serve goes on in slow.go.

// maxAlign is the largest alignment that AlignedAlloc and AlignedRealloc grant, in bytes: that of a superslab.
const maxAlign = 2 << 20

// Malloc returns a block of at least size bytes with undefined contents. It returns nil when no
// memory is left. Size 0 gives a pointer that no other live block has.
//
// The block is aligned to the largest power of two that divides [GoodSize](size), which is at least
// 16 bytes: to 64 for 64 bytes, to 16 for 80, to 4096 for 4096 or 28,672. Above 32 KiB it is aligned
// to 64 KiB. That holds for every function that allocates a block, with every setting and in every
// build. GoodSize is meant as it is at that moment: where a block size is added later (see
// [Options].Dyn), it may become less for sizes above 2 KiB that are no block size themselves, but the
// blocks are aligned to 128 bytes at least.
//
// The block is outside the Go heap. It must not hold Go pointers, and it lives until it is given to
// [Free]. Any goroutine may call Malloc, and any goroutine may free the block. [UsableSize] returns
// how many bytes the block really has.
//
// Malloc panics only with a [*MisuseError] whose Late is true: it came upon an earlier misuse.
// Every function of this package that moves free blocks may do so.
func Malloc(size uintptr) unsafe.Pointer { return engine.Road.Malloc(size) }

// Free gives the block at p back. p must come from an allocation function of this package and must
// not have been freed since. A nil p is allowed and does nothing. Any goroutine may free any block,
// whichever function allocated it; only the memory of an [Arena] cannot be freed this way.
//
// An invalid p panics with a [*MisuseError], and nothing is changed. Invalid pointers are those to
// a block that was freed already, into the middle of a block, unaligned ones, and addresses that
// are not hakmem's. There is one exception: if two frees of the same block run at the same time,
// both may pass the check; see "Frees that overlap" in [docs/security.md].
//
// [docs/security.md]: https://github.com/hakmem/hakmem/blob/main/docs/security.md#frees-that-overlap
func Free(p unsafe.Pointer) { engine.Road.Free(p) }

// Calloc returns a block for n elements of size bytes each, aligned to 16 bytes, with every byte
// zero. It returns nil when no memory is left or when n·size overflows. Any goroutine may call it,
// and the block is freed with [Free].
//
// Memory that is fresh from the system is zero already and is not written: that of a block above 32
// KiB if all its pages are fresh, and in a block above 2 MiB each fresh page that belongs to a 2
// MiB piece which is all the block's. With HAKMEM_HARDEN or -asan all bytes are written.
func Calloc(n, size uintptr) unsafe.Pointer {
	hi, total := bits.Mul64(uint64(n), uint64(size))
	if hi != 0 {
		return nil
	}
	return mallocZero(uintptr(total))
}

// CallocAt is [Calloc] for a site: until it is freed, the block counts as alive under s in [ReadStats],
// as that of [MallocAt] does. It returns nil when no memory is left or when n·size overflows. Site 0 means
// no site; any other site that [RegisterSite] did not return panics. Any goroutine may call it, and the
// block is freed with [Free].
func CallocAt(s Site, n, size uintptr) unsafe.Pointer {
	mustBeSiteOrNone("CallocAt", s)
	hi, total := bits.Mul64(uint64(n), uint64(size))
	if hi != 0 {
		return nil
	}
	return mallocZeroAt("hakmem.CallocAt", s, 1, uintptr(total))
}

// mallocZeroAt is mallocZero for a site (0: none) and at a multiple of align. op is the name of the
// operation in an execution trace.
func mallocZeroAt(op string, s Site, align, size uintptr) unsafe.Pointer {
	if s == 0 && align <= sizeclass.Granule {
		return mallocZero(size)
	}
	shown := showAlloc(op, size)
	p := engine.MallocAlignedZero(mem.Align(align), mem.Bytes(size), site.ID(s))
	shown.end(p == 0)
	if align > sizeclass.Granule { // a trace has one letter for an alignment, and one for zeroes
		return handOut('g', p, mem.Bytes(size), align)
	}
	return handOut('z', p, mem.Bytes(size), 0)
}

// mallocZero is Malloc with the first size bytes cleared.
func mallocZero(size uintptr) unsafe.Pointer {
	if size > sizeclass.MaxMid || engine.Watched() {
		shown := showAlloc("hakmem.Calloc", size)
		p := engine.MallocZero(0, mem.Bytes(size))
		shown.end(p == 0)
		return handOut('z', p, mem.Bytes(size), 0)
	}
	p := Malloc(size)
	if p != nil {
		engine.Zero(p, mem.Bytes(size))
	}
	return p
}

// Realloc returns a block of at least size bytes with the contents of the block at p, as many bytes
// as fit into both. Bytes beyond the old block's usable size are undefined. The result may be the
// block at p itself; if it is another block, the one at p is freed. The caller owns the result. A
// nil p makes it Malloc(size); size 0 gives the smallest block. Any goroutine may call it.
//
// When no memory is left, a request to grow returns nil and p stays valid. A block that is to
// become smaller then stays where it is.
//
// A block above 32 KiB grows in place if the pages behind it are free. When the new size is more
// than half of the old one, the block stays as it is, with all of its memory. When it is less, but
// still above 32 KiB, the block shrinks in place by giving back its last pages. Hardened and
// guarded blocks (with HAKMEM_HARDEN, HAKMEM_GUARD=1 or -asan every block) take and give back no
// pages. They grow in place within the room that they have, and otherwise move.
//
// When a block above 2 MiB moves, its memory is never there twice. Linux moves the memory itself
// (since 5.7), so that nothing is copied, and what the program never wrote stays without memory.
// Elsewhere, and with -race or -asan, the block is copied 2 MiB at a time, and each piece is
// returned to the system before the next one.
//
// The result belongs to the same [Site] as the old block. A block that moves is aligned as [Malloc]
// aligns a block of size bytes; [AlignedRealloc] keeps another alignment. An invalid p panics as it
// does in [Free].
func Realloc(p unsafe.Pointer, size uintptr) unsafe.Pointer {
	return realloc("Realloc", 0, p, size, 1, false, 0, Malloc)
}

// ReallocZeroed is [Realloc] to n bytes with zeroes behind the contents: the first oldLen bytes keep
// what they held, as far as n reaches, and every byte from oldLen up to n is zero. oldLen and n are in
// bytes. A nil p makes it Calloc(1, n), whatever oldLen is. When no memory is left, a request to grow
// returns nil, and p stays valid with its contents as they were.
//
// As with [Calloc], pages that are fresh from the system are zero already and are not written, when a
// block above 32 KiB takes them.
//
// oldLen must be at most UsableSize(p); more panics, and nothing is changed. An invalid p panics as it
// does in [Free].
func ReallocZeroed(p unsafe.Pointer, oldLen, n uintptr) unsafe.Pointer {
	return realloc("ReallocZeroed", 0, p, n, 1, true, oldLen, mallocZero)
}

// AlignedReallocZeroed is [ReallocZeroed] with a result whose address is a multiple of align, as
// [AlignedRealloc] is Realloc with one. A nil p makes it AlignedCalloc(align, n).
func AlignedReallocZeroed(p unsafe.Pointer, oldLen, n, align uintptr) unsafe.Pointer {
	mustBeAlignment("AlignedReallocZeroed", align)
	return realloc("AlignedReallocZeroed", 0, p, n, align, true, oldLen, func(n uintptr) unsafe.Pointer {
		return mallocZeroAt("hakmem.AlignedCalloc", 0, align, n)
	})
}

// AlignedRealloc is [Realloc] with a result whose address is a multiple of align. A block that is
// not at such an address moves, also when it becomes smaller. align is in bytes and must be a power
// of two up to 2 MiB; another value panics, and nothing is changed. A nil p makes it
// AlignedAlloc(align, size).
//
// When no memory is left for a block that must grow, or must move to be aligned, AlignedRealloc
// returns nil and p stays valid.
func AlignedRealloc(p unsafe.Pointer, size, align uintptr) unsafe.Pointer {
	mustBeAlignment("AlignedRealloc", align)
	return realloc("AlignedRealloc", 0, p, size, align, false, 0, func(size uintptr) unsafe.Pointer { return alignedAlloc(align, size) })
}

// realloc is Realloc with a result at a multiple of align. If zeroed is set, its bytes from number oldLen
// on are zero. malloc is the function that allocates such a block, and own is the front that malloc uses
// (0: that of the current P).
func realloc(op string, own engine.Front, p unsafe.Pointer, size, align uintptr, zeroed bool, oldLen uintptr, malloc func(uintptr) unsafe.Pointer) unsafe.Pointer {
	if p == nil {
		return malloc(size)
	}
	old, site, bad := engine.Size(engine.Block(p))
	if bad.Kind != engine.OK {
		panic(misuse(op, bad))
	}
	keep := engine.KeepAll
	if zeroed {
		if keep = engine.Keep(oldLen); mem.Bytes(oldLen) > old {
			panic(fmt.Sprintf("hakmem: %s: oldLen %d is more than the %d bytes of the block at %p: pass how many of its bytes are in use", op, oldLen, old, p))
		}
	}
	watched := engine.Watched()
	aligned := uintptr(p)&(align-1) == 0
	least := size
	if site != 0 {
		least = uintptr(engine.AtLeast(site, mem.Bytes(size)))
	}
	stays := aligned && fits(uintptr(old), least)
	if stays {
		engine.ZeroFrom(engine.Block(p), keep, mem.Bytes(size))
	} else if aligned && (old > sizeclass.MaxMid || engine.Gated()) {
		stays = engine.Resize(engine.Block(p), mem.Bytes(size), keep)
	}
	if stays {
		if watched {
			watchInPlace(engine.Block(p), mem.Bytes(size))
		}
		return p
	}
	var q unsafe.Pointer
	var moved engine.Moved // the place that a huge block left
	huge := false
	if old > sizeclass.MaxLarge {
		var to engine.Block
		shown := showAlloc("hakmem.Realloc", size)
		to, moved, huge = engine.Move(own, engine.Block(p), mem.Bytes(size), mem.Align(align), keep)
		shown.end(huge && to == 0)
		q = engine.Pointer(to)
	}
	switch {
	case huge:
	case site != 0 || watched || zeroed || engine.Gated():
		shown := showAlloc("hakmem.Realloc", size)
		to := engine.MallocMoved(own, mem.Align(align), mem.Bytes(size), site, mem.Bytes(size) > old, keep)
		shown.end(to == 0)
		q = engine.Pointer(to)
	default:
		q = malloc(size)
	}
	switch {
	case q != nil:
	case mem.Bytes(size) > old || !aligned:
		return nil
	default: // no memory is left, but the block is large enough: give back what can be given back
		engine.DidWithout()
		if old > sizeclass.MaxMid {
			engine.Resize(engine.Block(p), sizeclass.MaxMid+1, engine.KeepAll)
		}
		engine.ZeroFrom(engine.Block(p), keep, mem.Bytes(size))
		if watched {
			watchInPlace(engine.Block(p), mem.Bytes(size))
		}
		return p
	}
	if !moved.Any() {
		engine.Copy(q, p, min(old, mem.Bytes(size), mem.Bytes(keep)))
	}
	if watched {
		left := moved // else all calls would have it in Go's heap
		bad = watchMoved(func() engine.Finding { return freeOld(own, engine.Block(p), &left) }, engine.Block(p), engine.Block(q), mem.Bytes(size))
	} else {
		bad = freeOld(own, engine.Block(p), &moved)
	}
	switch {
	case bad.Kind == engine.OK:
	case bad.Freed(): // p was freed, another block's misuse was found: the caller must get q
		engine.Postpone(bad)
	default:
		panic(misuse(op, bad))
	}
	return q
}

// freeOld frees the block at p, which a Realloc has moved; moved is the place of a huge block.
func freeOld(own engine.Front, p engine.Block, moved *engine.Moved) engine.Finding {
	if moved.Any() {
		return moved.Free()
	}
	return engine.Free(own, p)
}

// fits reports whether a block of usable bytes should stay where it is when size bytes are asked
// for: it is large enough, and a fresh block would have more than half of its size.
func fits(usable, size uintptr) bool {
	return size <= usable && (GoodSize(size) > usable/2 || usable == sizeclass.Granule)
}

// AlignedAlloc returns a block of at least size bytes whose address is a multiple of align, with
// undefined contents. It returns nil when no memory is left. align is in bytes and must be a power
// of two up to 2 MiB; another value panics. Any goroutine may call it, and the block is freed with
// [Free].
func AlignedAlloc(align, size uintptr) unsafe.Pointer {
	mustBeAlignment("AlignedAlloc", align)
	return alignedAlloc(align, size)
}

// AlignedAllocAt is [AlignedAlloc] for a site, as [MallocAt] is Malloc for one: until it is freed, the block
// counts as alive under s in [ReadStats]. It panics for an alignment that AlignedAlloc does not grant, and
// for a site that [RegisterSite] did not return, except for 0, which means no site.
func AlignedAllocAt(s Site, align, size uintptr) unsafe.Pointer {
	mustBeAlignment("AlignedAllocAt", align)
	mustBeSiteOrNone("AlignedAllocAt", s)
	return alignedAllocAt("hakmem.AlignedAllocAt", s, align, size)
}

// AlignedCalloc is [AlignedAlloc] with every one of the n bytes zero. As with [Calloc], fresh memory from the
// system is not written. It returns nil when no memory is left, and panics for an alignment that
// AlignedAlloc does not grant. Any goroutine may call it, and the block is freed with [Free].
func AlignedCalloc(align, n uintptr) unsafe.Pointer {
	mustBeAlignment("AlignedCalloc", align)
	return mallocZeroAt("hakmem.AlignedCalloc", 0, align, n)
}

// mustBeAlignment panics in the name of op if align is no alignment that it grants.
func mustBeAlignment(op string, align uintptr) {
	if align == 0 || align&(align-1) != 0 || align > maxAlign {
		panic(fmt.Sprintf("hakmem: %s: alignment %d: use a power of two from 1 to %d", op, align, maxAlign))
	}
}

func alignedAlloc(align, size uintptr) unsafe.Pointer {
	if align <= sizeclass.Granule && !engine.Watched() {
		return Malloc(size)
	}
	return alignedAllocAt("hakmem.AlignedAlloc", 0, align, size)
}

// alignedAllocAt is alignedAlloc for a site (0: none). op is the name of the operation in an execution trace.
func alignedAllocAt(op string, s Site, align, size uintptr) unsafe.Pointer {
	shown := showAlloc(op, size)
	p := engine.MallocAligned(mem.Align(align), mem.Bytes(size), site.ID(s))
	shown.end(p == 0)
	return handOut('g', p, mem.Bytes(size), align)
}

// UsableSize returns the number of bytes in the block at p, which is at least the number asked for.
// The caller may use all of them. A nil p gives 0; an invalid p panics as it does in [Free]. Any
// goroutine may call it for a block that nobody frees meanwhile.
func UsableSize(p unsafe.Pointer) uintptr {
	if p == nil {
		return 0
	}
	n, _, bad := engine.Size(engine.Block(p))
	if bad.Kind != engine.OK {
		panic(misuse("UsableSize", bad))
	}
	return uintptr(n)
}

// GoodSize returns the number of bytes in the block that Malloc(size) would return, so that a
// request for that many bytes wastes nothing. A size that no block can have is returned unchanged.
// When a block size is added (see [Options].Dyn), which happens twice at most, GoodSize becomes less for
// some sizes. A size that it has returned before stays one of its results. With HAKMEM_W_MAX above 1, a
// block above 32 KiB may have more.
//
// To use these bytes, ask for them: with HAKMEM_HARDEN, HAKMEM_GUARD or -asan a block has only the
// bytes that were asked for, as [UsableSize] reports.
func GoodSize(size uintptr) uintptr {
	if size <= sizeclass.MaxMid {
		return uintptr(sizeclass.Classes[sizeclass.Of(mem.Bytes(size))].Size)
	}
	if n, ok := sizeclass.LargeSize(mem.Bytes(size)); ok {
		return uintptr(n)
	}
	return size
}

// SizeClasses returns the block sizes up to 32 KiB in ascending order, in bytes. Two more may be added
// while the program runs (see [Options].Dyn). The caller owns the slice.
func SizeClasses() []int {
	s := make([]int, 0, sizeclass.Num)
	for c := sizeclass.ID(0).Next(); c != 0; c = c.Next() {
		s = append(s, int(c.Bytes()))
	}
	return s
}
