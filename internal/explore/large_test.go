package explore

import (
	"fmt"
	"testing"
)

// Large blocks (internal/engine/large.go, large_alloc.go, large_cache.go, purge.go). A freed one lies
// in a shared slot. One atomic operation takes it from there or puts it there. The scavenger takes
// blocks that were not wanted, gives their pages to the page tree, and returns free pages to the
// system without a lock. The live state finds a second free.
//
// Two large blocks of one page and one class, two shared slots, three goroutines that each follow a
// script. front_test.go has the model of magazines.

// What a goroutine does: one letter for each operation.
const (
	lMalloc = 'm' // mallocCached, then newLarge; the goroutine writes into the block
	lFree   = 'f' // Free of a block that the goroutine holds, if it holds one: what it wrote must be there
	lStale  = 'F' // Free of block 1, which another goroutine frees: the double free
	lTrim   = 't' // trimCaches
	lDrop   = 'd' // trimIdleLarge: dropShared
	lPurge  = 'p' // purgePages
)

type largeModel struct {
	scripts [3]string
	init    largeWorld

	takePlain  bool // takeShared stores 0 instead of swapping
	trimPlain  bool // trimCaches stores 0 instead of comparing and swapping
	givePlain  bool // giveShared stores instead of comparing and swapping
	inPlace    bool // purge does not take the pages that it returns out of use
	cleanFirst bool // purge notes that the pages are zero before they are
	noCheck    bool // releaseIdle does not check whether the block was given back before
	checkEarly bool // releaseIdle checks without the lock
}

type largeWorld struct {
	slot        [2]uint8 // shared slots: a large block or 0
	live, kind  [3]bool  // pageMeta.live, and whether kind is kindLarge, by large block from 1
	free, dirty uint8    // superMeta, as sets of 1 << large block
	mem         [3]uint8 // what is in a block's memory: 0, or the goroutine that wrote it
	lock        uint8    // region.mu
	found       uint8    // double frees that were found
	p           [3]largeProc
	bad         uint8
	stale       bool // block 1 was freed by a goroutine that does not hold it
}

type largeProc struct {
	op   uint8
	at   uint8
	b    uint8 // the block that it works on
	i    uint8 // the slot that it looks at
	out  uint8 // pages that purge has taken out of use
	held uint8 // large blocks, as a set of 1 << large block
	same bool  // a check that was made too early
}

var largeBad = [...]string{"", "what was written into a large block is gone", "a large block that is said to be zero is not",
	"pages are given back twice", "pages are given back while somebody holds the large block",
	"a large block is handed out whose pages are the page tree's"}

const (
	lBegin = iota
	takeLoad
	takeSwap
	isCached
	setLive
	newLargeTake
	newLargeMeta
	newLargeLive
	freeLook
	freeClear
	giveLoad
	giveSwap
	releaseCheck
	releaseLock
	trimLoad
	trimSwap
	dropSlot
	purgeTake
	purgeNote
	purgeDiscard
	purgeBack
	lEnd
)

var largeSteps = [...]string{"begin", "takeShared: load", "takeShared: swap", "isCached", "setLive", "newLarge: takeRun", "newLarge: kind",
	"newLarge: live", "Free: live state", "Free: clears it", "giveShared: load", "giveShared: swap", "releaseAll: check", "releaseAll",
	"trimCaches: load", "trimCaches: swap", "dropShared: slot", "purge: takes pages out", "purge: notes", "purge: discards", "purge: puts back"}

func (m *largeModel) model() Model[largeWorld] {
	x := Model[largeWorld]{Init: m.init, Always: m.always, AtEnd: m.atEnd}
	for id := range m.scripts {
		x.Procs = append(x.Procs, func(s largeWorld, to func(string, largeWorld)) {
			at := s.p[id].at
			if m.step(&s, id) {
				to(fmt.Sprintf("%d: %s (block %d, slot %d)", id, largeSteps[at], s.p[id].b, s.p[id].i), s)
			}
		})
	}
	return x
}

