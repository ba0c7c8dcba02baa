package engine

import (
	"testing"
	"time"

	"github.com/hakmem/hakmem/internal/learn"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/policy"
)

// withLearner begins anew with what stands above the models, until the test ends.
func withLearner(t *testing.T, e learn.EvolutionPolicy, d learn.Deciding) {
	t.Helper()
	if !learning {
		t.Skip("skipped: nothing is learnt in this build")
	}
	tune(t, func(p *policy.Tuning) { p.Evo, p.Elo = e, d })
	if !scavenger.lock() {
		t.Fatal("the scavenger is held")
	}
	defer scavenger.unlock()
	learner.Learner, learner.windowAt, learner.imported, lastUse.cpu = nil, 0, nil, 0
}

// waits lets n peaks of 16 MiB pass, so long apart.
func waits(t *testing.T, advance func(time.Duration), n int, apart time.Duration) {
	t.Helper()
	for range n {
		freeBlocks(t, fillBytes(t, 16*mebibyte, mebibyte))
		advance(apart)
	}
}

// TestLearnWindow: the engine reports windows to the Learner, and what it decides can be read.
func TestLearnWindow(t *testing.T) {
	c := withClock(t)
	withLearner(t, learn.EvolutionLearn, learn.DecideNone)
	waits(t, c.Advance, 60, 400*time.Millisecond)
	waits(t, c.Advance, 30, 30*time.Second)
	s, ok := LearnerState()
	if !ok {
		t.Fatal("the scavenger hangs")
	}
	if n := s.Evolution.Windows; n < 20 {
		t.Errorf("%d windows", n)
	}
	if s.Board[0].Samples == 0 {
		t.Errorf("the board saw nothing: %+v", s.Board[0])
	}
	hold := false
	for _, d := range s.Decisions {
		hold = hold || d.Kind == learn.KindHold && d.To < d.From
	}
	if !hold {
		t.Errorf("no decision for a shorter hold time among %d", len(s.Decisions))
	}
	if m := s.Memory; m.Price != 0.1 || m.Even < 2 || m.Hold > 1 {
		t.Errorf("%+v", m)
	}
	if s.Strategy != (learn.Strategy{Hold: 1, Budget: 1}) {
		t.Errorf("the strategy is %+v", s.Strategy)
	}
}

// TestEvoSettings: off keeps free memory for the break-even time, frozen for as long as was learnt before.
func TestEvoSettings(t *testing.T) {
	for _, test := range []struct {
		policy learn.EvolutionPolicy
		want   func(before, after, even time.Duration) bool
	}{
		{learn.EvolutionOff, func(_, after, even time.Duration) bool { return after == even }},
		{learn.EvolutionFrozen, func(before, after, _ time.Duration) bool { return after == before }},
		{learn.EvolutionLearn, func(before, after, _ time.Duration) bool { return after < before/2 }},
	} {
		t.Run(test.policy.String(), func(t *testing.T) {
			c := withClock(t)
			withLearner(t, learn.EvolutionLearn, learn.DecideNone)
			waits(t, c.Advance, 40, 700*time.Millisecond)
			look := func() (hold, even time.Duration) {
				region.mu.Lock()
				defer region.mu.Unlock()
				return meanHold(), keptModel().Costs().BreakEven()
			}
			before, _ := look()
			tune(t, func(p *policy.Tuning) { p.Evo = test.policy })
			waits(t, c.Advance, 3, 700*time.Millisecond) // until the next window has ended
			if test.policy == learn.EvolutionFrozen {
				before, _ = look()
			}
			waits(t, c.Advance, 25, 30*time.Second)
			if after, even := look(); !test.want(before, after, even) {
				t.Errorf("free pages are kept for %v, were for %v; break-even is %v", after, before, even)
			}
		})
	}
}

// useCPU keeps the processor busy until the system has counted it: a window without counts for no match.
func useCPU(t *testing.T) {
	t.Helper()
	began := time.Now()
	for before := osmem.ProcessCPU(); osmem.ProcessCPU() <= before; {
		if time.Since(began) > time.Second {
			t.Skip("skipped: the system does not say how much CPU time the process used")
		}
	}
}

// TestBudgetOfStrategy: with the leader in force, or in real matches, the budget of the caches follows the
// strategy.
func TestBudgetOfStrategy(t *testing.T) {
	c := withClock(t)
	withLearner(t, learn.EvolutionLearn, learn.DecideReal)
	seen := map[learn.Strategy]bool{}
	for range 40 {
		useCPU(t)
		waits(t, c.Advance, 1, 2500*time.Millisecond)
		if !scavenger.lock() {
			t.Fatal("the scavenger is held")
		}
		s, factor := learner.Strategy(), budget.factor
		scavenger.unlock()
		if seen[s] = true; factor != s.Budget {
			t.Fatalf("the budget is multiplied by %g, the strategy is %+v", factor, s)
		}
	}
	if len(seen) != 2 {
		t.Errorf("in force were %v, want the two of a match", seen)
	}
}

// TestLearnerClock: the Learner's time goes on, also where the time of the models begins anew, and after a
// rest of hours.
func TestLearnerClock(t *testing.T) {
	c := withClock(t)
	withLearner(t, learn.EvolutionLearn, learn.DecideNone)
	c.Skip(1<<31*time.Millisecond - 4*time.Hour) // keptTime has 31 bits
	last := time.Duration(0)
	for i := range 12 {
		waits(t, c.Advance, 4, 2500*time.Millisecond)
		c.Skip(time.Hour)
		waits(t, c.Advance, 1, 2500*time.Millisecond)
		s, ok := LearnerState()
		if !ok || s.Evolution.Now <= last && i > 0 || s.Evolution.Age() < 0 {
			t.Fatalf("turn %d: the last window ended at %v, before at %v", i, s.Evolution.Now, last)
		}
		last = s.Evolution.Now
	}
}

// TestFrozenFromTheFirst: with the policy frozen nothing is learnt, from the first tick on.
func TestFrozenFromTheFirst(t *testing.T) {
	c := withClock(t)
	withLearner(t, learn.EvolutionFrozen, learn.DecideNone)
	hold := func() time.Duration {
		region.mu.Lock()
		defer region.mu.Unlock()
		return meanHold()
	}
	before := hold()
	for range 20 {
		waits(t, c.Advance, 1, 300*time.Millisecond)
		if after := hold(); after != before {
			t.Fatalf("free pages are kept for %v, were for %v", after, before)
		}
	}
}
