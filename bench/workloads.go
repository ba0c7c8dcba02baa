package bench

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/hakmem/hakmem/bench/trace"
)

// A Workload is a program of allocations and frees. Its loop is written once
// for Go, in loops.go, and once for C, in native/loops.h; several workloads
// may share one loop with other parameters. docs/benchmarks.md says what each
// does and where it comes from.
type Workload struct {
	Name string
	Loop string // name of the loop
	Doc  string // one line
	// Params are the parameters in force where nothing else is said. Those that
	// the loop does not use are 0 and may not be given.
	Params Params
	// Quick marks the workloads of `compare all --quick`.
	Quick bool
}

// Params are the parameters of a workload; a loop uses some of them. What
// exactly each means to a loop stands in docs/benchmarks.md.
type Params struct {
	// Min and Max bound the size of a block, in bytes, both included. Where there
	// is no Min, the sizes follow from Max alone.
	Min uint64 `json:"min,omitempty"`
	Max uint64 `json:"max,omitempty"`
	// WS is the number of slots, or of blocks held, of each thread.
	WS uint64 `json:"ws,omitempty"`
	// Iters is the number of operations, or of a loop's innermost repetitions,
	// of each thread; Rounds how often the whole is repeated.
	Iters  uint64 `json:"iters,omitempty"`
	Rounds uint64 `json:"rounds,omitempty"`
	// Alive is the number of blocks that a thread holds at a time.
	Alive uint64 `json:"alive,omitempty"`
	// Stride is the distance in bytes of the writes into a block: 4096 writes
	// every page; one beyond Max writes the first byte only.
	Stride uint64 `json:"stride,omitempty"`
	// Threads is the number of threads (goroutines in Go).
	Threads int `json:"threads,omitempty"`
	// Seed starts the random sequence; thread i starts from Seed+i. Not 0.
	Seed uint32 `json:"seed,omitempty"`
	// Tape is the file that holds the operations of the loop "tape" (package
	// bench/trace).
	Tape string `json:"tape,omitempty"`
}

// Param is one parameter of a Params, found by the name it has in the command
// line, in reports and in the C driver.
type Param struct {
	Name, Doc string
	Max       uint64
	Get       func(*Params) uint64
	Set       func(*Params, uint64)
	// Scaled says that Scale multiplies it.
	Scaled bool
}

// Bounds of the parameters. Sizes and slots are drawn as a 32-bit number times
// the range; these keep the product, and the memory asked for, in hand.
const (
	MaxSize    = 1 << 30 // bytes of a block
	MaxWS      = 1 << 28 // slots: 2 GiB of them
	MaxIters   = 1 << 50 // days of work
	MaxThreads = 4096    // more tell nothing
)

// ParamTable lists the numeric parameters, in the order of reports.
var ParamTable = []Param{
	{Name: "min", Doc: "smallest block in `bytes`", Max: MaxSize, Get: func(p *Params) uint64 { return p.Min }, Set: func(p *Params, v uint64) { p.Min = v }},
	{Name: "max", Doc: "largest block in `bytes`", Max: MaxSize, Get: func(p *Params) uint64 { return p.Max }, Set: func(p *Params, v uint64) { p.Max = v }},
	{Name: "ws", Doc: "working set: `slots` of each thread", Max: MaxWS, Scaled: true, Get: func(p *Params) uint64 { return p.WS }, Set: func(p *Params, v uint64) { p.WS = v }},
	{Name: "iters", Doc: "operations, or innermost repetitions, of each thread", Max: MaxIters, Scaled: true, Get: func(p *Params) uint64 { return p.Iters }, Set: func(p *Params, v uint64) { p.Iters = v }},
	{Name: "rounds", Doc: "repetitions of the whole", Max: MaxIters, Get: func(p *Params) uint64 { return p.Rounds }, Set: func(p *Params, v uint64) { p.Rounds = v }},
	{Name: "alive", Doc: "`blocks` that a thread holds at a time", Max: MaxWS, Get: func(p *Params) uint64 { return p.Alive }, Set: func(p *Params, v uint64) { p.Alive = v }},
	{Name: "stride", Doc: "`bytes` between the writes into a block; above --max: the first byte only", Max: math.MaxUint32, Get: func(p *Params) uint64 { return p.Stride }, Set: func(p *Params, v uint64) { p.Stride = v }},
	{Name: "threads", Doc: "threads", Max: MaxThreads, Get: func(p *Params) uint64 { return uint64(p.Threads) }, Set: func(p *Params, v uint64) { p.Threads = int(min(v, MaxThreads+1)) }},
	{Name: "seed", Doc: "start of the random sequence; thread i takes seed+i", Max: math.MaxUint32, Get: func(p *Params) uint64 { return uint64(p.Seed) }, Set: func(p *Params, v uint64) { p.Seed = uint32(v) }},
}

