package engine

import (
	"math/bits"
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/policy"
	"github.com/hakmem/hakmem/internal/sizeclass"
	"github.com/hakmem/hakmem/internal/telemetry"
)

// carve moves free blocks of the leased slab s into class c's empty magazine,
// at most want, and returns how many. Entered; the caller's front holds s's
// lease, so nobody else clears bits.
//
// Blocks go in by descending address, so that pops ascend.
func (f Front) carve(c sizeclass.ID, s slabID, want int) (n int) {
	check.MustBeEntered("carve")
	k := &sizeclass.Classes[c]
	m := s.meta()
	low, ok := s.firstFree(uint32(m.lowWord), k.Words)
	if !ok { // blocks may have been freed below the mark
		if low, ok = s.firstFree(0, uint32(m.lowWord)); !ok {
			return 0
		}
	}
	m.lowWord = uint8(low)
	// Count first: then slots are filled from the top one down, by ascending
	// address. Until the second look at a word its bits can only grow.
	for w := low; w < k.Words && n < want; w++ {
		n += bits.OnesCount64(atomic.LoadUint64(s.bits(w)))
	}
	n = min(n, want)
	bottom := f.sentinel(c)
	slot := bottom + slots(n)
	size := uintptr(k.Size)
	live := uint8(0) // all the blocks' live bytes, together
	for w, left := low, n; left > 0; w++ {
		b := s.bits(w)
		v := atomic.LoadUint64(b)
		rest := v // what stays in the slab
		first := uintptr(bits.TrailingZeros64(v))
		if run := v >> (first & 63); run&(run+1) == 0 && v != 0 {
			// One run of blocks, as in a slab that was free as a whole.
			j := uintptr(w)*64 + first
			p := s.addr() + mem.Addr(j*size)
			here := min(bits.OnesCount64(run), left)
			rest &^= (1<<uint(here) - 1) << (first & 63)
			left -= here
			for end := slot - slots(here); slot > end; slot -= 8 {
				*word(slot) = uintptr(p)
				if checkLive {
					live |= uint8(state(slabLive(Block(p), c)))
				}
				p += mem.Addr(size)
			}
		} else {
			p0 := s.addr() + mem.Addr(uintptr(w)*64*size)
			for ; rest != 0 && left > 0; rest &= rest - 1 {
				p := p0 + mem.Addr(uintptr(bits.TrailingZeros64(rest))*size)
				*word(slot) = uintptr(p)
				slot -= 8
				if checkLive {
					live |= uint8(state(slabLive(Block(p), c)))
				}
				left--
			}
		}
		if v != rest {
			atomic.AndUint64(b, rest|^v)
		}
	}
	if live != 0 {
		n = dropLive(bottom, c, n)
	}
	*f.top(c) = bottom + slots(n)
	return n
}

