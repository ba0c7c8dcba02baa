package engine

import (
	"time"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/site"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// The walk over all live blocks. A walk has no state of its own except for where it goes on, which
// its caller keeps; it takes scavenger.mu, guard's lock and the locks of records and of the profile, one at a time.

// LiveBlock is a live block as a walk finds it.
type LiveBlock struct {
	Addr  Block
	Size  mem.Bytes // Size is that of the block's class; a guarded block's is exact
	Site  site.ID
	Arena bool // a chunk of an Arena
	// Stack and Seq are what is recorded of the block's allocation (record.go), nil and 0 when
	// nothing is recorded. A sample of the profile has a Stack in any case. Stack is shared and must not be
	// changed.
	Stack []uintptr
	Seq   uint64
	// Sample says that the block is a sample of the profile, and Age how long ago it was allocated; 0 for others.
	Sample bool
	Age    time.Duration

	page  pageNo
	class sizeclass.ID // 0: a large block, or guarded
	slot  *guardSlot   // of a guarded block
}

// walkPages bounds how long a walk holds a lock where nothing is alive: that many pages take some
// 20 µs.
const walkPages = 1024

// WalkAt is where a walk over the live blocks continues: a page of the region or, from MaxPages on,
// a slot of guarded blocks.
type WalkAt uintptr

// LiveFrom appends some live blocks to blocks, always those of whole slabs and large blocks. They
// are those of the first pages of the region from at on that have any, and after the region some
// guarded ones. It returns where to continue, and false at the end. Start with 0. Any goroutine,
// not entered; no lock is held when it returns.
//
// While others allocate and free, it sees each block as it is at some moment. It reads bytes and
// words that do not tear, and checks each value before it uses it as an address or an index.
func LiveFrom(at WalkAt, blocks []LiveBlock) (_ []LiveBlock, next WalkAt, more bool) {
	check.MustNotBeEntered("LiveFrom")
	if !region.ready.Load() || !checkLive {
		return blocks, at, false
	}
	if at >= MaxPages {
		blocks, more = liveGuarded(int(at-MaxPages), blocks)
		next = at + walkPages
	} else {
		var page pageNo
		blocks, page = liveInRegion(max(pageNo(at), region.firstPage()), blocks)
		if next, more = WalkAt(page), page < MaxPages; !more {
			more = guard.on.Load()
		}
	}
	addRecords(blocks)
	return blocks, next, more
}

// liveInRegion is LiveFrom for the region. It returns MaxPages at the region's end.
func liveInRegion(page pageNo, blocks []LiveBlock) (_ []LiveBlock, next pageNo) {
	// Where returning memory takes two steps, the live map cannot be read between them. Whoever
	// returns memory holds this lock. If it hangs, the walk ends; Err reports that.
	if !scavenger.lock() {
		return blocks, MaxPages
	}
	defer scavenger.unlock()
	end := region.endPage()
	for n := 0; page < end && len(blocks) == 0 && n < walkPages; n++ {
		if c := page.chunk(); ownerOf(c) != 0 { // inside a huge block
			page = (c + 1).page()
			continue
		}
		blocks = liveInPage(page, blocks)
		page++
	}
	if page >= end {
		page = MaxPages
	}
	return blocks, page
}

// liveGuarded appends the live blocks among walkPages slots of guarded blocks, and reports whether
// there are further slots.
func liveGuarded(from int, blocks []LiveBlock) (_ []LiveBlock, more bool) {
	g := &guard
	g.Lock()
	defer g.Unlock()
	n := len(g.slots)
	for _, s := range g.slots[min(from, n):min(from+walkPages, n)] {
		if s.live {
			b := LiveBlock{Addr: s.p, Size: s.size, Site: s.site, slot: s}
			b.Stack = outside(append([]uintptr(nil), s.alloc[:s.nAlloc]...))
			blocks = append(blocks, b)
		}
	}
	return blocks, from+walkPages < n
}

// liveInPage appends the live blocks of the slab or large block that begins at page. Under
// scavenger.mu.
func liveInPage(page pageNo, blocks []LiveBlock) []LiveBlock {
	check.MustHold(&scavenger.mu, "liveInPage")
	m := meta(page)
	l := m.list()
	if l == 0 {
		if b := (LiveBlock{Addr: Block(page.addr()), page: page}); b.isLarge() {
			b.Size, b.Arena = m.largeSize, m.flags&flagArena != 0
			b.Site = knownSite(m.site())
			blocks = append(blocks, b)
		}
		return blocks
	}
	c := l.class()
	k := &sizeclass.Classes[c]
	from := len(blocks)
	for i := range uintptr(k.Blocks) {
		b := LiveBlock{Addr: slabID(page+1).block(c, blockIndex(i)), Size: c.Bytes(), page: page, class: c}
		if v := b.value(); v == liveState(c) || v == liveWatched {
			blocks = append(blocks, b)
		} else if v == liveSited {
			if sitesOn.Load() {
				b.Site = knownSite(site.ID(*siteWord(b.Addr)))
			}
			blocks = append(blocks, b)
		}
	}
	if m.list() != l { // given back meanwhile: then none of its blocks was alive
		return blocks[:from]
	}
	return blocks
}

// value returns the live byte of a slab's block.
func (b *LiveBlock) value() liveState { return state(slabLive(b.Addr, b.class)) }

// isLarge reports whether a live large block begins at b.Addr.
func (b *LiveBlock) isLarge() bool {
	m := meta(b.page)
	return m.kind == kindLarge && m.start == mem.Addr(b.Addr) && (m.live != 0 || m.flags&flagArena != 0)
}

// StillLive reports whether a block that LiveFrom found is alive now, or another block of the same
// class at its address. Any goroutine, not entered.
func (b *LiveBlock) StillLive() bool {
	check.MustNotBeEntered("StillLive")
	switch {
	case b.slot != nil:
		guard.Lock()
		defer guard.Unlock()
		return b.slot.live && b.slot.p == b.Addr
	case b.class == 0:
		return b.isLarge()
	}
	if !scavenger.lock() {
		return true // it was alive when the walk found it
	}
	defer scavenger.unlock()
	return meta(b.page).list().class() == b.class && b.value() != 0
}

// knownSite returns s if there is such a site, else 0: a block's site is written after the block is
// marked as live.
func knownSite(s site.ID) site.ID {
	if !s.Known() {
		return 0
	}
	return s
}

// addRecords adds the stacks that are recorded, and what the profile knows, to blocks that a walk found.
func addRecords(blocks []LiveBlock) {
	if len(blocks) == 0 {
		return
	}
	if Watching(WatchStacks) {
		addStacks(blocks)
	}
	if profiling() {
		addSamples(blocks)
	}
}

// addStacks adds the stacks that are recorded.
func addStacks(blocks []LiveBlock) {
	r := &records
	r.Lock()
	defer r.Unlock()
	for i := range blocks {
		if x, ok := r.blocks[blocks[i].Addr]; ok {
			blocks[i].Stack, blocks[i].Seq = x.stack, x.seq
		}
	}
}

// addSamples notes which of the blocks that a walk found are samples, and what is known of these. Not entered.
func addSamples(blocks []LiveBlock) {
	check.MustNotBeEntered("addSamples")
	d := &profiled
	d.Lock()
	defer d.Unlock()
	now := elapsed()
	for i := range blocks {
		b := &blocks[i]
		x, yes := d.blocks[b.Addr]
		if !yes {
			continue
		}
		b.Sample, b.Age = true, max(now-x.since, 0)
		if b.Stack == nil {
			b.Stack = x.bucket.Stack()
		}
	}
}
