package engine

import (
	"runtime"
	"strings"
	"time"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/realtime"
)

// A Heap that has become unreachable leaves its front to abandoned, which gives back the contents
// of the front, as Close would have done.
//
// An unreachable Heap does not mean that nobody uses its front. The Heap's fast paths are inlined
// into their callers and do not keep the Heap alive until their last store (runtime.KeepAlive would
// cost a store and the inliner's budget). So the Heap's last call may have been preempted between
// two of its instructions when the collector found the Heap dead. But there is no call among these
// instructions, so the world can stop between them only by an asynchronous preemption. Therefore
// take a picture of all goroutines with the world stopped. If it shows none that is preempted
// asynchronously in a function into which such a fast path was inlined, the last call has ended,
// and no other follows it. Slow paths keep the Heap alive.
var abandoned struct {
	check.Mutex[check.Abandoned]
	fronts []Front
	delay  time.Duration // how long the waiting try was put off
	armed  bool          // a timer will try
	// fastPathAt holds the answers that hasFastPath has found, by entry address.
	fastPathAt map[uintptr]bool
}

// abandonedTimer makes the tries. It is set under abandoned's lock.
var abandonedTimer = realtime.New()

// Each try stops the world. The first one is made a little later, because a collection finds many
// Heaps dead at once and they then need only one try. A program that is busy with its Heaps on all
// Ps may need several tries.
const (
	abandonedFirst = time.Millisecond
	abandonedMax   = time.Second
)

// AbandonHeapFront takes over the front of a Heap that is unreachable. Any goroutine, not entered.
func AbandonHeapFront(f Front) {
	check.MustNotBeEntered("AbandonHeapFront")
	a := &abandoned
	a.Lock()
	defer a.Unlock()
	forget(f)
	a.fronts = append(a.fronts, f)
	if !a.armed {
		a.armed, a.delay = true, abandonedFirst
		abandonedTimer.Set(a.delay, takeAbandoned)
	}
}

// takeAbandoned gives back the fronts that wait, or tries again later.
func takeAbandoned() {
	a := &abandoned
	a.Lock()
	defer a.Unlock()
	if !nobodyPreempted() {
		a.delay = min(2*a.delay, abandonedMax)
		abandonedTimer.Set(a.delay, takeAbandoned)
		return
	}
	scavenger.moving.Lock()
	for _, f := range a.fronts {
		f.hold() // a harvester that had asked before the Heap was forgotten
		emptyFront(f)
		f.release()
		recycle(f)
	}
	scavenger.moving.Unlock()
	a.fronts, a.armed = a.fronts[:0], false
	kick()
}

// fastPaths is the prefix of the names of the functions whose inlined copies may be a Heap's fast
// path: those of the public package.
var fastPaths = publicPrefix

// nobodyPreempted reports whether there was a moment since it was called at which no goroutine was
// preempted asynchronously in a function with a fast path of a Heap. Each preempted goroutine has
// runtime.asyncPreempt at the top of its stack; TestNobodyPreempted checks that for the Go version
// it runs on. Under abandoned's lock.
func nobodyPreempted() bool {
	check.MustHold(&abandoned.Mutex, "nobodyPreempted")
	records := make([]runtime.StackRecord, runtime.NumGoroutine()+16)
	n, ok := runtime.GoroutineProfile(records)
	for !ok {
		records = make([]runtime.StackRecord, n+n/4)
		n, ok = runtime.GoroutineProfile(records)
	}
	for i := range records[:n] {
		stack, at := records[i].Stack(), -1
		for j, pc := range stack[:min(len(stack), 4)] {
			if f := runtime.FuncForPC(pc - 1); f != nil && strings.HasPrefix(f.Name(), "runtime.asyncPreempt") {
				at = j + 1 // the frame that was interrupted, or another of the runtime's
			}
		}
		// The address is that of an instruction or, as for calls, the next one.
		if at >= 0 && (at >= len(stack) || hasFastPath(stack[at]) || hasFastPath(stack[at]-1)) {
			return false
		}
	}
	return true
}

// hasFastPath reports whether the function with the instruction at pc contains a copy of a fast path
// anywhere: the compiler mixes the instructions of both. When in doubt it says yes.
func hasFastPath(pc uintptr) bool {
	f := runtime.FuncForPC(pc)
	if f == nil {
		return true
	}
	entry := f.Entry() // of the function that is there, whatever is inlined at pc
	has, known := abandoned.fastPathAt[entry]
	if known {
		return has
	}
	// The runtime gives the names of inlined functions address by address. A function of more than
	// maxFunction bytes is not searched.
	for p := entry; !has; p++ {
		f := runtime.FuncForPC(p)
		if f == nil || f.Entry() != entry {
			break
		}
		has = p-entry > maxFunction || strings.HasPrefix(f.Name(), fastPaths)
	}
	if abandoned.fastPathAt == nil {
		abandoned.fastPathAt = map[uintptr]bool{}
	}
	abandoned.fastPathAt[entry] = has
	return has
}

// A function of maxFunction bytes is searched in some ten milliseconds.
const maxFunction = 128 << 10
