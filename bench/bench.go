// Package bench holds the workloads that hakmem is measured with, each written
// once, and runs them over several allocators in the calling process.
//
// A workload is a loop of allocations and frees whose order follows from its
// parameters alone; bench/native/loops.h is its twin in C. For every allocator
// there is a copy of the loop in loops_*_gen.go, so that what is timed is a
// direct call of that allocator. The loop "empty" calls none: its time is what
// the others are compared net of. The copies are made from loops.go, whose loops
// call any allocator through an observer, which hashes, verifies or samples the
// operations.
//
// Measure belongs into a process of its own: peak memory, page faults and the
// state of the garbage collector are the process's.
package bench

//go:generate go run ./gen

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/hakmem/hakmem/bench/result"
)

// A Spec names one measurement.
type Spec struct {
	Workload, Allocator string
	Params              Params
	// Observe says what is to be observed beside the time of the whole; the
	// time then includes what that costs.
	Observe Observation
	// Linger is for how long the process stays idle after everything was freed,
	// before it looks at its memory once more (result.Run.LaterRSS). 0: not at all.
	Linger time.Duration
}

// slotPad is the number of unused slots behind a thread's last: two cache
// lines of 64 bytes, so that threads do not share one.
const slotPad = 16

// worker is one thread of a workload. It belongs to its goroutine, but for the
// fields under "given", which are set before that starts.
type worker struct {
	// given
	id      int
	p       Params
	seed    uint32
	scratch unsafe.Pointer // the empty loop's only block
	obs     *observer      // of the observed loop
	shared  *shared
	partner *worker // for the loops whose threads have a second one: runs from begin to end

	start, stop time.Time
	sink        uintptr // keeps the empty loop's frees from being dropped
	sum         uint64  // keeps reads of blocks from being dropped
}

// shared is what the threads of a workload have in common.
type shared struct {
	gate    gate
	barrier barrier
	idleRSS uint64 // what worker.idle noted, 0 if it was not called
	tape    *tape
	turns   []uint32 // of the tape's slots: the next operation's Seq
	// words or pointers, as the allocator's slots are, hold the blocks that
	// threads hand to each other.
	words    []uintptr
	pointers []unsafe.Pointer
	sizes    []uint32 // mstress: of the blocks; rptest: to draw from
	mail     []uint32 // mstress: the transfers; rptest: the mailboxes
	// xmalloc's batches, by number.
	idle, full stack
}

// gate lets all workers start at once, and keeps their blocks alive until the
// process has been looked at.
type gate struct {
	ready    sync.WaitGroup // workers that have yet to reach begin
	open     atomic.Bool    // begin may return
	finished sync.WaitGroup // workers that have yet to reach end
	looked   chan struct{}  // closed: end may return
}

// idle notes the process's memory before the loops' own blocks: a loop that
// allocates before its clock starts calls it first, in all threads.
func (w *worker) idle() {
	w.shared.barrier.wait()
	if w.id == 0 {
		w.shared.idleRSS = idleUsage().rss
	}
	w.shared.barrier.wait()
}

// begin waits for all workers and starts the clock.
func (w *worker) begin() {
	g := &w.shared.gate
	g.ready.Done()
	for !g.open.Load() { // spins: a wake-up would not reach all at once
		runtime.Gosched()
	}
	if w.obs != nil {
		w.obs.on, w.partner.obs.on = true, true
	}
	w.start = time.Now()
}

// end stops the clock.
func (w *worker) end() {
	w.stop = time.Now()
	if w.obs != nil {
		w.obs.on, w.partner.obs.on = false, false
	}
	w.shared.gate.finished.Done()
	<-w.shared.gate.looked
}

// alone runs f in a new goroutine and waits for it: what a C program does in a
// thread of its own.
func (w *worker) alone(f func()) { beside(f)() }

// A barrier lets n goroutines wait for each other, again and again.
type barrier struct {
	mu      sync.Mutex
	all     sync.Cond // of mu
	n       int
	arrived int
	turn    uint64
}

func newBarrier(n int) barrier { return barrier{n: n} }

// wait returns when all have called it, true to the last of them.
func (b *barrier) wait() (last bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all.L = &b.mu
	if b.arrived++; b.arrived == b.n {
		b.arrived = 0
		b.turn++
		b.all.Broadcast()
		return true
	}
	for turn := b.turn; turn == b.turn; {
		b.all.Wait()
	}
	return false
}

// random is the start of the thread's sequence for step: its seed, spread over
// 64 bits by the finaliser of splitmix64 (Steele, Lea and Flood, 2014). Not 0.
func (w *worker) random() uint64 {
	x := uint64(w.seed) + 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return max(x^x>>31, 1)
}

// touched returns n slots whose pages are there.
func touched[T uintptr | unsafe.Pointer | uint32](n int) []T {
	s := make([]T, n)
	clear(s)
	return s
}

