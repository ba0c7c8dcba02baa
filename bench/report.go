package bench

import (
	"fmt"
	"runtime"
	"slices"
)

// unknown stands for what the system does not tell.
const unknown = "n/a"

// processUsage is a picture of this process; 0 stands for not known.
type processUsage struct {
	peak, rss uint64 // bytes resident: most so far, and now
	faults    uint64 // minor page faults so far
}

// Collection is the outcome of several comparisons made by one command, as
// `compare all --json` prints it.
type Collection struct {
	Command []string `json:"command"`
	Started string   `json:"started"` // RFC 3339
	Seconds float64  `json:"seconds"` // that the whole took
	Machine Machine  `json:"machine"`
	Reports []Report `json:"reports"`
}

// Report is the outcome of one workload over several allocators, as `bench
// --json` and `compare --json` print it.
type Report struct {
	Workload string         `json:"workload"`
	Params   map[string]any `json:"params"`
	Machine  Machine        `json:"machine"`
	Results  []Result       `json:"results"`
	Absent   []Absent       `json:"absent"`
	// Ratios relate each peer to each of hakmem's interfaces.
	Ratios []Ratio `json:"ratios,omitempty"`
	// Noise is the A/A run before the comparison.
	Noise *Noise `json:"noise,omitempty"`
	// Loops are the empty loops of both programs: what the harness costs.
	Loops []Loop `json:"loops,omitempty"`
	// Command, Started (RFC 3339) and Environment (the variables that were set
	// for the runs, beyond those of every program) tell how to repeat it.
	Command     []string `json:"command,omitempty"`
	Started     string   `json:"started,omitempty"`
	Environment []string `json:"environment,omitempty"`
	Dropped     []string `json:"dropped_environment,omitempty"` // variables that were kept from the runs
}

// Result is the outcome for one allocator: medians over its runs. A figure
// that is not known is 0.
type Result struct {
	Allocator string  `json:"allocator"`
	Version   string  `json:"version"`
	OpsPerS   float64 `json:"ops_per_s"`
	NsPerOp   float64 `json:"ns_per_op"`
	// Low and High bound the median of NsPerOp, with Confidence (0.95 where
	// the number of runs allows; fewer than 6 runs give less).
	Low         float64 `json:"ns_per_op_low"`
	High        float64 `json:"ns_per_op_high"`
	Confidence  float64 `json:"confidence"`
	NetNsPerOp  float64 `json:"net_ns_per_op"` // less the empty loop of the same program; 0 if that could not run
	PeakRSS     uint64  `json:"peak_rss_bytes"`
	OverIdle    uint64  `json:"peak_over_idle_bytes"`      // PeakRSS less the resident memory just before the loop
	RSSSeconds  float64 `json:"rss_byte_seconds"`          // over idle, integrated over the loop
	LaterRSS    *int64  `json:"later_rss_bytes,omitempty"` // over idle, LaterSeconds after everything was freed
	Later       float64 `json:"later_seconds,omitempty"`
	MinorFaults uint64  `json:"minor_faults"`
	// MemoryCalls counts the memory system calls (mmap, munmap, mremap,
	// mprotect, madvise, brk) of the loop, in one run of its own; nil if they
	// could not be counted.
	MemoryCalls *uint64  `json:"memory_calls,omitempty"`
	Latency     *Latency `json:"latency,omitempty"`
	// Curve is resident memory over time in the run of median length: seconds
	// since the loop began, and bytes.
	Curve [][2]float64 `json:"rss_curve,omitempty"`
	Runs  []Run        `json:"runs"`
	// Notes say why a figure beside the time is missing.
	Notes []string `json:"notes,omitempty"`
}

// Latency describes sampled operations, in nanoseconds, in a run of its own.
// An operation is an allocation with the write of its first byte, or a free.
// The clock's own cost has been subtracted, to no less than 1. A percentile beyond which there is
// less than one sample is 0.
type Latency struct {
	Samples uint64       `json:"samples"`
	Every   uint64       `json:"every"`    // one of so many operations was sampled, on average
	Clock   float64      `json:"clock_ns"` // the median of what was measured around nothing
	P50     float64      `json:"p50"`
	P95     float64      `json:"p95"`
	P99     float64      `json:"p99"`
	P999    float64      `json:"p99_9"`
	Max     float64      `json:"max"`
	Curve   [][2]float64 `json:"curve"` // percentile (0 to 100) and nanoseconds
}

