package learn

import (
	"math"
	"testing"
	"time"
)

func TestMachineCosts(t *testing.T) {
	c := TypicalMachine.Costs(64<<10, 0.1)
	if want := 2280 * time.Millisecond; c.BreakEven().Round(10*time.Millisecond) != want {
		t.Errorf("break-even at the default price is %v, want %v", c.BreakEven(), want)
	}
	if small := TypicalMachine.Costs(4096, 0.1); small.BreakEven().Round(time.Millisecond) != c.BreakEven().Round(time.Millisecond) {
		t.Errorf("break-even of 4 KiB is %v, of 64 KiB %v", small.BreakEven(), c.BreakEven())
	}
}

// TestRecent: the median of the last five measurements counts, from the first one on.
func TestRecent(t *testing.T) {
	var r recent
	for i, x := range []struct{ add, want float64 }{{3, 3}, {9, 3}, {1, 3}, {8, 3}, {7, 7}, {7, 7}, {7, 7}, {1, 7}, {2, 7}, {2, 2}} {
		r.add(x.add)
		if got := r.median(); got != x.want {
			t.Errorf("after %d measurements it is %g, want %g", i+1, got, x.want)
		}
	}
}

// TestProbes: the median counts, from the fifth measurement on, within bounds.
func TestProbes(t *testing.T) {
	near := func(a, b float64) bool { return math.Abs(a-b) < 1e-9*b }
	typical := TypicalMachine.Fault + TypicalMachine.Return
	for _, test := range []struct {
		name  string
		noted []Machine
		want  Machine
	}{
		{"none", nil, TypicalMachine},
		{"four", []Machine{{1e-6, 1e-7}, {1e-6, 1e-7}, {1e-6, 1e-7}, {1e-6, 1e-7}}, TypicalMachine},
		{"two outliers", []Machine{{9e-7, 1e-7}, {9, 9}, {9e-7, 1e-7}, {1e-12, 1e-12}, {9e-7, 1e-7}}, Machine{9e-7, 1e-7}},
		{"not measured", []Machine{{0, 1e-7}, {1e-6, -1}, {math.NaN(), 1}, {1e-6, 1e-7}, {1e-6, 1e-7}}, TypicalMachine},
		{"the latest five", []Machine{{8e-7, 2e-7}, {8e-7, 2e-7}, {8e-7, 2e-7}, {9e-7, 3e-7}, {9e-7, 3e-7}, {9e-7, 3e-7}}, Machine{9e-7, 3e-7}},
		{"too fast", []Machine{{1e-7, 1e-7}, {1e-7, 1e-7}, {1e-7, 1e-7}, {1e-7, 1e-7}, {1e-7, 1e-7}}, Machine{typical / 2, typical / 2}},
		{"too slow", []Machine{{3e-6, 1e-6}, {3e-6, 1e-6}, {3e-6, 1e-6}, {3e-6, 1e-6}, {3e-6, 1e-6}}, Machine{typical * 1.5 * 0.75, typical * 1.5 * 0.25}},
	} {
		var p Probes
		for _, m := range test.noted {
			p.Note(m)
		}
		if got := p.Machine(); !near(got.Fault, test.want.Fault) || !near(got.Return, test.want.Return) {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}
