package hakmem

import (
	"math/bits"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/hakmem/hakmem/internal/heap"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// This file is the fast section: the part of Malloc and Free that runs without
// pinning, without atomics and without touching the block.
//
// It finds its P through getm and works on the P's front with plain loads and
// stores. That is right because nosplit code is never preempted: every point of
// a nosplit function is marked unsafe (IsUnsafe in the compiler's liveness
// pass), so nothing else runs on the P between the first load and the last
// store, and the world cannot stop there. Each condition is necessary:
//
//   - noinline: a copy inlined into an ordinary function would be preemptible.
//   - nosplit callees only (getm is), but for the one call into the slow path,
//     after which nothing of the section is used.
//   - nocheckptr and norace: instrumentation would insert calls. (Instrumented
//     builds do not use the section at all; see haveGetm.)
//   - nothing that can panic: no bounds checks, no nil dereference.
//
// Metadata is addressed by uintptr (see internal/heap/ptr.go for why that is
// valid); a slot is loaded as an unsafe.Pointer only to hand the block out.

// Malloc returns a block of at least size bytes, aligned to 16 bytes, with
// undefined contents, or nil when memory is out. Size 0 gives a unique pointer.
//
// The block is outside the Go heap: it must not hold Go pointers, and it lives
// until Free. Any goroutine may call Malloc, and any goroutine may free the
// block. UsableSize tells how many bytes the block really has.
//
//go:nosplit
//go:noinline
//go:nocheckptr
//go:norace
func Malloc(size uintptr) unsafe.Pointer {
	m := getm()
	if !haveGetm {
		return heap.MallocPinned(size)
	}
	if size < heap.SmallLimit {
		c := *(*uint8)(unsafe.Add(unsafe.Pointer(&sizeclass.Small), (size+15)>>4))
		if pid := *(*uint32)(*(*unsafe.Pointer)(unsafe.Add(nil, m+mP))); pid < heap.MaxP {
			w := (*uintptr)(unsafe.Add(nil, heap.Fronts[pid]|uintptr(c)<<3))
			top := *w
			if p := *(*unsafe.Pointer)(unsafe.Add(nil, top)); p != nil {
				*w = top - 8
				if heap.CheckLive {
					*(*uint8)(unsafe.Add(nil, heap.Live+uintptr(p)>>4)) = c
				}
				return p
			}
		}
	}
	return mallocMid(size)
}

// mallocMid is Malloc's fast section for sizes above 1 KiB.
//
//go:nosplit
//go:noinline
//go:nocheckptr
//go:norace
func mallocMid(size uintptr) unsafe.Pointer {
	if size-(sizeclass.MaxTiny+1) < heap.MidRange {
		c := sizeclass.Mid[uint8((size-1)>>7)]
		if pid := *(*uint32)(*(*unsafe.Pointer)(unsafe.Add(nil, getm()+mP))); pid < heap.MaxP {
			w := (*uintptr)(unsafe.Add(nil, heap.Fronts[pid]|uintptr(c)<<3))
			top := *w
			if p := *(*unsafe.Pointer)(unsafe.Add(nil, top)); p != nil {
				*w = top - 8
				if heap.CheckLive {
					heap.MidSet(p, c)
				}
				return p
			}
		}
	}
	return mallocSlow(size)
}

// Free gives the block at p back. p must come from this package's allocation
// functions and must not have been freed; nil is fine. Any goroutine may free
// any block, however it was allocated (but for an Arena's memory).
//
// An invalid p (freed before, inside a block, unaligned, not hakmem's) panics
// with a *MisuseError and changes nothing. Two frees of one block that overlap
// in time can both pass that check, and the block is then in two magazines. The
// second copy is found at the latest when both have left their magazines
// towards the slab: it is dropped, counted (Stats.LateDoubleFrees) and reported,
// by a panic of the operation that found it, as "double free (detected late)".
// If both left as blocks of a Malloc instead, two holders share the block, and
// the later of their frees is the double free that is reported.
//
//go:nosplit
//go:noinline
//go:nocheckptr
//go:norace
func Free(p unsafe.Pointer) {
	if !haveGetm {
		if !heap.FreePinned(p) {
			freeSlow(p)
		}
		return
	}
	// One compare tests range, alignment and nil: an unaligned offset has its
	// low bits rotated to the top.
	m, base := getm(), heap.GlobalBase
	g := bits.RotateLeft64(uint64(uintptr(p)-base), -4)
	if page := g >> 12; page < heap.MaxPages {
		// The class comes from the page, not from the live byte: the page's is in
		// the cache even where the live byte is not, and nothing below has to wait
		// for the latter but a branch, which is predicted.
		c := heap.PageClass[page]
		live := (*uint8)(unsafe.Add(nil, base+uintptr(g)))
		if *live == c {
			if pid := *(*uint32)(*(*unsafe.Pointer)(unsafe.Add(nil, m+mP))); pid < heap.MaxP {
				w := (*uintptr)(unsafe.Add(nil, heap.Fronts[pid]|uintptr(c)<<3))
				if top := *w; top&(heap.MagSize-1) != 0 {
					*live = 0
					*(*uintptr)(unsafe.Add(nil, top+8)) = uintptr(p)
					*w += 8
					goto done // one way out: one copy of the frame's end
				}
			}
		}
	}
	freeMid(p)
done:
}

// freeMid is Free's fast section for blocks above 1 KiB, whose live byte is
// found through the page.
//
//go:nosplit
//go:noinline
//go:nocheckptr
//go:norace
func freeMid(p unsafe.Pointer) {
	if heap.CheckLive && bits.RotateLeft64(uint64(uintptr(p)-heap.GlobalBase), -4) < heap.MidGranules {
		if live := heap.MidState(p); live != nil {
			if pid := *(*uint32)(*(*unsafe.Pointer)(unsafe.Add(nil, getm()+mP))); pid < heap.MaxP {
				w := (*uintptr)(unsafe.Add(nil, heap.Fronts[pid]|uintptr(*live)<<3))
				if top := *w; top&(heap.MagSize-1) != 0 {
					*live = 0
					*(*uintptr)(unsafe.Add(nil, top+8)) = uintptr(p)
					*w += 8
					return
				}
			}
		}
	}
	freeSlow(p)
}

func mallocSlow(size uintptr) unsafe.Pointer { return heap.Pointer(heap.Malloc(0, size)) }

func freeSlow(p unsafe.Pointer) {
	if p == nil {
		return
	}
	if bad := heap.Free(0, uintptr(p)); bad.Kind != heap.OK {
		panic(misuse("Free", bad))
	}
}

// init turns the fast section on where it was verified. Off, SmallLimit and its
// kin stay 0 and every call finds its way to the slow path, which pins.
func init() {
	if haveGetm && verifyFastSection() {
		heap.EnableFastSection()
	}
}

// verifyFastSection checks that the P found through getm is the one that
// pinning finds, on up to four Ps at the same time. A wrong offset may point
// anywhere: a fault there is turned into a panic and means no.
func verifyFastSection() bool {
	n := min(runtime.GOMAXPROCS(0), 4)
	var wrong atomic.Bool
	var arrived atomic.Int32
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
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
}

// sameP compares the two ways of finding the P. The runtime's p begins with its
// id and its status, which is 1 (_Prunning) for a P that runs Go code.
//
//go:nocheckptr
func sameP() bool {
	pid := heap.Pin()
	p := *(*uintptr)(unsafe.Add(nil, getm()+mP))
	ok := p > 4096 && p%8 == 0
	if ok {
		id, status := *(*uint32)(unsafe.Add(nil, p)), *(*uint32)(unsafe.Add(nil, p+4))
		ok = id == uint32(pid) && status == 1
	}
	heap.Unpin()
	return ok
}