// dropLive takes those of the n blocks above the slot bottom that are live out
// of the slots, and returns how many are left. A late double free put them into
// their slab; they stay their holders'.
func dropLive(bottom mem.Addr, c sizeclass.ID, n int) (left int) {
	for i := 1; i <= n; i++ {
		p := *word(bottom + slots(i))
		if isLive(Block(p), c) {
			foundLateEntered(Block(p))
			continue
		}
		left++
		*word(bottom + slots(left)) = p
	}
	return left
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

// refill moves blocks of the leased slab s into class c's empty magazine and
// returns how many. Entered; see carve.
func (f Front) refill(c sizeclass.ID, s slabID) int {
	check.MustBeEntered("refill")
	h := f.head()
	// A magazine that has grown gets as much more as it is larger: with the default a quarter.
	most := policy.Now().Refill
	most = min(max(most, most*int(h.cap[c])/(2*firstCap)), int(h.cap[c]))
	n := f.carve(c, s, min(int(h.refillBatch[c]), most))
	h.refillBatch[c] = uint16(max(firstBatch+1, min(2*int(h.refillBatch[c]), most)))
	h.flushBatch[c] = firstFlush(int(h.cap[c]))
	return n
}

// wordMask is blocks that go back to their slab: bits to be set in one word.
type wordMask struct {
	word mem.Addr // address of the word of the bitmap
	mask uint64
}

// flush gathers bits of up to 2^gatherBits words before it sets them: an atomic
// or costs as much as everything else for five blocks, and blocks freed at
// random return to the same few words again and again. Half of a magazine of
// any class above 64 B, cut from one slab, needs no more (16 words are a slab of
// 64 B blocks).
const gatherBits = 4

// gatherSlot returns the place of a bitmap word among the gathered ones. The
// multiplier spreads neighbouring words as well as neighbouring slabs of any
// order (the golden ratio in 64 bits, Knuth vol. 3, 6.4).
func gatherSlot(word mem.Addr) uint64 {
	return uint64(word>>3) * 0x9E3779B97F4A7C15 >> (64 - gatherBits)
}

// flush gives blocks of class c back to their slabs, with one atomic or for
// many blocks of the same word. A block that was free or live already, or whose slab
// is gone, is a double free that raced past the live state: it is dropped (foundLate).
// Not entered; the caller holds the blocks.
//
// The geometry of a slab is read while still holding a block of it: it cannot
// be given another class then. After the or it may.
func flush(blocks []Block, c sizeclass.ID) {
	check.MustNotBeEntered("flush")
	for _, p := range toSlabs(blocks, c) {
		foundLate(p)
	}
}

// toSlabs is flush, except that it returns the late double frees. They lie at the start of
// blocks: of those that it has looked at, at most as many are late.
func toSlabs(blocks []Block, c sizeclass.ID) (late []Block) {
	late = blocks[:0]
	k := &sizeclass.Classes[c]
	size, recip := uintptr(k.Size), k.Short()
	var gathered [1 << gatherBits]wordMask
	used := uint64(0) // the gathered words, a bit for each
	base, rows := region.base, region.bits.base
	for i := 0; i < len(blocks); {
		// The slab of the next block.
		p := blocks[i]
		page := (mem.Addr(p) - base) >> pageShift
		m := meta(pageNo(page))
		if m.class != c || m.kind != kindTiny && m.kind != kindMid { // the copy of a late double free has outlived the slab
			late = append(late, p)
			i++
			continue
		}
		start := base + page<<pageShift
		if c > sizeclass.NumTiny {
			start = m.start
			page = (start - base) >> pageShift
		}
		// The word, and what of the slab it stands for.
		w := uintptr(uint64(mem.Addr(p)-start) * recip >> sizeclass.ShortBits / 64)
		at := rows + page*maxWords*8 + mem.Addr(w*8)
		reach := min(64*size, pageSize<<k.Order-w*64*size)
		start += mem.Addr(w * 64 * size)
		n := gatherSlot(at)
		g := &gathered[n]
		if g.word != at {
			if g.mask != 0 {
				late = giveBack(*g, k, late)
			}
			used |= 1 << n
			*g = wordMask{word: at}
		}
		// It and those behind it of the same word.
		mask := g.mask
		for ; i < len(blocks); i++ {
			off := mem.Addr(blocks[i]) - start
			if off >= mem.Addr(reach) {
				break
			}
			j := uint64(off) * recip >> sizeclass.ShortBits
			if mask>>(j&63)&1 != 0 || checkLive && state(slabLive(blocks[i], c)) != 0 {
				late = append(late, blocks[i])
				continue
			}
			mask |= 1 << (j & 63)
		}
		g.mask = mask
	}
	for ; used != 0; used &= used - 1 {
		g := gathered[bits.TrailingZeros64(used)%len(gathered)]
		if g.mask == 0 {
			continue // late ones only
		}
		late = giveBack(g, k, late)
	}
	return late
}

// giveBack sets the bits of blocks of class k, which the caller holds, in a word
// of their slab's bitmap. A block whose bit was set already is a late double free: it is
// appended to late.
func giveBack(g wordMask, k *sizeclass.Class, late []Block) []Block {
	at := g.word - region.bits.base
	s, w := slabID(at/(maxWords*8)+1), uint32(at/8%maxWords)
	old := atomic.OrUint64(u64(g.word), g.mask)
	for both := old & g.mask; both != 0; both &= both - 1 {
		late = append(late, Block(s.addr()+mem.Addr(w*64+uint32(bits.TrailingZeros64(both)))*mem.Addr(k.Size)))
	}
	// The or first, then the state: with retire's FULL first, then the words,
	// one of the two sees the other.
	if s.meta().slabState.Load() == slabFull {
		enlist(s)
	}
	if old|g.mask == fullWord(k, w) && s.allFree(k) {
		markEmpty(s.page())
		moreToReclaim()
	}
	return late
}

func timedFlush(blocks []Block, c sizeclass.ID) {
	began := telemetry.Begin()
	flush(blocks, c)
	telemetry.End(telemetry.Flush, began)
}
