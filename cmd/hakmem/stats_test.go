package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/hakmem/hakmem"
)

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
