package engine

import (
	"unsafe"

	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// Where a fast path finds the live byte and the class of a block: those of the road and of
// the public package's Heap. All of it is nosplit and cannot panic, except for PageClassOf.

// MidState returns the address of the live byte of the block at p, a pointer
// into the region, and the block's class, with which the byte must agree; nil when p is
// not where a block above 1 KiB can begin. Behind the last block of a slab, where
// one more could, the byte is 0.
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

// MidLive returns the address of the live byte of the mid block at p, LargeLive that
// of the large block's.
//
//go:nosplit
//go:nocheckptr
func MidLive(p unsafe.Pointer) *uint8 { return (*uint8)(unsafe.Add(nil, midLive(Block(p)))) }

//go:nosplit
//go:nocheckptr
func LargeLive(p unsafe.Pointer) *uint8 { return (*uint8)(unsafe.Add(nil, largeLive(Block(p)))) }

// PageClassOf returns the address of PageClass's entry for p, a pointer into the
// region.
func PageClassOf(p unsafe.Pointer) *uint8 { return &PageClass[(uintptr(p)-Base)>>pageShift] }
