package hakmem

import (
	"fmt"
	"reflect"
	"sync"
	"unsafe"
)

// Alloc returns a slice of n bytes with len = cap = n. It has a block of its own, aligned to 16
// bytes, with undefined contents. n = 0 gives an empty slice that is not nil and is freed like any
// other. A negative n panics. When no memory is left Alloc panics with [*OutOfMemoryError]. Any
// goroutine may call it. The caller owns the slice until [FreeBytes].
func Alloc(n int) []byte {
	return bytesOf(Malloc(length("Alloc", n)), n)
}

// AllocAt is [Alloc] for a site: until it is freed, the slice's block counts as alive under s in [ReadStats],
// as that of [MallocAt] does. Site 0 means no site; any other site that [RegisterSite] did not return panics.
func AllocAt(s Site, n int) []byte {
	return bytesOf(MallocAt(s, length("AllocAt", n)), n)
}

// AllocZeroed is [Alloc] with every byte zero.
func AllocZeroed(n int) []byte {
	return bytesOf(mallocZero(length("AllocZeroed", n)), n)
}

func length(op string, n int) uintptr {
	if n < 0 {
		panic(fmt.Sprintf("hakmem: %s(%d): the length must not be negative", op, n))
	}
	return uintptr(n)
}

func bytesOf(p unsafe.Pointer, n int) []byte {
	if p == nil {
		panic(outOfMemory(uintptr(n)))
	}
	return unsafe.Slice((*byte)(p), n)
}

// FreeBytes frees a slice that [Alloc] or [AllocZeroed] returned, or one made from a block of
// [Malloc], [AlignedAlloc] or another allocation function. b must start where the block starts; its
// length does not matter. A nil b is allowed and does nothing. Any other slice panics as in [Free],
// for example one from the middle of a block, or one that append has moved to the Go heap. Any
// goroutine may call it.
func FreeBytes(b []byte) { release("FreeBytes", unsafe.Pointer(unsafe.SliceData(b))) }

// release is Free under the name of the typed function that was called.
func release(op string, p unsafe.Pointer) {
	if p == nil {
		return
	}
	defer func() {
		if e := recover(); e != nil {
			if m, ok := e.(*MisuseError); ok {
				m.Op = op
			}
			panic(e)
		}
	}()
	Free(p)
}

// New returns a zeroed T in a block of its own, aligned to 16 bytes. When no memory is left it
// panics with [*OutOfMemoryError]. Any goroutine may call it.
//
// T must not hold Go pointers, which include strings, slices, maps, channels, functions and
// interfaces. The collector does not look into hakmem's memory, so it would free whatever such a
// field points to. New panics for such a T and names the field.
func New[T any]() *T {
	mustBePlain[T]()
	size := unsafe.Sizeof(*new(T))
	p := mallocZero(size)
	if p == nil {
		panic(outOfMemory(size))
	}
	return (*T)(p)
}

// Delete frees what [New] returned. A nil p is allowed and does nothing; misuse panics as in
// [Free]. Any goroutine may call it.
func Delete[T any](p *T) { release("Delete", unsafe.Pointer(p)) }

// MakeSlice returns a zeroed slice of T with the given length and capacity, in a block of its own,
// aligned to 16 bytes. It panics unless 0 ≤ len ≤ cap, with [*OutOfMemoryError] when no memory is
// left, and for a T that holds Go pointers, as [New] does. Any goroutine may call it.
//
// [Append] makes the slice longer than cap. Go's own append would move it to the Go heap then, and not free
// the block.
func MakeSlice[T any](len, cap int) []T { return makeSlice[T]("MakeSlice", 0, len, cap) }

// MakeSliceAt is [MakeSlice] for a site: until it is freed, the slice's block counts as alive under s in
// [ReadStats], as that of [MallocAt] does, and so do the blocks to which [Append] moves it. Site 0 means no
// site; any other site that [RegisterSite] did not return panics.
func MakeSliceAt[T any](s Site, len, cap int) []T {
	mustBeSiteOrNone("MakeSliceAt", s)
	return makeSlice[T]("MakeSliceAt", s, len, cap)
}

func makeSlice[T any](op string, s Site, len, cap int) []T {
	mustBePlain[T]()
	size := sliceBytes[T](op, len, cap)
	p := mallocZeroAt("hakmem.CallocAt", s, 1, size)
	if p == nil {
		panic(outOfMemory(size))
	}
	return unsafe.Slice((*T)(p), cap)[:len]
}

// sliceBytes returns the number of bytes in cap elements, after checking len and cap.
func sliceBytes[T any](op string, len, cap int) uintptr {
	if len < 0 || cap < len {
		panic(fmt.Sprintf("hakmem: %s(%d, %d): need 0 <= len <= cap", op, len, cap))
	}
	size := unsafe.Sizeof(*new(T))
	if size != 0 && uintptr(cap) > ^uintptr(0)/2/size {
		panic(outOfMemory(^uintptr(0)))
	}
	return uintptr(cap) * size
}

// FreeSlice frees a slice that [MakeSlice] returned, under the rules of [FreeBytes].
func FreeSlice[T any](s []T) { release("FreeSlice", unsafe.Pointer(unsafe.SliceData(s))) }

// plain holds the types that are known to have no Go pointers.
var plain sync.Map // reflect.Type → nothing

// PointerFree returns nil if a T may live in hakmem's memory, as those of [New] and [MakeSlice] do. Otherwise it
// returns an error that names the field of T that is a Go pointer, or holds one; New panics with the same
// text. So a generic container can refuse a type when it is made. Any goroutine may call it.
func PointerFree[T any]() error {
	t := reflect.TypeFor[T]()
	if _, ok := plain.Load(t); ok {
		return nil
	}
	if path, kind := pointerIn(t, t.String()); path != "" {
		return fmt.Errorf("hakmem: type %s cannot live outside the Go heap: %s is a Go %s, which the collector would not see; keep an index or a copy of the bytes instead", t, path, kind)
	}
	plain.Store(t, nil)
	return nil
}

func mustBePlain[T any]() {
	if err := PointerFree[T](); err != nil {
		panic(err.Error())
	}
}

// pointerIn returns the path and kind of the first Go pointer in t, or "".
func pointerIn(t reflect.Type, path string) (string, reflect.Kind) {
	switch t.Kind() {
	case reflect.Array:
		if t.Len() == 0 {
			return "", 0
		}
		return pointerIn(t.Elem(), path+"[0]")
	case reflect.Struct:
		for i := range t.NumField() {
			f := t.Field(i)
			if p, k := pointerIn(f.Type, path+"."+f.Name); p != "" {
				return p, k
			}
		}
		return "", 0
	case reflect.Chan, reflect.Func, reflect.Interface, reflect.Map, reflect.Pointer,
		reflect.Slice, reflect.String, reflect.UnsafePointer:
		return path, t.Kind()
	}
	return "", 0
}
