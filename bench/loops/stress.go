package loops

import (
	"fmt"
	"strconv"
	"sync"
)

// The fixed numbers and helpers of the loops mstress, xmalloc, rptest, frag and phase, and the
// stack through which xmalloc's threads hand batches over. A stack is guarded by its mu.

// The numbers of mstress, from mimalloc-bench.
const (
	mstressTransfers = 1000            // slots through which the threads exchange blocks
	mstressGrow      = 100_000         // entries by which a thread's array grows
	mstressLargest   = 64 * 8 * 10_000 // bytes of a block, by mstressSize
)

// mstressAllocs is the number of blocks that thread i allocates in a round. It does not include the
// blocks that the thread retains, which are half as many.
func mstressAllocs(p Params, i int) uint64 { return 100 * p.WS * uint64(i%8+1) }

// mstressRecord is the number of thread i's first record. Record 0 stands for none, and two areas
// hold the transfers that outlive a round.
func mstressRecord(p Params, i int) uint64 {
	n := uint64(1 + 2*mstressTransfers)
	for k := range i {
		a := mstressAllocs(p, k)
		n += a + a/2
	}
	return n
}

// mstressOps is the number of operations of all threads: every block is freed before the clock
// stops.
func mstressOps(p Params) (ops uint64) {
	for i := range p.Threads {
		a := mstressAllocs(p, i)
		growths := (a + mstressGrow - 1) / mstressGrow
		ops += p.Rounds * (2*(a+a/2) + growths + 1)
	}
	return ops
}

// mstressCheck keeps the records, of 12 bytes each, within 6 GiB; their numbers have 32 bits.
func mstressCheck(p Params) error {
	const most = 1 << 29
	if mstressRecord(p, p.Threads) > most {
		return &ParamError{"ws", strconv.FormatUint(p.WS, 10), fmt.Sprintf("use less: thread i allocates 150*(i%%8+1) times as many blocks, and all together may %d", most)}
	}
	return nil
}

// mstressScratch is the size of the largest block or array.
func mstressScratch(p Params) uint64 {
	return max(mstressLargest, 8*(mstressAllocs(p, 7)+mstressGrow))
}

// mstressSize draws the size of a block: a power of two of words. 1 in 100 sizes is multiplied by
// 100; of those, 10 in 100 are multiplied by 1000 instead, and 1 in 100 by 10000.
func mstressSize(x, shifts uint64) (uint64, uintptr) {
	x = step(x)
	size := uintptr(8) << below(x, shifts)
	x = step(x)
	if below(x, 100) == 0 {
		x = step(x)
		switch v := below(x, 100); {
		case v < 1:
			size *= 10_000
		case v < 11:
			size *= 1000
		default:
			size *= 100
		}
	}
	return x, size
}

// The numbers of xmalloc-test, from mimalloc-bench. At most xmallocFilled bytes of a block are
// written.
const (
	xmallocBatch   = 4096 // blocks
	xmallocBatches = 100  // of all threads, queued or not
	xmallocFilled  = 128
)

var xmallocSizes = []uint32{8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048}

// xmallocTable lists the sizes to draw from.
func xmallocTable(p Params) []uint32 {
	if p.Max != 0 {
		return []uint32{uint32(p.Max)}
	}
	return xmallocSizes
}

// The numbers of rptest that are not parameters, from rpmalloc-benchmark.
const (
	rptestSizes = 2000 // in the table
	rptestCross = 2    // a batch is handed on in one of so many rounds
)

// rptestOps is the number of operations of one thread: every batch that was handed on is freed
// before the clock stops.
func rptestOps(p Params) uint64 { return 2 * p.Iters * (p.Rounds + p.Rounds/rptestCross) }

// rptestCheck keeps a loop from freeing a slot twice.
func rptestCheck(p Params) error {
	if p.Iters > p.WS {
		return &ParamError{"iters", strconv.FormatUint(p.Iters, 10), fmt.Sprintf("use a number not above --ws, which is %d", p.WS)}
	}
	return nil
}

