package heap

import (
	"math/bits"
	"sync"

	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

var trimMu sync.Mutex

// Trim empties the fronts of all Ps, gives EMPTY slabs back to their
// superslabs and returns the memory of every free page to the operating
// system. Any goroutine, while others allocate. It returns the address of a
// late double free it met, as a Fault.
func Trim() Fault {
	if !region.ready.Load() {
		return Fault{}
	}
	trimMu.Lock()
	defer trimMu.Unlock()
	late := drainAll()
	sweepEmpty()
	discardFree()
	return lateFault(late)
}

// sweepEmpty gives the pages of every EMPTY slab back.
func sweepEmpty() {
	for c := uint8(1); c <= sizeclass.Num; c++ {
		page, ok := nextListed(c, 0)
		for ok {
			s := slabID(page + 1)
			if s.allFree(&sizeclass.Classes[c]) { // a look; claimEmpty makes sure
				if order, ok := claimEmpty(s, 0); ok {
					giveBackPages(page, order)
				}
			}
			page, ok = nextListed(c, page+1)
		}
	}
}

func nextListed(c uint8, from uintptr) (uintptr, bool) {
	cs := &classes[c]
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return setNext(c, from)
}

// discardFree returns the memory of free, dirty pages: chunk by chunk, each
// chunk's pages taken out of use while the system call runs without the lock.
func discardFree() {
	end := region.committed.Load() >> superShift
	for c := region.first >> superShift; c < end; c++ {
		region.mu.Lock()
		s := super(c)
		m := s.free & s.dirty
		if m == 0 {
			region.mu.Unlock()
			continue
		}
		s.free &^= m
		updateChunk(c)
		region.mu.Unlock()

		cleaned := uint32(0)
		for rest := m; rest != 0; {
			b := bits.TrailingZeros32(rest)
			n := bits.TrailingZeros32(^(rest >> b))
			run := (uint32(1)<<n - 1) << b
			if n == superPages {
				run = ^uint32(0)
			}
			rest &^= run
			if discardPages(c*superPages+uintptr(b), uintptr(n)) {
				cleaned |= run
			}
		}

		region.mu.Lock()
		s.free |= m
		s.dirty &^= cleaned
		if s.isSlabs && s.free == ^uint32(0) {
			s.isSlabs = false
			superslabs.Add(-1)
		}
		updateChunk(c)
		region.mu.Unlock()
	}
}

// updateChunk makes the page tree and the pool agree with chunk c's free mask.
func updateChunk(c uintptr) {
	region.tree.update(c, c)
	updatePool(c)
}

// discardPages returns n pages and the live map beside them, which is all zero:
// no block of them is live.
func discardPages(page, n uintptr) bool {
	if err := osmem.Discard(region.base+page<<pageShift, n<<pageShift); err != nil {
		survive(err)
		return false
	}
	if err := osmem.Discard(region.live.base+page*region.live.unit, n*region.live.unit); err != nil {
		survive(err)
	}
	return true
}
