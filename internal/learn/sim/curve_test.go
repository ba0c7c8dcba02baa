package sim

import (
	"testing"
	"time"

	"github.com/hakmem/hakmem/internal/learn"
)

// TestStaticCurve: the closed form agrees with what Run finds, at each point.
func TestStaticCurve(t *testing.T) {
	t.Parallel()
	c := CostsAt(0.13)
	for _, kind := range Kinds() {
		p := Place(Generate(kind, 4, testLength/2))
		for _, arm := range learn.Arms {
			got, want := p.staticCurve(arm, c, p.marks()), Run(p, Fixed(arm), c).Curve
			for i := range want {
				if len(got) != len(want) || !same(got[i], want[i]) {
					t.Fatalf("%s: hold time %v has cost %g at point %d, want %g", kind, arm, got[i], i, want[i])
				}
			}
		}
	}
}

// TestOptimumCurve: it ends at the optimum. By hand: a gap of 1 s is kept, one of 9 s is returned at its
// start and faulted in at its end, and one that never ends is returned.
func TestOptimumCurve(t *testing.T) {
	t.Parallel()
	for _, kind := range Kinds() {
		p := Place(Generate(kind, 5, testLength))
		for _, price := range Prices {
			curve := p.optimumCurve(CostsAt(price), p.marks())
			if want := Optimum(p, CostsAt(price)); !same(curve[CurvePoints-1], want) {
				t.Errorf("%s at %g: the curve ends at %g, want %g", kind, price, curve[CurvePoints-1], want)
			}
		}
	}
	p := PlaceLevels("", []Level{{0, 2}, {1 * sec, 1}, {2 * sec, 2}, {3 * sec, 1}, {12 * sec, 2}, {14 * sec, 0}, {20 * sec, 7}})
	curve := p.optimumCurve(learn.Costs{Hold: 1, Fault: 4, Return: 0.5}, []time.Duration{sec, 1500 * time.Millisecond, 2 * sec, 3 * sec, 11 * sec, 12 * sec, 14 * sec})
	for i, want := range []float64{0, 0.5, 1, 1.5, 1.5, 5.5, 6.5} {
		if !same(curve[i], want) {
			t.Errorf("point %d is %g, want %g", i, curve[i], want)
		}
	}
}

// TestPlays: each wait that is decided is counted once, with its hold time.
func TestPlays(t *testing.T) {
	t.Parallel()
	c := CostsAt(0.13)
	p := PlaceLevels("", []Level{{0, 10}, {1 * sec, 4}, {2 * sec, 10}, {3 * sec, 0}, {20 * sec, 0}})
	for _, x := range []struct {
		hold time.Duration
		arm  int
		n    int // 6 waits that end, and 10 that do not
	}{{0, 0, 16}, {100 * time.Millisecond, 1, 16}, {150 * time.Millisecond, 2, 16}, {2 * sec, 8, 16}, {64 * sec, 17, 6}, {Forever, 18, 6}} {
		plays := Run(p, Fixed(x.hold), c).Plays
		if plays[x.arm] != x.n {
			t.Errorf("hold time %v: %v, want %d of arm %d", x.hold, plays, x.n, x.arm)
		}
		plays[x.arm] = 0
		if plays != [len(learn.Arms) + 1]int{} {
			t.Errorf("hold time %v: other arms were played: %v", x.hold, plays)
		}
	}
	if plays := Run(p, Window(c, 1), c).Plays; plays != [len(learn.Arms) + 1]int{} {
		t.Errorf("a policy that names pages: %v", plays)
	}
}
