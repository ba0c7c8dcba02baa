package engine

import (
	"sync/atomic"
	"time"

	"github.com/hakmem/hakmem/internal/policy"
	"github.com/hakmem/hakmem/internal/realtime"
)

// This file holds the engine's time: the clock that the scavenger moves on, and the moments from
// which slabs, chunks and caches take their stamps. The comment at each field of times says who
// owns it.

// Times are in parts of HAKMEM_DECAY_MS, which is 2.2 s by default: longer than demand that comes back
// every 2 s (docs/ledger.md, "Sawtooth").
const (
	// ticksPerDecay is the number of ticks in that time, one each 110 ms. Each tick costs some tens of
	// microseconds, and memory may be returned late by one tick. With ticks of 55 ms EMPTY slabs are
	// given back that are about to be used again.
	ticksPerDecay = 20
	// horizonDecays is the tracker's horizon. Memory that is taken again within the horizon after it was
	// returned counts as faulted in again.
	horizonDecays = 4
	// cacheTime is for how long the shared caches keep a large block that nobody takes, in hundredths:
	// 0.25 s. Then its pages are free, and keep their memory for their hold time.
	cacheTime = 11.4
)

// decayPart returns so many hundredths of HAKMEM_DECAY_MS, in milliseconds. The result is at least 1.
func decayPart(hundredths float64) millis {
	return millis(max(1, uint32(hundredths*float64(decay())/100)))
}

// clock stands for the process's time (package realtime), on which the scavenger goes. Tests inject
// one.
type clock interface {
	// Now is the time since some fixed moment.
	Now() time.Duration
	// AfterFunc calls tick once, on a goroutine of its own, d from now.
	AfterFunc(d time.Duration, tick func())
}

// alarm is a timer with the name of what it is for.
type alarm struct {
	timer *realtime.Timer
	name  string
}

// alarms are the timers that the scavenger sets. Each is for one purpose, and is set again only
// when it has fired or for the same purpose. They are made when the program starts: see package
// realtime.
var alarms = struct{ tick, growth, pressure alarm }{
	tick:     alarm{realtime.New(), "tick"},
	growth:   alarm{realtime.New(), "growth"},
	pressure: alarm{realtime.New(), "pressure"},
}

// showAlarm calls do, which is what the alarm with that name is for.
var showAlarm = func(name string, do func()) { do() }

// ShowAlarms has show called, without any lock, by the goroutine of each alarm. show calls do, which does what
// the alarm with that name is for. To be called once, before any allocation.
func ShowAlarms(show func(name string, do func())) { showAlarm = show }

// times holds the moments that stamps are made of. Slabs, chunks and caches note when they were
// last used. The scavenger moves the moments on (SetClock does so too); a goroutine that stamps
// only reads them.
var times struct {
	injected atomic.Pointer[clock] // nil: the process's time
	// now is the clock's time at the scavenger's last tick or kick. Owned by region.mu.
	now stamp
	// listed is a copy of now for goroutines that make a slab PARTIAL. They do not hold region.mu.
	listed atomic.Uint32
	// idleStamp is the stale time with which slabs were stamped before the timer was set. Slabs
	// with that stamp count as listed at armedAt, the moment when the timer was set.
	idleStamp, armedAt atomic.Uint32
	// epoch counts ticks. A Heap compares it with its own to know when to trim itself.
	epoch atomic.Uint32
}

// after has alarm a call do on a goroutine of its own, d from now. Under region.mu.
func after(d time.Duration, a alarm, do func()) {
	ring := func() { showAlarm(a.name, do) }
	if c := times.injected.Load(); c != nil {
		(*c).AfterFunc(d, ring)
		return
	}
	a.timer.Set(d, ring)
}

// milliseconds returns the clock's time. It wraps after 49 days, so only differences are used.
func milliseconds() stamp { return stamp(elapsed().Milliseconds()) }

// elapsed returns the clock's time since some fixed moment. Any goroutine, also entered.
func elapsed() time.Duration {
	if c := times.injected.Load(); c != nil {
		return (*c).Now()
	}
	return realtime.Now()
}

// startTime is elapsed for what is going to be timed. It is never 0, which stands for what is not.
func startTime() time.Duration { return max(elapsed(), 1) }

// decay is HAKMEM_DECAY_MS, in milliseconds.
func decay() millis { return millis(policy.Now().DecayMs) }

// horizon is the tracker's horizon in milliseconds: see horizonDecays.
func horizon() millis { return horizonDecays * decay() }
