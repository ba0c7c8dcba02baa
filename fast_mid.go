//go:build go1.26 && !go1.28 && (amd64 || arm64) && !hakmem_pin && !hakmem_nopin && !race && !asan && !msan

package hakmem

import (
	"math/bits"
	"unsafe"

	"github.com/hakmem/hakmem/internal/heap"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// The fast section for blocks above 1 KiB, warm spans included, in nosplit Go. Metadata is addressed
// by uintptr (see internal/heap/ptr.go for why that is valid); a slot is loaded
// as an unsafe.Pointer only to hand the block out.

// haveFast says that this build has a fast section. Other Go versions and
// architectures, and builds whose instrumentation would put calls into it, pin.
const haveFast = true

// mP is the offset of the field p in the runtime's m, for Go 1.26 and 1.27 on
// amd64 and arm64 (read from DWARF; 1.25 has 200). verified checks it.
const mP = 208

// getm returns the address of the current thread's m. It is on Go's list of
// runtime functions kept for outsiders (go.dev/issue/67401).
//
//go:linkname getm runtime.getm
func getm() uintptr

// mallocMid is the fast section's second part: what its first part, for tiny
// blocks, could not serve.
//
//go:nosplit
//go:noinline
//go:nocheckptr
func mallocMid(size uintptr) unsafe.Pointer {
	if size-(sizeclass.MaxTiny+1) < sizeclass.MaxWarm-sizeclass.MaxTiny {
		var c uint8
		if size <= sizeclass.MaxMid {
			c = sizeclass.Mid[uint8((size-1)>>7)]
		} else {
			c = sizeclass.SpanOf(size)
		}
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

// freeMid is mallocMid's counterpart. The live byte is found through the page.
//
//go:nosplit
//go:noinline
//go:nocheckptr
func freeMid(p unsafe.Pointer) {
	if heap.CheckLive && uintptr(bits.RotateLeft64(uint64(uintptr(p)-heap.Base), -4)) < heap.Granules {
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
