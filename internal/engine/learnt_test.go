package engine

import (
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hakmem/hakmem/internal/learn"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/policy"
	"github.com/hakmem/hakmem/internal/site"
)

// TestStateNamesSites: a decision about the lane of a site comes with the site's name.
func TestStateNamesSites(t *testing.T) {
	needSites(t)
	c := withClock(t)
	withLearner(t, learn.EvolutionLearn, learn.DecideNone)
	forgetLifetimes(t)
	waits(t, c.Advance, 2, 2500*time.Millisecond)
	s := laneSite(t, "named", LaneLong)
	waits(t, c.Advance, 2, 2500*time.Millisecond)
	state, ok := LearnerState()
	if !ok {
		t.Fatal("the scavenger hangs")
	}
	name, _, _ := site.Read(s)
	for _, d := range state.Decisions {
		if d.Kind == learn.KindLane && d.Where == uint32(s) {
			if got := state.Sites[d.Where]; got != name {
				t.Errorf("the site %d has the name %q, want %q", s, got, name)
			}
			return
		}
	}
	t.Errorf("no decision is about the site %d: %+v", s, state.Decisions)
}

// playedWMax and playedBatch return what is known after 60 windows in which one factor was the cheapest.
func playedWMax(best float64) *learn.WMaxSnapshot {
	w := learn.NewWMax()
	for range 60 {
		cost := 1.
		if w.Factor(true) == best {
			cost = 0.5
		}
		w.Window(learn.WMaxWindow{Seconds: 1, Misses: 1000, CPU: cost})
	}
	s := w.Snapshot()
	return &s
}

func playedBatch(k batchKind, best float64) learn.BatchSnapshot {
	b := learn.NewBatch(uint32(k))
	for range 60 {
		cost := 1.
		if learn.BatchFactors[b.Arm(true)] == best {
			cost = 0.5
		}
		b.Window(cost)
	}
	return b.Snapshot()
}

// playedBoard returns how strategies stand after 200 windows in which one was the cheapest.
func playedBoard(best int) *learn.BoardSnapshot {
	b := learn.NewBoard(1)
	for range 200 {
		window := [len(learn.Strategies)]learn.Sample{}
		for i := range window {
			window[i].CPU = 1
		}
		window[best].CPU = 0.5
		b.Record(window)
	}
	s := b.Snapshot()
	return &s
}

// TestFactorsImported: what a policy file says of W_MAX, of batches and of strategies is in force as soon as it
// is read, while learning and frozen. Frozen it stays so, whatever windows cost. What is exported later goes
// on from there, also where the settings do not play it.
func TestFactorsImported(t *testing.T) {
	if !learning {
		t.Skip("skipped: nothing is learnt in this build")
	}
	for _, evo := range []learn.EvolutionPolicy{learn.EvolutionLearn, learn.EvolutionFrozen} {
		t.Run(evo.String(), func(t *testing.T) {
			c := withClock(t)
			withBatch(t)
			withLearner(t, evo, learn.DecideLeader)
			withWMax(t, policy.WMaxAuto)
			const leader = 5 // half of the hold times, twice the budget
			s := Learnt()
			if s.WMax != nil || s.Batches != nil || s.Board != nil {
				t.Fatalf("before anything was played: %+v, %+v, %+v", s.WMax, s.Batches, s.Board)
			}
			_, before := budgetNow(t)
			holds := holdNow()
			s.WMax, s.Board = playedWMax(1.5), playedBoard(leader)
			s.Batches = []learn.BatchSnapshot{playedBatch(batchTiny, 2), playedBatch(batchScan, 0.5)}
			if err := Learn(s); err != nil {
				t.Fatal(err)
			}
			inForce := func(when string) {
				t.Helper()
				tiny, mid, scan := batchTurn(batchTiny).times(64), batchTurn(batchMid).times(64), batchTurn(batchScan).times(64)
				if f := widest(0); f != 1.5 || tiny != 128 || mid != 64 || scan != 32 {
					t.Errorf("%s: W_MAX %g, batches %d, %d and %d of 64", when, f, tiny, mid, scan)
				}
				factor, _ := budgetNow(t)
				held := float64(holdNow()) / float64(holds)
				if want := learn.Strategies[leader]; factor != want.Budget || math.Abs(held-want.Hold) > 0.01 {
					t.Errorf("%s: the budget is multiplied by %g and hold times by %g, want %+v", when, factor, held, want)
				}
			}
			inForce("after the import")
			if _, limit := budgetNow(t); limit != 2*before {
				t.Errorf("caches may hold %d bytes, could hold %d before", limit, before)
			}
			again := Learnt()
			if !reflect.DeepEqual(again.WMax, s.WMax) || !reflect.DeepEqual(again.Batches, s.Batches) || !reflect.DeepEqual(again.Board, s.Board) {
				t.Errorf("exported:\n%+v\n%+v\n%+v\nwant\n%+v\n%+v\n%+v", again.WMax, again.Batches, again.Board, s.WMax, s.Batches, s.Board)
			}
			windows := func(n int) {
				for range n {
					wider.misses.Add(1000)
					if f := widest(0); f == 1.5 {
						wider.nanos.Add(1_000_000_000)
					}
					waits(t, c.Advance, 1, 2100*time.Millisecond)
				}
			}
			if evo == learn.EvolutionFrozen {
				windows(20)
				inForce("after 20 windows in which nothing is learnt")
				if again := Learnt(); !reflect.DeepEqual(again.WMax, s.WMax) || !reflect.DeepEqual(again.Batches, s.Batches) {
					t.Error("what is known has changed")
				}
			} else {
				windows(80)
				if again := Learnt(); again.WMax.Plays() <= s.WMax.Plays() || again.WMax.Factor() == 1.5 {
					t.Errorf("after 80 windows in which it is dear, factor %g is adopted, by %d plays", again.WMax.Factor(), again.WMax.Plays())
				}
			}
			// A Learner that takes the place of this one, because of another setting, knows the file.
			tune(t, func(p *policy.Tuning) { p.Elo, p.WMax, p.Batch = learn.DecideNone, 0, policy.BatchFixed })
			if again := Learnt(); !reflect.DeepEqual(again.Board, s.Board) || again.WMax == nil || len(again.Batches) != 2 {
				t.Errorf("with other settings:\n%+v\n%+v\n%+v", again.WMax, again.Batches, again.Board)
			}
			if f := widest(0); f != 1 {
				t.Errorf("W_MAX is off, and %g", f)
			}
			mustHold(t)
		})
	}
}

