package heap

import (
	"encoding/binary"
	"math/bits"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/hakmem/hakmem/internal/policy"
)

// HAKMEM_HARDEN: what a program writes where it should not is found, at the
// latest when blocks around it are freed. Every call takes the slow path, because
// the table of fronts that the fast paths use (Fronts) holds nothing but traps;
// slow paths use another. Blocks are ordinary ones, a little larger:
//
//	p          p+size                usable-8
//	| user's   | canary, up to 64 B  ...  | sealed size |
//
// A span has its size in the page's metadata instead, so that its last page stays
// untouched. A freed block is filled with poison and waits in a quarantine, first
// in first out; when it leaves, the poison must be whole. Blocks of a slab are
// handed out in random order, so that what lies behind a block cannot be told.
//
// The ideas are those of hardened_malloc (canaries, quarantine) and of mimalloc's
// secure mode (random order).

const (
	// hardTail is what a block is larger: 8 bytes of canary at least, and the size.
	hardTail = 16
	// canaryBytes bounds the canary behind a block, of which a size class may leave
	// 12 % of the block free.
	canaryBytes = 64

	canary = 0xCA // an odd value, no ASCII, no small number
	poison = 0xDB // the same, of which eight are no address that may be used

	// The quarantine holds so many blocks and bytes; a block above maxPoison is
	// neither poisoned nor held, since its pages alone would push out all others.
	quarantineBlocks = 1024
	quarantineBytes  = 16 << 20
	maxPoison        = 4 << 20
)

// Hardened reports whether HAKMEM_HARDEN is on.
func Hardened() bool { return policy.Current().Harden }

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

