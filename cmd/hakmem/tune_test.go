package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/hakmem/hakmem/internal/learn/sim"
)

// TestTuneEval: the verb prints what the simulator finds.
func TestTuneEval(t *testing.T) {
	args := []string{"tune", "eval", "--price", "0.13", "--price", "1", "--seeds", "2", "--first", "7", "--length", "20s"}
	out, _ := hakmemProgram(t, append(args, "--json")...)
	var list []evaluation
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		t.Fatal(err)
	}
	if len(list) != 2 || list[0].Price != 0.13 || list[1].Price != 1 {
		t.Fatalf("%s", out)
	}
	want := sim.Evaluate(sim.Kinds(), []uint64{7, 8}, 20e9, 1)[0]
	for i, p := range list[1].Policies {
		if name := want.Names[i]; p.Name != name || p.Mean != want.Mean(name) || !slices.Equal(p.Ratio, want.Ratio[name]) {
			t.Errorf("%+v, want %s with %g and %v", p, name, want.Mean(name), want.Ratio[name])
		}
		if p.Mean < 1 {
			t.Errorf("%s costs less than the optimum", p.Name)
		}
	}
	for _, a := range list[1].Adversaries {
		if a.Mean < 1 || a.Mean != max(a.Ratio[0], a.Ratio[1]) {
			t.Errorf("%+v", a)
		}
	}
	text, _ := hakmemProgram(t, args...)
	for _, name := range want.Names {
		if strings.Count(text, "\n"+name) < 2 {
			t.Errorf("%s is not in the tables for two prices:\n%s", name, text)
		}
	}
}
