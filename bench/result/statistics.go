package result

import (
	"maps"
	"math"
	"slices"

	"golang.org/x/perf/benchmath"
)

// Medians, intervals and probabilities of the times of runs.

// confidence is the level of the intervals that are asked for.
const confidence = 0.95

// Median returns the middle value. For an even number of values it is the mean of the middle two,
// for none it is 0.
func Median(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
	switch n := len(v); {
	case n == 0:
		return 0
	case n%2 == 1:
		return v[n/2]
	default:
		return (v[n/2-1] + v[n/2]) / 2
	}
}

// PlacementTimes returns the median time of an operation in each placement among the runs.
func PlacementTimes(runs []Run) map[int]float64 {
	times := map[int][]float64{}
	for _, r := range runs {
		times[r.Placement] = append(times[r.Placement], r.NsPerOp)
	}
	medians := map[int]float64{}
	for placement, t := range times {
		medians[placement] = Median(t)
	}
	return medians
}

// InOrder returns the values of a map by their keys, the smallest key first.
func InOrder(m map[int]float64) []float64 {
	var list []float64
	for _, k := range slices.Sorted(maps.Keys(m)) {
		list = append(list, m[k])
	}
	return list
}

// Times are the operation times from which statistics are made: one for each placement or, where
// there is only one placement, one for each run.
func Times(runs []Run) []float64 {
	var list []float64
	if placements := PlacementTimes(runs); len(placements) > 1 {
		for _, t := range placements {
			list = append(list, t)
		}
		return list
	}
	for _, r := range runs {
		list = append(list, r.NsPerOp)
	}
	return list
}

func newSample(runs []Run) *benchmath.Sample {
	return benchmath.NewSample(Times(runs), &benchmath.DefaultThresholds)
}

// Interval bounds the median time of an operation.
func Interval(runs []Run) (low, high, level float64) { return MedianInterval(Times(runs)) }

// MedianInterval bounds the median of the distribution that the values are drawn from. The bounds
// are order statistics, as many from either end, by the binomial distribution (David and Nagaraja,
// Order Statistics, 7.1). level is that of the interval: the confidence asked for, or more. Five
// values and fewer cannot reach it. Then the interval is their range, at a level of 1 - 2/2^n for n
// values, because the median lies outside only if all values fall on one side.
func MedianInterval(values []float64) (low, high, level float64) {
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	if n == 0 {
		return 0, 0, 0
	}
	// k is how many values may be dropped at either end, with P(Bin(n,1/2) <= k) at most half of
	// what the confidence leaves. The computation is in logarithms, because 1/2^n itself is 0 in a
	// float64 from n = 1075 on.
	k, below := 0, -float64(n)*math.Ln2
	outside := below
	for term := below; below <= math.Log((1-confidence)/2); k++ {
		outside = below
		term += math.Log(float64(n-k) / float64(k+1))
		below += math.Log1p(math.Exp(term - below))
	}
	k = max(0, k-1)
	return v[k], v[n-1-k], max(0, 1-2*math.Exp(outside))
}

// Chance is the Mann-Whitney probability that the two come from one distribution.
func Chance(a, b []Run) float64 {
	if len(a) == 0 || len(b) == 0 {
		return 1
	}
	return benchmath.AssumeNothing.Compare(newSample(a), newSample(b)).P
}

// NewNoise sums up an A/A run.
func NewNoise(name string, a, b []Run) *Noise {
	if len(a) == 0 || len(b) == 0 {
		return nil
	}
	low, high := math.Inf(1), 0.0
	var all []float64
	for _, r := range append(append([]Run{}, a...), b...) {
		low, high = min(low, r.NsPerOp), max(high, r.NsPerOp)
		all = append(all, r.NsPerOp)
	}
	return &Noise{
		Allocator: name, Runs: len(a),
		Ratio:  Median(Times(b)) / Median(Times(a)),
		Spread: (high - low) / Median(all),
	}
}
