package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/bench"
	"github.com/hakmem/hakmem/bench/loops"
	"github.com/hakmem/hakmem/bench/result"
)

// asProgram makes the test binary behave as the program under test.
const asProgram = "TEST_AS_PROGRAM"

// The commands start themselves again: as a child of a test, this binary has
// to be the program. It can also be a child that misbehaves.
func TestMain(m *testing.M) {
	switch {
	case len(os.Args) > 1 && os.Args[1] == childName, os.Getenv(asProgram) == "1":
		main()
	case os.Getenv(asProgram) == "hang":
		time.Sleep(time.Hour)
	case os.Getenv(asProgram) == "crash":
		fmt.Fprintln(os.Stderr, "a reason")
		os.Exit(3)
	case os.Getenv(asProgram) == "babble":
		fmt.Println("no JSON")
	default:
		// A child built with -race would wait a second before it exits.
		os.Setenv("GORACE", "atexit_sleep_ms=0")
		os.Exit(m.Run())
	}
}

// hakmemCommand runs a command line inside the test.
func hakmemCommand(line ...string) (status int, stdout, stderr string) {
	var out, errs bytes.Buffer
	status = run(context.Background(), append([]string{"hakmem"}, line...), &out, &errs)
	return status, out.String(), errs.String()
}

// hakmemProgram runs the command in a process of its own, its outputs pipes.
func hakmemProgram(t *testing.T, line ...string) (stdout, stderr string) {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(program, line...)
	c.Env = append(os.Environ(), asProgram+"=1")
	var out, errs bytes.Buffer // exec makes pipes for these
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		t.Fatalf("%v: %s", err, errs.String())
	}
	return out.String(), errs.String()
}

// tiny makes a measurement short.
var tiny = []string{"--iters", "2000", "--runs", "1"}

func TestFlagPlacement(t *testing.T) {
	for _, line := range []string{
		"bench random_mixed --ws 50 --alloc go --json",
		"bench --ws 50 --alloc go --json random_mixed",
		"bench --ws 50 random_mixed --json --alloc=go",
		"bench -ws=50 random_mixed -json -alloc go",
	} {
		status, out, errs := hakmemCommand(append(strings.Fields(line), tiny...)...)
		var r result.Report
		if err := json.Unmarshal([]byte(out), &r); err != nil || status != 0 {
			t.Errorf("%s: status %d, %v, %s", line, status, err, errs)
			continue
		}
		if r.Workload != "random_mixed" || r.Params["ws"] != 50.0 || r.Params["iters"] != 2000.0 ||
			len(r.Results) != 1 || r.Results[0].Allocator != "go" {
			t.Errorf("%s: %s", line, out)
		}
	}
}

