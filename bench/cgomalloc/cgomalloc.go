//go:build cgo

package cgomalloc

// #include <stdlib.h>
import "C"

import "unsafe"

// Malloc returns size bytes of the C heap. Any goroutine may call it. When memory is out it ends
// the process, as cgo's C.malloc does.
func Malloc(size uintptr) unsafe.Pointer { return C.malloc(C.size_t(size)) }

// Calloc returns size zeroed bytes, or nil.
func Calloc(size uintptr) unsafe.Pointer { return C.calloc(1, C.size_t(size)) }

// Realloc changes the block at p to size bytes, or returns nil.
func Realloc(p unsafe.Pointer, size uintptr) unsafe.Pointer { return C.realloc(p, C.size_t(size)) }

// Free gives the block at p back.
func Free(p unsafe.Pointer) { C.free(p) }
