package engine

import (
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/policy"
)

// This file says how much all caches of the budget should hold, and what one front may have of that. The share holds
// from the moment when a front comes or goes. The price (budget.go) follows a quarter of a second later, when many
// fronts together may hold several times the budget.

const (
	// budgetBase, budgetEach, budgetMost and budgetShare are the budget of all caches together: 12 MiB and 128 KiB
	// for each front, but 4 MiB for each front at most; or a 16th of the pages in use if that is more. With it
	// producers and consumers with 64 MiB in flight take one and a half times that and a MiB for each of 16 or 64
	// Ps (docs/ledger.md, "A share for each front"; for few fronts "4 MiB for a front at most").
	budgetBase, budgetEach, budgetMost, budgetShare = 12 << 20, 128 << 10, 4 << 20, 16
	// shareRoom: magazines hold half of what they have room for, on average.
	shareRoom = 2
	// firstShare: a new magazine gets a 32nd of the share at most. Programs use some 30 classes.
	firstShare = 32
	// leaseFree is how much of a front's room has no part in its leases. They may have half of the rest: with four
	// fronts in use 2 MiB, a slab in each of 32 classes, and with 16 or more leaseLeast. That is two slabs of
	// blocks up to 1 KiB, so that a program of few sizes need not take the lock of a list for each refill.
	leaseFree, leaseLeast = 2 << 20, 128 << 10
)

// sharing is what the magazines and leases of one front may have of the budget.
var sharing struct {
	// fronts is the number of fronts in use. The scavenger looks how many there are (shareBudget), and between two
	// looks the pool counts those that come and go.
	fronts atomic.Int64
	used   atomic.Uint64 // bytes of the pages in use, at the scavenger's last look
	room   atomic.Uint64 // bytes that all magazines of a front may have room for together
}

func init() { frontsChange(0) } // so that there is a share before there is a front

// cacheLimit returns how much all caches of so many fronts should hold at most, with so many bytes of pages in
// use.
func cacheLimit(fronts int, used mem.Bytes) mem.Bytes {
	if limit := mem.Bytes(policy.Now().CacheBudget); limit != 0 {
		return limit
	}
	n := mem.Bytes(fronts)
	return max(min(budgetBase+n*budgetEach, n*budgetMost), used/budgetShare)
}

// frontsChange notes that n fronts more are in use, and setFronts how many there are, and how many bytes of pages
// are in use.
func frontsChange(n int64) {
	s := &sharing
	if s.fronts.Add(n) < 0 { // Heaps were closed that the last look did not count, as they were idle
		s.fronts.Store(0)
	}
	k := int(max(s.fronts.Load(), 1))
	s.room.Store(uint64(cacheLimit(k, mem.Bytes(s.used.Load())) * shareRoom / mem.Bytes(k)))
}

func setFronts(n int, used mem.Bytes) {
	sharing.fronts.Store(int64(n))
	sharing.used.Store(uint64(used))
	frontsChange(0)
}

// roomShare returns the bytes that all magazines of a front may have room for together, and leaseShare the bytes
// of the slabs that it may lease.
func roomShare() mem.Bytes {
	if !learning {
		return maxRegion
	}
	return mem.Bytes(sharing.room.Load())
}

func leaseShare() mem.Bytes {
	share := roomShare()
	return max((share-min(share, leaseFree))/2, leaseLeast)
}
