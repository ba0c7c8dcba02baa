// Package bench holds the workloads that hakmem is measured with, each written
// once, and runs them over several allocators in the calling process.
//
// A workload is a loop of allocations and frees whose order follows from its
// parameters alone; bench/native/driver.c is its twin in C. For every allocator
// there is a loop of its own in loops_gen.go, so that what is timed is a direct
// call of that allocator. The loop "empty" calls none: its time is what the
// others are compared net of.
//
// Measure belongs into a process of its own: peak memory, page faults and the
// state of the garbage collector are the process's.
package bench

//go:generate go run ./gen

import (
	"fmt"
	"math"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// The workloads.
const (
	// RandomMixed frees or fills random slots with blocks of random size.
	RandomMixed = "random_mixed"
	// TinyHot allocates a batch of equal small blocks and frees it in reverse.
	TinyHot = "tiny_hot"
)

// Workloads lists the workloads in the order in which they are documented.
var Workloads = []string{RandomMixed, TinyHot}

// HotBatch and HotSize are tiny_hot's number of blocks in a batch and their
// size in bytes: the original hakmem's benchmark of that name.
const (
	HotBatch = 100
	HotSize  = 32
)

// Params are the parameters of a workload. TinyHot uses Iters and Threads only.
type Params struct {
	// Min and Max bound the size of a block, in bytes, both included.
	Min, Max uint64
	// WS is the number of slots of each thread: about half of them are
	// occupied at any time.
	WS uint64
	// Iters is the number of operations of each thread. For RandomMixed a step
	// is one; for TinyHot an allocation and a free are one each, and Iters is
	// rounded up to whole batches.
	Iters uint64
	// Threads is the number of goroutines, each with slots of its own.
	Threads int
	// Seed starts the random sequence; thread i starts from Seed+i. Not 0.
	Seed uint32
}

// Default returns the parameters in force where nothing else is said: the
// original hakmem's, with 20 million operations so that a run takes some tenths
// of a second.
func Default() Params {
	return Params{Min: 16, Max: 1024, WS: 400, Iters: 20_000_000, Threads: 1, Seed: 1}
}

// Bounds of the parameters. Sizes and slots are drawn as a 32-bit number times
// the range; these keep the product, and the memory asked for, in hand.
const (
	MaxSize    = 1 << 30 // bytes of a block
	MaxWS      = 1 << 28 // slots: 2 GiB of them
	MaxIters   = 1 << 50 // days of work
	MaxThreads = 4096    // more tell nothing
)

// A ParamError is a parameter that a workload cannot use.
type ParamError struct{ Name, Value, Remedy string }

func (e *ParamError) Error() string {
	return "--" + e.Name + " " + e.Value + ": " + e.Remedy
}

// Validate reports the first parameter that the workload cannot use, as a
// *ParamError.
func (p Params) Validate(workload string) error {
	bounds := []struct {
		name     string
		v        uint64
		min, max uint64
	}{
		{"min", p.Min, 1, MaxSize},
		{"max", p.Max, 1, MaxSize},
		{"ws", p.WS, 1, MaxWS},
		{"iters", p.Iters, 1, MaxIters},
		{"threads", uint64(p.Threads), 1, MaxThreads},
		{"seed", uint64(p.Seed), 1, math.MaxUint32},
	}
	for _, b := range bounds {
		if b.v < b.min || b.v > b.max {
			return &ParamError{b.name, strconv.FormatUint(b.v, 10), fmt.Sprintf("use a whole number from %d to %d", b.min, b.max)}
		}
	}
	if p.Min > p.Max {
		return &ParamError{"min", strconv.FormatUint(p.Min, 10), fmt.Sprintf("use a size not above --max, which is %d", p.Max)}
	}
	for _, w := range Workloads {
		if w == workload {
			return nil
		}
	}
	return fmt.Errorf("workload %q: use one of %s", workload, strings.Join(Workloads, ", "))
}

// Map returns the parameters that the workload uses, under their names in the
// command line and in reports.
func (p Params) Map(workload string) map[string]any {
	m := map[string]any{"iters": p.Iters, "threads": p.Threads}
	switch workload {
	case RandomMixed:
		m["min"], m["max"], m["ws"], m["seed"] = p.Min, p.Max, p.WS, p.Seed
	case TinyHot:
		m["size"], m["batch"] = HotSize, HotBatch
	}
	return m
}

// Ops is the number of operations that all threads together perform.
func (p Params) Ops(workload string) uint64 {
	n := p.Iters
	if workload == TinyHot {
		n = p.batches() * 2 * HotBatch
	}
	return n * uint64(p.Threads)
}

// batches is the number of tiny_hot batches of each thread.
func (p Params) batches() uint64 {
	const ops = 2 * HotBatch
	return (p.Iters + ops - 1) / ops
}

// threadSeed is the seed of thread i: Seed+i, or where that is 0, the fixed
// point of xorshift, the seed of Marsaglia's own example.
func (p Params) threadSeed(i int) uint32 {
	if s := p.Seed + uint32(i); s != 0 {
		return s
	}
	return 2463534242
}

// SequenceHash is a hash of the operations of random_mixed's first thread:
// FNV-1a over the 64-bit words (1 for an allocation or 0 for a free, size or 0,
// slot) of every step. The C driver prints the same number with --hash.
func (p Params) SequenceHash() uint64 {
	const offset, prime = 14695981039346656037, 1099511628211 // FNV-1a, 64 bits
	h := uint64(offset)
	full := make([]bool, p.WS)
	x := p.threadSeed(0)
	next := func() uint64 {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		return uint64(x)
	}
	for range p.Iters {
		slot := next() * p.WS >> 32
		var op, size uint64
		if !full[slot] {
			op, size = 1, p.Min+next()*(p.Max-p.Min+1)>>32
		}
		full[slot] = !full[slot]
		for _, word := range [...]uint64{op, size, slot} {
			h = (h ^ word) * prime
		}
	}
	return h
}

// A Spec names one measurement.
type Spec struct {
	Workload, Allocator string
	Params              Params
}

// A Run is the outcome of one measurement. Memory and fault figures are 0 where
// the system does not tell them. The C driver prints the same fields.
type Run struct {
	Seconds float64 `json:"seconds"`   // of the operation loop
	OpsPerS float64 `json:"ops_per_s"` // of all threads together
	NsPerOp float64 `json:"ns_per_op"` // 1e9 / OpsPerS: with T threads, a T-th of what one thread waits
	// PeakRSS is the process's peak resident memory in bytes, IdleRSS its
	// resident memory just before the loop, EndRSS that after everything was
	// freed.
	PeakRSS uint64 `json:"peak_rss_bytes"`
	IdleRSS uint64 `json:"idle_rss_bytes"`
	EndRSS  uint64 `json:"end_rss_bytes"`
	// MinorFaults is the number of page faults during the loop.
	MinorFaults uint64 `json:"minor_faults"`
	// Version is the allocator's version, where it can be found.
	Version string `json:"version,omitempty"`
	// Layout is the number of the code layout measured, 0 for the plain build.
	Layout int `json:"layout,omitempty"`
}

// slotPad is the number of unused slots behind a thread's last: two cache
// lines of 64 bytes, so that threads do not share one.
const slotPad = 16

// worker is one thread of a workload. It belongs to its goroutine, but for the
// fields under "given", which are set before that starts.
type worker struct {
	// given
	seed           uint32
	ws, span       uint64 // slots; number of different sizes
	low            uintptr
	iters, batches uint64
	scratch        unsafe.Pointer // the empty loop's only block
	gate           *gate

	start, stop time.Time
	sink        uintptr // keeps the empty loop's frees from being dropped
}

// gate lets all workers start at once, and keeps their blocks alive until the
// process has been looked at.
type gate struct {
	ready    sync.WaitGroup // workers that have yet to reach begin
	open     atomic.Bool    // begin may return
	finished sync.WaitGroup // workers that have yet to reach end
	looked   chan struct{}  // closed: end may return
}

// begin waits for all workers and starts the clock.
func (w *worker) begin() {
	w.gate.ready.Done()
	for !w.gate.open.Load() { // spins: a wake-up would not reach all at once
		runtime.Gosched()
	}
	w.start = time.Now()
}

// end stops the clock.
func (w *worker) end() {
	w.stop = time.Now()
	w.gate.finished.Done()
	<-w.gate.looked
}

// Measure runs one workload over one allocator and returns what it took. It is
// to be called once in a process.
func Measure(s Spec) (Run, error) {
	if err := s.Params.Validate(s.Workload); err != nil {
		return Run{}, err
	}
	a, err := find(s.Allocator)
	if err != nil {
		return Run{}, err
	}
	loop := a.mixed
	if s.Workload == TinyHot {
		loop = a.hot
	}
	if s.Params.Threads > 1 && a.threadedMixed != nil {
		loop = a.threadedMixed
		if s.Workload == TinyHot {
			loop = a.threadedHot
		}
	}

	p := s.Params
	scratch := make([]byte, max(p.Max, HotSize))
	clear(scratch) // its pages are not the loop's to touch
	g := &gate{looked: make(chan struct{})}
	g.ready.Add(p.Threads)
	g.finished.Add(p.Threads)
	var done sync.WaitGroup
	workers := make([]*worker, p.Threads)
	for i := range workers {
		w := &worker{
			seed: p.threadSeed(i), ws: p.WS, span: p.Max - p.Min + 1, low: uintptr(p.Min),
			iters: p.Iters, batches: p.batches(),
			scratch: unsafe.Pointer(unsafe.SliceData(scratch)), gate: g,
		}
		if p.Threads > 1 { // a buffer of its own: a shared one would bounce
			own := make([]byte, len(scratch)+2*64)
			clear(own)
			w.scratch = unsafe.Pointer(unsafe.SliceData(own))
		}
		workers[i] = w
		done.Go(func() { loop(w) })
	}
	g.ready.Wait()
	before := usage()
	g.open.Store(true)
	g.finished.Wait()
	after := usage()
	close(g.looked)
	done.Wait()
	end := usage()

	first, last := workers[0].start, workers[0].stop
	for _, w := range workers[1:] {
		if w.start.Before(first) {
			first = w.start
		}
		if w.stop.After(last) {
			last = w.stop
		}
	}
	r := Run{
		Seconds: max(last.Sub(first).Seconds(), 1e-9), // a coarse clock may say 0
		// Linux notes a peak only now and then: what was seen counts as well.
		PeakRSS: max(before.peak, after.peak, end.peak), IdleRSS: before.rss, EndRSS: end.rss,
		MinorFaults: after.faults - before.faults,
		Version:     a.version(),
	}
	r.OpsPerS = float64(p.Ops(s.Workload)) / r.Seconds
	r.NsPerOp = 1e9 / r.OpsPerS
	return r, nil
}
