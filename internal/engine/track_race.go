//go:build race

package engine

import (
	"runtime"

	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/osmem"
)

// In race builds the region is one allocation of Go's, so that the race detector
// sees what a program does with blocks. What hakmem itself does with that memory,
// the live map, is in functions that it does not watch (live.go).
//
// A block that one goroutine freed and another one gets is no race: a free is
// ordered before the allocations after it. The order is kept for each page, since
// what was freed as one size may come back as another; so the detector may take
// two accesses for ordered that only share a page, and miss a race.

// tracked says that the race detector watches blocks.
const tracked = true

// maxTracked bounds the region: Go has to find the memory in one piece, and counts
// it as heap.
const maxTracked = 2 << 30

// reserveBlocks takes the region's memory.
func reserveBlocks(n mem.Bytes) (mem.Addr, error) { return osmem.ReserveTracked(n) }

// raceAcquire orders what follows after every raceRelease of the block's pages.
func raceAcquire(p Block, n mem.Bytes) {
	for page := p.page(); page <= pageAt(p.addr().Add(n-1)); page++ {
		runtime.RaceAcquire(ptr(page.addr()))
	}
}

// raceRelease orders what went before, before every later raceAcquire.
func raceRelease(p Block, n mem.Bytes) {
	for page := p.page(); page <= pageAt(p.addr().Add(n-1)); page++ {
		runtime.RaceReleaseMerge(ptr(page.addr()))
	}
}
