//go:build hakmem_cgo

package loops

import (
	"unsafe"

	"github.com/hakmem/hakmem/bench/cgomalloc"
)

// The row of C's malloc, called through cgo.
func init() {
	allocators = append(allocators, allocator{name: Cgo, loops: loopsCgo, version: func() string { return "" }, calls: func() calls {
		return calls{cgomalloc.Malloc, cgomalloc.Calloc,
			func(p unsafe.Pointer, _, more uintptr) unsafe.Pointer { return cgomalloc.Realloc(p, more) },
			func(align, n uintptr) unsafe.Pointer { return cgomalloc.Malloc(n + align) }, cgomalloc.Free, same, nil, false}
	}})
}
