// Package telemetry measures hakmem's slow paths: how often each phase ran, and
// for how many ticks of the processor's cycle counter.
//
// It is off until SetTiming(true). Off, a phase costs one load and two branches. On, it costs two
// readings of the counter and two or three atomic additions on cache lines that all Ps share. That
// is good enough to see which phase takes the time, and too much to be left on in production.
//
// Begin and End allocate nothing, never block and never panic: they may be used while pinned to a
// P, and from any goroutine. They do not know about nesting, so a phase that runs inside another is
// counted in both. They measure elapsed time, so the time during which a phase is blocked or
// preempted counts as well.
package telemetry

import (
	"math/bits"
	"sync/atomic"
	"time"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/realtime"
)

// Phase is one part of the slow paths.
type Phase uint8

const (
	Refill    Phase = iota // moving blocks from a slab into a magazine
	Flush                  // moving blocks from a magazine to their slabs
	Acquire                // finding a slab for a lease
	Retire                 // giving a lease up
	LargeTake              // taking pages for a large block
	LargeGive              // giving the pages of a large block back
	Commit                 // raising the committed bound
	Drain                  // emptying the fronts
	Sweep                  // bringing free pages together
	Purge                  // returning memory to the operating system
	NumPhases              // their number, not a phase
)

var phaseNames = [NumPhases]string{
	"refill", "flush", "acquire", "retire", "large take", "large give", "commit", "drain", "sweep", "purge",
}

// String returns the phase in lower case, or "unknown".
func (p Phase) String() string {
	if p < NumPhases {
		return phaseNames[p]
	}
	return "unknown"
}

// Buckets is the number of a phase's histogram buckets.
const Buckets = 32

// total is what is known of one phase. The buckets also give the count, because a separate counter
// would need another atomic addition.
type total struct {
	cycles, max atomic.Uint64
	buckets     [Buckets]atomic.Uint64
	// Two phases never share a cache line of up to 128 bytes, however the array
	// is aligned.
	_ [128]byte
}

var (
	on     atomic.Bool // atomic only for the race detector; the cost is that of a plain load
	totals [NumPhases]total
	origin struct {
		check.Mutex[check.Origin]
		instant
		set bool
	}
)

// instant is one moment on both clocks.
type instant struct {
	ticks uint64
	at    time.Duration // realtime.Now
}

// SetTiming turns the timing on or off. It is meant for the start of the program. Any goroutine may
// call it, but not while pinned. Turning the timing off keeps the totals, and a phase that had
// begun is still added.
func SetTiming(enable bool) {
	if enable {
		origin.Lock()
		if !origin.set {
			origin.instant, origin.set = readClocks(), true
		}
		origin.Unlock()
	}
	on.Store(enable)
}

// Begin returns the cycle counter for End, or 0 when the timing is off. Any
// goroutine, also pinned.
func Begin() uint64 {
	if !on.Load() {
		return 0
	}
	return ticks()
}

// End adds the time since begin, a result of Begin, to phase p; it does nothing when begin is 0 or
// p is not a phase. Any goroutine, also pinned, and on any processor, not only the one that Begin
// ran on.
func End(p Phase, begin uint64) {
	if begin != 0 {
		end(p, begin)
	}
}

//go:noinline
func end(p Phase, begin uint64) { record(p, ticks()-begin) }

func record(p Phase, n uint64) {
	if p >= NumPhases {
		return
	}
	if int64(n) < 0 {
		n = 0 // the counters of two processors may differ by a few ticks
	}
	t := &totals[p]
	t.cycles.Add(n)
	t.buckets[min(bits.Len64(n), Buckets-1)].Add(1)
	for m := t.max.Load(); n > m && !t.max.CompareAndSwap(m, n); m = t.max.Load() {
	}
}

// Timing is the total of one phase, in ticks of the cycle counter (see Hz).
type Timing struct {
	Count     uint64 // how often the phase ended
	Cycles    uint64 // ticks of all runs
	MaxCycles uint64 // ticks of the longest run
}

// ReadTiming fills dst with the totals since the program started. Any goroutine; a phase that ends
// during the call may be included in only some of the numbers.
func ReadTiming(dst *[NumPhases]Timing) {
	for p := range totals {
		t := &totals[p]
		dst[p] = Timing{Cycles: t.cycles.Load(), MaxCycles: t.max.Load()}
		for i := range t.buckets {
			dst[p].Count += t.buckets[i].Load()
		}
	}
}

// ReadHistogram, for tests, fills dst with how often phase p took how long: dst[i] counts the runs
// of 2^(i-1) up to 2^i - 1 ticks, dst[0] those of 0 ticks, and the last element also all longer
// ones. Any goroutine. All elements are 0 when p is not a phase.
func ReadHistogram(p Phase, dst *[Buckets]uint64) {
	*dst = [Buckets]uint64{}
	if p >= NumPhases {
		return
	}
	for i := range dst {
		dst[i] = totals[p].buckets[i].Load()
	}
}

// Hz returns the ticks of the cycle counter in a second: nanoseconds are
// ticks * 1e9 / Hz. It is 0 until SetTiming(true). Any goroutine, not pinned.
//
// Where the unit is not known, it is measured with the monotonic clock, from the first
// SetTiming(true) to this call. Each end of that interval is known to some 100 ns. The error of the
// result is therefore below 2 % after 10 µs and below 0.1 % after 1 ms; later it is that of the
// system's clock (some 0.01 %). While a machine is suspended one of the clocks may stop and the
// other may run on.
func Hz() float64 {
	origin.Lock()
	defer origin.Unlock()
	if !origin.set {
		return 0
	}
	if knownHz != 0 {
		return knownHz
	}
	now := readClocks()
	seconds := (now.at - origin.at).Seconds()
	if seconds <= 0 || now.ticks <= origin.ticks {
		return 0
	}
	return float64(now.ticks-origin.ticks) / seconds
}

// readClocks reads both clocks as close together in time as a few attempts allow, because a single
// attempt may be interrupted between the two.
func readClocks() (best instant) {
	shortest := time.Duration(1<<63 - 1)
	for range 8 {
		before := realtime.Now()
		n := ticks()
		d := realtime.Now() - before
		if d < shortest {
			shortest, best = d, instant{n, before + d/2}
		}
	}
	return best
}
