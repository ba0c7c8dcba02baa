package engine

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sort"
	"sync/atomic"
	"time"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/site"
)

// Guarded blocks. With HAKMEM_GUARD=1/N one in N blocks, drawn at random, lies alone between OS
// pages that fault, in a range of its own outside the region. After the free its own pages fault as
// well. (The idea is that of GWP-ASan and of Electric Fence.) A program that misuses such a block
// faults at the very instruction; the public CatchFaults reports which block it was. The lock of
// guard owns all state of this file.
//
// How allocations are counted: each front has a word that says how many allocations remain until
// the next sample (sampleWord). The fast section for this mode subtracts one; at 0 it takes the
// slow path, which samples. Heaps, whose fast paths are part of the program, count the blocks that
// their refills bring.

const (
	// guardSpace is the address space of guarded blocks. Each address is used once until the space
	// is exhausted, so that a stale pointer faults for as long as possible.
	guardSpace = 16 << 30
	// guardSlots bounds the number of guarded blocks, live ones and the freed ones that are
	// remembered. Each live one needs two mappings, and Linux allows 65530.
	guardSlots = 16 << 10
	// guardStack is the depth of the stacks that are remembered.
	guardStack = 24
	// guardEvery is the minimum time between two samples. It bounds what sampling costs where a
	// program allocates many millions of blocks a second: some 10 µs for each sample, in a fifth of
	// a percent of the time. It does not apply to a rate of 1/100 or more, which is for finding
	// something at any cost.
	guardEvery  = 5 * time.Millisecond
	guardAlways = 100
	// guardSlotBytes is what a slot takes besides its pages: twice the guardSlot in Go's heap, which
	// lets as much garbage lie (GOGC is 100), and some 600 bytes of the kernel for two mappings.
	guardSlotBytes = 1536
)

// guardSlot is one guarded block, live or freed.
type guardSlot struct {
	start       mem.Addr
	pages       uintptr // its OS pages; one more on each side faults
	p           Block
	size        mem.Bytes
	site        site.ID
	live        bool
	counted     bool // its pages count as memory
	alloc, free [guardStack]uintptr
	nAlloc      int
	nFree       int
}

// end is where the guard page behind the slot's pages begins.
func (s *guardSlot) end() mem.Addr { return s.start.Add(mem.Bytes(s.pages) * osmem.PageSize()) }

var guard struct {
	check.Mutex[check.Guard]
	on               atomic.Bool // there are, or were, guarded blocks
	base, next, end  mem.Addr
	slots            []*guardSlot // by address
	freed            []*guardSlot // the oldest first
	live             int
	notBefore        time.Duration // when the next sample may be made, since the process began
	samples, skipped uint64
}

// guarded returns a guarded block if one is due for this allocation of size bytes at a multiple of
// align, else 0. counted is as for due.
func guarded(own Front, size mem.Bytes, align mem.Align, site site.ID, counted bool) Block {
	rate := GuardRate()
	if rate == 0 || align > mem.Align(osmem.PageSize()) || size > guardSpace/16 || rate > 1 && !due(own, counted) || !Ready() {
		return 0
	}
	g := &guard
	g.Lock()
	defer g.Unlock()
	if rate > guardAlways {
		now := time.Since(processStart)
		if now < g.notBefore {
			g.skipped++
			return 0
		}
		g.notBefore = now + guardEvery
	}
	if !within(size.Up(osmem.PageSize()) + guardSlotBytes) {
		limitHit.Add(1)
		g.skipped++
		return 0
	}
	s := guardSlotFor(size)
	if s == nil {
		g.skipped++
		return 0
	}
	page := osmem.PageSize()
	if !s.counted && !reserve(mem.Bytes(s.pages)*page) {
		limitHit.Add(1)
		g.freed = append(g.freed, s)
		g.skipped++
		return 0
	}
	s.counted = true
	if err := osmem.Commit(s.start, mem.Bytes(s.pages)*page); err != nil {
		survive(fmt.Errorf("hakmem: guarded block: %w", err))
		g.freed = append(g.freed, s)
		g.skipped++
		return 0
	}
	// One half of the blocks end at the guard page behind them, as far as their alignment allows;
	// the other half begin at the guard page before them.
	s.p = Block(s.start)
	if align = max(align, 16); rand.Uint32()&1 == 0 {
		s.p = Block((s.end() - mem.Addr(size)) &^ mem.Addr(align-1))
	}
	s.size, s.site, s.live, s.nFree = size, site, true, 0
	s.nAlloc = runtime.Callers(4, s.alloc[:])
	fillCanary(s)
	g.live++
	g.samples++
	g.on.Store(true)
	if site != 0 {
		site.Allocated(size)
	}
	return s.p
}

