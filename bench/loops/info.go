package loops

import (
	"cmp"
	"fmt"
	"strconv"

	"github.com/hakmem/hakmem/bench/trace"
)

// What is known about each loop apart from its code: bounds, constants, the number of operations.
// The table is never changed.

const (
	kib = 1 << 10
	mib = 1 << 20
)

// Info is what is known about a loop apart from its code.
type Info struct {
	// Check checks bounds that a table of parameters cannot express. nil: there are none.
	Check func(Params) error
	// Constants are fixed numbers that reports show.
	Constants map[string]any
	// ScaleRounds says that the rounds are the loop's work, because it has no inner repetitions.
	ScaleRounds bool
	// Small adapts the parameters further for tests. nil: not needed.
	Small func(*Params)

	ops     func(Params) uint64 // of one thread
	all     func(Params) uint64 // of all threads, where they differ
	pairs   bool                // each thread has a partner: one is two
	scratch func(Params) uint64 // size of the empty loop's only block; nil: Max
	// prepare makes what the threads share, before they start. It may complete the parameters. nil:
	// nothing is shared.
	prepare func(*Params, *shared) error
}

// About returns what is known about the loop of that name; the Info is empty if there is no such
// loop.
func About(loop string) Info { return loopInfo[loop] }

// Ops is the number of operations that all threads perform together. An allocation is one
// operation, and so is a free.
func (i Info) Ops(p Params) uint64 {
	if i.all != nil {
		return i.all(p)
	}
	return i.ops(p) * uint64(cmp.Or(p.Threads, 1))
}

// HotBatch and HotSize are the number of blocks in a batch of tiny_hot and their size in bytes.
// They come from the original hakmem's benchmark of that name.
const (
	HotBatch = 100
	HotSize  = 32
)

// mixedCounts are the blocks of a round of the loop "mixed". The numbers are the original hakmem's.
var mixedCounts = [...]struct{ size, count uint64 }{{64 * kib, 1000}, {256 * kib, 100}, {2 * mib, 10}}

var loopInfo = map[string]Info{
	"random_mixed": {ops: func(p Params) uint64 { return p.Iters }},
	"tiny_hot": {ops: func(p Params) uint64 { return batches(p) * 2 * HotBatch },
		Constants: map[string]any{"size": HotSize, "batch": HotBatch},
		scratch:   func(Params) uint64 { return HotSize }},
	"larson": {ops: func(p Params) uint64 { return 2 * p.Rounds * p.Iters }, Check: func(p Params) error {
		if p.Min < 2 {
			return &ParamError{"min", strconv.FormatUint(p.Min, 10), "larson writes two bytes; use 2 or more"}
		}
		return nil
	}},
	"pages": {ops: func(p Params) uint64 { return 2 * p.Iters },
		Small: func(p *Params) { p.Iters = 35 }}, // twice around a ring of 16
	"tape": {ops: func(Params) uint64 { return 1 }, prepare: loadTape, // only the file has the number
		Check: func(p Params) error {
			if p.Iters != 0 && (p.Iters < uint64(p.Threads) || p.Iters > trace.MaxOps) {
				return &ParamError{"iters", strconv.FormatUint(p.Iters, 10), fmt.Sprintf("use a whole number from %d, one for each thread, to %d", p.Threads, trace.MaxOps)}
			}
			return nil
		}},
	"mixed": {ScaleRounds: true, ops: func(p Params) uint64 { return 2 * p.Rounds * (1000 + 100 + 10) },
		Small:     func(p *Params) { p.Rounds = 1 },
		Constants: map[string]any{"sizes": "1000 x 64 KiB, 100 x 256 KiB, 10 x 2 MiB"},
		scratch:   func(Params) uint64 { return 2 * mib }},
	"alloc_test": {ops: func(p Params) uint64 { return p.Iters },
		Constants: map[string]any{"draws": "80 % to 20 % of the slots, six times over"}},
	"sh6bench": {ScaleRounds: true, ops: func(p Params) uint64 { return 2 * p.Rounds * sh6Mallocs(p) },
		Small:     func(p *Params) { p.Max, p.Rounds = 50, 1 },
		Constants: map[string]any{"repeats": "10 from 1000 B on, 50 from 100 B on, else 250"}},
	"sh8bench": {ops: func(p Params) uint64 { return 2 * p.Iters },
		Constants: map[string]any{"handed_every": sh8Every, "table": sh8Table}},
	"cache_scratch": {ops: func(p Params) uint64 { return 1 + 2*p.Rounds }},
	"cache_thrash":  {ops: func(p Params) uint64 { return 2 * p.Rounds }},
	"glibc_simple": {ops: func(p Params) uint64 { return 2 * simpleMallocs(p) },
		Small:     func(p *Params) { p.Max, p.Iters = 128, 400 },
		Constants: map[string]any{"batches": simpleCounts}},
	"glibc_thread": {ops: func(p Params) uint64 { return 2 * p.Iters },
		Constants: map[string]any{"sizes": threadSizes}},
	"growth": {ops: func(p Params) uint64 { return 2*p.WS - growthKept(p.WS) + 2*p.Iters },
		Constants: map[string]any{"freed": 0.9}},
	"mleak": {ScaleRounds: true, ops: func(p Params) uint64 { return 2 * p.Rounds * leakThreads },
		Constants: map[string]any{"threads_of_a_round": leakThreads, "size": leakSize},
		scratch:   func(Params) uint64 { return leakSize }},
	"mstress": {all: mstressOps, Check: mstressCheck,
		Small:     func(p *Params) { p.WS = 2 },
		Constants: map[string]any{"transfers": mstressTransfers, "grow": mstressGrow},
		scratch:   mstressScratch},
	"xmalloc": {pairs: true, ops: func(p Params) uint64 { return 2 * xmallocBatch * p.Iters },
		Small:     func(p *Params) { p.Iters = 2 },
		Constants: map[string]any{"batch": xmallocBatch, "batches": xmallocBatches}},
	"xmalloc_mixed": {pairs: true, ops: func(p Params) uint64 { return 2 * xmallocBatch * p.Iters },
		Small:     func(p *Params) { p.Iters = 2 },
		Constants: map[string]any{"batch": xmallocBatch, "batches": xmallocBatches, "sizes": xmallocSizes},
		scratch:   func(Params) uint64 { return 2048 }},
	"rptest": {ops: rptestOps, Check: rptestCheck,
		Small:     func(p *Params) { p.Iters = 20 },
		Constants: map[string]any{"sizes": rptestSizes, "cross_rate": rptestCross}},
	"frag": {ops: fragOps, Check: fragCheck,
		Small:     func(p *Params) { p.WS = 1 },
		Constants: map[string]any{"sizes": fragSizes, "freed": 0.9},
		scratch:   func(Params) uint64 { return fragSizes[len(fragSizes)-1] }},
	"phase": {ops: func(p Params) uint64 { return (2*p.Rounds + 1) * p.Iters }, Check: phaseCheck,
		Constants: map[string]any{"factor": phaseFactor},
		scratch:   func(p Params) uint64 { return phaseFactor * p.Max }},
	"malloc_large": {ops: func(p Params) uint64 { return 2 * p.Iters },
		Small: func(p *Params) { p.Min, p.Max, p.WS, p.Iters = 256*kib, 1*mib, 3, 8 }},
}

// batches is the number of tiny_hot batches of each thread: Iters rounded up.
func batches(p Params) uint64 {
	const ops = 2 * HotBatch
	return (p.Iters + ops - 1) / ops
}
