package loops

import (
	"math/bits"
	"unsafe"
)

// How the loops draw sizes and slots, and their fixed numbers. This file is the twin of the
// functions of the same names in ../native/common.h.

// word is the size of a slot.
const word = unsafe.Sizeof(uintptr(0))

// paretoShares are shares in millionths. 80 % of the draws go to 20 % of the slots. Within each of
// these two parts 80 % of its draws again go to 20 % of its slots, and so on, six times. Class k
// holds the slots that were k times in the larger part. Of the draws it gets paretoShares[k], that
// is (6 over k) 0.8^(6-k) 0.2^k; of the slots it has paretoShares[6-k].
var paretoShares = [...]uint64{262144, 393216, 245760, 81920, 15360, 1536, 64}

// pareto draws one of n slots, the first ones most often.
type pareto struct {
	// last is, for each class except the last one, the greatest 32-bit number that is drawn for it
	// or for a class before it.
	last [len(paretoShares) - 1]uint64
	// class has a power of two entries, so that a mask bounds the index.
	class [8]struct{ first, count uint64 }
}

func newPareto(n uint64) *pareto {
	t := &pareto{}
	draws, slots := uint64(0), uint64(0)
	for k := range paretoShares {
		draws += paretoShares[k]
		if k < len(t.last) {
			t.last[k] = draws<<32/1e6 - 1
		}
		first := slots * n / 1e6
		slots += paretoShares[len(paretoShares)-1-k]
		t.class[k].first = min(first, n-1)
		t.class[k].count = max(slots*n/1e6-first, 1) // with few slots, one for each class
	}
	return t
}

// slot maps a random number to a slot: its upper half decides the class, its lower half the slot in
// the class. No branch depends on the number, because no such branch could be predicted.
func (t *pareto) slot(x uint64) uint64 {
	k := uint64(0)
	for i := range t.last {
		k += (t.last[i] - x>>32) >> 63 // 1 if x>>32 is greater
	}
	c := &t.class[k&7]
	return c.first + uint64(uint32(x))*c.count>>32
}

// topLevel stands for the last of the levels low … 2*low-1, 2*low … 4*low-1, and so on, that begin
// at or below high: it is a number with that level's one bit.
func topLevel(low, high uint64) uint64 { return 1 << (bits.Len64(high/low) - 1) }

// levelSize maps a random number to a size. Each level is half as likely as the level before it,
// except for the last one, at top, which is as likely as its predecessor. Within a level all sizes
// are equally likely. A size above high becomes high.
func levelSize(x, low, high, top uint64) uintptr {
	from := low << (bits.TrailingZeros64(x|top) & 63)
	return uintptr(min(from+below(x, from), high))
}

// sh6Repeats is the number of blocks of a size that sh6bench allocates in a row.
func sh6Repeats(size uint64) uint64 {
	switch {
	case size >= 1000:
		return 10
	case size >= 100:
		return 50
	}
	return 250
}

// sh6Mallocs is the number of blocks of a round of sh6bench.
func sh6Mallocs(p Params) (n uint64) {
	for first := uint64(1); first <= p.Max; first += first/2 + 1 {
		for size := first; size != 0; size /= 2 {
			n += sh6Repeats(size)
		}
	}
	return n
}

// sh6Buffer is the state of sh6bench's slots. They are filled in order, except for the saved ones,
// which are still full from the previous pass. The state is in memory because the loops have more
// variables than there are registers.
type sh6Buffer struct {
	limit       uint64 // the slot before which the filling stops
	saved, past uint64 // the first saved slot, and the first behind them
	hand        uint64 // sh8bench's slot of the table for the next block
}

func newSh6Buffer(ws uint64) sh6Buffer { return sh6Buffer{limit: ws, saved: ws, past: ws} }

// skip reports whether the filling stopped before saved slots and must continue behind them.
func (b *sh6Buffer) skip(ws uint64) bool {
	if b.limit != b.saved || b.past == ws {
		return false
	}
	b.limit = ws
	return true
}

// save makes the next fifth of the slots the saved one; the first fifth follows the last.
func (b *sh6Buffer) save(ws uint64) {
	b.saved = b.past
	if b.saved+ws/5 > ws || b.saved == ws {
		b.saved = 0
	}
	b.past = b.saved + ws/5
}

// first begins to fill the slots that are not saved, and returns the first of them.
func (b *sh6Buffer) first(ws uint64) uint64 {
	if b.saved == 0 {
		b.limit = ws
		return b.past
	}
	b.limit = b.saved
	return 0
}

// Numbers of sh8bench: one in sh8Every blocks goes through the table of sh8Table slots that the
// threads share. The description gives neither number.
const (
	sh8Every = 4
	sh8Table = 1000 // as mstress and mleak
)

// cacheWrites is how often each thread writes to an object of cache-scratch and cache-thrash: the
// threads divide the writes among them.
func cacheWrites(p *Params) uint64 { return max(p.Iters/uint64(p.Threads), 1) }

// writable reports whether the loops may write anything into their blocks; verified blocks hold the
// checker's pattern.
func writable(w *worker) bool { return w.obs == nil || w.obs.check == nil }

// bump adds 1 to the byte at p, n times.
//
//go:noinline
func bump(p unsafe.Pointer, n uint64) {
	for b := (*byte)(p); n != 0; n-- {
		*b++
	}
}

// simpleCounts are the numbers of blocks of glibc-simple's batches, from that benchmark.
var simpleCounts = [...]uint64{25, 100, 400, 1600}

// simpleBatches is the number of batches of count blocks: Iters blocks, rounded up.
func simpleBatches(p *Params, count uint64) uint64 { return (p.Iters + count - 1) / count }

func simpleMallocs(p Params) (n uint64) {
	for size := p.Min; size <= p.Max; size *= 2 {
		for _, count := range simpleCounts {
			n += simpleBatches(&p, count) * count
		}
	}
	return n
}

// threadSizes is the number of sizes that each thread of glibc-thread chooses from, from that
// benchmark.
const threadSizes = 8000

// inverseSquares returns that many sizes, and the random number after them. The probability of each
// size is proportional to the inverse of its square.
func inverseSquares(x, low, high uint64) (*[threadSizes]uint32, uint64) {
	sizes := &[threadSizes]uint32{}
	least, most := 1/float64(low), 1/float64(high)
	for i := range sizes {
		x = step(x)
		// The conversion keeps compilers from fusing the operations: a fused operation would round
		// differently from the twin.
		inverse := float64((most-least)*(float64(x>>32)/(1<<32))) + least
		sizes[i] = uint32(min(max(uint64(1/inverse), low), high))
	}
	return sizes, x
}

// Numbers of mleak, from that benchmark.
const (
	leakThreads = 10  // that each round starts
	leakSize    = 128 // bytes: 16 words of 8
)
