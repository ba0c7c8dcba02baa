package realtime

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// collect lets the cleanups run that set timers.
func collect() { runtime.GC() }

// eventually waits for done.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 20 s", what)
		}
	}
}

func TestNow(t *testing.T) {
	a := Now()
	time.Sleep(2 * time.Millisecond)
	if d := Now() - a; d < 2*time.Millisecond {
		t.Errorf("2 ms took %v", d)
	}
	before := Now()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Hour)
		if d := Now() - before; d < 0 || d > 10*time.Minute {
			t.Errorf("an hour in a bubble took %v", d)
		}
		if !bubbled() {
			t.Error("a bubble is not noticed")
		}
	})
	if bubbled() {
		t.Error("a bubble is seen where there is none")
	}
}

// TestSet: a Timer calls what it was set to last, once, and not early; what it was set to before is
// forgotten.
func TestSet(t *testing.T) {
	x := New()
	var first, second atomic.Int32
	x.Set(time.Hour, func() { first.Add(1) })
	set := Now()
	var at time.Duration
	x.Set(20*time.Millisecond, func() { at = Now(); second.Add(1) })
	eventually(t, "Set", func() bool { return second.Load() == 1 })
	if d := at - set; d < 20*time.Millisecond {
		t.Errorf("called after %v of 20 ms", d)
	}
	x.Set(-1, func() { first.Add(1) })
	eventually(t, "Set again", func() bool { return first.Load() == 1 })
	x.fire() // the runtime's timer may fire early or too often
	x.Set(time.Hour, func() { first.Add(1) })
	x.fire()
	if first.Load() != 1 || second.Load() != 1 {
		t.Errorf("called %d and %d times", first.Load(), second.Load())
	}
}

// TestSetAtOnce: goroutines set a Timer at the same time. Something that was set is called, nothing
// twice, and the last thing is not forgotten.
func TestSetAtOnce(t *testing.T) {
	x := New()
	var calls [8][1000]atomic.Int32
	var wg sync.WaitGroup
	for g := range calls {
		wg.Go(func() {
			for i := range calls[g] {
				x.Set(time.Duration(i%3)*time.Microsecond, func() { calls[g][i].Add(1) })
			}
		})
	}
	wg.Wait()
	eventually(t, "the last", func() bool { return x.next.Load() == nil })
	for g := range calls {
		for i := range calls[g] {
			if n := calls[g][i].Load(); n > 1 {
				t.Errorf("called %d times", n)
			}
		}
	}
}

// TestBubble: a Timer that is set in a bubble is called outside, in real time, whether the bubble
// lasts or not.
func TestBubble(t *testing.T) {
	x, y := New(), New()
	var in atomic.Bool
	var calls atomic.Int32
	call := func() { calls.Add(1); in.Store(in.Load() || bubbled()) }
	wait := func(what string, n int32) {
		t.Helper()
		eventually(t, what, func() bool { collect(); return calls.Load() == n })
	}
	synctest.Test(t, func(t *testing.T) { x.Set(time.Millisecond, call) })
	wait("a bubble that has ended", 1)
	used, end, ended := make(chan bool), make(chan bool), make(chan bool)
	go func() {
		defer close(ended)
		synctest.Test(t, func(t *testing.T) {
			x.Set(time.Millisecond, call)
			y.Set(0, call)
			close(used)
			<-end
		})
	}()
	<-used
	wait("a bubble that goes on", 3)
	x.Set(0, call) // a timer of the bubble's would end the process here
	wait("outside again", 4)
	close(end)
	<-ended
	if in.Load() {
		t.Error("called in a bubble")
	}
}

// TestMadeInBubble: a Timer that is made in a bubble, as by a plugin that is loaded there, works
// from the next collection on, or from the first Set outside.
func TestMadeInBubble(t *testing.T) {
	var x, y *Timer
	var calls atomic.Int32
	synctest.Test(t, func(t *testing.T) {
		x, y = New(), New()
		x.Set(0, func() { t.Error("what was set before is called") })
		x.Set(0, func() { calls.Add(1) })
	})
	y.Set(0, func() { calls.Add(1) })
	eventually(t, "both", func() bool { collect(); return calls.Load() == 2 })
	x.Set(0, func() { calls.Add(1) })
	eventually(t, "again", func() bool { return calls.Load() == 3 })
}
