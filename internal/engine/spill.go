package engine

import (
	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// overflow makes room in a full magazine for p: it grows, or gives the oldest blocks
// back to their slabs. Entered; leaves.
func overflow(f Front, tok token, c sizeclass.ID, p Block) {
	check.MustBeEntered("overflow")
	full := uintptr(f.head().cap[c])
	if f.growMagazine(c) {
		f.push(c, p)
		f.look(c, full)
		leave(tok)
		return
	}
	if full <= firstCap {
		spillFirst(f, tok, c, p)
		return
	}
	spillGrown(f, tok, c, p)
}

// spillFirst and spillGrown have room for what takeOldest takes of a magazine before it
// has grown, and after. A function each: goroutines begin with 2 KiB of stack, and the
// larger room would make every one that frees much copy it.
//
//go:noinline
func spillFirst(f Front, tok token, c sizeclass.ID, p Block) {
	var buf [(firstCap + 1) / 2]Block
	spill(f, tok, c, p, buf[:])
}

//go:noinline
func spillGrown(f Front, tok token, c sizeclass.ID, p Block) {
	var buf [maxFlush]Block
	spill(f, tok, c, p, buf[:])
}

// spill is overflow of a magazine that does not grow. Entered; leaves.
func spill(f Front, tok token, c sizeclass.ID, p Block, buf []Block) {
	check.MustBeEntered("spill")
	n := f.takeOldest(c, buf)
	f.push(c, p)
	f.look(c, uintptr(f.head().cap[c]))
	leave(tok)
	timedFlush(buf[:n], c)
	kick()
}

func flushOne(p Block, c sizeclass.ID) {
	timedFlush([]Block{p}, c)
	kick()
}
