// The fast section. road_amd64.go says how it is called, road.go why it is atomic with regard to
// its P.
//
// Go's register convention: arguments and results are in AX, the goroutine in R14. SP, BP, R14 and
// X15 are preserved; everything else may be changed. The routines are leaves without a frame. A
// call that a routine cannot serve is handed on by a jump, with the argument in AX and the caller's
// frame as it was.

#include "textflag.h"
#include "go_asm.h"

// The tables of sizes are another package's. A fork under another path must write its own path
// here; if it does not, the linker reports it.
#define SMALL github·com∕hakmem∕hakmem∕internal∕sizeclass·Small(SB)
#define MID github·com∕hakmem∕hakmem∕internal∕sizeclass·Mid(SB)
#define CLASSES github·com∕hakmem∕hakmem∕internal∕sizeclass·Classes(SB)

#define GUESSMASK (const_guessRange-8) // of an m's address, which is a multiple of 8
#define PAGEKIB ((1<<(const_pageShift-const_kibShift))-1) // the KiB of a page, less 1
#define METAMASK ((1<<const_pageMetaShift)-1) // within a page's metadata

// GUESS: DI = this P's front, by the thread's guess (guesses in front.go). Jumps to miss when the
// guess is not this P's front. Leaves the P in DX, the m in R9 and the address of the guesses in
// R8.
#define GUESS \
	MOVQ  const_offsetGM(R14), R9       \
	MOVL  R9, DX                        \
	ANDL  $GUESSMASK, DX                \
	LEAQ  ·guesses(SB), R8              \
	MOVQ  const_guessesAt(R8)(DX*1), DI \
	ADDQ  R8, DI                        \
	MOVQ  const_mP(R9), DX              \
	CMPQ  DX, const_ownerOffset(DI)     \
	JNE   miss

// BYNUMBER: DI = the front of the P in DX, by the P's number, or the trap front. Jumps to slow when
// the table has no entry for that number. Changes SI.
#define BYNUMBER \
	MOVL  (DX), SI         \
	CMPL  SI, $const_MaxP  \
	JAE   slow             \
	LEAQ  ·pFronts(SB), DI \
	MOVQ  (DI)(SI*8), DI

// CORRECT, to be used after GUESS and BYNUMBER: every 16th time, makes DI the thread's guess. Jumps
// to slow when the front in DI is the trap. Changes DX and SI.
#define CORRECT \
	CMPQ  DX, const_ownerOffset(DI)                         \
	JNE   slow                                              \
	SUBQ  $1, const_guessMissOffset(DI)                     \
	JGE   keep                                              \
	MOVQ  $(const_guessMisses-1), const_guessMissOffset(DI) \
	MOVQ  DI, SI                                            \
	SUBQ  R8, SI                                            \
	MOVL  R9, DX                                            \
	ANDL  $GUESSMASK, DX                                    \
	MOVQ  SI, const_guessesAt(R8)(DX*1)                     \
keep:

// CLASS: CX = the class of a tiny size in AX. Changes SI.
#define CLASS \
	LEAQ  15(AX), CX              \
	SHRQ  $const_granuleShift, CX \
	LEAQ  SMALL, SI               \
	MOVBLZX (SI)(CX*1), CX

// POP: takes the top block off the magazine of class CX of the front in DI; AX and BX = that block.
// Jumps to slow when the top is the sentinel, which means that the magazine is empty. Changes DI
// and SI.
#define POP \
	LEAQ  (DI)(CX*8), DI \
	MOVQ  (DI), SI       \
	MOVQ  (SI), BX       \
	TESTQ BX, BX         \
	JZ    slow           \
	ADDQ  $-8, (DI)      \
	MOVQ  BX, AX

// SETLIVE: marks the tiny block at BX, of class CX, as live. Changes BX.
#ifdef CHECK_LIVE
#define SETLIVE \
	SHRQ  $const_granuleShift, BX \
	ADDQ  ·Live(SB), BX           \
	MOVB  CX, (BX)
#else
#define SETLIVE
#endif

// SETMIDLIVE: marks the mid block at BX, of class CX, as live (midLive): nothing is read that the next
// allocation does not read too. Changes BX and SI.
#ifdef CHECK_LIVE
#define SETMIDLIVE \
	SUBQ  ·Base(SB), BX       \
	SHRQ  $const_kibShift, BX \
	MOVQ  BX, SI              \
	ANDQ  $~PAGEKIB, SI       \
	ADDQ  SI, BX              \
	ADDQ  ·Pages(SB), BX      \
	MOVB  CX, (BX)
#else
#define SETMIDLIVE
#endif

// SETLARGELIVE: marks the large block at BX, of class CX, as live (largeLive); it begins with a page. Changes BX.
#ifdef CHECK_LIVE
#define SETLARGELIVE \
	SUBQ  ·Base(SB), BX                                 \
	SHRQ  $(const_pageShift-const_pageMetaShift), BX    \
	ADDQ  ·Pages(SB), BX                                \
	MOVB  CX, pageMeta_live(BX)
