package heap

import (
	"math/bits"
	"unsafe"

	"github.com/hakmem/hakmem/internal/sizeclass"
)

// FrontBytes is the memory of one front.
const FrontBytes = frontSize

// NewHeapFront returns a front for a Heap, or 0 when memory is out. Not entered.
func NewHeapFront() uintptr { return newFront() }

// PopOwn is the fast path of a Heap for blocks above 1 KiB: a block of at least
// size bytes from the magazine, or nil. The caller is the Heap's goroutine, and
// f what its fast paths use, which may be the trap front.
func PopOwn(f, size uintptr) unsafe.Pointer {
	if f == 0 || size <= sizeclass.MaxTiny || size > sizeclass.MaxWarm {
		return nil
	}
	var c uint8
	if size <= sizeclass.MaxMid {
		c = sizeclass.Of(size)
	} else {
		c = sizeclass.SpanOf(size)
	}
	p := pop(f, c)
	if p == 0 {
		return nil
	}
	setLive(p, c, c)
	return Pointer(p)
}

// PushOwn is the fast path of a Heap's free for blocks above 1 KiB. It reports
// whether p is such a block, live, and the magazine took it.
func PushOwn(f uintptr, p unsafe.Pointer) bool {
	if f == 0 || !checkLive || uintptr(bits.RotateLeft64(uint64(uintptr(p)-Base), -granuleShift)) >= Granules {
		return false
	}
	live := MidState(p)
	if live == nil || !push(f, *live, uintptr(p)) {
		return false
	}
	*live = 0
	return true
}

// CloseHeapFront gives the magazines and leases of a Heap's front back. The
// caller must be the Heap's goroutine and must not use the front again.
func CloseHeapFront(f uintptr) Fault {
	late := emptyFront(f)
	recycle(f)
	kick()
	return firstOf(lateFault(late), TakeLateFree())
}
