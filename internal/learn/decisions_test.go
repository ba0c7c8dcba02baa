package learn

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"
)

// TestLogSize: a decision takes at most 64 bytes, a Log 48 KiB, and neither needs more.
func TestLogSize(t *testing.T) {
	if n := unsafe.Sizeof(Decision{}); n > 64 {
		t.Errorf("a decision takes %d bytes", n)
	}
	if n := unsafe.Sizeof(Log{}); n > 48<<10 {
		t.Errorf("a Log takes %d bytes", n)
	}
	var l Log
	if n := testing.AllocsPerRun(1000, func() { l.Settle(l.Note(Decision{Kind: KindBudget}), 1) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// noted returns the numbers of the decisions that l remembers, and checks that To has the number, too.
func noted(t *testing.T, l *Log) (list []Seq) {
	t.Helper()
	l.Each(func(q Seq, d Decision) bool {
		if d.To != float64(q) {
			t.Errorf("decision %d is %+v", q, d)
		}
		list = append(list, q)
		return true
	})
	return list
}

// TestLogEach: the last 512 decisions are remembered, in their order.
func TestLogEach(t *testing.T) {
	var l Log
	if list := noted(t, &l); len(list) > 0 {
		t.Errorf("an empty Log has %v", list)
	}
	for i := range Seq(3 * logEntries) {
		if q := l.Note(Decision{Kind: KindHold, To: float64(i + 1)}); q != i+1 {
			t.Fatalf("decision %d has number %d", i+1, q)
		}
		if i%100 == 0 || i == logEntries-1 || i == logEntries {
			var want []Seq
			for q := max(i+1, logEntries) - logEntries + 1; q <= i+1; q++ {
				want = append(want, q)
			}
			if list := noted(t, &l); !slices.Equal(list, want) || len(list) > logEntries {
				t.Fatalf("after %d decisions the Log has %v", i+1, list)
			}
		}
	}
	n := 0
	l.Each(func(Seq, Decision) bool { n++; return n < 3 })
	if n != 3 {
		t.Errorf("Each calls %d times, want 3", n)
	}
}

func (l *Log) at(t *testing.T, q Seq) (found Decision) {
	t.Helper()
	l.Each(func(x Seq, d Decision) bool {
		if x == q {
			found = d
		}
		return x != q
	})
	return found
}

// TestLogSettle: a decision is settled once, and right if it cost at most 20 % more than predicted.
func TestLogSettle(t *testing.T) {
	for _, c := range []struct {
		predicted, realised float64
		want                Outcome
	}{
		{1, 1, OutcomeRight}, {1, 1.199, OutcomeRight}, {1, 1.201, OutcomeWrong}, {1, 0.1, OutcomeRight}, {1, 0, OutcomeRight},
		{0, 0, OutcomeRight}, {0, 1e-9, OutcomeWrong}, {1, math.NaN(), OutcomeOpen}, {1, math.Inf(1), OutcomeOpen},
	} {
		var l Log
		other := l.Note(Decision{Predicted: c.predicted})
		q := l.Note(Decision{Predicted: c.predicted, Realised: 7, Outcome: OutcomeWrong})
		if d := l.at(t, q); d.Outcome != OutcomeOpen || d.Realised != 0 {
			t.Errorf("just noted: %+v", d)
		}
		l.Settle(q, c.realised)
		want := Decision{Predicted: c.predicted, Realised: c.realised, Outcome: c.want}
		if c.want == OutcomeOpen {
			want.Realised = 0
		}
		if d := l.at(t, q); d != want {
			t.Errorf("predicted %g: %+v, want %+v", c.predicted, d, want)
		}
		if d := l.at(t, other); d.Outcome != OutcomeOpen {
			t.Errorf("another decision was settled: %+v", d)
		}
		if l.Settle(q, 5); c.want != OutcomeOpen && l.at(t, q) != want {
			t.Errorf("settled again: %+v", l.at(t, q))
		}
	}
}

// TestLogGone: to settle what the Log does not remember, or never had, changes nothing.
func TestLogGone(t *testing.T) {
	var l Log
	l.Settle(0, 1)
	l.Settle(1, 1)
	if l != (Log{}) {
		t.Error("an empty Log changed")
	}
	for range logEntries + 2 {
		l.Note(Decision{Predicted: 1})
	}
	was := l
	for _, q := range []Seq{0, 1, 2, logEntries + 3, math.MaxUint64} {
		l.Settle(q, 1)
	}
	if l != was {
		t.Error("decisions that are not there were settled")
	}
	if l.Settle(3, 1); l.at(t, 3).Outcome != OutcomeRight {
		t.Error("the oldest decision cannot be settled")
	}
}

// TestHindsight: the sums count all decisions, also those that were overwritten.
func TestHindsight(t *testing.T) {
	var l Log
	if l.Hindsight() != nil {
		t.Error("nothing was decided, and there is hindsight")
	}
	for i := range 1000 {
		q := l.Note(Decision{Kind: KindLane, Predicted: 2, Applied: i%4 != 0})
		switch i % 5 {
		case 0:
			l.Settle(q, 1)
		case 1:
			l.Settle(q, 2.2)
		case 2:
			l.Settle(q, 4)
		}
	}
	l.Note(Decision{Kind: KindPrice})
	want := []Hindsight{{KindLane, 1000, 750, 600, 400, (0 + 0.2 + 2) / 3}, {KindPrice, 1, 0, 0, 0, 0}}
	got := l.Hindsight()
	for i := range got {
		got[i].MeanRegret = round(got[i].MeanRegret)
	}
	want[0].MeanRegret = round(want[0].MeanRegret)
	if !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	text, err := json.Marshal(got[1])
	if want := `{"kind":"price","decisions":1,"applied":0,"settled":0,"right":0,"mean_regret":0}`; err != nil || string(text) != want {
		t.Errorf("%s, %v, want %s", text, err, want)
	}
}

// TestNotFinite: numbers that JSON does not have are not kept.
func TestNotFinite(t *testing.T) {
	var l Log
	q := l.Note(Decision{Kind: KindBudget, From: math.Inf(1), To: math.NaN(), Predicted: math.Inf(-1)})
	if d := l.at(t, q); d != (Decision{Kind: KindBudget}) {
		t.Errorf("%+v", d)
	}
}

// TestDecisionJSON: a decision survives JSON, with words for what is no number.
func TestDecisionJSON(t *testing.T) {
	tr := Transition{ModeCanary, ModeFrozen, CauseMispredicted}
	d := tr.Decision(12300 * ms)
	d.Outcome, d.Predicted, d.Realised, d.Where = OutcomeWrong, 1e-4, 3e-4, 7
	text, err := json.Marshal(d)
	want := `{"at_ns":12300000000,"from":2,"to":1,"predicted":0.0001,"realised":0.0003,"where":7,"kind":"evolution","why":"mispredicted","applied":true,"outcome":"wrong"}`
	if err != nil || string(text) != want {
		t.Errorf("%s, %v, want %s", text, err, want)
	}
	var again Decision
	if err := json.Unmarshal(text, &again); err != nil || again != d {
		t.Errorf("%+v, %v", again, err)
	}
	for k := range DecisionKind(nKinds) {
		text, err := json.Marshal(k)
		again := DecisionKind(99)
		if json.Unmarshal(text, &again) != nil || again != k {
			t.Errorf("kind %v is read as %v: %v", k, again, err)
		}
	}
	for _, bad := range []string{`{"kind": "holds"}`, `{"outcome": "fine"}`, `{"why": "?"}`} {
		if err := json.Unmarshal([]byte(bad), &again); err == nil || !strings.Contains(err.Error(), "want one of") {
			t.Errorf("%s is read: %v", bad, err)
		}
	}
}

// TestNames: each value has a name of its own, and no name is without one.
func TestNames(t *testing.T) {
	for _, c := range []struct {
		names  []string
		values int
	}{
		{EvolutionPolicies[:], int(EvolutionAuto) + 1},
		{modes, int(ModeCanary) + 1},
		{causes, int(CauseRefused) + 1},
		{reasons[:], int(CauseRefused) + 1},
		{kinds, nKinds},
		{outcomes, int(OutcomeWrong) + 1},
	} {
		sorted := slices.Sorted(slices.Values(c.names))
		if len(c.names) != c.values || len(slices.Compact(sorted)) != c.values || sorted[0] == "" {
			t.Errorf("%d values have the names %q", c.values, c.names)
		}
	}
}

// TestLogPanics: a kind that there is not is a mistake of the program.
func TestLogPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("an unknown kind can be noted")
		}
	}()
	(&Log{}).Note(Decision{Kind: nKinds, At: time.Second})
}
