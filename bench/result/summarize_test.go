package result

import (
	"encoding/json"
	"reflect"
	"slices"
	"testing"
)

// TestSummarize has two placements of three runs, one of them disturbed, and subtracts each placement's
// own loop.
func TestSummarize(t *testing.T) {
	var runs, empty []Run
	for _, r := range []struct {
		placement int
		ns, empty float64
	}{{1, 10, 4}, {1, 11, 4}, {1, 90, 4}, {2, 20, 6}, {2, 21, 6}, {2, 21, 6}} {
		runs = append(runs, Run{NsPerOp: r.ns, Placement: r.placement, Version: "v1"})
		empty = append(empty, Run{NsPerOp: r.empty, Placement: r.placement})
	}
	got := Summarize("x", runs, empty)
	if got.NsPerOp != 16 || got.NetNsPerOp != 11 || got.Version != "v1" { // (11+21)/2, (7+15)/2
		t.Errorf("%v ns, net %v, version %q", got.NsPerOp, got.NetNsPerOp, got.Version)
	}
	if got := Summarize("x", runs, nil); got.NetNsPerOp != 0 {
		t.Errorf("net %v without an empty loop", got.NetNsPerOp)
	}
}

// TestOverIdle: a run that needed no more memory than it had counts as 0; a run with an unknown
// beginning does not count.
func TestOverIdle(t *testing.T) {
	for _, c := range []struct {
		name string
		runs [][2]uint64 // peak and idle
		want uint64
	}{
		{"none", nil, 0},
		{"one", [][2]uint64{{50, 10}}, 40},
		{"most need nothing", [][2]uint64{{10, 10}, {50, 10}, {10, 10}}, 0},
		{"one needs nothing", [][2]uint64{{10, 10}, {50, 10}, {40, 10}}, 30},
		{"a peak below idle", [][2]uint64{{5, 10}, {5, 10}, {50, 10}}, 0},
		{"one of unknown idle", [][2]uint64{{1000, 0}, {50, 10}, {60, 10}, {70, 10}}, 50},
		{"unknown", [][2]uint64{{1000, 0}}, 0},
	} {
		var runs []Run
		for _, r := range c.runs {
			runs = append(runs, Run{NsPerOp: 1, PeakRSS: r[0], IdleRSS: r[1]})
		}
		if got := OverIdle(runs); got != c.want {
			t.Errorf("%s: %d bytes over idle, want %d", c.name, got, c.want)
		}
		if got := Summarize("x", runs, nil).OverIdle; got != c.want {
			t.Errorf("%s: the result says %d bytes over idle, want %d", c.name, got, c.want)
		}
	}
}

// TestSchema holds the keys that other programs read.
func TestSchema(t *testing.T) {
	report := Report{
		Workload: "random_mixed", Params: map[string]any{"ws": 400}, Machine: Machine{CPU: "a processor", Cores: 2},
		Results: []Result{Summarize("go", []Run{{Seconds: 1, OpsPerS: 2e9, NsPerOp: 0.5, PeakRSS: 1 << 40, MinorFaults: 3, Version: "v"}}, nil)},
		Absent:  []Absent{{"modernc", "not here"}},
	}
	text, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	check := func(what string, v any, want ...string) {
		t.Helper()
		var keys []string
		for k := range v.(map[string]any) {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		slices.Sort(want)
		if !slices.Equal(keys, want) {
			t.Errorf("%s has the keys %q, want %q", what, keys, want)
		}
	}
	check("the report", m, "workload", "params", "machine", "results", "absent")
	check("a result", m["results"].([]any)[0], "allocator", "version", "ops_per_s", "ns_per_op", "net_ns_per_op", "peak_rss_bytes", "minor_faults", "runs",
		"ns_per_op_low", "ns_per_op_high", "confidence", "peak_over_idle_bytes", "rss_byte_seconds")
	check("an absence", m["absent"].([]any)[0], "allocator", "reason")

	var back Report
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	back.Params = report.Params // numbers come back as float64
	if !reflect.DeepEqual(back, report) {
		t.Errorf("round trip:\n%+v\n%+v", report, back)
	}
}
