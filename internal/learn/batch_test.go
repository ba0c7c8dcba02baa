package learn

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// TestBatch: the factor whose blocks cost least is adopted, whichever it is; factor 1 stays where another
// one is cheaper by less than the margin.
func TestBatch(t *testing.T) {
	for _, test := range []struct {
		name string
		// A batch of so many blocks costs fixed, and each block its share of unwanted for each block of the
		// batch, in ns.
		fixed, unwanted float64
		want            float64
	}{
		{"the fixed cost is high", 2000, 0.01, 2},
		{"most blocks are not wanted", 100, 1, 0.5},
		{"it makes no difference", 64, 0.0156, 1},
		{"blocks cost nothing but themselves", 0, 0, 1},
	} {
		slowest, wrong := 0, 0
		for seed := range uint64(20) {
			b, rng := NewBatch(0), rand.New(rand.NewPCG(seed, 21))
			last := 0
			for i := range 600 {
				n := 64 * BatchFactors[b.Arm(true)]
				cost := (8 + test.fixed/n + test.unwanted*n) * 1e-9
				if _, adopted := b.Window(cost * math.Max(0.1, 1+0.1*rng.NormFloat64())); adopted {
					last = i
				}
			}
			slowest = max(slowest, last)
			if b.Adopted() != test.want {
				wrong++
			}
		}
		t.Logf("%s: the last adoption was in window %d", test.name, slowest)
		if wrong > 1 || // of arms that cost the same, chance may choose another one
			wrong > 0 && test.want != 1 || slowest > 100 {
			t.Errorf("%s: in %d of 20 runs another factor than %g is in force; the last adoption was in window %d", test.name, wrong, test.want, slowest)
		}
	}
}

// TestBatchDecision: an adoption names its kind of batch and what a block costs, and reads as a sentence.
func TestBatchDecision(t *testing.T) {
	b := NewBatch(3)
	for range 60 {
		cost := 20e-9
		if BatchFactors[b.Arm(true)] == 0.5 {
			cost = 10e-9
		}
		d, adopted := b.Window(cost)
		if !adopted {
			continue
		}
		if d.Kind != KindBatch || d.Where != 3 || d.From != 1 || d.To != 0.5 || !d.Applied || math.Abs(d.Predicted-10e-9) > 1e-12 {
			t.Errorf("%+v", d)
		}
		if s := d.Sentence(); !strings.Contains(s, "the size of searches for a slab went from 1 times to 0.5 times, because") {
			t.Error(s)
		}
		if b.Arm(false) != 1 {
			t.Error("with learning off another factor than the adopted one is in force")
		}
		return
	}
	t.Error("nothing was adopted in 60 windows")
}
