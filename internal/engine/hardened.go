package engine

import (
	"bytes"
	"math/bits"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/hakmem/hakmem/internal/asan"
	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// This file holds what hardening adds to blocks (HAKMEM_HARDEN): the poison of freed blocks and the
// quarantine in which they wait, and the canary and the sealed size behind live blocks. A
// quarantine is owned as its front is; a seal is owned by the goroutine that holds the block.

const poison = 0xDB // odd, not ASCII, not a small number; eight of them are no usable address

// quarantineBlocks and quarantineBytes are the most that a front's quarantine holds. That is a few
// blocks of each class; with blocks of 512 bytes it is a quarter of a usual second-level cache. A
// block above maxPoison is neither poisoned nor held, since a few of them would push out all
// others.
const quarantineBlocks = 512

const quarantineBytes = 16 << 20

const poisonWord = poison * 0x0101010101010101

// quarantine is where a front's freed blocks wait with their poison. It lies behind the front's
// magazines, and is touched only as the front is.
type quarantine struct {
	first, n uint32 // the place of the oldest block, and how many there are
	bytes    mem.Bytes
	random   uint64 // the state of a generator of random numbers
	ring     [quarantineBlocks]poisoned
}

// A quarantine fills the room that a front has for it.
const (
	_ = quarantineRoom - unsafe.Sizeof(quarantine{})
	_ = unsafe.Sizeof(quarantine{}) - quarantineRoom
)

func (f Front) quarantine() *quarantine { return (*quarantine)(ptr(mem.Addr(f + quarantineOffset))) }

// poisoned is a freed block. size is the number of bytes that the user had.
type poisoned struct {
	p         Block
	sizeClass uint64 // size << 8 | class; class 0 is a huge block
}

func newPoisoned(p Block, size mem.Bytes, class sizeclass.ID) poisoned {
	return poisoned{p, uint64(size)<<8 | uint64(class)}
}

func (b poisoned) size() mem.Bytes { return mem.Bytes(b.sizeClass >> 8) }

func (b poisoned) class() sizeclass.ID { return sizeclass.ID(b.sizeClass) }

// inSlab reports whether the block is a slab's.
func (b poisoned) inSlab() bool { return b.class()-1 < sizeclass.Num }

// bytes returns how much of the block is poison: in a slab all of it, otherwise the bytes that the
// user had.
func (b poisoned) bytes() mem.Bytes {
	if b.inSlab() {
		return b.class().Bytes()
	}
	return b.size()
}

// fill fills the block with poison.
//
//go:norace
func (b poisoned) fill() {
	p, n := b.p, b.bytes()
	switch {
	case n >= poisonStep: // the last step overlaps the one before it
		for i := mem.Bytes(0); i < n; i += poisonStep {
			*(*[poisonStep]byte)(ptr(p.addr().Add(min(i, n-poisonStep)))) = poisonBytes
		}
	default: // a slab's block: a multiple of 16
		for i := mem.Bytes(0); i < n; i += 8 {
			*u64(p.addr().Add(i)) = poisonWord
		}
	}
}

// poisonStep is the number of bytes filled in one step: a cache line.
const poisonStep = 64

// poisonBytes is what fill writes in one step.
var poisonBytes = [poisonStep]byte(bytes.Repeat([]byte{poison}, poisonStep))

// poisons is what a freed block is compared with; its length is the bytes compared in one step.
var poisons = strings.Repeat(string([]byte{poison}), 1024)

// whole reports whether the block is still poison. If it is not, offset is that of the first byte
// that differs.
//
//go:norace
func (b poisoned) whole() (offset mem.Bytes, ok bool) {
	// The sanitizer has checked that, and forbids reading the block.
	if asan.On {
		return 0, true
	}
	p, n := b.p, b.bytes()
	// The race detector would see a comparison of strings.
	if tracked {
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

// put takes b into the quarantine, if there is room, and reports whether there was. Entered.
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

// take takes the oldest block out of the quarantine, which must not be empty. The caller is entered
// with the front, or has the front alone.
func (q *quarantine) take(f Front) poisoned {
	b := q.ring[q.first]
	q.first = (q.first + 1) % quarantineBlocks
	q.n--
	q.bytes -= b.size()
	f.head().waiting[b.class()]--
	return b
}

// letGo gives a block from the quarantine back to its slab or to the page tree. It postpones a
// finding if the block was written to since it was freed. Not entered.
func letGo(b poisoned) {
	check.MustNotBeEntered("letGo")
	if damage, ok := b.whole(); !ok {
		Postpone(Finding{Kind: WrittenFreed, Addr: mem.Addr(b.p), Block: b.p, Class: b.size(), Offset: damage})
	}
	switch c := b.class(); {
	case c == 0:
		region.mu.Lock()
		giveHuge(b.p, meta(b.p.page()), 0)
		region.mu.Unlock()
	case c > sizeclass.Num:
		releaseAll([]Block{b.p})
	default:
		flush([]Block{b.p}, c)
	}
}

// hasQuarantine reports whether the front's quarantine may be read: its memory may not be committed.
func (f Front) hasQuarantine() bool {
	first, _ := f.pagesAt(mem.Addr(f+quarantineOffset), quarantineRoom)
	return !frontsInParts || f.head().committed.has(first)
}

// emptyQuarantine lets go of all blocks that wait in a front. Nobody else may be able to reach the
// front. Not entered.
func emptyQuarantine(f Front) {
	check.MustNotBeEntered("emptyQuarantine")
	// The head says whether there is a block: a read of a quarantine that was never made may take memory
	// (osmem.ReadsTakeMemory).
	if f.head().waiting == [frontTypes]uint32{} {
		return
	}
	for q := f.quarantine(); q.n > 0; {
		letGo(q.take(f))
	}
}

// canaryWords bounds the canary behind a block. A size class may leave 12 % of a block free. The
// same number of words is always written, so that there is nothing for the processor to guess
// (docs/ledger.md, "Hardening without guesses").
const canaryWords = 4

const canary = 0xCA // an odd value, not ASCII, not a small number

const canaryWord = canary * 0x0101010101010101

// putCanary fills the bytes from a to b, at least 8 bytes and at most canaryWords words. Where
// there are fewer words, the last ones overlap.
//
//go:norace
func putCanary(a, b mem.Addr) {
	for i := uintptr(0); i < canaryWords; i++ {
		*u64(min(a+mem.Addr(i*8), b-8)) = canaryWord
	}
}

// canaryWhole reports whether what putCanary wrote is still there. If it is not, at is the first
// address where it differs.
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
	// hardTail is how much larger a block is made: at least 8 bytes of canary, and the size.
	hardTail = 16

	// maxPoison is the size above which a freed block is neither poisoned nor held in a quarantine,
	// in bytes.
	maxPoison = 4 << 20
)

// secret makes sealed sizes unlike any number that a program would write there.
var secret = newSecret()

// newSecret uses the address of a variable that the system places at random, and the clock. That is
// enough against accidents, which are what hardening is to find.
func newSecret() uint64 {
	x := new(uint64)
	return (uint64(uintptr(unsafe.Pointer(x))) ^ uint64(time.Now().UnixNano())) * 0x9E3779B97F4A7C15
}

// sealOf returns the seal of a block of size bytes at p.
func sealOf(p Block, size mem.Bytes) uint64 {
	return uint64(size) ^ secret ^ bits.RotateLeft64(uint64(p)*0x9E3779B97F4A7C15, 32)
}

// hardSize returns the size of the block that holds a sealed block of size bytes. Such a block has at
// least the alignment that the block would have without its seal. If there is no such size, hardSize
// returns one that no memory is large enough for.
func hardSize(size mem.Bytes) mem.Bytes {
	n := size + hardTail
	if n < size {
		return mem.Bytes(^uintptr(0))
	}
	if size > sizeclass.MaxMid {
		return n
	}
	c := sizeclass.Of(size)
	switch {
	case n <= c.Bytes():
		return n
	case n > sizeclass.MaxMid:
		return sizeclass.MaxMid + 1
	}
	if next := sizeclass.Aligned(n, c.Align()); next != 0 {
		return next.Bytes()
	}
	return sizeclass.MaxMid + 1 // a large block is aligned to a page
}

// hardRoom is how much larger a sealed block of size bytes is made that has grown, so that a block that
// grows in small steps is copied five times its last size in all. Of a large block the room has no
// memory, but it counts for a limit; above maxPoison blocks move without copies, where they can.
func hardRoom(size mem.Bytes) mem.Bytes {
	if size > maxPoison && !asan.On && !tracked || size > maxRegion {
		return 0
	}
	return size / 4
}

// reseal makes a sealed live block, from old to size bytes, larger in place. The block has room for
// them and for what hardening adds. It reports false if the block is being freed.
func reseal(p Block, old, size mem.Bytes, m *pageMeta, large bool) bool {
	at, end := sealWord(p, m, large)
	// First the canary. Nobody looks at it there until the seal says so.
	putCanary(mem.Addr(p+Block(size)), end)
	if !swapSeal(at, sealOf(p, old), sealOf(p, size)) {
		return false
	}
	from := (p + Block(old)) &^ 7 // a granule of the sanitizer's
	asan.Unpoison(uintptr(from), uintptr(p+Block(size)-from))
	return true
}

// sealed seals the new block of hardSize(size) bytes at p and returns p. p may be 0, for no block.
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

// sealWord returns the word where the block's size is sealed, and the address where its canary ends
// at the latest.
func sealWord(p Block, m *pageMeta, large bool) (at *uint64, end mem.Addr) {
	if large {
		return m.largeSeal(), mem.Addr(p + Block(m.largeSize))
	}
	end = mem.Addr(p + Block(m.class.Bytes()) - 8)
	return u64(end), end
}

// seal writes the seal and the canary of a block of size bytes at p.
//
//go:norace
func seal(p Block, size mem.Bytes, m *pageMeta, large bool) {
	at, end := sealWord(p, m, large)
	*at = sealOf(p, size)
	putCanary(mem.Addr(p+Block(size)), end)
}

// unseal returns the size of the sealed live block at p. If bytes behind the block were written, ok
// is false and damage is the offset of the first of them from the block's start.
//
//go:norace
func unseal(p Block, m *pageMeta, large bool) (size, damage mem.Bytes, ok bool) {
	at, end := sealWord(p, m, large)
	size = mem.Bytes(loadSeal(at) ^ sealOf(p, 0))
	// A size that does not fit the block was itself written over, perhaps by a write that began
	// before it.
	if mem.Addr(size) > end-mem.Addr(p) {
		return 0, mem.Bytes(end - mem.Addr(p)), false
	}
	if at, ok := canaryWhole(mem.Addr(p+Block(size)), end); !ok {
		return size, mem.Bytes(at - mem.Addr(p)), false
	}
	return size, 0, true
}

// breakSeal is the moment of the free of a block of size bytes: of two frees, only one breaks the
// seal. (Where the race detector watches blocks, an atomic on the block would be reported together with
// the program's own accesses, or hide a race between them. So there two frees that overlap may both
// pass, as without hardening.)
//
//go:norace
func breakSeal(p Block, size mem.Bytes, m *pageMeta, large bool) bool {
	at, _ := sealWord(p, m, large)
	return swapSeal(at, sealOf(p, size), brokenSeal(p))
}

// swapSeal replaces one seal by another, and reports whether the old one was there.
//
//go:norace
func swapSeal(at *uint64, was, is uint64) bool {
	if tracked {
		seal := *at
		*at = is
		return seal == was
	}
	return atomic.CompareAndSwapUint64(at, was, is)
}

// loadSeal reads a seal: where the race detector watches blocks plainly, otherwise atomically.
//
//go:norace
func loadSeal(at *uint64) uint64 {
	if tracked {
		return *at
	}
	return atomic.LoadUint64(at)
}

// brokenSeal is what breakSeal leaves in the place of the seal of the block at p.
func brokenSeal(p Block) uint64 { return sealOf(p, mem.Bytes(^uintptr(0))) }

// isBroken reports whether the block at p is being freed, or was freed.
func isBroken(p Block, m *pageMeta, large bool) bool {
	at, _ := sealWord(p, m, large)
	w := loadSeal(at)
	return w == brokenSeal(p) || w == poisonWord
}

// overflowed describes the damage that unseal found.
func overflowed(p Block, size mem.Bytes, damage mem.Bytes, m *pageMeta, large bool) Finding {
	// The size itself was written over.
	if _, end := sealWord(p, m, large); size == 0 && mem.Addr(damage) == end-mem.Addr(p) {
		size = damage
	}
	return Finding{Kind: Overflow, Addr: mem.Addr(p), Block: p, Class: size, Offset: damage}
}

// mix exchanges the block on top of class c's magazine with one below it. Entered.
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

// shuffle brings the n blocks on top of class c's magazine into random order. Entered.
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