// TestBadInput wants the mistaken value and the remedy in the message.
func TestBadInput(t *testing.T) {
	for _, c := range []struct{ line, value, remedy string }{
		{"bench", "no workload", "random_mixed, tiny_hot"},
		{"bench nothing", `"nothing"`, "random_mixed, tiny_hot"},
		{"bench random_mixed tiny_hot", `"tiny_hot"`, "leave"},
		{"bench random_mixed --min x", `"x"`, "whole number from 1 to"},
		{"bench random_mixed --min -5", `"-5"`, "whole number from 1 to"},
		{"bench random_mixed --rounds 3", "--rounds 3", "leave it out"},
		{"bench random_mixed --scale 0", `"0"`, "above 0"},
		{"bench dist --dist nowhere.csv", `"nowhere.csv"`, "CSV"},
		{"bench dist --dist=", `--dist ""`, "use web"},
		{"compare dist --dist=", `--dist ""`, "use web"},
		{"compare all --dist /nonexistent", `"/nonexistent"`, "use web"},
		{"compare all --quick --dist /nonexistent", `"/nonexistent"`, "use web"},
		{"bench dist --iters 1000000000", "--iters 1000000000", "to 268435456"},
		{"bench dist --iters 3 --threads 4", "--iters 3", "from 4"},
		{"bench dist --scale 100", "--scale 100 gives --iters 400000000", "to 268435456"},
		{"compare all --scale 100", "--scale 100", "to 268435456"},
		{"bench tiny_hot --scale 1001", `"1001"`, "up to 1000"},
		{"bench tiny_hot --scale NaN", `"NaN"`, "up to 1000"},
		{"compare tiny_hot --later -1s", `"-1s"`, "90s"},
		{"bench json --min 8", "--min 8", "leave it out"},
		{"bench vm16 --min 8 --max 8", "--min 8", "leave it out"},
		{"compare all --ws 3", "--ws 3", "--scale"},
		{"compare tiny_hot --quick", "--quick", "compare all"},
		{"compare tiny_hot --json --csv", "--json", "one of them"},
		{"bench tiny_hot --verify --json", "--verify", "one of them"},
		{"compare tiny_hot --verify --json", "--verify", "one of them"},
		{"compare tiny_hot --verify --csv", "--verify", "one of them"},
		{"replay x --verify --json", "--verify", "one of them"},
		{"compare tiny_hot --later never", `"never"`, "90s"},
		{"compare tiny_hot --peer go=/x", `"go=/x"`, "another name"},
		{"compare tiny_hot --peer mine=", `"mine="`, "NAME=PATH"},
		{"compare tiny_hot --peer hakmem-mine=/x", `"hakmem-mine=/x"`, "another name"},
		{"replay", "0 arguments", "name a file"},
		{"replay x --format y", `"y"`, "aosp"},
		{"record", "no program", "record -o FILE"},
		{"bench random_mixed --max 99999999999", `"99999999999"`, "to 1073741824"},
		{"bench random_mixed --min 100 --max 50", "100", "not above --max"},
		{"bench random_mixed --seed 0", `"0"`, "whole number from 1 to"},
		{"bench random_mixed --threads 1e3", `"1e3"`, "whole number from 1 to"},
		{"bench random_mixed --runs 0", `"0"`, "whole number from 1 to"},
		{"bench random_mixed --iters", "--iters", "--help"},
		{"bench random_mixed --limit soon", `"soon"`, "90s"},
		{"bench random_mixed --alloc go,foo", `"foo"`, "modernc"},
		{"bench random_mixed --alloc=", `""`, "modernc"},
		{"bench random_mixed --nope", "-nope", "--help"},
		{"bench tiny_hot --ws 3", "--ws 3", "leave it out"},
		{"compare tiny_hot --alloc foo", `"foo"`, "mimalloc"},
		{"compare tiny_hot --layouts 0", `"0"`, "whole number from 1 to"},
		{"compare tiny_hot --env NOT_SET_ANYWHERE", `"NOT_SET_ANYWHERE"`, "=VALUE"},
		{"compare tiny_hot --lib glibc=/x", `"glibc=/x"`, "mimalloc=PATH"},
		{"stats now", `"now"`, "leave it out"},
		{"env now", `"now"`, "leave it out"},
		{"version now", `"now"`, "leave it out"},
		{"nonsense", `"nonsense"`, "bench, compare, ab, replay, record, report, env, stats, sawtooth, soak or version"},
		{"sawtooth now", `"now"`, "leave it out"},
		{"sawtooth --period 0s", "--period 0s", "up to an hour"},
		{"sawtooth --periods 0", "--periods 0", "1 to 1000"},
		{"sawtooth --peak 3", "--peak 3", "MiB from 16"},
		{"soak now", `"now"`, "leave it out"},
		{"soak --for 0s", `"0s"`, "90s"},
		{"soak --every 1", `"1"`, "90s"},
		{"soak --seed 0", `"0"`, "whole number from 1"},
		{"soak --threads 9999", `"9999"`, "to 4096"},
		{"--nope", "-nope", "--help"},
	} {
		status, out, errs := hakmemCommand(strings.Fields(c.line)...)
		if status != exitUsage || out != "" || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, c.value) || !strings.Contains(errs, c.remedy) {
			t.Errorf("%s: status %d, %q, want one line with %q and %q; output %q", c.line, status, errs, c.value, c.remedy, out)
		}
	}
}

// TestBenchJSON runs all allocators and reads the report as another program
// would.
func TestBenchJSON(t *testing.T) {
	t.Setenv("GOGC", "90")
	for _, workload := range []string{"random_mixed", "tiny_hot", "larson", bench.DistWorkload} {
		status, out, errs := hakmemCommand("bench", workload, "--json", "--iters", "2000", "--runs", "3", "--threads", "2")
		if status != 0 || errs != "" {
			t.Fatalf("status %d: %s", status, errs)
		}
		var r map[string]any
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			t.Fatal(err)
		}
		var keys, names []string
		for k := range r {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		if want := []string{"absent", "command", "environment", "loops", "machine", "params", "ratios", "results", "started", "workload"}; !slices.Equal(keys, want) {
			t.Errorf("keys %q, want %q", keys, want)
		}
		if !slices.Contains(r["environment"].([]any), any("GOGC=90")) {
			t.Errorf("environment %v: it had GOGC=90", r["environment"])
		}
		for _, result := range r["results"].([]any) {
			m := result.(map[string]any)
			names = append(names, m["allocator"].(string))
			if m["ops_per_s"].(float64) <= 0 || m["ns_per_op"].(float64) <= 0 || m["version"] == "" || len(m["runs"].([]any)) != 3 {
				t.Errorf("%s: %v", workload, m)
			}
		}
		for _, ratio := range r["ratios"].([]any) {
			m := ratio.(map[string]any)
			if m["raw"].(float64) <= 0 || m["p"].(float64) <= 0 || m["hakmem"] == m["peer"] {
				t.Errorf("%s: ratio %v", workload, m)
			}
		}
		if n := len(r["ratios"].([]any)); n != 2*(len(names)-2) { // hakmem's two interfaces, and the others
			t.Errorf("%s: %d ratios of %q", workload, n, names)
		}
		if !slices.Equal(names, loops.Allocators()) {
			t.Errorf("%s: results of %q, absent %v", workload, names, r["absent"])
		}
	}
}

