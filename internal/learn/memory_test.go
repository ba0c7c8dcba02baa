package learn

import (
	"runtime"
	"testing"
)

// TestMemoryOfAll: all that is learnt takes at most 1 MiB, and 4 bytes for each page.
func TestMemoryOfAll(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	pages, holes := New(TypicalMachine.Costs(65536, 0.1)), New(TypicalMachine.Costs(4096, 0.1))
	learner, lifetimes := NewLearner(EvolutionAuto, DecideReal, 1), new(Lifetimes)
	runtime.ReadMemStats(&after)
	fixed := after.TotalAlloc - before.TotalAlloc
	if fixed > 1<<20 {
		t.Errorf("%d bytes before anything was learnt", fixed)
	}
	const n = 1 << 20 // 64 GiB
	pages.Freed(0, n, 0)
	runtime.ReadMemStats(&after)
	// The list of the tables of pages grows by doubling.
	if more := after.TotalAlloc - before.TotalAlloc - fixed; more > 4*n+4*8*n/blockPages {
		t.Errorf("%d bytes for %d pages", more, n)
	}
	runtime.KeepAlive(holes)
	runtime.KeepAlive(learner)
	runtime.KeepAlive(lifetimes)
	t.Logf("%d bytes", fixed)
}
