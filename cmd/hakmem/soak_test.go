package main

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/bench"
)

// TestSoak runs it for a few seconds in a process of its own, with nothing wrong, and for less than
// the time between two lines.
func TestSoak(t *testing.T) {
	for _, c := range []struct {
		total, every string
		seconds      float64
	}{{"3s", "1s", 3}, {"300ms", "1m", 0.3}, {"1ns", "1m", 0}} {
		out, errs := hakmemProgram(t, "soak", "--for", c.total, "--every", c.every)
		if errs != "" {
			t.Error(errs)
		}
		var last soakLine
		lines := 0
		for line := range strings.Lines(out) {
			lines++
			var l soakLine
			if err := json.Unmarshal([]byte(line), &l); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			if l.Seconds <= last.Seconds || l.Rounds <= last.Rounds || l.Verified <= last.Verified || len(l.Workloads) < len(last.Workloads) {
				t.Errorf("%+v follows %+v", l, last)
			}
			if l.Invariants != "ok" || l.Live != 0 || l.Misuse != 0 || (l.DriftMost == 0) != shadowed || !shadowed && l.Drift > l.DriftMost || l.Time.IsZero() || l.GoHeap == 0 {
				t.Errorf("%+v", l)
			}
			last = l
		}
		if last.Seconds < c.seconds || lines < 2 || !slices.Contains(last.Workloads, bench.Workloads[0].Name) {
			t.Errorf("--for %s: %d lines, the last is %+v", c.total, lines, last)
		}
	}
}

// TestSoakFails checks that a block that stays alive ends the soak with status 1, after its line.
func TestSoakFails(t *testing.T) {
	p := hakmem.Malloc(100)
	defer hakmem.Free(p)
	status, out, errs := hakmemCommand("soak", "--for", "1ms")
	if status != exitFailed || !strings.Contains(errs, "alive") || strings.Count(out, "\n") != 1 {
		t.Errorf("status %d, %q, %q", status, out, errs)
	}
}

// TestSoakParams checks that every workload gets parameters with which it can run and stays within
// some seconds, however few its operations.
func TestSoakParams(t *testing.T) {
	for i := range bench.Workloads {
		w := &bench.Workloads[i]
		for _, ops := range []float64{soakLeastOps, soakMostOps} {
			p := soakParams(w, ops, 2)
			if err := w.Validate(p); err != nil || p.Threads != 2 && !w.Recorded {
				t.Errorf("%s, %.0f operations: %+v: %v", w.Name, ops, p, err)
			}
			if n := float64(w.Ops(p)); n > 4*soakMostOps || n*float64(cmp.Or(p.Min, p.Max)+p.Max)/2 > 8*soakBytes {
				t.Errorf("%s: %.0f operations of %.0f asked for: %+v", w.Name, n, ops, p)
			}
		}
	}
}