// TestPipe runs the program with a pipe for standard error: only a terminal
// gets a progress bar.
func TestPipe(t *testing.T) {
	out, errs := hakmemProgram(t, append([]string{"bench", "tiny_hot", "--alloc", "hakmem,pool"}, tiny...)...)
	if errs != "" {
		t.Errorf("written to a pipe: %q", errs)
	}
	for _, want := range []string{"Mops/s", "net ns/op", "peak RSS", "faults", "time over that of hakmem", "\npool"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

// TestClosedPipe runs the program with nobody at the other end of its output:
// it says nothing and leaves nothing behind, and does not measure on.
func TestClosedPipe(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"bench dist --alloc go --iters 2000 --ws 1 --runs 1",
		"bench dist --alloc go --iters 2000 --ws 1 --runs 1 --json",
		"bench dist --alloc go --iters 2000 --ws 1 --verify",
		"compare all --alloc go --scale 0.0001 --runs 1 --later 0 --verify",
		"soak --for 1h --every 1ms",
	} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		dir := t.TempDir()
		c := exec.Command(program, strings.Fields(line)...)
		c.Env = append(os.Environ(), asProgram+"=1", "TMPDIR="+dir)
		var errs bytes.Buffer
		c.Stdout, c.Stderr = w, &errs
		err = c.Run()
		w.Close()
		var exit *exec.ExitError
		if runtime.GOOS != "windows" && (!errors.As(err, &exit) || exit.ExitCode() != exitPipe) || errs.Len() > 0 {
			t.Errorf("%s: %v, %q", line, err, errs.String())
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%s: leaves %v, %v", line, left, err)
		}
	}
}

// TestProgress is the bar as a terminal gets it.
func TestProgress(t *testing.T) {
	var out bytes.Buffer
	p := newProgress(&out, 2)
	p.doing("a")
	if out.Len() > 0 {
		t.Errorf("%q written where there is no terminal", out.String())
	}
	p.out = &out
	p.step()
	p.doing("b")
	p.close()
	if got := out.String(); !strings.Contains(got, "############............] 1/2 b") || !strings.HasSuffix(got, "\r\x1b[K") {
		t.Errorf("the bar is %q", got)
	}
}

// TestChildFails wants a reason from a child that hangs, crashes or says
// something else.
func TestChildFails(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for mode, want := range map[string]string{"hang": "time limit of 300ms", "crash": "status 3: a reason", "babble": `"no JSON"`} {
		c := &contestant{name: mode, layouts: 1, command: func(int, variant) command {
			return command{program, nil, append(os.Environ(), asProgram+"="+mode)}
		}}
		limit := time.Minute
		if mode == "hang" {
			limit = 300 * time.Millisecond
		}
		hot, err := bench.FindWorkload("tiny_hot")
		if err != nil {
			t.Fatal(err)
		}
		j := job{workload: hot, params: hot.Params, runs: 2, limit: limit}
		if err := interleave(context.Background(), j, []*contestant{c}, newProgress(nil, 2)); err != nil {
			t.Errorf("%s: %v", mode, err)
		}
		r := makeReport(j, []*contestant{c})
		if len(r.Results) != 0 || len(r.Absent) != 1 || !strings.Contains(r.Absent[0].Reason, want) {
			t.Errorf("%s: results %v, absent %v, want %q", mode, r.Results, r.Absent, want)
		}
	}
}

// TestCompare runs both sides where there is a C compiler, with a peer that
// does not exist; elsewhere it wants the reason for all peers' absence.
func TestCompare(t *testing.T) {
	status, out, errs := hakmemCommand("compare", "tiny_hot", "--json", "--alloc", "hakmem,jemalloc,glibc", "--lib", "jemalloc=/nonexistent/libjemalloc.so", "--iters", "200000", "--runs", "2", "--later", "1s", "--env", "UNUSED=1")
	if status != 0 || errs != "" {
		t.Fatalf("status %d: %s", status, errs)
	}
	var r result.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Results) == 0 || r.Results[0].Allocator != "hakmem" {
		t.Errorf("no hakmem in %s", out)
	}
	if !slices.ContainsFunc(r.Absent, func(a result.Absent) bool { return a.Allocator == "jemalloc" && a.Reason != "" }) {
		t.Errorf("jemalloc is not absent: %v", r.Absent)
	}
	_, err := exec.LookPath("gcc")
	if runtime.GOOS != "linux" || err != nil {
		t.Skip("no Linux with gcc here: the peers' side did not run")
	}
	if i := slices.IndexFunc(r.Absent, func(a result.Absent) bool { return a.Allocator == "glibc" }); i >= 0 {
		t.Skip("glibc did not run: " + r.Absent[i].Reason)
	}
	if len(r.Ratios) != 1 || r.Ratios[0].Peer != "glibc" || r.Ratios[0].Raw <= 0 || r.Ratios[0].P <= 0 || r.Ratios[0].Memory <= 0 {
		t.Errorf("ratios %+v", r.Ratios)
	}
	if r.Noise == nil || r.Noise.Allocator != "hakmem" || r.Noise.Runs != 2 || r.Noise.Ratio <= 0 {
		t.Errorf("noise %+v", r.Noise)
	}
	if len(r.Loops) != 2 || len(r.Command) == 0 || r.Started == "" || !slices.Equal(r.Environment, []string{"UNUSED=1"}) {
		t.Errorf("loops %v, command %q at %s with %q", r.Loops, r.Command, r.Started, r.Environment)
	}
	_, noStrace := exec.LookPath("strace")
	for _, result := range r.Results {
		if l := result.Latency; l == nil || l.Samples == 0 || l.P999 < l.P50 || l.Max < l.P999 || len(l.Curve) == 0 {
			t.Errorf("%s: latency %+v", result.Allocator, l)
		}
		if result.LaterRSS == nil || result.Later != 1 {
			t.Errorf("%s: memory was not looked at again", result.Allocator)
		}
		if noStrace == nil && result.MemoryCalls == nil {
			t.Errorf("%s: memory calls were not counted", result.Allocator)
		}
	}
}

