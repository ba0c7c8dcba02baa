package heap

import (
	"math/bits"
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/policy"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// carve moves free blocks of the leased slab s into class c's empty magazine,
// at most want, and returns how many. Entered; the caller's front holds s's
// lease, so nobody else clears bits.
//
// Blocks go in by descending address, so that pops ascend.
func carve(f uintptr, c uint8, s slabID, want int) (n int) {
	k := &sizeclass.Classes[c]
	m := s.meta()
	low, ok := s.firstFree(m.lowWord, k.Words)
	if !ok { // blocks may have been freed below the mark
		if low, ok = s.firstFree(0, m.lowWord); !ok {
			return 0
		}
	}
	m.lowWord = low
	var sel [maxWords]uint64 // chosen bits of each word from low on
	words := 0
	for w := low; w < k.Words && n < want; w++ {
		b := s.bits(w)
		v := atomic.LoadUint64(b)
		for have := bits.OnesCount64(v); have > want-n; have-- {
			v &^= 1 << (63 - bits.LeadingZeros64(v)) // leave the highest ones
		}
		if v != 0 {
			atomic.AndUint64(b, ^v)
			n += bits.OnesCount64(v)
		}
		sel[words] = v
		words++
	}
	slot := sentinel(f, c)
	start, size := s.addr(), uintptr(k.Size)
	for i := words - 1; i >= 0; i-- {
		base := start + uintptr(low+uint32(i))*64*size
		for v := sel[i]; v != 0; {
			b := 63 - bits.LeadingZeros64(v)
			v &^= 1 << b
			p := base + uintptr(b)*size
			if checkLive && isLive(p, c) {
				n-- // a late double free put it there; the block stays its holder's
				lateFrees.Add(1)
				lateFound.Store(p)
				continue
			}
			slot += 8
			*word(slot) = p
		}
	}
	*top(f, c) = slot
	return n
}

// firstFree returns the first word in [from, to) of the slab's bitmap that has a
// free block.
func (s slabID) firstFree(from, to uint32) (w uint32, ok bool) {
	for w := from; w < to; w++ {
		if atomic.LoadUint64(s.bits(w)) != 0 {
			return w, true
		}
	}
	return 0, false
}

// lateFrees counts double frees found at a carve or a flush; lateFound is one
// found where there was nobody to report it to, at a carve or a reclaim.
var (
	lateFrees atomic.Uint64
	lateFound atomic.Uintptr
)

// TakeLateFree returns a late double free that was found by an allocation and is
// still to be reported, once.
func TakeLateFree() Fault {
	if lateFound.Load() == 0 {
		return Fault{}
	}
	return lateFault(lateFound.Swap(0))
}

// refill moves blocks of the leased slab s into class c's empty magazine and
// returns how many. Entered; see carve.
func refill(f uintptr, c uint8, s slabID) int {
	h := head(f)
	most := min(policy.Current().Refill, int(h.cap[c]))
	n := carve(f, c, s, min(int(h.refillBatch[c]), most))
	h.refillBatch[c] = uint8(min(2*int(h.refillBatch[c]), most))
	h.flushBatch[c] = firstBatch
	return n
}

// takeOldest moves the oldest blocks of class c's full magazine to buf, a half
// of them at most. Entered.
func takeOldest(f uintptr, c uint8, buf *[MaxMag]uintptr) int {
	h := head(f)
	bottom := sentinel(f, c) + 8
	count := int(h.cap[c])
	n := min(int(h.flushBatch[c]), (count+1)/2)
	h.flushBatch[c] = uint8(min(2*n, (count+1)/2))
	h.refillBatch[c] = firstBatch
	for i := range n {
		buf[i] = *word(bottom + uintptr(i)*8)
	}
	for i := n; i < count; i++ {
		*word(bottom + uintptr(i-n)*8) = *word(bottom + uintptr(i)*8)
	}
	*top(f, c) -= uintptr(n) * 8
	*flushes(f, c)++
	return n
}

// flush gives blocks of class c back to their slabs: one atomic or for each run
// of blocks in the same word. It returns the address of a block that was free
// or live already, a double free that raced past the live state, or 0. Not
// entered; the caller holds the blocks.
//
// The geometry of a slab is read while still holding a block of it: it cannot
// be given another class then. After the or it may.
func flush(blocks []uintptr, c uint8) (late uintptr) {
	k := &sizeclass.Classes[c]
	for i := 0; i < len(blocks); {
		s := owner(blocks[i])
		start := s.addr()
		w := ^uint32(0)
		var mask uint64
		for ; i < len(blocks); i++ {
			off := blocks[i] - start
			if off >= pageSize<<k.Order {
				break // another slab
			}
			j, _ := k.Index(off)
			if w == ^uint32(0) {
				w = j / 64
			} else if w != j/64 {
				break
			}
			bit := uint64(1) << (j % 64)
			if mask&bit != 0 || checkLive && isLive(blocks[i], c) {
				late = blocks[i]
				lateFrees.Add(1)
				continue
			}
			mask |= bit
		}
		if mask == 0 {
			continue
		}
		old := atomic.OrUint64(s.bits(w), mask)
		if both := old & mask; both != 0 {
			late = start + uintptr(w*64+uint32(bits.TrailingZeros64(both)))*uintptr(k.Size)
			lateFrees.Add(uint64(bits.OnesCount64(both)))
		}
		// The or first, then the state: with retire's FULL first, then the words,
		// one of the two sees the other.
		if s.meta().slabState.Load() == slabFull {
			enlist(s)
		}
		if old|mask == fullWord(k, w) && s.allFree(k) {
			markEmpty(s.page())
			moreToReclaim()
		}
	}
	return late
}
