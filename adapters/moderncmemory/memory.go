// Package memory has the exported interface of [modernc.org/memory], and gets its memory from
// [github.com/hakmem/hakmem]. A program puts it in the place of that package by a line in its go.mod:
//
//	replace modernc.org/memory => github.com/hakmem/hakmem/adapters/moderncmemory v0.1.0
//
// Programs translated from C to Go, such as modernc.org/sqlite, allocate through modernc.org/libc, and so
// through this package. A program may also import it under its own path.
//
// What differs from modernc.org/memory is in the README.
//
// [modernc.org/memory]: https://pkg.go.dev/modernc.org/memory
package memory

import (
	"fmt"
	"math"
	"unsafe"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/offheap"
)

// Allocator allocates and frees memory. Its zero value is ready for use.
//
// It knows which blocks are its own, for Close and to refuse those of others, by an [offheap.Owner]. For that
// it keeps up to 0.8 % of the memory in which they lie, on the Go heap. An Allocator is for one goroutine
// at a time, as that of modernc.org/memory is; different Allocators may be used at the same time. An
// Allocator must not be copied once it has blocks. The blocks of one that becomes unreachable without Close
// stay allocated; the first such Allocator is reported by [hakmem.Err], as an Owner.
type Allocator struct {
	// These are kept only in builds with the tag memory.counters: the blocks there are, and their usable
	// bytes. Mmaps stays 0, because an Allocator asks the system for nothing: hakmem has one region for
	// the whole process.
	Allocs, Bytes, Mmaps int

	own *offheap.Owner // nil before the first block
}

// Malloc returns a block of size bytes with undefined contents. Its capacity is its usable size. It is
// aligned as [hakmem.Malloc] says, to 16 bytes at least. A size of 0 gives nil and no error, and a negative
// size panics. When no memory is left it returns an error. The caller owns the block until [Allocator.Free]
// or [Allocator.Close].
//
// What append makes of the block cannot be given to Free or Realloc if append has moved it.
func (a *Allocator) Malloc(size int) ([]byte, error) {
	p, err := a.UnsafeMalloc(size)
	return slice(p, size), err
}

// Calloc is [Allocator.Malloc] with every byte up to size zero.
func (a *Allocator) Calloc(size int) ([]byte, error) {
	p, err := a.UnsafeCalloc(size)
	return slice(p, size), err
}

// Realloc returns a block of size bytes with the contents of b's block, as many bytes as fit into both.
// Further bytes are undefined. The result may be the block itself. If it is another, b's block is freed.
// A b without capacity makes it Malloc(size), and size 0 makes it Free(b). When no memory is left it returns
// an error, and b stays valid. A b that is not from this Allocator panics as in [Allocator.Free].
func (a *Allocator) Realloc(b []byte, size int) ([]byte, error) {
	p, err := a.UnsafeRealloc(start(b), size)
	return slice(p, size), err
}

// Free frees b's block. b may have any length, but must start where the block starts. A b without capacity
// is allowed and does nothing. The error is always nil.
//
// Free panics with a [*hakmem.MisuseError] when the block is not this Allocator's, or was freed already, or when b
// does not start at a block at all. Nothing is changed then.
func (a *Allocator) Free(b []byte) error { return a.UnsafeFree(start(b)) }

// UintptrMalloc is [Allocator.Malloc] with an address; 0 stands for nil.
func (a *Allocator) UintptrMalloc(size int) (uintptr, error) {
	p, err := a.UnsafeMalloc(size)
	return uintptr(p), err
}

// UintptrCalloc is [Allocator.Calloc] with an address; 0 stands for nil.
func (a *Allocator) UintptrCalloc(size int) (uintptr, error) {
	p, err := a.UnsafeCalloc(size)
	return uintptr(p), err
}

// UintptrRealloc is [Allocator.Realloc] with addresses; 0 stands for nil.
func (a *Allocator) UintptrRealloc(p uintptr, size int) (uintptr, error) {
	q, err := a.UnsafeRealloc(pointer(p), size)
	return uintptr(q), err
}

// UintptrFree is [Allocator.Free] with an address; 0 stands for nil.
func (a *Allocator) UintptrFree(p uintptr) error { return a.UnsafeFree(pointer(p)) }

// UnsafeMalloc is [Allocator.Malloc] with a pointer.
func (a *Allocator) UnsafeMalloc(size int) (unsafe.Pointer, error) {
	if mustBeSize(size); size == 0 {
		return nil, nil
	}
	return a.handOut(a.owner().Malloc(uintptr(size)), size)
}

// UnsafeCalloc is [Allocator.Calloc] with a pointer.
func (a *Allocator) UnsafeCalloc(size int) (unsafe.Pointer, error) {
	if mustBeSize(size); size == 0 {
		return nil, nil
	}
	return a.handOut(a.owner().Calloc(1, uintptr(size)), size)
}

