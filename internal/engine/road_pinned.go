package engine

import (
	"unsafe"

	"github.com/hakmem/hakmem/internal/mem"
)

// The roads with the P pinned, which every build has. exits is set before the first allocation.

// slowExits holds the functions that a road calls when it cannot serve a call. ChooseRoad sets
// exits.
type slowExits struct {
	malloc func(size uintptr) unsafe.Pointer
	free   func(p unsafe.Pointer)
}

var exits slowExits

func mallocPinned(size uintptr) unsafe.Pointer {
	if p := tryMallocPinned(mem.Bytes(size)); p != nil {
		return p
	}
	return exits.malloc(size)
}

func freePinned(p unsafe.Pointer) {
	if !tryFreePinned(p) {
		exits.free(p)
	}
}

func mallocHardened(size uintptr) unsafe.Pointer {
	if p := tryMallocHard(mem.Bytes(size)); p != nil {
		return p
	}
	return exits.malloc(size)
}

func freeHardened(p unsafe.Pointer) {
	if !tryFreeHard(p) {
		exits.free(p)
	}
}
