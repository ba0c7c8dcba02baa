package explore

import (
	"fmt"
	"testing"
)

// The scavenger's timer (internal/engine/scavenger.go). Whoever leaves something to return sets it if
// it is not set. A tick that finds nothing more to return does not set it again. There must be one
// timer while something is left, and never two.
//
// A timer may fire at any time after it was set.
//
// What a tick would return is in two places: where somethingLeft looks, and in slabs that are
// PARTIAL, for which kicked stands. A tick looks at a part of these slabs; in the model a round
// takes two ticks.

type timerModel struct {
	scripts [3]string // k: leaves something, and kicks. p, q: makes a slab of the first or the second part PARTIAL

	kickFirst bool // kick comes before there is something to return
	lookFirst bool // tick: looks for something left before it says that no timer runs
	armAlways bool // arm: sets the timer without a look at armed under region.mu
	lookOnce  bool // kick: does not look at armed again after it has set kicked
	clearLate bool // tick: clears kicked after it went through the slabs
	clearEach bool // tick: clears kicked also where it goes on with a round
}

type timerWorld struct {
	work   bool    // there is something to return
	sparse [2]bool // there are PARTIAL slabs with something to return, by part
	second bool    // punchAt: the next look is at the second part
	kicked bool    // scavengerState.kicked
	armed  bool    // scavengerState.armed
	timers uint8   // that are set
	at     uint8   // the place of the tick that runs
	p      [3]struct{ op, at uint8 }
}

const (
	kLeave = iota
	kLoad
	kKicked
	kMark
	kAgain
	kArm
	kLate // with kickFirst: what is to be left is left only here
	kEnd
)

const (
	tIdle = iota
	tScavenge
	tClear
	tPunch
	tDisarm
	tLeft
	tKicked
	tArm
	tSet
)

var (
	kickSteps = [...]string{"leaves something", "kick: armed?", "kick: kicked?", "kick: kicked", "kick: armed still?", "arm", "leaves something late"}
	tickSteps = [...]string{"tick", "tick: scavenge", "tick: not kicked", "tick: slabs", "tick: nothing runs", "tick: something left?", "tick: kicked?", "tick: it runs", "tick: sets the timer"}
)

func (m *timerModel) model() Model[timerWorld] {
	x := Model[timerWorld]{Always: m.always, AtEnd: m.atEnd}
	for id := range m.scripts {
		x.Procs = append(x.Procs, func(s timerWorld, to func(string, timerWorld)) {
			name := kickSteps[s.p[id].at]
			if m.step(&s, id) {
				to(fmt.Sprintf("%d: %s", id, name), s)
			}
		})
	}
	x.Procs = append(x.Procs, func(s timerWorld, to func(string, timerWorld)) {
		name := tickSteps[s.at]
		if m.tick(&s) {
			to(name, s)
		}
	})
	return x
}

func (m *timerModel) step(s *timerWorld, id int) bool {
	p := &s.p[id]
	if int(p.op) == len(m.scripts[id]) {
		return false
	}
	next := p.at + 1
	switch p.at {
	case kLeave:
		if !m.kickFirst {
			m.leave(s, id)
		}
	case kLoad:
		if !s.armed {
			next = kArm
		}
	case kKicked:
		if s.kicked {
			next = kLate
		}
	case kMark:
		if s.kicked = true; m.lookOnce {
			next = kLate
		}
	case kAgain:
		if s.armed {
			next = kLate
		}
	case kArm: // under region.mu, with the setting of the timer
		if next = kLate; !s.armed || m.armAlways {
			s.armed = true
			s.timers++
		}
	case kLate:
		m.leave(s, id)
	}
	if next == kLate && !m.kickFirst {
		next = kEnd
	}
	if p.at = next; next == kEnd {
		p.at = 0
		p.op++
	}
	return true
}