func TestCleanEnv(t *testing.T) {
	env := []string{"PATH=/bin", "HAKMEM_MODE=fast", "MALLOC_ARENA_MAX=1", "MIMALLOC_VERBOSE=1", "GOGC=off", "HOME=/"}
	kept, dropped := cleanEnv(env)
	if !slices.Equal(kept, []string{"PATH=/bin", "HOME=/"}) || !slices.Equal(dropped, []string{"HAKMEM_MODE", "MALLOC_ARENA_MAX", "MIMALLOC_VERBOSE", "GOGC"}) {
		t.Errorf("left %q, dropped %q", kept, dropped)
	}
	if len(env) != 6 || env[1] != "HAKMEM_MODE=fast" {
		t.Errorf("the argument was changed: %q", env)
	}
}

func runsOf(times ...float64) (runs []result.Run) {
	for _, t := range times {
		runs = append(runs, result.Run{NsPerOp: t})
	}
	return runs
}

// TestJudge has series with a given effect and noise.
func TestJudge(t *testing.T) {
	series := func(center, noise float64, phase int) *contestant {
		c := &contestant{}
		for i := range 10 {
			c.runs = append(c.runs, result.Run{NsPerOp: center * (1 + noise*float64((i*7+phase)%10-5)/5)})
		}
		return c
	}
	for _, c := range []struct {
		name   string
		a, b   float64
		noise  float64
		expect string
	}{
		{"faster", 10, 9.7, 0.002, "GO"},
		{"slower", 10, 10.3, 0.002, "NO-GO"},
		{"the same", 10, 10, 0.002, "NEUTRAL"},
		{"a little faster", 10, 9.95, 0.002, "NEUTRAL"},
		{"faster in noise", 10, 9.7, 0.08, "UNSURE"},
		{"the same in noise", 10, 10, 0.08, "UNSURE"},
	} {
		tr := trial{a: series(c.a, c.noise, 0), b: series(c.b, c.noise, 3), again: series(c.a, c.noise, 6)}
		if v := tr.judge(); v.Word != c.expect {
			t.Errorf("%s: %+v, want %s", c.name, v, c.expect)
		}
	}
}

// TestJudgeNoise draws A/A series: no effect, noise of 0.5 to 8 %, a drift, and
// now and then a disturbed run. None may be called GO or NO-GO.
func TestJudgeNoise(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 5000 {
		noise := []float64{0.005, 0.01, 0.03, 0.08}[i%4]
		drift := 0.1 * r.Float64()
		var tr trial
		tr.a, tr.b, tr.again = &contestant{}, &contestant{}, &contestant{}
		for run := range 10 {
			for _, c := range []*contestant{tr.a, tr.b, tr.again} {
				ns := 10 * (1 + noise*r.NormFloat64() + drift*float64(run)/10)
				if r.IntN(15) == 0 {
					ns *= 1.5
				}
				c.runs = append(c.runs, result.Run{NsPerOp: ns})
			}
		}
		if v := tr.judge(); v.Word == "GO" || v.Word == "NO-GO" {
			t.Errorf("draw %d with noise %v: %+v", i, noise, v)
		}
	}
}

func TestParsePerf(t *testing.T) {
	text := "2000,,instructions:u,1,100.00,,\n<not supported>,,cycles:u,0,100.00,,\n"
	if got := parsePerf(text, 100); got != "20 instructions" {
		t.Errorf("%q", got)
	}
	if got := parsePerf("<not supported>,,cycles:u,0,100.00,,\n", 1); got != "" {
		t.Errorf("%q of a machine without counters", got)
	}
}

