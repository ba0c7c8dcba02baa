package governor

import (
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"time"
)

// OnPressure registers a callback that makes a cache smaller, or gives memory up in another way. It is called
// when more is alive in the process than its budget: want is how many bytes this callback ought to give up. That
// is what ought to go in all, divided by the number of callbacks; those that cannot give as much leave the
// rest to the next round. want is above 0.
//
// Callbacks are called one after the other, on a goroutine that does nothing else, while no lock is held:
// they may allocate, free, take locks, and call this package, Close too. They are not called again before a collection
// has shown what they freed in Go's heap, or eight periods have passed, except for what has become too
// much meanwhile. They are called by whichever governor runs: a library may register one when none does.
//
// A callback that panics, or ends its goroutine, is removed, and [Governor.Err] names it with the panic's
// value; the process goes on. One that does not return for five seconds holds up no other: Err
// names it, the others are called on another goroutine, and it is called again only after it has returned.
//
// stop removes the callback. It may be called more than once, also by the callback. A call that has begun
// may still run when stop returns. OnPressure panics if call is nil. Any goroutine.
func OnPressure(call func(want uint64)) (stop func()) {
	if call == nil {
		panic("governor: OnPressure: the callback is nil: pass a function")
	}
	return pressed.register(call)
}

// pressed has the callbacks of the process.
var pressed callbacks

// hangs: what takes as long cannot be the work of making a cache smaller, in which some GiB take a second.
const hangs = 5 * time.Second

// callback is one registered function.
type callback struct {
	call    func(want uint64)
	name    string
	busy    bool // it runs
	removed bool
}

// callbacks is a list of functions, and the round in which they are called. mu is never held while one
// runs.
type callbacks struct {
	mu   sync.Mutex
	list []*callback // in the order in which they were registered
	now  *round      // nil: none
}

// round is one time that the callbacks are called. Owned by callbacks.mu.
type round struct {
	want    uint64 // of each
	left    []*callback
	running *callback
	report  *reports
	// watched is running as the last look saw it, and from when on.
	watched *callback
	from    time.Duration
}

func (c *callbacks) register(call func(want uint64)) (stop func()) {
	f := &callback{call: call, name: runtime.FuncForPC(reflect.ValueOf(call).Pointer()).Name()}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = append(c.list, f)
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.remove(f)
	}
}

// remove takes f out. Under c.mu.
func (c *callbacks) remove(f *callback) {
	f.removed = true
	c.list = slices.DeleteFunc(c.list, func(g *callback) bool { return g == f })
}

// ask begins a round in which all callbacks together are to give up want bytes. It returns false if there
// are none, or all of them still run.
func (c *callbacks) ask(want uint64, report *reports) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	var left []*callback
	for _, f := range c.list {
		if !f.busy {
			left = append(left, f)
		}
	}
	if len(left) == 0 || c.now != nil {
		return false
	}
	n := uint64(len(left))
	c.begin(&round{want: (want + n - 1) / n, left: left, report: report})
	return true
}

// begin makes r the round and its goroutine. Under c.mu.
func (c *callbacks) begin(r *round) {
	c.now = r
	go func() {
		for f := c.next(r); f != nil; f = c.next(r) {
			err := f.run(r.want)
			c.mu.Lock()
			f.busy = false
			if err != nil {
				c.remove(f)
				r.report.add(topic("callback "+f.name), err)
			}
			c.mu.Unlock()
		}
	}()
}

// next returns the next callback of r; nil if there is none or another round has taken r's place.
func (c *callbacks) next(r *round) *callback {
	c.mu.Lock()
	defer c.mu.Unlock()
	r.running = nil
	for c.now == r && len(r.left) > 0 {
		f := r.left[0]
		r.left = r.left[1:]
		if !f.removed {
			f.busy, r.running, r.watched = true, f, nil
			return f
		}
	}
	if c.now == r {
		c.now = nil
	}
	return nil
}

// run calls f and returns an error if it panics or ends its goroutine. So that the round survives the latter,
// f has a goroutine to itself.
func (f *callback) run(want uint64) (err error) {
	done := make(chan error)
	go func() {
		ended := fmt.Errorf("governor: the OnPressure callback %s has ended its goroutine: return from it instead; it is not called again", f.name)
		defer func() {
			if v := recover(); v != nil {
				ended = fmt.Errorf("governor: the OnPressure callback %s has panicked: %v; it is not called again", f.name, v)
			}
			done <- ended
		}()
		f.call(want)
		ended = nil
	}()
	return <-done
}

// watch looks after the round: it reports a callback that hangs, and goes on with the others. It returns
// whether a round is under way. now is since any fixed moment.
func (c *callbacks) watch(now time.Duration) (busy bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.now
	switch {
	case r == nil:
		return false
	case r.running == nil || r.watched != r.running:
		r.watched, r.from = r.running, now
	case now-r.from >= hangs:
		r.report.add(topic("callback "+r.running.name), fmt.Errorf("governor: the OnPressure callback %s has not returned for %v: it is called again when it has returned; the others are called without it", r.running.name, hangs))
		c.begin(&round{want: r.want, left: r.left, report: r.report})
	}
	return true
}

// end ends the round: a callback that runs is the last one.
func (c *callbacks) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = nil
}
