package heap

import (
	"fmt"
	"math/bits"
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/policy"
)

// pageUse counts the region's pages by what they are, and keeps book on whether
// it was right to keep or to return them. Owned by region.mu. Every page that
// changes hands goes through superMeta.take or give, which keep it true.
var pageUse struct {
	used int // pages of slabs and spans, those of cached spans too
	warm int // free pages with memory behind them
	peak int // the most that used was since the scavenger's last tick

	// The correctness tracker, in pages.
	reused   uint64 // kept warm, and taken again
	returned uint64 // given back to the operating system
	vain     uint64 // of those: kept for the scavenger's whole window before
	again    uint64 // of those: taken again, and so faulted again, within its horizon
}

// take hands out the pages m of the chunk, which are free. clean reports whether
// all of them still read as zero. Under region.mu.
func (s *superMeta) take(m uint32) (clean bool) {
	u := &pageUse
	warm := bits.OnesCount32(s.dirty & m)
	if m == ^uint32(0) {
		s.wasDirty = s.dirty
	}
	u.used += bits.OnesCount32(m)
	u.warm -= warm
	u.reused += uint64(warm)
	u.peak = max(u.peak, u.used)
	if back := s.purged & m; back != 0 {
		s.purged &^= back
		if milliseconds()-s.purgedAt <= horizon() {
			u.again += uint64(bits.OnesCount32(back))
		}
	}
	s.free &^= m
	s.dirty |= m
	return warm == 0
}

// give takes back the pages m of the chunk, which were handed out and last used
// at the given time. Under region.mu.
func (s *superMeta) give(m, at uint32) {
	n := bits.OnesCount32(m)
	pageUse.used -= n
	pageUse.warm += n
	s.free |= m
	now := scavenger.now
	if int32(at-now) > 0 {
		at = now
	}
	if now-at <= now-s.freedAt { // the later one
		s.freedAt = at
	}
}

// memoryLimit is what SetMemoryLimit sets, in pages; 0 is no limit. Written
// under region.mu.
var memoryLimit struct{ soft, hard atomic.Int64 }

// limitHit counts page runs refused by the hard limit.
var limitHit atomic.Uint64

// SetMemoryLimit limits the memory behind pages, those in use and those kept
// warm, to hard bytes, and asks the scavenger to keep it below soft. 0 is no
// limit.
func SetMemoryLimit(soft, hard uint64) error {
	if hard != 0 && soft > hard {
		return fmt.Errorf("hakmem: memory limit: soft limit of %d bytes above the hard limit of %d: lower the one or raise the other", soft, hard)
	}
	if hard != 0 && hard < superSize {
		return fmt.Errorf("hakmem: memory limit: hard limit of %d bytes: use 0 for none, or at least %d", hard, uint64(superSize))
	}
	region.mu.Lock()
	setMemoryLimit(soft, hard)
	limitSet = true
	region.mu.Unlock()
	kickPressed()
	return nil
}

// limitSet says that SetMemoryLimit was called: the gates no longer count.
// Owned by region.mu.
var limitSet bool

// setMemoryLimit is SetMemoryLimit under region.mu.
func setMemoryLimit(soft, hard uint64) {
	pages := func(n uint64) int64 { return int64(roundUp(uintptr(min(n, maxRegion)), pageSize) >> pageShift) }
	memoryLimit.soft.Store(pages(soft))
	memoryLimit.hard.Store(pages(hard))
}

// MemoryLimit returns the limits in force, in bytes, or those that will be with
// the first allocation.
func MemoryLimit() (soft, hard uint64) {
	region.mu.Lock()
	set := limitSet || region.ready.Load()
	region.mu.Unlock()
	if pol := policy.Current(); !set {
		return uint64(pol.MemorySoft), uint64(pol.MemoryHard)
	}
	return uint64(memoryLimit.soft.Load()) << pageShift, uint64(memoryLimit.hard.Load()) << pageShift
}

// allowed reports whether more pages may get memory behind them, and notes it if
// not. Under region.mu.
func allowed(more int) bool {
	ok := within(more)
	if !ok {
		refuseByLimit()
	}
	return ok
}

// within reports whether the hard limit has room for more pages. Under region.mu.
func within(more int) bool {
	hard := memoryLimit.hard.Load()
	return hard == 0 || int64(pageUse.used+pageUse.warm+more) <= hard
}

// refuseByLimit notes that the hard limit refused an allocation its pages. Under
// region.mu.
func refuseByLimit() {
	limitHit.Add(1)
	region.limited = true
}

// softShare: the scavenger tightens at 7/8 of the soft limit, so that it has
// acted before the limit itself is reached.
const softShare = 8

// pressedBy reports whether pages of memory are near the soft limit.
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
	return pressedBy(pageUse.used + pageUse.warm)
}
