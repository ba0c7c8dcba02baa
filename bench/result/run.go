package result

// A Run is the outcome of one measurement. Memory and fault figures are 0 where
// the system does not tell them. The C driver prints the same fields.
type Run struct {
	Seconds float64 `json:"seconds"`   // of the operation loop
	OpsPerS float64 `json:"ops_per_s"` // of all threads together
	NsPerOp float64 `json:"ns_per_op"` // 1e9 / OpsPerS: with T threads, a T-th of what one thread waits
	// PeakRSS is the process's peak resident memory in bytes, IdleRSS its
	// resident memory just before the loop's first allocation, EndRSS that after everything was
	// freed, LaterRSS that after a pause.
	PeakRSS  uint64 `json:"peak_rss_bytes"`
	IdleRSS  uint64 `json:"idle_rss_bytes"`
	EndRSS   uint64 `json:"end_rss_bytes"`
	LaterRSS uint64 `json:"later_rss_bytes,omitempty"`
	// MinorFaults is the number of page faults during the loop.
	MinorFaults uint64 `json:"minor_faults"`
	// Begin and End bound the loop, in nanoseconds of CLOCK_MONOTONIC; 0 where
	// that clock is not at hand. For who watches the process from outside.
	Begin int64 `json:"begin_ns,omitempty"`
	End   int64 `json:"end_ns,omitempty"`
	// Version is the allocator's version, where it can be found.
	Version string `json:"version,omitempty"`
	// Layout is the number of the code layout measured, 0 for the plain build.
	Layout int `json:"layout,omitempty"`
	// Area is the resident memory over IdleRSS, in bytes times seconds, summed
	// over the loop by who watched the process; 0 if nobody did.
	Area float64 `json:"rss_byte_seconds,omitempty"`
	// What was observed, if that was asked for.
	Observed *Observed `json:"observed,omitempty"`
}

// Observed is the outcome of an observation.
type Observed struct {
	// Hashes has, for each thread, the FNV-1a hash (64 bits) over the words
	// (1 for an allocation or 0 for a free, size or 0, slot) of every operation
	// in its order, those before and after the timed part included.
	Hashes []string `json:"hashes,omitempty"`
	// Verified is the number of blocks that were checked.
	Verified uint64 `json:"verified,omitempty"`
	// Clock and Latency hold times in nanoseconds and how often each occurred:
	// around nothing, and around sampled operations. From 2048 on, times are
	// rounded down to 11 significant bits.
	Clock   [][2]uint64 `json:"clock,omitempty"`
	Latency [][2]uint64 `json:"latency,omitempty"`
	// Every is the mean distance between two samples, in operations.
	Every uint64 `json:"every,omitempty"`
}
