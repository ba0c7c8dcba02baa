package main

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hakmem/hakmem/bench"
)

// TestChildFails wants a reason when a child hangs, crashes or prints something else.
func TestChildFails(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for mode, want := range map[string]string{"hang": "time limit of 300ms", "crash": "status 3: a reason", "babble": `"no JSON"`} {
		c := &contestant{name: mode, placements: 1, command: func(int, variant) command {
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
