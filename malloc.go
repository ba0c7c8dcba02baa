package hakmem

import (
	"fmt"
	"math/bits"
	"unsafe"

	"github.com/hakmem/hakmem/internal/engine"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// The road that Malloc and Free take is engine.Road (internal/engine/road.go); slow.go has its
// slow exits.

// maxAlign is the largest alignment AlignedAlloc grants: a superslab's.
const maxAlign = 2 << 20

// Malloc returns a block of at least size bytes, aligned to 16 bytes, with
// undefined contents, or nil when memory is out. Size 0 gives a unique pointer.
//
// The block is outside the Go heap: it must not hold Go pointers, and it lives
// until Free. Any goroutine may call Malloc, and any goroutine may free the
// block. UsableSize tells how many bytes the block really has. It panics only with a
// late *MisuseError (see Free), as every function that moves free blocks may.
func Malloc(size uintptr) unsafe.Pointer { return engine.Road.Malloc(size) }

// Free gives the block at p back. p must come from this package's allocation
// functions and must not have been freed; nil is fine. Any goroutine may free
// any block, however it was allocated (but for an Arena's memory).
//
// An invalid p (freed before, inside a block, unaligned, not hakmem's) panics
// with a *MisuseError and changes nothing. Two frees of one block that overlap
// in time can both pass that check, and the block is then in two magazines. The
// second copy is found at the latest when both have left their magazines
// towards the slab: it is dropped, counted (Stats.LateDoubleFrees) and reported,
// by a panic of the operation that found it, as "double free (detected late)".
// If both left as blocks of a Malloc instead, two holders share the block, and
// the later of their frees is the double free that is reported.
func Free(p unsafe.Pointer) { engine.Road.Free(p) }

// Calloc returns a block for n elements of size bytes each, all zero, aligned
// to 16 bytes; nil when memory is out or n·size overflows. A block above 32 KiB that
// is all fresh from the system is not touched, nor are, of one above 2 MiB, the fresh
// pages of its whole 2 MiB pieces; with HAKMEM_HARDEN or -asan all are. Any goroutine.
func Calloc(n, size uintptr) unsafe.Pointer {
	hi, total := bits.Mul64(uint64(n), uint64(size))
	if hi != 0 {
		return nil
	}
	return mallocZero(uintptr(total))
}

// mallocZero is Malloc with the size bytes cleared.
func mallocZero(size uintptr) unsafe.Pointer {
	if size > sizeclass.MaxMid || engine.Watched() {
		return handOut('z', engine.MallocZero(0, mem.Bytes(size)), mem.Bytes(size), 0)
	}
	p := Malloc(size)
	if p != nil {
		engine.Zero(p, mem.Bytes(size))
	}
	return p
}

// Realloc returns a block of at least size bytes with the contents of the block
// at p as far as both reach; bytes beyond the old block's usable size are
// undefined. It may be the same block. p nil is Malloc(size); size 0 gives the
// smallest block. When memory is out it returns nil, and p stays valid; a block that
// is to become smaller then stays where it is. Otherwise the caller owns the result and p is freed if it is another block.
//
// A block above 32 KiB grows where it is when the pages behind it are free, and
// gives its last pages back where it is when it becomes half as large or less; more
// than half stays as it is, with all of its memory. A hardened or guarded block, which
// all are under HAKMEM_HARDEN, HAKMEM_GUARD=1 and -asan, moves instead.
//
// The site of the block is kept; an alignment above 16 bytes is not. An invalid
// p panics as in Free. Any goroutine.
func Realloc(p unsafe.Pointer, size uintptr) unsafe.Pointer {
	return realloc("Realloc", 0, p, size, Malloc)
}

// realloc is Realloc through the given malloc, that of the front own
// (0: the P's).
func realloc(op string, own engine.Front, p unsafe.Pointer, size uintptr, malloc func(uintptr) unsafe.Pointer) unsafe.Pointer {
	if p == nil {
		return malloc(size)
	}
	old, site, bad := engine.Size(engine.Block(p))
	if bad.Kind != engine.OK {
		panic(misuse(op, bad))
	}
	watched := engine.Watched()
	if fits(uintptr(old), size) {
		if watched {
			watchInPlace(engine.Block(p), mem.Bytes(size))
		}
		return p
	}
	if old > sizeclass.MaxMid && engine.Resize(engine.Block(p), mem.Bytes(size)) {
		if watched {
			watchInPlace(engine.Block(p), mem.Bytes(size))
		}
		return p
	}
	var q unsafe.Pointer
	switch {
	case site != 0:
		q = engine.Pointer(engine.MallocAt(site, mem.Bytes(size)))
	case watched:
		q = engine.Pointer(engine.Malloc(own, mem.Bytes(size)))
	default:
		q = malloc(size)
	}
	switch {
	case q != nil:
	case mem.Bytes(size) > old:
		return nil
	default: // out of memory, but the block is large enough: give back what can be
		engine.DidWithout()
		if old > sizeclass.MaxMid {
			engine.Resize(engine.Block(p), sizeclass.MaxMid+1)
		}
		if watched {
			watchInPlace(engine.Block(p), mem.Bytes(size))
		}
		return p
	}
	engine.Copy(q, p, min(old, mem.Bytes(size)))
	if watched {
		bad = watchMoved(own, engine.Block(p), engine.Block(q), mem.Bytes(size))
	} else {
		bad = engine.Free(own, engine.Block(p))
	}
	switch {
	case bad.Kind == engine.OK:
	case bad.Freed(): // another block's misuse: the caller must get this one
		engine.Postpone(bad)
	default:
		panic(misuse(op, bad))
	}
	return q
}

// fits reports whether a block of usable bytes should stay where it is for
// size: it is large enough, and a fresh block would not be under half of it.
func fits(usable, size uintptr) bool {
	return size <= usable && (GoodSize(size) > usable/2 || usable == sizeclass.Granule)
}

// AlignedAlloc returns a block of at least size bytes whose address is a
// multiple of align, with undefined contents, or nil when memory is out. align
// must be a power of two up to 2 MiB; another value panics. Any goroutine; free
// it with Free.
func AlignedAlloc(align, size uintptr) unsafe.Pointer {
	if align == 0 || align&(align-1) != 0 || align > maxAlign {
		panic(fmt.Sprintf("hakmem: AlignedAlloc: alignment %d: use a power of two from 1 to %d", align, maxAlign))
	}
	if align <= sizeclass.Granule && !engine.Watched() {
		return Malloc(size)
	}
	return handOut('g', engine.MallocAligned(mem.Align(align), mem.Bytes(size)), mem.Bytes(size), align)
}

// UsableSize returns the number of bytes that the block at p has, at least what
// was asked for; nil gives 0. All of them may be used. An invalid p panics as in
// Free. Any goroutine; the caller must hold the block.
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

// GoodSize returns the size of the block that Malloc(size) takes: asking for that
// many bytes wastes nothing. Ask for them to use them: with HAKMEM_HARDEN,
// HAKMEM_GUARD or -asan a block has only what was asked for (UsableSize tells). A
// size that no block can have is returned as it is.
func GoodSize(size uintptr) uintptr {
	if size <= sizeclass.MaxMid {
		return uintptr(sizeclass.Classes[sizeclass.Of(mem.Bytes(size))].Size)
	}
	if n, ok := sizeclass.LargeSize(mem.Bytes(size)); ok {
		return uintptr(n)
	}
	return size
}

// SizeClasses returns the block sizes up to 32 KiB in ascending order, in
// bytes. The caller owns the slice.
func SizeClasses() []int {
	s := make([]int, 0, sizeclass.Num)
	for _, c := range sizeclass.Classes[1:] {
		s = append(s, int(c.Size))
	}
	return s
}