// rptestPrimes are the threads' steps through the sizes and the slots. Any primes will do. A number
// of slots below 1<<32 has at most four factors above 100, so at least one of five primes is not a
// factor.
var rptestPrimes = [...]uint64{157, 211, 263, 307, 379}

// rptestStride is thread i's step through n places; the step reaches all of them.
func rptestStride(n uint64, i int) uint64 {
	for n%rptestPrimes[i%len(rptestPrimes)] == 0 {
		i++
	}
	return rptestPrimes[i%len(rptestPrimes)] % n
}

// rptestTable draws the sizes. Each is the smaller of two uniform numbers, so that the frequency of
// a size falls linearly as the size grows.
func rptestTable(w *worker) []uint32 {
	sizes := make([]uint32, rptestSizes)
	x, span := w.random(), w.p.Max-w.p.Min+1
	for i := range sizes {
		x = step(x)
		size := below(x, span)
		x = step(x)
		sizes[i] = uint32(w.p.Min + min(size, below(x, span)))
	}
	return sizes
}

// rptestDraw takes the sizes of a table, pace by pace.
type rptestDraw struct {
	sizes    *[rptestSizes]uint32
	at, pace uint64
}

func newRptestDraw(w *worker) *rptestDraw {
	return &rptestDraw{(*[rptestSizes]uint32)(w.shared.sizes), below(w.random(), rptestSizes), rptestStride(rptestSizes, w.id)}
}

// wrap is i modulo n, for i below 2n.
func wrap(i, n uint64) uint64 {
	if i >= n {
		i -= n
	}
	return i
}

// fragSizes are frag's block sizes in bytes. Each is a size class of its own in glibc, jemalloc,
// mimalloc and tcmalloc, and none is a multiple of the one before it.
var fragSizes = [...]uint64{64, 96, 160, 256}

// fragOps is the number of operations of one thread, computed with frag's own arithmetic.
func fragOps(p Params) (ops uint64) {
	goal := p.WS * mib
	var live [len(fragSizes)]uint64
	for turn, size := range fragSizes {
		held := uint64(0)
		for g := range turn {
			ops += live[g] - live[g]/10
			live[g] /= 10
			held += live[g] * fragSizes[g]
		}
		live[turn] = (goal - held) / size
		ops += live[turn]
	}
	return ops
}

// fragCheck keeps the number of blocks below 1<<32, as the function below requires.
func fragCheck(p Params) error {
	const most = 1 << 17 // MiB
	if p.WS > most {
		return &ParamError{"ws", strconv.FormatUint(p.WS, 10), fmt.Sprintf("use a number of MiB not above %d", most)}
	}
	return nil
}

// phaseFactor is the factor between phase's large and small blocks.
const phaseFactor = 64

func phaseCheck(p Params) error {
	if p.Max > MaxSize/phaseFactor {
		return &ParamError{"max", strconv.FormatUint(p.Max, 10), fmt.Sprintf("use a size not above %d", MaxSize/phaseFactor)}
	}
	return nil
}

// A stack of numbers, shared by several goroutines.
type stack struct {
	mu    sync.Mutex
	some  sync.Cond // of mu: the stack has a number again
	items []uint32
}

// init makes room for n numbers and puts the numbers below filled in.
func (s *stack) init(n, filled uint32) {
	s.some.L = &s.mu
	s.items = make([]uint32, 0, n)
	for i := range filled {
		s.items = append(s.items, i)
	}
}

// take returns the number that was put in last. It waits until there is one.
func (s *stack) take() uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.items) == 0 {
		s.some.Wait()
	}
	i := s.items[len(s.items)-1]
	s.items = s.items[:len(s.items)-1]
	return i
}

func (s *stack) put(i uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.items = append(s.items, i)
	s.some.Signal()
}

// concurrently runs f in a new goroutine, for which join waits.
func concurrently(f func()) (join func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	return func() { <-done }
}
