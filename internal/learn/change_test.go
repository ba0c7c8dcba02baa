package learn

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestChange: how many of 1000 changes are found to be cheaper, by what they gain and by how much the costs
// of windows vary.
func TestChange(t *testing.T) {
	for _, test := range []struct {
		gain, noise float64 // shares; noise is a standard deviation
		least, most int
	}{
		{0, 0.02, 0, 10},
		{0, 0.3, 0, 10},
		{-0.1, 0.02, 0, 0},
		{0.01, 0.001, 0, 0}, // less than 1.5 %
		{0.02, 0.001, 1000, 1000},
		{0.1, 0.02, 1000, 1000},
		{0.1, 0.3, 0, 100},
	} {
		rng := rand.New(rand.NewPCG(1, 2))
		found := 0
		for range 1000 {
			var c Change
			for i := range 3 * changeWindows { // the last ones count
				if c.Before(max(0, 1+test.noise*rng.NormFloat64())+float64(max(0, changeWindows-i))) != (i+1 >= changeWindows) {
					t.Fatal("before: enough too early or too late: ", i)
				}
			}
			for i := range changeWindows {
				c.After(math.NaN())
				if c.After(max(0, 1-test.gain+test.noise*rng.NormFloat64())) != (i+1 >= changeWindows) {
					t.Fatal("after: enough too early or too late: ", i)
				}
			}
			if c.Cheaper() {
				found++
			}
		}
		if found < test.least || found > test.most {
			t.Errorf("gain %g, noise %g: %d of 1000 are cheaper, want %d to %d", test.gain, test.noise, found, test.least, test.most)
		}
	}
	var c Change
	for range changeWindows {
		c.Before(0)
		c.After(0)
	}
	if c.Cheaper() {
		t.Error("what costs nothing became cheaper")
	}
}
