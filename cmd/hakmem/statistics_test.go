package main

import (
	"testing"

	"github.com/hakmem/hakmem/bench"
)

// TestLatency checks that an operation that takes no longer than reading the clock has a time of 1
// ns. 0 would be shown as not known.
func TestLatency(t *testing.T) {
	l := makeLatency(bench.Observed{Clock: [][2]uint64{{20, 1000}}, Latency: [][2]uint64{{10, 600}, {20, 300_000}, {50, 5000}}})
	if l.P50 != 1 || l.P95 != 1 || l.P99 != 30 || l.Max != 30 || l.Clock != 20 {
		t.Errorf("%+v", l)
	}
	l = makeLatency(bench.Observed{Clock: [][2]uint64{{20, 1000}}, Latency: [][2]uint64{{20, 1000}}})
	if l.P50 != 1 || l.Max != 1 || l.Curve[0][1] != 1 {
		t.Errorf("%+v", l)
	}
	if l := makeLatency(bench.Observed{}); l != nil {
		t.Errorf("%+v of no samples", l)
	}
}

func TestRatios(t *testing.T) {
	rows := makeRatios(bench.Report{Results: []bench.Result{
		{Allocator: "hakmem", NsPerOp: 10, NetNsPerOp: 4, OverIdle: 100, RSSSeconds: 10, Latency: &bench.Latency{P99: 20},
			Runs: []bench.Run{{Layout: 1, NsPerOp: 8}, {Layout: 2, NsPerOp: 12}}},
		{Allocator: "mimalloc", NsPerOp: 12, NetNsPerOp: 6, OverIdle: 150, Latency: &bench.Latency{P99: 30}},
	}})
	want := bench.Ratio{Hakmem: "hakmem", Peer: "mimalloc", Raw: 1.2, Net: 1.5, Low: 1, High: 1.5, P: 1, Memory: 1.5, P99: 1.5}
	if len(rows) != 1 || rows[0] != want {
		t.Errorf("%+v, want %+v", rows, want)
	}
}

func runsOf(times ...float64) (runs []bench.Run) {
	for _, t := range times {
		runs = append(runs, bench.Run{NsPerOp: t})
	}
	return runs
}

func TestInterval(t *testing.T) {
	if low, high, level := interval(runsOf(3, 1, 2)); low != 1 || high != 3 || level != 0.75 {
		t.Errorf("three runs: %v to %v with %v", low, high, level)
	}
	if low, high, level := interval(runsOf(1, 2, 3, 4, 5, 6, 7, 8, 9, 10)); low != 2 || high != 9 || level < 0.95 {
		t.Errorf("ten runs: %v to %v with %v", low, high, level)
	}
}
