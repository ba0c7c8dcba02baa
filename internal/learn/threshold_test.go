package learn

import (
	"math"
	"math/rand/v2"
	"testing"
)

// gibCosts are the costs of a GiB at 0.87 µs for 4 KiB to return and to fault in, and the default price.
var gibCosts = Costs{Fault: 0.75e-6 * (1 << 18), Return: 0.12e-6 * (1 << 18), Hold: 0.1}

// TestThresholdCosts: what each threshold costs in a window, calculated by hand.
func TestThresholdCosts(t *testing.T) {
	var use [LargeBins]LargeUse
	use[0] = LargeUse{Allocs: 100, Memory: 0.005, CPU: 20e-6, Held: 0.001}
	use[3] = LargeUse{Allocs: 50, Memory: 0.02, CPU: 10e-6, Held: 0.1} // above 256 KiB
	use[6] = LargeUse{Allocs: 50, Memory: 1, CPU: 18e-6, Held: 2}      // above 2 MiB
	b := NewThresholds()
	b.Window(use, gibCosts)
	list := b.Standings()
	system := gibCosts.Fault + gibCosts.Return
	small, mid, huge := 20e-6+0.1*0.001, 10e-6+0.1*0.1, 18e-6+0.1*2
	for i, want := range []float64{
		0: small + mid + huge,             // none
		1: small + mid + 1*system,         // 2 MiB
		2: small + mid + 1*system,         // 1 MiB
		3: small + mid + 1*system,         // 512 KiB
		4: small + 1.02*system,            // 256 KiB
		5: small + 1.02*system,            // 128 KiB
		6: small + 0.02*system + 1*system, // 64 KiB: the smallest are not above it
	} {
		if got := list[i].Cost * 200; math.Abs(got-want) > 1e-12 {
			t.Errorf("%d bytes: %g s, want %g", list[i].Bytes, got, want)
		}
	}
	if list[0].Bytes != 0 || list[1].Bytes != 2<<20 || list[6].Bytes != 64<<10 || list[1].Plays != 1 {
		t.Errorf("%+v", list)
	}
}

// TestThresholdChosen: the bandit chooses the threshold that costs least, which differs with the program.
func TestThresholdChosen(t *testing.T) {
	for _, test := range []struct {
		name string
		held [LargeBins]float64 // GiB·s in caches in a window, by bin
		want uint64
	}{
		{"nothing waits in caches", [LargeBins]float64{}, 2 << 20},
		{"blocks of 100 to 128 KiB wait for long", [LargeBins]float64{1: 1000}, 64 << 10},
		{"blocks of 300 to 512 KiB wait for long", [LargeBins]float64{3: 1000}, 256 << 10},
	} {
		b, rng := NewThresholds(), rand.New(rand.NewPCG(5, 6))
		for range 600 {
			var use [LargeBins]LargeUse
			for i := range use {
				n := 100 * (1 + 0.2*rng.Float64())
				use[i] = LargeUse{Allocs: n, Memory: n * 48 / (1 << 20) * math.Exp2(float64(i)), CPU: n * 200e-9, Held: test.held[i]}
			}
			b.Window(use, gibCosts)
		}
		plays := uint64(0)
		chosen := uint64(0)
		for _, s := range b.Standings() {
			if plays += s.Plays; s.Chosen {
				chosen = s.Bytes
			}
		}
		if chosen != test.want || plays != 600 {
			t.Errorf("%s: the threshold is %d after %d plays, want %d after 600: %+v", test.name, chosen, plays, test.want, b.Standings())
		}
	}
}

// TestThresholdFewAllocs: windows with few allocations say nothing.
func TestThresholdFewAllocs(t *testing.T) {
	b := NewThresholds()
	b.Window([LargeBins]LargeUse{{Allocs: leastMisses - 1, Memory: 1}}, gibCosts)
	if list := b.Standings(); list != nil {
		t.Errorf("%+v", list)
	}
}
