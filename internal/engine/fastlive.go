package engine

import (
	"unsafe"

	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// This file shows the fast paths where the live byte and the class of a block are. The fast paths
// are the road's and those of the public package's Heap. The functions have no state; except for
// PageClassOf, they are nosplit and cannot panic.

// MidState returns the address of the live byte of the block at p, and the block's class, with
// which the byte must agree. p is a pointer into the region. live is nil if no block above 1 KiB
// can begin at p. If p is behind the last block of a slab, where one more block could begin, the
// byte is 0.
//
//go:nosplit
//go:nocheckptr
func MidState(p unsafe.Pointer) (live *uint8, c sizeclass.ID) {
	off := uintptr(p) - Base
	m := (*pageMeta)(unsafe.Add(nil, Pages+off>>pageShift<<pageMetaShift))
	if lo := uint64(mem.Addr(p)-m.start) * m.recip; lo >= m.recip { // sizeclass.Class.Index
		return nil, 0
	}
	return (*uint8)(unsafe.Add(nil, m.live0+mem.Addr(off>>kibShift))), m.class
}

// MidLive returns the address of the live byte of the mid block at p.
//
//go:nosplit
//go:nocheckptr
func MidLive(p unsafe.Pointer) *uint8 { return (*uint8)(unsafe.Add(nil, midLive(Block(p)))) }

// LargeLive returns the address of the live byte of the large block at p.
//
//go:nosplit
//go:nocheckptr
func LargeLive(p unsafe.Pointer) *uint8 { return (*uint8)(unsafe.Add(nil, largeLive(Block(p)))) }

// PageClassOf returns the address of PageClass's entry for p, a pointer into the region.
func PageClassOf(p unsafe.Pointer) *uint8 { return &PageClass[(uintptr(p)-Base)>>pageShift] }
