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
	"github.com/hakmem/hakmem/internal/realtime"
	"github.com/hakmem/hakmem/internal/site"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// Guarded blocks. With HAKMEM_GUARD=1/N one in N blocks, drawn at random, lies alone between OS
// pages that fault, in a range of its own outside the region. After the free its own pages fault as
// well. (The idea is that of GWP-ASan and of Electric Fence.) A program that misuses such a block
// faults at the very instruction; the public CatchFaults reports which block it was. The lock of
// guard owns all state of this file.
//
// How allocations are counted: each front has a word that says how many allocations remain until
// the next sample (sample.go). The fast section for this mode subtracts one; at 0 it takes the
// slow path, which samples. Heaps, whose fast paths are part of the program, count the blocks that
// their refills bring.

const (
	// guardSpace is the address space of guarded blocks. Each address is used once until the space
	// is exhausted, so that a stale pointer faults for as long as possible.
	guardSpace = 16 << 30
	// guardSlots bounds the number of guarded blocks, live ones and the freed ones that are
	// remembered. They take up to half of the 65530 mappings that Linux allows a process by default.
	guardSlots = 16 << 10
	// slotMappings is how many mappings a slot takes: its pages, and what faults behind them. After
	// the free the system may join them with their neighbours, or not.
	slotMappings = 2
	// guardUnseen is how many mappings guarded blocks take where the number of mappings is not known:
	// a quarter of Linux's default.
	guardUnseen = 16 << 10
	// guardSpare is how many mappings guarded blocks hold only to give them back when the system has
	// none left: enough for Go's runtime and for the fronts and the growth of hakmem's own.
	guardSpare = 128
	// guardRest bounds what counting the mappings costs: it takes 1 % of the time or less.
	guardRest = 100
	// guardBackOff is how long no block is guarded after the system had no mapping or no memory for
	// one: some goroutine needs it more, and in a second a program may free much.
	guardBackOff = time.Second
	// guardStack is the depth of the stacks that are remembered.
	guardStack = 24
	// guardEvery is the minimum time between two samples. It bounds what sampling costs where a
	// program allocates many millions of blocks a second: some 10 µs for each sample, in a fifth of
	// a percent of the time. It does not apply to a rate of 1/100 or more, which is for finding
	// something at any cost.
	guardEvery  = 5 * time.Millisecond
	guardAlways = 100
	// maxGuarded is the size of the largest guarded block: a few of them leave room for others.
	maxGuarded = guardSpace / 16
	// guardRoom is the share of its size for which a guarded block that grows gets addresses in
	// advance, so that a block that grows in small steps is copied three times its last size in all.
	// The addresses have no memory before the block reaches them, and fault until then.
	guardRoom = 2
	// guardSlotBytes is what a slot takes besides its pages: twice the guardSlot in Go's heap, which
	// lets as much garbage lie (GOGC is 100), and some 600 bytes of the kernel for two mappings.
	guardSlotBytes = 1536
)

// guardSlot is one guarded block, live or freed.
type guardSlot struct {
	start       mem.Addr
	pages       uintptr // its OS pages; one more on each side faults
	used        uintptr // those of them that are committed, from start on; the others fault, too
	p           Block
	size        mem.Bytes
	site        site.ID
	live        bool
	grown       bool      // it was made larger by Realloc, and has room to become larger still
	counted     mem.Bytes // of its pages: what counts as memory
	alloc, free [guardStack]uintptr
	nAlloc      int
	nFree       int
}

// end is where the committed pages of the slot end: what follows faults. limit is where the guard page
// behind all of its pages begins.
func (s *guardSlot) end() mem.Addr   { return s.start.Add(mem.Bytes(s.used) * osmem.PageSize()) }
func (s *guardSlot) limit() mem.Addr { return s.start.Add(mem.Bytes(s.pages) * osmem.PageSize()) }

var guard struct {
	check.Mutex[check.Guard]
	on               atomic.Bool // there are, or were, guarded blocks
	base, next, end  mem.Addr
	slots            []*guardSlot // by address
	freed            []*guardSlot // the oldest first
	live             int
	notBefore        time.Duration // when the next sample may be made, by realtime.Now
	mappings         int           // that more slots may take until the next look
	spare            bool          // the pages before base hold guardSpare mappings
	lookAt           time.Duration // when the next look may be, by realtime.Now
	samples, skipped uint64
}

// guarded returns a guarded block if this allocation of size bytes at a multiple of align is drawn for one
// (draw), else 0. The block has at least the alignment that it would have without its guards.
func guarded(x sample, size mem.Bytes, align mem.Align) Block {
	return guardedGrown(x, size, align, false)
}

