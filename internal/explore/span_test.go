package explore

import (
	"fmt"
	"testing"
)

// Large blocks, called large blocks in the code (internal/engine/large block.go, spancache.go, purge.go). A freed
// one lies in a shared slot that is taken and given by one atomic operation. The scavenger takes
// blocks that were not wanted, gives their pages to the page tree, and returns free pages to the
// system without a lock. The live state finds a second free.
//
// Two large blocks of one page and one class, two shared slots, three goroutines that each follow a
// script. front_test.go has the model of magazines.

// What a goroutine does: one letter for each operation.
const (
	spMalloc = 'm' // mallocWarm, then newSpan; the goroutine writes into the block
	spFree   = 'f' // Free of a block that the goroutine holds, if it holds one: what it wrote must be there
	spStale  = 'F' // Free of block 1, which another goroutine frees: the double free
	spTrim   = 't' // trimCaches
	spDrop   = 'd' // trimIdleSpans: dropShared
	spPurge  = 'p' // purgePages
)

type spanModel struct {
	scripts [3]string
	init    spanWorld

	takePlain  bool // takeShared stores 0 instead of swapping
	trimPlain  bool // trimCaches stores 0 instead of comparing and swapping
	givePlain  bool // giveShared stores instead of comparing and swapping
	inPlace    bool // purge does not take the pages that it returns out of use
	cleanFirst bool // purge notes that the pages are zero before they are
	noCheck    bool // releaseIdle does not check whether the block was given back before
	checkEarly bool // releaseIdle checks without the lock
}

type spanWorld struct {
	slot        [2]uint8 // shared slots: a large block or 0
	live, kind  [3]bool  // pageMeta.live, and whether kind is kindSpan, by large block from 1
	free, dirty uint8    // superMeta, as sets of 1 << large block
	mem         [3]uint8 // what is in a block's memory: 0, or the goroutine that wrote it
	lock        uint8    // region.mu
	found       uint8    // double frees that were found
	p           [3]spanProc
	bad         uint8
	stale       bool // block 1 was freed by a goroutine that does not hold it
}

type spanProc struct {
	op   uint8
	at   uint8
	b    uint8 // the block that it works on
	i    uint8 // the slot that it looks at
	out  uint8 // pages that purge has taken out of use
	held uint8 // large blocks, as a set of 1 << large block
	same bool  // a check that was made too early
}

var spanBad = [...]string{"", "what was written into a span is gone", "a span that is said to be zero is not",
	"pages are given back twice", "pages are given back while somebody holds the span",
	"a span is handed out whose pages are the page tree's"}

const (
	spBegin = iota
	takeLoad
	takeSwap
	isCached
	setLive
	newSpanTake
	newSpanMeta
	newSpanLive
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
	spEnd
)

var spanSteps = [...]string{"begin", "takeShared: load", "takeShared: swap", "isCached", "setLive", "newSpan: takeRun", "newSpan: kind",
	"newSpan: live", "Free: live state", "Free: clears it", "giveShared: load", "giveShared: swap", "releaseSpans: check", "releaseSpans",
	"trimCaches: load", "trimCaches: swap", "dropShared: slot", "purge: takes pages out", "purge: notes", "purge: discards", "purge: puts back"}

func (m *spanModel) model() Model[spanWorld] {
	x := Model[spanWorld]{Init: m.init, Always: m.always, AtEnd: m.atEnd}
	for id := range m.scripts {
		x.Procs = append(x.Procs, func(s spanWorld, to func(string, spanWorld)) {
			at := s.p[id].at
			if m.step(&s, id) {
				to(fmt.Sprintf("%d: %s (span %d, slot %d)", id, spanSteps[at], s.p[id].b, s.p[id].i), s)
			}
		})
	}
	return x
}

