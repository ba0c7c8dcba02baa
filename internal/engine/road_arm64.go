//go:build ((go1.26 && !go1.28) || hakmem_untested_go) && !hakmem_pin && !hakmem_nopin && !race && !asan && !msan

package engine

import (
	"math/bits"
	"runtime"
	"unsafe"

	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// The fast section in nosplit Go. road_amd64.h has the same in assembly, which needs no call to
// find the P and therefore no stack frame. There is no state here: the section works on the front
// of its P.
//
// Metadata is addressed by uintptr (ptr.go explains why that is valid). A slot is loaded as an
// unsafe.Pointer only to hand the block out.

// canSample is false: the fast section cannot count down to samples, so where there are any, or a profile, every call pins.
const canSample = false

func fastSection() (func(uintptr) unsafe.Pointer, func(unsafe.Pointer)) {
	return mallocTiny, freeTiny
}

// callsOnlyItsOwn reports whether the section calls nothing except what is written here. A build may
// put more calls into it: go test -fuzz reports each comparison of integers to the fuzzer, -N checks
// indexes, -l inlines nothing. In what is called there the goroutine could be preempted, and no tag
// of the build says so. Therefore this reads the machine code, some 200 instructions.
//
// What may be called, and why: getm, a function of the runtime without a stack check (the runtime
// does not preempt its own functions); by the first part as its last act the second part, which is
// like the first; and by the second part as its last act a slow exit, whose address is in a
// register.
func callsOnlyItsOwn() bool {
	malloc2, free2 := codeOf(mallocMid), codeOf(freeMid)
	return callsOnly(codeOf(mallocTiny), malloc2, 0) && callsOnly(malloc2, nil, 1) &&
		callsOnly(codeOf(freeTiny), free2, 0) && callsOnly(free2, nil, 1)
}

// codeOf returns what the runtime knows of the code of f.
func codeOf[F func(uintptr) unsafe.Pointer | func(unsafe.Pointer)](f F) *runtime.Func {
	return runtime.FuncForPC(**(**uintptr)(unsafe.Pointer(&f)))
}

// callsOnly reports whether f calls only the runtime's getm, the function next if it is not nil, and
// addresses in registers at most exits times.
//
//go:nocheckptr
func callsOnly(f, next *runtime.Func, exits int) bool {
	const (
		blMask, bl   = 0x3F << 26, 0x25 << 26 // with the distance in instructions
		blrMask, blr = ^uint32(0x1F << 5), 0xD63F0000
	)
	if f == nil {
		return false
	}
	mayBe := func(callee *runtime.Func) bool {
		return next != nil && callee.Entry() == next.Entry() || callee.Name() == "runtime.getm"
	}
	for pc := f.Entry(); ; pc += 4 {
		// Of an instruction that was inlined FuncForPC returns another Func with the same entry.
		if at := runtime.FuncForPC(pc); at == nil || at.Entry() != f.Entry() {
			return true
		}
		switch w := *(*uint32)(unsafe.Add(nil, pc)); {
		case w&blMask == bl:
			to := pc + uintptr(int32(w<<6)>>4)
			if callee := runtime.FuncForPC(to); callee == nil || callee.Entry() != to || !mayBe(callee) {
				return false
			}
		case w&blrMask == blr:
			if exits--; exits < 0 {
				return false
			}
		}
	}
}

// currentP returns the P's address twice, as on amd64.
//
//go:nocheckptr
func currentP() [2]uintptr {
	p := *(*uintptr)(unsafe.Add(nil, getm()+mP))
	return [2]uintptr{p, p}
}

//go:nosplit
//go:noinline
//go:nocheckptr
func mallocTiny(size uintptr) unsafe.Pointer {
	if size <= sizeclass.MaxTiny {
		c := sizeclass.Small[(size+15)>>4]
		if pid := *(*uint32)(*(*unsafe.Pointer)(unsafe.Add(nil, getm()+mP))); pid < MaxP {
			w := (*uintptr)(unsafe.Add(nil, pFronts[pid]|uintptr(c)<<3))
			top := *w
			if p := *(*unsafe.Pointer)(unsafe.Add(nil, top)); p != nil {
				*w = top - 8
				if checkLive {
					*(*uint8)(unsafe.Add(nil, Live+uintptr(p)>>4)) = uint8(c)
				}
				return p
			}
		}
	}
	return mallocMid(size)
}

//go:nosplit
//go:noinline
//go:nocheckptr
func freeTiny(p unsafe.Pointer) {
	g := bits.RotateLeft64(uint64(uintptr(p)-Base), -4)
	if page := g >> 12; page < MaxPages {
		c := PageClass[page]
		if pid := *(*uint32)(*(*unsafe.Pointer)(unsafe.Add(nil, getm()+mP))); pid < MaxP {
			w := (*uintptr)(unsafe.Add(nil, pFronts[pid]|uintptr(c)<<3))
			// The magazine of class 0 is always full, so the live byte is read only where there is
			// one.
			if top := *w; top&(TinyMag-1) != 0 {
				live := (*uint8)(unsafe.Add(nil, Base+uintptr(g)))
				if !checkLive || *live == c {
					if checkLive {
						*live = 0
					}
					*(*uintptr)(unsafe.Add(nil, top+8)) = uintptr(p)
					*w += 8
					return
				}
			}
		}
	}
	freeMid(p)
}

// mallocMid is the fast section's second part, for blocks above 1 KiB, cached large blocks
// included. The first part, for tiny blocks, calls it with what it could not serve.
//
//go:nosplit
//go:noinline
//go:nocheckptr
func mallocMid(size uintptr) unsafe.Pointer {
	if size-(sizeclass.MaxTiny+1) < sizeclass.MaxLarge-sizeclass.MaxTiny {
		var c sizeclass.ID
		if size <= sizeclass.MaxMid {
			c = sizeclass.Mid[uint8((size-1)>>7)]
		} else {
			c = sizeclass.LargeOf(mem.Bytes(size))
		}
		if pid := *(*uint32)(*(*unsafe.Pointer)(unsafe.Add(nil, getm()+mP))); pid < MaxP {
			w := (*uintptr)(unsafe.Add(nil, pFronts[pid]|uintptr(c)<<3))
			top := *w
			if p := *(*unsafe.Pointer)(unsafe.Add(nil, top)); p != nil {
				*w = top - 8
				if checkLive {
					if size <= sizeclass.MaxMid {
						*MidLive(p) = uint8(c)
					} else {
						*LargeLive(p) = uint8(c)
					}
				}
				return p
			}
		}
	}
	return exits.malloc(size)
}

// freeMid is mallocMid's counterpart. It finds the live byte through the page.
//
//go:nosplit
//go:noinline
//go:nocheckptr
func freeMid(p unsafe.Pointer) {
	if checkLive && uintptr(bits.RotateLeft64(uint64(uintptr(p)-Base), -4)) < Granules {
		if live, c := MidState(p); live != nil && sizeclass.ID(*live) == c {
			if pid := *(*uint32)(*(*unsafe.Pointer)(unsafe.Add(nil, getm()+mP))); pid < MaxP {
				w := (*uintptr)(unsafe.Add(nil, pFronts[pid]|uintptr(c)<<3))
				if top := *w; top&(MidMag-1) != 0 {
					*live = 0
					*(*uintptr)(unsafe.Add(nil, top+8)) = uintptr(p)
					*w += 8
					return
				}
			}
		}
	}
	exits.free(p)
}
