package engine

import (
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/hakmem/hakmem/internal/policy"
)

// Which road calls take, chosen before the first allocation and never changed after it; and the
// proof that the fast section finds its P.

// Road is the road that the public package's Malloc and Free take, chosen by ChooseRoad. It is the
// fast section (road_amd64.h, road_arm64.go), the same work with the P pinned (road_pinned.go), or
// the pinned road of hardened blocks (also there).
//
// The fast section is the part of Malloc and Free that runs without pinning, without atomics and
// without touching the block. It finds its P from the goroutine and works on the P's front with
// plain loads and stores. That is correct because nothing else can run on the P between the
// section's first load and its last store, and the world cannot stop there. The runtime does not
// preempt assembly (it has no pointer maps; isAsyncSafePoint in runtime/preempt.go), nor does it
// preempt nosplit code (every point of it except a call is marked unsafe; IsUnsafe in the
// compiler's liveness pass). Neither has any other safe point. Each of these conditions is
// necessary:
//
//   - The section is never inlined: a copy in an ordinary function would be preemptible. (Malloc
//     and Free may be inlined; they only call.)
//   - It calls nothing between finding its P and its last touch of the P's front; as its last act
//     it may call the slow exit. (In a build with -l even a small helper is a call, and a
//     preemptible one if the helper is not nosplit. go test -fuzz puts calls next to comparisons.)
//     callsOnlyItsOwn looks when the program starts; TestSectionCalls looks at the object code of
//     many builds.
//   - Nothing in it can panic.
//   - Instrumented builds (race, asan, msan) do not use it.
//
// The build lines of road_*.go and road_*.s say which builds have a fast section. They name the
// versions of Go on which the section was tested: the versions for which the conditions above and
// the offsets of road_p_*.go are known to hold. On any other version every call pins its P. The build
// tag hakmem_untested_go lifts that limit, to try a new version of Go. On every version ChooseRoad
// verifies that the section finds its P, and pins if it does not. That check cannot show that the
// section is not preempted; the tests of road_test.go show it. The tags hakmem_pin and hakmem_nopin
// leave the section out.
var Road struct {
	Malloc func(size uintptr) unsafe.Pointer
	Free   func(p unsafe.Pointer)
	Fast   bool // it is the fast section
}

// ChooseRoad takes the fast section if this build has one, the policy wants it and it was verified.
// Hardened blocks have a road of their own. malloc and free are the slow exits, for calls that a
// road cannot serve. They are passed as values because they belong to the public package (its
// slow.go), which the engine does not import. Called before any allocation.
func ChooseRoad(malloc func(uintptr) unsafe.Pointer, free func(unsafe.Pointer)) {
	exits = slowExits{malloc, free}
	Road.Fast = false
	if canHard() {
		Road.Malloc, Road.Free = mallocHardened, freeHardened
		return
	}
	Road.Malloc, Road.Free = mallocPinned, freePinned
	if HaveFast && (canSample || !sampled() && !profiling()) && !(sampled() && profiling()) && policy.AtStart().FastSection && verified() {
		Road.Malloc, Road.Free = fastSection()
		Road.Fast = true
	}
}

// verified reports whether the build left the fast section as it is written, and whether the P that
// the section finds is the one that pinning finds, on up to four Ps at the same time. It asks once.
var verified = sync.OnceValue(func() bool {
	return callsOnlyItsOwn() && holdsOnPs(min(runtime.GOMAXPROCS(0), 4), sameP)
})

// holdsOnPs asks again and again on n Ps at the same time, and reports whether the answer is always
// yes. A fault or a panic counts as no.
func holdsOnPs(n int, ask func() bool) bool {
	var no atomic.Bool
	var arrived atomic.Int32
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			// A wrong offset may point anywhere: a fault becomes a panic.
			defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
			defer func() {
				if recover() != nil {
					no.Store(true)
				}
			}()
			// Wait for the others for a limited time, so that each goroutine has a P of its own.
			arrived.Add(1)
			for i := 0; i < 1000 && arrived.Load() < int32(n); i++ {
				runtime.Gosched()
			}
			for range 100 {
				if !ask() {
					no.Store(true)
				}
			}
		})
	}
	wg.Wait()
	return !no.Load()
}

// sameP reports whether the fast section finds the P that pinning finds.
func sameP() bool { return findsP(currentP) }

// findsP reports whether find, which may be called pinned or not, returns the address of the current
// P, twice. The runtime's p begins with its number and its status, which is 1 (_Prunning) for a P
// that runs Go code.
//
// A wrong offset may make find fault, or return an address that faults. While the P is pinned such a
// fault ends the process, because the runtime takes it for one of its own. So find is called without
// pinning first, and what it returned is read without pinning first: the number, which is a P's for
// ever. Only what has not faulted is repeated pinned.
func findsP(find func() [2]uintptr) bool {
	for range 1000 { // in case that the goroutine comes to another P in between
		find()
		pid := procPin()
		found := find()
		procUnpin()
		for _, p := range found {
			if p <= 4096 || p%8 != 0 || wordAt(p) != uint32(pid) {
				return false
			}
		}
		stayed := procPin() == pid
		ok := stayed && find() == found && found[0] == found[1] && wordAt(found[0]+4) == 1
		procUnpin()
		if stayed {
			return ok
		}
	}
	return false
}

// wordAt reads the runtime's memory.
//
//go:nocheckptr
func wordAt(addr uintptr) uint32 { return *(*uint32)(unsafe.Add(nil, addr)) }
