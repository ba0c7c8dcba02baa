package hakmem

import (
	"fmt"
	"unsafe"

	"github.com/hakmem/hakmem/internal/engine"
)

// This file grows and shrinks slices that have a block of their own. The slice owns its block: the result
// of each function takes the place of the slice that it was given.

// Append is append for slices of [MakeSlice]: it returns s with the values v behind it, and never moves s
// to the Go heap. A nil s makes it begin a new block. Only the result may be used afterwards, and freed
// with [FreeSlice]: the block of s may be elsewhere.
//
// Where the capacity of s does not suffice, the block grows as [Realloc] lets it, in place if it can. The
// new capacity is that of append, rounded up to what [GoodSize] gives. So a slice that grows one element
// at a time is copied a constant number of times on average. As with append, new elements beyond the
// length are zero; those between the length and an earlier capacity keep what they held. The block stays
// that of its [Site].
//
// v may be a part of s. A slice of any block works, if it begins where the block does: one of [Alloc], or one
// made from a block of [Malloc]. Any other s panics with a [*MisuseError]: one from the middle of a
// block, of an Arena, of the Go heap, or of a block that was freed. Append also panics with
// [*OutOfMemoryError] when no memory is left, and then s is as it was; and for a T that holds Go pointers,
// when it begins a block or makes one larger, as [New] does.
//
// Each call checks s, which takes some ten nanoseconds, many times as long as Go's append takes within the
// capacity. To append many elements one at a time, call [Grow] first and then Go's append, which stays in the
// block as long as the capacity suffices.
//
// Any goroutine may call Append for a slice that no other uses meanwhile.
func Append[T any](s []T, v ...T) []T {
	p := unsafe.Pointer(unsafe.SliceData(s))
	if p == nil && len(v) == 0 {
		return s
	}
	usable := blockOf("Append", s)
	if len(v) <= cap(s)-len(s) {
		return append(s, v...)
	}
	size := unsafe.Sizeof(*new(T))
	// If v is in the block, it moves with the block.
	off, inside := uintptr(unsafe.Pointer(unsafe.SliceData(v)))-uintptr(p), false
	if p != nil && len(v) > 0 {
		inside = off < usable
	}
	r := enlarge("Append", s, usable, len(v))
	if inside {
		v = unsafe.Slice((*T)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(r)), off)), len(v))
	}
	r = append(r, v...)
	// What the block had behind the capacity of s may hold anything.
	if had := min(int((usable+max(size, 1)-1)/max(size, 1)), cap(r)); had > max(len(r), cap(s)) {
		clear(r[max(len(r), cap(s)):had])
	}
	return r
}

// Grow is [slices.Grow] for slices of [MakeSlice]: it returns s with room for n more elements at least, so
// that Go's own append stays in the block for as many. The elements up to the capacity of s are kept, and
// those behind it are zero. Only the result may be used afterwards.
//
// n must not be negative; else Grow panics. For all else the rules of [Append] hold.
func Grow[T any](s []T, n int) []T {
	if n < 0 {
		panic(fmt.Sprintf("hakmem: Grow(%d): the number of elements must not be negative", n))
	}
	if s == nil && n == 0 {
		return s
	}
	usable := blockOf("Grow", s)
	if n <= cap(s)-len(s) {
		return s
	}
	r := enlarge("Grow", s, usable, n)
	size := max(unsafe.Sizeof(*new(T)), 1)
	if had := min(int((usable+size-1)/size), cap(r)); had > cap(s) {
		clear(r[:had][cap(s):])
	}
	return r
}

// Clip is [slices.Clip] for slices of [MakeSlice]: it returns s with a capacity of its length, and gives the
// memory behind it back, as [Realloc] to that length does. Without elements the slice keeps the smallest block,
// which is still to be freed. A nil s gives nil. Only the result may be used afterwards. For invalid
// slices the rules of [Append] hold. Clip does not panic when no memory is left.
func Clip[T any](s []T) []T {
	if s == nil {
		return s
	}
	blockOf("Clip", s)
	p := realloc("Clip", 0, unsafe.Pointer(unsafe.SliceData(s)), uintptr(len(s))*unsafe.Sizeof(*new(T)), 1, false, 0, Malloc)
	return unsafe.Slice((*T)(p), len(s))
}

// blockOf returns the usable bytes of the block that s has, 0 for nil. It panics in the name of op if no block
// begins where s does, or one that is too small for s: then the one that s had was freed.
func blockOf[T any](op string, s []T) uintptr {
	p := unsafe.Pointer(unsafe.SliceData(s))
	if p == nil {
		return 0
	}
	held := uintptr(cap(s)) * unsafe.Sizeof(*new(T))
	if n := uintptr(engine.PlainSize(engine.Block(p))); n > 0 && held <= n {
		return n
	}
	usable, _, bad := engine.Size(engine.Block(p))
	if bad.Kind != engine.OK {
		panic(misuse(op, bad))
	}
	if held > uintptr(usable) {
		panic(&MisuseError{Op: op, Kind: kindUseAfter, Addr: uintptr(p), Block: uintptr(p), Class: uintptr(usable)})
	}
	return uintptr(usable)
}

// doubleUntil is the number of elements up to which the capacity doubles when a slice grows; beyond it the
// factor falls to 1.25. That is how append grows (runtime.nextslicecap).
const doubleUntil = 256

// enlarge returns s with room for n more elements, in a block whose bytes behind the first usable ones are zero.
// The capacity of s does not suffice.
func enlarge[T any](op string, s []T, usable uintptr, n int) []T {
	mustBePlain[T]()
	need := len(s) + n
	if need < 0 {
		panic(outOfMemory(^uintptr(0)))
	}
	p := unsafe.Pointer(unsafe.SliceData(s))
	size := unsafe.Sizeof(*new(T))
	if size == 0 {
		if p == nil {
			return makeSlice[T](op, 0, 0, need)
		}
		return unsafe.Slice((*T)(p), need)[:len(s)]
	}
	if uintptr(need) <= usable/size { // the block has more room than the slice
		return unsafe.Slice((*T)(p), usable/size)[:len(s)]
	}
	room := cap(s)
	if room < doubleUntil {
		room *= 2
	} else {
		room += (room + 3*doubleUntil) / 4
	}
	least := sliceBytes[T](op, need, need)
	bytes := GoodSize(max(least, uintptr(room)*size)) / size * size
	q := realloc(op, 0, p, bytes, 1, true, usable, mallocZero)
	if q == nil && bytes > least { // what is needed now may still be there
		engine.DidWithout()
		bytes = least
		q = realloc(op, 0, p, bytes, 1, true, usable, mallocZero)
	}
	if q == nil {
		panic(outOfMemory(bytes))
	}
	return unsafe.Slice((*T)(q), bytes/size)[:len(s)]
}
