package learn

import (
	"strings"
	"testing"
	"time"
)

// demand drives a Model and a Learner: in each window of 2 s each of 2048 pages waits once.
type demand struct {
	m     *Model
	l     *Learner
	now   time.Duration
	fixed bool    // the hold times are only noted
	cache float64 // CPU seconds that caches move blocks for
	held  float64 // GiB·s that they hold
}

const demandPages = 2048

func newDemand(p EvolutionPolicy, d Deciding) *demand {
	return &demand{m: New(TypicalMachine.Costs(65536, 0.1)), l: NewLearner(p, d, 1), now: time.Hour}
}

// windows lets n windows pass in which each page waits for so long.
func (d *demand) windows(n int, wait time.Duration) {
	for range n {
		// Pages that wait for longer than a window were freed before it began.
		d.m.Freed(0, demandPages, d.now)
		d.now += wait
		d.m.Taken(0, demandPages, d.now)
		d.m.Tick(d.now)
		d.now += max(WindowTime-wait, 0)
		d.l.Window(d.m, Report{End: d.now, Pages: 65536.0 / (1 << 30), Fixed: d.fixed, CacheCPU: d.cache, CacheMemory: d.held})
	}
}

// kinds returns the decisions of a kind.
func (d *demand) decisions(k DecisionKind) (list []Decision) {
	d.l.Log().Each(func(_ Seq, x Decision) bool {
		if x.Kind == k {
			list = append(list, x)
		}
		return true
	})
	return list
}

// TestLearnerNotesHolds: that hold times have changed is in the log, with what was expected and what came
// of it.
func TestLearnerNotesHolds(t *testing.T) {
	d := newDemand(EvolutionLearn, DecideNone)
	d.windows(100, 300*time.Millisecond)
	d.windows(100, 20*time.Second)
	list := d.decisions(KindHold)
	if len(list) < 2*Bands {
		t.Fatalf("%d decisions about hold times, want at least two for each band", len(list))
	}
	right, settled := 0, 0
	for _, x := range list {
		if x.From == x.To || x.Where >= Bands || !x.Applied {
			t.Errorf("%+v", x)
		}
		if x.Outcome != OutcomeOpen {
			settled++
		}
		if x.Outcome == OutcomeRight {
			right++
		}
	}
	if last := list[len(list)-1]; last.To > 0.5 {
		t.Errorf("the last decision is %+v, want a short hold time", last)
	}
	if settled < len(list)/2 || right < settled/2 {
		t.Errorf("of %d decisions the outcome of %d is known, and %d were right", len(list), settled, right)
	}
	if s := d.l.Strategy(); s != (Strategy{1, 1}) {
		t.Errorf("the strategy is %+v: nobody decides", s)
	}
}

// TestLearnerP99: the Evolution gets the p99 of a window.
func TestLearnerP99(t *testing.T) {
	d := newDemand(EvolutionAuto, DecideNone)
	for range 60 { // the first half of LEARN does not count
		d.now += WindowTime
		d.l.Window(d.m, Report{End: d.now, P99: 700})
	}
	if got := d.l.Evolution().Snapshot().P99.Last; got != 700 {
		t.Errorf("the Evolution has a p99 of %g ns, want 700", got)
	}
}

// TestLearnerOnlyNotes: where pages are kept for a fixed time, it is noted what would have been decided, and
// what would have come of it.
func TestLearnerOnlyNotes(t *testing.T) {
	d := newDemand(EvolutionLearn, DecideNone)
	d.fixed = true
	d.windows(100, 300*time.Millisecond)
	d.windows(100, 20*time.Second)
	settled := 0
	for _, x := range d.decisions(KindHold) {
		if x.Applied || !strings.Contains(x.Sentence(), "would have gone") {
			t.Errorf("%s", x.Sentence())
		}
		if x.Outcome != OutcomeOpen {
			settled++
		}
	}
	if settled == 0 {
		t.Error("the outcome of no decision is known")
	}
}

// TestLearnerLeader: where caches move much for little memory, the strategies with twice the budget lead. The
// leader is put in force if it decides, and only noted if it does not.
func TestLearnerLeader(t *testing.T) {
	for _, deciding := range []Deciding{DecideNone, DecideLeader} {
		d := newDemand(EvolutionLearn, deciding)
		d.cache, d.held = 10, 1e-6
		d.windows(3*matchWindows, time.Second)
		lead := Strategies[d.l.Board().Leader()]
		if lead.Budget != 2 {
			t.Errorf("%v: %+v leads, want twice the budget", deciding, lead)
		}
		want := Strategy{1, 1}
		if deciding == DecideLeader {
			want = lead
		}
		if s := d.l.Strategy(); s != want {
			t.Errorf("%v: the strategy is %+v, want %+v", deciding, s, want)
		}
		list := d.decisions(KindLeader)
		if len(list) == 0 || list[0].Applied != (deciding == DecideLeader) {
			t.Errorf("%v: decisions about the leader: %+v", deciding, list)
		}
	}
}