func (m *largeModel) step(s *largeWorld, id int) bool {
	p := &s.p[id]
	switch p.at {
	case lBegin:
		if int(p.op) == len(m.scripts[id]) {
			return false
		}
		switch m.scripts[id][p.op] {
		case lMalloc:
			p.at = takeLoad
		case lFree:
			if p.at = lEnd; p.held != 0 {
				for p.b = 1; p.held>>p.b&1 == 0; {
					p.b++
				}
				p.at = freeLook
				if s.mem[p.b] != uint8(id)+1 && !s.stale {
					s.bad = 1
				}
			}
		case lStale:
			p.b = 1
			s.stale = true
			p.at = freeLook
		case lTrim:
			p.at = trimLoad
		case lDrop:
			p.at = dropSlot
		case lPurge:
			p.at = purgeTake
		}

	// mallocCached: takeShared, isCached, setLive
	case takeLoad:
		if p.b = s.slot[p.i]; p.b != 0 {
			p.at = takeSwap
		} else if p.i++; int(p.i) == len(s.slot) {
			p.at = newLargeTake
		}
	case takeSwap:
		if !m.takePlain {
			p.b = s.slot[p.i]
		}
		s.slot[p.i] = 0
		if p.at = isCached; p.b == 0 { // another goroutine was first
			p.at = takeLoad
			if p.i++; int(p.i) == len(s.slot) {
				p.at = newLargeTake
			}
		}
	case isCached:
		if p.at = setLive; !s.kind[p.b] || s.live[p.b] {
			s.found++ // dropped; foundLate
			p.at = newLargeTake
		}
	case setLive:
		s.live[p.b] = true
		m.hold(s, p, id)

	// newLarge. Between takeRun and the return the pages belong to the caller alone.
	case newLargeTake:
		if s.lock != 0 {
			return false
		}
		if p.b = 1; s.free&2 == 0 {
			p.b = 2
		}
		if s.free>>p.b&1 == 0 {
			p.b = 0
			p.at = lEnd // nil
			break
		}
		s.free &^= 1 << p.b
		if s.dirty>>p.b&1 == 0 && s.mem[p.b] != 0 {
			s.bad = 2
		}
		s.dirty |= 1 << p.b
		p.at = newLargeLive
	case newLargeLive:
		s.live[p.b] = true
		p.at = newLargeMeta
	case newLargeMeta:
		s.kind[p.b] = true
		m.hold(s, p, id)

	// Free, freeCached
	case freeLook:
		if p.at = freeClear; !s.live[p.b] || !s.kind[p.b] {
			s.found++ // a MisuseError
			if m.scripts[id][p.op] == lFree {
				p.held &^= 1 << p.b
			}
			p.at = lEnd
		}
	case freeClear:
		s.live[p.b] = false
		if m.scripts[id][p.op] == lFree {
			p.held &^= 1 << p.b
		}
		p.i = 0
		p.at = giveLoad
	case giveLoad:
		if s.slot[p.i] == 0 {
			p.at = giveSwap
		} else if p.i++; int(p.i) == len(s.slot) {
			m.release(p)
		}
	case giveSwap:
		if s.slot[p.i] == 0 || m.givePlain {
			s.slot[p.i] = p.b
			p.at = lEnd
		} else if p.at = giveLoad; int(p.i) == len(s.slot)-1 {
			m.release(p)
		} else {
			p.i++
		}

	// releaseAll, under region.mu
	case releaseCheck:
		p.same = s.kind[p.b] && !s.live[p.b]
		p.at = releaseLock
	case releaseLock:
		if s.lock != 0 {
			return false
		}
		m.releaseIdle(s, p)
		if p.at = lEnd; m.scripts[id][p.op] == lTrim {
			m.nextSlot(s, p, trimLoad)
		}

	// trimCaches, with everything in the slots stale
	case trimLoad:
		if p.b = s.slot[p.i]; p.b != 0 {
			p.at = trimSwap
		} else {
			m.nextSlot(s, p, trimLoad)
		}
	case trimSwap:
		if s.slot[p.i] == p.b || m.trimPlain {
			s.slot[p.i] = 0
			m.release(p)
		} else {
			m.nextSlot(s, p, trimLoad)
		}

	// dropShared: it holds region.mu for all slots, but others use the slots as well
	case dropSlot:
		if s.lock != 0 && s.lock != uint8(id)+1 {
			return false
		}
		s.lock = uint8(id) + 1
		if p.b = s.slot[p.i]; p.b != 0 {
			s.slot[p.i] = 0
			m.releaseIdle(s, p)
		}
		if m.nextSlot(s, p, dropSlot); p.at == lEnd {
			s.lock = 0
		}

	// purgePages, purgeBatchPages
	case purgeTake:
		if s.lock != 0 {
			return false
		}
		p.out = s.free & s.dirty
		if !m.inPlace {
			s.free &^= p.out
		}
		p.at = purgeDiscard
		if m.cleanFirst {
			s.dirty &^= p.out
			s.free |= p.out
		}
	case purgeDiscard:
		for b := uint8(1); b <= 2; b++ {
			if p.out>>b&1 != 0 {
				s.mem[b] = 0
			}
		}
		p.at = purgeBack
	case purgeBack:
		if s.lock != 0 {
			return false
		}
		if !m.cleanFirst {
			s.dirty &^= p.out
			if !m.inPlace {
				s.free |= p.out
			}
		}
		p.at = lEnd
	}
	if p.at == lEnd {
		*p = largeProc{op: p.op + 1, held: p.held}
	}
	return true
}

