package learn

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// inFrozen returns an Evolution that is in FROZEN since 182 s, at 300 s.
func inFrozen(t *testing.T) *Evolution {
	t.Helper()
	e := NewEvolution(EvolutionAuto)
	drive(e, stage{300, usually})
	if e.Mode() != ModeFrozen {
		t.Fatal("not frozen after five minutes")
	}
	return e
}

// TestPropose: a candidate is tried if it promises to be cheaper by 8 %, in FROZEN only.
func TestPropose(t *testing.T) {
	for _, c := range []struct {
		predicted, current float64
		tried              bool
	}{
		{0.92, 1, true}, {0.5, 1, true}, {92e-9, 100e-9, true}, {0.921, 1, false}, {1, 1, false}, {2, 1, false},
		{0, 1, false}, {-1, 1, false}, {1, 0, false}, {math.NaN(), 1, false}, {1, math.NaN(), false}, {1, math.Inf(1), false},
	} {
		e := inFrozen(t)
		want := Transition{ModeFrozen, ModeFrozen, CauseNone}
		if c.tried {
			want = Transition{ModeFrozen, ModeCanary, CausePromise}
		}
		if tr := e.Propose(c.predicted, c.current); tr != want || e.Mode() != want.To {
			t.Errorf("%g in place of %g: %+v, want %+v", c.predicted, c.current, tr, want)
		}
		if tr := e.Propose(0.1, 1); c.tried && tr != (Transition{ModeCanary, ModeCanary, CauseNone}) {
			t.Errorf("another one during the trial: %+v", tr)
		}
	}
	if tr := NewEvolution(EvolutionAuto).Propose(0.5, 1); tr.Why != CauseNone {
		t.Errorf("in LEARN: %+v", tr)
	}
}

// TestCanaryShare: 5 % of the keys are the candidate's during a trial, others in the next one, and none
// outside. They play the same arms as all chunks.
func TestCanaryShare(t *testing.T) {
	const keys = 200_000
	e := inFrozen(t)
	if slices.ContainsFunc([]uint32{0, 1, 2, 3, 1 << 31}, e.Canary) {
		t.Error("a decision is the candidate's, and there is no trial")
	}
	chosen := func() map[uint32]bool {
		e.Propose(0.5, 1)
		set, run := map[uint32]bool{}, 0
		for k := range uint32(keys) {
			if e.Canary(k) {
				set[k] = true
			}
			if e.Canary(k) != set[k] {
				t.Fatalf("the answer for %d changes", k)
			}
			if run++; set[k] {
				run = 0
			}
			if run > 300 { // 0.95^300 is 2e-7
				t.Fatalf("none of the keys from %d to %d is the candidate's", k-300, k)
			}
		}
		if n := len(set); n < keys*48/1000 || n > keys*52/1000 {
			t.Errorf("%d of %d decisions are the candidate's, want 5 %%", n, keys)
		}
		return set
	}
	first := chosen()
	m, low := New(testCosts), 0
	median := func() time.Duration {
		var list []time.Duration
		for k := range uint32(keys) {
			list = append(list, m.Hold(k*ChunkPages))
		}
		slices.Sort(list)
		return list[keys/2]
	}()
	all := 0
	for k := range uint32(keys) {
		if m.Hold(k*ChunkPages) <= median {
			all++
			if first[k] {
				low++
			}
		}
	}
	if a, b := float64(low)/float64(len(first)), float64(all)/keys; math.Abs(a-b) > 0.03 {
		t.Errorf("%.3f of the candidate's chunks are kept for the median at most, and %.3f of all", a, b)
	}
	drive(e, stage{320, slower(3)}, stage{800, usually})
	if e.Mode() != ModeFrozen {
		t.Fatal("not frozen again")
	}
	both := 0
	for k := range chosen() {
		if first[k] {
			both++
		}
	}
	if both < keys/1000 || both > keys*4/1000 { // 5 % of 5 % are 2.5 in 1000
		t.Errorf("%d of %d keys are in both trials", both, keys)
	}
}

