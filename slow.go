package hakmem

import (
	"unsafe"

	"github.com/hakmem/hakmem/internal/engine"
	"github.com/hakmem/hakmem/internal/mem"
)

// The slow exits of Malloc and Free: what the road that they take (internal/engine/road.go)
// goes on with when it cannot serve a call. They are here and not on the road because they
// speak for this package: they panic with its *MisuseError, and they serve its trace and its
// record of stacks (watch.go). The engine is handed them as values, and so imports nothing
// from above it.

func init() { chooseRoad() }

// chooseRoad chooses the road that Malloc and Free take. Called by init and by Configure,
// before any allocation.
func chooseRoad() { engine.ChooseRoad(mallocSlow, freeSlow) }

func mallocSlow(size uintptr) unsafe.Pointer {
	shown := showAlloc("hakmem.Malloc", size)
	p := engine.Malloc(0, mem.Bytes(size))
	shown.end(p == 0)
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
