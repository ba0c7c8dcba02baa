package main

import (
	"encoding/csv"
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/hakmem/hakmem/bench/result"
)

// TestCompare runs both sides, with a peer that does not exist, where there is a C compiler.
// Elsewhere it wants the reason why all native peers are absent.
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
	if i := slices.IndexFunc(r.Absent, func(a result.Absent) bool { return a.Allocator == "glibc" }); i >= 0 {
		buildLibrary(t) // skips the test where there is no glibc to run with
		t.Fatal("glibc did not run: " + r.Absent[i].Reason)
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

func TestCSV(t *testing.T) {
	status, out, errs := hakmemCommand(append([]string{"compare", "tiny_hot", "--csv", "--alloc", "hakmem,go", "--later", "0s"}, tiny...)...)
	lines, err := csv.NewReader(strings.NewReader(out)).ReadAll()
	if status != 0 || err != nil || len(lines) != 3 || lines[1][1] != "hakmem" || lines[2][1] != "go" {
		t.Errorf("status %d, %v: %s%s", status, err, out, errs)
	}
}
