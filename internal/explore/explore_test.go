package explore

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

// mostStates is the limit for every model here: a few seconds and at most 200 MB.
const mostStates = 2_000_000

// check explores a model whose invariants must hold. A model that never ends is a mistake, because
// its AtEnd would never be called.
func check[S comparable](t *testing.T, m Model[S]) Result {
	t.Helper()
	r := m.Run(mostStates)
	if r.Bad != "" {
		t.Fatal(r)
	}
	if r.Ends == 0 {
		t.Fatal("no end is ever reached")
	}
	return r
}

// add sums up what was explored.
func (r *Result) add(x Result) {
	r.States += x.States
	r.Steps += x.Steps
	r.Ends += x.Ends
}

// caught explores the scenarios of a protocol with a mutation until one of them breaks an invariant
// with the expected text. One must.
func caught[S comparable](t *testing.T, want string, models []Model[S]) {
	t.Helper()
	var other Result
	for _, m := range models {
		r := m.Run(mostStates)
		if strings.Contains(r.Bad, want) {
			t.Log(r)
			return
		}
		if r.Bad != "" {
			other = r
		}
	}
	t.Fatalf("the mutation is not caught: want a state with %q, have: %v", want, other)
}

// A mutation breaks one part of a protocol.
type mutation[M any] struct {
	name, want string
	mutate     func(*M)
}

// allCaught checks that each mutation is caught in one of the scenarios, each of which gives models.
func allCaught[M any, S comparable](t *testing.T, scenarios map[string]M, models func(M) []Model[S], mutations []mutation[M]) {
	t.Helper()
	for _, x := range mutations {
		t.Run(x.name, func(t *testing.T) {
			var broken []Model[S]
			for _, m := range byName(scenarios) {
				x.mutate(&m)
				broken = append(broken, models(m)...)
			}
			caught(t, x.want, broken)
		})
	}
}

// byName returns the scenarios sorted by name.
func byName[M any](scenarios map[string]M) (all []M) {
	for _, name := range slices.Sorted(maps.Keys(scenarios)) {
		all = append(all, scenarios[name])
	}
	return all
}

// counter is two processes that add 1 to a word, by a load and a store.
type counter struct {
	n      int
	pc, my [2]int
}

func counters(atomic bool) Model[counter] {
	m := Model[counter]{
		Always: func(s counter) string { return "" },
		AtEnd: func(s counter) string {
			if s.n != 2 {
				return "an addition is lost"
			}
			return ""
		},
	}
	for i, name := range []string{"a", "b"} {
		m.Procs = append(m.Procs, func(s counter, to func(string, counter)) {
			switch s.pc[i] {
			case 0:
				s.my[i] = s.n
				s.pc[i] = 1
				if atomic {
					s.n++
					s.pc[i] = 2
				}
				to(name+": load", s)
			case 1:
				s.n = s.my[i] + 1
				s.pc[i] = 2
				to(name+": store", s)
			}
		})
	}
	return m
}

// TestExplorer checks that the explorer finds all states, and a shortest trace.
func TestExplorer(t *testing.T) {
	if r := counters(true).Run(100); r.Bad != "" || r.States != 5 || r.Ends != 2 { // the state says which process was first
		t.Errorf("two atomic additions: %v", r)
	}
	r := counters(false).Run(100)
	if r.Bad != "an addition is lost" || len(r.Trace) != 4 || slices.Index(r.Trace, "a: store") < slices.Index(r.Trace, "b: load") {
		t.Errorf("two additions by load and store: %v", r)
	}
	if r := counters(false).Run(3); r.Bad != "more than 3 states" {
		t.Errorf("bounded to 3 states: %v", r)
	}
}
