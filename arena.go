package hakmem

import (
	"fmt"
	"runtime"
	"slices"
	"unsafe"

	"github.com/hakmem/hakmem/internal/asan"
	"github.com/hakmem/hakmem/internal/engine"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/site"
)

// Arena allocates by moving a pointer, and frees everything at once. It is for one goroutine at a
// time. The zero Arena is empty and ready for use, like the result of [NewArena]. An Arena must not
// be copied after its first use.
//
// An Arena's memory is not freed piece by piece: passing it to [Free] is misuse and panics.
//
// The Arena owns its memory and must stay reachable as long as the memory is used, as it does when
// the program calls (or defers) [Arena.Close] at the end. An Arena that becomes unreachable without
// Close is an error that the program survives. Some time after a garbage collection its memory is
// freed. Stats.Abandoned counts such Arenas, and [Err] reports the first.
type Arena struct {
	_         noCopy
	next, end uintptr // the part of the current chunk that is left
	held      *chunks // nil before the first chunk
	self      uintptr // the Arena's address, set with held: a copy is at another one
	current   int     // index in held.list of the chunk in use; those behind it are empty
	closed    bool
	site      Site            // of the chunks
	cleanup   runtime.Cleanup // set with held
}

// noCopy makes go vet report copies.
type noCopy struct{}

func (*noCopy) Lock()   {}
func (*noCopy) Unlock() {}

// chunks is the memory that an Arena holds. It is an object of its own because the Arena's cleanup
// needs it and must not refer to the Arena.
type chunks struct {
	list  []chunk
	arena uintptr // the Arena's address, for the report
	by    stack   // the caller for which the first chunk was allocated
}

type chunk struct {
	start engine.Block
	size  mem.Bytes
}

// poison makes all chunks inaccessible in programs built with -asan.
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
	// firstChunk is the size of an Arena's first chunk in bytes: one page. Each further chunk is
	// twice as large, up to lastChunk, the size of a superslab. So less than half of the memory is
	// wasted at the end of the last chunk, and the number of chunks grows with the logarithm of the
	// size.
	firstChunk = 64 << 10
	lastChunk  = 2 << 20

	// asanGap is the number of inaccessible bytes between two allocations in programs built with
	// -asan: the least that hardening leaves behind a block.
	asanGap = 16
)

// NewArena returns an empty [Arena]. It holds no memory until its first allocation.
func NewArena() *Arena { return new(Arena) }

// NewArenaAt is [NewArena] for a site: until they are given back, the chunks of memory from which the Arena cuts what it
// hands out count as alive under s in [ReadStats]. Site 0 means no site; any other site that [RegisterSite] did
// not return panics. Any goroutine may call it.
func NewArenaAt(s Site) *Arena {
	mustBeSiteOrNone("NewArenaAt", s)
	return &Arena{site: s}
}

// Alloc returns n bytes with undefined contents, at an address that is a multiple of align. align
// must be a power of two up to 64 KiB. n = 0 gives a valid pointer that need not be unique. The
// memory is valid until [Arena.Reset] or [Arena.Close], as long as the Arena is reachable.
//
// Alloc panics with [*OutOfMemoryError] when no memory is left, with [*MisuseError] when the Arena
// is closed, and for any other align. A copy of an Arena panics with *MisuseError when it needs
// another chunk. Until then it hands out the same memory as the original, and after the original's
// Close that memory may be someone else's.
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
		p = a.next // a chunk starts at a page, so p is aligned
	}
	a.next = p + n
	if asan.On {
		a.next = min(a.next+asanGap, a.end)
		asan.Unpoison(p, n)
	}
	return engine.Pointer(engine.Block(p))
}

