// The fast section for tiny blocks; see fast_amd64.go for how it is called and
// fast.go for why it is atomic with regard to its P.
//
// Go's register convention: arguments and results in AX, the goroutine in R14;
// SP, BP, R14 and X15 are kept, everything else may be changed. The routines are
// leaves without a frame; what they cannot serve they hand on by a jump, with
// their argument in AX and the caller's frame as it was.

#include "textflag.h"
#include "go_asm.h"

#define BASE github·com∕hakmem∕hakmem∕internal∕heap·Base(SB)
#define LIVE github·com∕hakmem∕hakmem∕internal∕heap·Live(SB)
#define FRONTS github·com∕hakmem∕hakmem∕internal∕heap·Fronts(SB)
#define PAGECLASS github·com∕hakmem∕hakmem∕internal∕heap·PageClass(SB)
#define SMALL github·com∕hakmem∕hakmem∕internal∕sizeclass·Small(SB)

// WORD(class, word): word = the address of class's word in this P's front.
// Changes DX and R8; goes to slow when the P has no front of its own.
#define WORD(class, word) \
	MOVQ  const_asmGM(R14), DX \
	MOVQ  const_asmMP(DX), DX  \
	MOVL  (DX), DX             \
	CMPL  DX, $const_asmMaxP   \
	JAE   slow                 \
	MOVL  class, word          \
	SHLQ  $3, word             \
	LEAQ  FRONTS, R8           \
	ORQ   (R8)(DX*8), word

// func mallocTiny(size uintptr) unsafe.Pointer
TEXT ·mallocTiny(SB), NOSPLIT|NOFRAME, $0-0
	CMPQ  AX, $const_asmMaxTiny
	JA    slow
	LEAQ  15(AX), CX
	SHRQ  $4, CX
	LEAQ  SMALL, SI
	MOVBLZX (SI)(CX*1), CX     // the class
	WORD(CX, DI)
	MOVQ  (DI), SI             // the top slot
	MOVQ  (SI), BX             // its block
	TESTQ BX, BX
	JZ    slow                 // the sentinel: empty
	SUBQ  $8, SI
	MOVQ  SI, (DI)
	MOVQ  BX, AX
#ifdef CHECK_LIVE
	SHRQ  $4, BX
	ADDQ  LIVE, BX
	MOVB  CX, (BX)
#endif
	RET
slow:
	MOVQ  ·mallocMidValue(SB), DX
	JMP   (DX)

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
	WORD(CX, DI)
	MOVQ  (DI), SI             // the top slot
	TESTL $const_asmFullMask, SI
	JZ    slow                 // full; class 0 always is, so there is a live byte below
#ifdef CHECK_LIVE
	CMPB  CX, (BX)
	JNE   slow
	MOVB  $0, (BX)
#endif
	MOVQ  AX, 8(SI)
	ADDQ  $8, (DI)
	RET
slow:
	MOVQ  ·freeMidValue(SB), DX
	JMP   (DX)

// func pOfG() uintptr
TEXT ·pOfG(SB), NOSPLIT|NOFRAME, $0-0
	MOVQ  const_asmGM(R14), AX
	MOVQ  const_asmMP(AX), AX
	RET

// func entries() (malloc, free, p uintptr)
TEXT ·entries(SB), NOSPLIT, $0-24
	LEAQ  ·mallocTiny(SB), AX
	MOVQ  AX, malloc+0(FP)
	LEAQ  ·freeTiny(SB), AX
	MOVQ  AX, free+8(FP)
	LEAQ  ·pOfG(SB), AX
	MOVQ  AX, p+16(FP)
	RET
