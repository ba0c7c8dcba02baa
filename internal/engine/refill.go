package engine

import (
	"math/bits"

	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/osmem"
)

// This file finds what the system has filled again (hugepages.go): pages that count as clean, and
// holes in slabs. What is resident counts as dirty, or as no hole, so that it is returned like
// everything else. All of it is under scavenger.mu.

// findFilled looks at the next chunks after a change of the mode, or, with all set, at every chunk.
// It reports whether there are chunks left to look at.
func findFilled(all bool) (left bool) {
	h := &hugePages
	end := region.endChunk()
	if all {
		if hugePagesCome(); !h.exist {
			return false
		}
		h.look = 0
		for c := region.firstChunk(); c < end; c += purgeBatch {
			lookAt(c, chunkCount(min(purgeBatch, end-c)))
		}
		return false
	}
	if c := h.look; c != 0 {
		n := min(lookPerTick, end-c)
		lookAt(c, chunkCount(n))
		if h.look = c + n; h.look == end {
			h.look = 0
		}
	}
	return h.look != 0
}

// lookAt is findFilled for n chunks from c on, at most purgeBatch.
func lookAt(c chunkNo, n chunkCount) {
	looked := lookAtPages(c, n, true)
	each := superSize / osmem.PageSize()
	for ; looked != 0; looked &= looked - 1 {
		i := mem.Bytes(bits.TrailingZeros32(looked))
		first := (c + chunkNo(i)).page()
		resident := hugePages.vec[i*each : (i+1)*each]
		for page := range pageNo(superPages) {
			if s := slabID(first + page + 1); s.meta().slabList.Load() != 0 {
				filled := s.closeHoles(resident[mem.Bytes(page)*pageSize/osmem.PageSize():])
				region.mu.Lock()
				hugePages.filled += uint64(filled)
				region.mu.Unlock()
			}
		}
	}
}

// closeHoles takes those holes of a PARTIAL slab from its set that have memory. resident begins with
// the OS pages of the slab: a byte is odd if the page is resident. It returns the bytes of the
// holes.
//
// The look may be older than the lock that closeHoles takes. But only the scavenger makes holes, so
// what is a hole now was one when it looked; or the slab is another one now, which has none.
func (s slabID) closeHoles(resident []byte) (filled mem.Bytes) {
	l, ls := s.lockList()
	if l == 0 {
		return 0
	}
	defer ls.mu.Unlock()
	m := s.meta()
	if m.slabState.Load() != slabPartial || m.holes() == 0 {
		return 0
	}
	unit, step := s.unitBytes(), osmem.PageSize()
	left := m.holes()
	for todo := left; todo != 0; todo &= todo - 1 {
		i := mem.Bytes(bits.TrailingZeros64(todo))
		for _, v := range resident[i*unit/step : ((i+1)*unit+step-1)/step] {
			if v&1 != 0 {
				left &^= 1 << i
			}
		}
		if left>>i&1 == 0 {
			filled += unit
		}
	}
	s.forgetHoles(left)
	return filled
}
