// Package realtime has the time and the timers of the process, whoever asks for them.
//
// The functions of package time belong to their caller. A goroutine in a bubble of testing/synctest
// has the bubble's clock, which stands still while the bubble's goroutines run. A timer that it
// makes is the bubble's: it ends with the bubble, its function runs in the bubble, and a goroutine
// outside that touches it ends the process. A service of the whole process must not depend on who
// happens to call it first.
//
// Therefore a Timer's runtime timer is made when the program starts, outside all bubbles. (The
// runtime notes at a timer's creation to which bubble it belongs.) Later it is only set. A Timer
// that is not set costs nothing: it is in no heap of timers and has no goroutine, and the runtime
// still notices when all goroutines are asleep.
package realtime

import (
	"runtime"
	"sync/atomic"
	"time"
)

// Now returns the time since the program began, by the system's monotonic clock. Any goroutine,
// also pinned. In a bubble, builds with the tag hakmem_nopin return the latest time at which they
// were asked outside of bubbles.
func Now() time.Duration { return now() }

// Timer calls a function at a moment of the process's time, on a goroutine of its own that is in no
// bubble. Any goroutine may use it. It has no lock.
type Timer struct {
	next atomic.Pointer[call] // what is to be called, nil: nothing. Whoever takes it out by CAS calls it
	// timer runs fire. It is nil if New was called in a bubble, until the next collection. Written
	// once.
	timer   atomic.Pointer[time.Timer]
	waiting atomic.Bool // a cleanup will call set
}

// call is what a Timer was set to do. It never changes.
type call struct {
	at time.Duration
	do func()
}

// New returns a Timer that is not set. It is for package variables: in a bubble, a timer of the
// runtime's can only be made later.
func New() *Timer {
	t := new(Timer)
	if !bubbled() {
		t.make()
	}
	return t
}

// make makes the runtime's timer if there is none. The caller is in no bubble. The timer fires at once, and finds nothing to call. A timer that was set
// to a later time and stopped would stay in the runtime's heap for a while, and as long as there is
// a timer the runtime does not report that all goroutines are asleep.
func (t *Timer) make() {
	if t.timer.Load() == nil {
		t.timer.CompareAndSwap(nil, time.AfterFunc(0, t.fire))
	}
}

// Set makes the Timer call do when d has passed. What it was set to call before, and has not called
// yet, is forgotten. Of two calls of Set at the same time one counts, and do may be called as late
// as the other wanted.
//
// In a bubble, builds that cannot set a timer of the process from there (see timer_none.go) set it
// after the next garbage collection.
func (t *Timer) Set(d time.Duration, do func()) {
	c := &call{Now() + max(d, 0), do}
	t.next.Store(c)
	if t.timer.Load() == nil || !SetsInBubble {
		if bubbled() {
			t.setLater()
			return
		}
		t.make()
	}
	t.set(c)
}

// set sets the runtime's timer for c.
func (t *Timer) set(c *call) { resetTimer(t.timer.Load(), c.at) }

// fire calls what is due. The runtime's timer may fire too early, for another Set.
func (t *Timer) fire() {
	switch c := t.next.Load(); {
	case c == nil:
	case Now() < c.at:
		t.set(c)
	case t.next.CompareAndSwap(c, nil):
		c.do()
	}
}

// setLater sets the timer after the next garbage collection: cleanups run outside of all bubbles.
func (t *Timer) setLater() {
	if t.waiting.Swap(true) {
		return
	}
	// The object must not be so small that the runtime puts several into one piece of memory.
	garbage := new([4]uintptr)
	runtime.AddCleanup(garbage, func(t *Timer) {
		t.waiting.Store(false) // before next is read: a later Set that sees true is seen here
		t.make()
		if c := t.next.Load(); c != nil {
			t.set(c)
		}
	}, t)
}

// bubbled reports whether the caller is in a bubble. There the time has no monotonic reading, which
// Round strips.
func bubbled() bool {
	t := time.Now()
	return t == t.Round(0)
}