// TestAB runs a trial and checks what is refused, with the status of ab.
func TestAB(t *testing.T) {
	ledger := filepath.Join(t.TempDir(), "ledger.md")
	if err := os.WriteFile(ledger, []byte("# Ledger\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	line := []string{"ab", "tiny_hot", "--gate", "HAKMEM_FRONT_FASTLANE=1,0", "--iters", "20000", "--runs", "3", "--append", ledger}
	status, out, errs := hakmemCommand(line...)
	if status < exitGo || status > exitUnsure || errs != "" {
		t.Fatalf("status %d: %s", status, errs)
	}
	word := []string{"GO", "NO-GO", "NEUTRAL", "UNSURE"}[status]
	if !strings.Contains(out, "\n"+word+": ") || !strings.Contains(out, "off again") || !strings.Contains(out, "hardware counters") {
		t.Errorf("status %d, output %s", status, out)
	}
	text, err := os.ReadFile(ledger)
	if err != nil || !strings.HasPrefix(string(text), "# Ledger\n\n## HAKMEM_FRONT_FASTLANE=0 against 1 on tiny_hot ("+word+")") {
		t.Errorf("%v, the ledger is %q", err, text)
	}
	for _, c := range []struct{ line, value, remedy string }{
		{"ab tiny_hot", `""`, "NAME=OFF,ON"},
		{"ab tiny_hot --gate HAKMEM_NOPE=0,1", "HAKMEM_NOPE", "hakmem env"},
		{"ab tiny_hot --gate HAKMEM_FRONT_FASTLANE=0,maybe", "maybe", "use 0, 1"},
		{"ab nothing --gate HAKMEM_FRONT_FASTLANE=0,1", `"nothing"`, "random_mixed"},
		{"ab tiny_hot --nope", "-nope", "--help"},
		{"ab tiny_hot --iters 2000 --runs 1 --gate HAKMEM_FRONT_FASTLANE=0,1 --append /nonexistent/ledger", "/nonexistent/ledger", "create the file"},
		{"ab tiny_hot --iters 2000 --runs 1 --gate HAKMEM_FRONT_FASTLANE=0,1 --append .", " .: ", "name a file that you can write"},
	} {
		status, _, errs := hakmemCommand(strings.Fields(c.line)...)
		if status != exitAB || !strings.Contains(errs, c.value) || !strings.Contains(errs, c.remedy) {
			t.Errorf("%s: status %d, %q, want %q and %q", c.line, status, errs, c.value, c.remedy)
		}
	}
}

// TestABCommand gives the command of a ledger's entry to a shell, which must
// pass on the same trial.
func TestABCommand(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("no sh here: ", err)
	}
	t.Chdir(t.TempDir())
	err = errors.Join(os.WriteFile("ledger.md", nil, 0o666), os.WriteFile("my sizes.csv", []byte("64,1,100\n"), 0o666))
	if err != nil {
		t.Fatal(err)
	}
	line := []string{"hakmem", "ab", "dist", "--gate", "HAKMEM_FRONT_FASTLANE=1,0", "--dist", "my sizes.csv", "--scale", "0.01",
		"--ws", "1", "--iters", "2000", "--runs", "2", "--limit", "1m", "--env", "A=b c,$d", "--env", "E=it's", "--append", "ledger.md"}
	var commands []string
	for i := range 2 { // the second time, from the first one's entry
		if status, _, errs := hakmemCommand(line[1:]...); status > exitUnsure {
			t.Fatalf("%q: status %d: %s", line, status, errs)
		}
		text, err := os.ReadFile("ledger.md")
		parts := strings.Split(string(text), "`")
		if err != nil || len(parts) != 2*i+3 {
			t.Fatalf("%v, the ledger is %s", err, text)
		}
		commands = append(commands, parts[2*i+1])
		words, err := exec.Command(sh, "-c", `for w in `+commands[i]+`; do printf '%s\n' "$w"; done`).Output()
		if err != nil {
			t.Fatalf("%s: %v", commands[i], err)
		}
		line = append(strings.Split(strings.TrimSpace(string(words)), "\n"), "--append", "ledger.md")
	}
	want := `hakmem ab dist --gate HAKMEM_FRONT_FASTLANE=1,0 --alloc hakmem --runs 2 --ws 1 --iters 2000 --rounds 1 --threads 1 --seed 1 ` +
		`--dist 'my sizes.csv' --limit 1m0s --env 'A=b c,$d' --env 'E=it'\''s'`
	if commands[0] != want || commands[1] != want {
		t.Errorf("the commands are\n%s\n%s\nwant\n%s", commands[0], commands[1], want)
	}
}

// fullDisk is where nothing can be written.
type fullDisk struct{}

var errFull = errors.New("disk full")

func (fullDisk) Write([]byte) (int, error) { return 0, errFull }

// TestABKeepsResult: the ledger has the result although it could not be printed.
func TestABKeepsResult(t *testing.T) {
	ledger := filepath.Join(t.TempDir(), "ledger.md")
	if err := os.WriteFile(ledger, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"--json=false", "--json"} {
		var errs bytes.Buffer
		status := run(context.Background(), []string{"hakmem", "ab", "tiny_hot", "--gate", "HAKMEM_FRONT_FASTLANE=1,0", "--iters", "2000", "--runs", "1", "--append", ledger, format}, fullDisk{}, &errs)
		if status != exitAB || !strings.Contains(errs.String(), errFull.Error()) {
			t.Errorf("%s: status %d, %q", format, status, errs.String())
		}
	}
	if text, err := os.ReadFile(ledger); err != nil || strings.Count(string(text), "\n## HAKMEM_FRONT_FASTLANE=0") != 2 {
		t.Errorf("%v, the ledger is %q", err, text)
	}
}

// TestRecordAndReplay records this program's stats verb, looks at the trace and
// replays it.
func TestRecordAndReplay(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(asProgram, "1")
	file := filepath.Join(t.TempDir(), "stats.trace")
	status, _, errs := hakmemCommand("record", "-o", file, "--", program, "stats", "--json")
	if status != 0 || !strings.Contains(errs, "calls recorded") {
		t.Fatalf("status %d: %s", status, errs)
	}
	status, out, errs := hakmemCommand("replay", file, "--stats")
	if status != 0 || !strings.Contains(out, "malloc") || !strings.Contains(out, "1000") {
		t.Errorf("status %d: %s%s", status, out, errs)
	}
	status, out, errs = hakmemCommand("replay", "--runs", "1", "--alloc", "hakmem,hakmem-heap,go,modernc", file)
	if status != 0 || !strings.Contains(out, "operations in") || !strings.Contains(out, "modernc") {
		t.Errorf("status %d: %s%s", status, out, errs)
	}
	status, out, errs = hakmemCommand("replay", "--runs", "1", "--json", "--peer", "mine=/none/such.so", file)
	if status != 0 || !strings.Contains(out, `"mine"`) {
		t.Errorf("a peer that was added: status %d: %s%s", status, out, errs)
	}
	status, out, errs = hakmemCommand("replay", "--verify", "--alloc", "hakmem,pool", file)
	if status != 0 || strings.Count(out, "blocks checked") != 2 {
		t.Errorf("status %d: %s%s", status, out, errs)
	}
	if err := os.WriteFile(file, []byte("hakmem trace 1\na 0 1 16\nf 0 x y\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	if status, _, errs := hakmemCommand("replay", file); status != exitFailed || !strings.Contains(errs, "stats.trace:3") {
		t.Errorf("a malformed line: status %d: %s", status, errs)
	}
}

// TestMisspelledGate: what would be measured as the default is not measured.
func TestMisspelledGate(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"sawtooth", "stats", "soak", "bench tiny_hot --alloc hakmem --iters 1000 --runs 1", "compare tiny_hot --alloc hakmem --iters 1000 --runs 1 --later 0 --env HAKMEM_KEEP=alway"} {
		p := exec.Command(program, strings.Fields(line)...)
		p.Env = append(os.Environ(), asProgram+"=1", "HAKMEM_KEEP=alway")
		if out, err := p.CombinedOutput(); err == nil || !strings.Contains(string(out), "HAKMEM_KEEP") || !strings.Contains(string(out), "alway") {
			t.Errorf("%s: %v: %s", line, err, out)
		}
	}
}

// TestRecordBroken: what a program could record is kept although its end is broken.
func TestRecordBroken(t *testing.T) {
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("skipped: ", err)
	}
	file := filepath.Join(t.TempDir(), "t.trace")
	const text = "hakmem trace 1\na 0 1 16\na 0 2"
	status, _, errs := hakmemCommand("record", "-o", file, "--", "sh", "-c", "printf '"+strings.ReplaceAll(text, "\n", "\\n")+"' > \"$HAKMEM_TRACE\"; exit 3")
	left, err := filepath.Glob(file + ".*.tmp")
	if status != exitFailed || err != nil || len(left) != 1 || !strings.Contains(errs, "sh: exit status 3") || !strings.Contains(errs, "left in "+left[0]) {
		t.Fatalf("status %d, %q: %s", status, left, errs)
	}
	if got, err := os.ReadFile(left[0]); err != nil || string(got) != text {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("the broken trace has the place of a whole one")
	}
}

