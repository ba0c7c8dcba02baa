package governor

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
)

const goFree = math.MaxInt64 // Go's limit where there is none

// said reports whether an error says all of words. Without words there must be none.
func said(err error, words ...string) bool {
	if len(words) == 0 {
		return err == nil
	}
	for _, w := range words {
		if err == nil || !strings.Contains(err.Error(), w) {
			return false
		}
	}
	return true
}

// TestStartAndClose: Start divides the total, and Close puts back what it found.
func TestStartAndClose(t *testing.T) {
	f := newFake(20*mib, 100*mib)
	f.h.limits = limits{0, 2000 * mib}
	before, beforeHak := f.ofGo, f.h
	g := begin(t, f, Options{Total: 1000 * mib})
	if sum := f.ofGo.limit + f.h.limits.soft; sum > 900*mib || sum < 890*mib {
		t.Errorf("%d and %d MiB: not the budget of 900", f.ofGo.limit/mib, f.h.limits.soft/mib)
	}
	if f.ofGo.percent <= 100 || f.h.limits.hard != 2000*mib {
		t.Errorf("percent %d, hard limit %d", f.ofGo.percent, f.h.limits.hard)
	}
	if _, err := start(Options{Total: 1000 * mib}, newFake(mib, mib)); !errors.Is(err, ErrRunning) {
		t.Errorf("a second governor: %v", err)
	}
	g.Close()
	if f.ofGo != before || f.h != beforeHak || g.Err() != nil {
		t.Errorf("after Close %+v and %+v, %v", f.ofGo, f.h, g.Err())
	}
	moved := f.moved
	if g.Close(); f.moved != moved {
		t.Error("a second Close does something")
	}
	begin(t, f, Options{Total: 1000 * mib}) // one after the other may run
}

// TestFoundLimits: limits that are there already are not exceeded, and a percent that is set stays.
func TestFoundLimits(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*fake)
		right  func(*fake) bool
		says   []string
	}{
		{"GOMEMLIMIT", func(f *fake) { f.ofGo.limit = 200 * mib },
			func(f *fake) bool { return f.ofGo.limit == 200*mib && f.h.limits.soft == 700*mib }, nil},
		{"GOMEMLIMIT, which is more than Go's part", func(f *fake) { f.ofGo.limit = 899 * mib },
			func(f *fake) bool { return f.ofGo.limit < 600*mib && f.h.limits.soft > 300*mib }, nil},
		{"GOMEMLIMIT=off", func(f *fake) { f.vars = map[string]string{"GOMEMLIMIT": "off"} },
			func(f *fake) bool {
				return f.ofGo.limit == goFree && f.ofGo.percent == 100 && f.h.limits.soft > 300*mib
			}, []string{"GOMEMLIMIT=off", "unset"}},
		{"GOGC", func(f *fake) { f.vars = map[string]string{"GOGC": "100"} },
			func(f *fake) bool { return f.ofGo.limit < 600*mib && f.ofGo.percent == 100 }, nil},
		{"GOGC=off", func(f *fake) { f.vars, f.ofGo.percent = map[string]string{"GOGC": "off"}, -1 },
			func(f *fake) bool { return f.ofGo.limit < 700*mib && f.ofGo.percent == -1 }, nil},
		{"debug.SetGCPercent", func(f *fake) { f.ofGo.percent = 50 },
			func(f *fake) bool { return f.ofGo.limit < 600*mib && f.ofGo.percent == 50 }, nil},
		{"a soft limit", func(f *fake) { f.h.limits.soft = 150 * mib },
			func(f *fake) bool { return f.h.limits.soft == 150*mib && f.ofGo.limit < 600*mib }, nil},
		{"a hard limit", func(f *fake) { f.h.limits.hard = 160 * mib },
			func(f *fake) bool { return f.h.limits == limits{160 * mib, 160 * mib} }, nil},
	} {
		f := newFake(20*mib, 100*mib)
		c.change(f)
		was, wasHak := f.ofGo, f.h
		g := begin(t, f, Options{Total: 1000 * mib})
		if !c.right(f) || !said(g.Err(), c.says...) {
			t.Errorf("%s: %+v, %+v, %v", c.name, f.ofGo, f.h, g.Err())
		}
		if g.Close(); f.ofGo != was || f.h != wasHak {
			t.Errorf("%s: after Close %+v and %+v, want %+v and %+v", c.name, f.ofGo, f.h, was, wasHak)
		}
	}
}

