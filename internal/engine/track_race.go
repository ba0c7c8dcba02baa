//go:build race && hakmem_racetrack

package engine

// This file makes the race detector see what a program does with the bytes of blocks. It has no
// state of its own.
//
// With the tag hakmem_racetrack the region of a race build is one allocation of Go's, so that the
// race detector watches it. Only functions that the detector does not watch (live.go) touch the
// live map, which is in the same memory. It needs a tag because the collector counts the region as
// live heap and so hardly ever runs, and because checkptr then objects to pointers that a program
// makes from integers.

// tracked says whether the race detector watches blocks.
const tracked = true

// maxTracked bounds the region: Go has to find the memory in one piece, and counts it as heap.
const maxTracked = 2 << 30
