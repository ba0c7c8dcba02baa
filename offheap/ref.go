package offheap

import (
	"fmt"
	"unsafe"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/engine"
)

// Ref refers to a T in hakmem's memory. It is a number and not a Go pointer, so it may be stored there
// too, and trees and graphs can be built of blocks. A Ref knows whether its T was freed: then Get
// panics, also after the memory was used for something else.
//
// The zero Ref refers to nothing. Refs are equal if they refer to the same T. Only what [NewRef] has
// returned is a Ref: no other number is to be converted to one.
//
// Any goroutine may call the functions and methods. A Get or TryGet while another goroutine frees the
// same Ref may return the pointer to a T that is freed. That is a race of the program, as it is with
// pointers; a Ref never leads to the T of another one.
//
// Each Ref that is valid has 8 bytes in a table of this package, which are in Go's heap and have no
// pointers. Get reads them: that costs a few nanoseconds and, where the Refs are many and come in no
// order, a cache miss more than a pointer does (BenchmarkRef). The generation that tells two Refs of the
// same 8 bytes apart has 20 bits. When all were used the 8 bytes are not used again, so a stale Ref does
// not become valid.
type Ref[T any] uint64

// Misuse of a Ref. These are kinds of hakmem.MisuseError, which has the remedies.
const (
	kindNilRef   = "nil ref"
	kindStaleRef = "stale ref"
)

// NewRef makes a zeroed T as [hakmem.New] does, in a block of its own, and returns a Ref to it. The
// caller owns it until [Ref.Free]; it must not be freed in another way. NewRef panics for a T that holds
// Go pointers, with [*hakmem.OutOfMemoryError] when no memory is left, and when there are 2^32 Refs.
func NewRef[T any]() Ref[T] {
	p := hakmem.New[T]()
	granule := uint64(uintptr(unsafe.Pointer(p))) >> granuleShift
	if granule>>granuleBits != 0 {
		panic(fmt.Sprintf("offheap: NewRef: the address %p has more than %d bits", p, granuleBits+granuleShift))
	}
	index, g, ok := takeWord(granule)
	if !ok {
		hakmem.Delete(p)
		panic(fmt.Sprintf("offheap: NewRef: %d Refs are in use: free some", uint64(mostChunks)*chunkWords))
	}
	return Ref[T](uint64(g)<<indexBits | uint64(index))
}

func (r Ref[T]) split() (wordIndex, generation) {
	return wordIndex(r), generation(r >> indexBits)
}

// TryGet returns a pointer to the T, or false if it was freed or r is zero. The pointer is valid until
// [Ref.Free].
func (r Ref[T]) TryGet() (*T, bool) {
	index, g := r.split()
	granule := index.lookUp(g)
	return (*T)(engine.Pointer(engine.Block(granule << granuleShift))), granule != 0
}

// Get returns a pointer to the T, which is valid until [Ref.Free]. It panics with a
// [*hakmem.MisuseError] if the T was freed, and if r is zero.
func (r Ref[T]) Get() *T {
	p, ok := r.TryGet()
	if !ok {
		panic(staleRef("Ref.Get", uint64(r)))
	}
	return p
}

// Free frees the T. From then on r, and each copy of it, is stale. Freeing the zero Ref does nothing. A
// stale Ref panics with a [*hakmem.MisuseError], and of two calls for the same Ref one does.
func (r Ref[T]) Free() {
	if r == 0 {
		return
	}
	index, g := r.split()
	granule := index.giveBack(g)
	if granule == 0 {
		panic(staleRef("Ref.Free", uint64(r)))
	}
	hakmem.Free(engine.Pointer(engine.Block(granule << granuleShift)))
}

func staleRef(op string, r uint64) *hakmem.MisuseError {
	kind := kindStaleRef
	if r == 0 {
		kind = kindNilRef
	}
	return &hakmem.MisuseError{Op: op, Kind: kind, Addr: uintptr(r)}
}
