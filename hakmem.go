package hakmem

import (
	"fmt"
	"math/bits"
	"unsafe"

	"github.com/hakmem/hakmem/internal/heap"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// Malloc and Free are in fast.go.

// maxAlign is the largest alignment AlignedAlloc grants: a superslab's.
const maxAlign = 2 << 20

// MallocAt is Malloc for a site: the block counts as alive under the site in
// ReadStats until it is freed. It costs a few tens of nanoseconds more than
// Malloc, and so does the block's Free. Site 0 is no site; it panics for one that
// RegisterSite did not return, and returns nil when memory is out. Any goroutine.
func MallocAt(site Site, size uintptr) unsafe.Pointer {
	if uint32(site) > heap.NumSites() {
		panic(fmt.Sprintf("hakmem: MallocAt: site %d was not registered: use the result of RegisterSite", site))
	}
	return handOut('a', heap.MallocAt(uint32(site), size), size, 0)
}

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
	if size > sizeclass.MaxMid || heap.Watched() {
		return handOut('z', heap.MallocZero(0, size), size, 0)
	}
	p := Malloc(size)
	if p != nil {
		heap.Zero(p, size)
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
func realloc(op string, own uintptr, p unsafe.Pointer, size uintptr, malloc func(uintptr) unsafe.Pointer) unsafe.Pointer {
	if p == nil {
		return malloc(size)
	}
	old, site, bad := heap.Size(uintptr(p))
	if bad.Kind != heap.OK {
		panic(misuse(op, bad))
	}
	watched := heap.Watched()
	if fits(old, size) {
		if watched {
			watchInPlace(uintptr(p), size)
		}
		return p
	}
	if old > sizeclass.MaxMid && heap.Resize(uintptr(p), size) {
		if watched {
			watchInPlace(uintptr(p), size)
		}
		return p
	}
	var q unsafe.Pointer
	switch {
	case site != 0:
		q = heap.Pointer(heap.MallocAt(site, size))
	case watched:
		q = heap.Pointer(heap.Malloc(own, size))
	default:
		q = malloc(size)
	}
	switch {
	case q != nil:
	case size > old:
		return nil
	default: // out of memory, but the block is large enough: give back what can be
		heap.DidWithout()
		if old > sizeclass.MaxMid {
			heap.Resize(uintptr(p), sizeclass.MaxMid+1)
		}
		if watched {
			watchInPlace(uintptr(p), size)
		}
		return p
	}
	heap.Copy(q, p, min(old, size))
	if watched {
		bad = watchMoved(own, uintptr(p), uintptr(q), size)
	} else {
		bad = heap.Free(own, uintptr(p))
	}
	switch {
	case bad.Kind == heap.OK:
	case bad.Freed(): // another block's misuse: the caller must get this one
		heap.Postpone(bad)
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
	if align <= sizeclass.Granule && !heap.Watched() {
		return Malloc(size)
	}
	return handOut('g', heap.MallocAligned(align, size), size, align)
}

// UsableSize returns the number of bytes that the block at p has, at least what
// was asked for; nil gives 0. All of them may be used. An invalid p panics as in
// Free. Any goroutine; the caller must hold the block.
func UsableSize(p unsafe.Pointer) uintptr {
	if p == nil {
		return 0
	}
	n, _, bad := heap.Size(uintptr(p))
	if bad.Kind != heap.OK {
		panic(misuse("UsableSize", bad))
	}
	return n
}

// GoodSize returns the size of the block that Malloc(size) takes: asking for that
// many bytes wastes nothing. Ask for them to use them: with HAKMEM_HARDEN,
// HAKMEM_GUARD or -asan a block has only what was asked for (UsableSize tells). A
// size that no block can have is returned as it is.
func GoodSize(size uintptr) uintptr {
	if size <= sizeclass.MaxMid {
		return uintptr(sizeclass.Classes[sizeclass.Of(size)].Size)
	}
	if n, ok := sizeclass.SpanSize(size); ok {
		return n
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

// Trim gives back to the operating system, now, what no live block needs: it
// empties the magazines of every P and all caches, and returns the memory of all
// free pages. Heaps keep their magazines: they belong to their goroutines. Any
// goroutine may call it while others allocate; it stops the world for some tens
// of microseconds. Without it the scavenger does the same by and by. It panics with
// a late *MisuseError, when all is done, if it came upon a block that was freed twice
// at once or, with HAKMEM_HARDEN, written to after it was freed, or if the scavenger
// did and nobody has been told yet.
func Trim() {
	if bad := heap.Trim(); bad.Kind != heap.OK {
		panic(misuse("Trim", bad))
	}
}

// SetMemoryLimit limits the memory behind blocks, that of live ones and that
// which is kept for later ones, counted in pages of 64 KiB, with hakmem's own
// tables (Stats.Metadata) left out. Both limits are in bytes, rounded up to whole
// pages, as MemoryLimit then tells, and 0 is none.
//
// Near the soft limit the scavenger keeps nothing: it empties caches and returns
// what is free, at once and at each of its ticks. Beyond the hard limit an
// allocation that needs more memory returns nil, after it has tried to make room
// by emptying caches; freeing blocks makes allocations work again. Memory above
// a limit that is set later is not taken away from live blocks. Blocks that
// HAKMEM_GUARD puts between guard pages are not counted. What waits in the magazines
// of Heaps is, and only their own goroutines can give it back.
//
// It is an error, and nothing changes, if hard is not 0 and either below soft or
// below 2 MiB. Any goroutine, at any time; HAKMEM_MEMORY_SOFT and
// HAKMEM_MEMORY_HARD set the limits at start.
func SetMemoryLimit(soft, hard uint64) error { return heap.SetMemoryLimit(soft, hard) }

// MemoryLimit returns the limits in force, in bytes; 0 is none. Any goroutine.
func MemoryLimit() (soft, hard uint64) { return heap.MemoryLimit() }

// Site is the label of an allocation's purpose, made by RegisterSite.
type Site uint32

// RegisterSite returns the site called name: the same name gives the same site.
// There can be 65,535 of them; beyond that it returns 0, which is no site. Any
// goroutine.
func RegisterSite(name string) Site { return Site(heap.RegisterSite(name)) }