#else
#define SETLARGELIVE
#endif

// CLEARLIVE: marks the tiny block with the live byte at BX as no longer live. Jumps to slow when it
// is not a live block of class CX.
#ifdef CHECK_LIVE
#define CLEARLIVE \
	CMPB  CX, (BX) \
	JNE   slow     \
	MOVB  $0, (BX)
#else
#define CLEARLIVE
#endif

// PUSH: puts the tiny block at AX, of class CX, onto the magazine of the front in DI. Jumps to full
// when there is no room. For class 0 there never is, so behind that test there is a live byte at
// BX. Leaves the class's word in DI. Changes SI.
#define PUSH \
	LEAQ  (DI)(CX*8), DI         \
	MOVQ  (DI), SI               \
	TESTL $(const_TinyMag-1), SI \
	JZ    full                   \
	CLEARLIVE                    \
	MOVQ  AX, 8(SI)              \
	ADDQ  $8, (DI)

// MALLOCSLOW and FREESLOW: where the routines continue when they cannot serve a call. AX is their
// argument.
#define MALLOCSLOW \
	MOVQ  ·exits+slowExits_malloc(SB), DX \
	JMP   (DX)

#define FREESLOW \
	MOVQ  ·exits+slowExits_free(SB), DX \
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

// mallocTiny after a wrong guess: CX is the class, and the rest is what GUESS leaves.
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
	JA    large
	SHRQ  $7, BX
	LEAQ  MID, SI
	MOVBLZX (SI)(BX*1), CX     // the class
	GUESS
found:
	POP
	SETMIDLIVE
	RET
large:
	JMP   ·mallocLarge(SB)
miss:
	BYNUMBER                   // frees correct the guess
	JMP   found
slow:
	MALLOCSLOW

// The third part, for cached large blocks; BX is the size less 1.
//
// func mallocLarge(size uintptr) unsafe.Pointer
TEXT ·mallocLarge(SB), NOSPLIT|NOFRAME, $0-0
	CMPQ  AX, $const_asmMaxLarge
	JA    slow
	// sizeclass.LargeOf: the position of the leading bit, and the four bits from there on.
	BSRQ  BX, DX
	LEAQ  -3(DX), CX
	SHRQ  CX, BX
	LEAQ  const_asmLargeClass(BX)(DX*8), CX
	GUESS
found:
	POP
	SETLARGELIVE
	RET
miss:
	BYNUMBER
	JMP   found
slow:
	MALLOCSLOW

// func freeTiny(p unsafe.Pointer)
TEXT ·freeTiny(SB), NOSPLIT|NOFRAME, $0-0
	// One compare tests range, alignment and nil: if the offset is unaligned, its low bits have
	// been rotated to the top.
	MOVQ  ·Base(SB), BX
	MOVQ  AX, CX
	SUBQ  BX, CX
	RORQ  $const_granuleShift, CX
	ADDQ  CX, BX               // the live byte, if there is one
	SHRQ  $(const_pageShift-const_granuleShift), CX
	CMPQ  CX, $const_MaxPages
	JAE   slow
	// The class comes from the page, not from the live byte. The page's class is in the cache even
	// where the live byte is not, and only a branch, which is predicted, has to wait for the live
	// byte.
	LEAQ  ·PageClass(SB), SI
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

// freeTiny after a wrong guess: CX is the class, BX the address of the live byte, and the rest is
// what GUESS leaves.
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

// The second part of freeTiny: the magazine of the page's class, in CX, is full. That is so for
// every page without tiny blocks. DI still holds the address of the class's word, which for class 0
// is the front itself. BX still holds the address of a tiny block's live byte: base plus granule.
//
// func freeMid(p unsafe.Pointer)
TEXT ·freeMid(SB), NOSPLIT|NOFRAME, $0-0
#ifdef CHECK_LIVE
	TESTL CX, CX
	JNZ   slow
	SUBQ  ·Base(SB), BX             // the granule
	CMPQ  BX, ·Granules(SB)
	JAE   slow
	MOVQ  BX, DX
	SHRQ  $(const_kibShift-const_granuleShift), DX // the KiB
	SHRQ  $(const_pageShift-const_granuleShift-const_pageMetaShift), BX
	ANDQ  $~METAMASK, BX
	ADDQ  ·Pages(SB), BX            // the page's metadata
	MOVQ  AX, R9
	MOVQ  pageMeta_recip(BX), R10
	SUBQ  pageMeta_start(BX), AX
	IMULQ R10, AX
	CMPQ  AX, R10              // can a block start here? never if R10 is 0, as in any other page
	JAE   back
	ADDQ  pageMeta_live0(BX), DX // its live byte
	// The class comes from the page, for the reason given in freeTiny.
	MOVBLZX pageMeta_class(BX), CX
	LEAQ  (DI)(CX*8), DI
	MOVQ  (DI), SI             // the top slot
	TESTL $(const_MidMag-1), SI
	JZ    back                 // full, or of no class
	CMPB  CX, (DX)             // the byte is 0 behind a slab's last block
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

