package explore

import (
	"fmt"
	"testing"
)

// The slab (internal/engine/slab.go, magazine.go, superslab.go). Bits stand for ownership, the carve
// right (the right to clear them) is handed on, and an EMPTY slab changes its class.
//
// One slab on one page, two blocks, two classes of the same geometry, and three goroutines that
// each follow a script. Magazines do not matter here: a block that was carved belongs to the
// goroutine until it sets the bit again. The steps are those of the code, one for each access to a
// word that others see; while a lock is held, one for each store that is read without the lock.

// What a goroutine does: one letter for each operation.
const (
	doMallocA = 'A' // mallocClass: carve, or retire and acquire, or nil
	doMallocB = 'B'
	doFree    = 'f' // giveBack of the lowest block that the goroutine holds, if it holds one
	doSweep   = 's' // sweepIdle, stealFrom: claimEmpty if emptyMask has the slab
	doPunch   = 'p' // punchSlabs: claim a listed slab, and give it back
)

// Slab states, as in slab.go.
const (
	none = iota
	leased
	full
	partial
	claimed
)

// slabModel is a scenario. Mutations are the ways to break the protocol.
type slabModel struct {
	wordOf  [2]uint8 // the word of the bitmap that each block's bit is in
	scripts [3]string
	init    slabWorld

	orPlain      bool // giveBack: a load and a store instead of the or
	andPlain     bool // carve: a store of what was read instead of the and
	lookFirst    bool // giveBack: looks at the state before the or
	scanFirst    bool // retire: looks at the words before it stores FULL
	trustClass   bool // enlist: does not read the class again under the lock
	checkFirst   bool // claimEmpty: looks at the words before it is the claimer
	noSecondLook bool // enlist: takes a stale hint away and does not look again
	blindUnmark  bool // claimEmpty: takes the hint of a page without a slab away and does not look again
}

type slabWorld struct {
	word   [2]uint8 // the bitmap: bit b is block b
	state  uint8    // pageMeta.slabState
	class  uint8    // pageMeta.slabList
	listed [3]bool  // the partial set of each class
	hint   bool     // superMeta.emptyMask has the slab
	free   bool     // the page belongs to the superslab, not to a slab
	lock   [3]uint8 // listState.mu: 1 + the goroutine that has it
	p      [3]slabProc
	bad    uint8 // what a step found broken: an index of slabBad
}

var slabBad = [...]string{"", "a block's bit is set twice", "the slab is taken apart while a block is held",
	"a block is given back to a slab of another class"}

// slabProc is a goroutine.
type slabProc struct {
	op    uint8 // index in its script
	at    uint8 // where in the code it is
	then  uint8 // where to go on after retire, enlist or claimEmpty
	c     uint8 // class that it works on
	e     uint8 // class that enlist or claimEmpty has read
	i, v  uint8 // a word's index, and what was read of the word
	all   bool  // a look at all words found them full so far
	saw   bool  // giveBack saw FULL
	lease uint8 // class of the slab that its front leases, or 0
	right bool  // it may carve. Not a variable of the code: it has the lease, or the slab is CLAIMED by it
	held  uint8 // blocks that it holds
	of    uint8 // their class
}

// Places in the code. The order is that of the functions below.
const (
	begin = iota
	carveLoad
	carveAnd
	retireFull
	retireScan
	enlistClass
	enlistLock
	enlistState
	enlistScan
	enlistUnmark
	enlistAgain
	enlistMark
	listedLock
	listedState
	listedUnmark
	takePage
	takeStolen
	formatWord
	formatState
	formatClass
	freeOr
	freeStore
	freeState
	freeScan
	freeMark
	claimClass
	claimUnmarkNone
	claimLookNone
	claimMarkNone
	claimLock
	claimCheck
	claimUnlist
	claimUnmark
	claimScan
	unformatLock
	unformatWord
	unformatState
	unformatClass
	giveBackPages
	punchLock
	punchUnmark
	punchNow
	end
)