// course is how a trial goes.
type course struct {
	decisions int     // of the candidate in a window, on average. The rest has 19 times as many
	varies    float64 // the standard deviation of a decision's cost, as a share
	load      float64 // the same of what changes in each window for both
	costs     float64 // what a decision of the candidate costs, as a multiple of the rest's
	predicted float64 // what it is said to cost
}

// run tries a candidate, and returns how that ended and after how many windows. The mean of n decisions is
// lognormal, so that costs have a heavy tail.
func (c course) run(t *testing.T, seed uint64) (e *Evolution, tr Transition, windows int) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 6))
	lognormal := func(mean, varies float64) float64 {
		s := math.Sqrt(math.Log(1 + varies*varies))
		return mean * math.Exp(s*r.NormFloat64()-s*s/2)
	}
	tally := func(n int, costs float64) Tally {
		return Tally{float64(n) * lognormal(costs, c.varies/math.Sqrt(float64(n))), uint32(n)}
	}
	e = inFrozen(t)
	e.Propose(c.predicted, 1)
	for tr.Why == CauseNone {
		w := Window{End: e.now + step}
		usually(&w)
		load, n := lognormal(1, c.load), c.decisions/2+r.IntN(c.decisions)
		w.Candidate, w.Rest = tally(n, load*c.costs), tally(19*n, load)
		tr = e.Window(w)
		windows++
	}
	return e, tr, windows
}

// TestCanary: a candidate that is as cheap as was said is adopted, others are dropped.
func TestCanary(t *testing.T) {
	const seeds = 25
	for _, c := range []struct {
		name string
		course
		want Cause
	}{
		{"cheaper", course{500, 1, 0.1, 0.85, 0.85}, CauseConfirmed},
		{"cheaper, costs vary much", course{500, 2, 0.1, 0.85, 0.85}, CauseConfirmed},
		{"cheaper, few decisions", course{60, 1, 0.1, 0.85, 0.85}, CauseConfirmed},
		{"cheaper, load varies much", course{500, 1, 0.5, 0.85, 0.85}, CauseConfirmed},
		{"cheaper by the least promise", course{500, 1, 0.1, 0.92, 0.92}, CauseConfirmed},
		{"cheaper than was said", course{500, 1, 0.1, 0.5, 0.85}, CauseConfirmed},
		{"dearer", course{500, 1, 0.1, 1.15, 0.85}, CauseNotCheaper},
		{"much dearer", course{500, 1, 0.1, 5, 0.5}, CauseNotCheaper},
		{"dearer, few decisions", course{60, 1, 0.1, 1.15, 0.85}, CauseNotCheaper},
		{"cheaper by 15 %, said to be by half", course{500, 1, 0.1, 0.85, 0.5}, CauseMispredicted},
		{"as cheap by half as was said", course{60, 1, 0.5, 0.75, 0.5}, CauseMispredicted},
	} {
		longest := 0
		for seed := range uint64(seeds) {
			e, tr, windows := c.run(t, seed)
			longest = max(longest, windows)
			if tr != (Transition{ModeCanary, ModeFrozen, c.want}) || e.Mode() != ModeFrozen {
				t.Errorf("%s, seed %d: %+v, want %v", c.name, seed, tr, c.want)
			}
			want := EvolutionCounts{Windows: e.counts.Windows, Freezes: 1, Rollbacks: 1}
			if c.want == CauseConfirmed {
				want.Rollbacks, want.CanarySuccesses = 0, 1
			}
			if e.counts != want {
				t.Errorf("%s, seed %d: %+v, want %+v", c.name, seed, e.counts, want)
			}
		}
		t.Logf("%s: up to %d windows", c.name, longest)
	}
}

// TestCanaryEqual: of candidates that change nothing, at most 2 % are adopted. Of 2000 it was none with the
// first costs, 0.2 % with the next, and 0.8 % with those that vary the most.
func TestCanaryEqual(t *testing.T) {
	const seeds = 500
	for _, c := range []course{{500, 1, 0.1, 1, 0.9}, {100, 2, 0.1, 1, 0.9}, {100, 3, 0.1, 1, 0.9}} {
		adopted := 0
		for seed := range uint64(seeds) {
			if _, tr, _ := c.run(t, seed); tr.Why == CauseConfirmed {
				adopted++
			}
		}
		t.Logf("%+v: %d of %d are adopted", c, adopted, seeds)
		if adopted > seeds*2/100 {
			t.Errorf("%+v: %d of %d are adopted", c, adopted, seeds)
		}
	}
}

