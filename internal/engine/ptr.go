package engine

import (
	"unsafe"

	"github.com/hakmem/hakmem/internal/mem"
)

// This file turns addresses into pointers. It has no state.
//
// All of hakmem's metadata lies outside the Go heap and is addressed by uintptr, because every
// store to a field of pointer type would cost a write-barrier check. The functions below turn such
// an address into a pointer that is used at once.
//
// They are valid because every address given to them lies in a range that package osmem reserved
// and that is never unmapped, or in the trap front, which is a global variable. The Go collector
// neither moves nor frees either of them. unsafe.Add(nil, a) is the form of the conversion that go
// vet accepts. The functions are nocheckptr because checkptr would refuse arithmetic on the trap
// front.

//go:nosplit
//go:nocheckptr
func ptr(a mem.Addr) unsafe.Pointer { return unsafe.Add(nil, a) }

//go:nosplit
//go:nocheckptr
func u8(a mem.Addr) *uint8 { return (*uint8)(unsafe.Add(nil, a)) }

//go:nosplit
//go:nocheckptr
func u64(a mem.Addr) *uint64 { return (*uint64)(unsafe.Add(nil, a)) }

//go:nosplit
//go:nocheckptr
func word(a mem.Addr) *uintptr { return (*uintptr)(unsafe.Add(nil, a)) }

// Zero clears the n bytes of hakmem's memory at p.
//
//go:nocheckptr
func Zero(p unsafe.Pointer, n mem.Bytes) { clear(unsafe.Slice((*byte)(p), n)) }

// ZeroFrom clears the bytes of the block at p from number keep to the one before n.
func ZeroFrom(p Block, keep Keep, n mem.Bytes) {
	if from := mem.Bytes(keep); from < n {
		Zero(ptr(p.addr().Add(from)), n-from)
	}
}

// Copy copies n bytes from one block of hakmem's to another.
//
//go:nocheckptr
func Copy(dst, src unsafe.Pointer, n mem.Bytes) {
	copy(unsafe.Slice((*byte)(dst), n), unsafe.Slice((*byte)(src), n))
}

//go:nocheckptr
func memory(p Block, n mem.Bytes) []byte { return unsafe.Slice((*byte)(ptr(mem.Addr(p))), n) }

// Pointer turns the address of a block, or 0, into a pointer.
//
//go:nosplit
//go:nocheckptr
func Pointer(p Block) unsafe.Pointer { return unsafe.Add(nil, p) }