// leave does what id's current operation leaves to be returned.
func (m *timerModel) leave(s *timerWorld, id int) {
	switch m.scripts[id][s.p[id].op] {
	case 'p':
		s.sparse[0] = true
	case 'q':
		s.sparse[1] = true
	default:
		s.work = true
	}
}

// tick does a step of the running tick, under scavenger.mu, or begins the tick of a timer that is
// set.
func (m *timerModel) tick(s *timerWorld) bool {
	next := s.at + 1
	switch s.at {
	case tIdle:
		if s.timers == 0 {
			return false
		}
		s.timers--
	case tScavenge:
		s.work = false
		if m.clearLate {
			next = tPunch
		}
	case tClear:
		if !s.second || m.clearLate || m.clearEach {
			s.kicked = false
		}
		if m.clearLate {
			next = m.afterSlabs(s)
		}
	case tPunch:
		if s.second {
			s.sparse[1] = false
		} else {
			s.sparse[0] = false
		}
		if s.second = !s.second; m.clearLate {
			next = tClear
		} else {
			next = m.afterSlabs(s)
		}
	case tDisarm: // during
		if s.armed = false; m.lookFirst {
			next = tIdle
		}
	case tLeft:
		switch {
		case !s.work && m.lookFirst:
			next = tDisarm
		case m.lookFirst:
			next = tSet
		case s.work:
			next = tArm
		}
	case tKicked:
		if !s.kicked {
			next = tIdle
		}
	case tArm: // compare and swap
		if s.armed {
			next = tIdle
		}
		s.armed = true
	case tSet: // during
		next = tIdle
		s.timers++
	}
	s.at = next
	return true
}

// afterSlabs is what follows a tick's look at slabs. While the round is not complete there is
// something left.
func (m *timerModel) afterSlabs(s *timerWorld) uint8 {
	switch {
	case s.second:
		return tSet
	case m.lookFirst:
		return tLeft
	}
	return tDisarm
}

func (m *timerModel) always(s timerWorld) string {
	n := s.timers
	if s.at > tIdle && s.at != tLeft && s.at != tKicked && s.at != tArm {
		n++ // it will set the timer, or has just said that no timer runs
	}
	if n > 1 {
		return "two timers are set"
	}
	return ""
}

func (m *timerModel) atEnd(s timerWorld) string {
	switch {
	case s.work || s.sparse != [2]bool{}:
		return "something is left, and nobody will return it"
	case s.armed:
		return "the timer is said to be set for ever"
	}
	return ""
}

var timerScenarios = map[string]timerModel{
	"two kick":   {scripts: [3]string{"kk", "kk", ""}},
	"three":      {scripts: [3]string{"kkk", "kkk", "kk"}},
	"slabs":      {scripts: [3]string{"pq", "kp", ""}},
	"more slabs": {scripts: [3]string{"pk", "qp", "kq"}},
}

func TestTimer(t *testing.T) {
	var total Result
	for name, m := range timerScenarios {
		t.Run(name, func(t *testing.T) { total.add(check(t, m.model())) })
	}
	t.Log(total)
}

// TestTimerMutations checks that each part of the protocol is needed. The last mutation is the
// code as it once was.
func TestTimerMutations(t *testing.T) {
	allCaught(t, timerScenarios, func(m timerModel) []Model[timerWorld] { return []Model[timerWorld]{m.model()} }, []mutation[timerModel]{
		{"kick, and then leave something", "nobody will return it", func(m *timerModel) { m.kickFirst = true }},
		{"tick looks before it says that nothing runs", "nobody will return it", func(m *timerModel) { m.lookFirst = true }},
		{"kick does not look again", "nobody will return it", func(m *timerModel) { m.lookOnce = true }},
		{"tick forgets a kick", "nobody will return it", func(m *timerModel) { m.clearLate = true }},
		{"arm without its second look", "two timers", func(m *timerModel) { m.armAlways = true }},
		{"tick forgets a kick in the middle of a round", "nobody will return it", func(m *timerModel) { m.clearEach = true }},
	})
}
