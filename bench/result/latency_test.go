package result

import "testing"

// TestLatency: an operation that takes no longer than reading the clock has a time, of 1 ns; 0
// would be shown as not known.
func TestLatency(t *testing.T) {
	l := NewLatency(Observed{Clock: [][2]uint64{{20, 1000}}, Latency: [][2]uint64{{10, 600}, {20, 300_000}, {50, 5000}}})
	if l.P50 != 1 || l.P95 != 1 || l.P99 != 30 || l.Max != 30 || l.Clock != 20 {
		t.Errorf("%+v", l)
	}
	l = NewLatency(Observed{Clock: [][2]uint64{{20, 1000}}, Latency: [][2]uint64{{20, 1000}}})
	if l.P50 != 1 || l.Max != 1 || l.Curve[0][1] != 1 {
		t.Errorf("%+v", l)
	}
	if l := NewLatency(Observed{}); l != nil {
		t.Errorf("%+v of no samples", l)
	}
}
