package engine

import (
	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// What happens when a block is freed and its magazine is full. There is no state here: the magazine
// belongs to whoever has entered with its front.

// overflow makes room in a full magazine for p: the magazine grows, or gives its oldest blocks back
// to their slabs. Entered; leaves.
func overflow(f Front, tok token, c sizeclass.ID, p Block) {
	check.MustBeEntered("overflow")
	full := uintptr(f.head().cap[c])
	if f.growMagazine(c) {
		f.push(c, p)
		f.look(c, full)
		leave(tok)
		return
	}
	due := false
	if full <= firstCap {
		due = spillFirst(f, tok, c, p)
	} else {
		due = spillGrown(f, tok, c, p)
	}
	if due {
		stepCaches(tok.own())
	}
	kick()
}

// spillFirst and spillGrown have room for the blocks that takeOldest takes from a magazine before
// it has grown, and after. They are two functions because goroutines begin with 2 KiB of stack: the
// larger room would make every goroutine that frees much copy its stack.
//
//go:noinline
func spillFirst(f Front, tok token, c sizeclass.ID, p Block) (due bool) {
	var buf [(firstCap + 1) / 2]Block
	return spill(f, tok, c, p, buf[:])
}

//go:noinline
func spillGrown(f Front, tok token, c sizeclass.ID, p Block) (due bool) {
	var buf [maxFlush]Block
	return spill(f, tok, c, p, buf[:])
}

// spill is overflow of a magazine that does not grow. It reports whether a step of ACE is due. Entered;
// leaves.
func spill(f Front, tok token, c sizeclass.ID, p Block, buf []Block) (due bool) {
	check.MustBeEntered("spill")
	n := f.takeOldest(c, buf)
	f.push(c, p)
	f.look(c, uintptr(f.head().cap[c]))
	due = f.head().event()
	leave(tok)
	timedFlush(buf[:n], c)
	return due
}

func flushOne(p Block, c sizeclass.ID) {
	timedFlush([]Block{p}, c)
	kick()
}