// step is the next of Marsaglia's xorshift64 sequence (13, 7, 17).
func step(x uint64) uint64 {
	x ^= x << 13
	x ^= x >> 7
	return x ^ x<<17
}

// below maps a random number to 0 … n-1 by its upper half; n is below 1<<32.
func below(x, n uint64) uint64 { return x >> 32 * n >> 32 }

// fillWords writes v into the n/8 words at p; sumWords adds them up.
func fillWords(p unsafe.Pointer, n uintptr, v uint64) {
	for off := uintptr(0); off < n&^7; off += 8 {
		*(*uint64)(unsafe.Add(p, off)) = v
	}
}

func sumWords(p unsafe.Pointer, n uintptr) (sum uint64) {
	for off := uintptr(0); off < n&^7; off += 8 {
		sum += *(*uint64)(unsafe.Add(p, off))
	}
	return sum
}

// Measure runs one workload over one allocator and returns what it took. It is
// to be called once in a process, but for verification (ObserveVerify), which
// leaves nothing of hakmem's behind.
func Measure(s Spec) (result.Run, error) {
	workload, err := FindWorkload(s.Workload)
	if err != nil {
		return result.Run{}, err
	}
	p := s.Params
	if err := workload.Validate(p); err != nil {
		return result.Run{}, err
	}
	a, err := find(s.Allocator, p.Threads > 1 || loopInfo[workload.Loop].pairs)
	if err != nil {
		return result.Run{}, err
	}
	common := &shared{barrier: newBarrier(p.Threads)}
	common.gate.looked = make(chan struct{})
	info := loopInfo[workload.Loop]
	if info.prepare != nil {
		if err := info.prepare(&p, common); err != nil {
			return result.Run{}, err
		}
		debug.FreeOSMemory() // what preparing left behind is not the loop's to use
	}
	loops := a.loops
	if s.Observe != "" {
		if a.calls == nil {
			return result.Run{}, fmt.Errorf("the loop %q allocates nothing that could be observed", a.name)
		}
		loops = loopsObserved
	}
	loop := loops[workload.Loop]

	scratch := p.Max
	if info.scratch != nil {
		scratch = info.scratch(p)
	}
	var check *checker
	if s.Observe == ObserveVerify {
		check = newChecker()
	}
	g := &common.gate
	g.ready.Add(p.Threads)
	g.finished.Add(p.Threads)
	var done sync.WaitGroup
	workers := make([]*worker, p.Threads)
	for i := range workers {
		w := &worker{id: i, p: p, seed: p.threadSeed(i), shared: common}
		w.partner = &worker{id: i, p: p, seed: w.seed, shared: common}
		if a.name == Empty { // a buffer of its own: a shared one would bounce
			own := make([]byte, scratch+2*64)
			clear(own) // its pages are not the loop's to touch
			w.scratch = unsafe.Pointer(unsafe.SliceData(own))
			w.partner.scratch = w.scratch
		}
		if s.Observe != "" {
			w.obs = newObserver(a.calls(), s.Observe, p.threadSeed(i), check)
			w.partner.obs = newObserver(a.calls(), s.Observe, p.threadSeed(i), check)
		}
		workers[i] = w
		done.Go(func() { loop(w) })
	}
	g.ready.Wait()
	before := usage()
	if common.idleRSS == 0 {
		before = idleUsage()
	}
	begin := mark(markBegin)
	g.open.Store(true)
	g.finished.Wait()
	stop := mark(markEnd)
	after := usage()
	close(g.looked)
	done.Wait()
	end := usage()
	for _, w := range workers {
		w.obs.close()
		w.partner.obs.close()
	}

	first, last := workers[0].start, workers[0].stop
	for _, w := range workers[1:] {
		if w.start.Before(first) {
			first = w.start
		}
		if w.stop.After(last) {
			last = w.stop
		}
	}
	r := result.Run{
		Seconds: max(last.Sub(first).Seconds(), 1e-9), // a coarse clock may say 0
		// Linux notes a peak only now and then: what was seen counts as well.
		PeakRSS: max(common.idleRSS, before.rss, before.peak, after.peak, end.peak), IdleRSS: cmp.Or(common.idleRSS, before.rss), EndRSS: end.rss,
		MinorFaults: after.faults - before.faults,
		Begin:       begin, End: stop,
		Version: a.version(),
	}
	r.OpsPerS = float64(workload.Ops(p)) / r.Seconds
	if workload.Loop == "tape" {
		r.OpsPerS = float64(common.tape.timed(p.Rounds)) / r.Seconds
	}
	r.NsPerOp = 1e9 / r.OpsPerS
	if s.Observe != "" {
		if r.Observed, err = observed(workers, s.Observe, check); err != nil {
			return r, fmt.Errorf("%s over %s: %w", s.Workload, s.Allocator, err)
		}
	}
	runtime.KeepAlive(workers)
	if s.Linger > 0 {
		time.Sleep(s.Linger)
		r.LaterRSS = usage().rss
	}
	return r, nil
}
