package learn

import (
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
)

// wmaxAt returns what a WMax has learnt in n windows that cost unit with factor 1, and share of that with the
// best factor.
func wmaxAt(n int, best, unit, share float64) WMaxSnapshot {
	w := NewWMax()
	for range n {
		cost := unit
		if w.Factor(true) == best {
			cost *= share
		}
		w.Lived(4, 2)
		w.Window(WMaxWindow{Seconds: 1, Misses: 1000, CPU: cost})
	}
	return w.Snapshot()
}

// batchAt is wmaxAt for a kind of batch.
func batchAt(kind uint32, n int, best, unit, share float64) BatchSnapshot {
	b := NewBatch(kind)
	for range n {
		cost := unit
		if BatchFactors[b.Arm(true)] == best {
			cost *= share
		}
		b.Window(cost)
	}
	return b.Snapshot()
}

// boardAt returns a board on which n windows were recorded in which a strategy is the best.
func boardAt(seed uint64, best, n int) BoardSnapshot {
	b := NewBoard(seed)
	for range n {
		var window [nStrategies]Sample
		for i := range window {
			window[i] = Sample{CPU: 1, Faults: 10, Memory: 1}
		}
		window[best].CPU = 0.8
		b.Record(window)
	}
	return b.Snapshot()
}

// withFactors returns a Snapshot that has everything of which a bandit or a board decides.
func withFactors() Snapshot {
	s := New(testCosts).Snapshot()
	w, board := wmaxAt(60, 1.5, 1e-3, 0.5), boardAt(1, 5, 100)
	s.WMax, s.Board = &w, &board
	s.Batches = []BatchSnapshot{batchAt(0, 60, 2, 20e-9, 0.5), batchAt(3, 60, 0.5, 1e-6, 0.5)}
	return s
}

// TestFactorsInFiles: what is known of factors passes through a policy file, and a process that reads it begins
// with the factors that were adopted. A file without them is read as before.
func TestFactorsInFiles(t *testing.T) {
	s := withFactors()
	got, err := ReadSnapshot(strings.NewReader(fileOf(t, s)))
	if err != nil || !reflect.DeepEqual(got, s) {
		t.Fatalf("%v, got\n%+v\nwant\n%+v", err, got, s)
	}
	w := NewWMax()
	w.Lived(3, 1)
	if err := w.Restore(*got.WMax); err != nil || w.Adopted() != 1.5 || w.Factor(false) != 1.5 || !reflect.DeepEqual(w.Snapshot(), *s.WMax) {
		t.Errorf("%v, factor %g is adopted, want 1.5; the mean life is %g s", err, w.Adopted(), w.Life())
	}
	for i, want := range []float64{2, 0.5} {
		b := NewBatch(s.Batches[i].Kind)
		if err := b.Restore(got.Batches[i]); err != nil || b.Adopted() != want || BatchFactors[b.Arm(false)] != want || !reflect.DeepEqual(b.Snapshot(), s.Batches[i]) {
			t.Errorf("batches %d: %v, factor %g is adopted, want %g", i, err, b.Adopted(), want)
		}
	}
	if err := NewBatch(2).Restore(got.Batches[0]); err == nil || !strings.Contains(err.Error(), "of kind 0, want 2") {
		t.Errorf("another kind of batch: %v", err)
	}
	text := fileOf(t, New(testCosts).Snapshot())
	for _, name := range []string{"WMax", "Batches", "Board"} {
		if strings.Contains(text, name) {
			t.Errorf("a file without %s mentions it", name)
		}
	}
	if got, err := ReadSnapshot(strings.NewReader(text)); err != nil || got.WMax != nil || got.Batches != nil || got.Board != nil {
		t.Errorf("a file without factors: %v, %+v", err, got)
	}
}

// TestFactorsGoOn: a window that is counted right after Restore counts for the factor that was restored.
func TestFactorsGoOn(t *testing.T) {
	b := NewBatch(0)
	if err := b.Restore(batchAt(0, 60, 2, 1, 0.5)); err != nil {
		t.Fatal(err)
	}
	before := b.Snapshot().Arms
	b.Window(0.5)
	for arm, a := range b.Snapshot().Arms {
		if more := a.Plays - before[arm].Plays; (more == 1) != (BatchFactors[arm] == 2) {
			t.Errorf("%d more plays of factor %g", more, BatchFactors[arm])
		}
	}
}

