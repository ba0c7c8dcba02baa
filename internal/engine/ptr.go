package engine

import (
	"unsafe"

	"github.com/hakmem/hakmem/internal/mem"
)

// All of hakmem's metadata lies outside the Go heap and is addressed by
// uintptr: a pointer-typed field would cost a write-barrier check on every
// store. These functions turn such an address into a pointer to use at once.
//
// They are valid because every address given to them lies in a range that
// package osmem reserved and that is never unmapped (or in the trap front, a
// global variable): the Go collector neither moves nor frees it, and
// unsafe.Add(nil, a) is the form of that conversion that go vet accepts.
// nocheckptr: with checkptr on, arithmetic on the trap front would be refused.

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

// Zero clears n bytes at p, a block of hakmem's.
//
//go:nocheckptr
func Zero(p unsafe.Pointer, n mem.Bytes) { clear(unsafe.Slice((*byte)(p), n)) }

// Copy moves n bytes between two blocks of hakmem's.
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
