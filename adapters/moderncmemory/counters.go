//go:build memory.counters

package memory

// counters says whether an Allocator keeps its public counters. The tag is that of modernc.org/memory.
const counters = true
