package engine

import (
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/sizeclass"
)

// How the harvester empties the fronts of Heaps whose owners do something else. It is the drainer,
// under drainMu, and the tick, Trim or failed allocation that drains holds scavenger.mu, too. Which
// words it and the owner take turns by is in heaps.go.
//
// It asks (ask), which sends the Heap's fast paths to the trap, and waits for a grace, the one of the
// drain. Then no slow path of the owner is under way without having said so in busy, and every later
// one waits (settle). Of fast paths, none that began before is under way, with one exception:
//
//   - Above 1 KiB a fast path is a nosplit function (heapMallocMid and heapFreeMid of the public
//     package). The world does not stop inside one, so it has ended.
//   - Up to 1 KiB it is inlined into its caller, and may have been preempted between any two of its
//     instructions. A Heap has one goroutine, so there is one such call at most; all later calls meet
//     the trap. It has one class. It may pop the block in the top slot, or push one above it. So it
//     writes the top, the slot above the top slot, and the live byte of its own block; it reads the
//     top slot. If it has already stored the top when the harvester reads the top, the top slot is the
//     one that it has yet to write, or the one below that whose block it has taken.
//
// Therefore in classes up to 1 KiB the harvester leaves the top and the top slot alone, puts a new
// sentinel below the top slot and takes the blocks below it (cut). These at most two blocks of a class
// stay in an idle Heap. Above 1 KiB it takes everything.

// harvestable lists the Heaps that the drain in progress has asked. Owned by drainMu.
var harvestable, candidates []*openHeap

// askHeaps asks those open Heaps for their fronts that choose accepts, which is not asked about Heaps
// that were harvested already. It reports whether it passed over some. Under drainMu.
func askHeaps(choose func(h *openHeap) bool) (left bool) {
	harvestable = harvestable[:0]
	candidates = appendHeaps(candidates[:0])
	for _, h := range candidates {
		switch duty := h.front.head().duty.Load(); {
		case duty == harvested:
		case duty != asked && !choose(h): // asked: its owner was busy the last time
			left = true
		case h.ask():
			harvestable = append(harvestable, h)
		}
	}
	clear(candidates)
	return left
}

// harvestAsked empties the fronts that askHeaps asked for, after the grace, and returns how many. It
// also reports whether one was in use by its owner, who will find that it was asked for. Under
// drainMu.
func harvestAsked() (n uint64, left bool) {
	for _, h := range harvestable {
		if h.front.harvest() {
			n++
		} else {
			left = true
		}
	}
	clear(harvestable)
	return n, left
}

// harvest empties the front of a Heap that was asked for it, and reports whether it did. After a
// grace.
func (f Front) harvest() bool {
	h := f.head()
	if atomic.LoadUint32(&h.busy) != 0 || !h.duty.CompareAndSwap(asked, taken) {
		return false
	}
	emptyQuarantine(f)
	for c := sizeclass.ID(1); c <= sizeclass.NumAll; c++ {
		if c <= sizeclass.NumTiny {
			f.cut(c)
		} else {
			emptyMagazine(f, c)
		}
		f.endLease(c)
	}
	h.duty.Store(harvested)
	return true
}
