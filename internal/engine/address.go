package engine

import (
	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/site"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// This file says what is at an address, whichever address it is. It has no state. It reads what a
// free reads, and guard's and the region's own books under their locks.
//
// The address may be of a page that others use for something else meanwhile. So each value that
// is read is checked before it leads to another address.

// Owns reports whether the byte at a is in the room of a live block, or in a chunk of an open Arena.
// A block without bytes has one byte here. Any goroutine, not entered.
func Owns(a mem.Addr) bool {
	check.MustNotBeEntered("Owns")
	if !region.ready.Load() {
		return false
	}
	if isGuarded(Block(a)) {
		guard.Lock()
		defer guard.Unlock()
		s := slotAt(a)
		return s != nil && s.live && s.has(a)
	}
	return blockAt(a).live
}

// IsForeign reports whether a is an address of which no block is ever made: it lies neither in the region nor
// among guarded blocks. Any goroutine, not entered.
func IsForeign(a mem.Addr) bool {
	check.MustNotBeEntered("IsForeign")
	return !region.ready.Load() || a-region.base >= mem.Addr(region.size) && !isGuarded(Block(a))
}

// room is the block of the region in whose room an address lies.
type room struct {
	p     Block // 0: none is known
	size  mem.Bytes
	class sizeclass.ID // of a slab's block, else 0
	live  bool         // a chunk of an open Arena counts
}

// blockAt returns the block whose room has the byte at a. A large block that is not live is not known.
// Any goroutine.
func blockAt(a mem.Addr) (r room) {
	off := a - region.base
	if off >= mem.Addr(region.committed.Load()) || off < mem.Addr(region.first) {
		return r
	}
	page := pageNo(off >> pageShift)
	if block := ownerOf(page.chunk()); block != 0 {
		page = block
	}
	m := meta(page)
	switch c, start := m.class, m.start; m.kind {
	case kindTiny, kindMid:
		off := mem.Bytes(a - start)
		if c > sizeclass.Num || off >= pageSize<<sizeclass.MaxOrder {
			return r
		}
		k := &sizeclass.Classes[c]
		if i, _ := k.Index(off); i < k.Blocks {
			r = room{p: Block(start.Add(mem.Bytes(i) * c.Bytes())), size: c.Bytes(), class: c}
			r.live = !checkLive || isLive(r.p, c)
		}
	case kindLarge, kindLargeTail:
		if start > a || start < region.base.Add(region.first) {
			return r
		}
		if m := meta(pageAt(start)); m.kind == kindLarge && m.start == start && mem.Bytes(a-start) < m.largeSize && !m.cached() {
			r = room{p: Block(start), size: m.largeSize, live: true}
		}
	}
	return r
}

// site returns the site of the live block, or 0.
func (r room) site() site.ID {
	switch {
	case r.class == 0:
		return knownSite(meta(r.p.page()).site())
	case sitesOn.Load():
		return knownSite(siteOf(r.p, state(slabLive(r.p, r.class))))
	}
	return 0
}

// Place is what is known of an address.
type Place struct {
	// Finding is what is wrong with the address as one of a live block: its kind is OK if Live is set.
	// Block and Class are 0 where no block is known. Block, Class, Offset and the stacks are set for
	// live blocks, too; the stack of the allocation is known of guarded blocks, of samples of the profile,
	// and of all while stacks are recorded.
	Finding
	Live     bool // the address is in a live block, or in a chunk of an open Arena
	Arena    bool // that is a chunk of an Arena, open or closed
	Guarded  bool // that is a guarded block, live or freed, or what lies between such blocks
	Site     site.ID
	Table    bool // the address is in a table of hakmem's own, at the region's beginning
	Reserved bool // it is in the part of the region that is not in use yet
	Returned bool // it is in a free page whose memory has gone back to the system
}

// Look says what is known of the address a. Any goroutine, not entered. While others allocate and free, the
// result may be of some moment of the call.
func Look(a mem.Addr) Place {
	check.MustNotBeEntered("Look")
	p := Place{Finding: Finding{Kind: Foreign, Addr: a}}
	if !region.ready.Load() {
		return p
	}
	if isGuarded(Block(a)) {
		return lookGuarded(a)
	}
	if off := a - region.base; off >= mem.Addr(region.committed.Load()) || off < mem.Addr(region.first) {
		if off < mem.Addr(region.size) {
			p.Kind, p.Table, p.Reserved = NeverAllocated, InLiveMap(a), !InLiveMap(a)
		}
		return p
	}
	if r := blockAt(a); r.live {
		p.Finding = Finding{Addr: a, Block: r.p, Class: r.size, Offset: mem.Bytes(a - r.p.addr())}
		p.Live, p.Site = true, r.site()
		p.Arena = r.class == 0 && meta(r.p.page()).flags&flagArena != 0
		b := []LiveBlock{{Addr: r.p}}
		addRecords(b)
		p.AllocStack = b[0].Stack
		return p
	}
	_, m, _, why := liveByte(Block(a))
	p.Finding = finding(Block(a), m, why)
	p.Arena = p.Kind == WasArena
	switch {
	case p.Block == 0: // the rest of a slab behind its blocks, too
		p.Kind = NeverAllocated
	case blockAt(p.Block.addr()).live: // behind a large block, in its last page
		p.Kind = Overflow
	case !p.Arena: // it matters no more where in the block the address is
		p.Kind = Freed
	}
	if p.Block != 0 {
		p.Offset = mem.Bytes(a - p.Block.addr())
	}
	p.Returned = isReturned(pageAt(a))
	return p
}

// isReturned reports whether a page is free and has no memory.
func isReturned(page pageNo) bool {
	region.mu.Lock()
	defer region.mu.Unlock()
	s, bit := super(page.chunk()), page.inChunk()
	return ownerOf(page.chunk()) == 0 && s.free>>bit&^(s.dirty>>bit)&1 != 0
}

// lookGuarded is Look for an address among guarded blocks.
func lookGuarded(a mem.Addr) Place {
	guard.Lock()
	defer guard.Unlock()
	p := Place{Guarded: true, Finding: Finding{Kind: NeverAllocated, Addr: a}}
	s := slotAt(a)
	if s == nil {
		return p
	}
	p.Finding, p.Site = s.faultAt(a), s.site
	if p.Live = s.live && s.has(a); p.Live {
		p.Kind, p.Offset = OK, mem.Bytes(a-mem.Addr(s.p))
	}
	return p
}
