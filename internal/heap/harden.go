package heap

import (
	"bytes"
	"math/bits"
	"strings"
	"sync/atomic"
	"unsafe"

	"github.com/hakmem/hakmem/internal/asan"
	"github.com/hakmem/hakmem/internal/policy"
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
	// canaryWords bounds the canary behind a block, of which a size class may leave
	// 12 % free: as many words are always written, so that there is nothing for the
	// processor to guess (docs/ledger.md, "Hardening without guesses").
	canaryWords = 4

	canary = 0xCA // an odd value, no ASCII, no small number
	poison = 0xDB // the same, of which eight are no address that may be used

	// A front's quarantine holds so many blocks and bytes: a few blocks of each
	// class, in a quarter of a usual second-level cache for blocks of 512 bytes. A
	// block above maxPoison is neither poisoned nor held, since its pages alone
	// would push out all others.
	quarantineBlocks = 512
	quarantineBytes  = 16 << 20
	maxPoison        = 4 << 20
)

// Hardened reports whether HAKMEM_HARDEN is on, or the program is built with -asan.
// Then the sanitizer is told besides which bytes of a block are the user's: those
// around them, and all of a freed block, end the process when they are touched.
// What hakmem reads and writes there is in functions that the compiler does not
// instrument: norace stands for asan, too.
func Hardened() bool { return asan.On || policy.Current().Harden }

// AlwaysSlow reports whether no fast path of a Heap may serve: calls are watched,
// blocks are hardened, or all of them guarded, or the race detector watches them.
func AlwaysSlow() bool { return tracked || Watched() || Hardened() || GuardRate() == 1 }

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

//go:nocheckptr
func memory(p, n uintptr) []byte { return unsafe.Slice((*byte)(ptr(p)), n) }

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

// usableBytes is the size of the block at p without what hardening keeps of it.
func usableBytes(m *pageMeta, span bool) uintptr {
	if span {
		return m.spanSize
	}
	return classSize(m.class)
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

const (
	canaryWord = canary * 0x0101010101010101
	poisonWord = poison * 0x0101010101010101
)

// putCanary fills the bytes from a to b, at least 8 of them and at most
// canaryWords words. The last words overlap where there are fewer.
//
//go:norace
func putCanary(a, b uintptr) {
	for i := uintptr(0); i < canaryWords; i++ {
		*u64(min(a+i*8, b-8)) = canaryWord
	}
}

// canaryWhole reports whether what putCanary wrote is there, and else the first
// address where it is not.
//
//go:norace
func canaryWhole(a, b uintptr) (at uintptr, ok bool) {
	x := uint64(0)
	for i := uintptr(0); i < canaryWords; i++ {
		x |= *u64(min(a+i*8, b-8)) ^ canaryWord
	}
	if x == 0 {
		return 0, true
	}
	for at = a; *u8(at) == canary; at++ {
	}
	return at, false
}

// quarantine is where a front's freed blocks wait with their poison, behind its
// magazines. It is touched as the front is.
type quarantine struct {
	first, n uint32 // the oldest, and how many
	bytes    uintptr
	random   uint64 // the state of a generator
	ring     [quarantineBlocks]poisoned
}

func quarantineOf(f uintptr) *quarantine { return (*quarantine)(ptr(f + quarantineOffset)) }

// poisoned is a freed block of which the user had size bytes.
type poisoned struct {
	p         uintptr
	sizeClass uint64 // size << 8 | class; class 0 is a span above 2 MiB
}

func newPoisoned(p, size uintptr, class uint8) poisoned {
	return poisoned{p, uint64(size)<<8 | uint64(class)}
}

func (b poisoned) size() uintptr { return uintptr(b.sizeClass >> 8) }
func (b poisoned) class() uint8  { return uint8(b.sizeClass) }
func (b poisoned) inSlab() bool  { return b.class()-1 < sizeclass.Num }

// bytes is how much of the block is poison: all of it in a slab, else what the
// user had.
func (b poisoned) bytes() uintptr {
	if b.inSlab() {
		return classSize(b.class())
	}
	return b.size()
}

// fill makes the block poison.
//
//go:norace
func (b poisoned) fill() {
	p, n := b.p, b.bytes()
	switch {
	case n >= poisonStep: // the last step overlaps the one before
		for i := uintptr(0); i < n; i += poisonStep {
			*(*[poisonStep]byte)(ptr(p + min(i, n-poisonStep))) = poisonBytes
		}
	default: // a slab's block: a multiple of 16
		for i := uintptr(0); i < n; i += 8 {
			*u64(p + i) = poisonWord
		}
	}
}

// poisonStep is how much is filled in one step: a cache line.
const poisonStep = 64

var poisonBytes = [poisonStep]byte(bytes.Repeat([]byte{poison}, poisonStep))

// poisons is what a freed block is compared with, as much in one step.
var poisons = strings.Repeat(string([]byte{poison}), 1024)

// whole reports whether the block is still poison, and else the offset of the
// first byte that is not.
//
//go:norace
func (b poisoned) whole() (offset uintptr, ok bool) {
	if asan.On { // it has seen to that, and does not want the block to be read
		return 0, true
	}
	p, n := b.p, b.bytes()
	if tracked { // the race detector would be told of a comparison of strings
		for n > 0 && *u8(p) == poison {
			p, n = p+1, n-1
		}
	}
	for ok = true; ok && n > 0; {
		step := min(n, uintptr(len(poisons)))
		ok = string(memory(p, step)) == poisons[:step]
		p, n = p+step, n-step
	}
	if ok {
		return 0, true
	}
	for *u8(b.p + offset) == poison {
		offset++
	}
	return offset, false
}

// put takes b in, if there is room. Entered.
func (q *quarantine) put(f uintptr, b poisoned) bool {
	if q.n == quarantineBlocks || q.bytes+b.size() > quarantineBytes {
		return false
	}
	q.ring[(q.first+q.n)%quarantineBlocks] = b
	q.n++
	q.bytes += b.size()
	head(f).waiting[b.class()]++
	return true
}

// take takes the oldest block out. Entered; there is one.
func (q *quarantine) take(f uintptr) poisoned {
	b := q.ring[q.first]
	q.first = (q.first + 1) % quarantineBlocks
	q.n--
	q.bytes -= b.size()
	head(f).waiting[b.class()]--
	return b
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
		bad := letGo(newPoisoned(p, 0, b.class())) // of which nothing is poison
		kick()
		return bad
	}
	b.fill() // not entered: pages that were never written fault
	f, tok = enter(own)
	return hold(own, f, tok, b)
}

