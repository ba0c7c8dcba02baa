package learn

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestP2: the estimate of 10,000 samples is near the exact percentile, and its rank is near 99 %.
func TestP2(t *testing.T) {
	const n, seeds = 10_000, 25
	for _, c := range []struct {
		name string
		draw func(r *rand.Rand) float64
		off  float64 // the most, as a share of the exact percentile
		low  float64 // the least share of the samples at or below the estimate
	}{
		{"constant", func(*rand.Rand) float64 { return 7 }, 0, 0},
		{"uniform", func(r *rand.Rand) float64 { return r.Float64() }, 0.01, 0.985},
		{"normal", func(r *rand.Rand) float64 { return 100 + 15*r.NormFloat64() }, 0.02, 0.985},
		{"exponential", func(r *rand.Rand) float64 { return r.ExpFloat64() }, 0.12, 0.985},
		{"lognormal", func(r *rand.Rand) float64 { return 20 * math.Exp(0.8*r.NormFloat64()) }, 0.12, 0.985},
		{"pareto", func(r *rand.Rand) float64 { return math.Pow(1-r.Float64(), -1/1.5) }, 0.4, 0.985},
		{"a slow path in 50 calls", slowPath(50), 0.25, 0.985},
		// The percentile is just below a gap of a factor of 25, in which the estimate may come to lie.
		{"a slow path in 200 calls", slowPath(200), 2, 0.9},
	} {
		for seed := range uint64(seeds) {
			r := rand.New(rand.NewPCG(seed, 1))
			var p P2
			list := make([]float64, n)
			for i := range list {
				list[i] = c.draw(r)
				p.Add(list[i])
			}
			slices.Sort(list)
			exact := list[percentile*n/100-1]
			if off := math.Abs(p.Value()/exact - 1); off > c.off {
				t.Errorf("%s, seed %d: p99 is %g, the estimate %g", c.name, seed, exact, p.Value())
			}
			i, _ := slices.BinarySearch(list, p.Value())
			if rank := float64(i) / n; rank < c.low || rank > 0.997 {
				t.Errorf("%s, seed %d: %.2f %% of the samples are below the estimate", c.name, seed, 100*rank)
			}
		}
	}
}

// percentile is the one that a P2 estimates.
const percentile = 99

// slowPath returns a distribution in which one of n draws is from one that is 50 times as high.
func slowPath(n int) func(r *rand.Rand) float64 {
	return func(r *rand.Rand) float64 {
		x := 20 * math.Exp(0.3*r.NormFloat64())
		if r.IntN(n) == 0 {
			x *= 50
		}
		return x
	}
}

// TestP2Few: the estimate of fewer than 100 samples is the largest.
func TestP2Few(t *testing.T) {
	var p P2
	if p.Value() != 0 {
		t.Errorf("nothing was added, and the estimate is %g", p.Value())
	}
	most := math.Inf(-1)
	for i := range uint64(99) {
		x := float64(int(i*37%101)) - 50
		most = max(most, x)
		p.Add(x)
		if p.Value() != most || p.Samples() != i+1 {
			t.Fatalf("of %d samples (%d counted) the largest is %g, the estimate %g", i+1, p.Samples(), most, p.Value())
		}
	}
	for _, x := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		p.Add(x)
	}
	if p.Value() != most || p.Samples() != 99 {
		t.Errorf("numbers that are not finite make the estimate %g of %d samples", p.Value(), p.Samples())
	}
	p.Reset()
	if p != (P2{}) {
		t.Errorf("after a Reset there is %+v", p)
	}
}

// TestP2Order: the markers keep their order, and the estimate lies between the samples, whatever comes.
func TestP2Order(t *testing.T) {
	for seed := range uint64(25) {
		r := rand.New(rand.NewPCG(seed, 2))
		var p P2
		least, most := math.Inf(1), math.Inf(-1)
		for i := range 3000 {
			x := float64(r.IntN(5))
			if i%1000 < 200 {
				x = float64(i) * r.NormFloat64()
			}
			least, most = min(least, x), max(most, x)
			p.Add(x)
			if p.n >= 5 && (!slices.IsSorted(p.height[:]) || !slices.IsSorted(p.at[:]) || p.height[0] != least || p.height[4] != most) {
				t.Fatalf("seed %d, sample %d: %+v", seed, i, p)
			}
		}
	}
}

// TestP2Move: a marker moves along the parabola through its neighbours, or along a line where the parabola
// would leave their order.
func TestP2Move(t *testing.T) {
	square := [5]float64{1, 25, 144, 400, 900}
	for _, c := range []struct {
		at, height [5]float64
		by, want   float64
	}{
		{[5]float64{1, 5, 12, 20, 30}, square, 1, 13 * 13},
		{[5]float64{1, 5, 12, 20, 30}, square, -1, 11 * 11},
		{[5]float64{0, 1, 9, 11, 12}, [5]float64{0, 0, 1, 1000, 1000}, -1, 1 - 1./8},
		{[5]float64{0, 1, 3, 11, 12}, [5]float64{0, 0, 999, 1000, 1000}, 1, 999 + 1./8},
	} {
		p := P2{n: 100, height: c.height, at: c.at}
		p.move(2, c.by)
		if math.Abs(p.height[2]-c.want) > 1e-9 || p.at[2] != c.at[2]+c.by {
			t.Errorf("%+v by %g: height %g at %g, want %g", c, c.by, p.height[2], p.at[2], c.want)
		}
	}
}

// TestP2Positions: markers stay within one of their ideal positions.
func TestP2Positions(t *testing.T) {
	for seed := range uint64(25) {
		r := rand.New(rand.NewPCG(seed, 3))
		var p P2
		for n := range 5000 {
			p.Add(r.Float64())
			for i := range p.at {
				if off := 1 + float64(n)*ideal[i] - p.at[i]; n > 1000 && math.Abs(off) >= 1 {
					t.Fatalf("seed %d, %d samples: marker %d is off by %g", seed, n+1, i, off)
				}
			}
		}
	}
}

func BenchmarkP2(b *testing.B) {
	b.ReportAllocs()
	var p P2
	r := rand.New(rand.NewPCG(1, 0))
	for range b.N {
		p.Add(r.Float64())
	}
}