// TestOtherWriters: when something else sets a limit, the governor leaves that one alone, says so with the
// value, and moves the others still.
func TestOtherWriters(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*fake)
		says   []string
		lost   func(*Governor) bool
	}{
		{"Go's limit", func(f *fake) { f.ofGo.limit = 12345678 }, []string{"debug.SetMemoryLimit(12345678)", "no longer moved"}, func(g *Governor) bool { return !g.limit.ours }},
		{"GC percent", func(f *fake) { f.ofGo.percent = 77 }, []string{"debug.SetGCPercent(77)", "no longer moved"}, func(g *Governor) bool { return !g.percent.ours }},
		{"hakmem's soft limit", func(f *fake) { f.h.limits.soft = 655360 }, []string{"hakmem.SetMemoryLimit: soft 655360 and hard 0", "no longer moved"}, func(g *Governor) bool { return !g.hakmem.ours }},
		{"hakmem's hard limit", func(f *fake) { f.h.limits.hard = 6553600000 }, []string{"and hard 6553600000"}, func(g *Governor) bool { return !g.hakmem.ours }},
	} {
		for _, when := range []string{"seen by a look", "between a look and a move", "seen by Close"} {
			f := newFake(20*mib, 100*mib)
			g := begin(t, f, Options{Total: 1000 * mib})
			switch when {
			case "seen by a look":
				c.change(f)
			case "between a look and a move":
				f.between = func() { c.change(f) }
			case "seen by Close":
				c.change(f)
				changed, changedHak := f.ofGo, f.h
				g.Close()
				kept := map[string]bool{"Go's limit": f.ofGo.limit == changed.limit, "GC percent": f.ofGo.percent == changed.percent}
				if k, ok := kept[c.name]; ok && !k || !ok && f.h.limits != changedHak.limits {
					t.Errorf("%s, %s: what something else has set is gone", c.name, when)
				}
				if !said(g.Err(), c.says...) {
					t.Errorf("%s, %s: %v", c.name, when, g.Err())
				}
				continue
			}
			ofGo, h := f.ofGo, f.h
			f.h.counted, f.h.least = 500*mib, 500*mib // something is to be moved
			f.ofGo.live, f.ofGo.used = 100*mib, 200*mib
			g.look()
			if !c.lost(g) || !said(g.Err(), c.says...) {
				t.Fatalf("%s, %s: %v", c.name, when, g.Err())
			}
			for i := range 30 {
				f.h.counted += uint64(i) * mib
				f.h.least = f.h.counted
				g.look()
			}
			moved := map[string]bool{"Go's limit": f.ofGo.limit != ofGo.limit, "GC percent": f.ofGo.percent != ofGo.percent,
				"hakmem's": f.h.limits.soft != h.limits.soft}
			for name, m := range moved {
				if strings.HasPrefix(c.name, name) && when == "seen by a look" && m {
					t.Errorf("%s, %s: it was moved after all: %+v, %+v", c.name, when, f.ofGo, f.h)
				}
			}
			if (c.name != "Go's limit" && !moved["Go's limit"]) || (!strings.HasPrefix(c.name, "hakmem") && !moved["hakmem's"]) {
				t.Errorf("%s, %s: the others are not moved: %+v, %+v", c.name, when, f.ofGo, f.h)
			}
			if n := strings.Count(fmt.Sprint(g.Err()), "\n"); n != 0 {
				t.Errorf("%s, %s: reported more than once:\n%v", c.name, when, g.Err())
			}
			if c.name == "Go's limit" && f.ofGo.percent != 100 {
				t.Errorf("%s, %s: the percent of %d is still in force without a limit", c.name, when, f.ofGo.percent)
			}
			g.Close()
		}
	}
}

