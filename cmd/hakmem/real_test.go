package main

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/hakmem/hakmem/bench/result"
)

// TestSummarizeReal: costs are what they are by hand.
func TestSummarizeReal(t *testing.T) {
	r := &result.RealTuning{Baseline: "1s", Patterns: []string{"tide", "mid"}}
	add := func(arm string, price float64, pattern string, figures ...[2]float64) { // CPU s and GiB·s of both series
		for i, f := range figures {
			r.Runs = append(r.Runs, result.RealRun{Arm: arm, Price: price, Pattern: pattern, Series: i + 1, RealFigures: result.RealFigures{CPU: f[0], Excess: f[1], Faults: 10}})
		}
	}
	for _, p := range r.Patterns {
		add("always", 0, p, [2]float64{1.9, 40}, [2]float64{2.1, 40}) // 2 s are the reference
		add("auto", 0.5, p, [2]float64{9, 9}, [2]float64{9, 9})       // another price
	}
	add("auto", 0.1, "tide", [2]float64{2.5, 2}, [2]float64{2.7, 4}) // 0.6 + 0.3
	add("auto", 0.1, "mid", [2]float64{1.5, 10}, [2]float64{1.9, 8}) // below the reference: 0 + 0.9
	add("1s", 0, "tide", [2]float64{3, 8}, [2]float64{3, 8})         // 1 + 0.8
	add("1s", 0, "mid", [2]float64{2, 36}, [2]float64{2, 36})        // 0 + 3.6
	add("never", 0, "tide", [2]float64{5.6, 0}, [2]float64{5.6, 0})  // 3.6
	add("never", 0, "mid", [2]float64{2, 0}, [2]float64{1.9, 0})     // nothing that could be measured
	s := summarizeReal(r, []string{"auto", "1s", "always", "never"}, 0.1)
	near := func(a, b float64) bool { return math.Abs(a-b) < 1e-12 }
	a := s.Arms[0]
	if p := a.Patterns[0]; !near(p.CPU, 0.6) || !near(p.Memory, 3) || !near(p.Cost, 0.9) || !near(p.CostRatio, 0.5) || !near(p.MemoryRatio, 3.0/8) || p.Faults != 10 || !near(p.Spread, 0.4/0.9) {
		t.Errorf("%+v", p)
	}
	if p := a.Patterns[1]; !near(p.CPU, -0.3) || !near(p.Cost, 0.9) || !near(p.CostRatio, 0.25) || !near(p.Spread, 0.2/0.9) {
		t.Errorf("%+v", p)
	}
	if !near(a.Cost, math.Sqrt(0.125)) || !near(a.Worst, 0.5) || a.On != "tide" || !near(a.Memory, math.Sqrt(3.0/8/4)) || !near(a.WorstMemory, 0.375) || a.MemoryOn != "tide" ||
		!near(a.Spread, 0.3/0.9) || !near(a.MostSpread, 0.4/0.9) {
		t.Errorf("%+v", a)
	}
	if a := s.Arms[1]; a.Cost != 1 || a.Worst != 1 || a.Memory != 1 {
		t.Errorf("the baseline: %+v", a)
	}
	if a := s.Arms[2]; !near(a.Patterns[0].Cost, 4) || !near(a.Patterns[0].CPU, 0) {
		t.Errorf("always: %+v", a)
	}
	if a := s.Arms[3]; !near(a.Cost, 2) || a.Patterns[1].CostRatio != 0 || a.Memory != 0 || !near(a.Worst, 2) {
		t.Errorf("what is not known is left out: %+v", a)
	}
}

// TestRealRuns: both series of a pattern follow each other, and only what depends on the price runs for each.
func TestRealRuns(t *testing.T) {
	trial := realTrial{arms: []string{"auto", "1s", "nolearn"}, patterns: []string{"tide", "mid"}, seeds: []uint64{5, 6}, prices: []float64{0.1, 0.5}}
	var got []string
	for _, r := range trial.runs() {
		if r.Pattern == "tide" && r.Seed == 6 {
			got = append(got, strings.Join([]string{r.Arm, priceText(r.Price), string(rune('0' + r.Series))}, " "))
		}
	}
	want := []string{"auto 0.1 1", "auto 0.5 1", "1s 0 1", "nolearn 0.1 1", "nolearn 0.5 1", "auto 0.1 2", "auto 0.5 2", "1s 0 2", "nolearn 0.1 2", "nolearn 0.5 2"}
	if !slices.Equal(got, want) || len(trial.runs()) != 40 {
		t.Errorf("%d runs, those of one pattern and seed %q, want %q", len(trial.runs()), got, want)
	}
}
