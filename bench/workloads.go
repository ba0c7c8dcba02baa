package bench

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/hakmem/hakmem/bench/loops"
)

// The table of workloads, and the parameters by name. Both are written once, here, and never
// changed by the program.

// A Workload is a program of allocations and frees. Its loop is written once for Go, in
// loops/loops.go, and once for C, in native/loops.h. Several workloads may share one loop with
// different parameters. docs/benchmarks.md says what each workload does and where it comes from.
type Workload struct {
	Name string
	Loop string // name of the loop
	Doc  string // one line
	// Params are the parameters that apply unless the caller changes them. Parameters that the loop
	// does not use are 0 and may not be given.
	Params loops.Params
	// Quick marks the workloads of `compare all --quick`.
	Quick bool
	// Recorded says that the operations are those that a program made, Rounds times: Workload.Tape. The
	// number of threads is then the recording's and cannot be changed.
	Recorded bool
}

// Param is one parameter of a loops.Params, found by its name in the command line, in reports and
// in the C driver.
type Param struct {
	Name, Doc string
	Max       uint64
	Get       func(*loops.Params) uint64
	Set       func(*loops.Params, uint64)
	// Scaled says that Scale multiplies the parameter.
	Scaled bool
}

// ParamTable lists the numeric parameters, in the order of reports.
var ParamTable = []Param{
	{Name: "min", Doc: "smallest block in `bytes`", Max: loops.MaxSize, Get: func(p *loops.Params) uint64 { return p.Min }, Set: func(p *loops.Params, v uint64) { p.Min = v }},
	{Name: "max", Doc: "largest block in `bytes`", Max: loops.MaxSize, Get: func(p *loops.Params) uint64 { return p.Max }, Set: func(p *loops.Params, v uint64) { p.Max = v }},
	{Name: "ws", Doc: "working set: `slots` of each thread", Max: loops.MaxWS, Scaled: true, Get: func(p *loops.Params) uint64 { return p.WS }, Set: func(p *loops.Params, v uint64) { p.WS = v }},
	{Name: "iters", Doc: "operations, or innermost repetitions, of each thread", Max: loops.MaxIters, Scaled: true, Get: func(p *loops.Params) uint64 { return p.Iters }, Set: func(p *loops.Params, v uint64) { p.Iters = v }},
	{Name: "rounds", Doc: "repetitions of the whole", Max: loops.MaxIters, Get: func(p *loops.Params) uint64 { return p.Rounds }, Set: func(p *loops.Params, v uint64) { p.Rounds = v }},
	{Name: "alive", Doc: "`blocks` that a thread holds at a time", Max: loops.MaxWS, Get: func(p *loops.Params) uint64 { return p.Alive }, Set: func(p *loops.Params, v uint64) { p.Alive = v }},
	{Name: "stride", Doc: "`bytes` between the writes into a block; above --max: the first byte only", Max: math.MaxUint32, Get: func(p *loops.Params) uint64 { return p.Stride }, Set: func(p *loops.Params, v uint64) { p.Stride = v }},
	{Name: "threads", Doc: "threads", Max: loops.MaxThreads, Get: func(p *loops.Params) uint64 { return uint64(p.Threads) }, Set: func(p *loops.Params, v uint64) { p.Threads = int(min(v, loops.MaxThreads+1)) }},
	{Name: "seed", Doc: "start of the random sequence; thread i takes seed+i", Max: math.MaxUint32, Get: func(p *loops.Params) uint64 { return uint64(p.Seed) }, Set: func(p *loops.Params, v uint64) { p.Seed = uint32(v) }},
}

// TapeWorkload is the name of the workload that executes a tape.
const TapeWorkload = "tape"

// firstByte is a stride beyond every block, so that only the first byte is written.
const firstByte = math.MaxUint32

// cacheLine is the stride that writes to every cache line of a block, in bytes: the length of a line of
// amd64, and of most of arm64. Where lines are longer, each is written twice.
const cacheLine = 64

const (
	kib = 1 << 10
	mib = 1 << 20
)