var slabSteps = [...]string{"begin", "carve: load", "carve: and", "retire: FULL", "retire: scan", "enlist: class", "enlist: lock",
	"enlist: PARTIAL", "enlist: allFree", "enlist: unmarkEmpty", "enlist: allFree again", "enlist: markEmpty", "acquireListed: lock",
	"unlist: LEASED", "unlist: unmarkEmpty", "takePages", "takePages after stealEmpty", "format: word", "format: LEASED", "format: class",
	"giveBack: or", "giveBack: store", "giveBack: state", "giveBack: allFree", "giveBack: markEmpty", "claimEmpty: class",
	"claimEmpty: unmarkEmpty, no slab", "claimEmpty: class again", "claimEmpty: markEmpty", "claimEmpty: lock", "claimEmpty: check", "unlist: CLAIMED",
	"unlist: unmarkEmpty", "claimEmpty: allFree", "unformat: lock", "unformat: word", "unformat: none", "unformat: no class", "giveBackPages",
	"punchSlabs: CLAIMED", "unlist: unmarkEmpty", "punchNow"}

func (m *slabModel) model() Model[slabWorld] {
	x := Model[slabWorld]{Init: m.init, Always: m.always, AtEnd: m.atEnd}
	for id := range m.scripts {
		x.Procs = append(x.Procs, func(s slabWorld, to func(string, slabWorld)) {
			at := s.p[id].at
			if m.step(&s, id) {
				to(fmt.Sprintf("%d: %s %d", id, slabSteps[at], s.p[id].i), s)
			}
		})
	}
	return x
}

// fullWord is a word of the bitmap with all bits set.
func (m *slabModel) fullWord(i uint8) (w uint8) {
	for b, at := range m.wordOf {
		if at == i {
			w |= 1 << b
		}
	}
	return w
}

// words is the number of words.
func (m *slabModel) words() uint8 { return max(m.wordOf[0], m.wordOf[1]) + 1 }

// scan is a step of allFree; it reports whether allFree has ended.
func (m *slabModel) scan(s *slabWorld, p *slabProc) bool {
	p.all = s.word[p.i] == m.fullWord(p.i)
	p.i++
	return !p.all || p.i == m.words()
}

// lock takes the lock of class c, if it is free.
func (s *slabWorld) take(c uint8, id int) bool {
	if s.lock[c] != 0 {
		return false
	}
	s.lock[c] = uint8(id) + 1
	return true
}

// begins starts a look at the words, or a piece of code, at a place.
func (p *slabProc) begins(at uint8) { p.at, p.i, p.all = at, 0, false }

// retire and claim begin the functions of these names; then says where to go on afterwards.
func (m *slabModel) retire(p *slabProc, then uint8) {
	p.then = then
	if m.scanFirst {
		p.begins(retireScan)
		return
	}
	p.begins(retireFull)
}

func (p *slabProc) claim(then uint8) {
	p.then = then
	p.begins(claimClass)
}

