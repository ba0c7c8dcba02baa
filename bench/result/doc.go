// Package result holds what measurements come to, as JSON and in memory, and the
// arithmetic between: from the runs of an allocator (Run) to its figures (Result,
// Latency), and from those to the peers' over hakmem's (Ratio).
//
// It measures nothing and prints nothing. Every figure is computed once, here;
// programs that read a report use the figures in it.
package result
