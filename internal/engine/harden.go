package engine

import (
	"math/bits"
	"sync/atomic"
	"unsafe"

	"github.com/hakmem/hakmem/internal/asan"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// HAKMEM_HARDEN: what a program writes where it should not is found, at the
// latest when blocks around it are freed. No call takes the fast section, because
// the table of fronts that it uses (pFronts) holds nothing but traps; slow paths, and
// the road of hardened blocks (tryMallocHard, tryFreeHard), use another. Blocks are
// ordinary ones, a little larger:
//
//	p          p+size                usable-8
//	| user's   | canary, up to 32 B  ...  | sealed size |
//
// A large block has its size in the page's metadata instead, so that its last page stays
// untouched. A freed block is filled with poison (a large block, as far as
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

func sealOf(p Block, size mem.Bytes) uint64 {
	return uint64(size) ^ secret ^ bits.RotateLeft64(uint64(p)*0x9E3779B97F4A7C15, 32)
}

// hardSize is the size of the block that holds a sealed one of size bytes; one
// that nobody has when there is none.
func hardSize(size mem.Bytes) mem.Bytes {
	if size+hardTail < size {
		return mem.Bytes(^uintptr(0))
	}
	return size + hardTail
}

// sealed seals the new block of hardSize(size) at p, 0 for none, and returns p.
func sealed(p Block, size mem.Bytes) Block {
	if p != 0 {
		m := meta(p.page())
		large := m.kind == kindLarge
		seal(p, size, m, large)
		asan.Poison(uintptr(p+Block(size)), uintptr(usableBytes(m, large)-size))
		asan.Unpoison(uintptr(p), uintptr(size))
	}
	return p
}

// sealWord returns where the block's size is sealed, and where its canary ends at
// the latest.
func sealWord(p Block, m *pageMeta, large bool) (at *uint64, end mem.Addr) {
	if large {
		return m.largeSeal(), mem.Addr(p + Block(m.largeSize))
	}
	end = mem.Addr(p + Block(classSize(m.class)) - 8)
	return u64(end), end
}

//go:norace
func seal(p Block, size mem.Bytes, m *pageMeta, large bool) {
	at, end := sealWord(p, m, large)
	*at = sealOf(p, size)
	putCanary(mem.Addr(p+Block(size)), end)
}

// unseal returns the size of the sealed live block at p, or how far from its
// start the first byte lies that was written behind it.
//
//go:norace
func unseal(p Block, m *pageMeta, large bool) (size, damage mem.Bytes, ok bool) {
	at, end := sealWord(p, m, large)
	size = mem.Bytes(loadSeal(at) ^ sealOf(p, 0))
	if mem.Addr(size) > end-mem.Addr(p) { // the size itself was written over: by what lies before it?
		return 0, mem.Bytes(end - mem.Addr(p)), false
	}
	if at, ok := canaryWhole(mem.Addr(p+Block(size)), end); !ok {
		return size, mem.Bytes(at - mem.Addr(p)), false
	}
	return size, 0, true
}

// breakSeal is the moment of the free of a block of size bytes: of two frees, one
// breaks the seal. (In race builds an atomic on the block would be reported beside
// the program's own accesses, or hide a race between them: there two frees that
// overlap may both pass, as without hardening.)
//
//go:norace
func breakSeal(p Block, size mem.Bytes, m *pageMeta, large bool) bool {
	at, _ := sealWord(p, m, large)
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

func brokenSeal(p Block) uint64 { return sealOf(p, mem.Bytes(^uintptr(0))) }

// isBroken reports whether the block at p is being freed, or was.
func isBroken(p Block, m *pageMeta, large bool) bool {
	at, _ := sealWord(p, m, large)
	w := loadSeal(at)
	return w == brokenSeal(p) || w == poisonWord
}

// overflowed describes the damage that unseal found.
func overflowed(p Block, size mem.Bytes, damage mem.Bytes, m *pageMeta, large bool) Finding {
	if _, end := sealWord(p, m, large); size == 0 && mem.Addr(damage) == end-mem.Addr(p) { // it is the size that was written over
		size = damage
	}
	return Finding{Kind: Overflow, Addr: mem.Addr(p), Block: p, Class: size, Offset: damage}
}

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
	if tracked {
		raceRelease(p, usable)
	}
	putState(at, 0)
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
func hold(own, f Front, tok token, b poisoned) Finding {
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
		q := f.quarantine()
		if q.put(f, b) {
			leave(tok)
			return TakeFinding()
		}
		old := q.take(f)
		c, fine := old.class(), old.inSlab()
		if fine { // a large block has too many pages to be looked at here
			_, fine = old.whole()
		}
		if !fine {
			leave(tok)
			letGo(old)
			kick()
			f, tok = enter(own)
			continue
		}
		if f.head().cap[c] == 0 {
			f.makeMagazine(c)
		}
		if f.push(c, old.p) {
			f.mix(c, q)
			continue
		}
		overflow(f, tok, c, old.p)
		f, tok = enter(own)
	}
}

// tryMallocHard returns a sealed block up to 32 KiB if the P's magazine has one, else
// nil. It is for callers that have asked canHard.
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

// tryFreeHard frees a sealed block of a slab if there is nothing wrong with it or with
// the block that leaves the quarantine for it, and reports whether it did; else the
// block is as it was. It is for callers that have asked canHard.
func tryFreeHard(block unsafe.Pointer) bool {
	p := uintptr(block)
	pid := procPin()
	if uint(pid) >= MaxP {
		procUnpin()
		return false
	}
	ok := freeHard(Front(atomic.LoadUintptr(&hardFronts[pid])), Block(p))
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

// mix exchanges the block on top of class c's magazine with one below. Entered.
func (f Front) mix(c sizeclass.ID, q *quarantine) {
	q.random = nextRandom(q.random ^ secret)
	t := *f.top(c)
	n := (t - f.sentinel(c)) / 8
	a, b := word(t), word(t-mem.Addr(uintptr(q.random>>32*uint64(n)>>32)*8))
	*a, *b = *b, *a
}

// nextRandom is a step of Knuth's MMIX generator, whose upper bits are good.
func nextRandom(x uint64) uint64 { return x*6364136223846793005 + 1442695040888963407 }

// shuffle brings the n blocks on top of class c's magazine into random order.
// Entered.
func (f Front) shuffle(c sizeclass.ID, n int) {
	t := *f.top(c)
	x := shuffleState.Add(0x9E3779B97F4A7C15) ^ secret
	for i := n - 1; i > 0; i-- {
		x = nextRandom(x)
		j := int(x >> 32 * uint64(i+1) >> 32)
		a, b := word(t-mem.Addr(uintptr(i)*8)), word(t-mem.Addr(uintptr(j)*8))
		*a, *b = *b, *a
	}
}

// shuffleState gives each shuffle a start of its own.
var shuffleState atomic.Uint64
