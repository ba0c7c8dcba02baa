package explore

import (
	"fmt"
	"testing"
)

// The scavenger's lock (internal/engine/scavenger.go: lock, lockForTick, unlock, payOwed). Its holder
// may be busy for long, or hang for ever in a system call. A tick that finds the lock held does not
// wait: it notes in owed that a timer is to be set, and the holder sets it when it lets go. A growing
// heap may replace the timer meanwhile (a new generation). There must be one timer, or somebody who
// will set it, while there is something left, and never two; and if the holder hangs, nobody waits
// for it for ever.

type turnModel struct {
	scripts [2]string // t: Trim; h: Trim that hangs; g: kickGrown, which takes the timer for lost

	tickWaits bool // tick: waits for the lock
	tryOnce   bool // tick: does not try again after it has noted what is owed
	noClaim   bool // tick: does not look whether the holder has set the timer
	anyOwed   bool // tick: notes what is owed whatever the generation is
	anyPay    bool // payOwed: sets the timer whatever the generation is
	payFirst  bool // unlock: looks at what is owed before it lets go
}

type turnWorld struct {
	mu         uint8 // who has the lock: 1, 2 ticks; 3, 4 the scripts; 0 nobody
	hangs      bool  // and never lets go
	owed       uint8 // scavengerState.owed
	generation uint8
	armed      bool
	work       uint8 // how many ticks still find something left
	timers     [3]uint8
	t          [2]struct{ at, of, pay uint8 }
	p          [2]struct{ op, at, pay uint8 }
}

const (
	uIdle = iota
	uTry
	uOwe
	uTryAgain
	uClaim
	uCurrent
	uScavenge
	uDisarm
	uSet
	uUnlock
	uPay
	uPaySet
)

var turnSteps = [...]string{"tick", "tick: tries the lock", "tick: owed", "tick: tries again", "tick: still owed?", "tick: current?", "tick: scavenge",
	"tick: nothing runs", "tick: sets the timer", "tick: unlocks", "tick: owes?", "tick: sets the timer that is owed"}

func (m *turnModel) model() Model[turnWorld] {
	x := Model[turnWorld]{Init: turnWorld{armed: true, work: 2, timers: [3]uint8{1}}, Always: m.always, AtEnd: m.atEnd}
	for id := range m.scripts {
		x.Procs = append(x.Procs, func(s turnWorld, to func(string, turnWorld)) {
			name := fmt.Sprintf("%d: step %d", id, s.p[id].at)
			if m.step(&s, id) {
				to(name, s)
			}
		})
	}
	for id := range 2 {
		x.Procs = append(x.Procs, func(s turnWorld, to func(string, turnWorld)) {
			name := turnSteps[s.t[id].at]
			if s.t[id].at != uIdle {
				if m.tick(&s, id) {
					to(fmt.Sprintf("%s, of generation %d", name, s.t[id].of), s)
				}
				return
			}
			for g := range s.timers {
				if next := s; next.timers[g] > 0 {
					next.timers[g]--
					next.t[id].of, next.t[id].at = uint8(g), uTry
					to(fmt.Sprintf("%s of generation %d", name, g), next)
				}
			}
		})
	}
	return x
}

// step does a step of a script: 0 takes the lock, 1 lets go, 2 and 3 are payOwed.
func (m *turnModel) step(s *turnWorld, id int) bool {
	p := &s.p[id]
	if int(p.op) == len(m.scripts[id]) {
		return false
	}
	op := m.scripts[id][p.op]
	switch {
	case op == 'g':
		if s.armed && s.generation < 2 {
			s.generation++
			s.timers[s.generation]++
		}
		p.op++
	case p.at == 0 && s.mu != 0:
		if !s.hangs {
			return false // lock looks again later
		}
		p.op++ // and gives up
	case p.at == 0 && op == 'h':
		s.mu, s.hangs = uint8(3+id), true
		p.op++ // its goroutine is not seen again
	case p.at == 0:
		s.mu = uint8(3 + id)
		p.at++
	case p.at == 1 && m.payFirst, p.at == 2 && !m.payFirst:
		p.pay, s.owed = s.owed, 0
		p.at++
	case p.at < 3:
		s.mu = 0
		p.at++
	default:
		m.paySet(s, p.pay)
		p.op++
		p.at, p.pay = 0, 0
	}
	return true
}