// UnsafeRealloc is [Allocator.Realloc] with pointers.
func (a *Allocator) UnsafeRealloc(p unsafe.Pointer, size int) (unsafe.Pointer, error) {
	switch mustBeSize(size); {
	case p == nil:
		return a.UnsafeMalloc(size)
	case size == 0:
		return nil, a.UnsafeFree(p)
	}
	was := bytesOf(p)
	q := a.owner().Realloc(p, uintptr(size))
	if q == nil {
		return nil, outOfMemory(size)
	}
	a.count(0, bytesOf(q)-was)
	return q, nil
}

// UnsafeFree is [Allocator.Free] with a pointer.
func (a *Allocator) UnsafeFree(p unsafe.Pointer) error {
	if p == nil {
		return nil
	}
	was := bytesOf(p)
	a.owner().Free(p)
	a.count(-1, -was)
	return nil
}

// Close frees every block of the Allocator, returns free memory of the process to the system
// ([hakmem.Trim]), and makes the Allocator its zero value, which may be used again. The error is always nil.
func (a *Allocator) Close() error {
	own := a.own
	*a = Allocator{}
	if own == nil {
		return nil
	}
	blocks := own.Len()
	own.Close()
	if blocks > 0 {
		hakmem.Trim()
	}
	return nil
}

// Trim returns free memory to the system, that of the whole process ([hakmem.Trim]). The error is always
// nil. Without it hakmem returns the memory after a while.
func (a *Allocator) Trim() error {
	if a.own != nil {
		a.own.Trim()
	}
	hakmem.Trim()
	return nil
}

// UsableSize returns the number of bytes in the block that starts at p, which is at least the number asked
// for. A nil p gives 0. It panics with a [*hakmem.MisuseError] if no live block of hakmem starts there.
// It may be called at any time for a block that nobody frees meanwhile.
func UsableSize(p *byte) int { return UnsafeUsableSize(unsafe.Pointer(p)) }

// UintptrUsableSize is [UsableSize] with an address.
func UintptrUsableSize(p uintptr) int { return UnsafeUsableSize(pointer(p)) }

// UnsafeUsableSize is [UsableSize] with a pointer.
func UnsafeUsableSize(p unsafe.Pointer) int { return int(hakmem.UsableSize(p)) }

// UsableSizeFor returns the usable size of the block that Malloc(size) would return, as [hakmem.GoodSize]
// says it: with HAKMEM_HARDEN, HAKMEM_GUARD or -asan a block has only the bytes that were asked for. Size 0
// gives 0, and a negative size panics. Any goroutine may call it.
func UsableSizeFor(size int) int {
	if mustBeSize(size); size == 0 {
		return 0
	}
	return int(min(hakmem.GoodSize(uintptr(size)), math.MaxInt))
}

// owner returns what knows the Allocator's blocks. It keeps them if the Allocator is dropped, because programs translated from
// C hold addresses of them that the collector does not see.
func (a *Allocator) owner() *offheap.Owner {
	if a.own == nil {
		a.own = offheap.NewOwner(offheap.OwnerOptions{KeepDropped: true})
	}
	return a.own
}

// handOut counts a new block. p is nil when there was no memory.
func (a *Allocator) handOut(p unsafe.Pointer, size int) (unsafe.Pointer, error) {
	if p == nil {
		return nil, outOfMemory(size)
	}
	a.count(1, bytesOf(p))
	return p, nil
}

// count adds to the public counters.
func (a *Allocator) count(blocks, bytes int) {
	if counters {
		a.Allocs += blocks
		a.Bytes += bytes
	}
}

// bytesOf is what count wants to know of a block: where nothing is counted that is nothing.
func bytesOf(p unsafe.Pointer) int {
	if !counters {
		return 0
	}
	return UnsafeUsableSize(p)
}

func mustBeSize(size int) {
	if size < 0 {
		panic(fmt.Sprintf("memory: size %d: a size must not be negative", size))
	}
}

//go:noinline
func outOfMemory(size int) error { // out of line, so that handOut is not
	return fmt.Errorf("memory: no memory is left for a block of %d bytes: free some, or raise what limits hakmem (hakmem.SetMemoryLimit, HAKMEM_REGION_BYTES)", size)
}

// pointer is the pointer to an address outside the Go heap. (The go command's checks take a conversion
// for one of an address in the Go heap.)
func pointer(p uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&p)) }

// start returns where a slice of a block starts, and nil for one without capacity.
func start(b []byte) unsafe.Pointer {
	if cap(b) == 0 {
		return nil
	}
	return unsafe.Pointer(unsafe.SliceData(b))
}

// slice returns a block as a slice. p may be nil.
func slice(p unsafe.Pointer, size int) []byte {
	if p == nil {
		return nil
	}
	return unsafe.Slice((*byte)(p), UnsafeUsableSize(p))[:size]
}
