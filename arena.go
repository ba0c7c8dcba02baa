package hakmem

import (
	"fmt"
	"runtime"
	"slices"
	"unsafe"

	"github.com/hakmem/hakmem/internal/asan"
	"github.com/hakmem/hakmem/internal/engine"
	"github.com/hakmem/hakmem/internal/mem"
)

// Arena allocates by moving a pointer and frees all at once. It is for one
// goroutine at a time; the zero Arena is empty and ready, as what NewArena returns,
// and must not be copied once it was used. Its memory
// is not freed block by block: giving it to Free is misuse and panics.
//
// The Arena owns its memory: it must stay reachable as long as its memory is
// used, as it does where Close is called (or deferred) at the end. An Arena that
// becomes unreachable without Close is an error that is survived: its memory is
// freed some time after a garbage collection, Stats.Abandoned counts it and Err
// tells of the first.
type Arena struct {
	_         noCopy
	next, end uintptr // what is left of the current chunk
	held      *chunks // nil before the first
	self      uintptr // the Arena's address since held, which a copy of it does not have
	current   int     // index of the chunk in use, since held; later ones are empty
	closed    bool
	cleanup   runtime.Cleanup // since there are chunks
}

// noCopy makes go vet tell of copies.
type noCopy struct{}

func (*noCopy) Lock()   {}
func (*noCopy) Unlock() {}

// chunks is what an Arena holds: an object of its own, for the cleanup of the
// Arena, which must not refer to it.
type chunks struct {
	list  []chunk
	arena uintptr // the Arena's address, to be told
	by    stack   // who made it allocate the first chunk
}

type chunk struct {
	start engine.Block
	size  mem.Bytes
}

// poison makes all chunks unusable in programs built with -asan.
func (c *chunks) poison() {
	if asan.On {
		for _, c := range c.list {
			asan.Poison(uintptr(c.start), uintptr(c.size))
		}
	}
}

// free gives all chunks back.
func (c *chunks) free() {
	c.poison()
	for _, c := range c.list {
		freeChunk(c.start)
	}
}

const (
	// firstChunk is the size of an Arena's first chunk, one page, and each next
	// one is twice as large up to lastChunk, a superslab's size: the waste of
	// the last chunk stays below half, the number of chunks logarithmic.
	firstChunk = 64 << 10
	lastChunk  = 2 << 20

	// asanGap lies unusable between the pieces in programs built with -asan: as
	// much as hardening leaves behind a block at the least.
	asanGap = 16
)

// NewArena returns an empty Arena, which holds no memory yet.
func NewArena() *Arena { return new(Arena) }

// Alloc returns n bytes whose address is a multiple of align, a power of two up
// to 64 KiB, with undefined contents. n = 0 gives a valid pointer that need not
// be unique. It panics with *OutOfMemoryError when memory is out, with *MisuseError
// when the Arena was closed, and for another alignment. (A copy of an Arena panics
// with *MisuseError when it needs another chunk. Until then it hands out the memory
// that the original hands out too, after the original's Close memory that is another's.)
// The memory is valid until Reset or Close, while the Arena is reachable.
func (a *Arena) Alloc(n, align uintptr) unsafe.Pointer { return a.alloc("Arena.Alloc", n, align) }

// alloc is Alloc under the name of the function that was called.
func (a *Arena) alloc(op string, n, align uintptr) unsafe.Pointer {
	if align == 0 || align&(align-1) != 0 || align > firstChunk {
		panic(fmt.Sprintf("hakmem: %s: alignment %d: use a power of two from 1 to %d", op, align, firstChunk))
	}
	p := (a.next + align - 1) &^ (align - 1)
	if p < a.next || p > a.end || a.end-p < n || a.end == 0 {
		a.mustBeOpen(op)
		a.more(n)
		p = a.next // a chunk starts on a page: aligned
	}
	a.next = p + n
	if asan.On {
		a.next = min(a.next+asanGap, a.end)
		asan.Unpoison(p, n)
	}
	return engine.Pointer(engine.Block(p))
}