// TapeWorkload is the name of the workload that executes a tape.
const TapeWorkload = "tape"

// firstByte is a stride beyond every block: only the first byte is written.
const firstByte = math.MaxUint32

const (
	kib = 1 << 10
	mib = 1 << 20
)

// Workloads lists the workloads in the order in which they are documented and
// run. The parameters are the sources' where docs/benchmarks.md names one; the
// numbers of repetitions are such that hakmem takes some tenths of a second on
// the machine that the document names.
var Workloads = []Workload{
	{Name: "random_mixed", Loop: "random_mixed", Quick: true,
		Doc:    "each operation frees a random slot, or fills it with a block of random size",
		Params: Params{Min: 16, Max: 1024, WS: 400, Iters: 20_000_000, Threads: 1, Seed: 1}},
	{Name: "tiny_hot", Loop: "tiny_hot", Quick: true,
		Doc:    "batches of 100 blocks of 32 bytes, allocated, and freed in reverse",
		Params: Params{Iters: 20_000_000, Threads: 1}},
	{Name: "mid_large_mt", Loop: "random_mixed", Quick: true,
		Doc:    "random_mixed with 8-32 KiB in two threads",
		Params: Params{Min: 8 * kib, Max: 32 * kib, WS: 256, Iters: 4_000_000, Threads: 2, Seed: 1}},
	{Name: "larson", Loop: "larson", Quick: true,
		Doc:    "a server: each thread replaces random blocks of 8-1000 B, then a successor goes on with them",
		Params: Params{Min: 8, Max: 1000, WS: 5000, Rounds: 20, Iters: 500_000, Threads: 2, Seed: 4141}},
	{Name: "json", Loop: "pages", Quick: true, Doc: "64 KiB: allocate, write every page, free",
		Params: Params{Max: 64 * kib, Alive: 1, Stride: 4096, Iters: 200_000, Threads: 1}},
	{Name: "mir", Loop: "pages", Doc: "256 KiB: allocate, write every page, free",
		Params: Params{Max: 256 * kib, Alive: 1, Stride: 4096, Iters: 20_000, Threads: 1}},
	{Name: "vm", Loop: "pages", Doc: "2 MiB: allocate, write every page, free",
		Params: Params{Max: 2 * mib, Alive: 1, Stride: 4096, Iters: 2_000, Threads: 1}},
	{Name: "json16", Loop: "pages", Doc: "json with 16 blocks alive",
		Params: Params{Max: 64 * kib, Alive: 16, Stride: 4096, Iters: 200_000, Threads: 1}},
	{Name: "mir16", Loop: "pages", Doc: "mir with 16 blocks alive",
		Params: Params{Max: 256 * kib, Alive: 16, Stride: 4096, Iters: 20_000, Threads: 1}},
	{Name: "vm16", Loop: "pages", Quick: true, Doc: "vm with 16 blocks alive",
		Params: Params{Max: 2 * mib, Alive: 16, Stride: 4096, Iters: 2_000, Threads: 1}},
	{Name: "pair64k", Loop: "pages", Doc: "64 KiB: allocate, write the first byte, free",
		Params: Params{Max: 64 * kib, Alive: 1, Stride: firstByte, Iters: 2_000_000, Threads: 1}},
	{Name: "pair256k", Loop: "pages", Doc: "256 KiB: allocate, write the first byte, free",
		Params: Params{Max: 256 * kib, Alive: 1, Stride: firstByte, Iters: 500_000, Threads: 1}},
	{Name: "pair2m", Loop: "pages", Doc: "2 MiB: allocate, write the first byte, free",
		Params: Params{Max: 2 * mib, Alive: 1, Stride: firstByte, Iters: 500_000, Threads: 1}},
	{Name: "mixed", Loop: "mixed", Doc: "json, mir and vm in turn, 1000, 100 and 10 of them: a compiler's run",
		Params: Params{Stride: 4096, Rounds: 50, Threads: 1}},
	{Name: "mstress", Loop: "mstress", Quick: true,
		Doc:    "threads made anew in each round allocate, retain, free and exchange blocks, all written and read",
		Params: Params{WS: 50, Rounds: 200, Threads: 2, Seed: 43}},
	{Name: "xmalloc-test", Loop: "xmalloc",
		Doc:    "one thread allocates batches of 4096 blocks, a partner frees them",
		Params: Params{Max: 64, Iters: 8000, Threads: 1}},
	{Name: "xmalloc-mixed", Loop: "xmalloc_mixed",
		Doc:    "xmalloc-test with 17 sizes from 8 to 2048 bytes",
		Params: Params{Iters: 4000, Threads: 1, Seed: 1}},
	{Name: "rptest", Loop: "rptest",
		Doc:    "100 of 1000 blocks replaced at a time, smaller ones more often; every other time as many for another thread",
		Params: Params{Min: 8, Max: 16000, WS: 1000, Iters: 100, Rounds: 30_000, Stride: 4096, Threads: 2, Seed: 1}},
	{Name: "frag", Loop: "frag", Quick: true,
		Doc:    "fragmentation: fills memory with 64 B blocks, frees a random 90 %, refills it with larger ones, three times",
		Params: Params{WS: 512, Threads: 1, Seed: 1}},
	{Name: "phase", Loop: "phase",
		Doc:    "random_mixed with small blocks, then with blocks 64 times as large, then again with small ones",
		Params: Params{Min: 16, Max: 256, WS: 20_000, Iters: 6_000_000, Rounds: 1, Threads: 1, Seed: 1}},
	{Name: "alloc-test", Loop: "alloc_test",
		Doc:    "each operation frees a slot, popular ones often, or fills it; blocks of 8-1024 B, small ones often, are written and read as a whole",
		Params: Params{Min: 8, Max: 1024, WS: 1 << 18, Iters: 20_000_000, Threads: 1, Seed: 41}},
	{Name: "sh6bench", Loop: "sh6bench",
		Doc:    "runs of 1-999 B into a buffer that is freed when it is full: a part saved, one freed in order, one in reverse",
		Params: Params{Max: 999, WS: 10_000, Rounds: 1000, Threads: 2}},
	{Name: "sh8bench", Loop: "sh8bench",
		Doc:    "sh6bench's buffer with random sizes of 1-1000 B, a part of them freed by other threads",
		Params: Params{Min: 1, Max: 1000, WS: 10_000, Iters: 15_000_000, Threads: 2, Seed: 1}},
	{Name: "cache-scratch", Loop: "cache_scratch",
		Doc:    "one thread allocates a byte for each; they free these, and write to others again and again: passive false sharing",
		Params: Params{Max: 1, Iters: 300_000, Rounds: 1000, Threads: 2}},
	{Name: "cache-thrash", Loop: "cache_thrash",
		Doc:    "each thread allocates a byte, writes to it again and again, and frees it: active false sharing",
		Params: Params{Max: 1, Iters: 300_000, Rounds: 1000, Threads: 2}},
	{Name: "glibc-simple", Loop: "glibc_simple",
		Doc:    "batches of 25-1600 blocks of one size, 16-4096 B, freed half in order and half in reverse",
		Params: Params{Min: 16, Max: 4096, Iters: 500_000, Threads: 1}},
	{Name: "glibc-thread", Loop: "glibc_thread",
		Doc:    "each thread replaces random blocks of 4-32768 B, sizes as likely as the inverse of their square",
		Params: Params{Min: 4, Max: 32 * kib, WS: 1024, Iters: 30_000_000, Threads: 2, Seed: 1}},
	{Name: "mleak", Loop: "mleak",
		Doc:    "short-lived threads, each of which replaces one zeroed block that another one left",
		Params: Params{WS: 1000, Rounds: 2000, Threads: 1, Seed: 1}},
	{Name: "malloc-large", Loop: "malloc_large",
		Doc:    "replaces random blocks of 5-25 MiB, zeroed and every page written",
		Params: Params{Min: 5 * mib, Max: 25 * mib, WS: 20, Iters: 150, Stride: 4096, Threads: 1, Seed: 42}},
}

