package engine

import (
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/mem"
)

// This file holds the memory limits, and the count of memory that is compared with them. The limits
// are written under region.mu. The count is atomic: most of it changes under region.mu, holes under
// a class's lock or by the goroutine that has a slab CLAIMED, magazines by whoever has the front.

// memoryLimit is what SetMemoryLimit sets, in bytes. 0 is no limit. Written under region.mu.
var memoryLimit struct{ soft, hard atomic.Int64 }

// counted is the number of bytes that the limits count: the memory of all OS pages that may be
// resident. They are
//
//   - the pages in use and the dirty ones, except for their OS pages that are not resident: holes
//     (punch.go), and the end of a large block's last page, which the block does not use;
//   - the tables that grow with these pages: the live map of tiny slabs, the site map where blocks
//     have sites, the entries of the page table and the bitmaps of each chunk that was ever used;
//   - fronts: the head of each, and the OS pages of the magazines that it has made;
//   - guarded blocks.
//
// It is an upper bound: memory that was handed out and never touched counts. Whoever makes more
// memory usable reserves it first (reserve), and whoever returned memory takes it out afterwards
// (uncount). So between the two the count is never below what is resident, and at a hard limit
// nothing is handed out that would be counted too late.
var counted atomic.Int64

// Counted returns counted, in bytes. Any goroutine.
func Counted() mem.Bytes { return mem.Bytes(counted.Load()) }

// limitHit counts the refusals of memory by the hard limit.
var limitHit atomic.Uint64

// LimitRefusals returns how often the hard limit has refused memory. Any goroutine.
func LimitRefusals() uint64 { return limitHit.Load() }

// limitSet says that SetMemoryLimit was called, so that the settings no longer count. Owned by
// region.mu.
var limitSet bool

// setMemoryLimit is the part of SetMemoryLimit that runs under region.mu.
func setMemoryLimit(soft, hard uint64) {
	check.MustHold(&region.mu, "setMemoryLimit")
	whole := func(n uint64) int64 { return int64(mem.Bytes(min(n, maxRegion)).Up(pageSize)) }
	memoryLimit.soft.Store(whole(soft))
	memoryLimit.hard.Store(whole(hard))
}

// reserve counts n bytes that are about to become usable, and reports whether the hard limit has
// room for them. If it has not, nothing is counted. Any goroutine, under any lock or entered.
func reserve(n mem.Bytes) bool {
	if n == 0 {
		return true
	}
	for {
		hard, old := memoryLimit.hard.Load(), counted.Load()
		if hard != 0 && old+int64(n) > hard {
			return false
		}
		if counted.CompareAndSwap(old, old+int64(n)) {
			return true
		}
	}
}

// count counts n bytes whatever the limit is. It is for memory that cannot be refused: what a P's
// front needs, and what turned out to be resident after all.
func count(n mem.Bytes) {
	if n != 0 {
		counted.Add(int64(n))
	}
}

// uncount takes n bytes out of the count: their memory was returned, or what was reserved for is not
// done.
func uncount(n mem.Bytes) {
	if n != 0 {
		counted.Add(-int64(n))
	}
}

// within reports whether the hard limit has room for n more bytes at this moment. Any goroutine.
func within(n mem.Bytes) bool {
	hard := memoryLimit.hard.Load()
	return hard == 0 || counted.Load()+int64(n) <= hard
}

// nearHard reports whether less than a quarter of the hard limit is left. Any goroutine.
func nearHard() bool {
	hard := memoryLimit.hard.Load()
	return hard != 0 && counted.Load() > hard-hard/4
}

// allowed is within, and notes a refusal. Under region.mu.
func allowed(n mem.Bytes) bool {
	check.MustHold(&region.mu, "allowed")
	ok := within(n)
	if !ok {
		refuseByLimit()
	}
	return ok
}

// refuseByLimit notes that the hard limit refused memory to an allocation. Under region.mu.
func refuseByLimit() {
	check.MustHold(&region.mu, "refuseByLimit")
	limitHit.Add(1)
	region.limited = true
}

// softShare sets the point at which the scavenger tightens: at 7/8 of the soft limit, so that it
// has acted before memory reaches the limit itself.
const softShare = 8

// pressed reports whether memory is near the soft limit. Any goroutine.
func pressed() bool {
	soft := memoryLimit.soft.Load()
	return soft != 0 && counted.Load() >= soft-soft/softShare
}
