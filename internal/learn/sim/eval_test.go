package sim

import (
	"math"
	"reflect"
	"slices"
	"testing"

	"github.com/hakmem/hakmem/internal/learn"
)

// TestEvaluate: what the table says of harm, regret, plays and recoveries agrees with single runs.
func TestEvaluate(t *testing.T) {
	t.Parallel()
	kinds, seeds, length, price := []string{"saw1", "shiftA"}, []uint64{11, 12}, testLength, 0.13
	table := Evaluate(kinds, seeds, length, price)[0]
	if !reflect.DeepEqual(table, Evaluate(kinds, seeds, length, price)[0]) {
		t.Error("two evaluations differ")
	}
	c := CostsAt(price)
	var harm Harm
	regret := 0.0
	for _, kind := range kinds {
		for _, seed := range seeds {
			p := Place(Generate(kind, seed, length))
			cost, best := Run(p, Learner(c, seed), c).Cost, math.Inf(1)
			for _, hold := range grid {
				best = min(best, StaticAtTicks(p, hold, c))
			}
			regret += (cost - Optimum(p, c)) / 4
			harm.Static.note(cost, best, kind, seed)
			harm.BreakEven.note(cost, Run(p, Fixed(c.BreakEven()), c).Cost, kind, seed)
		}
	}
	if got := table.Harm[nameLearner]; got != harm {
		t.Errorf("the harm is %+v, want %+v", got, harm)
	}
	if r := table.Regret[nameLearner]; len(r) != CurvePoints || math.Abs(r[CurvePoints-1]-regret) > 1e-9*regret {
		t.Errorf("the regret is %v, want %g in the end", r, regret)
	}
	for name, list := range table.Regret {
		if last := list[CurvePoints-1]; last < 0 {
			t.Errorf("%s has a regret of %g", name, last)
		}
	}
	if a, b := table.Regret[NameBestArm][CurvePoints-1], table.Regret[nameOracleTicks][CurvePoints-1]; a < b {
		t.Errorf("the best arm has a regret of %g, the best hold time of each program one of %g", a, b)
	}
	for _, m := range Makers() {
		sum := 0.0
		for _, x := range table.Plays[m.Name] {
			sum += x
		}
		if _, names := m.New(c, 1).(chooser); names == (math.Abs(sum-1) < 1e-9) {
			t.Errorf("%s: %v were played", m.Name, table.Plays[m.Name])
		}
	}
	best := table.Mean(ArmName(table.Best()))
	for _, arm := range learn.Arms {
		if x := table.Mean(ArmName(arm)); x < best || !slices.Contains(table.Names, ArmName(arm)) {
			t.Errorf("%v costs %g, the best arm, %v, %g", arm, x, table.Best(), best)
		}
	}
	if len(table.Recoveries) != 2 {
		t.Fatalf("recoveries: %+v", table.Recoveries)
	}
	for i, r := range table.Recoveries {
		regimes := Regimes("shiftA", length)
		want := 0.0
		for _, seed := range seeds {
			needed, _ := Place(Generate("shiftA", seed, length)).recover(regimes[i+1], Makers(), seed, c)
			want += float64(needed[nameLearner]) / 2
		}
		if r.Kind != "shiftA" || r.From != regimes[i].Gap || r.To != regimes[i+1].Gap || r.Needed[nameLearner] != want || len(r.Needed) != len(Makers()) {
			t.Errorf("recovery %+v, want %g for the learner", r, want)
		}
	}
}

// TestEvaluatePlaced: programs that are given are judged as generated ones are, also one called startup.
func TestEvaluatePlaced(t *testing.T) {
	t.Parallel()
	p := Place(Generate("saw1", 1, testLength))
	want := Evaluate([]string{"saw1"}, []uint64{1}, testLength, 0.03, 0.5)
	for _, name := range []string{"mine", startup} {
		p.Name = name
		got, err := EvaluatePlaced([]*Placed{p}, 0.03, 0.5)
		if err != nil {
			t.Fatal(err)
		}
		for i := range want {
			if !reflect.DeepEqual(got[i].Ratio, want[i].Ratio) || got[i].Mean(nameLearner) != want[i].Mean(nameLearner) || got[i].Kinds[0] != name {
				t.Errorf("%v, want %v", got[i], want[i])
			}
		}
	}
	still := PlaceLevels("still", []Level{{0, 7}, {20 * sec, 0}})
	if _, err := EvaluatePlaced([]*Placed{p, still}, 0.5); err == nil || err.Error()[:7] != "still: " {
		t.Errorf("a program that frees nothing: %v", err)
	}
}
