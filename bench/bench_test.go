package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestMeasure runs every loop, also with more threads than one.
func TestMeasure(t *testing.T) {
	for _, workload := range Workloads {
		for _, name := range append(Allocators(), Empty) {
			for _, threads := range []int{1, 3} {
				t.Run(fmt.Sprintf("%s_%s_%d", workload, name, threads), func(t *testing.T) {
					p := Default()
					p.Iters, p.WS, p.Max, p.Threads = 20_001, 50, 40_000, threads
					r, err := Measure(Spec{workload, name, p})
					if err != nil {
						t.Fatal(err)
					}
					if r.Seconds <= 0 || r.OpsPerS <= 0 || r.NsPerOp <= 0 {
						t.Errorf("no time measured: %+v", r)
					}
					if runtime.GOOS == "linux" && (r.PeakRSS == 0 || r.PeakRSS < r.IdleRSS) {
						t.Errorf("peak of %d bytes resident with %d before the loop", r.PeakRSS, r.IdleRSS)
					}
				})
			}
		}
	}
}

func TestMeasureRefuses(t *testing.T) {
	if _, err := Measure(Spec{RandomMixed, "nobody", Default()}); err == nil || !strings.Contains(err.Error(), `"nobody"`) {
		t.Errorf("an unknown allocator: %v", err)
	}
	if _, err := Measure(Spec{"nothing", "go", Default()}); err == nil || !strings.Contains(err.Error(), `"nothing"`) {
		t.Errorf("an unknown workload: %v", err)
	}
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		name   string // of the parameter refused; "": none
		change func(*Params)
	}{
		{"", func(*Params) {}},
		{"", func(p *Params) { p.Min, p.Max = 1, 1 }},
		{"min", func(p *Params) { p.Min = 0 }},
		{"min", func(p *Params) { p.Min = p.Max + 1 }},
		{"max", func(p *Params) { p.Max = MaxSize + 1 }},
		{"ws", func(p *Params) { p.WS = 0 }},
		{"iters", func(p *Params) { p.Iters = 0 }},
		{"threads", func(p *Params) { p.Threads = 0 }},
		{"threads", func(p *Params) { p.Threads = -1 }},
		{"seed", func(p *Params) { p.Seed = 0 }},
	} {
		p := Default()
		c.change(&p)
		err := p.Validate(RandomMixed)
		var bad *ParamError
		if errors.As(err, &bad) != (c.name != "") || (bad != nil && bad.Name != c.name) {
			t.Errorf("%+v: %v, want a complaint about %q", p, err, c.name)
		}
	}
}

func TestOps(t *testing.T) {
	p := Params{Iters: 201, Threads: 2}
	if n := p.Ops(RandomMixed); n != 402 {
		t.Errorf("random_mixed: %d operations, want 402", n)
	}
	if n := p.Ops(TinyHot); n != 800 { // two whole batches of 200 each
		t.Errorf("tiny_hot: %d operations, want 800", n)
	}
}

func TestThreadSeed(t *testing.T) {
	p := Params{Seed: 1<<32 - 1}
	if a, b := p.threadSeed(0), p.threadSeed(1); a != 1<<32-1 || b == 0 {
		t.Errorf("seeds %d and %d", a, b)
	}
}

// hashed are the parameters for which the operations of the two languages are
// compared, and what the hash was when it was written down.
var hashed = []struct {
	p    Params
	want uint64
}{
	{Params{Min: 16, Max: 1024, WS: 400, Iters: 100_000, Seed: 1}, 16268853923394057455},
	{Params{Min: 8, Max: 128, WS: 400, Iters: 100_000, Seed: 7}, 13626275212321453305},
	{Params{Min: 1, Max: 1, WS: 1, Iters: 1000, Seed: 1<<32 - 1}, 11236679341730431021},
	{Params{Min: 16, Max: 1 << 20, WS: 100_000, Iters: 100_000, Seed: 12345}, 14738245413678118439},
}

func TestSequence(t *testing.T) {
	for _, c := range hashed {
		if got := c.p.SequenceHash(); got != c.want {
			t.Errorf("%+v: hash %d, want %d: the operations changed", c.p, got, c.want)
		}
	}
}

