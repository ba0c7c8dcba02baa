//go:build race

package engine

import (
	"runtime"

	"github.com/hakmem/hakmem/internal/mem"
)

// This file makes the race detector see what a program does with blocks. It has no state of its
// own.
//
// In race builds the region is one allocation of Go's, so that the race detector watches it. Only
// functions that the detector does not watch (live.go) touch the live map, which is in the same
// memory.
//
// It is no race when one goroutine frees a block and another one gets it: a free is ordered before
// the allocations after it. The order is kept for each page, since memory that was freed as one
// size may come back as another. For that reason the detector may take two accesses for ordered
// that only share a page, and miss a race.

// tracked says whether the race detector watches blocks.
const tracked = true

// maxTracked bounds the region: Go has to find the memory in one piece, and counts it as heap.
const maxTracked = 2 << 30

// raceAcquire orders what follows after every earlier raceRelease of the block's pages.
func raceAcquire(p Block, n mem.Bytes) {
	for page := p.page(); page <= pageAt(p.addr().Add(n-1)); page++ {
		runtime.RaceAcquire(ptr(page.addr()))
	}
}

// raceRelease orders what went before it before every later raceAcquire of the block's pages.
func raceRelease(p Block, n mem.Bytes) {
	for page := p.page(); page <= pageAt(p.addr().Add(n-1)); page++ {
		runtime.RaceReleaseMerge(ptr(page.addr()))
	}
}
