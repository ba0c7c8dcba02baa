package engine

import (
	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// When a front's slabs take pages that were never used before, its idle magazines and leases are given
// back first, so that their slabs can serve instead. trimIdleLarge does that for large blocks. A program that goes
// from one block size to the next would otherwise leave a full magazine behind for each, until the
// scavenger comes, and each block in it keeps a slab (docs/ledger.md, "The ebb").

// ebbBytes is how many bytes in slabs a front takes from pages that were never used, between two looks at
// its magazines. It is what one magazine of a front holds at most by default (HAKMEM_MAG_GROW_BYTES). A
// look, which takes some 100 ns where nothing is idle, comes with 128 faults or more.
const ebbBytes = 512 << 10

// ebbDue notes that the front took n bytes of pages that were never used, and reports whether a look is due.
// Entered.
func (f Front) ebbDue(n mem.Bytes) bool {
	check.MustBeEntered("ebbDue")
	if f == trapFront {
		return false
	}
	h := f.head()
	if h.fresh += n; h.fresh < ebbBytes {
		return false
	}
	h.fresh = 0
	return true
}

// ebb gives back the blocks in those magazines of the front that have held the same number of blocks since
// the last look, and the leases of their classes, except class busy's. Not entered.
//
//go:noinline
func ebb(own Front, busy sizeclass.ID) {
	check.MustNotBeEntered("ebb")
	var buf [stepRoom]Block
	f, tok := enter(own)
	for c := sizeclass.ID(1); f != trapFront && c <= sizeclass.Num; c++ {
		h := f.head()
		held := uint16(f.held(c))
		idle := held == h.idle[c] && h.cap[c] != 0 && c != busy
		if !idle || held == 0 && *f.lease(c) == 0 {
			h.idle[c] = held
			continue
		}
		s := f.takeLease(c)
		n := f.takeTop(c, buf[:])
		h.idle[c] = uint16(f.held(c))
		leave(tok)
		timedFlush(buf[:n], c)
		if s != 0 {
			retire(s)
		}
		g, again := enter(own)
		if tok = again; g != f { // the goroutine is on another P now
			break
		}
		if f.head().idle[c] != 0 {
			c-- // more of the same class
		}
	}
	leave(tok)
}

// takeTop pops blocks of class c's magazine into buf, as many as there is room for, and returns how many. The
// pops are no hits. Entered.
func (f Front) takeTop(c sizeclass.ID, buf []Block) (n int) {
	check.MustBeEntered("takeTop")
	f.look(c, f.held(c))
	n = f.popInto(c, buf)
	f.head().seen[c] = uint16(f.held(c))
	if n > 0 {
		*f.flushes(c)++
	}
	return n
}