// Workloads lists the workloads in the order in which they are documented and run. Where
// docs/benchmarks.md names a source, the parameters are the source's. The numbers of repetitions
// are chosen so that hakmem takes some tenths of a second on the machine that the document names.
var Workloads = []Workload{
	{Name: "sqlite", Loop: "tape", Recorded: true, Quick: true,
		Doc:    "a recording: SQLite with 20,000 rows in memory, inserted, read, updated, scanned and vacuumed",
		Params: loops.Params{Rounds: 150, Threads: 1}},
	{Name: "arrow", Loop: "tape", Recorded: true, Quick: true,
		Doc:    "a recording: Arrow builds, filters and sums up a million rows, in one piece and in batches",
		Params: loops.Params{Rounds: 20, Threads: 1}},
	{Name: "cache", Loop: "tape", Recorded: true, Quick: true,
		Doc:    "a recording: a cache of 16 MiB, values of 64-4096 B, two threads, popular keys often",
		Params: loops.Params{Rounds: 100, Threads: 2}},
	{Name: "random_mixed", Loop: "random_mixed", Quick: true,
		Doc:    "each operation frees a random slot, or fills it with a block of random size",
		Params: loops.Params{Min: 16, Max: 1024, WS: 400, Iters: 20_000_000, Threads: 1, Seed: 1}},
	{Name: "tiny_hot", Loop: "tiny_hot", Quick: true,
		Doc:    "batches of 100 blocks of 32 bytes, allocated, and freed in reverse",
		Params: loops.Params{Iters: 20_000_000, Threads: 1}},
	{Name: "mid_large_mt", Loop: "random_mixed", Quick: true,
		Doc:    "random_mixed with 8-32 KiB in two threads",
		Params: loops.Params{Min: 8 * kib, Max: 32 * kib, WS: 256, Iters: 4_000_000, Threads: 2, Seed: 1}},
	{Name: "larson", Loop: "larson", Quick: true,
		Doc:    "a server: each thread replaces random blocks of 8-1000 B, then a successor goes on with them",
		Params: loops.Params{Min: 8, Max: 1000, WS: 5000, Rounds: 20, Iters: 500_000, Threads: 2, Seed: 4141}},
	{Name: "json", Loop: "pages", Quick: true, Doc: "64 KiB: allocate, write every page, free",
		Params: loops.Params{Max: 64 * kib, Alive: 1, Stride: 4096, Iters: 200_000, Threads: 1}},
	{Name: "mir", Loop: "pages", Doc: "256 KiB: allocate, write every page, free",
		Params: loops.Params{Max: 256 * kib, Alive: 1, Stride: 4096, Iters: 20_000, Threads: 1}},
	{Name: "vm", Loop: "pages", Doc: "2 MiB: allocate, write every page, free",
		Params: loops.Params{Max: 2 * mib, Alive: 1, Stride: 4096, Iters: 2_000, Threads: 1}},
	{Name: "json16", Loop: "pages", Doc: "json with 16 blocks alive",
		Params: loops.Params{Max: 64 * kib, Alive: 16, Stride: 4096, Iters: 200_000, Threads: 1}},
	{Name: "mir16", Loop: "pages", Doc: "mir with 16 blocks alive",
		Params: loops.Params{Max: 256 * kib, Alive: 16, Stride: 4096, Iters: 20_000, Threads: 1}},
	{Name: "vm16", Loop: "pages", Quick: true, Doc: "vm with 16 blocks alive",
		Params: loops.Params{Max: 2 * mib, Alive: 16, Stride: 4096, Iters: 2_000, Threads: 1}},
	{Name: "json-lines", Loop: "pages", Doc: "json with every cache line written, as programs do",
		Params: loops.Params{Max: 64 * kib, Alive: 1, Stride: cacheLine, Iters: 200_000, Threads: 1}},
	{Name: "mir-lines", Loop: "pages", Doc: "mir with every cache line written",
		Params: loops.Params{Max: 256 * kib, Alive: 1, Stride: cacheLine, Iters: 20_000, Threads: 1}},
	{Name: "vm-lines", Loop: "pages", Doc: "vm with every cache line written",
		Params: loops.Params{Max: 2 * mib, Alive: 1, Stride: cacheLine, Iters: 2_000, Threads: 1}},
	{Name: "json16-lines", Loop: "pages", Doc: "json16 with every cache line written",
		Params: loops.Params{Max: 64 * kib, Alive: 16, Stride: cacheLine, Iters: 200_000, Threads: 1}},
	{Name: "mir16-lines", Loop: "pages", Doc: "mir16 with every cache line written",
		Params: loops.Params{Max: 256 * kib, Alive: 16, Stride: cacheLine, Iters: 20_000, Threads: 1}},
	{Name: "vm16-lines", Loop: "pages", Doc: "vm16 with every cache line written",
		Params: loops.Params{Max: 2 * mib, Alive: 16, Stride: cacheLine, Iters: 2_000, Threads: 1}},
	{Name: "pair64k", Loop: "pages", Doc: "64 KiB: allocate, write the first byte, free",
		Params: loops.Params{Max: 64 * kib, Alive: 1, Stride: firstByte, Iters: 2_000_000, Threads: 1}},
	{Name: "pair256k", Loop: "pages", Doc: "256 KiB: allocate, write the first byte, free",
		Params: loops.Params{Max: 256 * kib, Alive: 1, Stride: firstByte, Iters: 500_000, Threads: 1}},
	{Name: "pair2m", Loop: "pages", Doc: "2 MiB: allocate, write the first byte, free",
		Params: loops.Params{Max: 2 * mib, Alive: 1, Stride: firstByte, Iters: 500_000, Threads: 1}},
	{Name: "mixed", Loop: "mixed", Doc: "json, mir and vm in turn, 1000, 100 and 10 of them: a compiler's run",
		Params: loops.Params{Stride: 4096, Rounds: 50, Threads: 1}},
	{Name: "mstress", Loop: "mstress", Quick: true,
		Doc:    "threads made anew in each round allocate, retain, free and exchange blocks, all written and read",
		Params: loops.Params{WS: 50, Rounds: 200, Threads: 2, Seed: 43}},
	{Name: "xmalloc-test", Loop: "xmalloc",
		Doc:    "one thread allocates batches of 4096 blocks, a partner frees them",
		Params: loops.Params{Max: 64, Iters: 8000, Threads: 1}},
	{Name: "xmalloc-mixed", Loop: "xmalloc_mixed",
		Doc:    "xmalloc-test with 17 sizes from 8 to 2048 bytes",
		Params: loops.Params{Iters: 4000, Threads: 1, Seed: 1}},
	{Name: "rptest", Loop: "rptest",
		Doc:    "100 of 1000 blocks replaced at a time, smaller ones more often; every other time as many for another thread",
		Params: loops.Params{Min: 8, Max: 16000, WS: 1000, Iters: 100, Rounds: 30_000, Stride: 4096, Threads: 2, Seed: 1}},
	{Name: "frag", Loop: "frag", Quick: true,
		Doc:    "fragmentation: fills memory with 64 B blocks, frees a random 90 %, refills it with larger ones, three times",
		Params: loops.Params{WS: 512, Threads: 1, Seed: 1}},
	{Name: "phase", Loop: "phase",
		Doc:    "random_mixed with small blocks, then with blocks 64 times as large, then again with small ones",
		Params: loops.Params{Min: 16, Max: 256, WS: 20_000, Iters: 6_000_000, Rounds: 1, Threads: 1, Seed: 1}},
	{Name: "alloc-test", Loop: "alloc_test",
		Doc:    "each operation frees a slot, popular ones often, or fills it; blocks of 8-1024 B, small ones often, are written and read as a whole",
		Params: loops.Params{Min: 8, Max: 1024, WS: 1 << 18, Iters: 20_000_000, Threads: 1, Seed: 41}},
	{Name: "sh6bench", Loop: "sh6bench",
		Doc:    "runs of 1-999 B into a buffer that is freed when it is full: a part saved, one freed in order, one in reverse",
		Params: loops.Params{Max: 999, WS: 10_000, Rounds: 1000, Threads: 2}},
	{Name: "sh8bench", Loop: "sh8bench",
		Doc:    "sh6bench's buffer with random sizes of 1-1000 B, a part of them freed by other threads",
		Params: loops.Params{Min: 1, Max: 1000, WS: 10_000, Iters: 15_000_000, Threads: 2, Seed: 1}},
	{Name: "cache-scratch", Loop: "cache_scratch",
		Doc:    "one thread allocates a byte for each; they free these, and write to others again and again: passive false sharing",
		Params: loops.Params{Max: 1, Iters: 300_000, Rounds: 1000, Threads: 2}},
	{Name: "cache-thrash", Loop: "cache_thrash",
		Doc:    "each thread allocates a byte, writes to it again and again, and frees it: active false sharing",
		Params: loops.Params{Max: 1, Iters: 300_000, Rounds: 1000, Threads: 2}},
	{Name: "glibc-simple", Loop: "glibc_simple",
		Doc:    "batches of 25-1600 blocks of one size, 16-4096 B, freed half in order and half in reverse",
		Params: loops.Params{Min: 16, Max: 4096, Iters: 500_000, Threads: 1}},
	{Name: "glibc-thread", Loop: "glibc_thread",
		Doc:    "each thread replaces random blocks of 4-32768 B, sizes as likely as the inverse of their square",
		Params: loops.Params{Min: 4, Max: 32 * kib, WS: 1024, Iters: 30_000_000, Threads: 2, Seed: 1}},
	{Name: "mleak", Loop: "mleak",
		Doc:    "short-lived threads, each of which replaces one zeroed block that another one left",
		Params: loops.Params{WS: 1000, Rounds: 2000, Threads: 1, Seed: 1}},
	{Name: "malloc-large", Loop: "malloc_large",
		Doc:    "replaces random blocks of 5-25 MiB, zeroed and every page written",
		Params: loops.Params{Min: 5 * mib, Max: 25 * mib, WS: 20, Iters: 150, Stride: 4096, Threads: 1, Seed: 42}},
}

