package hakmem

import (
	"math/bits"
	"unsafe"

	"github.com/hakmem/hakmem/internal/heap"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// Heap is a private front: magazines that one goroutine has to itself, so that
// its Malloc and Free need not find the P and inline into the caller. It is for
// one goroutine at a time; handing it to another needs the usual
// synchronisation. A Heap must be made by NewHeap and must not be copied.
//
// Its blocks are ordinary blocks: any goroutine may free them with Free or
// through another Heap, they may outlive the Heap, and a Heap may free blocks
// that it did not allocate. Trim does not reach into a Heap; Close gives back
// what its magazines hold.
type Heap struct {
	front uintptr // the trap front when closed
}

// NewHeap returns a new Heap. It panics with *OutOfMemoryError when memory is
// out. Any goroutine.
func NewHeap() *Heap {
	f := heap.NewHeapFront()
	if f == 0 {
		panic(outOfMemory(heap.FrontBytes))
	}
	return &Heap{front: f}
}

// The fast paths are written so that they inline into the caller: the inliner
// charges 17 for a call of a parameter and 57 for a call of a function, so the
// slow path is a parameter of the helper. A test holds that they inline.

// Malloc is the package's Malloc through the Heap.
func (h *Heap) Malloc(size uintptr) unsafe.Pointer {
	return popFront(h, size, heapMallocSlow)
}

// Free is the package's Free through the Heap: it takes any block.
func (h *Heap) Free(p unsafe.Pointer) {
	pushFront(h, bits.RotateLeft64(uint64(uintptr(p)-heap.Base), -4), p, heapFreeSlow)
}

//go:nocheckptr
func popFront(h *Heap, size uintptr, slow func(*Heap, uintptr) unsafe.Pointer) (p unsafe.Pointer) {
	if size <= sizeclass.MaxTiny {
		c := sizeclass.Small[(size+15)>>4]
		w := (**unsafe.Pointer)(unsafe.Add(nil, h.front|uintptr(c)<<3))
		if p = **w; p != nil {
			*(*uintptr)(unsafe.Pointer(w)) -= 8
			if heap.CheckLive {
				*(*uint8)(unsafe.Add(nil, heap.Live+uintptr(p)>>4)) = c
			}
			return
		}
	}
	return slow(h, size)
}

//go:nocheckptr
func pushFront(h *Heap, g uint64, p unsafe.Pointer, slow func(*Heap, unsafe.Pointer)) {
	if uintptr(g) < heap.Granules {
		live := (*uint8)(unsafe.Add(nil, heap.Base+uintptr(g)))
		if !heap.CheckLive {
			live = heap.PageClassOf(p)
		}
		if w := (*uintptr)(unsafe.Add(nil, h.front|uintptr(*live)<<3)); *w&(heap.MagSize-1) != 0 {
			if heap.CheckLive {
				*live = 0
			}
			*w += 8
			**(**uintptr)(unsafe.Pointer(w)) = uintptr(p)
			return
		}
	}
	slow(h, p)
}

func (h *Heap) mustBeOpen(op string) {
	if h.front == heap.TrapFront() || h.front == 0 {
		panic(&MisuseError{Op: op, Kind: kindClosedHeap, Addr: uintptr(unsafe.Pointer(h))})
	}
}

func heapMallocSlow(h *Heap, size uintptr) unsafe.Pointer {
	h.mustBeOpen("Heap.Malloc")
	p := heap.Malloc(h.front, size)
	reportLate("Heap.Malloc", h.front, p)
	return heap.Pointer(p)
}

func heapFreeSlow(h *Heap, p unsafe.Pointer) {
	if p == nil {
		return
	}
	h.mustBeOpen("Heap.Free")
	if bad := heap.Free(h.front, uintptr(p)); bad.Kind != heap.OK {
		panic(misuse("Heap.Free", bad))
	}
}

// Calloc is the package's Calloc through the Heap.
func (h *Heap) Calloc(n, size uintptr) unsafe.Pointer {
	h.mustBeOpen("Heap.Calloc")
	hi, total := bits.Mul64(uint64(n), uint64(size))
	if hi != 0 {
		return nil
	}
	return heap.Pointer(heap.MallocZero(h.front, uintptr(total)))
}

// Realloc is the package's Realloc through the Heap.
func (h *Heap) Realloc(p unsafe.Pointer, size uintptr) unsafe.Pointer {
	h.mustBeOpen("Heap.Realloc")
	return realloc("Heap.Realloc", p, size, h.Malloc, h.Free)
}

// Close gives the Heap's magazines back. Its blocks stay allocated. Any later
// use of the Heap, a second Close too, panics with a *MisuseError.
func (h *Heap) Close() {
	h.mustBeOpen("Heap.Close")
	f := h.front
	h.front = heap.TrapFront()
	if bad := heap.CloseHeapFront(f); bad.Kind != heap.OK {
		panic(misuse("Heap.Close", bad))
	}
}
