package bench

import (
	"testing"

	"github.com/hakmem/hakmem/bench/loops"
)

// TestBlocks compares the reported number of operations with the number of blocks that went through
// a run. untimed says how many of a thread's operations the clock does not see.
func TestBlocks(t *testing.T) {
	const threads = 2
	none := func(loops.Params) uint64 { return 0 }
	slots := func(p loops.Params) uint64 { return 2 * p.WS }
	for _, c := range []struct {
		workload string
		untimed  func(loops.Params) uint64
	}{
		{"sh6bench", none},
		{"sh8bench", func(loops.Params) uint64 { return 2 * 1000 / threads }}, // the table has 1000 slots
		{"cache-scratch", func(loops.Params) uint64 { return 1 }},
		{"cache-thrash", none},
		{"glibc-simple", none},
		{"glibc-thread", slots},
		{"mleak", slots},
		{"malloc-large", slots},
	} {
		w, err := FindWorkload(c.workload)
		if err != nil {
			t.Fatal(err)
		}
		p := small(w)
		p.Threads = threads
		r, err := Measure(Spec{Workload: w.Name, Allocator: "hakmem", Params: p, Observe: loops.ObserveVerify})
		if err != nil {
			t.Fatal(err)
		}
		if want := w.Ops(p) + threads*c.untimed(p); 2*r.Observed.Verified != want {
			t.Errorf("%s: %d blocks, want half of %d", c.workload, r.Observed.Verified, want)
		}
	}
}

// TestFewSlots runs sh6bench's buffer where its fifths are odd, or empty.
func TestFewSlots(t *testing.T) {
	for _, name := range []string{"sh6bench", "sh8bench", "alloc-test"} {
		w, _ := FindWorkload(name)
		for ws := range uint64(12) {
			p := small(w)
			p.WS = ws + 1
			if _, err := Measure(Spec{Workload: name, Allocator: "hakmem", Params: p, Observe: loops.ObserveVerify}); err != nil {
				t.Errorf("%s with %d slots: %v", name, p.WS, err)
			}
		}
	}
}
