package main

import (
	"math"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/perf/benchmath"

	"github.com/hakmem/hakmem/bench"
)

// confidence is the level asked of intervals.
const confidence = 0.95

// times returns the times of an operation on which statistics are based: one for each code layout
// or, if there is only one layout, one for each run.
func times(runs []bench.Run) []float64 {
	var list []float64
	if layouts := bench.LayoutTimes(runs); len(layouts) > 1 {
		for _, t := range layouts {
			list = append(list, t)
		}
		return list
	}
	for _, r := range runs {
		list = append(list, r.NsPerOp)
	}
	return list
}

func newSample(runs []bench.Run) *benchmath.Sample {
	return benchmath.NewSample(times(runs), &benchmath.DefaultThresholds)
}

// interval bounds the median time of an operation. Five runs and fewer cannot give 95 %. Then the
// interval is their range, and level is the confidence of that: 1 - 2/2^n for n runs, because the
// median lies outside only if all runs fall on one side of it.
func interval(runs []bench.Run) (low, high, level float64) {
	if len(runs) == 0 {
		return 0, 0, 0
	}
	s := newSample(runs)
	sum := benchmath.AssumeNothing.Summary(s, confidence)
	if math.IsInf(sum.Lo, 0) || math.IsInf(sum.Hi, 0) {
		n := float64(len(s.Values))
		return s.Values[0], s.Values[len(s.Values)-1], max(0, 1-2*math.Pow(0.5, n))
	}
	return sum.Lo, sum.Hi, sum.Confidence
}

// chance is the Mann-Whitney probability that a and b come from one distribution.
func chance(a, b []bench.Run) float64 {
	if len(a) == 0 || len(b) == 0 {
		return 1
	}
	return benchmath.AssumeNothing.Compare(newSample(a), newSample(b)).P
}

// makeNoise sums up an A/A run.
func makeNoise(name string, a, b []bench.Run) *bench.Noise {
	if len(a) == 0 || len(b) == 0 {
		return nil
	}
	low, high := math.Inf(1), 0.0
	var all []float64
	for _, r := range append(append([]bench.Run{}, a...), b...) {
		low, high = min(low, r.NsPerOp), max(high, r.NsPerOp)
		all = append(all, r.NsPerOp)
	}
	return &bench.Noise{
		Allocator: name, Runs: len(a),
		Ratio:  bench.Median(times(b)) / bench.Median(times(a)),
		Spread: (high - low) / bench.Median(all),
	}
}

// percentiles are the points of a latency curve.
var percentiles = []float64{1, 5, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.95, 99.99, 99.999}

// hdrMax is the longest time in nanoseconds that a latency histogram resolves: a minute.
const hdrMax = 60e9

// makeLatency turns a child's counts into percentiles. The median cost of reading the clock is
// subtracted from every time.
func makeLatency(o bench.Observed) *bench.Latency {
	histogram := func(pairs [][2]uint64) *hdrhistogram.Histogram {
		h := hdrhistogram.New(1, hdrMax, 3) // three decimal digits, as in the children
		for _, p := range pairs {
			// The histogram cannot hold 0. A nanosecond serves as well.
			_ = h.RecordValues(int64(min(max(p[0], 1), hdrMax)), int64(p[1]))
		}
		return h
	}
	h, clock := histogram(o.Latency), histogram(o.Clock)
	if h.TotalCount() == 0 {
		return nil
	}
	cost := float64(clock.ValueAtQuantile(50))
	// At least 1: a time below the clock's resolution is known, and 0 would mean not known.
	at := func(percentile float64) float64 {
		return max(1, float64(h.ValueAtQuantile(percentile))-cost)
	}
	l := &bench.Latency{Samples: uint64(h.TotalCount()), Every: o.Every, Clock: cost, P50: at(50), Max: at(100)}
	named := map[float64]*float64{95: &l.P95, 99: &l.P99, 99.9: &l.P999}
	for _, p := range percentiles {
		if (100-p)*float64(l.Samples) < 100 { // beyond this there is no sample
			break
		}
		l.Curve = append(l.Curve, [2]float64{p, at(p)})
		if v := named[p]; v != nil {
			*v = at(p)
		}
	}
	l.Curve = append(l.Curve, [2]float64{100, l.Max})
	return l
}

// makeRatios relates every peer to each of hakmem's interfaces.
func makeRatios(report bench.Report) []bench.Ratio {
	rows := []bench.Ratio{}
	over := func(a, b float64) float64 {
		if a <= 0 || b <= 0 { // not known, or a loop that is faster than its own empty one
			return 0
		}
		return a / b
	}
	for _, h := range report.Results {
		if !isHakmem(h.Allocator) {
			continue
		}
		slowest, fastest := h.NsPerOp, h.NsPerOp
		if layouts := bench.LayoutTimes(h.Runs); len(layouts) > 1 {
			for _, t := range layouts {
				slowest, fastest = max(slowest, t), min(fastest, t)
			}
		}
		for _, p := range report.Results {
			if isHakmem(p.Allocator) {
				continue
			}
			row := bench.Ratio{
				Hakmem: h.Allocator, Peer: p.Allocator,
				Raw: p.NsPerOp / h.NsPerOp, Low: p.NsPerOp / slowest, High: p.NsPerOp / fastest,
				Net: over(p.NetNsPerOp, h.NetNsPerOp), P: chance(h.Runs, p.Runs),
				Memory: over(float64(p.OverIdle), float64(h.OverIdle)), Area: over(p.RSSSeconds, h.RSSSeconds),
			}
			if bench.ComparableP99(h.Latency, p.Latency) {
				row.P99 = over(p.Latency.P99, h.Latency.P99)
			}
			rows = append(rows, row)
		}
	}
	return rows
}
