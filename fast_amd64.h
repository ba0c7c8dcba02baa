// The fast section; see fast_amd64.go for how it is called and fast.go for why it
// is atomic with regard to its P.
//
// Go's register convention: arguments and results in AX, the goroutine in R14;
// SP, BP, R14 and X15 are kept, everything else may be changed. The routines are
// leaves without a frame; what they cannot serve they hand on by a jump, with
// their argument in AX and the caller's frame as it was.

#include "textflag.h"
#include "go_asm.h"

#define BASE github·com∕hakmem∕hakmem∕internal∕engine·Base(SB)
#define LIVE github·com∕hakmem∕hakmem∕internal∕engine·Live(SB)
#define GUESSES github·com∕hakmem∕hakmem∕internal∕engine·Guesses(SB)
#define FRONTS github·com∕hakmem∕hakmem∕internal∕engine·Fronts(SB)
#define PAGECLASS github·com∕hakmem∕hakmem∕internal∕engine·PageClass(SB)
#define PAGES github·com∕hakmem∕hakmem∕internal∕engine·Pages(SB)
#define GRANULES github·com∕hakmem∕hakmem∕internal∕engine·Granules(SB)
#define SMALL github·com∕hakmem∕hakmem∕internal∕sizeclass·Small(SB)
#define MID github·com∕hakmem∕hakmem∕internal∕sizeclass·Mid(SB)

// GUESS: DI = this P's front, by the thread's guess (heap.Guesses); goes to miss when
// it is not this P's. Leaves the P in DX, the m in R9, the address of the guesses in R8.
#define GUESS \
	MOVQ  const_asmGM(R14), R9      \
	MOVL  R9, DX                    \
	ANDL  $const_asmGuessMask, DX   \
	LEAQ  GUESSES, R8               \
	MOVQ  const_asmGuessesAt(R8)(DX*1), DI \
	ADDQ  R8, DI                    \
	MOVQ  const_asmMP(R9), DX       \
	CMPQ  DX, const_asmOwner(DI)    \
	JNE   miss

// BYNUMBER: DI = the front of the P in DX, by its number, or the trap front; goes to slow when
// there are none of that number. Changes SI.
#define BYNUMBER \
	MOVL  (DX), SI             \
	CMPL  SI, $const_asmMaxP   \
	JAE   slow                 \
	LEAQ  FRONTS, DI           \
	MOVQ  (DI)(SI*8), DI

// CORRECT, behind GUESS and BYNUMBER: at every 16th time, DI becomes the thread's
// guess. Goes to slow when the front in DI is the trap. Changes DX and SI.
#define CORRECT \
	CMPQ  DX, const_asmOwner(DI)    \
	JNE   slow                      \
	SUBQ  $1, const_asmGuessMiss(DI) \
	JGE   keep                      \
	MOVQ  $const_asmGuessMisses, const_asmGuessMiss(DI) \
	MOVQ  DI, SI                    \
	SUBQ  R8, SI                    \
	MOVL  R9, DX                    \
	ANDL  $const_asmGuessMask, DX   \
	MOVQ  SI, const_asmGuessesAt(R8)(DX*1) \
keep:

// CLASS: CX = the class of a tiny size in AX. Changes SI.
#define CLASS \
	LEAQ  15(AX), CX           \
	SHRQ  $4, CX               \
	LEAQ  SMALL, SI            \
	MOVBLZX (SI)(CX*1), CX

// POP: AX and BX = the block on top of the magazine of class CX of the front in DI,
// taken off; goes to slow when that is the sentinel: it is empty. Changes DI and SI.
#define POP \
	LEAQ  (DI)(CX*8), DI       \
	MOVQ  (DI), SI             \
	MOVQ  (SI), BX             \
	TESTQ BX, BX               \
	JZ    slow                 \
	ADDQ  $-8, (DI)            \
	MOVQ  BX, AX

// SETLIVE: marks the tiny block at BX, of class CX, as live. Changes BX.
#ifdef CHECK_LIVE
#define SETLIVE \
	SHRQ  $4, BX               \
	ADDQ  LIVE, BX             \
	MOVB  CX, (BX)
#else
#define SETLIVE
#endif

