package explore

import (
	"fmt"
	"testing"
)

// The count of memory (internal/engine/usage.go): an upper bound of what is resident, and never
// above the hard limit. Memory is reserved before it is used, under the lock of what it belongs to
// and by compare-and-swap, and leaves the count when the system has taken it.
//
// Two slabs of one class, each with one unit of memory that is resident or a hole, and one page of
// one unit. Three goroutines that each follow a script. The class's lock and the region's are
// different locks, so reservations under them meet.

// What a goroutine does: one letter for each operation.
const (
	cLease  = 'l' // leases a slab, fills its hole (fill), and touches its memory
	cRetire = 'r' // retires the slab that it leased last
	cPunch  = 'h' // claims a slab and returns its memory
	cTake   = 't' // takes the page, and touches it
	cGive   = 'g' // gives the page back
	cPurge  = 'p' // returns the memory of the free page
)

type limitModel struct {
	scripts [3]string
	init    limitWorld
	limit   int8

	plain   bool // reserve loads and stores
	checked bool // reserve looks at the limit, and then adds
	early   bool // what is to be returned leaves the count before
	late    bool // memory is touched before it is reserved
	freed   bool // a free page is not counted, although it is dirty
}

// unit is the memory of a slab or of the page.
type unit struct {
	state    uint8 // of a slab: listed, leased, claimed; of the page: listed is free, leased in use
	hole     bool  // not counted: to be reserved before it is used
	resident bool
}

const (
	uListed = iota
	uLeased
	uClaimed
)

type limitWorld struct {
	counted int8
	u       [3]unit // two slabs, and the page
	lock    [2]bool // the class's, the region's
	p       [3]limitProc
}

type limitProc struct {
	op, at uint8
	i      uint8 // the unit that it works on
	seen   int8  // what it loaded of counted
	has    uint8 // slabs and the page, as a set, that it leased or took
}

const (
	cBegin = iota
	cLock
	cLook
	cLoad
	cSwap
	cOwn
	cTouch
	cGiveUp
	cClaim
	cDiscard
	cUncount
	cBack
)

var limitSteps = [...]string{"begin", "lock", "look", "reserve: load", "reserve: swap", "leased or taken, unlock", "touch", "retired or given",
	"claim", "discard", "uncount", "back"}

func (m *limitModel) model() Model[limitWorld] {
	x := Model[limitWorld]{Init: m.init, Always: m.always, AtEnd: m.atEnd}
	for id := range m.scripts {
		x.Procs = append(x.Procs, func(s limitWorld, to func(string, limitWorld)) {
			at := s.p[id].at
			if m.step(&s, id) {
				to(fmt.Sprintf("%d: %s (unit %d)", id, limitSteps[at], s.p[id].i), s)
			}
		})
	}
	return x
}

