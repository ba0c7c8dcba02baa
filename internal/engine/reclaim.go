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
// allocations fill the magazines all the time. Where a hard limit is set, blocks that come back to
// slabs make room too, since their memory can be returned, and so do large blocks that were made of
// pages in use before, since the ends of their last pages can. Nothing counts these, so a failure
// always tries again when the last try is some time or some large blocks ago.
//
// The state is atomic. A reclaim holds scavenger.mu.

var (
	reclaimedAt    atomic.Uint32 // when the last reclaim was, in milliseconds
	reclaimedLarge atomic.Uint64 // how many large blocks had been made of pages by then
)

// maxReclaimSkip keeps a storm of 10^6 failures under 4000 stops of the world, or under 8000 where
// the failures are Reallocs of large blocks, which ask twice.
const maxReclaimSkip = 255

// reclaimAgain is the time after which a failed allocation tries again in any case where a hard
// limit is set, in milliseconds: at most ten stops of the world a second come of it.
const reclaimAgain millis = 100

// reclaimLarge is how many large blocks must have been made of pages for a failed allocation to try
// again where a hard limit is set. A try takes as long as some hundred of them.
const reclaimLarge = 64

// trimShare: a 64th of the limit is made free at once by trimEnds, so that the next allocations need no
// try of their own.
const trimShare = 64

// reclaimSlack is added to what an allocation needs, for the tables of the pages that it gets.
const reclaimSlack = 64 << 10

// reclaim brings memory together and reports whether another try is worthwhile of the allocation
// that failed. own is the front of that allocation (0: the P's), need the memory that it needs. Not
// entered.
//
// Where a hard limit is set, it also returns memory: of free pages, and if that does not make room
// for need, of free blocks of every slab that is not leased, of fronts that nobody has, and of the
// ends of large blocks.
func reclaim(own Front, need mem.Bytes) bool {
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
	reclaimedLarge.Store(largeStats.allocs.Load())
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
	trimCaches(now, 0)
	endLanes(true)
	sweepEmpty()
	s.moving.Unlock()
	if memoryLimit.hard.Load() != 0 { // then dirty pages count as well
		purgePages(now, false, false)
		if need += reclaimSlack; !within(need) {
			punchSlabs(now, false, worthAny, math.MaxInt, false)
			returnSpare(true, &s.moving)
			trimEnds(need + mem.Bytes(memoryLimit.hard.Load())/trimShare)
		}
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
	n += hugeCache.kept.size
	if memoryLimit.hard.Load() != 0 {
		n += pageCount(pageUse.dirty).bytes()
	}
	now := milliseconds()
	region.mu.Unlock()
	if memoryLimit.hard.Load() != 0 && (now.since(stamp(reclaimedAt.Load())) >= reclaimAgain || largeStats.allocs.Load()-reclaimedLarge.Load() >= reclaimLarge) {
		return true
	}
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

// reclaimEnded notes whether the allocation that failed before a reclaim succeeded after it.
func reclaimEnded(ok bool) {
	if ok {
		moreToReclaim()
		return
	}
	n := min(reclaimPenalty.Load()*2+1, maxReclaimSkip)
	reclaimPenalty.Store(n)
	reclaimSkip.Store(n)
}