// guardedGrown is guarded. grown says that the block has grown and may grow further (guardGrow).
func guardedGrown(x sample, size mem.Bytes, align mem.Align, grown bool) Block {
	rate, site := GuardRate(), x.site
	align = max(align, sizeclass.AlignOf(size))
	if !x.guard || align > sizeclass.PageSize || size > maxGuarded || !Ready() {
		return 0
	}
	g := &guard
	g.Lock()
	defer g.Unlock()
	now := realtime.Now()
	if now < g.notBefore {
		g.skipped++
		return 0
	}
	if rate > guardAlways {
		g.notBefore = now + guardEvery
	}
	room := mem.Bytes(0)
	if grown && rate == 1 { // otherwise its next place is seldom a guarded one
		room = size / guardRoom
	}
	if !within(size.Up(osmem.PageSize()) + guardSlotBytes) {
		limitHit.Add(1)
		g.skipped++
		return 0
	}
	s := guardSlotFor(size+room, align)
	if s == nil {
		g.skipped++
		return 0
	}
	page := osmem.PageSize()
	s.used = uintptr(max(size.Up(page)/page, 1))
	if !s.countUsed() {
		g.freed = append(g.freed, s)
		g.skipped++
		return 0
	}
	if err := osmem.Commit(s.start, mem.Bytes(s.used)*page); err != nil {
		survive(fmt.Errorf("hakmem: guarded block: %w", err))
		g.freed = append(g.freed, s)
		g.skipped++
		g.mappings, g.notBefore = 0, now+guardBackOff
		dropSpare()
		return 0
	}
	// One half of the blocks end at the guard page behind them, as far as their alignment allows;
	// the other half begin at the guard page before them.
	s.p = Block(s.start)
	if end := Block((s.end() - mem.Addr(size)) &^ mem.Addr(align-1)); rand.Uint32()&1 == 0 {
		s.p = end
	}
	s.size, s.site, s.live, s.grown, s.nFree = size, site, true, grown, 0
	s.nAlloc = runtime.Callers(5, s.alloc[:])
	fillCanary(s)
	g.live++
	g.samples++
	g.on.Store(true)
	if site != 0 {
		site.Allocated(size)
	}
	return s.p
}

// guardSlotFor returns a slot with room for size bytes that begins at a multiple of align, or nil.
// Under guard's lock.
func guardSlotFor(size mem.Bytes, align mem.Align) *guardSlot {
	check.MustHold(&guard.Mutex, "guardSlotFor")
	g := &guard
	page := osmem.PageSize()
	pages := max(size.Up(page)/page, 1)
	if g.base == 0 {
		n := uintptr(guardSpace)
		if left := osmem.AddressSpaceLeft(); mem.Bytes(n) > left/16 {
			n = uintptr(left / 16 &^ (pageSize - 1))
		}
		base, err := osmem.Reserve(mem.Bytes(n))
		if err != nil {
			survive(fmt.Errorf("hakmem: HAKMEM_GUARD: no address space of %d bytes: %w", n, err))
			g.notBefore = realtime.Now() + guardBackOff
			return nil
		}
		osmem.Name(base, mem.Bytes(n), "hakmem: guarded blocks")
		g.base, g.end = base.Add(guardSpare*page), base+mem.Addr(n)
		g.next = g.base
	}
	start := (g.next + mem.Addr(page)).Up(max(mem.Bytes(align), page))
	if need := mem.Addr((pages + 1) * page); len(g.slots) < guardSlots && g.end > start && g.end-start >= need && mayMap() {
		if !reserve(guardSlotBytes) {
			limitHit.Add(1)
			return nil
		}
		s := &guardSlot{start: start, pages: uintptr(pages)}
		g.next = s.limit()
		g.slots = append(g.slots, s)
		return s
	}
	for i, s := range g.freed {
		if mem.Bytes(s.pages) == pages && s.start&mem.Addr(align-1) == 0 {
			g.freed = append(g.freed[:i], g.freed[i+1:]...)
			return s
		}
	}
	return nil
}

// mayMap reports whether one more slot may take its mappings, and counts them. A quarter at least of
// the mappings that the process could have without guarded blocks is left to the rest of it: Go's
// runtime ends a process that cannot map more memory. Under guard's lock.
//
// Counting the mappings takes long where there are many, and meanwhile the rest of the process may
// take some. So there is a look as often as guardRest allows, and until the next one guarded blocks
// take only half of what they may.
func mayMap() bool {
	check.MustHold(&guard.Mutex, "mayMap")
	g := &guard
	if now := realtime.Now(); now >= g.lookAt {
		most := guardUnseen
		if left, ok := osmem.MappingsLeft(); ok {
			// Freed slots may have their mappings or not. They may all be used again.
			most = 3 * (left + g.live*slotMappings) / 4
		}
		g.mappings = (most - len(g.slots)*slotMappings + 1) / 2
		g.lookAt = now + guardRest*(realtime.Now()-now)
		if !g.spare && g.mappings > 4*guardSpare {
			makeSpare()
		}
	}
	if g.mappings < slotMappings {
		return false
	}
	g.mappings -= slotMappings
	return true
}