// step does the next step of goroutine id in s, or reports that there is none.
func (m *slabModel) step(s *slabWorld, id int) bool {
	p := &s.p[id]
	switch p.at {
	case begin:
		if int(p.op) == len(m.scripts[id]) {
			return false
		}
		switch m.scripts[id][p.op] {
		case doMallocA, doMallocB:
			p.c = m.scripts[id][p.op] - doMallocA + 1
			if p.begins(listedLock); p.lease == p.c {
				p.begins(carveLoad)
			}
		case doFree:
			if p.begins(end); p.held != 0 {
				p.begins(freeOr)
				if m.lookFirst {
					p.begins(freeState)
				}
			}
		case doSweep:
			if p.begins(end); s.hint {
				p.claim(end)
			}
		case doPunch:
			p.c = 1
			p.begins(punchLock)
		}

	// carve
	case carveLoad:
		if p.v = s.word[p.i]; p.v != 0 {
			p.at = carveAnd
		} else if p.i++; p.i == m.words() { // mallocClass: retire, then acquire
			p.lease = 0
			m.retire(p, listedLock)
		}
	case carveAnd:
		b := p.v & -p.v
		if s.word[p.i] &^= b; m.andPlain {
			s.word[p.i] = p.v &^ b
		}
		p.held |= b
		p.of = p.c
		p.begins(end)

	// retire
	case retireFull:
		if s.lock[s.class] != 0 {
			return false
		}
		s.state = full
		p.right = false
		if p.begins(retireScan); m.scanFirst {
			p.begins(p.then)
		}
	case retireScan:
		if s.word[p.i] != 0 {
			if p.begins(enlistClass); m.scanFirst {
				// The holder has seen a free block: it makes the slab FULL and lists it.
				s.state = full
				p.right = false
			}
		} else if p.i++; p.i == m.words() {
			if p.begins(p.then); m.scanFirst {
				p.begins(retireFull)
			}
		}

	// enlist
	case enlistClass:
		if p.e = s.class; p.e == 0 {
			p.begins(p.then)
		} else {
			p.at = enlistLock
		}
	case enlistLock:
		if !s.take(p.e, id) {
			return false
		}
		switch {
		case s.class != p.e && !m.trustClass:
			s.lock[p.e] = 0
			p.at = enlistClass
		case s.state != full:
			s.lock[p.e] = 0
			p.begins(p.then)
		default:
			p.at = enlistState
		}
	case enlistState: // and setAdd, which only lock holders see
		s.state = partial
		s.listed[p.e] = true
		p.begins(enlistScan)
	case enlistScan:
		if m.scan(s, p) {
			if p.at = enlistUnmark; p.all {
				p.at = enlistMark
			}
		}
	case enlistUnmark:
		s.hint = false
		if p.begins(enlistAgain); m.noSecondLook {
			s.lock[p.e] = 0
			p.begins(p.then)
		}
	case enlistAgain:
		if m.scan(s, p) {
			if p.all {
				p.at = enlistMark
			} else {
				s.lock[p.e] = 0
				p.begins(p.then)
			}
		}
	case enlistMark:
		s.hint = true
		s.lock[p.e] = 0
		p.begins(p.then)

	// acquire: stages 1 and 0.5
	case listedLock:
		if s.lock[p.c] != 0 {
			return false
		}
		if p.at = takePage; s.listed[p.c] {
			s.take(p.c, id)
			p.at = listedState
		}
	case listedState:
		s.listed[p.c] = false
		s.state = leased
		p.right = true
		p.at = listedUnmark
	case listedUnmark:
		s.hint = false
		s.lock[p.c] = 0
		p.lease = p.c
		p.begins(carveLoad)

	// acquire, cross-class: a page of the superslab, at first or after stealEmpty
	case takePage, takeStolen:
		switch {
		case s.free: // under region.mu
			s.free = false
			p.right = true
			p.begins(formatWord)
		case p.at == takePage && s.hint:
			p.claim(takeStolen)
		default:
			p.begins(end) // nil
		}
	case formatWord:
		s.word[p.i] = m.fullWord(p.i)
		if p.i++; p.i == m.words() {
			p.begins(formatState)
		}
	case formatState:
		s.state = leased
		p.at = formatClass
	case formatClass:
		s.class = p.c
		p.lease = p.c
		p.begins(carveLoad)

	// giveBack
	case freeOr:
		if p.i = m.wordOf[lowest(p.held)>>1]; m.orPlain {
			p.v = s.word[p.i]
			p.at = freeStore
			break
		}
		m.give(s, p, s.word[p.i])
	case freeStore:
		m.give(s, p, p.v)
	case freeState:
		p.saw = s.state == full
		if p.at = freeOr; !m.lookFirst {
			p.given()
		}
	case freeScan:
		if m.scan(s, p) {
			if p.at = end; p.all {
				p.at = freeMark
			}
		}
	case freeMark:
		s.hint = true
		p.at = end

	// claimEmpty
	case claimClass:
		switch p.e = s.class; {
		case p.e == 0:
			p.at = claimUnmarkNone
		case m.checkFirst:
			p.begins(claimScan)
		default:
			p.at = claimLock
		}
	case claimUnmarkNone:
		s.hint = false
		if p.at = claimLookNone; m.blindUnmark {
			p.begins(p.then)
		}
	case claimLookNone:
		if p.at = claimMarkNone; s.class == 0 {
			p.begins(p.then)
		}
	case claimMarkNone:
		s.hint = true
		p.begins(p.then)
	case claimLock:
		if !s.take(p.e, id) {
			return false
		}
		p.at = claimCheck
	case claimCheck:
		switch {
		case s.class != p.e && m.blindUnmark:
			s.hint = false
			s.lock[p.e] = 0
			p.begins(p.then)
		case s.class != p.e:
			s.lock[p.e] = 0
			p.at = claimClass
		case s.state != partial: // under the lock it cannot become PARTIAL
			s.hint = false
			s.lock[p.e] = 0
			p.begins(p.then)
		default:
			p.at = claimUnlist
		}
	case claimUnlist:
		s.listed[p.e] = false
		s.state = claimed
		p.right = true
		p.at = claimUnmark
	case claimUnmark:
		s.hint = false
		s.lock[p.e] = 0
		if p.begins(claimScan); m.checkFirst {
			p.begins(unformatLock)
		}
	case claimScan:
		if m.scan(s, p) {
			switch {
			case p.all && m.checkFirst:
				p.begins(claimLock)
			case p.all:
				p.begins(unformatLock)
			case m.checkFirst:
				p.begins(p.then)
			default:
				m.retire(p, p.then)
			}
		}

	// unformat
	case unformatLock:
		if !s.take(p.e, id) {
			return false
		}
		p.begins(unformatWord)
	case unformatWord:
		for i := range s.p {
			if s.p[i].held != 0 {
				s.bad = 2
			}
		}
		s.word[p.i] = 0
		if p.i++; p.i == m.words() {
			p.begins(unformatState)
		}
	case unformatState:
		s.state = none
		p.at = unformatClass
	case unformatClass:
		s.class = 0
		s.lock[p.e] = 0
		p.at = giveBackPages
	case giveBackPages:
		s.free = true
		p.right = false
		p.begins(p.then)

	// punchSlabs; what is done with the memory meanwhile does not matter here
	case punchLock:
		if s.lock[p.c] != 0 {
			return false
		}
		if !s.listed[p.c] || s.hint {
			p.begins(end)
			break
		}
		s.take(p.c, id)
		s.listed[p.c] = false
		s.state = claimed
		p.right = true
		p.at = punchUnmark
	case punchUnmark:
		s.hint = false
		s.lock[p.c] = 0
		p.at = punchNow
	case punchNow:
		m.retire(p, end)
	}
	if p.at == end {
		*p = slabProc{op: p.op + 1, lease: p.lease, right: p.right, held: p.held, of: p.of}
	}
	return true
}