// TestRecordKeeps: a file is replaced by a trace, and by nothing else.
func TestRecordKeeps(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(asProgram, "1")
	const old = "hakmem trace 1\nm 0 1 16\n"
	for _, c := range []struct {
		name, line string // P is a link to this program; it is also in the path
		status     int
		want       string // of what is said
		recorded   string // the file that holds a new trace
	}{
		{"new", "-o new -- P stats --json", 0, "calls recorded", "new"},
		{"a trace", "-o trace -- P stats --json", 0, "calls recorded", "trace"},
		{"an empty file", "-o empty -- P stats --json", 0, "calls recorded", "empty"},
		{"a link", "-o link -- P stats --json", 0, "calls recorded", "trace"},
		{"a program without hakmem", "-o trace -- P version", exitFailed, "no call of hakmem", ""},
		{"no such program", "-o trace -- ./missing", exitUsage, "name a program", ""},
		{"what cannot start", "-o trace -- ./text", exitFailed, "text", ""},
		{"the program", "-o P -- ./P stats", exitUsage, `"P" is the program`, ""},
		{"an argument", "-o trace -- P replay trace", exitUsage, `"trace" is the program, or an argument of it`, ""},
		{"another file", "-o text -- P stats", exitUsage, `"text" holds something else`, ""},
		{"a directory", "-o . -- P stats", exitUsage, `"." is not a regular file`, ""},
		{"no name", "-o= -- P stats", exitUsage, `"": name a file`, ""},
		{"no such directory", "-o no/such -- P stats", exitFailed, `"no/such"`, ""},
		{"a link to nothing", "-o dangling -- P stats", exitFailed, "symbolic link to no file", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			held := map[string]string{"trace": old, "empty": "", "text": "#!/nonexistent\n"}
			for name, text := range held {
				if err := os.WriteFile(name, []byte(text), 0o666); err != nil {
					t.Fatal(err)
				}
			}
			err := errors.Join(os.Chmod("trace", 0o640), os.Chmod("text", 0o755),
				os.Symlink(program, "P"), os.Symlink("trace", "link"), os.Symlink("nothing", "dangling"))
			if err != nil {
				t.Skip(err) // a system that has no links for everyone
			}
			t.Setenv("PATH", ".")
			t.Setenv("GODEBUG", "execerrdot=0") // P is found there
			status, out, errs := hakmemCommand(append([]string{"record"}, strings.Fields(c.line)...)...)
			if status != c.status || !strings.Contains(errs, c.want) {
				t.Errorf("status %d, want %d; %q, want %q; prints %q", status, c.status, errs, c.want, out)
			}
			if status != 0 && status != exitFailed && out != "" {
				t.Errorf("the program ran and printed %q", out)
			}
			held[c.recorded] = "" // which is not compared
			for name, text := range held {
				got, err := os.ReadFile(name)
				switch {
				case name == "":
				case name != c.recorded && (err != nil || string(got) != text):
					t.Errorf("%s holds %q, %v; want %q", name, got, err, text)
				case name == c.recorded && (err != nil || !strings.HasPrefix(string(got), "hakmem trace 1\n") || string(got) == old):
					t.Errorf("%s holds %.40q, %v; want a new trace", name, got, err)
				}
			}
			if info, err := os.Stat("trace"); err != nil || info.Mode().Perm() != 0o640 {
				t.Errorf("trace: %v, %v", info.Mode(), err)
			}
			if info, err := os.Lstat("link"); err != nil || info.Mode().IsRegular() {
				t.Errorf("link is no link any more: %v", err)
			}
			if left, err := filepath.Glob("*.tmp"); err != nil || left != nil {
				t.Errorf("leaves %q, %v", left, err)
			}
		})
	}
}

