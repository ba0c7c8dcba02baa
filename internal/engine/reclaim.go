package engine

import (
	"math"
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// What a failed allocation tries before it gives up: it brings together what magazines, leases,
// caches and EMPTY slabs hold. That stops the world. So in a storm of failures each try that did
// not help doubles the number of failures that go without a try (reclaimSkip, in slab.go), up to
// maxReclaimSkip. A slab that becomes EMPTY ends the wait, and so do blocks freed into the shared
// caches. Blocks in magazines end it at most once in a millisecond, because the blocks of other
// allocations fill the magazines all the time.
//
// The state is atomic. A reclaim holds scavenger.mu.

var reclaimedAt atomic.Uint32 // when the last reclaim was, in milliseconds

// maxReclaimSkip keeps a storm of 10^6 failures under 4000 stops of the world, or under 8000 where
// the failures are Reallocs of large blocks, which ask twice.
const maxReclaimSkip = 255

// reclaim brings memory together and reports whether another try is worthwhile of the allocation
// that failed. own is the front of that allocation (0: the P's). Not entered.
func reclaim(own Front) bool {
	check.MustNotBeEntered("reclaim")
	if !region.ready.Load() || reclaimSkip.Add(-1) >= 0 && !worthReclaim(own) {
		return false
	}
	defer kick() // what the failed allocation does not take is left dirty
	s := &scavenger
	if !s.lock() {
		return false
	}
	defer s.unlock()
	refillNarrowing()
	now := milliseconds()
	reclaimedAt.Store(uint32(now))
	findLost()
	s.moving.Lock()
	drainFronts(everyFront, func(h *openHeap) bool { return h.front != own })
	if own != 0 { // a Heap's, by its goroutine
		own.hold()
		emptyQuarantine(own)
		for c := sizeclass.ID(1); c <= sizeclass.NumAll; c++ {
			emptyMagazine(own, c)
		}
		own.release()
	}
	_, pages := trimCaches(now, 0)
	forgetPeaks(pages)
	sweepEmpty()
	s.moving.Unlock()
	if memoryLimit.hard.Load() != 0 { // then dirty pages count as well
		purgePages(math.MaxInt, now, 0, false, false)
	}
	return true
}

// worthReclaim reports whether a page's worth of memory was freed since the last reclaim, which
// left nothing where it looks.
func worthReclaim(own Front) bool {
	_, n := inShared()
	_, big := inSiteCache()
	n += big
	if own != 0 {
		n += own.heldBytes()
	}
	region.mu.Lock()
	n += hugeCache.bytes
	if memoryLimit.hard.Load() != 0 {
		n += pageCount(pageUse.dirty).bytes()
	}
	now := milliseconds()
	region.mu.Unlock()
	if n < pageSize && now != stamp(reclaimedAt.Load()) {
		n += inMagazines() + inHeaps()
	}
	return n >= pageSize
}

// inMagazines returns the bytes of free blocks in the magazines of all fronts except those of Heaps
// (inHeaps).
func inMagazines() (n mem.Bytes) {
	fronts := frontTable.Load()
	for i := range fronts {
		if f := atomic.LoadUintptr(&fronts[i]); Front(f) != trapFront {
			n += Front(f).heldBytes()
		}
	}
	for i := range shards {
		s := &shards[i]
		s.mu.Lock()
		if s.front != trapFront {
			n += s.front.heldBytes()
		}
		s.mu.Unlock()
	}
	return n
}

func reclaimFailed() {
	n := min(reclaimPenalty.Load()*2+1, maxReclaimSkip)
	reclaimPenalty.Store(n)
	reclaimSkip.Store(n)
}