// DistWorkload is the name of the workload that executes a tape made from a
// size distribution: WS is the live memory in MiB, Iters the number of
// operations. Who runs it makes the tape (trace.Distribution.Tape).
const DistWorkload = "dist"

var distWorkload = Workload{Name: DistWorkload, Loop: "tape",
	Doc:    "births and deaths as in a size distribution (--dist): --ws MiB alive, --iters operations",
	Params: Params{WS: 128, Iters: 4_000_000, Rounds: 1, Threads: 1, Seed: 1}}

// FindWorkload returns the workload of that name.
func FindWorkload(name string) (*Workload, error) {
	for _, w := range []*Workload{&tapeWorkload, &distWorkload} {
		if name == w.Name {
			return w, nil
		}
	}
	i := slices.IndexFunc(Workloads, func(w Workload) bool { return w.Name == name })
	if i < 0 {
		return nil, fmt.Errorf("unknown workload %q; use one of %s", name, strings.Join(WorkloadNames(), ", "))
	}
	return &Workloads[i], nil
}

var tapeWorkload = Workload{Name: TapeWorkload, Loop: "tape", Doc: "the operations of a trace or of a size distribution",
	Params: Params{Rounds: 1, Threads: 1}}

// WorkloadNames lists the names of Workloads.
func WorkloadNames() []string {
	names := make([]string, len(Workloads))
	for i := range Workloads {
		names[i] = Workloads[i].Name
	}
	return names
}

