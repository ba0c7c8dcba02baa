package engine

import (
	"math/bits"
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/sizeclass"
	"github.com/hakmem/hakmem/internal/telemetry"
)

// How EMPTY slabs give their pages back to their superslabs. The partial sets are owned by
// each list's lock, wasEmpty by scavenger.mu.

// sweepIdle gives back the pages of slabs that were EMPTY at the last tick too; if all is set, of
// every EMPTY slab. It reports whether EMPTY slabs are left.
func sweepIdle(all bool) (left bool) {
	began := telemetry.Begin()
	defer telemetry.End(telemetry.Sweep, began)
	if all {
		sweepEmpty()
		return false
	}
	end := region.endChunk()
	for i := region.firstChunk() &^ 63; i < end; i += 64 {
		beats.Add(1)
		hints := hintWord(i)
		for w := atomic.LoadUint64(hints); w != 0; w &= w - 1 {
			c := i + chunkNo(bits.TrailingZeros64(w))
			s := super(c)
			m := s.emptyMask.Load()
			for old := pageSet(m) & s.wasEmpty; old != 0; old &= old - 1 {
				slab := slabID(c.page() + pageNo(bits.TrailingZeros32(uint32(old))) + 1)
				giveBackEmpty(slab, 0)
			}
			s.wasEmpty = pageSet(s.emptyMask.Load())
			left = left || s.wasEmpty != 0
			dropHint(c)
		}
	}
	return left
}

// sweepEmpty gives back the pages of every EMPTY slab.
func sweepEmpty() {
	for l := listID(1); l < numLists; l++ {
		page, ok := nextListed(l, 0)
		for ok {
			beats.Add(1)
			s := slabID(page + 1)
			if s.allFree(&sizeclass.Classes[l.class()]) { // only a glance; claimEmpty makes sure
				giveBackEmpty(s, 0)
			}
			page, ok = nextListed(l, page+1)
		}
	}
}

func nextListed(l listID, from pageNo) (pageNo, bool) {
	ls := &lists[l]
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return setNext(l, from)
}
