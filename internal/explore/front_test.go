package explore

import (
	"fmt"
	"testing"
)

// The fronts (internal/engine/front.go, alloc.go, watch.go, road_amd64.h). A P's magazine is changed
// by plain loads and stores, in sections that the runtime does not preempt. The drainer swaps the
// trap in, waits for a stop of the world, and empties the fronts that it took out.
//
// Two Ps, two goroutines that each follow a script, one class with magazines of one block, two
// blocks, and the memory of two fronts. A goroutine enters a section on any P on which none is
// running; the world stops when no section is. The slab is a set of free blocks with atomic
// operations; slab_test.go has the model of a real one. All threads share one guess of their front,
// as if their addresses were equal.

// What a goroutine does: one letter for each operation.
const (
	gMalloc = 'm' // Malloc: the fast section, then mallocClass
	gFree   = 'f' // Free of a block that the goroutine holds, if it holds one: the fast section, then heap.Free
	gDrain  = 'd' // drainFronts: all Ps
	gWatch  = 'w' // Watch, begin
)

const (
	trap     = 0 // the trap front; fronts are 1 and 2
	nowhere  = 0 // the P of a goroutine that is in no section
	noBlock  = 0 // blocks are 1 and 2
	capacity = 1 // of a magazine
)

type frontModel struct {
	scripts [3]string
	init    frontWorld

	preemptible bool // the fast section can be preempted: its P may run another goroutine
	noGrace     bool // drainFronts does not wait
	graceFirst  bool // drainFronts waits, and then swaps
	trustFast   bool // the slow path does not look at the magazine again after it has pinned
	watchEarly  bool // installFront looks at watched before it pins
	blindStore  bool // installFront stores instead of comparing and swapping
	believe     bool // the fast section does not check the owner of the front that it guesses
	ownLate     bool // installFront makes the P the front's owner after the swap
	ownOver     bool // drainFronts clears the owner after the stop of the world
}

type frontWorld struct {
	entry   [3]uint8 // pFronts, by P from 1
	guess   uint8    // guesses: a front, or the trap
	owner   [3]uint8 // the P in a front's owner word, or nowhere
	slot    [3]uint8 // the one slot of a front's magazine
	top     [3]uint8 // how many blocks are in it
	slab    uint8    // free blocks, as a set of 1 << block
	pool    uint8    // free fronts, as a set of 1 << front
	running [3]uint8 // how many sections run on a P; more than 1 only if preemptible
	watched bool
	done    bool // Watch has returned
	p       [3]frontProc
	bad     uint8
}

type frontProc struct {
	op      uint8
	at      uint8
	pid     uint8 // the P of the section it is in
	f       uint8 // the front that it has read
	t       uint8 // the top that it has read
	b       uint8 // the block that it works on
	mine    uint8 // the front that installFront has built
	look    bool  // what it read of watched
	missed  bool  // the fast section's verdict
	noFront bool  // there was no memory for a front
	took    uint8 // fronts that the drainer swapped out
	held    uint8 // blocks, as a set of 1 << block
	drainAt uint8 // the P that the drainer is at
}

var frontBad = [...]string{"", "a block is pushed onto a full magazine", "a block's bit is set twice"}

const (
	fBegin = iota
	fGuess // the fast section
	fOwner
	fFront
	fTop
	fSlot
	fStore
	sEnter // the slow path
	sFront
	sTop
	sWork
	sInstall // installFront
	sNew
	sLook
	sSwap
	sOwner
	sLocked
	dSwap // drainFronts
	dClear
	dGrace
	dCleared
	dEmpty
	wSet // Watch
	wGrace
	fEnd
)

var frontSteps = [...]string{"begin", "fast: guess", "fast: owner", "fast: entry", "fast: top", "fast: slot", "fast: store top", "slow: pin", "slow: entry", "slow: top",
	"slow: work and unpin", "installFront: newFront", "installFront: pin", "installFront: watched", "installFront: swap", "installFront: owner", "locked front",
	"drain: swap", "drain: clear owner", "drain: grace", "drain: clear owner", "drain: empty", "Watch: store", "Watch: grace"}

