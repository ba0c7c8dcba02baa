// Command program is what the golden test disassembles: callers of the four
// fast paths, each in a function of its own.
package main

import (
	"unsafe"

	"github.com/hakmem/hakmem"
)

//go:noinline
func heapMalloc(h *hakmem.Heap, size uintptr) unsafe.Pointer { return h.Malloc(size) }

//go:noinline
func heapFree(h *hakmem.Heap, p unsafe.Pointer) { h.Free(p) }

//go:noinline
func globalMalloc(size uintptr) unsafe.Pointer { return hakmem.Malloc(size) }

//go:noinline
func globalFree(p unsafe.Pointer) { hakmem.Free(p) }

func main() {
	h := hakmem.NewHeap()
	heapFree(h, heapMalloc(h, 1))
	globalFree(globalMalloc(1))
}
