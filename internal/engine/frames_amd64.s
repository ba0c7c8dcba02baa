#include "textflag.h"

// frames.go says what this does and what it rests on. R14 is the goroutine, whose first two words are the bounds
// of its stack.
//
// func walkFrames(pcs *uintptr, room int) (n int)
TEXT ·walkFrames(SB), NOSPLIT|NOFRAME, $0-24
	MOVQ  pcs+0(FP), DI
	MOVQ  room+8(FP), CX
	MOVQ  (R14), R8
	MOVQ  8(R14), R9
	SUBQ  $16, R9
	MOVQ  BP, SI               // the frame
	XORL  AX, AX
next:
	CMPQ  AX, CX
	JGE   done
	CMPQ  SI, R8
	JB    none
	CMPQ  SI, R9
	JA    none
	TESTQ $7, SI
	JNZ   none
	MOVQ  8(SI), DX            // where it returns to
	MOVQ  DX, (DI)(AX*8)
	INCQ  AX
	MOVQ  (SI), DX             // the caller's frame
	TESTQ DX, DX
	JZ    done
	CMPQ  DX, SI
	JLS   none
	MOVQ  DX, SI
	JMP   next
none:
	XORL  AX, AX
done:
	MOVQ  AX, n+16(FP)
	RET
