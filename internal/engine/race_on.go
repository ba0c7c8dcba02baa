//go:build race

package engine

import (
	"runtime"
	"unsafe"

	"github.com/hakmem/hakmem/internal/mem"
)

// This file tells the race detector in which order goroutines have blocks.
//
// It is no race when one goroutine frees a block and another one gets it: a free is ordered before
// the allocations after it, as in C. A program may rely on that without a look at the block's
// bytes, for example with a Go array that has an element for each block. The order is kept for each
// page, since memory that was freed as one size may come back as another. For that reason the
// detector may take two accesses for ordered that only share a page, and miss a race.

// raced says that this build has the race detector. Then no call takes a path that does not tell it
// the order.
const raced = true

// raceWords stand for the pages of the region in the detector's eyes. It ignores annotations of
// memory outside Go's heap and its variables. Pages that are 4 GiB apart share a word, which may
// hide a race and reports none that is not there. Nobody reads or writes the words.
var raceWords [64 << 10]uint64

// raceAcquire orders what follows after every earlier raceRelease of the block's pages.
func raceAcquire(p Block, n mem.Bytes) { eachRaceWord(p, n, runtime.RaceAcquire) }

// raceRelease orders what went before it before every later raceAcquire of the block's pages.
func raceRelease(p Block, n mem.Bytes) { eachRaceWord(p, n, runtime.RaceReleaseMerge) }

func eachRaceWord(p Block, n mem.Bytes, do func(unsafe.Pointer)) {
	first, last := p.page(), pageAt(p.addr().Add(n-1))
	last = min(last, first+pageNo(len(raceWords)-1)) // these are all words
	for page := first; page <= last; page++ {
		do(unsafe.Pointer(&raceWords[page%pageNo(len(raceWords))]))
	}
}
