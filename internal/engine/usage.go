package engine

import (
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/mem"
)

// This file holds the memory limits and decides whether more pages may get memory. The limits are
// written under region.mu.

// memoryLimit is what SetMemoryLimit sets, in pages. 0 is no limit. Written under region.mu.
var memoryLimit struct{ soft, hard atomic.Int64 }

// limitHit counts the page runs that the hard limit refused.
var limitHit atomic.Uint64

// limitSet says that SetMemoryLimit was called, so that the settings no longer count. Owned by
// region.mu.
var limitSet bool

// setMemoryLimit is the part of SetMemoryLimit that runs under region.mu.
func setMemoryLimit(soft, hard uint64) {
	check.MustHold(&region.mu, "setMemoryLimit")
	pages := func(n uint64) int64 { return int64(mem.Bytes(min(n, maxRegion)).Up(pageSize) >> pageShift) }
	memoryLimit.soft.Store(pages(soft))
	memoryLimit.hard.Store(pages(hard))
}

// allowed reports whether so many more pages may get memory behind them, and notes a refusal. Under
// region.mu.
func allowed(more int) bool {
	check.MustHold(&region.mu, "allowed")
	ok := within(more)
	if !ok {
		refuseByLimit()
	}
	return ok
}

// within reports whether the hard limit has room for so many more pages. Under region.mu.
func within(more int) bool {
	check.MustHold(&region.mu, "within")
	hard := memoryLimit.hard.Load()
	return hard == 0 || int64(pageUse.used+pageUse.dirty+more) <= hard
}

// refuseByLimit notes that the hard limit refused pages to an allocation. Under region.mu.
func refuseByLimit() {
	check.MustHold(&region.mu, "refuseByLimit")
	limitHit.Add(1)
	region.limited = true
}

// softShare sets the point at which the scavenger tightens: at 7/8 of the soft limit, so that it
// has acted before memory reaches the limit itself.
const softShare = 8

// pressedBy reports whether so many pages of memory are near the soft limit.
func pressedBy(pages int) bool {
	soft := memoryLimit.soft.Load()
	return soft != 0 && int64(pages) >= soft-soft/softShare
}

// pressed reports whether memory is near the soft limit. Takes region.mu.
func pressed() bool {
	if memoryLimit.soft.Load() == 0 {
		return false
	}
	region.mu.Lock()
	defer region.mu.Unlock()
	return pressedBy(pageUse.used + pageUse.dirty)
}
