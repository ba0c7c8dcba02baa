package learn

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestEvolutionPolicy(t *testing.T) {
	for _, c := range []struct {
		name string
		want EvolutionPolicy
		mode Mode
	}{{"off", EvolutionOff, ModeFrozen}, {"learn", EvolutionLearn, ModeLearn}, {"frozen", EvolutionFrozen, ModeFrozen}, {"AUTO", EvolutionAuto, ModeLearn}} {
		p, err := ParseEvolutionPolicy(c.name)
		if err != nil || p != c.want || p.String() != strings.ToLower(c.name) {
			t.Errorf("%q is read as %v: %v", c.name, p, err)
		}
		if e := NewEvolution(p); e.Mode() != c.mode || e.Policy() != p {
			t.Errorf("with policy %v an Evolution begins in %v", p, e.Mode())
		}
	}
	if _, err := ParseEvolutionPolicy("on"); err == nil || !strings.Contains(err.Error(), "off, learn, frozen, auto") {
		t.Errorf("a policy that is none: %v", err)
	}
	if s := EvolutionPolicy(9).String(); s != "9" {
		t.Errorf("policy 9 is called %s", s)
	}
}

// stage is a stretch of time in which all windows are made in one way, up to a time in seconds.
type stage struct {
	until int
	fill  func(w *Window)
}

// step is the length of the tests' windows.
const step = WindowTime

// drive gives e the windows of some stages and returns the transitions, each as in "182s LEARN FROZEN
// settled".
func drive(e *Evolution, stages ...stage) (list []string) {
	for _, s := range stages {
		for e.now < time.Duration(s.until)*time.Second {
			w := Window{End: e.now + step}
			s.fill(&w)
			if tr := e.Window(w); tr.Why != CauseNone {
				list = append(list, says(e, tr))
			} else if tr.From != tr.To || tr.To != e.Mode() {
				list = append(list, "no transition, but "+says(e, tr))
			}
		}
	}
	return list
}

func says(e *Evolution, tr Transition) string {
	return strings.Join([]string{e.now.String(), tr.From.String(), tr.To.String(), tr.Why.String()}, " ")
}

// usually are the figures of windows in which nothing happens.
func usually(w *Window) {
	w.P99, w.Cost = 800, 1.2
	w.Sizes = [SizeBins]uint32{4: 6000, 6: 3000, 12: 1000}
}

// with returns figures as usual but for what f changes.
func with(f func(w *Window)) func(w *Window) {
	return func(w *Window) { usually(w); f(w) }
}

// moved returns figures as usual, but a share of the allocations has another size: so many of 10,000.
func moved(n uint32) func(w *Window) {
	return with(func(w *Window) { w.Sizes[4] -= n; w.Sizes[9] += n })
}

func slower(by float64) func(w *Window) { return with(func(w *Window) { w.P99 *= by }) }
func dearer(by float64) func(w *Window) { return with(func(w *Window) { w.Cost *= by }) }

func onlyCost(by float64) func(w *Window) { return func(w *Window) { w.Cost = 1.2 * by } }
func onlyP99(by float64) func(w *Window)  { return func(w *Window) { w.P99 = 800 * by } }
func nothing(*Window)                     {}

