package heap

import (
	"runtime"
	"strings"
	"sync"
	"time"
)

// A Heap that nobody can reach any more leaves its front to abandoned, which
// gives back what is in it, as Close would have done.
//
// That nobody can reach the Heap does not mean that nobody uses its front. The
// Heap's fast paths are inlined into their callers and do not keep the Heap alive
// to their last store (runtime.KeepAlive would cost a store and the inliner's
// budget): the Heap's last call may have been preempted between two of its
// instructions when the collector found the Heap dead. But these instructions have
// no call among them, and so no point but an asynchronous preemption at which the
// world can stop. Therefore: when a picture of all goroutines, taken with the world
// stopped, shows none that is preempted asynchronously, that call has ended, and
// there is none after it. Slow paths keep the Heap alive.
var abandoned struct {
	sync.Mutex
	fronts []uintptr
	delay  time.Duration // between the last two tries
	armed  bool          // a timer will try again
}

// The first try is made at once. A program whose Ps all compute may need several.
const (
	abandonedRetry    = time.Millisecond
	abandonedMaxRetry = time.Second
)

// AbandonHeapFront takes the front of a Heap that is unreachable. Any goroutine,
// not entered; it stops the world.
func AbandonHeapFront(f uintptr) {
	a := &abandoned
	a.Lock()
	defer a.Unlock()
	a.fronts = append(a.fronts, f)
	if !a.armed {
		takeAbandoned()
	}
}

// takeAbandoned gives back the fronts that wait, or tries again later. Under the
// lock.
func takeAbandoned() {
	a := &abandoned
	if !nobodyPreempted() {
		a.delay = min(max(2*a.delay, abandonedRetry), abandonedMaxRetry)
		a.armed = true
		time.AfterFunc(a.delay, func() {
			a.Lock()
			defer a.Unlock()
			a.armed = false
			takeAbandoned()
		})
		return
	}
	for _, f := range a.fronts {
		postponeLate(emptyFront(f))
		recycle(f)
	}
	a.fronts, a.delay = a.fronts[:0], 0
	kick()
}

// nobodyPreempted reports whether there was a moment since it was called at which
// no goroutine was preempted asynchronously: each one that is has
// runtime.asyncPreempt at the top of its stack. TestNobodyPreempted checks that for
// the Go version it runs on.
func nobodyPreempted() bool {
	records := make([]runtime.StackRecord, runtime.NumGoroutine()+16)
	n, ok := runtime.GoroutineProfile(records)
	for !ok {
		records = make([]runtime.StackRecord, n+n/4)
		n, ok = runtime.GoroutineProfile(records)
	}
	for i := range records[:n] {
		stack := records[i].Stack()
		for _, pc := range stack[:min(len(stack), 4)] {
			if f := runtime.FuncForPC(pc - 1); f != nil && strings.HasPrefix(f.Name(), "runtime.asyncPreempt") {
				return false
			}
		}
	}
	return true
}
