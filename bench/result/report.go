package result

// The JSON of a comparison: results, ratios, latencies and the machine.

// Collection is the outcome of several comparisons made by one command, as `compare all --json`
// prints it.
type Collection struct {
	Command []string `json:"command"`
	Started string   `json:"started"` // RFC 3339
	Seconds float64  `json:"seconds"` // that the whole command took
	Machine Machine  `json:"machine"`
	Reports []Report `json:"reports"`
}

// Report is the outcome of one workload over several allocators, as `bench --json` and `compare
// --json` print it.
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
	// Command, Started (RFC 3339) and Environment (the variables that were set for the runs, beyond
	// those of every program) say how to repeat it.
	Command     []string `json:"command,omitempty"`
	Started     string   `json:"started,omitempty"`
	Environment []string `json:"environment,omitempty"`
	Dropped     []string `json:"dropped_environment,omitempty"` // variables that were kept from the runs
}

// Result is the outcome for one allocator: medians over its runs. A figure that is not known is 0.
type Result struct {
	Allocator string  `json:"allocator"`
	Version   string  `json:"version"`
	OpsPerS   float64 `json:"ops_per_s"`
	NsPerOp   float64 `json:"ns_per_op"`
	// Low and High bound the median of NsPerOp, with Confidence (0.95 where the number of runs
	// allows it; fewer than 6 runs give less).
	Low        float64 `json:"ns_per_op_low"`
	High       float64 `json:"ns_per_op_high"`
	Confidence float64 `json:"confidence"`
	// Placements are the medians of NsPerOp over the runs of each placement, by the placement's number
	// from 1 on. There are none where only one placement was measured.
	Placements  []float64 `json:"placement_ns_per_op,omitempty"`
	NetNsPerOp  float64   `json:"net_ns_per_op"` // less the empty loop of the same program; 0 if that could not run
	PeakRSS     uint64    `json:"peak_rss_bytes"`
	OverIdle    uint64    `json:"peak_over_idle_bytes"`      // PeakRSS less the resident memory just before the loop
	RSSSeconds  float64   `json:"rss_byte_seconds"`          // over idle, integrated over the loop
	LaterRSS    *int64    `json:"later_rss_bytes,omitempty"` // over idle, LaterSeconds after everything was freed
	Later       float64   `json:"later_seconds,omitempty"`
	MinorFaults uint64    `json:"minor_faults"`
	// MemoryCalls counts the memory system calls (mmap, munmap, mremap, mprotect, madvise, brk) of
	// the loop, in a run of its own; nil if they could not be counted.
	MemoryCalls *uint64  `json:"memory_calls,omitempty"`
	Latency     *Latency `json:"latency,omitempty"`
	// Curve is resident memory over time in the run of median length: seconds since the loop began,
	// and bytes.
	Curve [][2]float64 `json:"rss_curve,omitempty"`
	Runs  []Run        `json:"runs"`
	// Notes say why a figure other than the time is missing.
	Notes []string `json:"notes,omitempty"`
}

// Latency describes sampled operations, in nanoseconds, in a run of its own. An operation is an
// allocation with the write of its first byte, or a free. The clock's own cost has been subtracted,
// but no time is less than 1. A percentile beyond which there is less than one sample is 0.
type Latency struct {
	Samples uint64       `json:"samples"`
	Every   uint64       `json:"every"`    // one in so many operations was sampled, on average
	Clock   float64      `json:"clock_ns"` // the median of the times measured around nothing
	P50     float64      `json:"p50"`
	P95     float64      `json:"p95"`
	P99     float64      `json:"p99"`
	P999    float64      `json:"p99_9"`
	Max     float64      `json:"max"`
	Curve   [][2]float64 `json:"curve"` // percentile (0 to 100) and nanoseconds
}

// Ratio is one peer's figures over those of one of hakmem's interfaces: above 1, hakmem is faster
// or smaller. A ratio that is not known is 0.
type Ratio struct {
	Hakmem string  `json:"hakmem"`
	Peer   string  `json:"peer"`
	Raw    float64 `json:"raw"` // of ns_per_op
	Net    float64 `json:"net"` // of net_ns_per_op; 0 if a loop was no slower than its empty one
	// Low and High are the raw ratio in hakmem's worst and best placement. They are equal to Raw
	// where there is only one. (JSON has a former word for placement, which older reports have.)
	Low  float64 `json:"raw_worst_layout"`
	High float64 `json:"raw_best_layout"`
	// P is the probability that a difference as large as Raw's comes about by chance
	// (Mann-Whitney).
	P      float64 `json:"p"`
	Memory float64 `json:"peak_over_idle"` // of peak_over_idle_bytes
	Area   float64 `json:"rss_byte_seconds"`
	P99    float64 `json:"p99"` // of the latency
}

// Noise is the difference between two interleaved series of the same runs.
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
