package report

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/hakmem/hakmem/bench/result"
)

// someSimulation and someReal are what tune eval writes, with few rows.
func someSimulation() result.Tuning {
	curve := make([]float64, 50)
	for i := range curve {
		curve[i] = 0.01 * float64(i-2) // the optimum may have paid more for a while
	}
	return result.Tuning{Version: result.TuningVersion, Command: []string{"hakmem", "tune", "eval"}, Programs: "2 of <each> kind",
		Simulated: []result.Simulation{{
			Price: 0.13, BreakEven: 1.86, Kinds: []string{"saw1", "shiftA"}, Arms: []float64{0, 0.1},
			Policies: []result.SimulatedPolicy{
				{Name: "learner", Mean: 1.25, LookedAt: 1.24, Ratio: []float64{1.1, 1.42}, After: 2.8, Flip: 1.1, Regret: curve, Plays: []float64{0.25, 0.5, 0.25},
					OverStatic: &result.WorstProgram{Ratio: 1.5, Kind: "saw1", Seed: 1001}, OverBreakEven: &result.WorstProgram{Ratio: 1.05, Kind: "mine.csv"}},
				{Name: "static oracle", Mean: 1.2, Ratio: []float64{1.2, 1.2}},
				{Name: "keep 0s", Mean: 3.5, Ratio: []float64{7, 1.75}, Regret: make([]float64, 50)},
			},
			Recoveries: []result.Recovery{{Kind: "shiftA", From: 0.5, To: 6, Gaps: 16, Needed: map[string]float64{"learner": 4.5}}},
		}}}
}

func someReal() result.Tuning {
	arm := func(name string, cost, memory float64) result.RealArm {
		return result.RealArm{Name: name, Cost: cost, Worst: 2 * cost, On: "tide", Memory: memory, WorstMemory: memory, MemoryOn: "small", Spread: 0.03, MostSpread: 0.07,
			Patterns: []result.RealPattern{
				{Pattern: "tide", CPU: 0.2, Memory: 1.5, CostRatio: 2 * cost, MemoryRatio: memory, Spread: 0.07, Faults: 1234},
				{Pattern: "small", CostRatio: cost / 2, MemoryRatio: memory},
			}}
	}
	return result.Tuning{Version: result.TuningVersion, Real: &result.RealTuning{
		Seconds: 20, Baseline: "500ms", Patterns: []string{"tide", "small"}, Seeds: []uint64{1001, 1002},
		Prices: []result.RealPrice{{Price: 0.13, Arms: []result.RealArm{arm("auto", 0.8, 0.9), arm("500ms", 1, 1), arm("always", 1.7, 0)}}},
	}}
}