// hold ends a malloc: the program has the block, and writes into it.
func (m *largeModel) hold(s *largeWorld, p *largeProc, id int) {
	if s.free>>p.b&1 != 0 {
		s.bad = 5
	}
	p.held |= 1 << p.b
	s.mem[p.b] = uint8(id) + 1
	p.at = lEnd
}

// release begins releaseAll.
func (m *largeModel) release(p *largeProc) {
	if p.at = releaseLock; m.checkEarly {
		p.at = releaseCheck
	}
}

func (m *largeModel) nextSlot(s *largeWorld, p *largeProc, again uint8) {
	p.b, p.at = 0, again
	if p.i++; int(p.i) == len(s.slot) {
		p.at = lEnd
	}
}

func (m *largeModel) releaseIdle(s *largeWorld, p *largeProc) {
	ok := s.kind[p.b] && !s.live[p.b]
	if m.checkEarly {
		ok = p.same
	}
	if !ok && !m.noCheck {
		s.found++
		return
	}
	if s.free>>p.b&1 != 0 {
		s.bad = 3
	}
	for i := range s.p {
		if s.p[i].held>>p.b&1 != 0 && !s.stale {
			s.bad = 4
		}
	}
	s.kind[p.b] = false
	s.free |= 1 << p.b
}

func (m *largeModel) always(s largeWorld) string {
	if s.bad != 0 {
		return largeBad[s.bad]
	}
	if s.stale {
		return "" // a program that frees twice may meet itself: see atEnd
	}
	used := s.free
	for _, p := range s.p {
		if used&(p.held|p.out) != 0 && !m.inPlace && !m.cleanFirst {
			return "a large block has two holders"
		}
		used |= p.held
	}
	for _, b := range s.slot {
		if b != 0 && used>>b&1 != 0 {
			return "a large block is in a slot and elsewhere"
		}
		if b != 0 {
			used |= 1 << b
		}
	}
	if s.found != 0 {
		return "a double free is reported that nobody did"
	}
	return ""
}

func (m *largeModel) atEnd(s largeWorld) string {
	used, held := s.free, uint8(0)
	for id, p := range s.p {
		if int(p.op) < len(m.scripts[id]) {
			return "a goroutine waits for ever"
		}
		held |= p.held
	}
	used |= held
	for _, b := range s.slot {
		if b != 0 {
			used |= 1 << b
		}
	}
	switch {
	case used != 1<<1|1<<2:
		return "a large block is lost"
	case s.stale && s.found == 0 && s.slot[0] != 1 && s.slot[1] != 1:
		return "both copies of a double free have left, and it is not found"
	case s.stale && s.found > 1:
		return "a double free is found twice"
	}
	return ""
}

