package engine

import (
	"bytes"
	"math/bits"
	"strings"
	"sync/atomic"
	"unsafe"

	"github.com/hakmem/hakmem/internal/asan"
	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

const poison = 0xDB // the same, of which eight are no address that may be used

// A front's quarantine holds so many blocks and bytes: a few blocks of each
// class, in a quarter of a usual second-level cache for blocks of 512 bytes. A
// block above maxPoison is neither poisoned nor held, since its pages alone
// would push out all others.
const quarantineBlocks = 512

const quarantineBytes = 16 << 20

const poisonWord = poison * 0x0101010101010101

// quarantine is where a front's freed blocks wait with their poison, behind its
// magazines. It is touched as the front is.
type quarantine struct {
	first, n uint32 // the oldest, and how many
	bytes    mem.Bytes
	random   uint64 // the state of a generator
	ring     [quarantineBlocks]poisoned
}

// A quarantine fills the room that a front has for it.
const (
	_ = quarantineRoom - unsafe.Sizeof(quarantine{})
	_ = unsafe.Sizeof(quarantine{}) - quarantineRoom
)

func (f Front) quarantine() *quarantine { return (*quarantine)(ptr(mem.Addr(f + quarantineOffset))) }

// poisoned is a freed block of which the user had size bytes.
type poisoned struct {
	p         Block
	sizeClass uint64 // size << 8 | class; class 0 is a huge block
}

func newPoisoned(p Block, size mem.Bytes, class sizeclass.ID) poisoned {
	return poisoned{p, uint64(size)<<8 | uint64(class)}
}

func (b poisoned) size() mem.Bytes { return mem.Bytes(b.sizeClass >> 8) }

func (b poisoned) class() sizeclass.ID { return sizeclass.ID(b.sizeClass) }

func (b poisoned) inSlab() bool { return b.class()-1 < sizeclass.Num }

// bytes is how much of the block is poison: all of it in a slab, else what the
// user had.
func (b poisoned) bytes() mem.Bytes {
	if b.inSlab() {
		return b.class().Bytes()
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
		for i := mem.Bytes(0); i < n; i += poisonStep {
			*(*[poisonStep]byte)(ptr(p.addr().Add(min(i, n-poisonStep)))) = poisonBytes
		}
	default: // a slab's block: a multiple of 16
		for i := mem.Bytes(0); i < n; i += 8 {
			*u64(p.addr().Add(i)) = poisonWord
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
func (b poisoned) whole() (offset mem.Bytes, ok bool) {
	if asan.On { // it has seen to that, and does not want the block to be read
		return 0, true
	}
	p, n := b.p, b.bytes()
	if tracked { // the race detector would be told of a comparison of strings
		for n > 0 && *u8(mem.Addr(p)) == poison {
			p, n = p+1, n-1
		}
	}
	for ok = true; ok && n > 0; {
		step := min(n, mem.Bytes(len(poisons)))
		ok = string(memory(p, step)) == poisons[:step]
		p, n = p+Block(step), n-step
	}
	if ok {
		return 0, true
	}
	for *u8(mem.Addr(b.p + Block(offset))) == poison {
		offset++
	}
	return offset, false
}

// put takes b in, if there is room. Entered.
func (q *quarantine) put(f Front, b poisoned) bool {
	check.MustBeEntered("put")
	if q.n == quarantineBlocks || q.bytes+b.size() > quarantineBytes {
		return false
	}
	q.ring[(q.first+q.n)%quarantineBlocks] = b
	q.n++
	q.bytes += b.size()
	f.head().waiting[b.class()]++
	return true
}

// take takes the oldest block out; there is one. By whoever is entered with the front, or has it
// alone.
func (q *quarantine) take(f Front) poisoned {
	b := q.ring[q.first]
	q.first = (q.first + 1) % quarantineBlocks
	q.n--
	q.bytes -= b.size()
	f.head().waiting[b.class()]--
	return b
}

// letGo gives a block from the quarantine back to its slab or to the page tree,
// and postpones a finding if it was written to since it was freed. Not entered.
func letGo(b poisoned) {
	check.MustNotBeEntered("letGo")
	if damage, ok := b.whole(); !ok {
		Postpone(Finding{Kind: WrittenFreed, Addr: mem.Addr(b.p), Block: b.p, Class: b.size(), Offset: damage})
	}
	switch c := b.class(); {
	case c == 0:
		region.mu.Lock()
		giveHuge(b.p, meta(b.p.page()))
		region.mu.Unlock()
	case c > sizeclass.Num:
		releaseAll([]Block{b.p})
	default:
		flush([]Block{b.p}, c)
	}
}

// emptyQuarantine lets all blocks go that wait in a front which nobody else can
// reach. Not entered.
func emptyQuarantine(f Front) {
	check.MustNotBeEntered("emptyQuarantine")
	for q := f.quarantine(); q.n > 0; {
		letGo(q.take(f))
	}
}

// canaryWords bounds the canary behind a block, of which a size class may leave
// 12 % free: as many words are always written, so that there is nothing for the
// processor to guess (docs/ledger.md, "Hardening without guesses").
const canaryWords = 4

const canary = 0xCA // an odd value, no ASCII, no small number

const (
	canaryWord = canary * 0x0101010101010101
)

// putCanary fills the bytes from a to b, at least 8 of them and at most
// canaryWords words. The last words overlap where there are fewer.
//
//go:norace
func putCanary(a, b mem.Addr) {
	for i := uintptr(0); i < canaryWords; i++ {
		*u64(min(a+mem.Addr(i*8), b-8)) = canaryWord
	}
}

// canaryWhole reports whether what putCanary wrote is there, and else the first
// address where it is not.
//
//go:norace
func canaryWhole(a, b mem.Addr) (at mem.Addr, ok bool) {
	x := uint64(0)
	for i := uintptr(0); i < canaryWords; i++ {
		x |= *u64(min(a+mem.Addr(i*8), b-8)) ^ canaryWord
	}
	if x == 0 {
		return 0, true
	}
	for at = a; *u8(at) == canary; at++ {
	}
	return at, false
}

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
	end = mem.Addr(p + Block(m.class.Bytes()) - 8)
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

// mix exchanges the block on top of class c's magazine with one below. Entered.
func (f Front) mix(c sizeclass.ID, q *quarantine) {
	check.MustBeEntered("mix")
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
	check.MustBeEntered("shuffle")
	t := *f.top(c)
	x := shuffleState.Add(0x9E3779B97F4A7C15) ^ secret
	for i := n - 1; i > 0; i-- {
		x = nextRandom(x)
		j := int(x >> 32 * uint64(i+1) >> 32)
		a, b := word(t-slots(i)), word(t-slots(j))
		*a, *b = *b, *a
	}
}

// shuffleState gives each shuffle a start of its own.
var shuffleState atomic.Uint64
