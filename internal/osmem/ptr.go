package osmem

import (
	"unsafe"

	"github.com/hakmem/hakmem/internal/mem"
)

// pointer and bytes turn an address from this package's own reservations into the forms that the
// system call wrappers take. This is valid because those ranges are outside the Go heap: the
// garbage collector neither moves nor frees them.
func pointer(addr mem.Addr) unsafe.Pointer { return unsafe.Add(nil, addr) }

//go:nocheckptr
func bytes(addr mem.Addr, size mem.Bytes) []byte { return unsafe.Slice((*byte)(pointer(addr)), size) }
