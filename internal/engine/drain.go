package engine

import (
	"runtime"
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/sizeclass"
	"github.com/hakmem/hakmem/internal/telemetry"
)

// drains counts the fronts emptied by drainAll.
var drains atomic.Uint64

// drainMu admits one drainer at a time; graceStats is where ReadMemStats writes.
var (
	drainMu    check.Mutex[check.Drain]
	graceStats runtime.MemStats
	drained    []Front
)

// drainAll empties every P's front, those of idle and vanished Ps too. Any
// goroutine, not pinned.
func drainAll() { drainFronts(func(int, Front) bool { return true }) }

// drainFronts empties the fronts that choose takes, of Ps (numbered from 0) and
// shards (from MaxP): swap the trap in, wait until every section that could have
// read the old entry has ended, then flush. Heaps' fronts belong to their
// goroutines and are left. Any goroutine, not pinned. It reports whether there
// are fronts that were not chosen.
func drainFronts(choose func(i int, f Front) bool) (left bool) {
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
	if len(drained) > 0 {
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
	return left
}

// grace waits for every fast section and every pinned section that was running
// when it was called, and makes what they wrote visible. It holds because
// ReadMemStats stops the world: neither kind of section has a safe point, so
// the world cannot stop inside one. That is not a promise of Go; a test checks
// it for each Go version.
func grace() { runtime.ReadMemStats(&graceStats) }

// emptyFront flushes every magazine, retires every lease and empties the
// quarantine of a front that nobody else can reach.
func emptyFront(f Front) {
	emptyQuarantine(f)
	for c := uint8(1); c <= sizeclass.NumAll; c++ {
		emptyMagazine(f, sizeclass.ID(c))
		if s := *f.lease(sizeclass.ID(c)); s != 0 {
			*f.lease(sizeclass.ID(c)) = 0
			retire(s)
		}
	}
}

// emptyMagazine gives back all blocks of a magazine of such a front. They are no
// hits: what was popped before is counted first, and what is seen then forgotten.
func emptyMagazine(f Front, c sizeclass.ID) {
	f.look(c, f.held(c))
	f.head().seen[c] = 0
	if f.held(c) == 0 {
		return
	}
	*f.flushes(c)++
	var buf [maxFlush]Block
	for n := len(buf); n == len(buf); {
		n = 0
		for n < len(buf) {
			p := f.pop(c)
			if p == 0 {
				break
			}
			buf[n] = p
			n++
		}
		if c > sizeclass.Num {
			releaseAll(buf[:n])
		} else {
			timedFlush(buf[:n], c)
		}
	}
}

// trimHeap gives back what has lain in a Heap's magazines since the scavenger's
// epoch before the last one that the Heap saw. By the Heap's goroutine, from its
// slow paths: nobody else may touch its front, so an idle Heap keeps what it has.
func trimHeap(f Front) (trimmed bool) {
	h := f.head()
	h.epoch = times.epoch.Load()
	for c := uint8(1); c <= sizeclass.NumAll; c++ {
		n := uint16(f.held(sizeclass.ID(c)))
		if n > 0 && h.mark[c] == n {
			emptyMagazine(f, sizeclass.ID(c))
			n, trimmed = 0, true
		}
		h.mark[c] = n
	}
	return trimmed
}