func TestVerify(t *testing.T) {
	status, out, errs := hakmemCommand("bench", "larson", "--verify", "--iters", "2000", "--rounds", "2", "--ws", "100")
	if status != 0 || strings.Count(out, "blocks checked") != len(loops.Allocators()) {
		t.Errorf("status %d: %s%s", status, out, errs)
	}
	// Nobody there, and nowhere to print to.
	line := []string{"compare", "tiny_hot", "--verify", "--iters", "2000", "--alloc", "jemalloc", "--peer", "jemalloc=/nonexistent/libjemalloc.so"}
	status, out, errs = hakmemCommand(line...)
	if status != exitFailed || !strings.Contains(out, "jemalloc: absent: ") || !strings.Contains(errs, "tiny_hot: nothing could be verified") {
		t.Errorf("status %d: %s%s", status, out, errs)
	}
	var full bytes.Buffer
	status = run(context.Background(), []string{"hakmem", "bench", "tiny_hot", "--verify", "--iters", "2000", "--alloc", "hakmem"}, fullDisk{}, &full)
	if status != exitFailed || !strings.Contains(full.String(), errFull.Error()) {
		t.Errorf("status %d: %s", status, full.String())
	}
}

func TestCSV(t *testing.T) {
	status, out, errs := hakmemCommand(append([]string{"compare", "tiny_hot", "--csv", "--alloc", "hakmem,go", "--later", "0s"}, tiny...)...)
	lines, err := csv.NewReader(strings.NewReader(out)).ReadAll()
	if status != 0 || err != nil || len(lines) != 3 || lines[1][1] != "hakmem" || lines[2][1] != "go" {
		t.Errorf("status %d, %v: %s%s", status, err, out, errs)
	}
}

func TestCountCalls(t *testing.T) {
	begin, end := loops.Marks()
	file := filepath.Join(t.TempDir(), "calls")
	for _, c := range []struct {
		text string
		want uint64
		ok   bool
	}{
		{"1 mmap(0, 1) = 2\n1 madvise(" + begin + ", 0, MADV_NORMAL) = 0\n2 mmap(0 <unfinished ...>\n1 brk(0) = 1\n2 <... mmap resumed>) = 0\n1 madvise(" + end + ", 0, 0) = 0\n1 munmap(0, 1) = 0\n", 2, true},
		{"1 madvise(" + begin + ", 0, MADV_NORMAL) = 0\n1 madvise(" + end + ", 0, 0) = 0\n", 0, true},
		{"1 mmap(0, 1) = 2\n", 0, false},
	} {
		if err := os.WriteFile(file, []byte(c.text), 0o666); err != nil {
			t.Fatal(err)
		}
		if n, err := countCalls(file); n != c.want || (err == nil) != c.ok {
			t.Errorf("%q: %d calls, %v", c.text, n, err)
		}
	}
}

