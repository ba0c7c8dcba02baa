package result

// The JSON of one measurement.

// A Run is the outcome of one measurement. Memory and fault figures are 0 where the system does not
// report them. The C driver prints the same fields.
type Run struct {
	Seconds float64 `json:"seconds"`   // of the operation loop
	OpsPerS float64 `json:"ops_per_s"` // of all threads together
	NsPerOp float64 `json:"ns_per_op"` // 1e9 / OpsPerS: with T threads, a T-th of the time that one thread waits
	// PeakRSS is the process's peak resident memory in bytes. IdleRSS is its resident memory just
	// before the loop's first allocation, EndRSS after everything was freed, and LaterRSS after a
	// pause.
	PeakRSS  uint64 `json:"peak_rss_bytes"`
	IdleRSS  uint64 `json:"idle_rss_bytes"`
	EndRSS   uint64 `json:"end_rss_bytes"`
	LaterRSS uint64 `json:"later_rss_bytes,omitempty"`
	// MinorFaults is the number of page faults during the loop.
	MinorFaults uint64 `json:"minor_faults"`
	// Begin and End bound the loop, in nanoseconds of CLOCK_MONOTONIC, for whoever watches the
	// process from outside. They are 0 where that clock is not at hand.
	Begin int64 `json:"begin_ns,omitempty"`
	End   int64 `json:"end_ns,omitempty"`
	// Version is the allocator's version, where it can be found.
	Version string `json:"version,omitempty"`
	// Placement is the number of the placement measured, from 1 on, or 0 for the plain build. A
	// placement is a build in which code and data have addresses of their own. (JSON has a former
	// word for it, which older reports have.)
	Placement int `json:"layout,omitempty"`
	// Area is the resident memory over IdleRSS, in bytes times seconds, summed over the loop by the
	// program that watched the process; 0 if none did.
	Area float64 `json:"rss_byte_seconds,omitempty"`
	// Laps are the parts of the loop, in their order, where it has parts.
	Laps []Lap `json:"laps,omitempty"`
	// Observed is what was observed, if that was asked for.
	Observed *Observed `json:"observed,omitempty"`
}

// A Lap is a part of a loop. It ends when all threads have ended it.
type Lap struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
	// CPU is the processor's time that the process used, in seconds; 0 where it is not known.
	CPU         float64 `json:"cpu_seconds"`
	MinorFaults uint64  `json:"minor_faults"`
	RSS         uint64  `json:"rss_bytes"` // resident memory at its end; 0 where it is not known
	// Own is what the allocator says of itself at the lap's end; nil where it says nothing.
	Own *Own `json:"own,omitempty"`
}

// Own are the figures that an allocator has of itself. Those of bytes are hakmem.Stats' fields of the same
// names; Tables is what is resident of its own maps.
type Own struct {
	Live      uint64 `json:"live_bytes"`
	Committed uint64 `json:"committed_bytes"`
	Metadata  uint64 `json:"metadata_bytes"`
	Tables    uint64 `json:"resident_table_bytes"`
	// Ticks is the number of times that the allocator's timer has run.
	Ticks uint64 `json:"ticks"`
	// Seconds is the time that it took to find all these.
	Seconds float64 `json:"stats_seconds"`
}

// Lap returns the lap of that name, or nil.
func (r *Run) Lap(name string) *Lap {
	for i := range r.Laps {
		if r.Laps[i].Name == name {
			return &r.Laps[i]
		}
	}
	return nil
}

// Observed is the outcome of an observation.
type Observed struct {
	// Hashes has, for each thread, an FNV-1a hash (64 bits) of its operations in their order, those
	// before and after the timed part included. For each operation it covers the words 1 for an
	// allocation or 0 for a free, size or 0, and slot.
	Hashes []string `json:"hashes,omitempty"`
	// Verified is the number of blocks that were checked.
	Verified uint64 `json:"verified,omitempty"`
	// Clock and Latency hold times in nanoseconds and how often each occurred: Clock times around
	// nothing, Latency times around sampled operations. From 2048 on, times are rounded down to 11
	// significant bits.
	Clock   [][2]uint64 `json:"clock,omitempty"`
	Latency [][2]uint64 `json:"latency,omitempty"`
	// Every is the mean distance between two samples, in operations.
	Every uint64 `json:"every,omitempty"`
}