// Ratio is one peer's figures over those of one of hakmem's interfaces: above
// 1, hakmem is faster or smaller. A ratio that is not known is 0.
type Ratio struct {
	Hakmem string  `json:"hakmem"`
	Peer   string  `json:"peer"`
	Raw    float64 `json:"raw"` // of ns_per_op
	Net    float64 `json:"net"` // of net_ns_per_op; 0 if a loop was no slower than its empty one
	// Low and High are the raw ratio in hakmem's worst and best code layout;
	// equal to Raw where there is but one.
	Low  float64 `json:"raw_worst_layout"`
	High float64 `json:"raw_best_layout"`
	// P is the probability that a difference as large as Raw's comes about by
	// chance (Mann-Whitney).
	P      float64 `json:"p"`
	Memory float64 `json:"peak_over_idle"` // of peak_over_idle_bytes
	Area   float64 `json:"rss_byte_seconds"`
	P99    float64 `json:"p99"` // of the latency
}

// Noise is what two interleaved series of the same runs differ by.
type Noise struct {
	Allocator string  `json:"allocator"`
	Runs      int     `json:"runs"`  // of each series
	Ratio     float64 `json:"ratio"` // of the medians
	// Spread is (slowest - fastest) / median over all runs of both series.
	Spread float64 `json:"spread"`
}

// Loop is a program's loop without an allocator.
type Loop struct {
	Side    string  `json:"side"` // "go" or "c"
	NsPerOp float64 `json:"ns_per_op"`
}

// Absent is an allocator that could not be measured, and why.
type Absent struct {
	Allocator string `json:"allocator"`
	Reason    string `json:"reason"`
}

// Machine describes where a report was made.
type Machine struct {
	CPU        string `json:"cpu"`
	Cores      int    `json:"cores"`
	GOMAXPROCS int    `json:"gomaxprocs"`
	OS         string `json:"os"`
	Arch       string `json:"arch"`
	Kernel     string `json:"kernel"`
	HugePages  string `json:"transparent_hugepages"`
	Go         string `json:"go"`
}

// ThisMachine describes the machine and the Go runtime of the caller.
func ThisMachine() Machine {
	return Machine{
		CPU: cpuModel(), Cores: runtime.NumCPU(), GOMAXPROCS: runtime.GOMAXPROCS(0),
		OS: runtime.GOOS, Arch: runtime.GOARCH, Kernel: kernel(), HugePages: hugePages(), Go: runtime.Version(),
	}
}

// ComparableP99 reports whether both have a 99th percentile that is more than a step
// or two of the clock.
func ComparableP99(a, b *Latency) bool {
	return a != nil && b != nil && min(a.P99, b.P99) > a.Clock
}

// Median returns the middle of values, the mean of the middle two for an even
// number of them, and 0 for none.
func Median(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
	switch n := len(v); {
	case n == 0:
		return 0
	case n%2 == 1:
		return v[n/2]
	default:
		return (v[n/2-1] + v[n/2]) / 2
	}
}

// LayoutTimes returns the median time of an operation in each code layout
// among the runs.
func LayoutTimes(runs []Run) map[int]float64 {
	times := map[int][]float64{}
	for _, r := range runs {
		times[r.Layout] = append(times[r.Layout], r.NsPerOp)
	}
	medians := map[int]float64{}
	for layout, t := range times {
		medians[layout] = Median(t)
	}
	return medians
}

// Summarize makes the result of one allocator from its runs and from those of
// the empty loop of the same program. Times are the median over the code
// layouts of the median over each layout's runs; the loop is subtracted layout
// by layout.
func Summarize(name string, runs, empty []Run) Result {
	r := Result{Allocator: name, Runs: runs}
	if len(runs) == 0 {
		return r
	}
	r.Version = runs[0].Version
	loop := LayoutTimes(empty)
	var gross, net []float64
	for layout, t := range LayoutTimes(runs) {
		gross = append(gross, t)
		if l, ok := loop[layout]; ok {
			net = append(net, t-l)
		}
	}
	r.NsPerOp, r.NetNsPerOp = Median(gross), Median(net)
	r.OpsPerS = 1e9 / r.NsPerOp
	median := func(of func(Run) float64) float64 {
		var values []float64
		for _, run := range runs {
			values = append(values, of(run))
		}
		return Median(values)
	}
	r.PeakRSS = uint64(median(func(r Run) float64 { return float64(r.PeakRSS) }))
	r.MinorFaults = uint64(median(func(r Run) float64 { return float64(r.MinorFaults) }))
	r.RSSSeconds = median(func(r Run) float64 { return r.Area })
	if runs[0].IdleRSS > 0 {
		r.OverIdle = uint64(median(func(r Run) float64 { return max(0, float64(r.PeakRSS)-float64(r.IdleRSS)) }))
	}
	return r
}

// The addresses of the two madvise calls, of no bytes, between which a
// process's timed part lies: "hak", and B or E for its beginning and its end.
const (
	markBegin = 0x68616b42 << 12
	markEnd   = 0x68616b45 << 12
)

// Marks are the two addresses, as a tracer of system calls shows them.
func Marks() (begin, end string) {
	return fmt.Sprintf("%#x", uint64(markBegin)), fmt.Sprintf("%#x", uint64(markEnd))
}