// hold puts b into the quarantine of f; the oldest ones make room, and go to their
// magazines. It returns what is found wrong with these. Entered; leaves.
func hold(own, f uintptr, tok token, b poisoned) (bad Fault) {
	for {
		if f == trapFront { // it was just drained, or this is another P
			if leave(tok); installFront(tok) {
				kick() // the timer may have stopped with the last front
				f, tok = enter(own)
				continue
			}
			bad = firstOf(bad, letGo(b)) // no memory for a front
			kick()
			return bad
		}
		q := quarantineOf(f)
		if q.put(f, b) {
			leave(tok)
			return bad
		}
		old := q.take(f)
		c, fine := old.class(), old.inSlab()
		if fine { // a span has too many pages to be looked at here
			_, fine = old.whole()
		}
		if !fine {
			leave(tok)
			bad = firstOf(bad, letGo(old))
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
		bad = firstOf(bad, overflow(f, tok, c, old.p))
		f, tok = enter(own)
	}
}

// CanHard reports whether the pinned paths below serve: blocks are hardened, and
// nothing else wants to see every call.
func CanHard() bool {
	return Hardened() && canPin && checkLive && !tracked && !asan.On && GuardRate() == 0
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

// letGo gives a block from the quarantine back to its slab or to the page tree,
// and reports if it was written to since it was freed. Not entered.
func letGo(b poisoned) Fault {
	bad := Fault{}
	if damage, ok := b.whole(); !ok {
		bad = Fault{Kind: WrittenFreed, Addr: b.p, Block: b.p, Class: b.size(), Offset: damage}
	}
	var late uintptr
	switch c := b.class(); {
	case c == 0:
		region.mu.Lock()
		giveBigSpan(b.p, meta((b.p-region.base)>>pageShift))
		region.mu.Unlock()
	case c > sizeclass.Num:
		late = releaseSpans([]uintptr{b.p})
	default:
		late = flush([]uintptr{b.p}, c)
	}
	return firstOf(bad, lateFault(late))
}

// emptyQuarantine lets all blocks go that wait in a front which nobody else can
// reach, and postpones what it finds. Not entered.
func emptyQuarantine(f uintptr) {
	for q := quarantineOf(f); q.n > 0; {
		Postpone(letGo(q.take(f)))
	}
}

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