// buildDriver builds the C driver, or skips the test where there is no gcc.
func buildDriver(t *testing.T) string {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skipf("the C driver is for Linux, this is %s", runtime.GOOS)
	}
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("no gcc here: the C twin is not compared")
	}
	dir := t.TempDir()
	if out, err := exec.Command("sh", "native/setup.sh", "--build", dir).CombinedOutput(); err != nil {
		t.Fatalf("setup.sh: %v\n%s", err, out)
	} else if len(out) > 0 {
		t.Errorf("the compiler warns:\n%s", out)
	}
	return filepath.Join(dir, "driver")
}

func driverFlags(p Params) []string {
	var flags []string
	for name, v := range p.Map(RandomMixed) {
		flags = append(flags, "--"+name, fmt.Sprint(v))
	}
	return flags
}

func TestDriverSequence(t *testing.T) {
	driver := buildDriver(t)
	for _, c := range hashed {
		c.p.Threads = 1
		out, err := exec.Command(driver, append(driverFlags(c.p), "random_mixed", "--hash")...).Output()
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.TrimSpace(string(out)); got != strconv.FormatUint(c.want, 10) {
			t.Errorf("%+v: C has hash %s, Go %d", c.p, got, c.want)
		}
	}
}

func TestDriverRuns(t *testing.T) {
	driver := buildDriver(t)
	for _, args := range []string{
		"random_mixed", "--threads 3 random_mixed --ws 50", "random_mixed --empty --threads 2",
		"tiny_hot", "tiny_hot --empty", "tiny_hot --threads 2",
	} {
		out, err := exec.Command(driver, append(strings.Fields(args), "--iters", "20000")...).Output()
		var r Run
		if err == nil {
			err = json.Unmarshal(out, &r)
		}
		if err != nil || r.Seconds <= 0 || r.OpsPerS <= 0 || r.NsPerOp <= 0 || r.PeakRSS == 0 || r.Version == "" {
			t.Errorf("%s: %v, %+v from %s", args, err, r, out)
		}
	}
	for _, args := range []string{"", "nothing", "random_mixed --min", "random_mixed --ws 0", "random_mixed --min -1", "random_mixed --nope", "random_mixed --min 9 --max 8"} {
		var exit *exec.ExitError
		if err := exec.Command(driver, strings.Fields(args)...).Run(); !errors.As(err, &exit) || exit.ExitCode() != 2 {
			t.Errorf("%q: %v, want exit status 2", args, err)
		}
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 2, 9}, 3}} {
		if got := Median(c.values); got != c.want {
			t.Errorf("median of %v is %v, want %v", c.values, got, c.want)
		}
	}
}

// TestSummarize has two layouts of three runs, one of them disturbed, and
// subtracts each layout's own loop.
func TestSummarize(t *testing.T) {
	var runs, empty []Run
	for _, r := range []struct {
		layout    int
		ns, empty float64
	}{{1, 10, 4}, {1, 11, 4}, {1, 90, 4}, {2, 20, 6}, {2, 21, 6}, {2, 21, 6}} {
		runs = append(runs, Run{NsPerOp: r.ns, Layout: r.layout, Version: "v1"})
		empty = append(empty, Run{NsPerOp: r.empty, Layout: r.layout})
	}
	got := Summarize("x", runs, empty)
	if got.NsPerOp != 16 || got.NetNsPerOp != 11 || got.Version != "v1" { // (11+21)/2, (7+15)/2
		t.Errorf("%v ns, net %v, version %q", got.NsPerOp, got.NetNsPerOp, got.Version)
	}
	if got := Summarize("x", runs, nil); got.NetNsPerOp != 0 {
		t.Errorf("net %v without an empty loop", got.NetNsPerOp)
	}
}

// TestSchema holds the keys that other programs read.
func TestSchema(t *testing.T) {
	report := Report{
		Workload: RandomMixed, Params: Default().Map(RandomMixed), Machine: ThisMachine(),
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
	check("a result", m["results"].([]any)[0], "allocator", "version", "ops_per_s", "ns_per_op", "net_ns_per_op", "peak_rss_bytes", "minor_faults", "runs")
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