func TestWatch(t *testing.T) {
	r := result.Run{Begin: 1e9, End: 3e9, Seconds: 2, IdleRSS: 100, PeakRSS: 400}
	list := []sample{{0, 50}, {1e9, 100}, {2e9, 300}, {3e9, 200}, {4e9, 900}}
	if got := area(list, r); got != 200 { // 0 for the first second, 200 over idle for the second
		t.Errorf("%v byte seconds", got)
	}
	if got := area(nil, r); got != 600 {
		t.Errorf("%v byte seconds of an unwatched run, want its peak all the time", got)
	}
	if got := area(list, result.Run{Begin: 1e9, End: 3e9, Seconds: 2, PeakRSS: 400}); got != 0 {
		t.Errorf("%v byte seconds over an unknown idle", got)
	}
	if got := curve(list, r); len(got) != 3 || got[1] != [2]float64{1, 300} {
		t.Errorf("curve %v", got)
	}
	var many []sample
	for i := range int64(10_000) {
		many = append(many, sample{1e9 + i*1e5, uint64(i % 5000)})
	}
	if got := curve(many, r); len(got) > maxPoints || slices.MaxFunc(got, func(a, b [2]float64) int { return cmp.Compare(a[1], b[1]) })[1] != 4999 {
		t.Errorf("%d points of 10000", len(got))
	}
}

// TestEnv runs the program with a malformed gate.
func TestEnv(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(program, "env")
	env, _ := cleanEnv(os.Environ())
	c.Env = append(env, asProgram+"=1", "HAKMEM_MODE=minimal", "HAKMEM_REFILL=many", "HAKMEM_GAURD=1")
	out, err := c.Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"HAKMEM_MODE", "HAKMEM_SS_EMPTY_REUSE", "minimal|fast|balanced|learning|research", "the learner is not built yet", "PROBLEMS", `"many"`, "HAKMEM_GAURD", "0|1|1/N"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	for mode, want := range map[string]string{"minimal": "HAKMEM_FRONT_V2_CAP=16 ", "balanced": "the defaults"} {
		if !regexp.MustCompile(`(?m)^` + mode + ` +` + want).Match(out) {
			t.Errorf("mode %s: no %q in\n%s", mode, want, out)
		}
	}
}

func TestStats(t *testing.T) {
	status, out, errs := hakmemCommand("stats", "--json")
	var s struct {
		hakmem.Stats
		Errors []string
	}
	if err := json.Unmarshal([]byte(out), &s); err != nil || status != 0 {
		t.Fatalf("status %d, %v: %s", status, err, errs)
	}
	if s.LiveBlocks == 0 || s.Committed < s.Live || len(s.Classes) == 0 {
		t.Errorf("%+v", s)
	}
	status, out, errs = hakmemCommand("stats")
	if status != 0 || !strings.Contains(out, "slabs found in stage") || !strings.Contains(out, "magazines") {
		t.Errorf("status %d: %s%s", status, out, errs)
	}
}

func TestVersion(t *testing.T) {
	status, out, _ := hakmemCommand("version")
	if status != 0 || !strings.HasPrefix(out, "hakmem ") || !strings.Contains(out, runtime.Version()) {
		t.Errorf("status %d: %q", status, out)
	}
}

// TestInterrupted: a verb that was interrupted says so, and not how it knows.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, line := range []string{"sawtooth --peak 16 --periods 1", "bench tiny_hot --iters 2000"} {
		var out, errs bytes.Buffer
		status := run(ctx, append([]string{"hakmem"}, strings.Fields(line)...), &out, &errs)
		if status != exitFailed || errs.String() != "hakmem: interrupted\n" {
			t.Errorf("%s: status %d, %q", line, status, errs.String())
		}
	}
}

// TestSawtooth: each period's figures, and what was live.
func TestSawtooth(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("resident memory is read from /proc")
	}
	// In a process of its own: what other tests left to Go's collector would
	// go back to the system while this one looks at resident memory.
	out, errs := hakmemProgram(t, "sawtooth", "--peak", "64", "--period", "200ms", "--periods", "2", "--json")
	var r sawtoothResult
	if err := json.Unmarshal([]byte(out), &r); errs != "" || err != nil {
		t.Fatalf("%q, %v", errs, err)
	}
	if len(r.Periods) != 2 || r.LiveBytes != 26*sawtoothBlock || r.FirstFaults == 0 || r.Faults < r.FirstFaults {
		t.Errorf("%+v", r)
	}
	for i, p := range r.Periods { // within the window all of the peak is kept
		if p.MeanRSS < 5 || p.EndRSS < 5 {
			t.Errorf("period %d: %+v, want about 10 times what is live", i, p)
		}
	}
}