// mallocTiny for HAKMEM_GUARD=1/N and HAKMEM_SITES=pc: the front counts down to its next sample.
//
// func mallocSampled(size uintptr) unsafe.Pointer
TEXT ·mallocSampled(SB), NOSPLIT|NOFRAME, $0-0
	MOVQ  const_offsetGM(R14), DX
	MOVQ  const_mP(DX), DX
	BYNUMBER
	SUBQ  $1, const_sampleOffset(DI)
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

// SLABBYTES: R11 = the bytes of a block of slab class CX. Changes R9.
#define SLABBYTES \
	MOVQ  CX, R11                \
	SHLQ  $const_classShift, R11 \
	LEAQ  CLASSES, R9            \
	MOVL  (R9)(R11*1), R11

// COUNT: R8 = the bytes that remain until the next sample of the profile behind a block of R11 bytes, and R10 = the
// address of the word for it of the front in DI. Jumps to slow when the block is the sample; then nothing has changed,
// and the slow path counts the block. COUNTED, after the pop, stores what remains.
#define COUNT \
	LEAQ  const_profileOffset(DI), R10 \
	MOVQ  (R10), R8                    \
	SUBQ  R11, R8                      \
	JLT   slow

#define COUNTED \
	MOVQ  R8, (R10)

// mallocTiny for HAKMEM_PROFILE_RATE: the front counts bytes down to its next sample.
//
// func mallocProfiled(size uintptr) unsafe.Pointer
TEXT ·mallocProfiled(SB), NOSPLIT|NOFRAME, $0-0
	CMPQ  AX, $const_asmMaxTiny
	JA    mid
	CLASS
	GUESS
	SLABBYTES
	COUNT
	POP
	COUNTED
	SETLIVE
	RET
mid:
	JMP   ·midProfiled(SB)
miss:
	JMP   ·missedProfiled(SB)
slow:
	MALLOCSLOW

// mallocProfiled after a wrong guess: CX is the class, and the rest is what GUESS leaves.
//
// func missedProfiled(size uintptr) unsafe.Pointer
TEXT ·missedProfiled(SB), NOSPLIT|NOFRAME, $0-0
	BYNUMBER
	CORRECT
	SLABBYTES
	COUNT
	POP
	COUNTED
	SETLIVE
	RET
slow:
	MALLOCSLOW

// The second part of mallocProfiled, for blocks above 1 KiB.
//
// func midProfiled(size uintptr) unsafe.Pointer
TEXT ·midProfiled(SB), NOSPLIT|NOFRAME, $0-0
	LEAQ  -1(AX), BX
	CMPQ  AX, $const_asmMaxMid
	JA    large
	SHRQ  $7, BX
	LEAQ  MID, SI
	MOVBLZX (SI)(BX*1), CX     // the class
	GUESS
found:
	SLABBYTES
	COUNT
	POP
	COUNTED
	SETMIDLIVE
	RET
large:
	JMP   ·largeProfiled(SB)
miss:
	BYNUMBER                   // frees correct the guess
	JMP   found
slow:
	MALLOCSLOW

// The third part, for cached large blocks; BX is the size less 1.
//
// func largeProfiled(size uintptr) unsafe.Pointer
TEXT ·largeProfiled(SB), NOSPLIT|NOFRAME, $0-0
	CMPQ  AX, $const_asmMaxLarge
	JA    slow
	// As in mallocLarge. The size of the class is the next multiple of an eighth of the doubling.
	BSRQ  BX, DX
	LEAQ  -3(DX), CX
	SHRQ  CX, BX
	LEAQ  1(BX), R11
	SHLQ  CX, R11
	LEAQ  const_asmLargeClass(BX)(DX*8), CX
	GUESS
found:
	COUNT
	POP
	COUNTED
	SETLARGELIVE
	RET
miss:
	BYNUMBER
	JMP   found
slow:
	MALLOCSLOW

// func pOfG() uintptr
TEXT ·pOfG(SB), NOSPLIT|NOFRAME, $0-0
	MOVQ  const_offsetGM(R14), AX
	MOVQ  const_mP(AX), AX
	RET

// func roadEntries() (malloc, free, p, sampled, profiled uintptr)
TEXT ·roadEntries(SB), NOSPLIT, $0-40
	LEAQ  ·mallocTiny(SB), AX
	MOVQ  AX, malloc+0(FP)
	LEAQ  ·freeTiny(SB), AX
	MOVQ  AX, free+8(FP)
	LEAQ  ·pOfG(SB), AX
	MOVQ  AX, p+16(FP)
	LEAQ  ·mallocSampled(SB), AX
	MOVQ  AX, sampled+24(FP)
	LEAQ  ·mallocProfiled(SB), AX
	MOVQ  AX, profiled+32(FP)
	RET
