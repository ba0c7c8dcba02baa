package result

import "testing"

func TestRatios(t *testing.T) {
	rows := Ratios([]Result{
		{Allocator: "hakmem", NsPerOp: 10, NetNsPerOp: 4, OverIdle: 100, RSSSeconds: 10, Latency: &Latency{P99: 20},
			Runs: []Run{{Placement: 1, NsPerOp: 8}, {Placement: 2, NsPerOp: 12}}},
		{Allocator: "mimalloc", NsPerOp: 12, NetNsPerOp: 6, OverIdle: 150, Latency: &Latency{P99: 30}},
	})
	want := Ratio{Hakmem: "hakmem", Peer: "mimalloc", Raw: 1.2, Net: 1.5, Low: 1, High: 1.5, P: 1, Memory: 1.5, P99: 1.5}
	if len(rows) != 1 || rows[0] != want {
		t.Errorf("%+v, want %+v", rows, want)
	}
}

// TestOver: a figure that is not known, or a time of 0, gives no ratio.
func TestOver(t *testing.T) {
	for _, c := range []struct{ a, b, want float64 }{{3, 2, 1.5}, {0, 2, 0}, {3, 0, 0}, {-1, 2, 0}, {3, -2, 0}} {
		if got := Over(c.a, c.b); got != c.want {
			t.Errorf("%v over %v is %v, want %v", c.a, c.b, got, c.want)
		}
	}
}

// TestComplete: figures that a report lacks follow from its runs and results; figures that it has
// stay.
func TestComplete(t *testing.T) {
	results := func() []Result {
		return []Result{
			{Allocator: "hakmem", NsPerOp: 2, Runs: []Run{{NsPerOp: 2, PeakRSS: 30, IdleRSS: 10}}},
			{Allocator: "peer", NsPerOp: 3, OverIdle: 50, Runs: []Run{{NsPerOp: 3, PeakRSS: 1000, IdleRSS: 10}}},
		}
	}
	r := Report{Results: results()}
	r.Complete()
	if r.Results[0].OverIdle != 20 || r.Results[1].OverIdle != 50 {
		t.Errorf("over idle %d and %d, want 20 and 50", r.Results[0].OverIdle, r.Results[1].OverIdle)
	}
	if len(r.Ratios) != 1 || r.Ratios[0].Raw != 1.5 || r.Ratios[0].Memory != 2.5 || r.Ratios[0].P != 1 {
		t.Errorf("ratios %+v, want one of 1.5 in time and 2.5 in memory", r.Ratios)
	}
	r = Report{Results: results(), Ratios: []Ratio{{Hakmem: "hakmem", Peer: "peer", Raw: 7}}}
	r.Complete()
	if len(r.Ratios) != 1 || r.Ratios[0] != (Ratio{Hakmem: "hakmem", Peer: "peer", Raw: 7}) {
		t.Errorf("ratios %+v, want the report's own", r.Ratios)
	}
}
