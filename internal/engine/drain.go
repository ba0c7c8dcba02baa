package engine

import (
	"runtime"
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/sizeclass"
	"github.com/hakmem/hakmem/internal/telemetry"
)

// How fronts are emptied: those of Ps and shards while the program runs, and a Heap's by its own
// goroutine. (harvest.go does it for a Heap whose goroutine does something else.) drainMu guards the
// variables below and admits one drainer at a time.

// drains counts the fronts that drainFronts emptied.
var drains atomic.Uint64

// drainMu admits one drainer at a time. graceStats is where ReadMemStats writes; drained holds the
// fronts taken out by the drain in progress. Both are owned by drainMu.
var (
	drainMu    check.Mutex[check.Drain]
	graceStats runtime.MemStats
	drained    []Front
)

// drainAll empties every P's front, those of idle and vanished Ps too. Any goroutine, not pinned.
func drainAll() { drainFronts(everyFront, nil) }

func everyFront(int, Front) bool { return true }

// drainFronts empties the fronts that choose accepts. It asks choose about the fronts of Ps
// (numbered from 0) and of shards (numbered from MaxP). For each front it swaps in the trap, waits
// until every section that could have read the old entry has ended, then flushes. With the same wait
// it harvests the Heaps that chooseHeap accepts; if that is nil, none. Any goroutine, not pinned;
// under scavenger.mu if it harvests. It reports whether there are fronts that were not chosen, or
// that could not be harvested.
func drainFronts(choose func(i int, f Front) bool, chooseHeap func(h *openHeap) bool) (left bool) {
	if !region.ready.Load() {
		return false
	}
	drainMu.Lock()
	defer drainMu.Unlock()
	began := telemetry.Begin()
	defer telemetry.End(telemetry.Drain, began)
	drained = drained[:0]
	fronts := frontTable.Load()
	for i := range fronts {
		if f := atomic.LoadUintptr(&fronts[i]); Front(f) == trapFront {
			continue
		} else if !choose(i, Front(f)) {
			left = true
		} else {
			f = atomic.SwapUintptr(&fronts[i], uintptr(trapFront))
			Front(f).clearOwner()
			drained = append(drained, Front(f))
		}
	}
	if harvestable = harvestable[:0]; chooseHeap != nil {
		left = askHeaps(chooseHeap) || left
	}
	if len(drained) > 0 || len(harvestable) > 0 {
		grace()
	}
	for i := range shards {
		s := &shards[i]
		s.mu.Lock()
		switch {
		case s.front == trapFront:
		case !choose(MaxP+i, s.front):
			left = true
		default:
			drained = append(drained, s.front)
			s.front = trapFront
		}
		s.mu.Unlock()
	}
	for _, f := range drained {
		emptyFront(f)
		recycle(f)
		drains.Add(1)
	}
	n, busy := harvestAsked()
	drains.Add(n)
	return busy || left
}

// grace waits for every fast section and every pinned section that was running when it was called,
// and makes what they wrote visible. It works because ReadMemStats stops the world: neither kind of
// section has a safe point, so the world cannot stop inside one. Go does not promise that; a test
// checks it for each Go version.
func grace() { runtime.ReadMemStats(&graceStats) }

// trimHeap gives back the contents of those magazines of a Heap that hold as many blocks as when the
// Heap last saw a new epoch of the scavenger. It is called by the Heap's goroutine, from its slow
// paths, and holds the front.
func trimHeap(f Front) (trimmed bool) {
	h := f.head()
	h.epoch = times.epoch.Load()
	for c := sizeclass.ID(1); c <= sizeclass.NumAll; c++ {
		n := uint16(f.held(c))
		if n > 0 && h.mark[c] == n {
			emptyMagazine(f, c)
			n, trimmed = 0, true
		}
		h.mark[c] = n
	}
	return trimmed
}
