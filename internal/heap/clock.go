package heap

import (
	"time"

	"github.com/hakmem/hakmem/internal/policy"
)

// Times are in parts of the default window, HAKMEM_DECAY_MS. Its 2.2 s outlast
// demand that comes back every 2 s (docs/ledger.md, "Sawtooth").
const (
	// minWindow and maxWindow bound the window, in hundredths: 0.22 and 3.08 s.
	// With the longest an EMPTY slab is found up to two ticks of 0.3 s late and
	// returned up to one late: 4 s, and a second for the purge itself.
	minWindow, maxWindow = 10, 140
	// ticksPerWindow: each tick costs some microseconds, and what is returned may
	// be late by one.
	ticksPerWindow = 10
	// minTick, in hundredths: 55 ms even where the window is at its least.
	minTick = 2.5
	// peakBuckets holds the peaks of a window, and of twice that many ticks when
	// it has just become longer.
	peakBuckets = 2*ticksPerWindow + 4
	// horizonWindows: memory taken again within this many default windows after
	// it was returned should have been kept.
	horizonWindows = 4
	// idleAfter is for how long a front must look the same to be idle, in
	// hundredths: 0.88 s. (A front in use that looks the same by chance only
	// loses its magazines.) maxIdle is the most that it may become for a front
	// that is often idle and soon built again: 14 s.
	idleAfter, maxIdle = 40, 640
	// idleBytes is what must lie in idle magazines of a busy front to drain it: a
	// drain stops the world.
	idleBytes = 1 << 20
)

// decayPart is so many hundredths of the default window, in milliseconds.
// 1 at the least.
func decayPart(hundredths float64) uint32 {
	return max(1, uint32(hundredths*float64(decay())/100))
}

// clock is the scavenger's time. Tests inject another.
type clock interface {
	// Now is the time since some moment.
	Now() time.Duration
	// AfterFunc calls tick once, on a goroutine of its own, d from now.
	AfterFunc(d time.Duration, tick func())
}

type realClock struct{}

var processStart = time.Now()

func (realClock) Now() time.Duration { return time.Since(processStart) }

func (realClock) AfterFunc(d time.Duration, tick func()) { time.AfterFunc(d, tick) }

// milliseconds is the clock's time. It wraps after 49 days; only differences
// are used. Under region.mu or scavenger.mu.
func milliseconds() uint32 { return uint32(scavenger.clock.Now().Milliseconds()) }

// decay is the default window in milliseconds.
func decay() uint32 { return uint32(policy.Current().DecayMs) }

func horizon() uint32 { return horizonWindows * decay() }
