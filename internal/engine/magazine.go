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

// This file moves blocks between slabs and magazines. A magazine is owned by the goroutine that is
// entered with its front; a slab's bitmap is atomic.

// carve moves free blocks of the leased slab s into class c's empty magazine, at most want of them,
// and returns how many. Entered. The caller's front holds s's lease, so nobody else clears bits.
//
// Blocks go in by descending address, so that pops return them by ascending address.
func (f Front) carve(c sizeclass.ID, s slabID, want int) (n int) {
	check.MustBeEntered("carve")
	k := &sizeclass.Classes[c]
	m := s.meta()
	low, ok := s.nextFree(k)
	if !ok {
		return 0
	}
	m.setLowWord(low)
	if m.holes() != 0 {
		if want = s.fill(c, want); want == 0 {
			return 0 // the hard limit has no room
		}
	}
	// Count first. Then slots are filled from the top one down, by ascending address. Until a word
	// is loaded for the second time, bits can only be added to it.
	for w := low; w < k.Words && n < want; w++ {
		n += bits.OnesCount64(atomic.LoadUint64(s.bits(w)))
	}
	n = min(n, want)
	bottom := f.sentinel(c)
	slot := bottom + slots(n)
	size := uintptr(k.Size)
	live := uint8(0) // all the blocks' live bytes, combined
	for w, left := low, n; left > 0; w++ {
		b := s.bits(w)
		v := atomic.LoadUint64(b)
		rest := v // what stays in the slab
		first := uintptr(bits.TrailingZeros64(v))
		if run := v >> (first & 63); run&(run+1) == 0 && v != 0 {
			// The free blocks are one run, as in a slab that was free as a whole.
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

// dropLive removes from the n slots above the slot bottom those blocks that are live, and returns
// how many blocks are left. A late double free put them into their slab; they belong to the
// goroutines that hold them.
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

// refill moves blocks of the leased slab s into class c's empty magazine and returns how many.
// Entered; see carve.
func (f Front) refill(c sizeclass.ID, s slabID) int {
	check.MustBeEntered("refill")
	h := f.head()
	// A magazine that has grown gets more, in proportion to its capacity: with the default setting
	// a quarter of it.
	turn := batchTurn(batchOf(c))
	most := turn.times(policy.Now().Refill)
	most = min(max(most, most*int(h.cap[c])/(2*firstCap)), int(h.cap[c]))
	began := h.batches.begins(turn)
	n := f.carve(c, s, min(int(h.refillBatch[c]), most))
	h.batches.ends(batchOf(c), turn, began, n)
	f.head().wanted(c, n)
	// At least firstBatch+1, by which growMagazine knows that there was a refill.
	h.refillBatch[c] = uint16(max(firstBatch+1, min(2*int(h.refillBatch[c]), most)))
	h.flushBatch[c] = firstFlush(int(h.cap[c]))
	return n
}

// wordMask is blocks that go back to their slab: bits to be set in one word.
type wordMask struct {
	word mem.Addr // address of the word of the bitmap
	mask uint64
}

// gatherBits is log2 of the number of words whose bits flush gathers before it sets them. An atomic
// OR costs as much as everything else for five blocks, and blocks freed at random return to the
// same few words again and again. Half of a magazine of any class above 64 B, cut from one slab,
// needs no more words than these. (A slab of 64 B blocks has 16 words.)
const gatherBits = 4

// gatherSlot returns the place of a bitmap word among the gathered words. The multiplier is the
// golden ratio in 64 bits (Knuth vol. 3, 6.4). It spreads neighbouring words, and neighbouring
// slabs of any order, too.
func gatherSlot(word mem.Addr) uint64 {
	return uint64(word>>3) * 0x9E3779B97F4A7C15 >> (64 - gatherBits)
}

// flush gives blocks of class c back to their slabs, with one atomic OR for many blocks of the same
// word. If a block was free or live already, or its slab is gone, it is a double free that raced
// past the live state: the block is dropped (foundLate). Not entered; the caller holds the blocks.
//
// The geometry of a slab is read while a block of the slab is still held: until then the slab
// cannot be given another class. After the OR it can.
func flush(blocks []Block, c sizeclass.ID) {
	check.MustNotBeEntered("flush")
	for _, p := range toSlabs(blocks, c) {
		foundLate(p)
	}
}

// toSlabs is flush, except that it returns the late double frees. It puts them at the start of
// blocks, over blocks that it has already looked at.
func toSlabs(blocks []Block, c sizeclass.ID) (late []Block) {
	late = blocks[:0]
	k := &sizeclass.Classes[c]
	size, recip := uintptr(k.Size), k.Short()
	var gathered [1 << gatherBits]wordMask
	used := uint64(0) // the gathered words, a bit for each
	base, rows := region.base, region.bits.base
	for i := 0; i < len(blocks); {
		// Find the slab of the next block.
		p := blocks[i]
		page := (mem.Addr(p) - base) >> pageShift
		m := meta(pageNo(page))
		// The copy of a late double free has outlived the slab.
		if m.class != c || m.kind != kindTiny && m.kind != kindMid {
			late = append(late, p)
			i++
			continue
		}
		start := base + page<<pageShift
		if c > sizeclass.NumTiny {
			start = m.start
			page = (start - base) >> pageShift
		}
		// Find the word, and the part of the slab that it stands for.
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
		// Gather the bits of this block and of those behind it that have the same word.
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
			continue // only late ones
		}
		late = giveBack(g, k, late)
	}
	return late
}

// giveBack sets the bits of blocks of class k, which the caller holds, in a word of their slab's
// bitmap. A block whose bit was set already is a late double free, and is appended to late.
func giveBack(g wordMask, k *sizeclass.Class, late []Block) []Block {
	at := g.word - region.bits.base
	s, w := slabID(at/(maxWords*8)+1), uint32(at/8%maxWords)
	old := atomic.OrUint64(u64(g.word), g.mask)
	for both := old & g.mask; both != 0; both &= both - 1 {
		late = append(late, Block(s.addr()+mem.Addr(w*64+uint32(bits.TrailingZeros64(both)))*mem.Addr(k.Size)))
	}
	// The OR comes first, then the look at the state. retire stores FULL first and then looks at
	// the words. So one of the two sees the other.
	if s.meta().slabState.Load() == slabFull {
		enlist(s)
	}
	if old|g.mask == fullWord(k, w) && s.allFree(k) {
		markEmpty(s.page())
		moreToReclaim()
	}
	return late
}

// timedFlush is flush, counted among the slow paths' phases if HAKMEM_TIMING is on.
func timedFlush(blocks []Block, c sizeclass.ID) {
	began := telemetry.Begin()
	flush(blocks, c)
	telemetry.End(telemetry.Flush, began)
}
