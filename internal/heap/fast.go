package heap

import (
	"math/bits"
	"unsafe"
)

// What the public package's fast section needs of the engine besides its
// variables. What it calls is nosplit and cannot panic.

// What the assembly reads of a page's metadata: its size as a power of two, the
// offsets of fields, and the bytes of live state.
const (
	MetaShift  = pageMetaShift
	MetaStart  = unsafe.Offsetof(pageMeta{}.start)
	MetaState  = unsafe.Offsetof(pageMeta{}.state)
	MetaRecip  = unsafe.Offsetof(pageMeta{}.recip)
	MetaClass  = unsafe.Offsetof(pageMeta{}.class)
	MetaStates = len(pageMeta{}.states)
)

// Pin and Unpin pin the goroutine to its P; Pin returns the P's number.
func Pin() int { return procPin() }
func Unpin()   { procUnpin() }

// Pointer turns the address of a block, or 0, into a pointer.
//
//go:nosplit
//go:nocheckptr
func Pointer(p uintptr) unsafe.Pointer { return unsafe.Add(nil, p) }

// MidState returns the address of the live byte of the block at p, a pointer
// into the region, or nil when p is not the start of a block above 1 KiB.
//
//go:nosplit
//go:nocheckptr
func MidState(p unsafe.Pointer) *uint8 {
	m := (*pageMeta)(unsafe.Add(nil, Pages+(uintptr(p)-Base)>>pageShift<<pageMetaShift))
	hi, lo := bits.Mul64(uint64(uintptr(p)-m.start), m.recip)
	if lo >= m.recip || hi >= uint64(len(m.states)) {
		return nil
	}
	return (*uint8)(unsafe.Add(nil, m.state+uintptr(hi)))
}

// MidSet marks the block at p, of a class above 1 KiB, as live.
//
//go:nosplit
//go:nocheckptr
func MidSet(p unsafe.Pointer, c uint8) {
	*u8(midState(uintptr(p))) = c
}

// PageClassOf returns the address of PageClass's entry for p, a pointer into the
// region.
func PageClassOf(p unsafe.Pointer) *uint8 { return &PageClass[(uintptr(p)-Base)>>pageShift] }
