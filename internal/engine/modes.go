package engine

import (
	"math"
	"math/rand/v2"
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/asan"
	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/policy"
	"github.com/hakmem/hakmem/internal/profile"
)

// This file says in which mode the engine works: guarded, hardened, watched, or none of these. The
// settings are policy's; watched is owned by watchMu.

// GuardRate returns N of HAKMEM_GUARD=1/N, or 0 when it is off.
func GuardRate() int { return policy.AtStart().Guard }

// CallerRate returns N if one in N blocks that are allocated without a site gets its caller as its site
// (HAKMEM_SITES=pc/N), or 0.
func CallerRate() int {
	if !checkLive {
		return 0 // blocks have no sites
	}
	return policy.AtStart().Sites.Rate()
}

// ProfileRate returns how many bytes go by on average until the next sample of the profile, or 0 if there is no
// profile.
func ProfileRate() profile.Rate {
	if !checkLive {
		return 0 // a free could not tell which blocks are samples
	}
	return profile.Rate(policy.AtStart().ProfileRate)
}

// profiling reports whether there is a profile.
func profiling() bool { return ProfileRate() > 0 }

// profileGap draws how many bytes go by until the next sample of the profile. It takes no lock and no Go memory.
func profileGap() int64 { return ProfileRate().Gap(nextGap()) }

// nextGap returns a random number of the exponential distribution with mean 1. Tests replace it.
var nextGap = rand.ExpFloat64

// sampled reports whether fronts count allocations down to the next sample (sample.go).
func sampled() bool { return GuardRate() > 1 || CallerRate() > 0 }

// Hardened reports whether HAKMEM_HARDEN is on or the program is built with -asan. With -asan the
// address sanitizer learns which bytes of a block are the user's. Touching the bytes around them,
// or any byte of a freed block, ends the process. hakmem itself reads and writes such bytes only in
// functions that the compiler does not instrument: the directive norace counts for asan, too.
func Hardened() bool { return asan.On || policy.AtStart().Harden }

// AlwaysSlow reports whether every call of a Heap must take the slow path: calls are watched,
// blocks are hardened, all blocks are guarded, blocks get their callers as sites, there is a profile (which counts
// bytes, and the paths that inline do not), or the race detector must know the order of calls.
func AlwaysSlow() bool {
	return raced || Watched() || Hardened() || GuardRate() == 1 || CallerRate() > 0 || profiling()
}

// canHard reports whether the pinned paths for hardened blocks can serve: blocks are hardened, and
// nothing else needs to see every call.
func canHard() bool {
	return Hardened() && canPin && checkLive && !raced && !asan.On && GuardRate() == 0 && CallerRate() == 0 && !profiling()
}

// The bits of watched, each for one reason to see every call of the public package's functions.
const (
	WatchCalls  uint32 = 1 << iota // a trace of calls (the public package's trace.go)
	WatchStacks                    // the stacks of allocations (record.go)
)

// watched is declared here because it decides who gets a front. While it is not 0, no P has a
// front. So every call of the global functions takes a slow path, and the slow paths work on the
// locked fronts (enter, installFront). Only Watch changes it. Fast paths do not read it.
var (
	watched atomic.Uint32
	watchMu check.Mutex[check.Watch] // admits one Watch at a time
)

// Watched reports whether anyone watches calls. Any goroutine; slow paths only. A call that
// overlaps Watch may see the old value or the new one.
func Watched() bool { return watched.Load() != 0 }

// Watching reports whether calls are watched for the reason who: WatchCalls or WatchStacks.
func Watching(who uint32) bool { return watched.Load()&who != 0 }

// chance returns with what probability an allocation is a sample, for a guard, for its caller, or for both.
func chance() float64 {
	no := 1.0
	if n := GuardRate(); n > 1 {
		no *= 1 - 1/float64(n)
	}
	if n := CallerRate(); n > 0 {
		no *= 1 - 1/float64(n)
	}
	return 1 - no
}

// sampleInterval draws how many allocations go by until the next sample. The mean is 1/chance, and the
// distribution is geometric: the same as if each allocation were drawn by itself. So it makes no
// difference when a front begins anew, as after each drain.
func sampleInterval() int64 {
	switch p := chance(); p {
	case 0:
		return 0
	case 1:
		return 1
	default:
		return int64(math.Ceil(rand.ExpFloat64() / -math.Log1p(-p)))
	}
}
