package learn

import (
	"math"
	"math/rand/v2"
	"testing"
)

// wideProgram is a program with large allocations, as a WMax sees it. A miss takes page seconds if it needs
// free pages, and served seconds if a block of another class serves it.
type wideProgram struct {
	name string
	// wider is the share of the misses that each of WMaxFactors serves.
	wider  [len(WMaxFactors)]float64
	page   float64
	served float64
	beyond float64 // MiB of a served block beyond the request
	life   float64 // seconds of a served block
	noise  float64 // standard deviation of a window's CPU time, as a share
	want   float64
}

// window lets the program run for a window of 2 s in which the factor is in force.
func (p *wideProgram) window(w *WMax, rng *rand.Rand) (d Decision, adopted bool) {
	const misses = 1000.0
	arm := w.played
	served := misses * p.wider[arm]
	cpu := served*p.served + (misses-served)*p.page
	w.Lived(math.Min(served, 64)*p.life, int(math.Min(served, 64)))
	return w.Window(WMaxWindow{
		Seconds: 2,
		Misses:  misses,
		CPU:     cpu * math.Max(0.1, 1+p.noise*rng.NormFloat64()),
		Beyond:  served * p.beyond / 1024,
		Price:   0.1,
	})
}

// TestWMax: the factor that is cheapest is adopted if it is so by the margin, and factor 1 stays where wider
// blocks cost more memory than they save, or save nothing. When the program changes, so does the factor.
func TestWMax(t *testing.T) {
	shares := [len(WMaxFactors)]float64{0, 0.3, 0.6, 0.8}
	programs := []wideProgram{
		{"faults everything in, dies soon", shares, 200e-6, 1e-6, 0.2, 0.1, 0.1, 1.75},
		{"the same with much noise", shares, 200e-6, 1e-6, 0.2, 0.1, 0.6, 1.75},
		{"keeps what it gets", shares, 200e-6, 1e-6, 0.2, 60, 0.1, 1},
		{"has its pages in memory", shares, 1.5e-6, 1e-6, 0.2, 0.1, 0.1, 1},
		{"one class only", [len(WMaxFactors)]float64{}, 200e-6, 1e-6, 0.2, 0.1, 0.1, 1},
		{"the nearest class is enough", [len(WMaxFactors)]float64{0, 0.8, 0.8, 0.8}, 2e-6, 0.5e-6, 0.01, 0.05, 0.05, 1.25},
	}
	for _, p := range programs {
		slowest, wrong := 0, 0
		for seed := range uint64(20) {
			w, rng := NewWMax(), rand.New(rand.NewPCG(seed, 11))
			first := 0
			for i := range 1000 {
				w.Factor(true)
				p.window(w, rng)
				if first == 0 && w.Adopted() == p.want {
					first = i
				}
			}
			slowest = max(slowest, first)
			// Of factors that cost nearly the same any is right.
			if got := w.Adopted(); got != p.want && !(p.want == 1.25 && got > 1) {
				wrong++
			}
		}
		t.Logf("%s: factor %g is in force after %d windows at most", p.name, p.want, slowest)
		if wrong > 0 {
			t.Errorf("%s: in %d of 20 runs another factor than %g was in force", p.name, wrong, p.want)
		}
		most := 60
		if p.noise > 0.5 {
			most = 120
		}
		if slowest > most {
			t.Errorf("%s: %d windows went by, want at most %d", p.name, slowest, most)
		}
	}
	slowest := 0
	for seed := range uint64(20) {
		w, rng := NewWMax(), rand.New(rand.NewPCG(seed, 12))
		for range 500 {
			w.Factor(true)
			programs[0].window(w, rng)
		}
		i := 0
		for ; w.Adopted() != 1 && i < 1000; i++ {
			w.Factor(true)
			programs[2].window(w, rng)
		}
		slowest = max(slowest, i)
	}
	t.Logf("a program that changes is found out after %d windows at most", slowest)
	if slowest > 360 {
		t.Errorf("%d windows went by after a change, want twelve minutes", slowest)
	}
}

// TestWMaxDecision: an adoption is a decision with the factors and the cost, and reads as a sentence.
func TestWMaxDecision(t *testing.T) {
	p := wideProgram{wider: [len(WMaxFactors)]float64{0, 0.9, 0, 0}, page: 100e-6, served: 1e-6, life: 0.1}
	w, rng := NewWMax(), rand.New(rand.NewPCG(1, 2))
	for range 100 {
		w.Factor(true)
		d, adopted := p.window(w, rng)
		if !adopted {
			continue
		}
		if d.Kind != KindWMax || d.From != 1 || d.To != 1.25 || !d.Applied || math.Abs(d.Predicted-5.45e-3) > 1e-6 {
			t.Errorf("%+v", d)
		}
		want := "At 0 s how much larger than the request a cached large block may be (W_MAX) went from 1 times to 1.25 times, because what that saves is more than what the memory costs; expected 5.4e-3 CPU s."
		if got := d.Sentence(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		return
	}
	t.Error("nothing was adopted in 100 windows")
}

// TestWMaxWindows: with learning off the adopted factor is in force, and windows with few allocations do not
// count.
func TestWMaxWindows(t *testing.T) {
	w := NewWMax()
	seen := map[float64]bool{}
	for range 20 {
		seen[w.Factor(true)] = true
		w.Window(WMaxWindow{Seconds: 2, Misses: leastMisses - 1, CPU: 1})
	}
	if len(seen) != 1 || !seen[1] {
		t.Errorf("factors %v were tried without a cost", seen)
	}
	for range 20 {
		seen[w.Factor(true)] = true
		w.Window(WMaxWindow{Seconds: 2, Misses: leastMisses, CPU: 1})
	}
	if len(seen) != len(WMaxFactors) {
		t.Errorf("only the factors %v were tried", seen)
	}
	for range 20 {
		if f := w.Factor(false); f != 1 {
			t.Errorf("the factor is %g with learning off, want 1, the adopted one", f)
		}
	}
}

// TestWMaxLife: the mean life is that of the samples, also of those that have not died.
func TestWMaxLife(t *testing.T) {
	w := NewWMax()
	if w.Life() != lifeBelief {
		t.Errorf("nothing is known, and the life is %g s", w.Life())
	}
	rng := rand.New(rand.NewPCG(3, 4))
	for range 2000 { // watched for 1 s each, of lives of 5 s on average
		life := 5 * rng.ExpFloat64()
		w.Lived(min(life, 1), map[bool]int{true: 1}[life < 1])
	}
	if l := w.Life(); l < 4.3 || l > 5.7 {
		t.Errorf("the mean life is %g s, want 5", l)
	}
	for range 300 {
		w.Window(WMaxWindow{})
	}
	w.Lived(10, 100)
	if l := w.Life(); l > 2 {
		t.Errorf("the mean life is %g s ten minutes later, want that of the new samples, 0.1, and of the belief", l)
	}
}