// lowest is the lowest block of a set, as a set.
func lowest(blocks uint8) uint8 { return blocks & -blocks }

// give is the or of giveBack, to a word that was old.
func (m *slabModel) give(s *slabWorld, p *slabProc, old uint8) {
	b := lowest(p.held)
	if old&b != 0 {
		s.bad = 1
	}
	if s.class != p.of {
		s.bad = 3
	}
	s.word[p.i] = old | b
	p.held &^= b
	if p.then = end; old|b == m.fullWord(p.i) {
		p.then = freeScan
	}
	if p.at = freeState; m.lookFirst {
		p.given()
	}
}

// given continues after the or and the look at the state.
func (p *slabProc) given() {
	if p.saw {
		p.begins(enlistClass)
	} else {
		p.begins(p.then)
	}
}

func (m *slabModel) always(s slabWorld) string {
	if s.bad != 0 {
		return slabBad[s.bad]
	}
	held, right := uint8(0), 0
	for _, p := range s.p {
		if held&p.held != 0 {
			return "a block has two holders"
		}
		held |= p.held
		if p.right {
			right++
		}
	}
	switch {
	case held&(s.word[0]|s.word[1]) != 0:
		return "a block is held, and its bit is set"
	case right > 1:
		return "two may carve"
	case s.lock == [3]uint8{} && s.state != none && s.listed[s.class] != (s.state == partial):
		return "PARTIAL is not listed, or what is listed is not PARTIAL"
	}
	return ""
}

func (m *slabModel) atEnd(s slabWorld) string {
	held, leases := s.word[0]|s.word[1], 0
	for id, p := range s.p {
		if int(p.op) < len(m.scripts[id]) {
			return "a goroutine waits for ever"
		}
		held |= p.held
		if p.lease != 0 {
			leases++
		}
	}
	switch {
	case s.free && (s.class != 0 || s.state != none || leases != 0):
		return "the superslab has a page that is a slab"
	case s.free:
		return ""
	case held != 3:
		return "a block is lost"
	case s.state == full && s.word != [2]uint8{}:
		return "free blocks in a FULL slab, which nobody looks for"
	case s.state == claimed || s.state == none || s.state == leased && leases != 1:
		return "the slab is lost"
	case s.state == partial && !s.hint && s.word[0] == m.fullWord(0) && (m.words() == 1 || s.word[1] == m.fullWord(1)):
		return "an EMPTY slab that emptyMask does not have"
	}
	return ""
}

