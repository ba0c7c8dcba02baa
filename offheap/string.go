package offheap

import (
	"hash/maphash"
	"strings"
	"unsafe"

	"github.com/hakmem/hakmem"
)

// String is a string in hakmem's memory. It is 16 bytes with a pointer that the collector does not see,
// so it may be a field of a struct that lives outside the Go heap, and an element of a slice there. The
// zero String is empty.
//
// [MakeString] makes one with a block of its own, which [String.Free] frees. A String of an [Interner]
// has none, and lives until the Interner is closed. Copies of a String share the bytes, and none may be
// used after the Free. The bytes must not be changed.
//
// == compares Strings by where their bytes are; [String.Equal] compares the bytes. Any number of
// goroutines may use a String at the same time, except next to its Free.
type String struct {
	// All bytes are in the block, however few they are: of a string kept inline a view would be valid
	// only as long as the variable stays where it is, and not until Free.
	addr address
	n    uint64
}

// address is that of a byte in hakmem's memory, or 0.
type address uint64

// pointer turns the address into a pointer. It is valid because hakmem's memory is outside the Go heap,
// whose collector neither moves nor frees it. unsafe.Add(nil, a) is the form of the conversion that go
// vet accepts. checkptr takes the memory for that of a Go object in builds with hakmem_racetrack.
//
//go:nocheckptr
func (a address) pointer() *byte { return (*byte)(unsafe.Add(nil, uintptr(a))) }

// MakeString returns a String with a copy of s. An empty s needs no memory, any other a block of its
// own, of at least 16 bytes. MakeString panics with [*hakmem.OutOfMemoryError] when no memory is left.
// Any goroutine may call it. The caller owns the String until its Free.
func MakeString(s string) String {
	if s == "" {
		return String{}
	}
	p := hakmem.Alloc(len(s))
	copy(p, s)
	return stringAt(p)
}

// MakeStringBytes is [MakeString] for the bytes of b, without a Go string on the way.
func MakeStringBytes(b []byte) String { return MakeString(unsafe.String(unsafe.SliceData(b), len(b))) }

// stringAt returns the String of bytes in hakmem's memory, of which there are some.
func stringAt(p []byte) String {
	return String{address(uintptr(unsafe.Pointer(unsafe.SliceData(p)))), uint64(len(p))}
}

// Len returns the number of bytes.
func (s String) Len() int { return int(s.n) }

// View returns the String as a Go string without a copy. It is hakmem's memory, as is every string that
// is cut from it: valid until the String is freed, or its Interner is closed. Whatever may live longer
// needs a [String.Clone]: a key of a map, a string given to another goroutine, an error's text.
func (s String) View() string { return unsafe.String(s.addr.pointer(), s.Len()) }

// Clone returns a copy on the Go heap.
func (s String) Clone() string { return strings.Clone(s.View()) }

// String is [String.Clone], for package fmt.
func (s String) String() string { return s.Clone() }

// Free frees the bytes of a String that [MakeString] made. It and all its copies must not be used any
// more; a variable that stays should be set to String{}. Free of an empty String does nothing. A second
// Free and the Free of a String of an Interner panic with [*hakmem.MisuseError], as [hakmem.Free] does.
// Any goroutine may call it.
func (s String) Free() { hakmem.Free(unsafe.Pointer(s.addr.pointer())) }

// Equal reports whether s and t have the same bytes.
func (s String) Equal(t String) bool { return s == t || s.View() == t.View() }

// Compare returns a negative number, 0 or a positive one: whether s comes before t, is equal, or comes
// behind, byte by byte as Go's < does.
func (s String) Compare(t String) int {
	if s == t {
		return 0
	}
	return strings.Compare(s.View(), t.View())
}

// Hash returns what [maphash.String] returns for the same bytes.
func (s String) Hash(seed maphash.Seed) uint64 { return maphash.String(seed, s.View()) }