// Uses tells whether the workload has the parameter.
func (w *Workload) Uses(p *Param) bool { return p.Get(&w.Params) != 0 }

// A ParamError is a parameter that a workload cannot use.
type ParamError struct{ Name, Value, Remedy string }

func (e *ParamError) Error() string {
	return "--" + e.Name + " " + e.Value + ": " + e.Remedy
}

// Validate reports the first parameter that the workload cannot use, as a
// *ParamError.
func (w *Workload) Validate(p Params) error {
	for i := range ParamTable {
		t := &ParamTable[i]
		v := t.Get(&p)
		text := strconv.FormatUint(v, 10)
		switch {
		case !w.Uses(t) && v != 0:
			return &ParamError{t.Name, text, w.Name + " has no such parameter; leave it out"}
		case w.Uses(t) && (v < 1 || v > t.Max):
			return &ParamError{t.Name, text, fmt.Sprintf("use a whole number from 1 to %d", t.Max)}
		}
	}
	if p.Min > p.Max {
		return &ParamError{"min", strconv.FormatUint(p.Min, 10), fmt.Sprintf("use a size not above --max, which is %d", p.Max)}
	}
	if check := loopInfo[w.Loop].check; check != nil {
		return check(p)
	}
	return nil
}

// Map returns the parameters that the workload uses, under their names in the
// command line and in reports.
func (w *Workload) Map(p Params) map[string]any {
	m := map[string]any{}
	for i := range ParamTable {
		if t := &ParamTable[i]; w.Uses(t) {
			m[t.Name] = t.Get(&p)
		}
	}
	for name, v := range loopInfo[w.Loop].constants {
		m[name] = v
	}
	return m
}

