package engine

import "github.com/hakmem/hakmem/internal/check"

// FrontBytes is the memory of one front.
const FrontBytes = frontSize

// NewHeapFront returns a front for a Heap, or 0 when memory is out or too many are
// in use. Not entered.
func NewHeapFront() Front {
	check.MustNotBeEntered("NewHeapFront")
	return newFront(true)
}

// CloseHeapFront gives the magazines and leases of a Heap's front back. The
// caller must be the Heap's goroutine and must not use the front again.
func CloseHeapFront(f Front) Finding {
	emptyFront(f)
	recycle(f)
	kick()
	return TakeFinding()
}
