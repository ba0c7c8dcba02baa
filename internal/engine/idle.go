package engine

import (
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// Which fronts are idle, and how those are given up. scavenger.mu owns all of the state.

// seenFront is what the scavenger knows of one entry of the table of fronts. Times are in
// milliseconds.
type seenFront struct {
	front Front
	tops  [sizeclass.NumAll + 1]mem.Addr
	since [sizeclass.NumAll + 1]stamp // when the class first had this top
	need  millis                      // for how long the tops must stay the same for the front to be idle
	built stamp                       // when the front was first seen
}

// look compares the front with the last look. It returns how many bytes lie in magazines that have
// been idle, and whether every magazine has been idle.
func (s *seenFront) look(f Front, now stamp) (bytes mem.Bytes, all bool) {
	fresh := s.front != f
	if fresh {
		s.front, s.built, s.need = f, now, max(s.need, decayPart(idleAfter))
	} else if now.since(s.built) >= decayPart(maxIdle) {
		s.need = decayPart(idleAfter) // it has been in use for a long time
	}
	all = true
	for c := sizeclass.ID(1); c <= sizeclass.NumAll; c++ {
		if t := f.loadTop(c); fresh || s.tops[c] != t {
			s.tops[c], s.since[c] = t, now
		}
		if now.since(s.since[c]) < s.need {
			all = false
		} else if n := f.held(c); n > 0 {
			bytes += mem.Bytes(n) * c.Bytes()
		}
	}
	return bytes, all
}

// drained notes that the front was given up. If the P soon has a front again and that one is soon
// idle again, it should be drained less often.
func (s *seenFront) drained() { s.front, s.need = 0, min(2*s.need, decayPart(maxIdle)) }

// seenFronts holds what is known of each P and shard. Owned by scavenger.mu.
var seenFronts [MaxP + NumShards]*seenFront

// look compares the front with the last look, and reports whether the Heap is idle.
func (s *seenHeap) look(f Front, now stamp) bool {
	print := f.print()
	if !s.used {
		s.used, s.built, s.need = true, now, max(s.need, decayPart(idleAfter))
		s.print, s.since = print, now
	} else if now.since(s.built) >= decayPart(maxHeapIdle) {
		s.need = decayPart(idleAfter) // it has been in use for a long time
	}
	if s.print != print {
		s.print, s.since = print, now
	}
	return now.since(s.since) >= s.need
}

// harvested notes that the Heap was asked for its front: see seenFront.drained.
func (s *seenHeap) harvested() { s.used, s.need = false, min(2*s.need, decayPart(maxHeapIdle)) }

// print returns a number that changes, almost surely, when the front is used: it is made of the tops
// and of the counts of its slow paths.
func (f Front) print() (x uint64) {
	mix := func(v uint64) { x = (x ^ v) * 0x9E3779B97F4A7C15; x ^= x >> 29 }
	for c := sizeclass.ID(1); c <= sizeclass.NumAll; c++ {
		mix(uint64(f.loadTop(c)))
		mix(atomic.LoadUint64(f.misses(c)) + atomic.LoadUint64(f.refills(c)) + atomic.LoadUint64(f.flushes(c)))
	}
	return x
}

// trimFronts drains the fronts of idle and vanished Ps, and the fronts whose idle magazines hold
// much; if all is set, every front. It harvests idle Heaps; if heaps is set, every Heap. It reports
// whether fronts are left, and whether it emptied some for being idle. Under scavenger.mu.
func trimFronts(now stamp, all, heaps bool) (left, some bool) {
	left = drainFronts(func(i int, f Front) bool {
		if all {
			return true
		}
		if seenFronts[i] == nil {
			seenFronts[i] = new(seenFront)
		}
		seen := seenFronts[i]
		bytes, idle := seen.look(f, now)
		if idle || bytes >= idleBytes {
			seen.drained()
			some = true
			return true
		}
		return false
	}, func(h *openHeap) bool {
		if !heaps && !h.idle.look(h.front, now) {
			return false
		}
		h.idle.harvested()
		some = some || !heaps
		return true
	})
	return left, some
}

// idleAfter is for how long a front must look the same to be idle, in hundredths of the default
// window: 0.88 s. (A front in use that looks the same by chance only loses its magazines.) maxIdle
// is the longest that this time may become for a front that is often idle and soon built again: 14
// s.
const idleAfter, maxIdle = 40, 640

// maxHeapIdle is maxIdle for Heaps: 3.5 s. With the longest window on top of it, what a Heap has left
// idle is returned within 10 s.
const maxHeapIdle = 160

// idleBytes is how much must lie in the idle magazines of a busy front for it to be drained: a
// drain stops the world.
const idleBytes = 1 << 20