// CLEARLIVE: the tiny block with the live byte at BX is live no more; goes to slow when it
// is not a live block of class CX.
#ifdef CHECK_LIVE
#define CLEARLIVE \
	CMPB  CX, (BX)             \
	JNE   slow                 \
	MOVB  $0, (BX)
#else
#define CLEARLIVE
#endif

// PUSH: puts the tiny block at AX, of class CX, onto the magazine of the front in DI; goes to
// full when there is no room, which for class 0 is always so: there is a live byte at BX.
// Leaves the class's word in DI. Changes SI.
#define PUSH \
	LEAQ  (DI)(CX*8), DI       \
	MOVQ  (DI), SI             \
	TESTL $const_asmTinyFull, SI \
	JZ    full                 \
	CLEARLIVE                  \
	MOVQ  AX, 8(SI)            \
	ADDQ  $8, (DI)

// MALLOCSLOW and FREESLOW: what the routines go on with when they cannot serve; AX is
// their argument.
#define MALLOCSLOW \
	MOVQ  ·mallocSlowValue(SB), DX \
	JMP   (DX)

#define FREESLOW \
	MOVQ  ·freeSlowValue(SB), DX \
	JMP   (DX)

// func mallocTiny(size uintptr) unsafe.Pointer
TEXT ·mallocTiny(SB), NOSPLIT|NOFRAME, $0-0
	CMPQ  AX, $const_asmMaxTiny
	JA    mid
	CLASS
	GUESS
	POP
	SETLIVE
	RET
mid:
	JMP   ·mallocMid(SB)
miss:
	JMP   ·mallocMissed(SB)
slow:
	MALLOCSLOW

// mallocTiny after a wrong guess: CX is the class, and what GUESS leaves.
//
// func mallocMissed(size uintptr) unsafe.Pointer
TEXT ·mallocMissed(SB), NOSPLIT|NOFRAME, $0-0
	BYNUMBER
	CORRECT
	POP
	SETLIVE
	RET
slow:
	MALLOCSLOW

// The second part of mallocTiny, for blocks above 1 KiB.
//
// func mallocMid(size uintptr) unsafe.Pointer
TEXT ·mallocMid(SB), NOSPLIT|NOFRAME, $0-0
	LEAQ  -1(AX), BX
	CMPQ  AX, $const_asmMaxMid
	JA    span
	SHRQ  $7, BX
	LEAQ  MID, SI
	MOVBLZX (SI)(BX*1), CX     // the class
	GUESS
found:
	POP
#ifdef CHECK_LIVE
	// midLive: nothing is read but what the next allocation reads too.
	SUBQ  BASE, BX
	SHRQ  $const_asmKibShift, BX
	MOVQ  BX, SI
	ANDQ  $~const_asmPageKib, SI
	ADDQ  SI, BX
	ADDQ  PAGES, BX
	MOVB  CX, (BX)
#endif
	RET
span:
	JMP   ·mallocCached(SB)
miss:
	BYNUMBER                   // frees correct the guess
	JMP   found
slow:
	MALLOCSLOW

// The third part, for warm spans; BX is the size less 1.
//
// func mallocCached(size uintptr) unsafe.Pointer
TEXT ·mallocCached(SB), NOSPLIT|NOFRAME, $0-0
	CMPQ  AX, $const_asmMaxLarge
	JA    slow
	// sizeclass.SpanOf: the position of the leading bit, and the four bits there.
	BSRQ  BX, DX
	LEAQ  -3(DX), CX
	SHRQ  CX, BX
	LEAQ  const_asmLargeClass(BX)(DX*8), CX
	GUESS
found:
	POP
#ifdef CHECK_LIVE
	// spanLive
	SUBQ  BASE, BX
	SHRQ  $(16-const_asmMetaShift), BX // a span begins with a page
	ADDQ  PAGES, BX
	MOVB  CX, const_asmMetaLive(BX)
#endif
	RET
miss:
	BYNUMBER
	JMP   found
slow:
	MALLOCSLOW