func (m *frontModel) model() Model[frontWorld] {
	x := Model[frontWorld]{Init: m.init, Always: m.always, AtEnd: m.atEnd}
	for id := range m.scripts {
		x.Procs = append(x.Procs, func(s frontWorld, to func(string, frontWorld)) {
			// Where a P has to be chosen, there is a step for each P.
			for pid := uint8(1); pid <= 2; pid++ {
				next := s
				if m.step(&next, id, pid) {
					p := &next.p[id]
					to(fmt.Sprintf("%d: %s (P %d, front %d, block %d)", id, frontSteps[s.p[id].at], p.pid, p.f, p.b), next)
				}
				if !entering[s.p[id].at] {
					break
				}
			}
		})
	}
	return x
}

// entering says which steps begin a section.
var entering = [fEnd]bool{fGuess: true, sEnter: true, sNew: true}

// enter begins a section on a P. It must not while another section runs there: this is how the
// model expresses that sections are not preempted.
func (m *frontModel) enter(s *frontWorld, p *frontProc, pid uint8) bool {
	if s.running[pid] != 0 && !m.preemptible {
		return false
	}
	s.running[pid]++
	p.pid = pid
	return true
}

func (s *frontWorld) leave(p *frontProc) {
	s.running[p.pid]--
	p.pid = nowhere
}

// stopped reports whether the world can stop: no section is running.
func (m *frontModel) stopped(s *frontWorld) bool {
	return s.running[1] == 0 && s.running[2] == 0 || m.preemptible
}

