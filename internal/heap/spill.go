package heap

// overflow makes room in a full magazine for p: it grows, or gives the oldest blocks
// back to their slabs. Entered; leaves.
func overflow(f uintptr, tok token, c uint8, p uintptr) {
	full := uintptr(head(f).cap[c])
	if growMagazine(f, c) {
		push(f, c, p)
		look(f, c, full)
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
func spillFirst(f uintptr, tok token, c uint8, p uintptr) {
	var buf [(firstCap + 1) / 2]uintptr
	spill(f, tok, c, p, buf[:])
}

//go:noinline
func spillGrown(f uintptr, tok token, c uint8, p uintptr) {
	var buf [maxFlush]uintptr
	spill(f, tok, c, p, buf[:])
}

// spill is overflow of a magazine that does not grow. Entered; leaves.
func spill(f uintptr, tok token, c uint8, p uintptr, buf []uintptr) {
	n := takeOldest(f, c, buf)
	push(f, c, p)
	look(f, c, uintptr(head(f).cap[c]))
	leave(tok)
	timedFlush(buf[:n], c)
	kick()
}

func flushOne(p uintptr, c uint8) {
	timedFlush([]uintptr{p}, c)
	kick()
}
