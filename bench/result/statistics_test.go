package result

import (
	"math"
	"math/big"
	"testing"
)

func runsOf(times ...float64) (runs []Run) {
	for _, t := range times {
		runs = append(runs, Run{NsPerOp: t})
	}
	return runs
}

// TestInterval has two placements of three runs: the interval is that of the placements' medians.
func TestInterval(t *testing.T) {
	if low, high, level := Interval(runsOf(3, 1, 2)); low != 1 || high != 3 || level != 0.75 {
		t.Errorf("three runs: %v to %v with %v", low, high, level)
	}
	runs := runsOf(1, 2, 9, 4, 5, 9)
	for i := range runs {
		runs[i].Placement = 1 + i/3
	}
	if low, high, level := Interval(runs); low != 2 || high != 5 || level != 0.5 {
		t.Errorf("two placements: %v to %v with %v", low, high, level)
	}
}

// TestMedianInterval has the ranks of the tables of order statistics: of 10 values the second and
// the ninth bound the median with 97.9 %.
func TestMedianInterval(t *testing.T) {
	for _, c := range []struct {
		n                int
		low, high, level float64
	}{
		{0, 0, 0, 0}, {1, 1, 1, 0}, {5, 1, 5, 0.9375}, {6, 1, 6, 0.9688}, {8, 1, 8, 0.9922}, {10, 2, 9, 0.9785}, {20, 6, 15, 0.9586},
	} {
		var values []float64
		for i := range c.n {
			values = append(values, float64(c.n-i))
		}
		if low, high, level := MedianInterval(values); low != c.low || high != c.high || math.Abs(level-c.level) > 0.00005 {
			t.Errorf("%d values: %v to %v with %v, want %v to %v with %v", c.n, low, high, level, c.low, c.high, c.level)
		}
	}
}

// TestMedianIntervalExact compares with the binomial distribution in whole numbers, from one run to
// the maximum that a program accepts.
func TestMedianIntervalExact(t *testing.T) {
	sizes := []int{1074, 1075, 1076, 2500, 10_000}
	for n := 1; n < 200; n++ {
		sizes = append(sizes, n)
	}
	for _, n := range sizes {
		values := make([]float64, n)
		for i := range values {
			values[i] = float64(i)
		}
		all := new(big.Int).Lsh(big.NewInt(1), uint(n)) // 2^n
		term, below, k := big.NewInt(1), big.NewInt(1), 0
		outside := new(big.Int).Set(below)
		for new(big.Int).Mul(below, big.NewInt(40)).Cmp(all) <= 0 { // a share of 1/40
			outside.Set(below)
			term.Mul(term, big.NewInt(int64(n-k)))
			k++
			term.Quo(term, big.NewInt(int64(k)))
			below.Add(below, term)
		}
		k = max(0, k-1)
		share, _ := new(big.Rat).SetFrac(outside, all).Float64()
		low, high, level := MedianInterval(values)
		if low != float64(k) || high != float64(n-1-k) || math.Abs(level-(1-2*share)) > 1e-9 {
			t.Errorf("%d values: %v to %v with %v, want %d to %d with %v", n, low, high, level, k, n-1-k, 1-2*share)
		}
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 2, 9}, 3}} {
		if got := Median(c.values); got != c.want {
			t.Errorf("median of %v is %v, want %v", c.values, got, c.want)
		}
	}
}
