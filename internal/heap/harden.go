package heap

import (
	"math/bits"
	"sync/atomic"
	"unsafe"

	"github.com/hakmem/hakmem/internal/asan"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// HAKMEM_HARDEN: what a program writes where it should not is found, at the
// latest when blocks around it are freed. No call takes the fast section, because
// the table of fronts that it uses (Fronts) holds nothing but traps; slow paths, and
// the pinned road of Malloc and Free (MallocHard, FreeHard), use another. Blocks are ordinary ones, a little larger:
//
//	p          p+size                usable-8
//	| user's   | canary, up to 32 B  ...  | sealed size |
//
// A span has its size in the page's metadata instead, so that its last page stays
// untouched. A freed block is filled with poison (a span, as far as
// the user's bytes reach) and waits in its front's
// quarantine, first in first out; when it leaves, for a random place in the
// magazine, the poison must be whole. A refill brings blocks in random order, so
// that what lies behind a block cannot be told.
//
// The ideas are those of hardened_malloc (canaries, quarantine) and of mimalloc's
// secure mode (random order).

const (
	// hardTail is what a block is larger: 8 bytes of canary at least, and the size.
	hardTail = 16

	maxPoison = 4 << 20
)

// secret makes sealed sizes unlike any number that a program would write there.
var secret = newSecret()

// newSecret uses the address of a variable that the system places at random, and
// the clock: enough against accidents, which are what is to be found.
func newSecret() uint64 {
	x := new(uint64)
	return (uint64(uintptr(unsafe.Pointer(x))) ^ uint64(processStart.UnixNano())) * 0x9E3779B97F4A7C15
}

func sealOf(p, size uintptr) uint64 {
	return uint64(size) ^ secret ^ bits.RotateLeft64(uint64(p)*0x9E3779B97F4A7C15, 32)
}

// hardSize is the size of the block that holds a sealed one of size bytes; one
// that nobody has when there is none.
func hardSize(size uintptr) uintptr {
	if size+hardTail < size {
		return ^uintptr(0)
	}
	return size + hardTail
}

// sealed seals the new block of hardSize(size) at p, 0 for none, and returns p.
func sealed(p, size uintptr) uintptr {
	if p != 0 {
		m := meta((p - region.base) >> pageShift)
		span := m.kind == kindSpan
		seal(p, size, m, span)
		asan.Poison(p+size, usableBytes(m, span)-size)
		asan.Unpoison(p, size)
	}
	return p
}

// sealWord returns where the block's size is sealed, and where its canary ends at
// the latest.
func sealWord(p uintptr, m *pageMeta, span bool) (at *uint64, end uintptr) {
	if span {
		return &m.holes, p + m.spanSize
	}
	end = p + classSize(m.class) - 8
	return u64(end), end
}

//go:norace
func seal(p, size uintptr, m *pageMeta, span bool) {
	at, end := sealWord(p, m, span)
	*at = sealOf(p, size)
	putCanary(p+size, end)
}

// unseal returns the size of the sealed live block at p, or how far from its
// start the first byte lies that was written behind it.
//
//go:norace
func unseal(p uintptr, m *pageMeta, span bool) (size, damage uintptr, ok bool) {
	at, end := sealWord(p, m, span)
	size = uintptr(loadSeal(at) ^ sealOf(p, 0))
	if size > end-p { // the size itself was written over: by what lies before it?
		return 0, end - p, false
	}
	if at, ok := canaryWhole(p+size, end); !ok {
		return size, at - p, false
	}
	return size, 0, true
}

// breakSeal is the moment of the free of a block of size bytes: of two frees, one
// breaks the seal. (In race builds an atomic on the block would be reported beside
// the program's own accesses, or hide a race between them: there two frees that
// overlap may both pass, as without hardening.)
//
//go:norace
func breakSeal(p, size uintptr, m *pageMeta, span bool) bool {
	at, _ := sealWord(p, m, span)
	if tracked {
		was := *at
		*at = brokenSeal(p)
		return was == sealOf(p, size)
	}
	return atomic.CompareAndSwapUint64(at, sealOf(p, size), brokenSeal(p))
}

//go:norace
func loadSeal(at *uint64) uint64 {
	if tracked {
		return *at
	}
	return atomic.LoadUint64(at)
}

func brokenSeal(p uintptr) uint64 { return sealOf(p, ^uintptr(0)) }

// isBroken reports whether the block at p is being freed, or was.
func isBroken(p uintptr, m *pageMeta, span bool) bool {
	at, _ := sealWord(p, m, span)
	w := loadSeal(at)
	return w == brokenSeal(p) || w == poisonWord
}

// overflowed describes the damage that unseal found.
func overflowed(p, size, damage uintptr, m *pageMeta, span bool) Fault {
	if _, end := sealWord(p, m, span); size == 0 && damage == end-p { // it is the size that was written over
		size = damage
	}
	return Fault{Kind: Overflow, Addr: p, Block: p, Class: size, Offset: damage}
}

// hardFree is Free for a sealed block.
func hardFree(own, p uintptr) Fault {
	f, tok := enter(own)
	at, m, span, why := liveByte(p)
	v := uint8(0)
	if why == OK {
		if v = state(at); v == 0 {
			why = Freed
		}
	}
	if why != OK {
		leave(tok)
		return fault(p, m, why)
	}
	size, damage, ok := unseal(p, m, span)
	if !ok && !isBroken(p, m, span) {
		leave(tok)
		return overflowed(p, size, damage, m, span)
	}
	if !ok || !breakSeal(p, size, m, span) {
		leave(tok)
		return fault(p, m, Freed)
	}
	usable := usableBytes(m, span)
	if tracked {
		raceRelease(p, usable)
	}
	putState(at, 0)
	b := newPoisoned(p, size, m.class)
	if span {
		unlabelSpan(m)
	} else if unsite(p, m.class, v); !asan.On {
		b.fill()
		return hold(own, f, tok, b)
	}
	leave(tok)
	asan.Poison(p, usable)
	if size > maxPoison {
		letGo(newPoisoned(p, 0, b.class())) // of which nothing is poison
		kick()
		return TakeFinding()
	}
	b.fill() // not entered: pages that were never written fault
	f, tok = enter(own)
	return hold(own, f, tok, b)
}

// hold puts b into the quarantine of f; the oldest ones make room, and go to their
// magazines. It returns a finding if there is one, of these or an earlier one. Entered;
// leaves.
func hold(own, f uintptr, tok token, b poisoned) Fault {
	for {
		if f == trapFront { // it was just drained, or this is another P
			if leave(tok); installFront(tok) {
				kick() // the timer may have stopped with the last front
				f, tok = enter(own)
				continue
			}
			letGo(b) // no memory for a front
			kick()
			return TakeFinding()
		}
		q := quarantineOf(f)
		if q.put(f, b) {
			leave(tok)
			return TakeFinding()
		}
		old := q.take(f)
		c, fine := old.class(), old.inSlab()
		if fine { // a span has too many pages to be looked at here
			_, fine = old.whole()
		}
		if !fine {
			leave(tok)
			letGo(old)
			kick()
			f, tok = enter(own)
			continue
		}
		if head(f).cap[c] == 0 {
			makeMagazine(f, c)
		}
		if push(f, c, old.p) {
			mix(f, c, q)
			continue
		}
		overflow(f, tok, c, old.p)
		f, tok = enter(own)
	}
}

// MallocHard returns a sealed block up to 32 KiB if the P's magazine has one, else
// nil. It is for who has asked CanHard.
func MallocHard(size uintptr) unsafe.Pointer {
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
	p := pop(atomic.LoadUintptr(&hardFronts[pid]), c)
	if p == 0 {
		procUnpin()
		return nil
	}
	setLive(p, c, c)
	procUnpin()
	seal(p, size, meta((p-region.base)>>pageShift), false)
	return Pointer(p)
}

// FreeHard frees a sealed block of a slab if there is nothing wrong with it or with
// the block that leaves the quarantine for it, and reports whether it did; else the
// block is as it was. It is for who has asked CanHard.
func FreeHard(block unsafe.Pointer) bool {
	p := uintptr(block)
	pid := procPin()
	if uint(pid) >= MaxP {
		procUnpin()
		return false
	}
	ok := freeHard(atomic.LoadUintptr(&hardFronts[pid]), p)
	procUnpin()
	return ok
}

func freeHard(f, p uintptr) bool {
	at, m, span, why := liveByte(p)
	if why != OK || span || f == trapFront || state(at) != m.class {
		return false
	}
	size, _, ok := unseal(p, m, false)
	if !ok {
		return false
	}
	b, q := newPoisoned(p, size, m.class), quarantineOf(f)
	if q.n == quarantineBlocks {
		old := &q.ring[q.first]
		c := old.class()
		if !old.inSlab() || *top(f, c)%magSize(c) == 0 || q.bytes-old.size()+size > quarantineBytes {
			return false
		}
		if _, ok := old.whole(); !ok {
			return false
		}
		push(f, c, q.take(f).p)
		mix(f, c, q)
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

// mix exchanges the block on top of class c's magazine with one below. Entered.
func mix(f uintptr, c uint8, q *quarantine) {
	q.random = nextRandom(q.random ^ secret)
	t := *top(f, c)
	n := (t - sentinel(f, c)) / 8
	a, b := word(t), word(t-uintptr(q.random>>32*uint64(n)>>32)*8)
	*a, *b = *b, *a
}

// nextRandom is a step of Knuth's MMIX generator, whose upper bits are good.
func nextRandom(x uint64) uint64 { return x*6364136223846793005 + 1442695040888963407 }

// shuffle brings the n blocks on top of class c's magazine into random order.
// Entered.
func shuffle(f uintptr, c uint8, n int) {
	t := *top(f, c)
	x := shuffleState.Add(0x9E3779B97F4A7C15) ^ secret
	for i := n - 1; i > 0; i-- {
		x = nextRandom(x)
		j := int(x >> 32 * uint64(i+1) >> 32)
		a, b := word(t-uintptr(i)*8), word(t-uintptr(j)*8)
		*a, *b = *b, *a
	}
}

// shuffleState gives each shuffle a start of its own.
var shuffleState atomic.Uint64
