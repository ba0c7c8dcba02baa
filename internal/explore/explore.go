// Package explore runs small models of hakmem's concurrency protocols through every interleaving of
// their steps. docs/concurrency.md says what each model stands for. The models are in this
// package's tests, and no other package imports it.
//
// A model consists of a state, which is a comparable value, and of processes. A process does one
// atomic step at a time: it gets a copy of the state and says which states may follow. The search
// is breadth first over all states that can be reached and visits each once. The trace that it
// reports for a broken invariant is therefore a shortest one.
//
// Steps are sequentially consistent, as Go's atomics are. A word that the engine reads and writes
// without atomics is in a model only where nobody but its owner touches it. The models and
// docs/concurrency.md argue that this is so.
package explore

import (
	"fmt"
	"strings"
)

// Model is a protocol to be explored.
type Model[S comparable] struct {
	Init S
	// Procs does one step of a process: it calls to for each state that may follow s, with the
	// step's name. A process that does not call it has ended, or waits for another process.
	Procs []func(s S, to func(step string, next S))
	// Always returns what is wrong with a state, or "".
	Always func(s S) string
	// AtEnd does the same for a state in which no process has a step left. It has to notice a
	// process that waits for ever.
	AtEnd func(s S) string
}

// Result is what an exploration found.
type Result struct {
	States, Steps int // states visited, and steps between them
	Ends          int // states in which no process had a step left
	Bad           string
	Trace         []string // the steps to the bad state
}

func (r Result) String() string {
	if r.Bad == "" {
		return fmt.Sprintf("%d states, %d steps, %d ends", r.States, r.Steps, r.Ends)
	}
	return fmt.Sprintf("%s\nafter %d steps (%d states):\n  %s", r.Bad, len(r.Trace), r.States, strings.Join(r.Trace, "\n  "))
}

// origin is how a state was first reached.
type origin struct {
	from int
	step string
}

// Run explores the model until an invariant is broken or all its states are known. A model with
// more than most states is a mistake, and Bad says so.
func (m Model[S]) Run(most int) (r Result) {
	seen := map[S]struct{}{m.Init: {}}
	states := []S{m.Init}
	origins := []origin{{from: -1}}
	fail := func(at int, what string) Result {
		r.Bad, r.States = what, len(states)
		for ; origins[at].from >= 0; at = origins[at].from {
			r.Trace = append(r.Trace, origins[at].step)
		}
		for i, j := 0, len(r.Trace)-1; i < j; i, j = i+1, j-1 {
			r.Trace[i], r.Trace[j] = r.Trace[j], r.Trace[i]
		}
		return r
	}
	for at := 0; at < len(states); at++ {
		s := states[at]
		if bad := m.Always(s); bad != "" {
			return fail(at, bad)
		}
		before := r.Steps
		for _, proc := range m.Procs {
			proc(s, func(step string, next S) {
				r.Steps++
				if _, ok := seen[next]; !ok {
					seen[next] = struct{}{}
					states = append(states, next)
					origins = append(origins, origin{at, step})
				}
			})
		}
		if r.Steps == before {
			r.Ends++
			if bad := m.AtEnd(s); bad != "" {
				return fail(at, bad)
			}
		}
		if len(states) > most {
			return fail(at, fmt.Sprintf("more than %d states", most))
		}
	}
	r.States = len(states)
	return r
}
