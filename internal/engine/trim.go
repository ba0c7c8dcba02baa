package engine

import "github.com/hakmem/hakmem/internal/osmem"

// Trim empties the fronts of all Ps and the shared caches, gives EMPTY slabs back to their
// superslabs and returns the memory of every free page to the operating system. Any goroutine,
// while others allocate. It returns a misuse that it met, or an earlier one that is still to be
// reported. If the scavenger hangs in a system call, it does nothing, and Err reports that.
func Trim() Finding {
	if !region.ready.Load() {
		return Finding{}
	}
	if scavenger.lock() {
		defer scavenger.unlock()
		scavenge(true)
		if osmem.StrictCommit() {
			uncommitFree()
		}
	}
	return TakeFinding()
}