// makeSpare takes the spare mappings: every second page may be used, so each page is a mapping. Nobody
// touches them. Under guard's lock.
func makeSpare() {
	check.MustHold(&guard.Mutex, "makeSpare")
	g, page := &guard, osmem.PageSize()
	g.spare = true
	for i := mem.Bytes(1); i < guardSpare; i += 2 {
		if err := osmem.Commit(g.base-mem.Addr(i*page), page); err != nil {
			survive(fmt.Errorf("hakmem: spare mappings of guarded blocks: %w", err))
			dropSpare()
			return
		}
	}
	g.mappings -= guardSpare
}

// dropSpare gives the spare mappings back. Under guard's lock.
func dropSpare() {
	check.MustHold(&guard.Mutex, "dropSpare")
	if g := &guard; g.spare {
		n := guardSpare * osmem.PageSize()
		g.spare = false
		withdraw(g.base-mem.Addr(n), n)
	}
}

// withdraw makes pages of the range of guarded blocks fault, and reports whether their memory went
// back. Under guard's lock.
func withdraw(a mem.Addr, n mem.Bytes) bool {
	err := osmem.Withdraw(a, n)
	if err != nil {
		survive(fmt.Errorf("hakmem: guarded block: %w", err))
	}
	return err == nil
}

// countUsed counts the pages that the slot uses as memory, and reports whether the hard limit has room
// for them. Under guard's lock.
func (s *guardSlot) countUsed() bool {
	check.MustHold(&guard.Mutex, "countUsed")
	n := mem.Bytes(s.used) * osmem.PageSize()
	if n > s.counted { // some may count still, because the system did not take them back
		if !reserve(n - s.counted) {
			limitHit.Add(1)
			return false
		}
		s.counted = n
	}
	return true
}

// fillCanary fills the part of the slot's pages that the block leaves over; damaged finds where
// that was overwritten.
func fillCanary(s *guardSlot) {
	fillGuard(s.start, mem.Addr(s.p))
	fillGuard(mem.Addr(s.p+Block(s.size)), s.end())
}

// fillGuard writes the canary into the bytes from one address to the one before end.
func fillGuard(from, end mem.Addr) {
	for b := from; b < end; b++ {
		*u8(b) = canary
	}
}

// guardGrow makes the guarded live block at p larger without moving it, and reports whether it could.
// It can if the block has grown before, within the slot's pages. Those that it does not reach keep
// faulting. (The first time a block moves, so that pointers to its old place are found.)
func guardGrow(p Block, size mem.Bytes) bool {
	g := &guard
	g.Lock()
	defer g.Unlock()
	s, _ := guardCheck(p)
	if s == nil || !s.grown || size <= s.size || size > mem.Bytes(s.limit()-mem.Addr(p)) || mem.Align(p)&(sizeclass.AlignOf(size)-1) != 0 {
		return false
	}
	if end := mem.Addr(p + Block(size)); end > s.end() {
		was, page := s.end(), osmem.PageSize()
		more := mem.Bytes(end - was).Up(page)
		s.used += uintptr(more / page)
		if !s.countUsed() {
			s.used -= uintptr(more / page)
			return false // then the block moves
		}
		if err := osmem.Commit(was, more); err != nil {
			survive(fmt.Errorf("hakmem: guarded block: %w", err))
			s.used -= uintptr(more / page)
			return false // here, too
		}
		fillGuard(end, s.end())
	}
	if s.site != 0 {
		s.site.Resized(int64(size) - int64(s.size))
	}
	s.size = size
	return true
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
		if end := s.limit(); a < end+mem.Addr(page/2) || i == len(g.slots) {
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
	endDrawn(p)
	s.nFree = runtime.Callers(4, s.free[:])
	if s.site != 0 {
		s.site.Freed(s.size)
	}
	g.live--
	if withdraw(s.start, mem.Bytes(s.used)*osmem.PageSize()) {
		uncount(s.counted)
		s.counted = 0
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

// GuardFinding describes a fault of the processor at address a. Its kind is OK if a is not among
// guarded blocks.
func GuardFinding(a mem.Addr) Finding {
	g := &guard
	g.Lock()
	defer g.Unlock()
	s := slotAt(a)
	if s == nil {
		return Finding{}
	}
	return s.faultAt(a)
}

// faultAt describes an access to address a of the slot, which is no access to its live block.
func (s *guardSlot) faultAt(a mem.Addr) Finding {
	if !s.live && a >= mem.Addr(s.p) { // below the block, that it was freed is not what is wrong
		f := s.finding(UsedFreed, a)
		f.Offset = mem.Bytes(a - mem.Addr(s.p))
		return f
	}
	return s.finding(Overflow, a)
}

// has reports whether the byte at address a is the block's. A block without bytes has one here.
func (s *guardSlot) has(a mem.Addr) bool {
	return a >= mem.Addr(s.p) && mem.Bytes(a-mem.Addr(s.p)) < max(s.size, 1)
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
