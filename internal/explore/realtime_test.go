package explore

import (
	"fmt"
	"testing"
)

// A timer of the process (internal/realtime). Whoever sets it stores what is to be called, and then
// sets the runtime's timer; in a bubble, where that is not always possible, a cleanup does so after
// the next collection. The runtime's timer may fire at any time that is not too early for what it
// was set to last, and its goroutine may take long to begin. There is one runtime timer, so there
// may be several goroutines of it.
//
// What was set last must be called, once, and not before its time. What was set before it may be
// called or not.

type realtimeModel struct {
	scripts [2]string // n: Set for now; l: Set for later; b: Set for now in a bubble

	timerFirst bool // Set: sets the runtime's timer before it stores what is to be called
	anyTime    bool // fire: does not look whether it is time
	earlyLost  bool // fire: does not set the timer again where it is early
	noSwap     bool // fire: takes out what is to be called by a load and a store
	clearLate  bool // the cleanup forgets that it waited after it has looked
}

// rtCall is what the timer was set to: number id, at time 0 or 1. 0 is nothing.
type rtCall struct{ id, at uint8 }

type rtFire struct {
	at   uint8 // place: 0 not there, 1 begins, 2 has loaded, 3 is early
	call rtCall
}

type realtimeWorld struct {
	now     uint8 // 0 or 1
	next    rtCall
	set     bool  // the runtime's timer is set
	when    uint8 // to this time
	waiting bool
	// cleanups that wait for a collection, and the place of the one that runs: 1 it begins, 2 it
	// has cleared or read.
	cleanups, running uint8
	seen              rtCall    // what the running cleanup has read
	fires             [2]rtFire // goroutines of the timer
	p                 [2]struct {
		op, at uint8
		call   rtCall
	}
	last   uint8    // the id of the last Set whose store was done
	called [5]uint8 // how often, by id
	early  bool
}

func (m *realtimeModel) model() Model[realtimeWorld] {
	x := Model[realtimeWorld]{Always: m.always, AtEnd: m.atEnd}
	for id := range m.scripts {
		x.Procs = append(x.Procs, func(s realtimeWorld, to func(string, realtimeWorld)) {
			if step := m.step(&s, id); step != "" {
				to(fmt.Sprintf("%d: %s", id, step), s)
			}
		})
	}
	for i := range (realtimeWorld{}).fires {
		x.Procs = append(x.Procs, func(s realtimeWorld, to func(string, realtimeWorld)) {
			if step := m.fire(&s, i); step != "" {
				to(fmt.Sprintf("fire %d: %s", i, step), s)
			}
		})
	}
	x.Procs = append(x.Procs, func(s realtimeWorld, to func(string, realtimeWorld)) {
		if step := m.cleanup(&s); step != "" {
			to("cleanup: "+step, s)
		}
	}, func(s realtimeWorld, to func(string, realtimeWorld)) {
		if s.now == 0 {
			s.now = 1
			to("time passes", s)
		}
	})
	return x
}

func (m *realtimeModel) step(s *realtimeWorld, id int) (name string) {
	p := &s.p[id]
	if int(p.op) == len(m.scripts[id]) {
		return ""
	}
	what := m.scripts[id][p.op]
	store := func() string {
		s.next = p.call
		s.last = p.call.id
		return "stores what is to be called"
	}
	arm := func() string {
		if what == 'b' {
			if !s.waiting {
				s.waiting = true
				s.cleanups++
			}
			return "waits for a collection"
		}
		s.set, s.when = true, p.call.at
		return "sets the timer"
	}
	switch p.at {
	case 0:
		p.call = rtCall{uint8(id*2) + p.op + 1, 0}
		if what == 'l' {
			p.call.at = 1
		}
		if m.timerFirst {
			name = arm()
		} else {
			name = store()
		}
		p.at = 1
	case 1:
		if m.timerFirst {
			name = store()
		} else {
			name = arm()
		}
		p.at, p.call = 0, rtCall{}
		p.op++
	}
	return name
}

func (m *realtimeModel) fire(s *realtimeWorld, i int) string {
	f := &s.fires[i]
	switch f.at {
	case 0:
		if !s.set || s.now < s.when {
			return ""
		}
		s.set, f.at = false, 1
		return "begins"
	case 1:
		f.call, f.at = s.next, 2
		switch {
		case f.call.id == 0:
			*f = rtFire{}
		case s.now < f.call.at && !m.anyTime:
			f.at = 3
		}
		return "loads"
	case 3:
		if !m.earlyLost {
			s.set, s.when = true, f.call.at
		}
		*f = rtFire{}
		return "sets the timer again"
	}
	if s.next == f.call || m.noSwap {
		s.next = rtCall{}
		s.called[f.call.id]++
		s.early = s.early || s.now < f.call.at
	}
	*f = rtFire{}
	return "takes out and calls"
}

func (m *realtimeModel) cleanup(s *realtimeWorld) string {
	clearIt := func() string { s.waiting = false; return "waits no longer" }
	read := func() string { s.seen = s.next; return "reads what is to be called" }
	switch s.running {
	case 0:
		if s.cleanups == 0 {
			return ""
		}
		s.cleanups--
		s.running = 1
		return "begins"
	case 1:
		s.running = 2
		if m.clearLate {
			return read()
		}
		return clearIt()
	case 2:
		s.running = 3
		if m.clearLate {
			return clearIt()
		}
		return read()
	}
	s.running = 0
	if s.seen.id != 0 {
		s.set, s.when = true, s.seen.at
	}
	s.seen = rtCall{}
	return "sets the timer"
}

func (m *realtimeModel) always(s realtimeWorld) string {
	for _, n := range s.called {
		if n > 1 {
			return "something was called twice"
		}
	}
	if s.early {
		return "something was called before its time"
	}
	return ""
}

func (m *realtimeModel) atEnd(s realtimeWorld) string {
	if s.called[s.last] != 1 || s.next.id != 0 {
		return "what was set last was not called"
	}
	return ""
}

var realtimeScenarios = map[string]realtimeModel{
	"one sets it twice":             {scripts: [2]string{"ln", ""}},
	"two set it":                    {scripts: [2]string{"nl", "ln"}},
	"in a bubble":                   {scripts: [2]string{"bb", "b"}},
	"in a bubble and outside":       {scripts: [2]string{"bl", "nb"}},
	"in a bubble, later outside":    {scripts: [2]string{"bl", "l"}},
	"in bubbles and for both times": {scripts: [2]string{"bn", "lb"}},
}

func TestRealtime(t *testing.T) {
	var total Result
	for name, m := range realtimeScenarios {
		t.Run(name, func(t *testing.T) { total.add(check(t, m.model())) })
	}
	t.Log(total)
}

// TestRealtimeMutations checks that each part of the protocol is needed.
func TestRealtimeMutations(t *testing.T) {
	allCaught(t, realtimeScenarios, func(m realtimeModel) []Model[realtimeWorld] { return []Model[realtimeWorld]{m.model()} }, []mutation[realtimeModel]{
		{"the timer is set before what it calls", "not called", func(m *realtimeModel) { m.timerFirst = true }},
		{"fire does not look at the time", "before its time", func(m *realtimeModel) { m.anyTime = true }},
		{"fire is early and forgets", "not called", func(m *realtimeModel) { m.earlyLost = true }},
		{"fire without compare and swap", "called twice", func(m *realtimeModel) { m.noSwap = true }},
		{"the cleanup forgets late", "not called", func(m *realtimeModel) { m.clearLate = true }},
	})
}
