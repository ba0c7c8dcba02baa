package engine

import "github.com/hakmem/hakmem/internal/check"

// The fronts of Heaps, as the public package makes and closes them. A Heap's front belongs to the
// goroutine that uses the Heap.

// FrontBytes is the memory of one front.
const FrontBytes = frontSize

// NewHeapFront returns a front for a Heap, or 0 when memory is out or too many are in use. Not
// entered.
func NewHeapFront() Front {
	check.MustNotBeEntered("NewHeapFront")
	f := newFront(true)
	if f == 0 && !within(frontHeadBytes()) && reclaim(0, frontHeadBytes()) {
		f = newFront(true)
	}
	return f
}

// CloseHeapFront gives back the magazines and leases of a Heap's front. The caller must be the
// Heap's goroutine and must not use the front again.
func CloseHeapFront(f Front) Finding {
	emptyFront(f)
	recycle(f)
	kick()
	return TakeFinding()
}
