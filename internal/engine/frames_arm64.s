#include "textflag.h"

// frames.go says what this does and what it rests on. g is the goroutine, whose first two words are the bounds of
// its stack.
//
// func walkFrames(pcs *uintptr, room int) (n int)
TEXT ·walkFrames(SB), NOSPLIT|NOFRAME, $0-24
	MOVD pcs+0(FP), R0
	MOVD room+8(FP), R1
	MOVD (g), R2
	MOVD 8(g), R3
	SUB  $16, R3
	MOVD R29, R4               // the frame
	MOVD $0, R5
next:
	CMP  R1, R5
	BGE  done
	CMP  R2, R4
	BLO  none
	CMP  R3, R4
	BHI  none
	TST  $7, R4
	BNE  none
	MOVD 8(R4), R6             // where it returns to
	MOVD R6, (R0)(R5<<3)
	ADD  $1, R5
	MOVD (R4), R6              // the caller's frame
	CBZ  R6, done
	CMP  R4, R6
	BLS  none
	MOVD R6, R4
	B    next
none:
	MOVD $0, R5
done:
	MOVD R5, n+16(FP)
	RET
