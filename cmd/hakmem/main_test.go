package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/bench"
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
		var r bench.Report
		if err := json.Unmarshal([]byte(out), &r); err != nil || status != 0 {
			t.Errorf("%s: status %d, %v, %s", line, status, err, errs)
			continue
		}
		if r.Workload != bench.RandomMixed || r.Params["ws"] != 50.0 || r.Params["iters"] != 2000.0 ||
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
		{"bench tiny_hot --ws 3", "--ws 3", "random_mixed"},
		{"compare tiny_hot --alloc foo", `"foo"`, "mimalloc"},
		{"compare tiny_hot --layouts 0", `"0"`, "whole number from 1 to"},
		{"compare tiny_hot --env NOT_SET_ANYWHERE", `"NOT_SET_ANYWHERE"`, "=VALUE"},
		{"compare tiny_hot --lib glibc=/x", `"glibc=/x"`, "mimalloc=PATH"},
		{"stats now", `"now"`, "leave it out"},
		{"env now", `"now"`, "leave it out"},
		{"version now", `"now"`, "leave it out"},
		{"nonsense", `"nonsense"`, "bench, compare, env, stats or version"},
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
	for _, workload := range bench.Workloads {
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
		if want := []string{"absent", "machine", "params", "results", "workload"}; !slices.Equal(keys, want) {
			t.Errorf("keys %q, want %q", keys, want)
		}
		for _, result := range r["results"].([]any) {
			m := result.(map[string]any)
			names = append(names, m["allocator"].(string))
			if m["ops_per_s"].(float64) <= 0 || m["ns_per_op"].(float64) <= 0 || m["version"] == "" || len(m["runs"].([]any)) != 3 {
				t.Errorf("%s: %v", workload, m)
			}
		}
		if !slices.Equal(names, bench.Allocators()) {
			t.Errorf("%s: results of %q, absent %v", workload, names, r["absent"])
		}
	}
}

// TestPipe runs the program with a pipe for standard error: only a terminal
// gets a progress bar.
func TestPipe(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(program, append([]string{"bench", "tiny_hot", "--alloc", "hakmem,pool"}, tiny...)...)
	c.Env = append(os.Environ(), asProgram+"=1")
	var out, errs bytes.Buffer // exec makes pipes for these
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		t.Fatalf("%v: %s", err, errs.String())
	}
	if errs.Len() > 0 {
		t.Errorf("written to a pipe: %q", errs.String())
	}
	for _, want := range []string{"Mops/s", "net ns/op", "peak RSS", "faults", "time over that of hakmem", "\npool"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
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
		c := &contestant{name: mode, commands: []command{{program, nil, append(os.Environ(), asProgram+"="+mode)}}}
		limit := time.Minute
		if mode == "hang" {
			limit = 300 * time.Millisecond
		}
		j := job{workload: bench.TinyHot, params: bench.Default(), runs: 2, limit: limit}
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
	status, out, errs := hakmemCommand("compare", "tiny_hot", "--json", "--alloc", "hakmem,jemalloc,glibc", "--lib", "jemalloc=/nonexistent/libjemalloc.so", "--iters", "2000", "--runs", "1")
	if status != 0 || errs != "" {
		t.Fatalf("status %d: %s", status, errs)
	}
	var r struct {
		bench.Report
		Ratios []ratioRow
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Results) == 0 || r.Results[0].Allocator != "hakmem" {
		t.Errorf("no hakmem in %s", out)
	}
	if !slices.ContainsFunc(r.Absent, func(a bench.Absent) bool { return a.Allocator == "jemalloc" && a.Reason != "" }) {
		t.Errorf("jemalloc is not absent: %v", r.Absent)
	}
	_, err := exec.LookPath("gcc")
	if runtime.GOOS != "linux" || err != nil {
		t.Skip("no Linux with gcc here: the peers' side did not run")
	}
	if i := slices.IndexFunc(r.Absent, func(a bench.Absent) bool { return a.Allocator == "glibc" }); i >= 0 {
		t.Skip("glibc did not run: " + r.Absent[i].Reason)
	}
	if len(r.Ratios) != 1 || r.Ratios[0].Peer != "glibc" || r.Ratios[0].Raw <= 0 {
		t.Errorf("ratios %+v", r.Ratios)
	}
}

func TestCleanEnv(t *testing.T) {
	env := []string{"PATH=/bin", "HAKMEM_MODE=fast", "MALLOC_ARENA_MAX=1", "MIMALLOC_VERBOSE=1", "GOGC=off", "HOME=/"}
	if got := cleanEnv(env); !slices.Equal(got, []string{"PATH=/bin", "HOME=/"}) {
		t.Errorf("left: %q", got)
	}
	if len(env) != 6 || env[1] != "HAKMEM_MODE=fast" {
		t.Errorf("the argument was changed: %q", env)
	}
}

func TestRatios(t *testing.T) {
	rows := makeRatios(bench.Report{Results: []bench.Result{
		{Allocator: "hakmem", NsPerOp: 10, NetNsPerOp: 4, Runs: []bench.Run{{Layout: 1, NsPerOp: 8}, {Layout: 2, NsPerOp: 12}}},
		{Allocator: "mimalloc", NsPerOp: 12, NetNsPerOp: 6},
	}})
	want := ratioRow{Hakmem: "hakmem", Peer: "mimalloc", Raw: 1.2, Net: 1.5, Low: 1, High: 1.5}
	if len(rows) != 1 || rows[0] != want {
		t.Errorf("%+v, want %+v", rows, want)
	}
}

// TestEnv runs the program with a malformed gate.
func TestEnv(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(program, "env")
	c.Env = append(cleanEnv(os.Environ()), asProgram+"=1", "HAKMEM_MODE=minimal", "HAKMEM_REFILL=many")
	out, err := c.Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"HAKMEM_MODE", "HAKMEM_SS_EMPTY_REUSE", "minimal|fast|balanced|learning|research", "the learner is not built yet", "PROBLEMS", `"many"`} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in\n%s", want, out)
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