// Where the scenarios begin.
var (
	// The first goroutine's front has the lease, and it and another hold a block.
	leasedOut = slabWorld{state: leased, class: 1, p: [3]slabProc{{lease: 1, right: true, held: 1, of: 1}, {held: 2, of: 1}}}
	// The lease is exhausted, and both blocks are elsewhere.
	exhausted = slabWorld{state: leased, class: 1, p: [3]slabProc{{lease: 1, right: true}, {held: 1, of: 1}, {held: 2, of: 1}}}
	// No front has the lease, and all blocks are held.
	fullSlab = slabWorld{state: full, class: 1, p: [3]slabProc{{held: 1, of: 1}, {held: 2, of: 1}}}
	// An EMPTY slab.
	emptySlab = slabWorld{state: partial, class: 1, listed: [3]bool{1: true}, hint: true, word: [2]uint8{3, 0}}
	// One block is free.
	sparse = slabWorld{state: partial, class: 1, listed: [3]bool{1: true}, word: [2]uint8{2, 0}, p: [3]slabProc{{held: 1, of: 1}}}
)

// twoWords returns the same scenarios with one word for each block.
func twoWords(m slabModel) slabModel {
	m.wordOf = [2]uint8{0, 1}
	w := m.init.word[0]
	m.init.word = [2]uint8{w & 1, w & 2}
	return m
}

var slabScenarios = map[string]slabModel{
	"the lease is given up while both blocks come back": {init: exhausted, scripts: [3]string{"Af", "f", "f"}},
	"and then the slab is wanted for another class":     {init: exhausted, scripts: [3]string{"AB", "f", "fs"}},
	"three want a slab":                                    {init: leasedOut, scripts: [3]string{"fAf", "fB", "A"}},
	"all is freed while two sweep":                         {init: fullSlab, scripts: [3]string{"fs", "f", "ss"}},
	"all is freed, and classes change, while one sweeps":   {init: fullSlab, scripts: [3]string{"f", "fB", "sA"}},
	"an EMPTY slab is wanted by both classes":              {init: emptySlab, scripts: [3]string{"Bf", "Af", "s"}},
	"an EMPTY slab changes class twice while one sweeps":   {init: emptySlab, scripts: [3]string{"Bf", "sAf", "s"}},
	"a FULL slab is emptied and is FULL of another class":  {init: fullSlab, scripts: [3]string{"f", "f", "BBB"}},
	"an EMPTY slab is used up while two sweep":             {init: emptySlab, scripts: [3]string{"AAAf", "s", "s"}},
	"an EMPTY slab is so again, of another class":          {init: emptySlab, scripts: [3]string{"BBBff", "s", "s"}},
	"a sparse slab is punched while it is used":            {init: sparse, scripts: [3]string{"f", "Af", "p"}},
	"a sparse slab is punched while it is freed and swept": {init: sparse, scripts: [3]string{"fs", "B", "pp"}},
}

func TestSlab(t *testing.T) {
	var total Result
	for name, m := range slabScenarios {
		t.Run(name, func(t *testing.T) {
			two := twoWords(m)
			total.add(check(t, m.model()))
			total.add(check(t, two.model()))
		})
	}
	t.Log(total)
}

// TestSlabMutations checks that each part of the protocol is needed.
func TestSlabMutations(t *testing.T) {
	allCaught(t, slabScenarios, func(m slabModel) []Model[slabWorld] {
		two := twoWords(m)
		return []Model[slabWorld]{m.model(), two.model()}
	}, []mutation[slabModel]{
		{"giveBack stores what it has read", "a block is lost", func(m *slabModel) { m.orPlain = true }},
		{"carve stores what it has read", "a block is lost", func(m *slabModel) { m.andPlain = true }},
		{"giveBack looks at the state before the or", "in a FULL slab", func(m *slabModel) { m.lookFirst = true }},
		{"retire looks at the words before FULL", "in a FULL slab", func(m *slabModel) { m.scanFirst = true }},
		{"enlist trusts the class it has read", "not listed", func(m *slabModel) { m.trustClass = true }},
		{"claimEmpty looks before it claims", "while a block is held", func(m *slabModel) { m.checkFirst = true }},
		{"enlist does not look again", "emptyMask", func(m *slabModel) { m.noSecondLook = true }},
		{"claimEmpty does not look again", "emptyMask", func(m *slabModel) { m.blindUnmark = true }},
	})
}