// Args returns the parameters as arguments of the C driver.
func (w *Workload) Args(p Params) []string {
	args := []string{w.Loop}
	for i := range ParamTable {
		if t := &ParamTable[i]; w.Uses(t) {
			args = append(args, "--"+t.Name, strconv.FormatUint(t.Get(&p), 10))
		}
	}
	if p.Tape != "" {
		args = append(args, "--tape", p.Tape)
	}
	return args
}

// Scale returns the parameters for a machine that is to hold and do only a
// share of it: those that are numbers of blocks or repetitions, times scale
// (above 0), but at least 1.
func (w *Workload) Scale(p Params, scale float64) Params {
	for i := range ParamTable {
		t := &ParamTable[i]
		// Where a loop has no inner repetitions, the rounds are its work.
		if (t.Scaled || t.Name == "rounds" && loopInfo[w.Loop].scaleRounds) && w.Uses(t) {
			t.Set(&p, max(1, uint64(float64(t.Get(&p))*scale)))
		}
	}
	return p
}

// Ops is the number of operations that all threads together perform: the
// divisor of ns_per_op. An allocation is one, a free is one.
func (w *Workload) Ops(p Params) uint64 {
	info := loopInfo[w.Loop]
	if info.all != nil {
		return info.all(p)
	}
	return info.ops(p) * uint64(cmp.Or(p.Threads, 1))
}

// info is what is known of a loop beside its code.
type info struct {
	ops         func(Params) uint64 // of one thread
	all         func(Params) uint64 // of all threads, where they differ
	pairs       bool                // each thread has a partner: one is two
	check       func(Params) error  // bounds that the table cannot say; nil: none
	constants   map[string]any      // fixed numbers that reports show
	scratch     func(Params) uint64 // size of the empty loop's only block; nil: Max
	scaleRounds bool                // the rounds scale too, see Workload.Scale
	small       func(*Params)       // fits the parameters for tests further; nil: no need
	// prepare makes what the threads share, before they start; nil: nothing. It
	// may complete the parameters.
	prepare func(*Params, *shared) error
}

// HotBatch and HotSize are tiny_hot's number of blocks in a batch and their
// size in bytes: the original hakmem's benchmark of that name.
const (
	HotBatch = 100
	HotSize  = 32
)

// mixedCounts are the blocks of a round of the loop "mixed": the original
// hakmem's numbers.
var mixedCounts = [...]struct{ size, count uint64 }{{64 * kib, 1000}, {256 * kib, 100}, {2 * mib, 10}}

