package governor

import (
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// none waits until no round is under way.
func (c *callbacks) none() {
	for busy := true; busy; runtime.Gosched() {
		c.mu.Lock()
		busy = c.now != nil
		c.mu.Unlock()
	}
}

// TestPressure: callbacks are called with their shares of what is too much, one after the other.
func TestPressure(t *testing.T) {
	var c callbacks
	var r reports
	if c.ask(100, &r) {
		t.Error("a round without callbacks")
	}
	type call struct {
		who  string
		want uint64
	}
	var mu sync.Mutex // callbacks run on other goroutines
	var got []call
	running := 0
	add := func(who string) (stop func()) {
		return c.register(func(want uint64) {
			mu.Lock()
			running++
			if running > 1 {
				t.Error("two at once")
			}
			got = append(got, call{who, want})
			mu.Unlock()
			runtime.Gosched()
			mu.Lock()
			running--
			mu.Unlock()
		})
	}
	stopA := add("a")
	add("b")
	stopC := add("c")
	for _, round := range []struct {
		before func()
		want   uint64
		calls  string
		each   uint64
	}{
		{func() {}, 100, "abc", 34},
		{func() {}, 3, "abc", 1},
		{stopC, 100, "ab", 50},
		{stopC, 101, "ab", 51},
		{stopA, 7, "b", 7},
		{func() { add("d") }, 1, "bd", 1},
	} {
		round.before()
		got = nil
		if !c.ask(round.want, &r) {
			t.Fatal("no round")
		}
		c.none()
		calls := ""
		for _, g := range got {
			calls += g.who
			if g.want != round.each {
				t.Errorf("%s is asked for %d, want %d", g.who, g.want, round.each)
			}
		}
		if calls != round.calls {
			t.Errorf("called %q, want %q", calls, round.calls)
		}
	}
	if r.err() != nil {
		t.Error(r.err())
	}
}

func panics(uint64) { panic("out of cake") }
func endsGoroutine(uint64) {
	runtime.Goexit()
}

// TestBadCallbacks: callbacks that panic or end their goroutine are removed and reported; the others are
// called.
func TestBadCallbacks(t *testing.T) {
	var c callbacks
	var r reports
	calls := 0
	c.register(panics)
	c.register(endsGoroutine)
	c.register(func(uint64) { calls++ })
	for i := range 3 {
		if !c.ask(10, &r) {
			t.Fatal("no round")
		}
		if c.none(); calls != i+1 {
			t.Errorf("%d calls of the good one", calls)
		}
	}
	if !said(r.err(), "governor.panics", "out of cake", "governor.endsGoroutine", "ended its goroutine") || strings.Count(r.err().Error(), "\n") != 1 {
		t.Error(r.err())
	}
}

// TestHangingCallback: one that hangs is reported, and the others are called without it until it returns.
func TestHangingCallback(t *testing.T) {
	var c callbacks
	var r reports
	calls, hung := 0, 0
	begun, release := make(chan bool), make(chan bool)
	c.register(func(uint64) {
		hung++
		begun <- true
		<-release
	})
	c.register(func(uint64) { calls++ })
	if !c.ask(10, &r) {
		t.Fatal("no round")
	}
	<-begun
	const at = time.Hour
	for _, now := range []time.Duration{at, at + 1, at + hangs - 1} {
		if !c.watch(now) || c.ask(10, &r) || r.err() != nil {
			t.Fatalf("%v: %v", now-at, r.err())
		}
	}
	c.watch(at + hangs)
	if c.none(); calls != 1 || !said(r.err(), "TestHangingCallback", "5s") {
		t.Errorf("%d calls of the other one, %v", calls, r.err())
	}
	if !c.ask(10, &r) { // without the one that hangs
		t.Fatal("no round")
	}
	if c.none(); calls != 2 || hung != 1 {
		t.Errorf("%d calls of the other one, %d of the one that hangs", calls, hung)
	}
	release <- true
	for busy := true; busy; runtime.Gosched() {
		c.mu.Lock()
		busy = c.list[0].busy
		c.mu.Unlock()
	}
	if !c.ask(10, &r) {
		t.Fatal("no round")
	}
	<-begun
	release <- true
	if c.none(); calls != 3 || hung != 2 {
		t.Errorf("%d calls of the other one, %d of the one that hung", calls, hung)
	}
}

// TestEnd: after the end the callback that runs is the last one.
func TestEnd(t *testing.T) {
	var c callbacks
	var r reports
	begun, release, done := make(chan bool), make(chan bool), make(chan bool)
	c.register(func(uint64) {
		begun <- true
		<-release
		close(done)
	})
	c.register(func(uint64) { t.Error("called after the end") })
	c.ask(10, &r)
	<-begun
	c.end()
	if c.watch(0) {
		t.Error("a round after the end")
	}
	release <- true
	<-done
}

// TestOnPressure: a governor asks for what is too much, and callbacks may call the package.
func TestOnPressure(t *testing.T) {
	f := newFake(100*mib, 100*mib)
	g := begin(t, f, Options{Total: 1000 * mib})
	asked := make(chan uint64, 1)
	var stop func()
	stop = OnPressure(func(want uint64) {
		defer OnPressure(func(uint64) {})()
		g.Close()
		_ = g.Err()
		stop()
		asked <- want
	})
	defer OnPressure(func(uint64) { t.Error("called after Close") })()
	if g.look(); len(asked) > 0 {
		t.Error("asked without need")
	}
	f.h.counted, f.h.least = 900*mib, 850*mib
	need := f.ofGo.needOf(100).least + 850*mib + 900*mib/slackShare - 900*mib
	g.look()
	if got := <-asked; got != (need+1)/2 {
		t.Errorf("asked for %d, want half of %d", got, need)
	}
	pressed.none()
	if f.ofGo.limit != goFree {
		t.Error("Close in a callback does not close")
	}
	defer func() {
		if recover() == nil {
			t.Error("a nil callback does not panic")
		}
	}()
	OnPressure(nil)
}
