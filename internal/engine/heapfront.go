package engine

import (
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/check"
)

// The fronts of Heaps, as the public package makes and closes them. A Heap's front belongs to the
// goroutine that uses the Heap; for what others may do with it see heaps.go.

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

// ReopenHeap gives the fast paths of the Heap with front f, which use the front in *fast, the Heap's
// own front. It is called by the Heap's goroutine when it finds another front there: a new Heap's,
// or the trap. Not entered.
func ReopenHeap(f Front, fast *Front) {
	for {
		f.hold()
		atomic.StoreUintptr((*uintptr)(fast), uintptr(f))
		// ask changes duty first and then stores the trap. If that trap was overwritten just now, duty
		// shows it here. If it was not, it stays.
		if f.head().duty.Load() == calm {
			f.release()
			break
		}
	}
	kick() // the fast paths will not
}

// TrimHeapFront gives back all that a Heap's front holds: magazines, leases and quarantine. The
// caller must be the Heap's goroutine. It returns a misuse that it met, or an earlier one that is
// still to be reported. Not entered.
func TrimHeapFront(f Front) Finding {
	f.hold()
	emptyFront(f)
	f.release()
	kick()
	return TakeFinding()
}

// CloseHeapFront gives back the magazines and leases of a Heap's front. The caller must be the
// Heap's goroutine and must not use the front again.
func CloseHeapFront(f Front) Finding {
	forget(f)
	f.hold()
	emptyFront(f)
	f.release()
	recycle(f)
	kick()
	return TakeFinding()
}