// TestEvolutionTransitions: when modes follow each other. LEARN begins with the first window, at 2 s, and
// lasts for 180 s at least.
func TestEvolutionTransitions(t *testing.T) {
	const settled = "3m2s LEARN FROZEN settled"
	turns := 0 // of figures that change from window to window
	inTurn := func(f func(i int, w *Window)) func(w *Window) {
		return func(w *Window) { turns++; f(turns, w) }
	}
	for _, c := range []struct {
		name   string
		stages []stage
		want   []string
	}{
		{"steady", []stage{{600, usually}}, []string{settled}},
		{"p99 alone", []stage{{600, onlyP99(1)}}, []string{settled}},
		{"cost alone", []stage{{600, onlyCost(1)}}, []string{settled}},
		{"no figures", []stage{{600, nothing}}, nil},
		{"figures that are none", []stage{{600, func(w *Window) { w.P99, w.Cost = math.NaN(), math.Inf(1) }}}, nil},
		{"p99 changes by 2 %, the cost is steady", []stage{{600, inTurn(func(i int, w *Window) { usually(w); w.P99 *= 1 + 0.02*float64(i%2) })}}, []string{settled}},
		{"the cost changes by 2 %, p99 is steady", []stage{{600, inTurn(func(i int, w *Window) { usually(w); w.Cost *= 1 + 0.02*float64(i%2) })}}, []string{settled}},
		{"both change by 2 %", []stage{{600, inTurn(func(i int, w *Window) { usually(w); w.P99 *= 1 + 0.02*float64(i%2); w.Cost *= 1 + 0.02*float64(i%2) })}}, nil},
		{"p99 changes by 0.9 %", []stage{{600, inTurn(func(i int, w *Window) { usually(w); w.P99 *= 1 + 0.009*float64(i%2) })}}, []string{settled}},
		{"p99 settles late", []stage{{200, inTurn(func(i int, w *Window) { w.P99 = 800 * (1 + 0.02*float64(i%2)) })}, {600, usually}}, []string{"3m24s LEARN FROZEN settled"}},
		{"few windows with figures", []stage{{172, nothing}, {600, usually}}, []string{"3m24s LEARN FROZEN settled"}},

		{"p99 up by a quarter", []stage{{300, usually}, {480, slower(1.25)}}, []string{settled, "5m6s FROZEN LEARN slower"}},
		{"and stays so", []stage{{300, usually}, {600, slower(1.25)}}, []string{settled, "5m6s FROZEN LEARN slower", "8m6s LEARN FROZEN settled"}},
		{"p99 up by 19 %", []stage{{300, usually}, {600, slower(1.19)}}, []string{settled}},
		{"two windows are slower", []stage{{300, usually}, {304, slower(2)}, {306, usually}, {310, slower(2)}, {600, usually}}, []string{settled}},
		{"p99 is not known between", []stage{{300, usually}, {304, slower(2)}, {320, onlyCost(1)}, {322, slower(2)}}, []string{settled, "5m22s FROZEN LEARN slower"}},
		{"p99 falls by half", []stage{{300, usually}, {600, slower(0.5)}}, []string{settled}},

		{"cost up by a quarter", []stage{{300, usually}, {400, dearer(1.25)}}, []string{settled, "5m6s FROZEN LEARN dearer"}},
		{"cost up by 19 %", []stage{{300, usually}, {600, dearer(1.19)}}, []string{settled}},
		{"cost alone up by a quarter", []stage{{300, onlyCost(1)}, {400, onlyCost(1.25)}}, []string{settled, "5m6s FROZEN LEARN dearer"}},
		{"p99 alone up by a quarter", []stage{{300, onlyP99(1)}, {400, onlyP99(1.25)}}, []string{settled, "5m6s FROZEN LEARN slower"}},
		{"p99 is measured for the first time when frozen", []stage{{300, onlyCost(1)}, {600, usually}, {700, slower(10)}}, []string{settled}},

		{"26 % have other sizes", []stage{{300, usually}, {400, moved(2600)}}, []string{settled, "5m6s FROZEN LEARN sizes"}},
		{"24 % have other sizes", []stage{{300, usually}, {600, moved(2400)}}, []string{settled}},
		{"two windows have other sizes", []stage{{300, usually}, {304, moved(6000)}, {600, usually}}, []string{settled}},
		{"few allocations", []stage{{300, usually}, {600, func(w *Window) { w.P99, w.Sizes[9] = 800, 999 }}}, []string{settled}},
		{"sizes come back after LEARN", []stage{{300, usually}, {500, moved(5000)}, {600, usually}},
			[]string{settled, "5m6s FROZEN LEARN sizes", "8m6s LEARN FROZEN settled", "8m26s FROZEN LEARN sizes"}},

		// What varies by half from window to window all the time is not worse by a quarter for it.
		{"p99 varies", []stage{{300, inTurn(func(i int, w *Window) { usually(w); w.P99 *= []float64{1, 1, 1, 1.5}[i%4] })}, {600, slower(1.25)}}, []string{settled}},
		{"p99 varies, then doubles", []stage{{300, inTurn(func(i int, w *Window) { usually(w); w.P99 *= []float64{1, 1, 1, 1.5}[i%4] })}, {400, slower(2.5)}},
			[]string{settled, "5m6s FROZEN LEARN slower"}},
		// The first half of LEARN is no measure of what is usual.
		{"slow at first", []stage{{80, slower(3)}, {300, usually}, {400, slower(1.25)}}, []string{settled, "5m6s FROZEN LEARN slower"}},
	} {
		turns = 0
		e := NewEvolution(EvolutionAuto)
		if got := drive(e, c.stages...); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// TestEvolutionFixed: with the policies other than auto the mode stays, and no candidate is tried.
func TestEvolutionFixed(t *testing.T) {
	for _, p := range []EvolutionPolicy{EvolutionOff, EvolutionLearn, EvolutionFrozen} {
		e := NewEvolution(p)
		was := e.Mode()
		got := drive(e, stage{400, usually}, stage{500, slower(3)}, stage{600, moved(6000)}, stage{1000, dearer(3)})
		if tr := e.Propose(1, 2); len(got) > 0 || tr != (Transition{was, was, CauseNone}) || e.Mode() != was || e.Canary(0) {
			t.Errorf("with policy %v there are transitions: %q, %+v", p, got, tr)
		}
		if s := e.Snapshot(); s.EvolutionCounts != (EvolutionCounts{Windows: 500}) || s.Policy != p || s.Mode != was {
			t.Errorf("with policy %v: %+v", p, s)
		}
	}
}

// vary returns x with noise, whose standard deviation is a share of x.
func vary(r *rand.Rand, x, share float64) float64 { return x * math.Exp(share*r.NormFloat64()) }

// sample draws the sizes of a window of n allocations: about what a multinomial distribution would give.
func sample(r *rand.Rand, w *Window, n float64) {
	for i, p := range [SizeBins]float64{4: 0.2, 5: 0.3, 6: 0.2, 8: 0.1, 12: 0.15, 16: 0.05} {
		w.Sizes[i] = uint32(max(p*n+math.Sqrt(p*(1-p)*n)*r.NormFloat64(), 0))
	}
}

// TestEvolutionNoise: two hours in which figures vary, but nothing changes, do not end FROZEN. The more they
// vary, the later it begins.
func TestEvolutionNoise(t *testing.T) {
	const seeds = 25
	for _, c := range []struct {
		share    float64 // by which figures vary
		relearns int     // programs that may go back to LEARN
		frozen   int     // programs that are in FROZEN in the end, at least
	}{{0.05, 0, seeds}, {0.1, 0, seeds - 1}, {0.2, 0, seeds / 2}, {0.5, 2, 0}} {
		frozen, relearns, after := 0, 0, time.Duration(0)
		for seed := range uint64(seeds) {
			r := rand.New(rand.NewPCG(seed, 4))
			e := NewEvolution(EvolutionAuto)
			drive(e, stage{2 * 3600, func(w *Window) {
				w.P99, w.Cost = vary(r, 800, c.share), vary(r, 1.2, c.share)
				sample(r, w, 1.1*leastSizes)
			}})
			if e.counts.Relearns > 0 {
				relearns++
			}
			if e.Mode() == ModeFrozen {
				frozen++
				after += e.since
			}
		}
		t.Logf("figures vary by %g: %d of %d are frozen, after %v on average", c.share, frozen, seeds, (after / time.Duration(max(frozen, 1))).Round(time.Second))
		if frozen < c.frozen || relearns > c.relearns {
			t.Errorf("figures vary by %g: of %d programs %d are frozen after two hours, and %d went back to LEARN", c.share, seeds, frozen, relearns)
		}
	}
}

// TestEvolutionShift: a change that is clear beyond the noise ends FROZEN with the third window.
func TestEvolutionShift(t *testing.T) {
	for _, c := range []struct {
		name string
		fill func(r *rand.Rand, w *Window)
		why  Cause
	}{
		{"p99 up by half", func(r *rand.Rand, w *Window) { w.P99 *= 1.5 }, CauseSlower},
		{"cost up by half", func(r *rand.Rand, w *Window) { w.Cost *= 1.5 }, CauseDearer},
		{"other sizes", func(r *rand.Rand, w *Window) { w.Sizes[20] = 800 }, CauseSizes},
	} {
		for seed := range uint64(25) {
			r := rand.New(rand.NewPCG(seed, 5))
			e := NewEvolution(EvolutionAuto)
			as := func(w *Window) {
				w.P99, w.Cost = vary(r, 800, 0.03), vary(r, 1.2, 0.03)
				sample(r, w, 1.1*leastSizes)
			}
			drive(e, stage{3600, as})
			if e.Mode() != ModeFrozen {
				t.Fatalf("%s, seed %d: not frozen after an hour", c.name, seed)
			}
			got := drive(e, stage{3610, func(w *Window) { as(w); c.fill(r, w) }})
			if want := "1h0m6s FROZEN LEARN " + c.why.String(); len(got) != 1 || got[0] != want {
				t.Errorf("%s, seed %d: %q, want %q", c.name, seed, got, want)
			}
		}
	}
}

// TestEvolutionSnapshot: what is shown is what was counted, and survives JSON.
func TestEvolutionSnapshot(t *testing.T) {
	e := NewEvolution(EvolutionAuto)
	drive(e, stage{300, usually}, stage{304, slower(2)})
	s := e.Snapshot()
	want := EvolutionSnapshot{
		Policy: EvolutionAuto, Mode: ModeFrozen, Since: 182 * time.Second, Now: 304 * time.Second,
		EvolutionCounts: EvolutionCounts{Windows: 152, Freezes: 1},
		P99:             Figure{800, 960, 1600, 2}, Cost: Figure{1.2, 1.44, 1.2, 0}, Sizes: Figure{0, 0.25, 0, 0},
	}
	for _, f := range []*Figure{&s.P99, &s.Cost, &s.Sizes} {
		f.Usual, f.Limit, f.Last = round(f.Usual), round(f.Limit), round(f.Last)
	}
	if s != want {
		t.Errorf("%+v, want %+v", s, want)
	}
	text, err := json.Marshal(s)
	if err != nil || !strings.Contains(string(text), `"policy":"auto","mode":"FROZEN"`) {
		t.Errorf("%s: %v", text, err)
	}
	var again EvolutionSnapshot
	if err := json.Unmarshal(text, &again); err != nil || again != s {
		t.Errorf("%+v: %v", again, err)
	}
	if err := json.Unmarshal([]byte(`"LEARNT"`), &again.Mode); err == nil || !strings.Contains(err.Error(), "LEARN, FROZEN, CANARY") {
		t.Errorf("a mode that is none: %v", err)
	}
	fresh := NewEvolution(EvolutionAuto).Snapshot()
	if fresh.P99 != (Figure{}) || fresh.Mode != ModeLearn {
		t.Errorf("before the first window: %+v", fresh)
	}
}

func round(x float64) float64 { return math.Round(x*1e6) / 1e6 }

// TestEvolutionAllocs: windows and questions need no memory.
func TestEvolutionAllocs(t *testing.T) {
	e := NewEvolution(EvolutionAuto)
	w := Window{}
	usually(&w)
	if n := testing.AllocsPerRun(1000, func() {
		w.End += step
		e.Window(w)
		e.Propose(1, 2)
		e.Canary(7)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
