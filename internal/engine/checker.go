package engine

import (
	"fmt"
	"strings"

	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/site"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// What CheckInvariants gathers on its way: how it notes what it finds, and where each free block
// waits. One goroutine owns a checker; it has no lock.

// maxFindings bounds a report: one broken table breaks thousands of blocks.
const maxFindings = 32

// checker gathers what one check needs to know, and what it finds. It belongs to its goroutine.
type checker struct {
	errs []error
	more int
	wild bool // some slab's class is invalid: later code would use it as an index

	fronts map[Front]string      // the holder of each front that is in a list or table
	heaps  map[Front]*openHeap   // the open Heaps
	leases map[slabID]Front      // the front that leases each slab; 0: a long lane does
	places map[Block]place       // the free blocks that neither a slab nor the page tree has
	held   map[slabID]*slabWords // for each slab, which of its blocks are in places
	lost   map[slabID]bool       // slabs that stay CLAIMED (punchLost)

	slabs, listed [numLists]int
	live          [sizeclass.Num + 1]uint64
	larges        int // all of them, cached ones and chunks of Arenas too
	liveLarge     uint64
	supers        int64
	used, dirty   int // pages
	away          int // chunks
	refused       int // dirty pages that were refused
	counted       mem.Bytes
	sites         map[site.ID]siteLive
}

// slabWords has a bit for each block of a slab.
type slabWords [maxWords]uint64

// place is where a free block waits. class is that of the magazine or the slot, 0 for a huge block.
type place struct {
	noun  string
	at    uintptr // the front's address, or the entry's number
	class sizeclass.ID
}

func (p place) String() string { return fmt.Sprintf("%s %#x", p.noun, p.at) }

type siteLive struct{ bytes, blocks int64 }

// subject is what a finding is about.
type subject struct {
	noun  string
	addr  mem.Addr
	class sizeclass.ID // 0: it has none
	slab  mem.Addr     // address of the slab that the block belongs to, or 0
}

func (s subject) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %#x", s.noun, s.addr)
	if s.class != 0 && s.class <= sizeclass.NumAll {
		fmt.Fprintf(&b, ", class %d of %d bytes", s.class, s.class.Bytes())
	}
	if s.slab != 0 {
		fmt.Fprintf(&b, ", slab %#x", s.slab)
	}
	return b.String()
}

// hex is an address or a mask in a finding.
type hex uint64

func (h hex) String() string { return fmt.Sprintf("%#x", uint64(h)) }

// bad notes that s breaks the rule. Each rule has a name of its own, a constant, and a test that
// breaks it (invariants_test.go).
func (k *checker) bad(s subject, rule string, found, want any) {
	if len(k.errs) >= maxFindings {
		k.more++
		return
	}
	k.errs = append(k.errs, fmt.Errorf("hakmem: broken invariant: %s: %v: found %v, want %v", rule, s, found, want))
}

func newChecker() *checker {
	return &checker{
		fronts: map[Front]string{}, leases: map[slabID]Front{}, places: map[Block]place{},
		held: map[slabID]*slabWords{}, lost: map[slabID]bool{}, sites: map[site.ID]siteLive{},
	}
}

// isPage reports whether a page is a committed page for blocks.
func isPage(page pageNo) bool {
	return page >= region.firstPage() && page < region.endPage()
}

// waits notes that the free block at p waits in a place, and checks that a block of the place's
// class lies there.
func (k *checker) waits(p Block, at place) {
	if other, ok := k.places[p]; ok {
		k.bad(subject{noun: "block", addr: mem.Addr(p), class: at.class}, "a block is in exactly one place", fmt.Sprintf("in %v and %v", other, at), "in one of them")
		return
	}
	k.places[p] = at
	s, j, ok := blockOf(p, at.class)
	if !ok {
		k.bad(subject{noun: at.noun, addr: mem.Addr(at.at), class: at.class}, "what waits is a block of its class", hex(p), "the start of one")
		return
	}
	if s == 0 { // a large block: checkLarge looks into places
		return
	}
	if s.meta().list().isLong() {
		k.bad(subject{"block", mem.Addr(p), at.class, s.addr()}, "no block of the long lane waits", at, "nowhere")
	}
	if k.held[s] == nil {
		k.held[s] = new(slabWords)
	}
	k.held[s][j/64] |= 1 << (j % 64)
}

// blockOf returns the slab of the block of class c at p (0 for a large block) and the block's
// index, or reports that there is no such block.
func blockOf(p Block, c sizeclass.ID) (s slabID, j blockIndex, ok bool) {
	page := p.page()
	if mem.Addr(p) < region.base || !isPage(page) {
		return 0, 0, false
	}
	m := meta(page)
	if c == 0 || c > sizeclass.Num {
		return 0, 0, m.kind == kindLarge && m.start == mem.Addr(p) && m.class == c
	}
	if m.kind != kindTiny && m.kind != kindMid || m.class != c {
		return 0, 0, false
	}
	i, start := sizeclass.Classes[c].Index(mem.Addr(p).From(m.start))
	return slabAt(m.start), blockIndex(i), start && i < sizeclass.Classes[c].Blocks
}

// alive counts a live block of a site (0: none).
func (k *checker) alive(site site.ID, size mem.Bytes) {
	if site != 0 {
		n := k.sites[site]
		n.bytes += int64(size)
		n.blocks++
		k.sites[site] = n
	}
}
