package hakmem

import (
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/hakmem/hakmem/internal/engine"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/policy"
)

// fastMalloc and fastFree are the road that Malloc and Free take, chosen by
// chooseRoad: the fast section (fast_amd64.h, fast_arm64.go), the same work with
// the P pinned (internal/engine/pinned.go), or that of HAKMEM_HARDEN (harden.go
// there).
//
// The fast section is the part of Malloc and Free that runs without pinning,
// without atomics and without touching the block. It finds its P from the
// goroutine and works on the P's front with plain loads and stores. That is
// right because nothing else can run on the P between its first load and its
// last store, and the world cannot stop there: the runtime preempts neither
// assembly (it has no pointer maps; isAsyncSafePoint in runtime/preempt.go) nor
// nosplit code (every point of it but a call is marked unsafe; IsUnsafe in the
// compiler's liveness pass), and both have no other safe point. Each condition
// is necessary:
//
//   - The section is never inlined: a copy in an ordinary function would be
//     preemptible. (Malloc and Free may be; they only call.)
//   - It calls nothing between finding its P and its last touch of the P's
//     front; as its last act it may call the slow path. (Built with -l even a
//     small helper is a call, and a preemptible one if it is not nosplit.)
//   - Nothing in it can panic.
//   - Instrumented builds (race, asan, msan) do not use it.
var (
	fastMalloc = mallocPinned
	fastFree   = freePinned
)

func mallocSlow(size uintptr) unsafe.Pointer {
	p := engine.Malloc(0, mem.Bytes(size))
	reportLate("Malloc", 0, p)
	return handOut('a', p, mem.Bytes(size), 0)
}

// reportLate panics if an allocation has found a late double free; the block p
// that it would have returned goes back first.
func reportLate(op string, own engine.Front, p engine.Block) {
	if late := engine.TakeFinding(); late.Kind != engine.OK {
		if p != 0 {
			engine.Free(own, p)
		}
		panic(misuse(op, late))
	}
}

func freeSlow(p unsafe.Pointer) {
	if p == nil {
		return
	}
	if bad := freeBlock(0, engine.Block(p)); bad.Kind != engine.OK {
		panic(misuse("Free", bad))
	}
}

func mallocPinned(size uintptr) unsafe.Pointer {
	if p := engine.MallocPinned(mem.Bytes(size)); p != nil {
		return p
	}
	return mallocSlow(size)
}

func freePinned(p unsafe.Pointer) {
	if !engine.FreePinned(p) {
		freeSlow(p)
	}
}

func mallocHardened(size uintptr) unsafe.Pointer {
	if p := engine.MallocHard(mem.Bytes(size)); p != nil {
		return p
	}
	return mallocSlow(size)
}

func freeHardened(p unsafe.Pointer) {
	if !engine.FreeHard(p) {
		freeSlow(p)
	}
}

func init() { chooseRoad() }

// chooseRoad takes the fast section if this build has one, the policy wants it
// and it was verified; hardened blocks have a road of their own. Called by init
// and by Configure, before any allocation.
func chooseRoad() {
	if engine.CanHard() {
		fastMalloc, fastFree = mallocHardened, freeHardened
		return
	}
	fastMalloc, fastFree = mallocPinned, freePinned
	sampled := policy.AtStart().Guard > 1
	if haveFast && (canSample || !sampled) && policy.AtStart().FastSection && verified() {
		fastMalloc, fastFree = fastSection()
	}
}

// verified reports whether the P that the fast section finds is the one that
// pinning finds, on up to four Ps at the same time. It asks once.
var verified = sync.OnceValue(func() bool {
	n := min(runtime.GOMAXPROCS(0), 4)
	var wrong atomic.Bool
	var arrived atomic.Int32
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			// A wrong offset may point anywhere: a fault becomes a panic and means no.
			defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
			defer func() {
				if recover() != nil {
					wrong.Store(true)
				}
			}()
			// Wait for the others, a bounded while, so that each has a P of its own.
			arrived.Add(1)
			for i := 0; i < 1000 && arrived.Load() < int32(n); i++ {
				runtime.Gosched()
			}
			for range 100 {
				if !sameP() {
					wrong.Store(true)
				}
			}
		})
	}
	wg.Wait()
	return !wrong.Load()
})

// sameP compares the two ways of finding the P. The runtime's p begins with its
// id and its status, which is 1 (_Prunning) for a P that runs Go code.
//
//go:nocheckptr
func sameP() bool {
	pid := engine.Pin()
	ok := true
	for _, p := range currentP() {
		ok = ok && p > 4096 && p%8 == 0 &&
			*(*uint32)(unsafe.Add(nil, p)) == uint32(pid) && *(*uint32)(unsafe.Add(nil, p+4)) == 1
	}
	engine.Unpin()
	return ok
}