// guardSlotFor returns a slot with room for size bytes, or nil. Under guard's lock.
func guardSlotFor(size mem.Bytes) *guardSlot {
	check.MustHold(&guard.Mutex, "guardSlotFor")
	g := &guard
	page := osmem.PageSize()
	pages := max(size.Up(page)/page, 1)
	if g.base == 0 {
		n := uintptr(guardSpace)
		if left := osmem.AddressSpaceLeft(); mem.Bytes(n) > left/16 {
			n = uintptr(left / 16 &^ (pageSize - 1))
		}
		base, err := osmem.Reserve(mem.Bytes(n), false)
		if err != nil {
			survive(fmt.Errorf("hakmem: HAKMEM_GUARD: no address space of %d bytes: %w", n, err))
			return nil
		}
		osmem.Name(base, mem.Bytes(n), "hakmem: guarded blocks")
		g.base, g.next, g.end = base, base, base+mem.Addr(n)
	}
	if need := (pages + 1) * page; len(g.slots) < guardSlots && g.end-g.next >= mem.Addr(need+page) {
		if !reserve(guardSlotBytes) {
			limitHit.Add(1)
			return nil
		}
		s := &guardSlot{start: g.next + mem.Addr(page), pages: uintptr(pages)}
		g.next += mem.Addr(need)
		g.slots = append(g.slots, s)
		return s
	}
	for i, s := range g.freed {
		if mem.Bytes(s.pages) == pages {
			g.freed = append(g.freed[:i], g.freed[i+1:]...)
			return s
		}
	}
	return nil
}

// fillCanary fills the part of the slot's pages that the block leaves over; damaged finds where
// that was overwritten.
func fillCanary(s *guardSlot) {
	end := s.end()
	for _, r := range [][2]uintptr{{uintptr(s.start), uintptr(s.p)}, {uintptr(s.p + Block(s.size)), uintptr(end)}} {
		for b := r[0]; b < r[1]; b++ {
			*u8(mem.Addr(b)) = canary
		}
	}
}

func (s *guardSlot) damaged() (at mem.Addr, yes bool) {
	end := s.end()
	for b := s.p + Block(s.size); mem.Addr(b) < end; b++ {
		if *u8(mem.Addr(b)) != canary {
			return mem.Addr(b), true
		}
	}
	for b := s.p; mem.Addr(b) > s.start; b-- {
		if *u8(mem.Addr(b - 1)) != canary {
			return mem.Addr(b - 1), true
		}
	}
	return 0, false
}

// slotAt returns the slot whose pages, or guard pages, hold address a, or nil. Under guard's lock.
func slotAt(a mem.Addr) *guardSlot {
	check.MustHold(&guard.Mutex, "slotAt")
	g := &guard
	if a < g.base || a >= g.next+mem.Addr(osmem.PageSize()) {
		return nil
	}
	// The last slot that begins at or before a. A guard page belongs to the slot before it, or to
	// the slot after it if a is in the page's second half.
	page := osmem.PageSize()
	i := sort.Search(len(g.slots), func(i int) bool { return g.slots[i].start > a })
	if i > 0 {
		s := g.slots[i-1]
		if end := s.end(); a < end+mem.Addr(page/2) || i == len(g.slots) {
			return s
		}
	}
	if i < len(g.slots) {
		return g.slots[i]
	}
	return nil
}