// DistWorkload is the name of the workload that executes a tape made from a size distribution: WS
// is the live memory in MiB, Iters the number of operations. Whoever runs it makes the tape
// (trace.Distribution.Tape).
const DistWorkload = "dist"

var distWorkload = Workload{Name: DistWorkload, Loop: "tape",
	Doc:    "births and deaths as in a size distribution (--dist): --ws MiB alive, --iters operations",
	Params: loops.Params{WS: 128, Iters: 4_000_000, Rounds: 1, Threads: 1, Seed: 1}}

// GrowthWorkload is the name of the workload that measures what an allocator costs at a size, part by
// part (loops.LapFill and so on): WS blocks alive in each thread, Iters of them replaced.
const GrowthWorkload = "growth"

// growthWorkload has the block sizes of a cache of records, for which growth was first seen to cost.
var growthWorkload = Workload{Name: GrowthWorkload, Loop: "growth",
	Doc:    "fills, replaces, trims, frees nine tenths, rests and trims again",
	Params: loops.Params{Min: 200, Max: 1000, WS: 100_000, Iters: 1_000_000, Threads: 1, Seed: 1}}

// FindWorkload returns the workload of that name.
func FindWorkload(name string) (*Workload, error) {
	for _, w := range []*Workload{&tapeWorkload, &distWorkload, &growthWorkload} {
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
	Params: loops.Params{Rounds: 1, Threads: 1}}

// WorkloadNames lists the names of Workloads.
func WorkloadNames() []string {
	names := make([]string, len(Workloads))
	for i := range Workloads {
		names[i] = Workloads[i].Name
	}
	return names
}

// Uses reports whether the workload has the parameter.
func (w *Workload) Uses(p *Param) bool { return p.Get(&w.Params) != 0 }

// Validate reports the first parameter that the workload cannot use, as a *ParamError.
func (w *Workload) Validate(p loops.Params) error {
	for i := range ParamTable {
		t := &ParamTable[i]
		v := t.Get(&p)
		text := strconv.FormatUint(v, 10)
		switch {
		case !w.Uses(t) && v != 0:
			return &loops.ParamError{Name: t.Name, Value: text, Remedy: w.Name + " has no such parameter; leave it out"}
		case w.Recorded && t.Name == "threads" && v != t.Get(&w.Params):
			return &loops.ParamError{Name: t.Name, Value: text, Remedy: fmt.Sprintf("the recording has %d; leave it out", w.Params.Threads)}
		case w.Uses(t) && (v < 1 || v > t.Max):
			return &loops.ParamError{Name: t.Name, Value: text, Remedy: fmt.Sprintf("use a whole number from 1 to %d", t.Max)}
		}
	}
	if p.Min > p.Max {
		return &loops.ParamError{Name: "min", Value: strconv.FormatUint(p.Min, 10), Remedy: fmt.Sprintf("use a size not above --max, which is %d", p.Max)}
	}
	if check := loops.About(w.Loop).Check; check != nil {
		return check(p)
	}
	return nil
}

// Map returns the parameters that the workload uses, under their names in the command line and in
// reports.
func (w *Workload) Map(p loops.Params) map[string]any {
	m := map[string]any{}
	for i := range ParamTable {
		if t := &ParamTable[i]; w.Uses(t) {
			m[t.Name] = t.Get(&p)
		}
	}
	for name, v := range loops.About(w.Loop).Constants {
		m[name] = v
	}
	return m
}

// Args returns the parameters as arguments of the C driver.
func (w *Workload) Args(p loops.Params) []string {
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

// Scale returns the parameters for a machine that is to hold and do only a share of the work. It
// multiplies the parameters that are numbers of blocks or repetitions by scale (above 0), to at
// least 1.
func (w *Workload) Scale(p loops.Params, scale float64) loops.Params {
	for i := range ParamTable {
		t := &ParamTable[i]
		// Where a loop has no inner repetitions, the rounds are its work.
		rounds := t.Name == "rounds" && (w.Recorded || loops.About(w.Loop).ScaleRounds)
		if (t.Scaled || rounds) && w.Uses(t) {
			t.Set(&p, max(1, uint64(float64(t.Get(&p))*scale)))
		}
	}
	return p
}

// Ops is the number of operations that all threads perform together: the divisor of ns_per_op. An
// allocation is one operation, and so is a free.
func (w *Workload) Ops(p loops.Params) uint64 { return loops.About(w.Loop).Ops(p) }