func (m *frontModel) step(s *frontWorld, id int, pid uint8) bool {
	p := &s.p[id]
	switch p.at {
	case fBegin:
		if int(p.op) == len(m.scripts[id]) {
			return false
		}
		switch m.scripts[id][p.op] {
		case gMalloc:
			p.at = fGuess
		case gFree:
			if p.at = fEnd; p.held != 0 {
				for p.b = 1; p.held>>p.b&1 == 0; {
					p.b++
				}
				p.held &^= 1 << p.b
				p.at = fGuess
			}
		case gDrain:
			p.drainAt = 1
			if p.at = dSwap; m.graceFirst {
				p.at = dGrace
			}
		case gWatch:
			p.at = wSet
		}

	// The fast section: mallocTiny, freeTiny
	case fGuess:
		if !m.enter(s, p, pid) {
			return false
		}
		p.f = s.guess
		if p.at = fOwner; m.believe && p.f != trap {
			p.at = fTop
		}
	case fOwner:
		if p.at = fTop; s.owner[p.f] != p.pid {
			p.at = fFront
		}
	case fFront:
		if p.f = s.entry[p.pid]; s.owner[p.f] == p.pid {
			s.guess = p.f
		}
		p.at = fTop
	case fTop:
		if p.t = s.top[p.f]; p.f == trap || p.t == m.fails(id, p) {
			p.missed = true
			s.leave(p) // a jump to the slow path: an ordinary function
			p.at = sEnter
		} else {
			p.at = fSlot
		}
	case fSlot:
		if p.at = fStore; m.mallocs(id, p) {
			p.b = s.slot[p.f]
		} else {
			s.slot[p.f] = p.b
		}
	case fStore:
		if m.mallocs(id, p) {
			s.top[p.f] = p.t - 1
			p.held |= 1 << p.b
		} else {
			s.top[p.f] = p.t + 1
		}
		s.leave(p)
		p.at = fEnd

	// The slow path: enter, then the operation again, then what the fast section could not do. The
	// look at the top and the operation are two steps, so that a change of the front in between
	// would show.
	case sEnter:
		if s.watched {
			p.at = sLocked
			break
		}
		if !m.enter(s, p, pid) {
			return false
		}
		p.at = sFront
	case sFront:
		p.f = s.entry[p.pid]
		if p.at = sTop; p.f == trap {
			s.leave(p)
			if p.at = sInstall; p.noFront {
				m.give(s, p.b)
				p.at = fEnd
			}
		}
	case sTop:
		if p.t = s.top[p.f]; m.trustFast && p.missed {
			p.t = m.fails(id, p) // as it was in the fast section
		}
		p.at = sWork
	case sWork:
		switch {
		case m.mallocs(id, p) && p.t > 0: // pop
			p.b = s.slot[p.f]
			s.top[p.f] = p.t - 1
			p.held |= 1 << p.b
		case m.mallocs(id, p): // refill by one block, and pop; or out of memory
			if b := s.slab & -s.slab; b != 0 {
				s.slab &^= b
				p.held |= b
				if b = s.slab & -s.slab; b != 0 { // a second one stays in the magazine
					s.slab &^= b
					m.push(s, p, b>>1)
				}
			}
		case p.t < capacity: // push
			m.push(s, p, p.b)
		default: // overflow: the oldest block goes back, and this one takes its place
			m.give(s, s.slot[p.f])
			s.slot[p.f] = p.b
		}
		s.leave(p)
		p.at = fEnd

	// installFront
	case sInstall:
		if s.pool == 0 { // no memory for a third front: nil, or the block goes straight to its slab
			if p.at = fEnd; !m.mallocs(id, p) {
				p.noFront = true
				p.at = sEnter
			}
			break
		}
		p.mine = 1
		if s.pool&2 == 0 {
			p.mine = 2
		}
		s.pool &^= 1 << p.mine
		p.look = s.watched
		p.at = sNew
	case sNew:
		if !m.enter(s, p, pid) {
			return false
		}
		p.at = sLook
	case sLook:
		if !m.watchEarly {
			p.look = s.watched
		}
		if p.at = sSwap; !m.ownLate {
			s.owner[p.mine] = p.pid
		}
	case sSwap:
		if e := &s.entry[p.pid]; !p.look && (*e == trap || m.blindStore) {
			*e = p.mine
			if m.ownLate {
				p.at = sOwner
				break
			}
		} else {
			s.owner[p.mine] = nowhere
			s.pool |= 1 << p.mine // recycle
		}
		p.mine = 0
		s.leave(p)
		p.at = sEnter
	case sOwner:
		s.owner[p.mine] = p.pid
		p.mine = 0
		s.leave(p)
		p.at = sEnter

	// While calls are watched: a locked front, which gives blocks back at once.
	case sLocked:
		if m.mallocs(id, p) {
			if b := s.slab & -s.slab; b != 0 {
				s.slab &^= b
				p.held |= b
			}
		} else {
			m.give(s, p.b)
		}
		p.at = fEnd

	// drainFronts. drainMu admits one at a time.
	case dSwap:
		for i := range s.p {
			if i != id && (s.p[i].took != 0 || s.p[i].drainAt > 1 || s.p[i].at == dClear) {
				return false
			}
		}
		p.f = s.entry[p.drainAt]
		if p.f != trap {
			s.entry[p.drainAt] = trap
			p.took |= 1 << p.f
		}
		p.at = dClear
	case dClear:
		if p.f != trap && !m.ownOver {
			s.owner[p.f] = nowhere
		}
		p.f = trap
		p.at = dSwap
		if p.drainAt++; p.drainAt > 2 {
			if p.at = dGrace; m.noGrace || m.graceFirst {
				p.at = dEmpty
			}
		}
	case dGrace:
		if !m.stopped(s) {
			return false
		}
		if p.at = dEmpty; m.graceFirst && p.drainAt == 1 {
			p.at = dSwap
		} else if m.ownOver {
			p.at = dCleared
		}
	case dCleared:
		for f := range s.owner {
			if p.took>>f&1 != 0 {
				s.owner[f] = nowhere
			}
		}
		p.at = dEmpty
	case dEmpty: // emptyFront and recycle, one front in each step
		for f := uint8(1); f <= 2; f++ {
			if p.took>>f&1 != 0 {
				for s.top[f] > 0 {
					s.top[f]--
					m.give(s, s.slot[f])
				}
				s.pool |= 1 << f
				p.took &^= 1 << f
				break
			}
		}
		if p.took == 0 {
			if p.at = fEnd; m.scripts[id][p.op] == gWatch {
				s.done = true
			}
		}

	// Watch
	case wSet:
		s.watched = true
		p.at = wGrace
	case wGrace:
		if !m.stopped(s) {
			return false
		}
		p.drainAt = 1
		p.at = dSwap
	}
	if p.at == fEnd {
		*p = frontProc{op: p.op + 1, held: p.held}
	}
	return true
}

// mallocs reports whether the goroutine is in a malloc; otherwise it is in a free.
func (m *frontModel) mallocs(id int, p *frontProc) bool { return m.scripts[id][p.op] == gMalloc }

// fails is the top with which the fast section fails: empty, or full.
func (m *frontModel) fails(id int, p *frontProc) uint8 {
	if m.mallocs(id, p) {
		return 0
	}
	return capacity
}

func (m *frontModel) push(s *frontWorld, p *frontProc, b uint8) {
	if s.top[p.f] == capacity {
		s.bad = 1
	}
	s.slot[p.f] = b
	s.top[p.f] = capacity
}

