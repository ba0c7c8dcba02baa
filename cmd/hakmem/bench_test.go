package main

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/hakmem/hakmem/bench"
	"github.com/hakmem/hakmem/bench/loops"
	"github.com/hakmem/hakmem/bench/result"
)

// TestBenchJSON runs all allocators and reads the report as another program would.
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

// TestBenchRecorded runs a recorded workload in processes of its own, and checks its blocks.
func TestBenchRecorded(t *testing.T) {
	status, out, errs := hakmemCommand("bench", "cache", "--scale", "0.001", "--runs", "1", "--alloc", "hakmem,go", "--json")
	var r result.Report
	if err := json.Unmarshal([]byte(out), &r); status != 0 || err != nil {
		t.Fatalf("status %d, %v: %s", status, err, errs)
	}
	if len(r.Results) != 2 || r.Workload != "cache" || r.Params["rounds"] != 1. || r.Params["threads"] != 2. || r.Results[0].NsPerOp <= 0 {
		t.Errorf("%+v", r)
	}
	status, out, errs = hakmemCommand("bench", "cache", "--scale", "0.001", "--verify", "--alloc", "hakmem,hakmem-heap")
	if status != 0 || strings.Count(out, "blocks checked") != 2 {
		t.Errorf("status %d: %s%s", status, out, errs)
	}
}

// TestPipe runs the program with a pipe as standard error: only a terminal gets a progress bar.
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

func TestVerify(t *testing.T) {
	status, out, errs := hakmemCommand("bench", "larson", "--verify", "--iters", "2000", "--rounds", "2", "--ws", "100")
	if status != 0 || strings.Count(out, "blocks checked") != len(loops.Allocators()) {
		t.Errorf("status %d: %s%s", status, out, errs)
	}
	// With no contestant that can run, and with an output that cannot be written.
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