// TestLearnerReal: in real matches two strategies are used in turns.
func TestLearnerReal(t *testing.T) {
	d := newDemand(EvolutionLearn, DecideReal)
	used := map[Strategy]int{}
	for range 4 * matchWindows {
		d.windows(1, time.Second)
		s := d.l.Strategy()
		used[s]++
		d.l.Window(d.m, Report{End: d.now, Real: Sample{CPU: 1 / s.Budget, Faults: 1, Memory: 1}})
	}
	if len(used) < 2 {
		t.Errorf("used were %v", used)
	}
	n := uint64(0)
	for _, s := range d.l.Board().Ranking() {
		n += s.Samples
	}
	if n < 4*matchWindows {
		t.Errorf("the board has %d samples", n)
	}
}

// TestLearnerLifeCycle: by the policy auto, hold times are frozen when they have settled; demand of another
// kind makes them learnt again.
func TestLearnerLifeCycle(t *testing.T) {
	d := newDemand(EvolutionAuto, DecideNone)
	d.windows(200, 1200*time.Millisecond)
	if mode := d.l.Evolution().Mode(); mode != ModeFrozen {
		t.Fatalf("%v after 400 s of the same", mode)
	}
	hold := d.m.Mean()
	d.windows(2, 20*time.Second)
	if d.m.Mean() != hold {
		t.Errorf("the hold time went from %v to %v while frozen", hold, d.m.Mean())
	}
	d.windows(40, 20*time.Second)
	if c := d.l.Evolution().Snapshot().Relearns; c == 0 || d.m.Mean() > hold/2 {
		t.Errorf("learnt again %d times; the hold time is %v, was %v", c, d.m.Mean(), hold)
	}
	list := d.decisions(KindEvolution)
	if len(list) < 2 || list[0].Why != CauseSettled || list[1].Why != CauseDearer {
		t.Errorf("decisions about the mode: %+v", list)
	}
	for _, x := range list {
		if s := x.Sentence(); !strings.Contains(s, "mode") {
			t.Errorf("%q", s)
		}
	}
}

// TestLearnerFrozen: by the policy frozen nothing is learnt, from the first window on.
func TestLearnerFrozen(t *testing.T) {
	d := newDemand(EvolutionFrozen, DecideLeader)
	hold := d.m.Mean()
	d.windows(1, time.Second) // a Learner freezes its Model in the first window
	d.m.Restore(New(d.m.Costs()).Snapshot())
	d.windows(200, 20*time.Second)
	if d.m.Mean() != hold || d.l.Strategy() != (Strategy{1, 1}) {
		t.Errorf("the hold time is %v, was %v; the strategy is %+v", d.m.Mean(), hold, d.l.Strategy())
	}
}

// TestLearnerCanary: a leader that promises to be cheaper is tried on some chunks while everything is
// frozen, and adopted if it is.
func TestLearnerCanary(t *testing.T) {
	for _, test := range []struct {
		name    string
		every   uint32 // one in so many waits takes 8 s
		succeed bool
	}{
		{"nothing is better", 1 << 20, false},
		{"half the time is better", 8, true},
	} {
		d := newDemand(EvolutionAuto, DecideLeader)
		d.windows(200, 900*time.Millisecond)
		if mode := d.l.Evolution().Mode(); mode != ModeFrozen {
			t.Fatalf("%s: %v after 400 s of the same", test.name, mode)
		}
		hold := d.m.Mean()
		for range 400 {
			for page := range uint32(demandPages) {
				wait := 300 * time.Millisecond
				if page%test.every == 1 {
					wait = 8 * time.Second
				}
				d.m.Waited(page, 1, wait)
			}
			d.now += WindowTime
			d.m.Tick(d.now)
			d.l.Window(d.m, Report{End: d.now, Pages: 65536.0 / (1 << 30)})
		}
		c := d.l.Evolution().Snapshot().EvolutionCounts
		if (c.CanarySuccesses > 0) != test.succeed || c.Relearns > 0 {
			t.Errorf("%s: %+v, strategy %+v, dearness %.2f", test.name, c, d.l.Strategy(), d.l.Evolution().Snapshot().Cost.Last)
		}
		if test.succeed && d.m.Mean() >= hold {
			t.Errorf("%s: the hold time is %v, was %v", test.name, d.m.Mean(), hold)
		}
		if n := len(d.decisions(KindEvolution)); test.succeed && n < 3 {
			t.Errorf("%s: %d changes of the mode are noted, want three", test.name, n)
		}
	}
}

func TestNotePrice(t *testing.T) {
	d := newDemand(EvolutionLearn, DecideNone)
	for _, p := range []float64{0.1, 0.1, 0.2, 0.2, 0.1} {
		d.l.NotePrice(p)
	}
	if list := d.decisions(KindPrice); len(list) != 2 || list[0].To != 0.2 || list[1].To != 0.1 {
		t.Errorf("%+v", list)
	}
	d.l.NoteLane(7, true)
	d.l.NoteLane(8, false)
	if list := d.decisions(KindLane); len(list) != 2 || list[0].Where != 7 || list[0].To != 1 || list[1].Where != 8 || list[1].To != 0 {
		t.Errorf("%+v", list)
	}
	d.l.NoteBudget(1<<20, 2<<20)
	if list := d.decisions(KindBudget); len(list) != 1 || list[0].To != 2<<20 {
		t.Errorf("%+v", list)
	}
}