// TestFactorsDamaged: what cannot be is refused, with what is wrong, and changes nothing.
func TestFactorsDamaged(t *testing.T) {
	for says, damage := range map[string]func(s *Snapshot){
		"W_MAX: the policy file has the factors [1 1.25 1.5 3], this hakmem has [1 1.25 1.5 1.75]: export it again": func(s *Snapshot) { s.WMax.Factors[3] = 3 },
		"W_MAX: the policy file has the factors []":                                                                 func(s *Snapshot) { s.WMax.Factors = nil },
		"W_MAX: learn: the snapshot has adopted arm 4 of 4":                                                         func(s *Snapshot) { s.WMax.Adopted = 4 },
		"W_MAX: learn: the snapshot has adopted arm -1 of 4":                                                        func(s *Snapshot) { s.WMax.Adopted = -1 },
		"W_MAX: learn: the snapshot has 3 arms, want 4":                                                             func(s *Snapshot) { s.WMax.Arms = s.WMax.Arms[1:] },
		"W_MAX: 3 blocks lived for -1 s":                                                                            func(s *Snapshot) { s.WMax.Lived, s.WMax.Died = -1, 3 },
		"W_MAX: NaN blocks":                                                                                         func(s *Snapshot) { s.WMax.Died = math.NaN() },
		"batches of kind 3: learn: the snapshot has adopted arm 3 of 3":                                             func(s *Snapshot) { s.Batches[1].Adopted = 3 },
		"batches of kind 0: learn: arm 1 of the snapshot cannot be":                                                 func(s *Snapshot) { s.Batches[0].Arms[1].Mean = -1 },
		"batches of kind 3: the policy file has the factors [1 0.5], this hakmem has":                               func(s *Snapshot) { s.Batches[1].Factors = s.Batches[1].Factors[:2] },
		"batches of kind 4: there are kinds 0 to 3":                                                                 func(s *Snapshot) { s.Batches[1].Kind = 4 },
		"batches of kind 0: it is there twice":                                                                      func(s *Snapshot) { s.Batches[1].Kind = 0 },
		"the snapshot has other strategies, of the board":                                                           func(s *Snapshot) { s.Board.Strategies[2].Budget = 3 },
		"points, want 18000, of the board":                                                                          func(s *Snapshot) { s.Board.Standings[2].Rating++ },
	} {
		s := withFactors()
		damage(&s)
		if err := s.Check(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want an error that says %q", err, says)
		}
		if _, err := New(testCosts).Snapshot().Merge(s); err == nil {
			t.Errorf("%s: it can be merged", says)
		}
		w, was := NewWMax(), NewWMax().Snapshot()
		if err := w.Restore(*s.WMax); err != nil && !reflect.DeepEqual(w.Snapshot(), was) {
			t.Errorf("%s: what was refused has changed the model", says)
		}
		for _, k := range s.Batches {
			b, was := NewBatch(k.Kind), NewBatch(k.Kind).Snapshot()
			if err := b.Restore(k); err != nil && !reflect.DeepEqual(b.Snapshot(), was) {
				t.Errorf("%s: what was refused has changed a model", says)
			}
		}
	}
	text := fileOf(t, withFactors())
	for says, replaced := range map[string][2]string{
		"adopted arm 9 of 4":            {`"Adopted": 2`, `"Adopted": 9`},
		"cannot unmarshal string":       {`"Adopted": 2`, `"Adopted": "two"`},
		"factors [1 1.25 1.5 100]":      {"1.75", "100"},
		"cannot unmarshal number -1 in": {`"Kind": 0`, `"Kind": -1`},
	} {
		bad := strings.Replace(text, replaced[0], replaced[1], 1)
		if _, err := ReadSnapshot(strings.NewReader(bad)); bad == text || err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("a file with %s: %v, want it to say %q", replaced[1], err, says)
		}
	}
}

