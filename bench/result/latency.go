package result

import "github.com/HdrHistogram/hdrhistogram-go"

// Percentiles from counted times.

// percentiles are the points of a latency curve.
var percentiles = []float64{1, 5, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.95, 99.99, 99.999}

// hdrMax is the longest time that a latency histogram can distinguish: a minute.
const hdrMax = 60e9

// NewLatency turns the counts into percentiles. It returns nil where nothing was counted. The
// median cost of reading the clock is subtracted from every time.
func NewLatency(o Observed) *Latency {
	histogram := func(pairs [][2]uint64) *hdrhistogram.Histogram {
		h := hdrhistogram.New(1, hdrMax, 3) // three decimal digits, as the children keep
		for _, p := range pairs {
			// 0 is below the histogram's range; a nanosecond is as good
			_ = h.RecordValues(int64(min(max(p[0], 1), hdrMax)), int64(p[1]))
		}
		return h
	}
	h, clock := histogram(o.Latency), histogram(o.Clock)
	if h.TotalCount() == 0 {
		return nil
	}
	cost := float64(clock.ValueAtQuantile(50))
	at := func(percentile float64) float64 { // a time below the clock's resolution is still known, and 0 would mean not known
		return max(1, float64(h.ValueAtQuantile(percentile))-cost)
	}
	l := &Latency{Samples: uint64(h.TotalCount()), Every: o.Every, Clock: cost, P50: at(50), Max: at(100)}
	named := map[float64]*float64{95: &l.P95, 99: &l.P99, 99.9: &l.P999}
	for _, p := range percentiles {
		if (100-p)*float64(l.Samples) < 100 { // further out there is no sample
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

// ComparableP99 reports whether both have a 99th percentile that is more than a step or two of the
// clock.
func ComparableP99(a, b *Latency) bool {
	return a != nil && b != nil && min(a.P99, b.P99) > a.Clock
}