var loopInfo = map[string]info{
	"random_mixed": {ops: func(p Params) uint64 { return p.Iters }},
	"tiny_hot": {ops: func(p Params) uint64 { return batches(p) * 2 * HotBatch },
		constants: map[string]any{"size": HotSize, "batch": HotBatch},
		scratch:   func(Params) uint64 { return HotSize }},
	"larson": {ops: func(p Params) uint64 { return 2 * p.Rounds * p.Iters }, check: func(p Params) error {
		if p.Min < 2 {
			return &ParamError{"min", strconv.FormatUint(p.Min, 10), "larson writes two bytes; use 2 or more"}
		}
		return nil
	}},
	"pages": {ops: func(p Params) uint64 { return 2 * p.Iters },
		small: func(p *Params) { p.Iters = 35 }}, // twice around a ring of 16
	"tape": {ops: func(Params) uint64 { return 1 }, prepare: loadTape, // only the file tells how many
		check: func(p Params) error {
			if p.Iters != 0 && (p.Iters < uint64(p.Threads) || p.Iters > trace.MaxOps) {
				return &ParamError{"iters", strconv.FormatUint(p.Iters, 10), fmt.Sprintf("use a whole number from %d, one for each thread, to %d", p.Threads, trace.MaxOps)}
			}
			return nil
		}},
	"mixed": {scaleRounds: true, ops: func(p Params) uint64 { return 2 * p.Rounds * (1000 + 100 + 10) },
		small:     func(p *Params) { p.Rounds = 1 },
		constants: map[string]any{"sizes": "1000 x 64 KiB, 100 x 256 KiB, 10 x 2 MiB"},
		scratch:   func(Params) uint64 { return 2 * mib }},
	"alloc_test": {ops: func(p Params) uint64 { return p.Iters },
		constants: map[string]any{"draws": "80 % to 20 % of the slots, six times over"}},
	"sh6bench": {scaleRounds: true, ops: func(p Params) uint64 { return 2 * p.Rounds * sh6Mallocs(p) },
		small:     func(p *Params) { p.Max, p.Rounds = 50, 1 },
		constants: map[string]any{"repeats": "10 from 1000 B on, 50 from 100 B on, else 250"}},
	"sh8bench": {ops: func(p Params) uint64 { return 2 * p.Iters },
		constants: map[string]any{"handed_every": sh8Every, "table": sh8Table}},
	"cache_scratch": {ops: func(p Params) uint64 { return 1 + 2*p.Rounds }},
	"cache_thrash":  {ops: func(p Params) uint64 { return 2 * p.Rounds }},
	"glibc_simple": {ops: func(p Params) uint64 { return 2 * simpleMallocs(p) },
		small:     func(p *Params) { p.Max, p.Iters = 128, 400 },
		constants: map[string]any{"batches": simpleCounts}},
	"glibc_thread": {ops: func(p Params) uint64 { return 2 * p.Iters },
		constants: map[string]any{"sizes": threadSizes}},
	"mleak": {scaleRounds: true, ops: func(p Params) uint64 { return 2 * p.Rounds * leakThreads },
		constants: map[string]any{"threads_of_a_round": leakThreads, "size": leakSize},
		scratch:   func(Params) uint64 { return leakSize }},
	"mstress": {all: mstressOps, check: mstressCheck,
		small:     func(p *Params) { p.WS = 2 },
		constants: map[string]any{"transfers": mstressTransfers, "grow": mstressGrow},
		scratch:   mstressScratch},
	"xmalloc": {pairs: true, ops: func(p Params) uint64 { return 2 * xmallocBatch * p.Iters },
		small:     func(p *Params) { p.Iters = 2 },
		constants: map[string]any{"batch": xmallocBatch, "batches": xmallocBatches}},
	"xmalloc_mixed": {pairs: true, ops: func(p Params) uint64 { return 2 * xmallocBatch * p.Iters },
		small:     func(p *Params) { p.Iters = 2 },
		constants: map[string]any{"batch": xmallocBatch, "batches": xmallocBatches, "sizes": xmallocSizes},
		scratch:   func(Params) uint64 { return 2048 }},
	"rptest": {ops: rptestOps, check: rptestCheck,
		small:     func(p *Params) { p.Iters = 20 },
		constants: map[string]any{"sizes": rptestSizes, "cross_rate": rptestCross}},
	"frag": {ops: fragOps, check: fragCheck,
		small:     func(p *Params) { p.WS = 1 },
		constants: map[string]any{"sizes": fragSizes, "freed": 0.9},
		scratch:   func(Params) uint64 { return fragSizes[len(fragSizes)-1] }},
	"phase": {ops: func(p Params) uint64 { return (2*p.Rounds + 1) * p.Iters }, check: phaseCheck,
		constants: map[string]any{"factor": phaseFactor},
		scratch:   func(p Params) uint64 { return phaseFactor * p.Max }},
	"malloc_large": {ops: func(p Params) uint64 { return 2 * p.Iters },
		small: func(p *Params) { p.Min, p.Max, p.WS, p.Iters = 256*kib, 1*mib, 3, 8 }},
}

// batches is the number of tiny_hot batches of each thread: Iters rounded up.
func batches(p Params) uint64 {
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