// hardMalloc returns a sealed block of size bytes that raw allocates.
func hardMalloc(size uintptr, raw func(uintptr) uintptr) uintptr {
	if size+hardTail < size {
		return noMemory()
	}
	p := raw(size + hardTail)
	if p != 0 {
		_, m, span, _ := liveByte(p)
		seal(p, size, m, span)
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

func seal(p, size uintptr, m *pageMeta, span bool) {
	usable := usableBytes(m, span)
	if span {
		m.holes = sealOf(p, size)
	} else {
		usable -= 8
		binary.NativeEndian.PutUint64(memory(p+usable, 8), sealOf(p, size))
	}
	tail := memory(p+size, min(usable-size, canaryBytes))
	for i := range tail {
		tail[i] = canary
	}
}

// unseal returns the size of the sealed live block at p, or how far from its
// start the first byte lies that was written behind it.
func unseal(p uintptr, m *pageMeta, span bool) (size, damage uintptr, ok bool) {
	usable := usableBytes(m, span)
	if span {
		size = uintptr(m.holes ^ sealOf(p, 0))
	} else {
		usable -= 8
		size = uintptr(binary.NativeEndian.Uint64(memory(p+usable, 8)) ^ sealOf(p, 0))
	}
	if size > usable { // the size itself was written over: by what lies before it?
		return 0, usable, false
	}
	for i, b := range memory(p+size, min(usable-size, canaryBytes)) {
		if b != canary {
			return size, size + uintptr(i), false
		}
	}
	return size, 0, true
}

// quarantine holds freed blocks with their poison. Its lock also decides which of
// two frees of one block is the second.
var quarantine quarantineState

type quarantineState struct {
	sync.Mutex
	ring  [quarantineBlocks]poisoned
	first int // the oldest
	n     int
	bytes uintptr
}

// poisoned is a freed block: its first size bytes are poison.
type poisoned struct {
	p, size uintptr
	class   uint8 // 0: a span above 2 MiB
	span    bool
}

// take takes the oldest block out. Under the lock.
func (q *quarantineState) take() poisoned {
	b := q.ring[q.first]
	q.first = (q.first + 1) % len(q.ring)
	q.n--
	q.bytes -= b.size
	return b
}

// overflowed describes the damage that unseal found.
func overflowed(p, size, damage uintptr, m *pageMeta, span bool) Fault {
	if size == 0 && damage == usableBytes(m, span) { // it is the size that was written over
		size = damage
	}
	return Fault{Kind: Overflow, Addr: p, Block: p, Class: size, Offset: damage}
}

// hardFree is Free for a sealed block.
func hardFree(p uintptr) Fault {
	q := &quarantine
	q.Lock()
	at, m, span, why := liveByte(p)
	v := uint8(0)
	if why == OK {
		if v = state(at); v == 0 {
			why = Freed
		}
	}
	if why != OK {
		q.Unlock()
		return fault(p, m, why)
	}
	size, damage, ok := unseal(p, m, span)
	if !ok {
		q.Unlock()
		return overflowed(p, size, damage, m, span)
	}
	if tracked {
		raceRelease(p, usableBytes(m, span))
	}
	putState(at, 0)
	b := poisoned{p, size, m.class, span}
	q.Unlock()
	if span {
		unlabelSpan(m)
	} else {
		unsite(p, b.class, v)
	}
	if size > maxPoison {
		b.size = 0
		return letGo(b)
	}
	fillPoison(p, size)
	bad := Fault{}
	q.Lock()
	for q.n == len(q.ring) || q.bytes+size > quarantineBytes {
		old := q.take()
		q.Unlock()
		bad = firstOf(bad, letGo(old))
		q.Lock()
	}
	q.ring[(q.first+q.n)%len(q.ring)] = b
	q.n++
	q.bytes += size
	q.Unlock()
	return bad
}

// letGo gives a block from the quarantine back to its slab or to the page tree,
// and reports if it was written to since it was freed.
func letGo(b poisoned) Fault {
	bad := Fault{}
	if damage, ok := wholePoison(b.p, b.size); !ok {
		bad = Fault{Kind: WrittenFreed, Addr: b.p, Block: b.p, Class: b.size, Offset: damage}
	}
	var late uintptr
	switch {
	case !b.span:
		late = flush([]uintptr{b.p}, b.class)
	case b.class != 0:
		late = releaseSpans([]uintptr{b.p})
	default:
		region.mu.Lock()
		giveBigSpan(b.p, meta((b.p-region.base)>>pageShift))
		region.mu.Unlock()
	}
	kick()
	if bad.Kind == OK {
		return lateFault(late)
	}
	return bad
}

// emptyQuarantine lets all blocks go. Not entered.
func emptyQuarantine() (bad Fault) {
	q := &quarantine
	for {
		q.Lock()
		if q.n == 0 {
			q.Unlock()
			return bad
		}
		b := q.take()
		q.Unlock()
		bad = firstOf(bad, letGo(b))
	}
}

const poisonWord = poison * 0x0101010101010101

func fillPoison(p, n uintptr) {
	for ; n >= 8; p, n = p+8, n-8 { // p is a multiple of 16
		*u64(p) = poisonWord
	}
	for ; n > 0; p, n = p+1, n-1 {
		*u8(p) = poison
	}
}

// wholePoison reports whether n bytes at p are still poison, and else the first
// offset that is not.
func wholePoison(p, n uintptr) (damage uintptr, ok bool) {
	i := uintptr(0)
	for ; i+8 <= n && *u64(p + i) == poisonWord; i += 8 {
	}
	for ; i < n; i++ {
		if *u8(p + i) != poison {
			return i, false
		}
	}
	return 0, true
}

// shuffle brings the n blocks on top of class c's magazine into random order.
// Entered.
func shuffle(f uintptr, c uint8, n int) {
	t := *top(f, c)
	x := shuffleState.Add(0x9E3779B97F4A7C15) ^ secret
	for i := n - 1; i > 0; i-- {
		x = x*6364136223846793005 + 1442695040888963407 // Knuth's MMIX generator
		j := int(x >> 32 * uint64(i+1) >> 32)
		a, b := word(t-uintptr(i)*8), word(t-uintptr(j)*8)
		*a, *b = *b, *a
	}
}

// shuffleState gives each shuffle a start of its own.
var shuffleState atomic.Uint64
