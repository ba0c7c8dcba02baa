package heap

import "github.com/hakmem/hakmem/internal/sizeclass"

// Trim empties the fronts of all Ps and the shared caches, gives EMPTY slabs back
// to their superslabs and returns the memory of every free page to the operating
// system. Any goroutine, while others allocate. It returns the address of a
// late double free it met, as a Fault.
func Trim() Fault {
	if !region.ready.Load() {
		return Fault{}
	}
	scavenger.mu.Lock()
	defer scavenger.mu.Unlock()
	if _, late := scavenge(true); late != 0 {
		return lateFault(late)
	}
	return TakeLateFree()
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