var (
	// Block 1 is held by the first goroutine, block 2 by the second.
	bothHeld = largeWorld{live: [3]bool{1: true, 2: true}, kind: [3]bool{1: true, 2: true}, dirty: 6, mem: [3]uint8{1: 1, 2: 2},
		p: [3]largeProc{{held: 2}, {held: 4}}}
	// Block 1 is in a slot; the page of block 2 is free and dirty.
	oneCached = largeWorld{kind: [3]bool{1: true}, slot: [2]uint8{1, 0}, free: 4, dirty: 6, mem: [3]uint8{1: 9, 2: 9}}
	// Block 1 is held by the first goroutine, and the second will free it, too.
	oneHeld = largeWorld{live: [3]bool{1: true}, kind: [3]bool{1: true}, free: 4, dirty: 2, mem: [3]uint8{1: 1}, p: [3]largeProc{{held: 2}}}
)

var largeScenarios = map[string]largeModel{
	"two free, and one trims, drops and purges":     {init: bothHeld, scripts: [3]string{"fmf", "fm", "tdp"}},
	"two want one slot":                             {init: oneCached, scripts: [3]string{"mf", "mfm", "t"}},
	"a slot is taken, trimmed and dropped":          {init: oneCached, scripts: [3]string{"mf", "t", "dp"}},
	"two purge while pages are wanted":              {init: oneCached, scripts: [3]string{"mfm", "tp", "p"}},
	"two free, and two trim":                        {init: bothHeld, scripts: [3]string{"fp", "ftm", "tt"}},
	"a double free, and then all is trimmed":        {init: oneHeld, scripts: [3]string{"ft", "Ft", ""}},
	"a double free while one trims":                 {init: oneHeld, scripts: [3]string{"ft", "Ft", "tp"}},
	"a double free while one drops and purges":      {init: oneHeld, scripts: [3]string{"fd", "Fd", "dp"}},
	"a double free, both copies are handed out":     {init: oneHeld, scripts: [3]string{"fmf", "Fmf", ""}},
	"a double free, and all is trimmed and dropped": {init: oneHeld, scripts: [3]string{"f", "F", "tdt"}},
}

func TestLarge(t *testing.T) {
	var total Result
	for name, m := range largeScenarios {
		t.Run(name, func(t *testing.T) { total.add(check(t, m.model())) })
	}
	t.Log(total)
}

// TestLargeMutations checks that each part of the protocol is needed.
func TestLargeMutations(t *testing.T) {
	allCaught(t, largeScenarios, func(m largeModel) []Model[largeWorld] { return []Model[largeWorld]{m.model()} }, []mutation[largeModel]{
		{"takeShared loads and stores", "that nobody did", func(m *largeModel) { m.takePlain = true }},
		{"trimCaches loads and stores", "that nobody did", func(m *largeModel) { m.trimPlain = true }},
		{"giveShared loads and stores", "a large block is lost", func(m *largeModel) { m.givePlain = true }},
		{"purge leaves the pages in use", "is gone", func(m *largeModel) { m.inPlace = true }},
		{"purge notes that pages are zero before they are", "said to be zero", func(m *largeModel) { m.cleanFirst = true }},
		{"releaseIdle does not look", "given back twice", func(m *largeModel) { m.noCheck = true }},
		{"releaseIdle looks without the lock", "given back twice", func(m *largeModel) { m.checkEarly = true }},
	})
}

// TestLargeLimit shows a case that is never found (docs/security.md, "Frees that overlap"): of two
// frees that overlapped, one copy is handed out at the same time as the other goes to the page
// tree.
func TestLargeLimit(t *testing.T) {
	m := largeModel{init: oneHeld, scripts: [3]string{"f", "Ft", "m"}}
	caught(t, "whose pages are the page tree's", []Model[largeWorld]{m.model()})
}