// TestMergeFactors: what was played more often counts more, whatever the costs of the machines.
func TestMergeFactors(t *testing.T) {
	fresh := NewWMax().Snapshot()
	for _, test := range []struct {
		name string
		a, b WMaxSnapshot
		want float64
	}{
		// On a slow machine the best factor takes longer than the others do on a fast one.
		{"many windows on a fast machine", wmaxAt(400, 1.5, 1e-6, 0.5), wmaxAt(40, 1.25, 1, 0.5), 1.5},
		{"many windows on a slow machine", wmaxAt(40, 1.25, 1e-6, 0.5), wmaxAt(400, 1.5, 1, 0.5), 1.5},
		{"more windows on a slow machine", wmaxAt(100, 1.25, 1e-6, 0.5), wmaxAt(300, 1.5, 1, 0.5), 1.5},
		{"they agree", wmaxAt(100, 1.75, 1e-3, 0.5), wmaxAt(90, 1.75, 1e-4, 0.6), 1.75},
		{"one is best by far", wmaxAt(100, 1.25, 1e-3, 0.9), wmaxAt(100, 1.75, 1e-4, 0.1), 1.75},
		{"the first has seen nothing", fresh, wmaxAt(40, 1.5, 1, 0.5), 1.5},
		{"the second has seen nothing", wmaxAt(40, 1.5, 1, 0.5), fresh, 1.5},
		{"nothing costs anything in one", wmaxAt(10, 1.25, 0, 0), wmaxAt(40, 1.5, 1, 0.5), 1.5},
		{"costs are too far apart", wmaxAt(10, 1.25, 1e-300, 0.5), wmaxAt(40, 1.5, 1e17, 0.5), 1.5},
	} {
		for _, order := range [][2]*WMaxSnapshot{{&test.a, &test.b}, {&test.b, &test.a}} {
			m := order[0].merge(order[1])
			if err := m.check(); err != nil || m.Factor() != test.want {
				t.Errorf("%s: factor %g, want %g: %v", test.name, m.Factor(), test.want, err)
			}
		}
	}
	a := wmaxAt(100, 1.75, 1e-3, 0.5)
	same := a.merge(&a)
	for i, arm := range same.Arms {
		if math.Abs(arm.Mean-a.Arms[i].Mean) > 1e-12 || math.Abs(arm.Weight-a.Arms[i].Weight) > 1e-9 || arm.Plays != 2*a.Arms[i].Plays {
			t.Errorf("merged with itself, arm %d is %+v, was %+v", i, arm, a.Arms[i])
		}
	}
	if same.Lived != a.Lived || same.Died != a.Died {
		t.Errorf("merged with itself, %g blocks lived for %g s, were %g for %g", same.Died, same.Lived, a.Died, a.Lived)
	}
	if (*WMaxSnapshot)(nil).merge(&a) != &a || a.merge(nil) != &a {
		t.Error("merged with nothing it is another one")
	}
}

// TestWeighedSpread: what varies in two snapshots together is the variance of all plays.
func TestWeighedSpread(t *testing.T) {
	arm := func(costs ...float64) (s BanditArm) {
		var a banditArm
		for _, c := range costs {
			a.add(c)
		}
		return BanditArm{a.plays, a.weight, a.squares, a.mean, a.spread}
	}
	got, all := arm(1, 2, 6).weighed(arm(4, 9, 5), 0.5), arm(1, 2, 6, 4, 9, 5)
	if got.Plays != 6 || math.Abs(got.Mean-all.Mean) > 1e-12 || math.Abs(got.Spread/got.Weight-all.Spread/all.Weight) > 1e-12 || !got.valid() {
		t.Errorf("%+v, want half of %+v", got, all)
	}
	if got := arm().weighed(arm(), 0.5); got != (BanditArm{}) {
		t.Errorf("nothing and nothing is %+v", got)
	}
}