func (m *limitModel) step(s *limitWorld, id int) bool {
	p := &s.p[id]
	if int(p.op) == len(m.scripts[id]) {
		return false
	}
	op := m.scripts[id][p.op]
	lock, first, end := &s.lock[0], uint8(0), uint8(2) // of slabs
	if op == cTake || op == cGive || op == cPurge {
		lock, first, end = &s.lock[1], 2, 3
	}
	done := func() { p.op, p.at, p.i = p.op+1, cBegin, 0 }
	next := func(at uint8) { p.at = at }
	u := &s.u[min(p.i, 2)]
	switch p.at {
	case cBegin:
		switch p.i = first; op {
		case cRetire, cGive:
			next(cGiveUp)
		case cPunch, cPurge:
			next(cClaim)
		default:
			next(cLock)
		}
	case cLock:
		if *lock {
			return false
		}
		*lock = true
		next(cLook)
	case cLook:
		for p.i < end && s.u[p.i].state != uListed {
			p.i++
		}
		switch {
		case p.i == end: // nil
			*lock = false
			done()
		case !s.u[p.i].hole:
			next(cOwn)
		case m.late:
			next(cTouch)
		default:
			next(cLoad)
		}
	case cLoad:
		if p.seen = s.counted; p.seen+1 > m.limit { // refused: another one
			p.i++
			next(cLook)
		} else {
			next(cSwap)
		}
	case cSwap:
		switch {
		case m.plain:
			s.counted = p.seen + 1
		case m.checked:
			s.counted++
		case s.counted != p.seen:
			next(cLoad)
			return true
		default:
			s.counted++
		}
		next(cOwn)
	case cOwn:
		u.hole = false
		u.state = uLeased
		p.has |= 1 << p.i
		*lock = false
		next(cTouch)
	case cTouch:
		u.resident = true
		if u.hole { // the mutation late
			next(cLoad)
		} else {
			done()
		}
	case cGiveUp:
		if *lock {
			return false
		}
		for ; p.i < end; p.i++ {
			if p.has>>p.i&1 != 0 {
				p.has &^= 1 << p.i
				s.u[p.i].state = uListed
				if m.freed && p.i == 2 {
					s.counted--
					s.u[p.i].hole = true
				}
				break
			}
		}
		done()
	case cClaim:
		if *lock {
			return false
		}
		for p.i < end && (s.u[p.i].state != uListed || s.u[p.i].hole) {
			p.i++
		}
		if p.i == end {
			done()
			break
		}
		s.u[p.i].state = uClaimed
		if next(cDiscard); m.early {
			next(cUncount)
		}
	case cDiscard:
		u.resident = false
		if next(cUncount); m.early {
			next(cBack)
		}
	case cUncount:
		s.counted--
		if next(cBack); m.early {
			next(cDiscard)
		}
	case cBack:
		if *lock {
			return false
		}
		u.hole = true
		u.state = uListed
		done()
	}
	return true
}

func (m *limitModel) always(s limitWorld) string {
	resident := int8(0)
	for _, u := range s.u {
		if u.resident {
			resident++
		}
	}
	switch {
	case resident > s.counted:
		return "more is resident than is counted"
	case s.counted > m.limit:
		return "more is counted than the limit"
	}
	return ""
}

func (m *limitModel) atEnd(s limitWorld) string {
	for id, p := range s.p {
		if int(p.op) < len(m.scripts[id]) {
			return "a goroutine waits for ever"
		}
	}
	want := int8(0)
	for _, u := range s.u {
		if !u.hole {
			want++
		}
	}
	if s.counted != want {
		return "the count is not what is there"
	}
	return ""
}

var (
	// All is returned.
	allHoles = limitWorld{u: [3]unit{{hole: true}, {hole: true}, {hole: true}}}
	// One slab is a hole, the other and the page are resident.
	oneHole = limitWorld{counted: 2, u: [3]unit{{hole: true}, {resident: true}, {resident: true}}}
)

var limitScenarios = map[string]limitModel{
	"a slab and the page, room for one":      {init: allHoles, limit: 1, scripts: [3]string{"lr", "tg", "hp"}},
	"two slabs and the page, room for two":   {init: allHoles, limit: 2, scripts: [3]string{"lrl", "tgt", "lr"}},
	"what is returned makes room":            {init: oneHole, limit: 2, scripts: [3]string{"lrl", "hl", "ptg"}},
	"two punch and purge, and all is wanted": {init: oneHole, limit: 2, scripts: [3]string{"hlr", "plr", "tgt"}},
	"room for all":                           {init: oneHole, limit: 3, scripts: [3]string{"lrh", "tgp", "lrh"}},
}

func TestLimit(t *testing.T) {
	var total Result
	for name, m := range limitScenarios {
		t.Run(name, func(t *testing.T) { total.add(check(t, m.model())) })
	}
	t.Log(total)
}

// TestLimitMutations checks that each part of the protocol is needed.
func TestLimitMutations(t *testing.T) {
	allCaught(t, limitScenarios, func(m limitModel) []Model[limitWorld] { return []Model[limitWorld]{m.model()} }, []mutation[limitModel]{
		{"reserve loads and stores", "more is resident than is counted", func(m *limitModel) { m.plain = true }},
		{"reserve looks, and then adds", "more is counted than the limit", func(m *limitModel) { m.checked = true }},
		{"what is to be returned leaves the count before", "more is resident than is counted", func(m *limitModel) { m.early = true }},
		{"memory is touched before it is reserved", "more is resident than is counted", func(m *limitModel) { m.late = true }},
		{"a free page that is dirty does not count", "more is resident than is counted", func(m *limitModel) { m.freed = true }},
	})
}
