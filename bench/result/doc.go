// Package result holds the outcomes of measurements, as JSON and in memory, and the arithmetic
// between them: from the runs of an allocator (Run) to its figures (Result, Latency), and from
// those to the ratios of the peers' figures over hakmem's (Ratio).
package result