// give sets a block's bit.
func (m *frontModel) give(s *frontWorld, b uint8) {
	if s.slab>>b&1 != 0 {
		s.bad = 2
	}
	s.slab |= 1 << b
}

func (m *frontModel) always(s frontWorld) string {
	if s.bad != 0 {
		return frontBad[s.bad]
	}
	held := s.slab
	for _, p := range s.p {
		if held&p.held != 0 {
			return "a block has two holders"
		}
		held |= p.held
	}
	if s.entry[1] != trap && s.entry[1] == s.entry[2] {
		return "two Ps have one front"
	}
	if s.done && (s.entry[1] != trap || s.entry[2] != trap) {
		return "a P has a front while calls are watched"
	}
	return ""
}

func (m *frontModel) atEnd(s frontWorld) string {
	held, fronts := s.slab, s.pool
	for id, p := range s.p {
		if int(p.op) < len(m.scripts[id]) {
			return "a goroutine waits for ever"
		}
		held |= p.held
	}
	for _, f := range s.entry[1:] {
		if f == trap {
			continue
		}
		fronts |= 1 << f
		if s.top[f] > 0 {
			if held>>s.slot[f]&1 != 0 {
				return "a block is in a magazine and elsewhere"
			}
			held |= 1 << s.slot[f]
		}
	}
	switch {
	case held != 1<<1|1<<2:
		return "a block is lost"
	case fronts != 1<<1|1<<2:
		return "a front is lost"
	}
	return ""
}

// Where the scenarios begin: no P has a front; P 1 has one, with a block in it.
var (
	noFronts = frontWorld{slab: 1<<1 | 1<<2, pool: 1<<1 | 1<<2}
	oneFront = frontWorld{slab: 1 << 2, pool: 1 << 2, entry: [3]uint8{1: 1}, guess: 1, owner: [3]uint8{1: 1}, slot: [3]uint8{1: 1}, top: [3]uint8{1: 1}}
)

var frontScenarios = map[string]frontModel{
	"two allocate and free while one drains":         {init: noFronts, scripts: [3]string{"mf", "mf", "d"}},
	"two allocate and free while one drains, warm":   {init: oneFront, scripts: [3]string{"mf", "mf", "d"}},
	"one allocates and frees while two drain":        {init: oneFront, scripts: [3]string{"mfmf", "dd", "d"}},
	"one drains again and again":                     {init: oneFront, scripts: [3]string{"mf", "fm", "dd"}},
	"calls begin to be watched":                      {init: oneFront, scripts: [3]string{"mf", "mf", "w"}},
	"calls begin to be watched while one drains":     {init: noFronts, scripts: [3]string{"mf", "d", "w"}},
	"one holds two blocks, and frees them elsewhere": {init: oneFront, scripts: [3]string{"mmff", "d", ""}},
}

func TestFront(t *testing.T) {
	var total Result
	for name, m := range frontScenarios {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && m.init == noFronts && m.scripts[1] == "mf" {
				t.Skip("skipped: -short; half of all states")
			}
			total.add(check(t, m.model()))
		})
	}
	t.Log(total)
}

// TestFrontMutations checks that each part of the protocol is needed. The first mutation is the
// negative control of internal/engine/road_section_test.go.
func TestFrontMutations(t *testing.T) {
	allCaught(t, frontScenarios, func(m frontModel) []Model[frontWorld] { return []Model[frontWorld]{m.model()} }, []mutation[frontModel]{
		{"the fast section is preempted", "two holders", func(m *frontModel) { m.preemptible = true }},
		{"the drainer does not wait", "two holders", func(m *frontModel) { m.noGrace = true }},
		{"the drainer waits before it swaps", "two holders", func(m *frontModel) { m.graceFirst = true }},
		{"the slow path trusts the fast section's verdict", "two holders", func(m *frontModel) { m.trustFast = true }},
		{"installFront looks at watched before it pins", "while calls are watched", func(m *frontModel) { m.watchEarly = true }},
		{"installFront does not compare", "lost", func(m *frontModel) { m.blindStore = true }},
		{"a guess is believed", "two holders", func(m *frontModel) { m.believe = true }},
		{"the owner is written after the swap", "two holders", func(m *frontModel) { m.ownLate = true }},
		{"the owner is cleared after the stop of the world", "two holders", func(m *frontModel) { m.ownOver = true }},
	})
}
