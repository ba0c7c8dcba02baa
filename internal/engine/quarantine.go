package engine

import (
	"bytes"
	"strings"
	"unsafe"

	"github.com/hakmem/hakmem/internal/asan"
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
	if q.n == quarantineBlocks || q.bytes+b.size() > quarantineBytes {
		return false
	}
	q.ring[(q.first+q.n)%quarantineBlocks] = b
	q.n++
	q.bytes += b.size()
	f.head().waiting[b.class()]++
	return true
}

// take takes the oldest block out. Entered; there is one.
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
	for q := f.quarantine(); q.n > 0; {
		letGo(q.take(f))
	}
}
