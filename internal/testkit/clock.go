package testkit

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Stopped is a clock for the scavenger that stands still: no timer ever runs.
type Stopped struct{}

// Now returns 0.
func (Stopped) Now() time.Duration { return 0 }

// AfterFunc forgets tick.
func (Stopped) AfterFunc(time.Duration, func()) {}

// Clock is a clock for the scavenger that moves only when a test moves it. Its zero value is at 0.
// One goroutine advances it and runs the timers that are due; any goroutine may set timers. The engine reads the
// clock where it is entered, too, so a reading takes no lock: a goroutine that waits while it is pinned ends the
// program ("schedule: holding locks").
type Clock struct {
	mu     sync.Mutex   // of timers, and of whoever moves now
	now    atomic.Int64 // a time.Duration
	timers []timer
}

type timer struct {
	at   time.Duration
	tick func()
}

// Now returns the time since the clock's beginning.
func (c *Clock) Now() time.Duration { return time.Duration(c.now.Load()) }

// Skip moves the clock by d and runs nothing: timers that became due run late.
func (c *Clock) Skip(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now.Add(int64(d))
}

// AfterFunc calls tick when the clock has moved by d.
func (c *Clock) AfterFunc(d time.Duration, tick func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timers = append(c.timers, timer{c.Now() + d, tick})
}

// Pending returns how many timers are set.
func (c *Clock) Pending() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.timers)
}

// Advance moves the clock by d and runs the timers that become due on the way, in order.
func (c *Clock) Advance(d time.Duration) {
	end := c.Now() + d
	for tick := c.due(end); tick != nil; tick = c.due(end) {
		tick()
	}
}

// due takes out the first timer that is due by end and moves the clock to its time, or to end if
// there is none.
func (c *Clock) due(end time.Duration) (tick func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	first := -1
	for i, t := range c.timers {
		if t.at <= end && (first < 0 || t.at < c.timers[first].at) {
			first = i
		}
	}
	if first < 0 {
		c.now.Store(int64(max(c.Now(), end)))
		return nil
	}
	t := c.timers[first]
	c.timers = slices.Delete(c.timers, first, first+1)
	c.now.Store(int64(max(c.Now(), t.at)))
	return t.tick
}
