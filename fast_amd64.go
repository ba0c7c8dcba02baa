//go:build go1.26 && !go1.28 && !hakmem_pin && !hakmem_nopin && !race && !asan && !msan

package hakmem

import (
	"unsafe"

	"github.com/hakmem/hakmem/internal/heap"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// The fast section for tiny blocks in assembly: fast_amd64.h. A Go function has
// no other way to its P than a call, and a call costs a stack frame and two
// spills; together that is as much as the rest of the section.
//
// The routines follow Go's register calling convention by hand, so that they
// are called without the adapter that the compiler puts before assembly: they
// are reached through function values, whose first word is the code's address.
// That convention (ABIInternal) may change with any Go version, as the offsets
// below may; hence the build tag, and verified.

// Constants for fast_amd64.h, through go_asm.h.
const (
	asmGM       = 48 // offset of the field m in the runtime's g
	asmMP       = mP
	asmMaxTiny  = sizeclass.MaxTiny
	asmMaxP     = heap.MaxP
	asmMaxPages = heap.MaxPages
	asmFullMask = heap.MagSize - 1
)

// Implemented in fast_amd64.h; to be called only through function values.
func mallocTiny()
func freeTiny()
func pOfG()

// entries returns the addresses of the three routines' first instructions.
func entries() (malloc, free, p uintptr)

// code holds those addresses: what the function values point at.
var code struct{ malloc, free, p uintptr }

// mallocMidValue and freeMidValue are where the routines go on with what they
// cannot serve.
var (
	mallocMidValue = mallocMid
	freeMidValue   = freeMid
)

func fastSection() (malloc func(uintptr) unsafe.Pointer, free func(unsafe.Pointer)) {
	code.malloc, code.free, _ = entries()
	m, f := &code.malloc, &code.free
	return *(*func(uintptr) unsafe.Pointer)(unsafe.Pointer(&m)), *(*func(unsafe.Pointer))(unsafe.Pointer(&f))
}

// currentP returns the P's address as the routines find it, and as fast_mid.go
// does.
//
//go:nocheckptr
func currentP() []uintptr {
	_, _, code.p = entries()
	p := &code.p
	raw := *(*func() uintptr)(unsafe.Pointer(&p))
	return []uintptr{raw(), *(*uintptr)(unsafe.Add(nil, getm()+mP))}
}

// What only the assembly uses, for checkers that do not read it.
var (
	_ = [...]func(){mallocTiny, freeTiny, pOfG}
	_ = [...]uintptr{asmGM, asmMP, asmMaxTiny, asmMaxP, asmMaxPages, asmFullMask}
	_ = &mallocMidValue
	_ = &freeMidValue
)