func (m *turnModel) paySet(s *turnWorld, owed uint8) {
	if owed != 0 && (owed-1 == s.generation || m.anyPay) {
		s.timers[s.generation]++
	}
}

// tick does a step of a tick.
func (m *turnModel) tick(s *turnWorld, id int) bool {
	t := &s.t[id]
	me, current := uint8(1+id), t.of == s.generation
	next := t.at + 1
	switch t.at {
	case uTry:
		if s.mu == 0 {
			s.mu, next = me, uCurrent
		} else if m.tickWaits {
			return false
		}
	case uOwe: // during
		if current || m.anyOwed {
			if s.owed = t.of + 1; m.tryOnce {
				next = uIdle
			}
		} else {
			next = uIdle
		}
	case uTryAgain:
		if next = uIdle; s.mu == 0 {
			s.mu, next = me, uClaim
		}
	case uClaim: // compare and swap
		if s.owed == t.of+1 {
			s.owed = 0
		} else if !m.noClaim {
			next = uUnlock
		}
	case uCurrent:
		if !current {
			next = uUnlock
		}
	case uScavenge:
		if s.work > 0 {
			s.work--
			next = uSet
		}
	case uDisarm: // during
		if next = uUnlock; current {
			s.armed = false
		}
	case uSet: // during
		if current {
			s.timers[s.generation]++
		}
	case uUnlock:
		s.mu = 0
	case uPay:
		if t.pay, s.owed = s.owed, 0; t.pay == 0 {
			next = uIdle
		}
	case uPaySet:
		m.paySet(s, t.pay)
		next = uIdle
	}
	if t.at = next; next == uIdle {
		t.of, t.pay = 0, 0
	}
	return true
}

// always counts the timers that are set, and those who will set one.
func (m *turnModel) always(s turnWorld) string {
	n := int(s.timers[s.generation])
	now := s.generation + 1
	if s.owed == now {
		n++
	}
	for _, t := range s.t {
		if t.at == uPaySet && t.pay == now {
			n++
		}
		if (t.at == uTry || t.at == uOwe || t.at >= uCurrent && t.at <= uSet) && t.of == s.generation {
			n++
		}
	}
	for _, p := range s.p {
		if p.pay == now {
			n++
		}
	}
	if n > 1 {
		return "two timers are set"
	}
	return ""
}

func (m *turnModel) atEnd(s turnWorld) string {
	for id, p := range s.p {
		if int(p.op) < len(m.scripts[id]) {
			return "a Trim waits for ever"
		}
	}
	for _, t := range s.t {
		if t.at != uIdle {
			return "a tick waits for ever"
		}
	}
	if s.armed && !s.hangs {
		return "no timer is set, and nobody will set it"
	}
	return ""
}

var turnScenarios = map[string]turnModel{
	"two Trims":                      {scripts: [2]string{"tt", "tt"}},
	"Trims while the heap grows":     {scripts: [2]string{"tt", "gg"}},
	"Trims, and the heap grows late": {scripts: [2]string{"tgt", "t"}},
	"one hangs":                      {scripts: [2]string{"th", "tt"}},
	"one hangs while the heap grows": {scripts: [2]string{"h", "gtg"}},
}

func TestTurn(t *testing.T) {
	var total Result
	for name, m := range turnScenarios {
		t.Run(name, func(t *testing.T) { total.add(check(t, m.model())) })
	}
	t.Log(total)
}

// TestTurnMutations checks that each part of the protocol is needed.
func TestTurnMutations(t *testing.T) {
	allCaught(t, turnScenarios, func(m turnModel) []Model[turnWorld] { return []Model[turnWorld]{m.model()} }, []mutation[turnModel]{
		{"a tick waits for the lock", "a tick waits for ever", func(m *turnModel) { m.tickWaits = true }},
		{"a tick tries once", "nobody will set it", func(m *turnModel) { m.tryOnce = true }},
		{"a tick does not look what is still owed", "two timers", func(m *turnModel) { m.noClaim = true }},
		{"a tick of before notes what it is owed", "nobody will set it", func(m *turnModel) { m.anyOwed = true }},
		{"a debt of before is paid", "two timers", func(m *turnModel) { m.anyPay = true }},
		{"the holder pays, and then lets go", "nobody will set it", func(m *turnModel) { m.payFirst = true }},
	})
}
