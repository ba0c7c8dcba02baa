package engine

import (
	"sync/atomic"
	"unsafe"

	"github.com/hakmem/hakmem/internal/asan"
	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// HAKMEM_HARDEN: a write to the wrong place is found at the latest when the blocks around it are
// freed. No call takes the fast section, because the table of fronts that it uses (pFronts) holds
// nothing but traps. Slow paths, and the road of hardened blocks (tryMallocHard, tryFreeHard), use
// another table. Blocks are ordinary ones, a little larger:
//
//	p          p+size                usable-8
//	| user's   | canary, up to 32 B  ...  | sealed size |
//
// The size of a large block is in the page's metadata instead, so that its last page stays
// untouched. A freed block is filled with poison (a large block only as far as the user's bytes
// reach) and waits in its front's quarantine, first in first out. It leaves for a random place in
// the magazine, and the poison must be whole then. A refill brings blocks in random order, so that
// nobody can predict what lies behind a block.
//
// The ideas are those of hardened_malloc (canaries, quarantine) and of mimalloc's secure mode
// (random order). The state is the quarantine (hardened.go), which belongs to whoever has entered
// with its front.

// hardFree is Free for a sealed block.
func hardFree(own Front, p Block) Finding {
	f, tok := enter(own)
	at, m, large, why := liveByte(p)
	v := uint8(0)
	if why == OK {
		if v = uint8(state(at)); v == 0 {
			why = Freed
		}
	}
	if why != OK {
		leave(tok)
		return finding(p, m, why)
	}
	size, damage, ok := unseal(p, m, large)
	if !ok && !isBroken(p, m, large) {
		leave(tok)
		return overflowed(p, size, damage, m, large)
	}
	if !ok || !breakSeal(p, size, m, large) {
		leave(tok)
		return finding(p, m, Freed)
	}
	usable := usableBytes(m, large)
	if raced {
		raceRelease(p, usable)
	}
	putState(at, 0)
	if mayBeDrawn(p) { // nobody else has the block, or frees it again, meanwhile
		leave(tok)
		endDrawn(p)
		f, tok = enter(own)
	}
	b := newPoisoned(p, size, m.class)
	if large {
		unlabelLarge(m)
	} else if unsite(p, m.class, liveState(v)); !asan.On {
		b.fill()
		return hold(own, f, tok, b)
	}
	leave(tok)
	asan.Poison(uintptr(p), uintptr(usable))
	if size > maxPoison {
		letGo(newPoisoned(p, 0, b.class())) // with nothing poisoned
		kick()
		return TakeFinding()
	}
	b.fill() // not entered: pages that were never written fault
	f, tok = enter(own)
	return hold(own, f, tok, b)
}

// hold puts b into the quarantine of f. The oldest blocks there make room and go to their
// magazines. It returns a finding if there is one, about these blocks or an earlier one. Entered;
// leaves.
func hold(own, f Front, tok token, b poisoned) Finding {
	check.MustBeEntered("hold")
	for {
		if f == trapFront { // the front was just drained, or this is another P
			if leave(tok); installFront(tok) {
				kick() // the timer may have stopped with the last front
				f, tok = enter(own)
				continue
			}
			letGo(b) // no memory for a front
			kick()
			return TakeFinding()
		}
		q := f.quarantine()
		if q.put(f, b) {
			leave(tok)
			return TakeFinding()
		}
		old := q.take(f)
		c, fine := old.class(), old.inSlab()
		if fine { // a large block has too many pages to be checked here
			_, fine = old.whole()
		}
		if !fine {
			leave(tok)
			letGo(old)
			kick()
			f, tok = enter(own)
			continue
		}
		if f.head().cap[c] == 0 && !f.makeMagazine(c) {
			leave(tok)
			letGo(old)
			f, tok = enter(own)
			continue
		}
		if f.push(c, old.p) {
			f.mix(c, q)
			continue
		}
		overflow(f, tok, c, old.p)
		f, tok = enter(own)
	}
}

// hardGrow makes the sealed live block at p larger without moving it, and reports whether it could: if
// the block has room for as many bytes and for what hardening adds. So a block that grows in small
// steps moves when it would without hardening, and is not copied each time. The caller holds the block.
func hardGrow(p Block, size mem.Bytes) bool {
	at, m, large, why := liveByte(p)
	if why != OK || checkLive && state(at) == 0 || mem.Align(p)&(sizeclass.AlignOf(size)-1) != 0 {
		return false
	}
	old, _, ok := unseal(p, m, large)
	need := size + hardTail
	return ok && size > old && need > size && need <= usableBytes(m, large) && reseal(p, old, size, m, large)
}

// tryMallocHard returns a sealed block up to 32 KiB if the P's magazine has one, else nil. It is
// for callers that have asked canHard.
func tryMallocHard(size mem.Bytes) unsafe.Pointer {
	n := hardSize(size)
	if n > sizeclass.MaxMid {
		return nil
	}
	c := sizeclass.Of(n)
	pid := procPin()
	if uint(pid) >= MaxP {
		procUnpin()
		return nil
	}
	p := Front(atomic.LoadUintptr(&hardFronts[pid])).pop(c)
	if p == 0 {
		procUnpin()
		return nil
	}
	setLive(p, c, liveState(c))
	procUnpin()
	seal(p, size, meta(p.page()), false)
	return Pointer(p)
}

// tryFreeHard frees a sealed block of a slab and reports whether it did. It does so only if there
// is nothing wrong with the block, or with the block that leaves the quarantine to make room;
// otherwise the block stays as it was. It is for callers that have asked canHard.
func tryFreeHard(block unsafe.Pointer) bool {
	p := uintptr(block)
	pid := procPin()
	if uint(pid) >= MaxP {
		procUnpin()
		return false
	}
	check.Enter()
	ok := freeHard(Front(atomic.LoadUintptr(&hardFronts[pid])), Block(p))
	check.Leave()
	procUnpin()
	return ok
}

func freeHard(f Front, p Block) bool {
	at, m, large, why := liveByte(p)
	if why != OK || large || f == trapFront || state(at) != liveState(m.class) {
		return false
	}
	size, _, ok := unseal(p, m, false)
	if !ok {
		return false
	}
	b, q := newPoisoned(p, size, m.class), f.quarantine()
	if q.n == quarantineBlocks {
		old := &q.ring[q.first]
		c := old.class()
		if !old.inSlab() || mem.Bytes(*f.top(c))%magSize(c) == 0 || q.bytes-old.size()+size > quarantineBytes {
			return false
		}
		if _, ok := old.whole(); !ok {
			return false
		}
		f.push(c, q.take(f).p)
		f.mix(c, q)
	} else if q.bytes+size > quarantineBytes {
		return false
	}
	if !breakSeal(p, size, m, false) {
		return false
	}
	putState(at, 0)
	b.fill()
	q.put(f, b)
	return true
}