// isGuarded reports whether p may be a guarded block. It costs nothing while there is none.
func isGuarded(p Block) bool {
	g := &guard
	if !g.on.Load() {
		return false
	}
	g.Lock()
	defer g.Unlock()
	return mem.Addr(p) >= g.base && mem.Addr(p) < g.end
}

// guardCheck returns the live slot of the block at p, or what is wrong with p. Under guard's lock.
func guardCheck(p Block) (*guardSlot, Finding) {
	check.MustHold(&guard.Mutex, "guardCheck")
	s := slotAt(mem.Addr(p))
	switch {
	case s == nil:
		return nil, Finding{Kind: NeverAllocated, Addr: mem.Addr(p)}
	case !s.live && p == s.p:
		return nil, s.finding(Freed, mem.Addr(p))
	case !s.live:
		return nil, s.finding(NeverAllocated, mem.Addr(p))
	case p != s.p && p%16 != 0:
		return nil, s.finding(Unaligned, mem.Addr(p))
	case p != s.p:
		return nil, s.finding(Interior, mem.Addr(p))
	}
	if at, yes := s.damaged(); yes {
		bad := s.finding(Overflow, at)
		bad.Addr = mem.Addr(p)
		return nil, bad
	}
	return s, Finding{}
}

// guardFree is Free for an address among guarded blocks.
func guardFree(p Block) Finding {
	g := &guard
	g.Lock()
	defer g.Unlock()
	s, bad := guardCheck(p)
	if s == nil {
		return bad
	}
	s.live = false
	s.nFree = runtime.Callers(4, s.free[:])
	if s.site != 0 {
		s.site.Freed(s.size)
	}
	g.live--
	if err := osmem.Withdraw(s.start, mem.Bytes(s.pages)*osmem.PageSize()); err != nil {
		survive(fmt.Errorf("hakmem: guarded block: %w", err))
	} else {
		uncount(mem.Bytes(s.pages) * osmem.PageSize())
		s.counted = false
	}
	g.freed = append(g.freed, s)
	return Finding{}
}

// guardSize is Size for an address among guarded blocks.
func guardSize(p Block) (size mem.Bytes, site site.ID, bad Finding) {
	g := &guard
	g.Lock()
	defer g.Unlock()
	s, bad := guardCheck(p)
	if s == nil {
		return 0, 0, bad
	}
	return s.size, s.site, Finding{}
}

// GuardTotals returns the number of guarded blocks now live, of those made so far, and of those
// that were due and not made.
func GuardTotals() (live int, samples, skipped uint64) {
	g := &guard
	g.Lock()
	defer g.Unlock()
	return g.live, g.samples, g.skipped
}

// residentGuards returns how many bytes of guarded blocks are resident, or false where that is not
// known.
func residentGuards() (n mem.Bytes, known bool) {
	guard.Lock()
	base, next := guard.base, guard.next
	guard.Unlock()
	if next == base {
		return 0, true
	}
	return residentIn(base, next.From(base))
}

// GuardFinding describes a fault of the processor at address a. Its kind is OK if a is not among
// guarded blocks.
func GuardFinding(a mem.Addr) Finding {
	g := &guard
	g.Lock()
	defer g.Unlock()
	s := slotAt(a)
	switch {
	case s == nil:
		return Finding{}
	case !s.live && a >= mem.Addr(s.p): // below the block, that it was freed is not what is wrong
		f := s.finding(UsedFreed, a)
		f.Offset = mem.Bytes(a - mem.Addr(s.p))
		return f
	}
	return s.finding(Overflow, a)
}

// finding describes what was found at address a of the slot.
func (s *guardSlot) finding(kind Kind, a mem.Addr) Finding {
	f := Finding{Kind: kind, Addr: a, Block: s.p, Class: s.size}
	f.AllocStack = append(f.AllocStack, s.alloc[:s.nAlloc]...)
	f.FreeStack = append(f.FreeStack, s.free[:s.nFree]...)
	if kind == Overflow {
		f.Offset = mem.Bytes(a - mem.Addr(s.p))
		if a < mem.Addr(s.p) {
			f.Kind, f.Offset = Underflow, mem.Bytes(mem.Addr(s.p)-a)
		}
	}
	return f
}
