package engine

import (
	"math"
	"math/rand/v2"
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/asan"
	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/policy"
)

// GuardRate returns N of HAKMEM_GUARD=1/N, 0 when it is off.
func GuardRate() int { return policy.AtStart().Guard }

// Hardened reports whether HAKMEM_HARDEN is on, or the program is built with -asan.
// Then the sanitizer is told besides which bytes of a block are the user's: those
// around them, and all of a freed block, end the process when they are touched.
// What hakmem reads and writes there is in functions that the compiler does not
// instrument: norace stands for asan, too.
func Hardened() bool { return asan.On || policy.AtStart().Harden }

// AlwaysSlow reports whether no fast path of a Heap may serve: calls are watched,
// blocks are hardened, or all of them guarded, or the race detector watches them.
func AlwaysSlow() bool { return tracked || Watched() || Hardened() || GuardRate() == 1 }

// canHard reports whether the pinned paths below serve: blocks are hardened, and
// nothing else wants to see every call.
func canHard() bool {
	return Hardened() && canPin && checkLive && !tracked && !asan.On && GuardRate() == 0
}

// Who wants to see every call of the public package's functions: bits of watched.
const (
	WatchCalls  uint32 = 1 << iota // a trace of calls (the public package's trace.go)
	WatchStacks                    // the stacks of allocations (record.go)
)

// watched is owned here, where it decides who gets a front: while it is not 0 no
// P has one, so that every call of the global functions comes to a slow path, and
// the slow paths work on the locked fronts (enter, installFront). Watch alone
// changes it. Fast paths do not know of it.
var (
	watched atomic.Uint32
	watchMu check.Mutex[check.Watch] // one Watch at a time; taken before any other of this package's
)

// Watched reports whether anyone watches calls. Any goroutine; slow paths only. A
// call that overlaps Watch may see either.
func Watched() bool { return watched.Load() != 0 }

// Watching reports whether who (WatchCalls or WatchStacks) does.
func Watching(who uint32) bool { return watched.Load()&who != 0 }

// sampleInterval draws how many allocations to go until the next sample: N in the
// mean, as if each were drawn by itself (a geometric distribution). So a front that
// begins anew, as after each drain, changes nothing.
func sampleInterval() int64 {
	n := GuardRate()
	if n <= 1 {
		return 0
	}
	return int64(math.Ceil(rand.ExpFloat64() / -math.Log1p(-1/float64(n))))
}
