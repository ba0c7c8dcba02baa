package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/hakmem/hakmem/bench/result"
	"github.com/hakmem/hakmem/internal/learn/sim"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/testkit"
)

// tuned runs tune eval with flags and returns what it writes into a file.
func tuned(t *testing.T, flags ...string) (r result.Tuning, printed string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "out.json")
	status, out, errs := hakmemCommand(append([]string{"tune", "eval", "--out", file}, flags...)...)
	if status != 0 || errs != "" {
		t.Fatalf("%v: status %d, %s", flags, status, errs)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	// What is read and written again is the same: no field is lost.
	again, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var a, b any
	if json.Unmarshal(text, &a) != nil || json.Unmarshal(again, &b) != nil || !reflect.DeepEqual(a, b) {
		t.Errorf("%v: written again, %.300s becomes %.300s", flags, text, again)
	}
	if r.Version != result.TuningVersion || r.Machine.Cores == 0 || r.Started == "" {
		t.Errorf("%v: %+v", flags, r)
	}
	return r, out
}

// TestTuneEval: the verb prints and writes what the simulator finds.
func TestTuneEval(t *testing.T) {
	if testkit.Race {
		t.Skip("skipped: -race; TestTuneTrace simulates two prices at the same time, too, and takes a tenth of the time")
	}
	t.Parallel() // with tests that wait for children
	r, text := tuned(t, "--price", "1", "--price", "1", "--seeds", "1", "--first", "7", "--length", "10s")
	if len(r.Simulated) != 1 || r.Simulated[0].Price != 1 || r.Real != nil {
		t.Fatalf("%+v", r)
	}
	want := sim.Evaluate(sim.Kinds(), []uint64{7}, 10e9, 1)[0]
	looked := sim.Evaluate(sim.Kinds(), []uint64{1, 2, 3}, 10e9, 1)[0]
	s := r.Simulated[0]
	if len(s.Policies) != len(want.Names) || len(s.Arms) != len(s.Policies[0].Plays)-1 || len(s.Recoveries) == 0 || len(s.Recoveries) != len(want.Recoveries) {
		t.Fatalf("%+v", s)
	}
	for i, p := range s.Policies {
		name := want.Names[i]
		if p.Name != name || p.Mean != want.Mean(name) || p.LookedAt != looked.Mean(name) || !slices.Equal(p.Ratio, want.Ratio[name]) || !slices.Equal(p.Plays, want.Plays[name]) {
			t.Errorf("%+v, want %s with %g, %g and %v", p, name, want.Mean(name), looked.Mean(name), want.Ratio[name])
		}
		if p.Mean < 1 {
			t.Errorf("%s costs less than the optimum", p.Name)
		}
		if h, ok := want.Harm[name]; ok && (p.OverStatic.Ratio != h.Static.Ratio || p.OverBreakEven.Ratio != h.BreakEven.Ratio || p.OverStatic.Kind != h.Static.Kind || p.OverStatic.Seed != h.Static.Seed) {
			t.Errorf("%+v, want %+v", p, h)
		}
		if regret := want.Regret[name]; regret != nil && !slices.Equal(p.Regret, regret) || name == sim.ArmName(want.Best()) && p.Regret == nil {
			t.Errorf("%s: the regret is %v, want %v", name, p.Regret, regret)
		}
		if c := sim.CostsAt(1); i == 0 && (p.After != sim.Adversary(sim.After, sim.Learner(c, 7), c) || p.Flip != sim.Adversary(sim.Flip, sim.Learner(c, 7), c)) {
			t.Errorf("adversaries: %+v", p)
		}
		if !strings.Contains(text, "\n"+name) {
			t.Errorf("%s is not in the tables:\n%s", name, text)
		}
	}
	for _, want := range []string{"seeds 7 to 7", "held out", "looked at", "until a policy is within", "how often hold times were used"} {
		if !strings.Contains(text, want) {
			t.Errorf("the tables do not say %q:\n%s", want, text)
		}
	}
}

