package heap

import (
	"math"
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/sizeclass"
)

var reclaimedAt atomic.Uint32 // milliseconds

// maxReclaimSkip keeps a storm of 10^6 failures under 4000 stops of the world; under
// 8000 where they are Reallocs of spans, which ask twice.
const maxReclaimSkip = 255

// reclaim reports whether it did something that makes another try of the front
// own (0: the P's) worth while. Not entered.
func reclaim(own uintptr) bool {
	if !region.ready.Load() || reclaimSkip.Add(-1) >= 0 && !worthReclaim(own) {
		return false
	}
	defer kick() // what is not taken now is warm
	s := &scavenger
	s.mu.Lock()
	defer s.mu.Unlock()
	region.mu.Lock()
	now := milliseconds()
	region.mu.Unlock()
	reclaimedAt.Store(now)
	findLost()
	s.moving.Lock()
	drainAll()
	if own != 0 { // a Heap's, by its goroutine
		emptyQuarantine(own)
		for c := uint8(1); c <= sizeclass.NumAll; c++ {
			emptyMagazine(own, c)
		}
	}
	_, pages := trimCaches(now, 0)
	forgetPeaks(pages)
	sweepEmpty()
	s.moving.Unlock()
	if memoryLimit.hard.Load() != 0 { // then warm pages count as well
		purgePages(math.MaxInt, now, 0, false)
	}
	return true
}

// worthReclaim reports whether enough was freed since the last reclaim, which
// left none of it.
func worthReclaim(own uintptr) bool {
	_, n := inShared()
	_, big := inBig()
	n += big
	if own != 0 {
		n += heldBytes(own)
	}
	region.mu.Lock()
	n += whales.bytes
	if memoryLimit.hard.Load() != 0 {
		n += uintptr(pageUse.warm) << pageShift
	}
	now := milliseconds()
	region.mu.Unlock()
	if n < pageSize && now != reclaimedAt.Load() {
		n += inMagazines()
	}
	return n >= pageSize
}

// heldBytes returns the bytes of free blocks in the magazines and the quarantine
// of a front.
func heldBytes(f uintptr) (n uintptr) {
	for c := uint8(1); c <= sizeclass.NumAll; c++ {
		n += (held(f, c) + uintptr(atomic.LoadUint32(&head(f).waiting[c]))) * blockBytes(c)
	}
	return n
}

// inMagazines returns the bytes of free blocks in the magazines of all fronts but
// Heaps'.
func inMagazines() (n uintptr) {
	fronts := frontTable.Load()
	for i := range fronts {
		if f := atomic.LoadUintptr(&fronts[i]); f != trapFront {
			n += heldBytes(f)
		}
	}
	for i := range shards {
		s := &shards[i]
		s.mu.Lock()
		if s.front != trapFront {
			n += heldBytes(s.front)
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