// written returns the names of files with evaluations, in a directory of their own.
func written(t *testing.T, list ...result.Tuning) (names []string) {
	t.Helper()
	for i, x := range list {
		text, err := json.Marshal(x)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(t.TempDir(), string(rune('a'+i))+".json")
		if err := os.WriteFile(name, text, 0o666); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	return names
}

// TestTuningPage: what an evaluation holds is on the page, and its charts are well formed.
func TestTuningPage(t *testing.T) {
	names := written(t, someSimulation(), someReal())
	for _, c := range []struct {
		files []string
		marks []int // in each chart
		want  []string
	}{
		{names[:1], []int{3, 2}, []string{
			"<h2>Simulated: price 0.13, break-even 1.86 s</h2>", "Programs: 2 of &lt;each&gt; kind.", "<pre>hakmem tune eval</pre>",
			"learner: 1.25× the optimum&#39;s cost", "the same hold time for all pages", "dearer →",
			"% of the program&#39;s time", "0.2 s</text>", // the axes of the curves have units
			"learner: 0 s at 6 %; 0.08 s at 22 %", `d="M58 206.1L66 214L73.9 210.1`, // from 0 to 4 % of the time
			"<th scope=\"row\">learner</th><td>1.25×</td><td>1.24×</td><td>saw1, seed 1001: 1.50×</td><td>mine.csv: 1.05×</td><td>2.80×</td><td>1.10×</td>",
			"<th scope=\"row\">keep 0s</th><td>7.00</td><td>1.75</td>",
			"<th scope=\"row\">learner</th><td>25.0</td><td>50.0</td><td>25.0</td>",
			"<th scope=\"col\">shiftA, 0.5 to 6 s, of 16</th>", "<th scope=\"row\">learner</th><td>4.5</td>",
		}},
		{names[1:], []int{9, 6}, []string{
			"<h2>Real processes: price 0.13</h2>", "Runs of 20 s", "2 seeds each", "all patterns, geometric mean",
			"tide, auto: 1.60× the cost of 500ms; 0.2 CPU s, 1.5 GiB·s, 1234 faults, noise 7.0 %",
			"← cheaper", "← less", "<th scope=\"row\">always</th><td>1.70×</td><td>3.40×</td><td>tide</td><td>n/a</td><td>n/a</td><td>small</td><td>3.0 %</td><td>7.0 %</td>",
		}},
		{names, []int{3, 2, 9, 6}, []string{"1.86 s (a.json)</h2>", "price 0.13 (b.json)</h2>", `id="s1"`, `id="s2"`}},
	} {
		page := render(t, must(Load(c.files...)))
		for _, want := range c.want {
			if !strings.Contains(page, want) {
				t.Errorf("%d files: the page does not say %q", len(c.files), want)
			}
		}
		charts := chartTag.FindAllString(page, -1)
		if len(charts) != len(c.marks) {
			t.Fatalf("%d charts, want %d", len(charts), len(c.marks))
		}
		for i, svg := range charts {
			if n := countMarks(t, svg); n != c.marks[i] {
				t.Errorf("chart %d has %d marks, want %d", i, n, c.marks[i])
			}
		}
		for _, no := range []string{"<script", "http://", "https://", "@import"} {
			if strings.Contains(strings.ReplaceAll(page, `xmlns="http://www.w3.org/2000/svg"`, ""), no) {
				t.Errorf("the page needs something else: %q", no)
			}
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestTuningLoad: an evaluation is read as it was written.
func TestTuningLoad(t *testing.T) {
	for _, want := range []result.Tuning{someSimulation(), someReal()} {
		s := must(Load(written(t, want)...))
		if len(s) != 1 || !reflect.DeepEqual(*s[0].Tuning, want) || !reflect.DeepEqual(s[0].Command, want.Command) {
			t.Errorf("%+v, want %+v", s, want)
		}
	}
}

func TestTuningRefuses(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{`{"tuning": 1}`, "nothing was evaluated"},
		{`{"tuning": 1, "real": {}}`, "nothing was evaluated"},
		{`{"tuning": 2, "simulated": 7}`, "version 2 of an evaluation is not known"},
		{`{"tuning": 0}`, "version 0"},
		{`{"tuning": "x"}`, "unusable field"},
		{`{"tuning": 1, "simulated": 7}`, "unusable field"},
	} {
		if _, err := parse([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", c.text, err, c.want)
		}
	}
	names := append(written(t, someSimulation()), filepath.Join("testdata", "single.json"))
	for range 2 {
		if _, err := Load(names...); err == nil || !strings.Contains(err.Error(), "one by one") {
			t.Errorf("an evaluation and a comparison: %v", err)
		}
		names[0], names[1] = names[1], names[0]
	}
	text := MarkdownBegin + "\n" + MarkdownEnd + "\n"
	if _, err := Into([]byte(text), must(Load(names[:1]...))); err == nil || !strings.Contains(err.Error(), "no Markdown") {
		t.Errorf("tables of an evaluation: %v", err)
	}
}

// TestTuningOdd: an evaluation with holes makes a page without coordinates that are no numbers.
func TestTuningOdd(t *testing.T) {
	x := someSimulation()
	s := &x.Simulated[0]
	s.Policies = append(s.Policies, result.SimulatedPolicy{Name: "nothing"})
	s.Policies[0].Regret, s.Policies[2].Regret = nil, nil
	r := someReal()
	r.Real.Prices[0].Arms = append(r.Real.Prices[0].Arms, result.RealArm{Name: "never"})
	r.Real.Prices = append(r.Real.Prices, result.RealPrice{Price: 1})
	page := render(t, must(Load(written(t, x, r)...)))
	for _, svg := range chartTag.FindAllString(page, -1) {
		countMarks(t, svg)
	}
	if !strings.Contains(page, "No curves") || strings.Count(page, "No ratio is known") != 2 {
		t.Error("the page does not say what is missing")
	}
}