// more makes a chunk with room for n bytes the current one. It takes the first chunk kept by Reset
// that is large enough, or else a new one.
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
			kept[0], kept[i] = c, kept[0] // the chunk that is too small stays for smaller requests
			a.use(c)
			return
		}
	}
	for _, c := range h.list {
		size = max(size, min(c.size*2, lastChunk))
	}
	if n > lastChunk {
		// The new chunk replaces those that were made for a request above lastChunk and are too
		// small now. Otherwise an Arena whose requests grow slowly would keep them all.
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
	if asan.On { // the last allocation has a gap behind it, too (max: size+asanGap may wrap)
		large = max(size, size+asanGap)
	}
	shown := showAlloc("hakmem.Arena", uintptr(size))
	p, usable := engine.Chunk(large, site.ID(a.site))
	shown.end(p == 0)
	if handOut('a', p, size, 0) == nil {
		panic(outOfMemory(n))
	}
	asan.Poison(uintptr(p), uintptr(usable))
	h.list = slices.Insert(h.list, a.current+1, chunk{p, usable})
	a.use(h.list[a.current+1])
}

// use makes c, which is the first of the chunks that wait, the current chunk.
func (a *Arena) use(c chunk) {
	a.current++
	a.next = uintptr(c.start)
	a.end = a.next + uintptr(c.size)
}

// Reset makes all of the Arena's memory available for its next allocations; none of it is returned.
// Everything allocated before is invalid. It panics with [*MisuseError] when the Arena is closed.
func (a *Arena) Reset() {
	a.mustBeOpen("Arena.Reset")
	if a.held != nil {
		a.held.poison()
	}
	a.current, a.next, a.end = -1, 0, 0
}

// Close gives the Arena's memory back. Any later use of the Arena, including a second Close, panics
// with a [*MisuseError].
func (a *Arena) Close() {
	a.mustBeOpen("Arena.Close")
	if a.held != nil {
		a.held.free()
		a.cleanup.Stop()
	}
	*a = Arena{closed: true} // this keeps the Arena alive, so Stop comes before the cleanup can run
}

// mustBeOpen is the first step of everything except the fast path of alloc. It panics if the Arena
// is closed or a copy.
func (a *Arena) mustBeOpen(op string) {
	if a.closed {
		panic(&MisuseError{Op: op, Kind: kindClosedArena, Addr: uintptr(unsafe.Pointer(a))})
	}
	if a.held != nil && a.self != uintptr(unsafe.Pointer(a)) {
		panic(&MisuseError{Op: op, Kind: kindCopiedArena, Addr: uintptr(unsafe.Pointer(a))})
	}
}

// NewIn returns a zeroed T in the Arena, with the alignment of T. It is valid until [Arena.Reset]
// or [Arena.Close], as long as the Arena is reachable, and must not be passed to [Delete]. NewIn
// panics as [Arena.Alloc] does, and for a type that [New] does not accept. Like all of the Arena it
// is for one goroutine at a time.
func NewIn[T any](a *Arena) *T {
	mustBePlain[T]()
	size := unsafe.Sizeof(*new(T))
	p := a.alloc("NewIn", size, unsafe.Alignof(*new(T)))
	engine.Zero(p, mem.Bytes(size))
	runtime.KeepAlive(a)
	return (*T)(p)
}

// MakeSliceIn returns a zeroed slice in the Arena with the given length and capacity, with the
// alignment of T. It is valid until [Arena.Reset] or [Arena.Close], as long as the Arena is
// reachable, and must not be passed to [FreeSlice]. MakeSliceIn panics as [Arena.Alloc] does, and
// for a type, length or capacity that [MakeSlice] does not accept. Like all of the Arena it is for
// one goroutine at a time.
func MakeSliceIn[T any](a *Arena, len, cap int) []T {
	mustBePlain[T]()
	size := sliceBytes[T]("MakeSliceIn", len, cap)
	p := a.alloc("MakeSliceIn", size, unsafe.Alignof(*new(T)))
	engine.Zero(p, mem.Bytes(size))
	runtime.KeepAlive(a)
	return unsafe.Slice((*T)(p), cap)[:len]
}