// holdNow returns for how long free pages are kept on average.
func holdNow() time.Duration {
	region.mu.Lock()
	defer region.mu.Unlock()
	return meanHold()
}

// budgetNow returns the factor of the budget, and what caches may hold.
func budgetNow(t *testing.T) (factor float64, limit mem.Bytes) {
	t.Helper()
	if !scavenger.lock() {
		t.Fatal("the scavenger is held")
	}
	defer scavenger.unlock()
	scavenger.moving.Lock()
	defer scavenger.moving.Unlock()
	_, limit = inCaches()
	return budget.factor, limit
}

// TestFactorsRefused: a policy file with factors that cannot be changes nothing, and one without them leaves
// those that there are.
func TestFactorsRefused(t *testing.T) {
	withClock(t)
	withBatch(t)
	withWMax(t, policy.WMaxAuto)
	s := Learnt()
	s.WMax, s.Batches, s.Board = playedWMax(1.5), []learn.BatchSnapshot{playedBatch(batchMid, 2)}, playedBoard(2)
	if err := Learn(s); err != nil {
		t.Fatal(err)
	}
	for says, damage := range map[string]func(s *learn.Snapshot){
		"adopted arm 9 of 4":    func(s *learn.Snapshot) { s.WMax.Adopted = 9 },
		"there are kinds 0 to":  func(s *learn.Snapshot) { s.Batches[0].Kind = batchKinds },
		"has other strategies,": func(s *learn.Snapshot) { s.Board.Strategies = nil },
	} {
		bad := Learnt()
		bad.WMax, bad.Batches, bad.Board = playedWMax(1.25), []learn.BatchSnapshot{playedBatch(batchMid, 0.5)}, playedBoard(3)
		damage(&bad)
		if err := Learn(bad); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want an error that says %q", err, says)
		}
		if again := Learnt(); again.WMax.Factor() != 1.5 || again.Batches[0].Factor() != 2 || again.Board.Leader() != learn.Strategies[2] {
			t.Errorf("%s: a file that was refused has changed something", says)
		}
	}
	without := Learnt()
	without.WMax, without.Batches, without.Board = nil, nil, nil
	if err := Learn(without); err != nil {
		t.Fatal(err)
	}
	if again := Learnt(); !reflect.DeepEqual(again.WMax, s.WMax) || !reflect.DeepEqual(again.Batches, s.Batches) || !reflect.DeepEqual(again.Board, s.Board) {
		t.Error("a file without factors has changed them")
	}
}