func (m *spanModel) step(s *spanWorld, id int) bool {
	p := &s.p[id]
	switch p.at {
	case spBegin:
		if int(p.op) == len(m.scripts[id]) {
			return false
		}
		switch m.scripts[id][p.op] {
		case spMalloc:
			p.at = takeLoad
		case spFree:
			if p.at = spEnd; p.held != 0 {
				for p.b = 1; p.held>>p.b&1 == 0; {
					p.b++
				}
				p.at = freeLook
				if s.mem[p.b] != uint8(id)+1 && !s.stale {
					s.bad = 1
				}
			}
		case spStale:
			p.b = 1
			s.stale = true
			p.at = freeLook
		case spTrim:
			p.at = trimLoad
		case spDrop:
			p.at = dropSlot
		case spPurge:
			p.at = purgeTake
		}

	// mallocWarm: takeShared, isCached, setLive
	case takeLoad:
		if p.b = s.slot[p.i]; p.b != 0 {
			p.at = takeSwap
		} else if p.i++; int(p.i) == len(s.slot) {
			p.at = newSpanTake
		}
	case takeSwap:
		if !m.takePlain {
			p.b = s.slot[p.i]
		}
		s.slot[p.i] = 0
		if p.at = isCached; p.b == 0 { // another goroutine was first
			p.at = takeLoad
			if p.i++; int(p.i) == len(s.slot) {
				p.at = newSpanTake
			}
		}
	case isCached:
		if p.at = setLive; !s.kind[p.b] || s.live[p.b] {
			s.found++ // dropped; postponeLate
			p.at = newSpanTake
		}
	case setLive:
		s.live[p.b] = true
		m.hold(s, p, id)

	// newSpan. Between takeRun and the return the pages belong to the caller alone.
	case newSpanTake:
		if s.lock != 0 {
			return false
		}
		if p.b = 1; s.free&2 == 0 {
			p.b = 2
		}
		if s.free>>p.b&1 == 0 {
			p.b = 0
			p.at = spEnd // nil
			break
		}
		s.free &^= 1 << p.b
		if s.dirty>>p.b&1 == 0 && s.mem[p.b] != 0 {
			s.bad = 2
		}
		s.dirty |= 1 << p.b
		p.at = newSpanLive
	case newSpanLive:
		s.live[p.b] = true
		p.at = newSpanMeta
	case newSpanMeta:
		s.kind[p.b] = true
		m.hold(s, p, id)

	// Free, freeWarm
	case freeLook:
		if p.at = freeClear; !s.live[p.b] || !s.kind[p.b] {
			s.found++ // a MisuseError
			if m.scripts[id][p.op] == spFree {
				p.held &^= 1 << p.b
			}
			p.at = spEnd
		}
	case freeClear:
		s.live[p.b] = false
		if m.scripts[id][p.op] == spFree {
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
			p.at = spEnd
		} else if p.at = giveLoad; int(p.i) == len(s.slot)-1 {
			m.release(p)
		} else {
			p.i++
		}

	// releaseSpans, under region.mu
	case releaseCheck:
		p.same = s.kind[p.b] && !s.live[p.b]
		p.at = releaseLock
	case releaseLock:
		if s.lock != 0 {
			return false
		}
		m.releaseIdle(s, p)
		if p.at = spEnd; m.scripts[id][p.op] == spTrim {
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
		if m.nextSlot(s, p, dropSlot); p.at == spEnd {
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
		p.at = spEnd
	}
	if p.at == spEnd {
		*p = spanProc{op: p.op + 1, held: p.held}
	}
	return true
}

// hold ends a malloc: the program has the block, and writes into it.
func (m *spanModel) hold(s *spanWorld, p *spanProc, id int) {
	if s.free>>p.b&1 != 0 {
		s.bad = 5
	}
	p.held |= 1 << p.b
	s.mem[p.b] = uint8(id) + 1
	p.at = spEnd
}

// release begins releaseSpans.
func (m *spanModel) release(p *spanProc) {
	if p.at = releaseLock; m.checkEarly {
		p.at = releaseCheck
	}
}

func (m *spanModel) nextSlot(s *spanWorld, p *spanProc, again uint8) {
	p.b, p.at = 0, again
	if p.i++; int(p.i) == len(s.slot) {
		p.at = spEnd
	}
}

func (m *spanModel) releaseIdle(s *spanWorld, p *spanProc) {
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

func (m *spanModel) always(s spanWorld) string {
	if s.bad != 0 {
		return spanBad[s.bad]
	}
	if s.stale {
		return "" // a program that frees twice may meet itself: see atEnd
	}
	used := s.free
	for _, p := range s.p {
		if used&(p.held|p.out) != 0 && !m.inPlace && !m.cleanFirst {
			return "a span has two holders"
		}
		used |= p.held
	}
	for _, b := range s.slot {
		if b != 0 && used>>b&1 != 0 {
			return "a span is in a slot and elsewhere"
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

func (m *spanModel) atEnd(s spanWorld) string {
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
		return "a span is lost"
	case s.stale && s.found == 0 && s.slot[0] != 1 && s.slot[1] != 1:
		return "both copies of a double free have left, and it is not found"
	case s.stale && s.found > 1:
		return "a double free is found twice"
	}
	return ""
}

var (
	// Block 1 is held by the first goroutine, block 2 by the second.
	bothHeld = spanWorld{live: [3]bool{1: true, 2: true}, kind: [3]bool{1: true, 2: true}, dirty: 6, mem: [3]uint8{1: 1, 2: 2},
		p: [3]spanProc{{held: 2}, {held: 4}}}
	// Block 1 is in a slot; the page of block 2 is free and dirty.
	oneCached = spanWorld{kind: [3]bool{1: true}, slot: [2]uint8{1, 0}, free: 4, dirty: 6, mem: [3]uint8{1: 9, 2: 9}}
	// Block 1 is held by the first goroutine, and the second will free it, too.
	oneHeld = spanWorld{live: [3]bool{1: true}, kind: [3]bool{1: true}, free: 4, dirty: 2, mem: [3]uint8{1: 1}, p: [3]spanProc{{held: 2}}}
)

var spanScenarios = map[string]spanModel{
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

func TestSpan(t *testing.T) {
	var total Result
	for name, m := range spanScenarios {
		t.Run(name, func(t *testing.T) { total.add(check(t, m.model())) })
	}
	t.Log(total)
}

// TestSpanMutations checks that each part of the protocol is needed.
func TestSpanMutations(t *testing.T) {
	for _, x := range []struct {
		name, want string
		mutate     func(*spanModel)
	}{
		{"takeShared loads and stores", "that nobody did", func(m *spanModel) { m.takePlain = true }},
		{"trimCaches loads and stores", "that nobody did", func(m *spanModel) { m.trimPlain = true }},
		{"giveShared loads and stores", "a span is lost", func(m *spanModel) { m.givePlain = true }},
		{"purge leaves the pages in use", "is gone", func(m *spanModel) { m.inPlace = true }},
		{"purge notes that pages are zero before they are", "said to be zero", func(m *spanModel) { m.cleanFirst = true }},
		{"releaseIdle does not look", "given back twice", func(m *spanModel) { m.noCheck = true }},
		{"releaseIdle looks without the lock", "given back twice", func(m *spanModel) { m.checkEarly = true }},
	} {
		t.Run(x.name, func(t *testing.T) {
			var models []Model[spanWorld]
			for _, m := range byName(spanScenarios) {
				x.mutate(&m)
				models = append(models, m.model())
			}
			caught(t, x.want, models)
		})
	}
}

// TestSpanLimit shows a case that is never found (docs/security.md, "Frees that overlap"): of two
// frees that overlapped, one copy is handed out at the same time as the other goes to the page
// tree.
func TestSpanLimit(t *testing.T) {
	m := spanModel{init: oneHeld, scripts: [3]string{"f", "Ft", "m"}}
	caught(t, "whose pages are the page tree's", []Model[spanWorld]{m.model()})
}
