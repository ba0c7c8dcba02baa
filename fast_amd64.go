//go:build go1.26 && !go1.28 && !hakmem_pin && !hakmem_nopin && !race && !asan && !msan

package hakmem

import (
	"unsafe"

	"github.com/hakmem/hakmem/internal/engine"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// The fast section in assembly: fast_amd64.h. A Go function has
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
	asmMaxP     = engine.MaxP
	asmMaxPages = engine.MaxPages
	asmTinyFull = engine.TinyMag - 1
	asmMidFull  = engine.MidMag - 1
	asmSample   = engine.SampleOffset

	asmOwner       = engine.OwnerOffset
	asmGuessesAt   = engine.GuessesAt
	asmGuessMask   = engine.GuessRange - 8
	asmGuessMiss   = engine.GuessMissOffset
	asmGuessMisses = engine.GuessMisses - 1

	asmMaxMid   = sizeclass.MaxMid
	asmMaxLarge = sizeclass.MaxLarge
	// The class of a large block whose size less 1 has its leading bit at 0 and nothing
	// behind it, were there one: LargeOf(MaxMid+1) is Num+1, the leading bit there is
	// 15, and the four leading bits are 8.
	asmLargeClass = sizeclass.Num + 1 - 15*8 - 8

	asmMetaShift = engine.MetaShift
	asmMetaMask  = 1<<engine.MetaShift - 1
	asmMetaStart = engine.MetaStart
	asmMetaLive0 = engine.MetaLive0
	asmMetaLive  = engine.MetaLive
	asmMetaRecip = engine.MetaRecip
	asmMetaClass = engine.MetaClass
	asmKibShift  = engine.KibShift
	asmPageKib   = 1<<(16-engine.KibShift) - 1 // the KiB of a page, less 1
)

// Implemented in fast_amd64.h; to be called only through function values, and
// mallocMid, mallocCached, freeMid and those ending in Missed not at all: the others go
// on there.
func mallocTiny()
func mallocMissed()
func mallocMid()
func mallocCached()
func freeTiny()
func freeMissed()
func freeMid()
func pOfG()
func mallocSampled()

// entries returns the addresses of the routines' first instructions.
func entries() (malloc, free, p, sampled uintptr)

// code holds those addresses: what the function values point at.
var code struct{ malloc, free, p uintptr }

// mallocSlowValue and freeSlowValue are where the routines go on with what they
// cannot serve.
var (
	mallocSlowValue = mallocSlow
	freeSlowValue   = freeSlow
)

// canSample says that the fast section can count for HAKMEM_GUARD.
const canSample = true

func fastSection() (malloc func(uintptr) unsafe.Pointer, free func(unsafe.Pointer)) {
	var sampled uintptr
	if code.malloc, code.free, _, sampled = entries(); engine.GuardRate() > 1 {
		code.malloc = sampled
	}
	engine.PAddress = pAddress
	m, f := &code.malloc, &code.free
	return *(*func(uintptr) unsafe.Pointer)(unsafe.Pointer(&m)), *(*func(unsafe.Pointer))(unsafe.Pointer(&f))
}

// pAddress returns the P's address. Pinned, or it is out of date at once.
//
//go:nocheckptr
func pAddress() uintptr { return *(*uintptr)(unsafe.Add(nil, getm()+mP)) }

// currentP returns the P's address as the routines find it, and as
// getm leads to it.
//
//go:nocheckptr
func currentP() []uintptr {
	_, _, code.p, _ = entries()
	p := &code.p
	raw := *(*func() uintptr)(unsafe.Pointer(&p))
	return []uintptr{raw(), pAddress()}
}

// What only the assembly uses, for checkers that do not read it.
var (
	_ = [...]func(){mallocTiny, mallocMissed, mallocMid, mallocCached, mallocSampled, freeTiny, freeMissed, freeMid, pOfG}
	_ = [...]uintptr{asmGM, asmMP, asmMaxTiny, asmMaxP, asmMaxPages, asmTinyFull, asmMidFull, asmSample, asmMaxMid, asmMaxLarge, asmOwner, asmGuessesAt, asmGuessMask, asmGuessMiss, asmGuessMisses}
	_ = [...]int{asmLargeClass, asmMetaShift, asmMetaMask, asmKibShift, asmPageKib}
	_ = [...]uintptr{asmMetaStart, asmMetaLive0, asmMetaLive, asmMetaRecip, asmMetaClass}
	_ = &mallocSlowValue
	_ = &freeSlowValue
)