// func freeTiny(p unsafe.Pointer)
TEXT ·freeTiny(SB), NOSPLIT|NOFRAME, $0-0
	// One compare tests range, alignment and nil: an unaligned offset has its
	// low bits rotated to the top.
	MOVQ  BASE, BX
	MOVQ  AX, CX
	SUBQ  BX, CX
	RORQ  $4, CX
	ADDQ  CX, BX               // the live byte, if there is one
	SHRQ  $12, CX
	CMPQ  CX, $const_asmMaxPages
	JAE   slow
	// The class comes from the page, not from the live byte: the page's is in
	// the cache even where the live byte is not, and nothing below has to wait
	// for the latter but a branch, which is predicted.
	LEAQ  PAGECLASS, SI
	MOVBLZX (SI)(CX*1), CX
	GUESS
	PUSH
	RET
full:
	JMP   ·freeMid(SB)
miss:
	JMP   ·freeMissed(SB)
slow:
	FREESLOW

// freeTiny after a wrong guess: CX is the class, BX the live byte, and what GUESS
// leaves.
//
// func freeMissed(p unsafe.Pointer)
TEXT ·freeMissed(SB), NOSPLIT|NOFRAME, $0-0
	BYNUMBER
	CORRECT
	PUSH
	RET
full:
	JMP   ·freeMid(SB)
slow:
	FREESLOW

// The second part of freeTiny: the magazine of the page's class, in CX, is full,
// which is so for every page without tiny blocks. DI still has the address of
// the class's word, which for class 0 is the front itself, and BX that of the
// live byte of a tiny block: base plus granule.
//
// func freeMid(p unsafe.Pointer)
TEXT ·freeMid(SB), NOSPLIT|NOFRAME, $0-0
#ifdef CHECK_LIVE
	TESTL CX, CX
	JNZ   slow
	SUBQ  BASE, BX             // the granule
	CMPQ  BX, GRANULES
	JAE   slow
	MOVQ  BX, DX
	SHRQ  $(const_asmKibShift-4), DX // the KiB
	SHRQ  $(12-const_asmMetaShift), BX
	ANDQ  $~const_asmMetaMask, BX
	ADDQ  PAGES, BX            // the page's metadata
	MOVQ  AX, R9
	MOVQ  const_asmMetaRecip(BX), R10
	SUBQ  const_asmMetaStart(BX), AX
	IMULQ R10, AX
	CMPQ  AX, R10              // where a block can start? no: 0 of any other page
	JAE   back
	ADDQ  const_asmMetaLive0(BX), DX // its live byte
	// The class comes from the page for the reason that freeTiny has.
	MOVBLZX const_asmMetaClass(BX), CX
	LEAQ  (DI)(CX*8), DI
	MOVQ  (DI), SI             // the top slot
	TESTL $const_asmMidFull, SI
	JZ    back                 // full, or of no class
	CMPB  CX, (DX)             // 0 behind a slab's last block
	JNE   back
	MOVB  $0, (DX)
	MOVQ  R9, 8(SI)
	ADDQ  $8, (DI)
	RET
back:
	MOVQ  R9, AX
slow:
#endif
	FREESLOW

// mallocTiny for HAKMEM_GUARD=1/N: the front counts down to its next sample.
//
// func mallocSampled(size uintptr) unsafe.Pointer
TEXT ·mallocSampled(SB), NOSPLIT|NOFRAME, $0-0
	MOVQ  const_asmGM(R14), DX
	MOVQ  const_asmMP(DX), DX
	BYNUMBER
	SUBQ  $1, const_asmSample(DI)
	JLE   slow
	CMPQ  AX, $const_asmMaxTiny
	JA    mid
	CLASS
	POP
	SETLIVE
	RET
mid:
	JMP   ·mallocMid(SB)
slow:
	MALLOCSLOW

// func pOfG() uintptr
TEXT ·pOfG(SB), NOSPLIT|NOFRAME, $0-0
	MOVQ  const_asmGM(R14), AX
	MOVQ  const_asmMP(AX), AX
	RET

// func entries() (malloc, free, p, sampled uintptr)
TEXT ·entries(SB), NOSPLIT, $0-32
	LEAQ  ·mallocTiny(SB), AX
	MOVQ  AX, malloc+0(FP)
	LEAQ  ·freeTiny(SB), AX
	MOVQ  AX, free+8(FP)
	LEAQ  ·pOfG(SB), AX
	MOVQ  AX, p+16(FP)
	LEAQ  ·mallocSampled(SB), AX
	MOVQ  AX, sampled+24(FP)
	RET
