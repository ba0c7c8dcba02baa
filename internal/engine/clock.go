package engine

import (
	"sync/atomic"
	"time"

	"github.com/hakmem/hakmem/internal/policy"
)

// Times are in parts of the default window, HAKMEM_DECAY_MS. Its 2.2 s outlast
// demand that comes back every 2 s (docs/ledger.md, "Sawtooth").
const (
	// ticksPerWindow: each tick costs some microseconds, and what is returned may
	// be late by one.
	ticksPerWindow = 10
	// horizonWindows: memory taken again within this many default windows after
	// it was returned should have been kept.
	horizonWindows = 4
)

// decayPart is so many hundredths of the default window, in milliseconds.
// 1 at the least.
func decayPart(hundredths float64) millis {
	return millis(max(1, uint32(hundredths*float64(decay())/100)))
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

// times is what stamps are made of: slabs, chunks and caches note when they were last
// used. The scavenger moves it on (and a test its clock); who stamps only reads.
var times = struct {
	clock clock
	// now is the clock at the scavenger's last tick or kick. Owned by region.mu.
	now stamp
	// listed is now for those that make a slab PARTIAL, without region.mu.
	listed atomic.Uint32
	// Before the timer ran, slabs were stamped with a stale time: idleStamp. Treat those
	// as listed at armedAt, when it was set.
	idleStamp, armedAt atomic.Uint32
	// epoch counts ticks, so that a Heap knows when to trim itself.
	epoch atomic.Uint32
}{clock: realClock{}}

func (realClock) Now() time.Duration { return time.Since(processStart) }

func (realClock) AfterFunc(d time.Duration, tick func()) { time.AfterFunc(d, tick) }

// milliseconds is the clock's time. It wraps after 49 days; only differences
// are used. Under region.mu or scavenger.mu.
func milliseconds() stamp { return stamp(times.clock.Now().Milliseconds()) }

// decay is the default window in milliseconds.
func decay() millis { return millis(policy.Now().DecayMs) }

func horizon() millis { return horizonWindows * decay() }