// more makes a chunk with room for n bytes the current one: the first of those
// kept by Reset that is large enough, else a new one.
func (a *Arena) more(n uintptr) {
	if a.held == nil {
		a.self, a.current = uintptr(unsafe.Pointer(a)), -1
		a.held = &chunks{arena: a.self, by: callers()}
		a.cleanup = runtime.AddCleanup(a, abandonArena, a.held)
	}
	h := a.held
	kept := h.list[a.current+1:]
	size := mem.Bytes(firstChunk)
	for i, c := range kept {
		if c.size >= mem.Bytes(n) {
			kept[0], kept[i] = c, kept[0] // those too small stay for smaller pieces
			a.use(c)
			return
		}
	}
	for _, c := range h.list {
		size = max(size, min(c.size*2, lastChunk))
	}
	if n > lastChunk {
		// In place of those that were made for a piece as large and are not large
		// enough now: otherwise an Arena whose use grows slowly would keep them all.
		h.list = h.list[:a.current+1]
		for _, c := range kept {
			if c.size > lastChunk {
				freeChunk(c.start)
			} else {
				h.list = append(h.list, c)
			}
		}
	}
	size = max(size, mem.Bytes(n))
	large := size
	if asan.On { // so that what lies behind the last piece is the chunk's (max: if it wraps)
		large = max(size, size+asanGap)
	}
	p, usable := engine.Chunk(large)
	if handOut('a', p, size, 0) == nil {
		panic(outOfMemory(n))
	}
	asan.Poison(uintptr(p), uintptr(usable))
	h.list = slices.Insert(h.list, a.current+1, chunk{p, usable})
	a.use(h.list[a.current+1])
}

// use makes c, the first that is kept, the current chunk.
func (a *Arena) use(c chunk) {
	a.current++
	a.next = uintptr(c.start)
	a.end = a.next + uintptr(c.size)
}

// Reset makes all of the Arena's memory free for its next allocations and keeps
// it. Everything allocated before is invalid.
func (a *Arena) Reset() {
	a.mustBeOpen("Arena.Reset")
	if a.held != nil {
		a.held.poison()
	}
	a.current, a.next, a.end = -1, 0, 0
}

// Close gives the Arena's memory back. Any later use of the Arena, a second
// Close too, panics with a *MisuseError.
func (a *Arena) Close() {
	a.mustBeOpen("Arena.Close")
	if a.held != nil {
		a.held.free()
		a.cleanup.Stop()
	}
	*a = Arena{closed: true} // the Arena is alive until here, so Stop is in time
}

// mustBeOpen begins all but the fast path: the Arena must be open, and no copy.
func (a *Arena) mustBeOpen(op string) {
	if a.closed {
		panic(&MisuseError{Op: op, Kind: kindClosedArena, Addr: uintptr(unsafe.Pointer(a))})
	}
	if a.held != nil && a.self != uintptr(unsafe.Pointer(a)) {
		panic(&MisuseError{Op: op, Kind: kindCopiedArena, Addr: uintptr(unsafe.Pointer(a))})
	}
}

// NewIn returns a zeroed T in the Arena, aligned as T is: valid until Reset or Close
// while the Arena is reachable, and not for Delete. It panics as Alloc does, and for a
// type that New does not accept. For one goroutine at a time, as all of the Arena.
func NewIn[T any](a *Arena) *T {
	mustBePlain[T]()
	size := unsafe.Sizeof(*new(T))
	p := a.alloc("NewIn", size, unsafe.Alignof(*new(T)))
	engine.Zero(p, mem.Bytes(size))
	runtime.KeepAlive(a)
	return (*T)(p)
}

// MakeSliceIn returns a zeroed slice in the Arena, aligned as T is: valid until Reset
// or Close while the Arena is reachable, and not for FreeSlice. It panics as Alloc
// does, and for a type, length or capacity that MakeSlice does not accept. For one
// goroutine at a time.
func MakeSliceIn[T any](a *Arena, len, cap int) []T {
	mustBePlain[T]()
	size := sliceBytes[T]("MakeSliceIn", len, cap)
	p := a.alloc("MakeSliceIn", size, unsafe.Alignof(*new(T)))
	engine.Zero(p, mem.Bytes(size))
	runtime.KeepAlive(a)
	return unsafe.Slice((*T)(p), cap)[:len]
}