// TestMergeBatches: each kind for itself; what only one file says is kept.
func TestMergeBatches(t *testing.T) {
	a, b := New(testCosts).Snapshot(), New(testCosts).Snapshot()
	a.Batches = []BatchSnapshot{batchAt(0, 100, 2, 1e-8, 0.5), batchAt(3, 60, 0.5, 1e-6, 0.5)}
	b.Batches = []BatchSnapshot{batchAt(2, 50, 0.5, 1e-6, 0.5), batchAt(0, 40, 0.5, 1e-6, 0.5)}
	both, err := a.Merge(b)
	if err != nil || len(both.Batches) != 3 {
		t.Fatalf("%v, %+v", err, both.Batches)
	}
	for i, want := range []struct {
		kind   uint32
		factor float64
		plays  uint64
	}{{0, 2, 140}, {2, 0.5, 50}, {3, 0.5, 60}} {
		if s := both.Batches[i]; s.Kind != want.kind || s.Factor() != want.factor || s.Plays() != want.plays {
			t.Errorf("kind %d has the factor %g, by %d plays, want %+v", s.Kind, s.Factor(), s.Plays(), want)
		}
	}
	if a.Batches[0].Plays() != 100 {
		t.Error("a merge has changed its input")
	}
}

// TestMergeBoards: boards count by their matches, and what comes of it is a board.
func TestMergeBoards(t *testing.T) {
	many, few := boardAt(1, 5, 300), boardAt(2, 7, 80)
	for _, order := range [][2]*BoardSnapshot{{&many, &few}, {&few, &many}} {
		m := order[0].merge(order[1])
		if err := NewBoard(1).Restore(*m); err != nil || m.Leader() != Strategies[5] || m.Matches() != many.Matches()+few.Matches() {
			t.Errorf("%v: %+v leads after %d matches, want %+v after %d", err, m.Leader(), m.Matches(), Strategies[5], many.Matches()+few.Matches())
		}
	}
	fresh := NewBoard(3).Snapshot()
	if fresh.merge(&few) != &few || few.merge(&fresh) != &few || few.merge(nil) != &few || (*BoardSnapshot)(nil).merge(&few) != &few {
		t.Error("merged with one on which nothing was played a board is another one")
	}
	if many.Matches() == 0 || few.Leader() != Strategies[7] {
		t.Errorf("%d matches, %+v leads", many.Matches(), few.Leader())
	}
}

// TestRestoreBoard: the leader of a board that is restored is in force at once where it decides, and stays in
// force while nothing is learnt.
func TestRestoreBoard(t *testing.T) {
	for _, test := range []struct {
		evo      EvolutionPolicy
		deciding Deciding
		want     int
	}{
		{EvolutionLearn, DecideLeader, 5},
		{EvolutionFrozen, DecideLeader, 5},
		{EvolutionLearn, DecideNone, 0},
		{EvolutionOff, DecideLeader, 0},
	} {
		d := newDemand(test.evo, test.deciding)
		if err := d.l.RestoreBoard(boardAt(1, 5, 300)); err != nil {
			t.Fatal(err)
		}
		if d.l.Strategy() != Strategies[test.want] {
			t.Errorf("%v, %v: %+v is in force, want %+v", test.evo, test.deciding, d.l.Strategy(), Strategies[test.want])
		}
		n := 1 // the first window of LEARN does not change who leads
		if test.evo == EvolutionFrozen {
			n = 200
		}
		d.windows(n, 3*time.Second)
		if d.l.Strategy() != Strategies[test.want] {
			t.Errorf("%v, %v: after %d windows %+v is in force, want %+v", test.evo, test.deciding, n, d.l.Strategy(), Strategies[test.want])
		}
		for _, x := range d.l.State().Decisions {
			if x.Kind == KindLeader && n == 1 {
				t.Errorf("%v, %v: another leader is noted: %+v", test.evo, test.deciding, x)
			}
		}
	}
	l := NewLearner(EvolutionLearn, DecideLeader, 1)
	bad := boardAt(1, 5, 300)
	bad.Standings = bad.Standings[1:]
	if err := l.RestoreBoard(bad); err == nil || l.Strategy() != Strategies[0] {
		t.Errorf("a damaged board: %v, %+v is in force", err, l.Strategy())
	}
}