// TestCanaryEnds: how trials end that are not decided, and what follows a trial.
func TestCanaryEnds(t *testing.T) {
	trial := func(candidate, rest Tally) func(w *Window) {
		return with(func(w *Window) { w.Candidate, w.Rest = candidate, rest })
	}
	cheap := trial(Tally{400, 500}, Tally{9500, 9500})
	dear := trial(Tally{600, 500}, Tally{9500, 9500})
	for _, c := range []struct {
		name   string
		stages []stage
		want   []string // after "5m0s FROZEN CANARY promise"
	}{
		{"decided at once, after 16 windows", []stage{{332, cheap}}, []string{"5m32s CANARY FROZEN confirmed"}},
		{"dropped at once, after 16 windows", []stage{{400, dear}}, []string{"5m32s CANARY FROZEN not cheaper"}},
		{"after 1000 decisions", []stage{{400, trial(Tally{16, 20}, Tally{380, 380})}}, []string{"6m40s CANARY FROZEN confirmed"}},
		{"no decisions", []stage{{3600, usually}}, []string{"35m0s CANARY FROZEN undecided"}},
		{"none of the rest", []stage{{3600, trial(Tally{400, 500}, Tally{})}}, []string{"35m0s CANARY FROZEN undecided"}},
		{"costs that are none", []stage{{3600, trial(Tally{math.NaN(), 500}, Tally{9500, 9500})}}, []string{"35m0s CANARY FROZEN undecided"}},
		{"nothing costs anything", []stage{{3600, trial(Tally{0, 500}, Tally{0, 9500})}}, []string{"35m0s CANARY FROZEN undecided"}},
		{"the program changes", []stage{{310, cheap}, {400, slower(2)}}, []string{"5m16s CANARY LEARN slower"}},
		// Once adopted, costs are held to what the candidate promised, and p99 to what it was.
		{"costs as before after all", []stage{{332, cheap}, {340, usually}}, []string{"5m32s CANARY FROZEN confirmed", "5m38s FROZEN LEARN dearer"}},
		{"costs as promised", []stage{{332, cheap}, {900, dearer(0.8)}}, []string{"5m32s CANARY FROZEN confirmed"}},
		{"calls are slower", []stage{{332, cheap}, {340, with(func(w *Window) { w.P99, w.Cost = 1000, 0.96 })}}, []string{"5m32s CANARY FROZEN confirmed", "5m38s FROZEN LEARN slower"}},
	} {
		e := inFrozen(t)
		e.Propose(0.8, 1)
		if got := drive(e, c.stages...); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		if n, drops := e.counts.Rollbacks, !strings.Contains(strings.Join(c.want, " "), "confirmed"); (n == 1) != drops {
			t.Errorf("%s: %d rollbacks", c.name, n)
		}
	}
	// What was seen in FROZEN counts on.
	e := inFrozen(t)
	drive(e, stage{304, slower(2)})
	e.Propose(0.8, 1)
	if got := drive(e, stage{306, slower(2)}); !slices.Equal(got, []string{"5m6s CANARY LEARN slower"}) {
		t.Errorf("a trial begins after two slower windows, and the next one is slower as well: %q", got)
	}
	// A candidate that failed keeps others waiting for 180 s.
	e = inFrozen(t)
	e.Propose(0.8, 1)
	drive(e, stage{332, dear})
	for _, at := range []int{332, 400, 510} {
		drive(e, stage{at, usually})
		if tr := e.Propose(0.5, 1); tr.Why != CauseNone {
			t.Errorf("a candidate failed at 332 s, and another is tried at %d s", at)
		}
	}
	drive(e, stage{512, usually})
	if tr := e.Propose(0.5, 1); tr.Why != CausePromise {
		t.Errorf("a candidate failed at 332 s, and none is tried at 512 s: %+v", tr)
	}
}
