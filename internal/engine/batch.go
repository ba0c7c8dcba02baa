package engine

import (
	"math/bits"
	"sync/atomic"
	"time"

	"github.com/hakmem/hakmem/internal/learn"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/policy"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// This file holds the sizes of batches that are learnt with HAKMEM_BATCH=auto: how many blocks a refill
// takes at most, and how many superslabs a search for an EMPTY slab looks at. A factor of the setting is in
// force for a window (learn.Batch); batchwindow.go sees what it cost. One in batchSample batches is timed.
//
// Of the searches of slow paths this is the one with a bound that can be turned. Shared slots are two cache
// lines for a class, and the partial set finds its slab by a bit scan of two levels.

// batchKind is a kind of batch: a group of classes whose refills share a factor, or searches. Three groups
// are enough: within each a block takes alike, and each has blocks for thousands of samples.
type batchKind uint8

const (
	batchTiny  batchKind = iota // refills of blocks up to 1 KiB
	batchMid                    // up to 8 KiB
	batchWide                   // up to 32 KiB
	batchScan                   // searches for a slab
	batchKinds = iota
)

const _ = uint(batchKinds-learn.BatchKinds) + uint(learn.BatchKinds-batchKinds) // policy files have the kinds by their numbers

// batchOf returns the group of the slab class c.
func batchOf(c sizeclass.ID) batchKind {
	switch {
	case c <= sizeclass.NumTiny:
		return batchTiny
	case c <= sizeclass.NumTiny+3*8: // three doublings, of eight classes each
		return batchMid
	}
	return batchWide
}

// turnWord is the window of a kind of batch and the arm in force in it: window<<2 | arm. 0 says that nothing
// is learnt, and the factor is 1.
type turnWord uint32

// turnsNow are the windows that go on, by kind. batchwindow.go stores them.
var turnsNow [batchKinds]atomic.Uint32

// batchTurn returns the window of a kind of batch. Any goroutine, also entered.
func batchTurn(k batchKind) turnWord {
	if !learnsBatch() {
		return 0
	}
	return turnWord(turnsNow[k].Load())
}

// learnsBatch reports whether the sizes of batches are learnt. Any goroutine, also entered.
func learnsBatch() bool { return policy.Now().Batch == policy.BatchAuto && learns() }

// times returns n times the factor in force, at least 1.
func (w turnWord) times(n int) int {
	if w == 0 {
		return n
	}
	return max(int(float64(n)*learn.BatchFactors[w&3]), 1)
}

const (
	// batchSample is one in how many batches is timed, on average. Two looks at the clock take some 100 ns, a
	// refill 300, so that it costs 1 % of refills.
	batchSample = 1 << (batchBits - 1)
	batchBits   = 6
	// mostBatch is the room of the largest magazine (asserted in front.go).
	mostBatch = 1024
	// mostNanos is the most that a sample counts: a refill that takes longer was interrupted.
	mostNanos = 100_000
	// A batchSum has nanoseconds below sumBlocks bits, then blocks, then how many batches there were. It
	// takes no more of them than its last bits have room for. So many of mostNanos, and of the largest
	// magazine (mostBatch), have room below.
	sumBlocks, sumBatches, mostSum = 30, 52, 1<<12 - 1
)

const (
	_ = uint(1<<sumBlocks - mostSum*mostNanos)
	_ = uint(1<<(sumBatches-sumBlocks) - mostSum*mostBatch)
)

// batchSum is what the samples of one window took. The one who adds owns it; anybody may read it.
type batchSum struct {
	turn atomic.Uint32 // the turnWord of the window
	sum  atomic.Uint64
}

// add counts a batch of n blocks.
func (s *batchSum) add(turn turnWord, took time.Duration, n int) {
	sample := 1<<sumBatches | uint64(n)<<sumBlocks | uint64(min(max(took, 0), mostNanos))
	old := s.sum.Load()
	switch {
	case s.turn.Load() != uint32(turn):
		s.sum.Store(0) // a reader finds nothing, or what belongs to the window that it finds
		s.turn.Store(uint32(turn))
		s.sum.Store(sample)
	case old>>sumBatches < mostSum:
		s.sum.Store(old + sample)
	}
}

// batchCount is what several sums have together.
type batchCount struct{ nanos, blocks, batches float64 }

// addTo adds what s has of the window to n, if it has something.
func (s *batchSum) addTo(n *batchCount, turn turnWord) {
	if s.turn.Load() != uint32(turn) {
		return
	}
	v := s.sum.Load()
	n.nanos += float64(v & (1<<sumBlocks - 1))
	n.blocks += float64(v >> sumBlocks & (1<<(sumBatches-sumBlocks) - 1))
	n.batches += float64(v >> sumBatches)
}

// batches is the part of a front that has the samples of its refills. It is owned as the front is; the
// sums are also read by batchwindow.go.
type batches struct {
	// wait is how many refills go by until the next sample, and taken how many were samples. Waits are
	// shorter than 2*batchSample, and spread by multiples of the golden ratio: programs allocate in turns, and a
	// fixed step would see the same refill of each turn.
	wait, taken uint32
	sums        [batchScan]batchSum
}

// begins returns the time if the refill that begins now is to be timed, else 0. Entered.
func (b *batches) begins(turn turnWord) (began time.Duration) {
	if turn == 0 || b.wait > 0 {
		return 0
	}
	return startTime()
}

// ends counts a refill of n blocks that begins has seen. One that found its slab without free blocks does
// not count. Entered.
func (b *batches) ends(k batchKind, turn turnWord, began time.Duration, n int) {
	if turn == 0 || n == 0 {
		return
	}
	if began == 0 {
		b.wait--
		return
	}
	b.sums[k].add(turn, elapsed()-began, n)
	b.taken++
	b.wait = b.taken * 0x9E3779B1 >> (32 - batchBits)
}

// searches has the samples of searches for a slab, of all goroutines: what they took in nanoseconds, and in
// bytes that have to be faulted in, and how many pages the slabs had. All since the last window.
var searches struct {
	seen                atomic.Uint64
	nanos, fresh, pages atomic.Int64
}

// searchBegins returns the time if the search that begins now is to be timed, else 0. searchEnds counts what
// it took and found, unless another window has begun meanwhile.
func searchBegins(turn turnWord) (began time.Duration) {
	if turn == 0 || searches.seen.Add(1)%batchSample != 0 {
		return 0
	}
	return startTime()
}

func searchEnds(turn turnWord, began time.Duration, found pageCount, fresh mem.Bytes) {
	if began == 0 || batchTurn(batchScan) != turn {
		return
	}
	searches.nanos.Add(int64(min(max(elapsed()-began, 0), mostSearch)))
	searches.fresh.Add(int64(fresh))
	searches.pages.Add(int64(found))
}

// mostSearch is the most nanoseconds that a search counts: one that makes a system call may take some 20 µs
// for each of the pages that it commits, and one that takes longer than this was interrupted.
const mostSearch = 1_000_000

const _ = uint(4 - len(learn.BatchFactors)) // an arm has two bits of a turnWord

// nextTurn returns the turnWord of the window after old, with an arm. It is not 0.
func nextTurn(old turnWord, arm int) turnWord {
	w := old>>2 + 1
	if bits.Len32(uint32(w)) > 30 {
		w = 1
	}
	return w<<2 | turnWord(arm)
}
