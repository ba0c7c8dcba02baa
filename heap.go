package hakmem

import (
	"math/bits"
	"runtime"
	"sync/atomic"
	"unsafe"

	"github.com/hakmem/hakmem/internal/engine"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// Heap is a private set of magazines for one goroutine. Its Malloc and Free need not find the
// current P, and they inline into the caller. A Heap is for one goroutine at a time; handing it to
// another goroutine needs the usual synchronisation.
//
// Its blocks are ordinary blocks. Any goroutine may free them, with [Free] or through another Heap;
// they may outlive the Heap; and a Heap may free blocks that it did not allocate.
//
// A Heap that is not used for about a second gives back what its magazines hold, except for one or
// two blocks of each size class up to 1 KiB. [Trim], and an allocation that finds no memory, make
// every Heap do so; one that is in the middle of a call follows with its next call. This needs
// nothing from the Heap's goroutine. [Heap.Trim], for that goroutine, gives back all, and so does
// [Heap.Close].
//
// [NewHeap] makes a Heap, and a Heap must not be copied. Using one that NewHeap did not make, or a
// copy, is misuse and panics, at the latest in Close. On a Heap that NewHeap did not make, small
// sizes panic as a nil pointer does. A copy shares the original's magazines until it panics; after
// the original's Close these may be the magazines of another Heap.
//
// A Heap that becomes unreachable without Close is an error that the program survives. Some time
// after a garbage collection its magazines are given back. Stats.Abandoned counts such Heaps, and
// [Err] reports the first.
type Heap struct {
	_       noCopy
	front   engine.Front // what the fast paths use: own, or the trap front, which others store too (reopen)
	own     engine.Front // 0 when closed
	self    uintptr      // the Heap's address, which a copy of it does not have
	cleanup runtime.Cleanup
}

// The front of an unreachable Heap is given back, so a slow path keeps its Heap alive while it uses
// the front (runtime.KeepAlive). Why the fast paths need not do so is explained in
// internal/engine/abandon.go.

// NewHeap returns a new [Heap]. It panics with [*OutOfMemoryError] when no memory is left or when
// too many Heaps are open: open Heaps and Ps together can have 65,536 fronts, fewer where address
// space is limited, and some of these are reserved for the Ps. Any goroutine may call it.
func NewHeap() *Heap {
	shown := showAlloc("hakmem.NewHeap", engine.FrontBytes)
	f := engine.NewHeapFront()
	shown.end(f == 0)
	if f == 0 {
		panic(outOfMemory(engine.FrontBytes))
	}
	h := &Heap{own: f, front: engine.TrapFront()}
	h.self = uintptr(unsafe.Pointer(h))
	engine.OpenHeap(f, &h.front)
	h.reopen()
	h.cleanup = runtime.AddCleanup(h, abandonHeap, abandonedHeap{f, uintptr(unsafe.Pointer(h)), callers()})
	return h
}

// The fast paths are written so that they inline into the caller. The inliner charges 57 for the
// call of a function, but 17 for the call of a parameter. So the slow path is passed to the helper
// as a parameter. A test checks that they inline.

// Malloc is [Malloc] through the Heap.
func (h *Heap) Malloc(size uintptr) unsafe.Pointer {
	return popFront(h, size, heapMallocMid)
}

// Free is [Free] through the Heap. It accepts any block, whichever Heap or function allocated it.
func (h *Heap) Free(p unsafe.Pointer) {
	pushFront(h, bits.RotateLeft64(uint64(uintptr(p)-engine.Base), -4), p, heapFreeMid)
}

//go:norace
//go:nocheckptr
func popFront(h *Heap, size uintptr, slow func(*Heap, uintptr) unsafe.Pointer) (p unsafe.Pointer) {
	if size <= sizeclass.MaxTiny {
		c := sizeclass.Small[(size+15)>>4]
		w := (**unsafe.Pointer)(unsafe.Add(nil, h.front|engine.Front(uintptr(c)<<3)))
		if p = **w; p != nil {
			*(*uintptr)(unsafe.Pointer(w)) -= 8
			if engine.CheckLive {
				*(*uint8)(unsafe.Add(nil, engine.Live+uintptr(p)>>4)) = uint8(c)
			}
			return
		}
	}
	return slow(h, size)
}

//go:norace
//go:nocheckptr
func pushFront(h *Heap, g uint64, p unsafe.Pointer, slow func(*Heap, unsafe.Pointer)) {
	if uintptr(g) < engine.Granules {
		live := (*uint8)(unsafe.Add(nil, engine.Base+uintptr(g)))
		if !engine.CheckLive {
			live = engine.PageClassOf(p)
		}
		if w := (*uintptr)(unsafe.Add(nil, h.front|engine.Front(uintptr(*live)<<3))); *w&(engine.TinyMag-1) != 0 {
			if engine.CheckLive {
				*live = 0
			}
			*w += 8
			**(**uintptr)(unsafe.Pointer(w)) = uintptr(p)
			return
		}
	}
	slow(h, p)
}

// slowPath is the first step of every slow path. It panics if the Heap is not open or not the
// original. While calls are watched it also gives the fast paths the trap front, so that the next
// call comes here again. (Only the Heap's own goroutine may use the Heap, so whoever begins or ends
// the watching cannot do this.)
func (h *Heap) slowPath(op string) {
	kind := ""
	switch {
	case h.self == 0:
		kind = kindUnmadeHeap
	case h.own == 0:
		kind = kindClosedHeap
	case h.self != uintptr(unsafe.Pointer(h)):
		kind = kindCopiedHeap
	}
	if kind != "" {
		panic(&MisuseError{Op: op, Kind: kind, Addr: uintptr(unsafe.Pointer(h))})
	}
	if engine.AlwaysSlow() && h.loadFront() != engine.TrapFront() {
		h.storeFront(engine.TrapFront())
	}
}

// reopen is the last step of a slow path that has allocated or freed a block: it gives the fast paths
// the Heap's own front. They have the trap when the Heap is new, when calls were watched until now,
// and when the front was harvested (internal/engine/heaps.go): then the harvester has stored the
// trap, whatever the Heap's goroutine was doing. (A call that fails must not change anything.)
func (h *Heap) reopen() {
	if h.loadFront() != h.own && !engine.AlwaysSlow() {
		engine.ReopenHeap(h.own, &h.front)
	}
}

func (h *Heap) loadFront() engine.Front {
	return engine.Front(atomic.LoadUintptr((*uintptr)(&h.front)))
}

func (h *Heap) storeFront(f engine.Front) { atomic.StoreUintptr((*uintptr)(&h.front), uintptr(f)) }

// heapMallocMid is the fast path for blocks above 1 KiB, cached large blocks included. A Heap that
// NewHeap did not make has front 0.
//
// It and heapFreeMid are nosplit, so the world does not stop inside them: from the load of the front
// to the store of the top, where there is no call, nobody else can empty the magazine
// (internal/engine/harvest.go).
//
//go:norace
//go:nosplit
//go:nocheckptr
func heapMallocMid(h *Heap, size uintptr) (p unsafe.Pointer) {
	if h.front == 0 {
		return heapMallocSlow(h, size)
	}
	if size <= sizeclass.MaxMid {
		c := sizeclass.Mid[uint8((size-1)>>7)]
		w := (**unsafe.Pointer)(unsafe.Add(nil, h.front|engine.Front(uintptr(c)<<3)))
		if p = **w; p != nil && size > sizeclass.MaxTiny {
			*(*uintptr)(unsafe.Pointer(w)) -= 8
			if engine.CheckLive {
				*engine.MidLive(p) = uint8(c)
			}
			runtime.KeepAlive(h)
			return p
		}
	} else if size <= sizeclass.MaxLarge {
		c := sizeclass.LargeOf(mem.Bytes(size))
		w := (**unsafe.Pointer)(unsafe.Add(nil, h.front|engine.Front(uintptr(c)<<3)))
		if p = **w; p != nil {
			*(*uintptr)(unsafe.Pointer(w)) -= 8
			if engine.CheckLive {
				*engine.LargeLive(p) = uint8(c)
			}
			runtime.KeepAlive(h)
			return p
		}
	}
	return heapMallocSlow(h, size)
}

// heapFreeMid is the fast path for freeing a block above 1 KiB.
//
//go:norace
//go:nosplit
//go:nocheckptr
func heapFreeMid(h *Heap, p unsafe.Pointer) {
	if engine.CheckLive && uintptr(bits.RotateLeft64(uint64(uintptr(p)-engine.Base), -4)) < engine.Granules {
		if live, c := engine.MidState(p); live != nil && sizeclass.ID(*live) == c && h.front != 0 {
			if w := (*uintptr)(unsafe.Add(nil, h.front|engine.Front(uintptr(c)<<3))); *w&(engine.MidMag-1) != 0 {
				*live = 0
				*w += 8
				**(**uintptr)(unsafe.Pointer(w)) = uintptr(p)
				runtime.KeepAlive(h)
				return
			}
		}
	}
	heapFreeSlow(h, p)
}

func heapMallocSlow(h *Heap, size uintptr) unsafe.Pointer {
	h.slowPath("Heap.Malloc")
	shown := showAlloc("hakmem.Heap.Malloc", size)
	p := engine.Malloc(h.own, mem.Bytes(size))
	shown.end(p == 0)
	reportLate("Heap.Malloc", h.own, p)
	h.reopen()
	runtime.KeepAlive(h)
	return handOut('a', p, mem.Bytes(size), 0)
}

func heapFreeSlow(h *Heap, p unsafe.Pointer) {
	if p == nil {
		return
	}
	h.slowPath("Heap.Free")
	bad := freeBlock(h.own, engine.Block(p))
	if bad.Kind != engine.OK {
		runtime.KeepAlive(h)
		panic(misuse("Heap.Free", bad))
	}
	h.reopen()
	runtime.KeepAlive(h)
}

// Calloc is [Calloc] through the Heap.
func (h *Heap) Calloc(n, size uintptr) unsafe.Pointer {
	h.slowPath("Heap.Calloc")
	hi, total := bits.Mul64(uint64(n), uint64(size))
	if hi != 0 {
		return nil
	}
	shown := showAlloc("hakmem.Heap.Calloc", uintptr(total))
	p := engine.MallocZero(h.own, mem.Bytes(total))
	shown.end(p == 0)
	h.reopen()
	runtime.KeepAlive(h)
	return handOut('z', p, mem.Bytes(total), 0)
}

// Realloc is [Realloc] through the Heap.
func (h *Heap) Realloc(p unsafe.Pointer, size uintptr) unsafe.Pointer {
	h.slowPath("Heap.Realloc")
	q := realloc("Heap.Realloc", h.own, p, size, 1, false, 0, h.Malloc)
	runtime.KeepAlive(h)
	return q
}

// Trim gives back all free blocks that the Heap holds, to where any goroutine may allocate them. They
// keep their memory for now: the package's [Trim] returns it at once, the scavenger after a while. Like all
// methods of a Heap it is for the Heap's goroutine; a Heap that is idle needs no Trim. Later calls fill
// the magazines again.
//
// Trim panics as the package's Trim does when it finds a block that was misused earlier, and with a
// [*MisuseError] when the Heap is closed, a copy, or one that NewHeap did not make.
func (h *Heap) Trim() {
	h.slowPath("Heap.Trim")
	shown := showWork("Heap.Trim")
	bad := engine.TrimHeapFront(h.own)
	shown.end()
	runtime.KeepAlive(h)
	if bad.Kind != engine.OK {
		panic(misuse("Heap.Trim", bad))
	}
}

// Close gives the Heap's magazines back. Blocks that the Heap allocated stay allocated. Any later
// use of the Heap, including a second Close, panics with a [*MisuseError], except Free(nil), which
// does nothing.
//
// Close panics as [Trim] does when it finds a block that was misused earlier. The Heap is closed
// all the same.
func (h *Heap) Close() {
	h.slowPath("Heap.Close")
	f := h.own
	h.own = 0
	h.storeFront(engine.TrapFront())
	h.cleanup.Stop()
	runtime.KeepAlive(h) // else the cleanup could run before Stop
	if bad := engine.CloseHeapFront(f); bad.Kind != engine.OK {
		panic(misuse("Heap.Close", bad))
	}
}
