package engine

import (
	"runtime"
	"strings"
	"time"

	"github.com/hakmem/hakmem/internal/check"
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
// stopped, shows none that is preempted asynchronously in a function into which such
// a fast path was inlined, that call has ended, and there is none after it. Slow
// paths keep the Heap alive.
var abandoned struct {
	check.Mutex[check.Abandoned]
	fronts []Front
	delay  time.Duration // before the try that waits
	armed  bool          // a timer will try
	// fastPathAt is what hasFastPath has found out, by entry address.
	fastPathAt map[uintptr]bool
}

// Each try stops the world. The first is made a little later, because a collection
// finds many Heaps dead that then need one; a program that is busy with its Heaps on
// all Ps may need several.
const (
	abandonedFirst = time.Millisecond
	abandonedMax   = time.Second
)

// AbandonHeapFront takes the front of a Heap that is unreachable. Any goroutine,
// not entered.
func AbandonHeapFront(f Front) {
	check.MustNotBeEntered("AbandonHeapFront")
	a := &abandoned
	a.Lock()
	defer a.Unlock()
	a.fronts = append(a.fronts, f)
	if !a.armed {
		a.armed, a.delay = true, abandonedFirst
		time.AfterFunc(a.delay, takeAbandoned)
	}
}

// takeAbandoned gives back the fronts that wait, or tries again later.
func takeAbandoned() {
	a := &abandoned
	a.Lock()
	defer a.Unlock()
	if !nobodyPreempted() {
		a.delay = min(2*a.delay, abandonedMax)
		time.AfterFunc(a.delay, takeAbandoned)
		return
	}
	scavenger.moving.Lock()
	for _, f := range a.fronts {
		emptyFront(f)
		recycle(f)
	}
	scavenger.moving.Unlock()
	a.fronts, a.armed = a.fronts[:0], false
	kick()
}

// fastPaths begins the names of the functions of which a copy may be the fast path
// of a Heap: the public package's.
var fastPaths = publicPrefix

// nobodyPreempted reports whether there was a moment since it was called at which
// no goroutine was preempted asynchronously in a function with a fast path of a
// Heap: each one that is preempted has runtime.asyncPreempt at the top of its stack.
// TestNobodyPreempted checks that for the Go version it runs on. Under abandoned's
// lock.
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

// hasFastPath reports whether the function with the instruction at pc has a copy of
// a fast path in it, wherever: the compiler mixes the instructions of both. When in
// doubt it has.
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
	// The names of what is inlined are told address by address. A function of more
	// than maxFunction bytes is not looked through.
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

// maxFunction is looked through in some ten milliseconds.
const maxFunction = 128 << 10
