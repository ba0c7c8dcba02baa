//go:build ((go1.26 && !go1.28) || hakmem_untested_go) && !hakmem_pin && !hakmem_nopin && !race && !asan && !msan

package engine

import (
	"unsafe"

	"github.com/hakmem/hakmem/internal/sizeclass"
)

// The fast section in assembly: road_amd64.h. A Go function can reach its P only by a call, and a
// call costs a stack frame and two spills. Together that is as much as the rest of the section.
// roadCode and pAddress are set before the first allocation.
//
// The routines follow Go's register calling convention by hand, so that they can be called without
// the adapter that the compiler puts before assembly: they are reached through function values,
// whose first word is the code's address. That convention (ABIInternal) may change with any Go
// version, and so may the offsets below. Hence the build tag, and verified.

// road_amd64.h takes what it knows of the engine from go_asm.h, where the compiler writes this
// package's constants, as const_name, and the offsets of fields, as type_field. The constants below
// belong to the runtime or to sizeclass, so it cannot find them there.
const (
	offsetGM    = 48 // of the field m in the runtime's g; verified checks it
	asmMaxTiny  = sizeclass.MaxTiny
	asmMaxMid   = sizeclass.MaxMid
	asmMaxLarge = sizeclass.MaxLarge
	// The class of an imagined large block whose size less 1 has its leading bit at 0 and nothing
	// behind it. LargeOf(MaxMid+1) is Num+1; the leading bit there is 15, and the four leading bits
	// are 8.
	asmLargeClass = sizeclass.Num + 1 - 15*8 - 8
	// log2 of the size of an entry of sizeclass.Classes, which begins with the bytes of a block.
	classShift = 5
)

const (
	_ = uint(1<<classShift - unsafe.Sizeof(sizeclass.Class{}))
	_ = uint(unsafe.Sizeof(sizeclass.Class{}) - 1<<classShift)
	_ = -unsafe.Offsetof(sizeclass.Class{}.Size)
)

// Implemented in road_amd64.h. They may be called only through function values. mallocMid,
// mallocLarge, midProfiled, largeProfiled, missedProfiled, freeMid and the routines ending in Missed must not be
// called at all: the others jump to them.
func mallocTiny()
func mallocMissed()
func mallocMid()
func mallocLarge()
func freeTiny()
func freeMissed()
func freeMid()
func pOfG()
func mallocSampled()
func mallocProfiled()
func missedProfiled()
func midProfiled()
func largeProfiled()

// roadEntries returns the addresses of the routines' first instructions.
func roadEntries() (malloc, free, p, sampled, profiled uintptr)

// roadCode holds those addresses; the function values point to it.
var roadCode struct{ malloc, free, p uintptr }

// canSample says that the fast section can count down to samples: to those of guarded blocks and of callers, or
// to those of the profile. There is none that counts down to both.
const canSample = true

func fastSection() (malloc func(uintptr) unsafe.Pointer, free func(unsafe.Pointer)) {
	var counting, profiled uintptr
	roadCode.malloc, roadCode.free, _, counting, profiled = roadEntries()
	switch {
	case profiling():
		roadCode.malloc = profiled
	case sampled():
		roadCode.malloc = counting
	}
	pAddress = addressOfP
	m, f := &roadCode.malloc, &roadCode.free
	return *(*func(uintptr) unsafe.Pointer)(unsafe.Pointer(&m)), *(*func(unsafe.Pointer))(unsafe.Pointer(&f))
}

// callsOnlyItsOwn is true: no build puts calls into assembly.
func callsOnlyItsOwn() bool { return true }

// addressOfP returns the P's address. The caller is pinned; otherwise the address is out of date at
// once.
//
//go:nocheckptr
func addressOfP() uintptr { return *(*uintptr)(unsafe.Add(nil, getm()+mP)) }

// currentP returns the P's address twice: as the routines find it, and as getm leads to it. If the
// caller is not pinned, they may be those of different Ps.
//
//go:nocheckptr
func currentP() [2]uintptr {
	_, _, roadCode.p, _, _ = roadEntries()
	p := &roadCode.p
	raw := *(*func() uintptr)(unsafe.Pointer(&p))
	return [2]uintptr{raw(), addressOfP()}
}

// Names that only the assembly uses, for checkers that do not read it.
var (
	_ = [...]func(){mallocTiny, mallocMissed, mallocMid, mallocLarge, mallocSampled, mallocProfiled, missedProfiled, midProfiled, largeProfiled, freeTiny, freeMissed, freeMid, pOfG}
	_ = [...]int{offsetGM, asmMaxTiny, asmMaxMid, asmMaxLarge, asmLargeClass, classShift, sampleOffset, profileOffset, guessMissOffset, guessMisses}
	_ = [...]uintptr{guessesAt}
)
