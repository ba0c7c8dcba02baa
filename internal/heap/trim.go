package heap

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
