// Package hakmemswiss is an allocator for the maps of github.com/cockroachdb/swiss whose entries lie outside the Go
// heap, in hakmem:
//
//	m := swiss.New(0, swiss.WithAllocator[int, int](hakmemswiss.New[swiss.Group[int, int]](hakmemswiss.Options{})))
//	defer m.Close()
//
// The entries of a swiss.Map are in groups of eight. The Map itself and its directory, which has 32 bytes for
// some 3000 entries, stay on the Go heap, and point to the groups. The collector does not look into a group, so
// keys and values must not hold Go pointers, which include strings and slices.
//
// A Map must be closed. The collector does not free the groups of one that is dropped: it may find the Map
// unreachable while the last call of Get still reads them. [ReadDropped] counts such Maps.
//
// Put must not be called while All runs. All goes through the groups that there were at its beginning, and a Put that
// makes the Map grow frees them: then All shows what was freed. Delete frees nothing. (With Go's allocator the
// collector keeps such groups, so Put is allowed there.)
//
// The package needs nothing of the module swiss, because the allocator's interface has no type of it except the
// group, which is a parameter here. It was tried with swiss v0.0.0-20260820225851-333444432258.
package hakmemswiss

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"unsafe"

	"github.com/hakmem/hakmem"
)

// Options says how an Allocator allocates. The zero value is right for most programs.
type Options struct {
	// Site labels the groups in hakmem's statistics, profile and leak reports. 0 means none.
	Site hakmem.Site
}

// Allocator is a swiss.Allocator[K, V], if Group is swiss.Group[K, V]. Several Maps may have the same Allocator.
// Any goroutine may call its methods at any time; the Maps themselves are for one goroutine each.
type Allocator[Group any] struct {
	site hakmem.Site
	held *held
}

// held is what an Allocator's Maps have. It is outside the Allocator, because the cleanup of a dropped Allocator
// reads it.
type held struct {
	bytes atomic.Int64
	by    uintptr // the program counter of New's caller
}

// New returns an Allocator whose groups have the type Group, that is swiss.Group[K, V]. It panics if Group holds
// Go pointers, with a text that names the type and the field, and for a site that [hakmem.RegisterSite] did not
// return.
func New[Group any](o Options) *Allocator[Group] {
	if err := hakmem.PointerFree[Group](); err != nil {
		panic(fmt.Sprintf("hakmemswiss: keys and values must not hold Go pointers: %v", err))
	}
	if o.Site != 0 {
		hakmem.ReadSiteRule(o.Site) // it panics for a site that is not registered
	}
	h := new(held)
	if pcs := [1]uintptr{}; runtime.Callers(2, pcs[:]) == 1 {
		h.by = pcs[0]
	}
	a := &Allocator[Group]{site: o.Site, held: h}
	runtime.AddCleanup(a, drop, h)
	return a
}

// Alloc returns n zeroed groups in a block of their own, aligned to 16 bytes. The caller owns them until Free. It
// panics for a negative n, and with a [*hakmem.OutOfMemoryError] when no memory is left: the interface has no errors.
// A program that recovers from that must close the Map and do nothing else with it, because swiss has changed the
// Map's size before it asks for the memory.
func (a *Allocator[Group]) Alloc(n int) []Group {
	groups := hakmem.MakeSliceAt[Group](a.site, n, n)
	a.held.bytes.Add(sizeOf(groups))
	return groups
}

// Free gives groups of Alloc back. Its memory is free for anything then, and goes back to the system some seconds
// later. A nil slice is allowed and does nothing. Groups that were freed already, part of what Alloc returned,
// and slices of the Go heap panic with a [*hakmem.MisuseError], and nothing is changed.
func (a *Allocator[Group]) Free(groups []Group) {
	n := int64(0)
	if hakmem.Owns(unsafe.Pointer(unsafe.SliceData(groups))) {
		n = sizeOf(groups) // of the block: after a lack of memory a Map has a wrong length for it
	}
	hakmem.FreeSlice(groups) // it knows the words for what is not owned
	a.held.bytes.Add(-n)
}

// AllocatedBytes returns the number of bytes in the blocks that this Allocator has allocated and that were not
// freed yet. When all of its Maps are closed, it is 0.
func (a *Allocator[Group]) AllocatedBytes() int64 { return a.held.bytes.Load() }

// sizeOf returns the size of the groups' block.
func sizeOf[Group any](groups []Group) int64 {
	return int64(hakmem.UsableSize(unsafe.Pointer(unsafe.SliceData(groups))))
}

// Dropped counts the Allocators that became unreachable, with their Maps, while some of these were not closed.
type Dropped struct {
	Allocators uint64
	Bytes      int64 // in their groups, which stay allocated
	// First says where the first of them was made: the function that called New, and its line. It is empty if there is none.
	First string
}

// dropped is what ReadDropped returns.
var dropped struct {
	allocators atomic.Uint64
	bytes      atomic.Int64
	first      atomic.Pointer[held]
}

// ReadDropped returns what was dropped since the start of the program. A Map is noticed some time after a garbage
// collection that finds its Allocator unreachable. Any goroutine may call it.
func ReadDropped() Dropped {
	d := Dropped{Allocators: dropped.allocators.Load(), Bytes: dropped.bytes.Load()}
	if h := dropped.first.Load(); h != nil {
		f, _ := runtime.CallersFrames([]uintptr{h.by}).Next()
		d.First = fmt.Sprintf("%s (%s:%d)", f.Function, f.File, f.Line)
	}
	return d
}

// drop is the cleanup of an Allocator.
func drop(h *held) {
	n := h.bytes.Load()
	if n == 0 {
		return
	}
	dropped.first.CompareAndSwap(nil, h)
	dropped.bytes.Add(n)
	dropped.allocators.Add(1)
}
