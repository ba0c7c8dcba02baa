package engine

import (
	"math/bits"
	"time"

	"github.com/hakmem/hakmem/internal/check"
)

// This file says of free pages that they are kept for a shorter or a longer time than others: those of large
// blocks at whose site a HoldScale is set (siterule.go). The model (keep.go) sees when they are freed and
// taken, as of all pages. So it learns from true waits, and only what it decides is scaled.

// holdScale is a factor of the time for which a free page keeps its memory.
type holdScale float32

// scaledPages are the pages of a chunk that have a holdScale.
type scaledPages struct {
	pages pageSet
	scale [superPages]holdScale // of those pages
}

// holdScales has the chunks with such pages, which are free. Owned by region.mu.
var holdScales = map[chunkNo]*scaledPages{}

// scalePages gives free pages m of chunk c a factor. They have it until they are taken. Under region.mu.
func scalePages(c chunkNo, m pageSet, f holdScale) {
	check.MustHold(&region.mu, "scalePages")
	x := holdScales[c]
	if x == nil {
		x = new(scaledPages)
		holdScales[c] = x
	}
	x.pages |= m
	for ; m != 0; m &= m - 1 {
		x.scale[bits.TrailingZeros32(uint32(m))] = f
	}
}

// unscalePages takes the factors of the pages m of chunk c away. Under region.mu.
func unscalePages(c chunkNo, m pageSet) {
	check.MustHold(&region.mu, "unscalePages")
	if x := holdScales[c]; x != nil {
		if x.pages &^= m; x.pages == 0 {
			delete(holdScales, c)
		}
	}
}

// scaled returns the hold time of a page of the chunk, of which hold is what the model says. x may be nil.
func (x *scaledPages) scaled(hold time.Duration, page uint32) time.Duration {
	if x == nil || x.pages>>page&1 == 0 {
		return hold
	}
	return time.Duration(float64(x.scale[page]) * float64(hold))
}
