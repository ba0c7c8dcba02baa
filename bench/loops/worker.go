package loops

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// The threads of a workload, what they share, and how they start and stop together. A worker
// belongs to its goroutine; a gate and a barrier are for all of them.

// slotPad is the number of unused slots behind a thread's last one: two cache lines of 64 bytes, so
// that threads do not share one.
const slotPad = 16

// worker is one thread of a workload. It belongs to its goroutine, except for the fields under
// "given", which are set before the goroutine starts.
type worker struct {
	// given
	id      int
	p       Params
	seed    uint32
	scratch unsafe.Pointer // the empty loop's only block
	obs     *observer      // of the observed loop
	shared  *shared
	partner *worker // for loops whose threads have a second one; it runs from begin to end

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
	laps    laps
	linger  time.Duration // Spec.Linger
	trim    func()        // allocator.trim
	turns   []uint32      // of the tape's slots: the next operation's Seq
	// words or pointers, whichever type the allocator's slots have, hold the blocks that threads
	// hand to each other.
	words    []uintptr
	pointers []unsafe.Pointer
	sizes    []uint32 // mstress: of the blocks; rptest: to draw from
	mail     []uint32 // mstress: the transfers; rptest: the mailboxes
	// xmalloc's batches, by number.
	idle, full stack
}

// gate lets all workers start at once, and keeps their blocks alive until somebody has looked at
// the process.
type gate struct {
	ready    sync.WaitGroup // workers that have yet to reach begin
	open     atomic.Bool    // begin may return
	finished sync.WaitGroup // workers that have yet to reach end
	looked   chan struct{}  // closed: end may return
}

// idle notes the process's memory before the loops' own blocks are allocated. A loop that allocates
// before its clock starts calls idle first, in all threads.
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
	for !g.open.Load() { // spins: a wake-up would not reach all of them at once
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

// alone runs f in a new goroutine and waits for it: the counterpart of a thread of its own in a C
// program.
func (w *worker) alone(f func()) { concurrently(f)() }

// A barrier lets n goroutines wait for each other, again and again.
type barrier struct {
	mu      sync.Mutex
	all     sync.Cond // of mu
	n       int
	arrived int
	turn    uint64
}

func newBarrier(n int) barrier { return barrier{n: n} }

// wait returns when all goroutines have called it. It returns true to the last of them.
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

// random is the start of the thread's sequence for step: its seed, spread over 64 bits by the
// finaliser of splitmix64 (Steele, Lea and Flood, 2014). Not 0.
func (w *worker) random() uint64 {
	x := uint64(w.seed) + 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return max(x^x>>31, 1)
}

// touched returns n slots whose OS pages have been touched.
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