// TestTuneTrace: the demand of a file is judged as the simulator judges it.
func TestTuneTrace(t *testing.T) {
	name := filepath.Join(t.TempDir(), "d.csv")
	if err := os.WriteFile(name, []byte("time_ms,level_pages\n0,100\n1000,0\n1500,100\n9000,0\n30000,0\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	r, text := tuned(t, "--price", "0.5", "--price", "0.13", "--trace", name)
	want, err := sim.EvaluatePlaced([]*sim.Placed{sim.PlaceLevels(name, []sim.Level{{At: 0, Pages: 100}, {At: 1e9}, {At: 1.5e9, Pages: 100}, {At: 9e9}, {At: 30e9}})}, 0.13)
	if err != nil || len(r.Simulated) != 2 || r.Simulated[0].Price != 0.13 || r.Simulated[1].Price != 0.5 {
		t.Fatal(err, r)
	}
	for _, p := range r.Simulated[0].Policies {
		if p.Mean != want[0].Mean(p.Name) || p.LookedAt != 0 || p.After != 0 {
			t.Errorf("%+v, want %g", p, want[0].Mean(p.Name))
		}
	}
	if !strings.Contains(text, "demand is in "+name) || strings.Contains(text, "looked at") {
		t.Error(text)
	}
}

// TestTuneJSON: --json prints what --out writes, except for the times.
func TestTuneJSON(t *testing.T) {
	name := filepath.Join(t.TempDir(), "d.csv")
	if err := os.WriteFile(name, []byte("time_ms level_pages\n0 9\n1000 0\n30000 0"), 0o666); err != nil {
		t.Fatal(err)
	}
	want, printed := tuned(t, "--price", "0.5", "--trace", name, "--json")
	var got result.Tuning
	if err := json.Unmarshal([]byte(printed), &got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v: %s", err, printed)
	}
}

// TestTuneReport: what tune eval writes can be drawn.
func TestTuneReport(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("d.csv", []byte("time_ms,level_pages\n0,9\n1000,0\n30000,0\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	if status, _, errs := hakmemCommand("tune", "eval", "--price", "0.5", "--trace", "d.csv", "--out", "t.json"); status != 0 {
		t.Fatal(errs)
	}
	if status, _, errs := hakmemCommand("tune", "eval", "--trace", "d.csv", "--out", "d.csv"); status != exitUsage || !strings.Contains(errs, `--out "d.csv" is one of the traces`) {
		t.Errorf("the output is the trace: status %d, %s", status, errs)
	}
	status, page, errs := hakmemCommand("report", "t.json", "-o", "-")
	if status != 0 || errs != "" || !strings.Contains(page, "Simulated: price 0.5") || strings.Count(page, `<svg class="chart"`) != 2 {
		t.Errorf("status %d, %s; %.200s", status, errs, page)
	}
	if err := os.WriteFile("r.json", []byte(someReport), 0o666); err != nil {
		t.Fatal(err)
	}
	if status, _, errs := hakmemCommand("report", "t.json", "r.json"); status != exitFailed || !strings.Contains(errs, "one by one") {
		t.Errorf("a page of both: status %d, %s", status, errs)
	}
}

// TestTuneReal: a little real run has all of its figures. Nothing is said of their sizes, as the machine
// may be busy.
func TestTuneReal(t *testing.T) {
	if _, ok := osmem.ResidentBytes(); !ok {
		t.Skip("skipped: resident memory is not known here")
	}
	t.Parallel()
	r, text := tuned(t, "--real", "--duration", "1s", "--price", "0.1", "--patterns", "bursts", "--arms", "auto,500ms", "--first", "3")
	if r.Real == nil || r.Real.Seconds != 1 || r.Real.Baseline != "500ms" || !slices.Equal(r.Real.Patterns, []string{"bursts"}) || !slices.Equal(r.Real.Seeds, []uint64{3}) {
		t.Fatalf("%+v", r.Real)
	}
	d := makeDemand("bursts", 3, 1e9)
	runs := map[string]int{}
	for _, run := range r.Real.Runs {
		runs[run.Arm]++
		if run.Digest != d.digest() || run.Ops != len(d.ops) || run.CPU <= 0 || run.Faults == 0 || run.Live <= 0 || run.Pattern != "bursts" || run.Seed != 3 {
			t.Errorf("%+v", run)
		}
		if want := map[string]float64{"auto": 0.1}[run.Arm]; run.Price != want {
			t.Errorf("%s runs at the price %g, want %g", run.Arm, run.Price, want)
		}
	}
	if want := map[string]int{"auto": 2, "500ms": 2, "always": 2}; !reflect.DeepEqual(runs, want) {
		t.Errorf("runs %v, want %v", runs, want)
	}
	if len(r.Real.Prices) != 1 || len(r.Real.Prices[0].Arms) != 3 {
		t.Fatalf("%+v", r.Real.Prices)
	}
	for _, a := range r.Real.Prices[0].Arms {
		if len(a.Patterns) != 1 || a.Patterns[0].Faults == 0 || a.Name == "500ms" && a.Cost != 1 && a.Cost != 0 {
			t.Errorf("%+v", a)
		}
		if !strings.Contains(text, "\n"+a.Name) {
			t.Errorf("%s is not in the table:\n%s", a.Name, text)
		}
	}
}

// TestTuneNoLearn: a program that was built with the learner is not taken for one without.
func TestTuneNoLearn(t *testing.T) {
	if _, ok := osmem.ResidentBytes(); !ok {
		t.Skip("skipped: resident memory is not known here")
	}
	t.Parallel()
	program, err := self()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(buildTags(), noLearnTag) {
		t.Skip("skipped: this is built with " + noLearnTag)
	}
	status, _, errs := hakmemCommand("tune", "eval", "--real", "--duration", "1s", "--price", "0.1", "--patterns", "mid", "--arms", "nolearn,500ms", "--nolearn", program)
	if status != exitFailed || !strings.Contains(errs, "not built with -tags "+noLearnTag) {
		t.Errorf("status %d, %s", status, errs)
	}
}

// TestTuneInterrupted: an interrupted evaluation writes nothing.
func TestTuneInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	t.Chdir(t.TempDir())
	for _, flags := range []string{"--real --duration 1s --patterns mid --arms always --baseline always", ""} {
		var out, errs strings.Builder
		status := run(ctx, strings.Fields("hakmem tune eval --out x "+flags), &out, &errs)
		if left, err := os.ReadDir("."); status != exitFailed || errs.String() != "hakmem: interrupted\n" || len(left) != 0 {
			t.Errorf("%s: status %d, %q, leaves %v, %v", flags, status, errs.String(), left, err)
		}
	}
}