// TestLeftToOthers: where a limit is not the governor's, the governor counts with what that side has.
func TestLeftToOthers(t *testing.T) {
	const budget = 900 * mib
	f := newFake(20*mib, 100*mib)
	g := begin(t, f, Options{Total: 1000 * mib})
	f.ofGo.limit = goFree
	f.ofGo.used = 600 * mib
	if g.look(); f.h.limits.soft > budget-600*mib {
		t.Errorf("next to 600 MiB of Go's hakmem may have %d", f.h.limits.soft/mib)
	}
	g.Close()

	f = newFake(200*mib, 100*mib)
	g = begin(t, f, Options{Total: 1000 * mib})
	f.h.limits.soft = 800 * mib
	f.h.counted = 600 * mib // most of it is free, but may stay
	if g.look(); f.ofGo.limit > budget-600*mib {
		t.Errorf("next to 600 MiB of hakmem's Go may have %d", f.ofGo.limit/mib)
	}
}

// TestRefusedLimit: a soft limit that hakmem refuses is reported.
func TestRefusedLimit(t *testing.T) {
	f := newFake(20*mib, 100*mib)
	f.refuse = errors.New("no such limit")
	g := begin(t, f, Options{Total: 1000 * mib})
	if !said(g.Err(), "hakmem's soft limit of", "no such limit") {
		t.Error(g.Err())
	}
	g.Close()
	f.refuse = nil
}

// TestContainerResized: the container's limit is read every ten seconds, and the last one is kept when there
// is none any more.
func TestContainerResized(t *testing.T) {
	f := newFake(20*mib, 100*mib)
	f.limit = 1000 * mib
	g := begin(t, f, Options{})
	sum := func() uint64 { return (f.ofGo.limit + f.h.limits.soft + mib) / (10 * mib) * 10 }
	for _, c := range []struct {
		at    time.Duration
		limit uint64
		want  uint64 // MiB
		says  []string
	}{
		{0, 1000 * mib, 900, nil},
		{9 * time.Second, 2000 * mib, 900, nil},
		{10 * time.Second, 2000 * mib, 1800, nil},
		{15 * time.Second, 500 * mib, 1800, nil},
		{20 * time.Second, 500 * mib, 450, nil},
		{30 * time.Second, 0, 450, []string{"524288000", "no longer there"}},
		{40 * time.Second, 1000 * mib, 900, []string{"524288000"}},
		{50 * time.Second, 1, 0, []string{"524288000"}}, // Go has what is alive, hakmem a page
	} {
		f.clock, f.limit = c.at, c.limit
		g.look()
		for range steadyPeriods { // Go's limit is not raised at once
			g.look()
		}
		if got := sum(); got != c.want && c.want != 0 || !said(g.Err(), c.says...) {
			t.Errorf("at %v: %d MiB, want %d; %v", c.at, got, c.want, g.Err())
		}
		if f.ofGo.limit < f.ofGo.live/10*11 {
			t.Errorf("at %v: Go's limit is %d", c.at, f.ofGo.limit)
		}
	}
}

// TestRun: the governor looks once in a period, and less often where a look takes long.
func TestRun(t *testing.T) {
	f := newFake(20*mib, 100*mib)
	f.timer = make(chan chan<- timing)
	took := []time.Duration{0, 100 * time.Microsecond, 50 * time.Millisecond, 0}
	want := []time.Duration{defaultPeriod, defaultPeriod, defaultPeriod, 5 * time.Second, defaultPeriod}
	p := &slow{fake: f}
	g, err := start(Options{Total: 1000 * mib}, p)
	if err != nil {
		t.Fatal(err)
	}
	for i := range want {
		c := <-f.timer
		f.mu.Lock()
		if got := f.waits[i]; got != want[i] {
			t.Errorf("wait %d is %v, want %v", i, got, want[i])
		}
		f.mu.Unlock()
		if i < len(took) {
			p.takes = took[i]
			c <- time.Time{}
		}
	}
	g.Close()
}

// slow is a fake whose looks take time.
type slow struct {
	*fake
	takes time.Duration
}

func (s *slow) read() (goMemory, offHeap) {
	s.clock += s.takes
	return s.fake.read()
}
