package cache

import "math/bits"

// This file is the iteration over a cache. It holds a lock for a moment at a time, and between two of them the index may
// grow, shrink, and move its entries.
//
// A walk visits the entries of a shard in the order of their hashes with the bits reversed. The home of an entry, the slot
// where the search for it begins, is the low bits of its hash. So in that order all entries with one home follow each
// other, however many slots the index has: an index of twice the size only divides each home in two. (The cursor of Redis's
// SCAN goes through the homes in this order, too. A whole hash as the cursor makes it exact where the index shrinks.)

// position is a place in that order: the walk has come to all entries before it.
type position uint64

func positionOf(hash uint64) position { return position(bits.Reverse64(hash)) }

// homesPerLock is how many homes a walk looks at while it holds the lock, if they have no entries. Each is a cache miss, so
// that these take some 10 µs.
const homesPerLock = 64

// walk calls do for each live entry, until that returns false. It reports whether the walk goes on.
func (s *shard) walk(do func(key, value []byte) bool) bool {
	var leases []ref
	defer func() { // what is left if do returns false, or does not return
		for _, r := range leases {
			r.entry().release()
		}
	}()
	for at := position(0); ; {
		leases, at = s.lockedWalk(at, leases)
		for n := len(leases) - 1; n >= 0; n-- {
			e := leases[n].entry()
			// While the body took its time, the entry may have expired.
			if !e.expired(s.now) && !do(e.key(), e.value()) {
				return false
			}
			leases = leases[:n]
			e.release()
		}
		if at == 0 {
			return true
		}
	}
}

// lockedWalk takes the lock and appends leases of the entries at the next home that has any that have not expired, or
// none after some homes without. It returns where the walk goes on; 0 is the end.
func (s *shard) lockedWalk(at position, leases []ref) (_ []ref, next position) {
	s.mu.Lock()
	defer s.mu.Unlock() // Options.Now may panic
	if s.closed {
		return leases, 0
	}
	from := len(leases)
	for range homesPerLock {
		next = s.index.atHome(at, func(r ref) {
			if !r.entry().expired(s.now) {
				leases = append(leases, r)
			}
		})
		if at = next; at == 0 || len(leases) > from {
			break
		}
	}
	for _, r := range leases[from:] { // now nothing panics any more
		r.entry().refs.Add(1)
	}
	return leases, next
}

// atHome calls do for each entry from a position on that has the home of that position. It returns the position of the next
// home; 0 is the end.
func (x *index) atHome(at position, do func(ref)) (next position) {
	home := bits.Reverse64(uint64(at)) & x.mask()
	for i := home; x.slots[i].at != 0; i = (i + 1) & x.mask() {
		if s := x.slots[i]; s.hash&x.mask() == home && positionOf(s.hash) >= at {
			do(s.at)
		}
	}
	shift := bits.LeadingZeros64(x.mask())
	return (at>>shift + 1) << shift
}
