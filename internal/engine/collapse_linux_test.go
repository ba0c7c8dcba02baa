package engine

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/hakmem/hakmem/internal/learn"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/policy"
	"github.com/hakmem/hakmem/internal/testkit"
)

// withCanary puts HAKMEM_THP=canary in force for the test, with chunks of slabs that are all in use. Each
// miss takes as long as cost says when the process's CPU time is asked for.
func withCanary(t *testing.T, chunks int, cost func() time.Duration) (c *testkit.Clock, blocks *[]Block) {
	t.Helper()
	needsLook(t)
	if osmem.HugePageSize() != superSize || tracked || region.huge {
		t.Skip("skipped: the system has other huge pages, or makes them by itself")
	}
	c = withClock(t)
	withPolicy(t, map[string]string{"HAKMEM_THP": "canary"})
	forget := func() {
		collapsing.phase, collapsing.trial, collapsing.windowAt, collapsing.roundAt = collapseWatches, learn.Change{}, 0, 0
		collapsing.failures, collapsing.credit, collapsing.todo, collapsing.ripe = 0, 0, 0, 0
		collapsing.share, collapsing.through, collapsing.noted, collapsing.notedBy = 0, false, 0, nil
		for c := region.firstChunk(); c < region.endChunk(); c++ {
			super(c).rounds, super(c).collapsed = 0, false
		}
	}
	forget()
	cpu := time.Duration(0)
	was := uint64(0)
	repair := set(&processCPU, func() time.Duration {
		scavenger.moving.Lock()
		defer scavenger.moving.Unlock()
		n := uint64(0)
		for _, m := range countMisses() {
			n += m
		}
		cpu += time.Duration(n-was) * cost()
		was = n
		return cpu
	})
	t.Cleanup(func() {
		repair()
		osmem.Inject(nil)
		forget()
	})
	list := fillBytes(t, mem.Bytes(chunks)*superSize, 4096)
	t.Cleanup(func() { freeBlocks(t, list) })
	return c, &list
}

// live lets the program work for d: it misses many times in each tick.
func live(t *testing.T, c *testkit.Clock, d time.Duration) {
	t.Helper()
	f := heapFront(t)
	for range int(d / tick()) {
		*f.misses(5) += 600
		kick()
		c.Advance(tick())
	}
}

// collapseDecisions wants these decisions about huge pages in the log, besides their times, and that the
// explanation names the last one.
func collapseDecisions(t *testing.T, want ...learn.Decision) {
	t.Helper()
	if !learning {
		return
	}
	s, ok := LearnerState()
	if !ok {
		t.Fatal("the scavenger hangs")
	}
	var got []learn.Decision
	last := time.Duration(0)
	for _, d := range s.Decisions {
		if d.Kind == learn.KindHuge {
			if d.At < last {
				t.Errorf("a decision at %v, another one before at %v", d.At, last)
			}
			last, d.At = d.At, 0
			got = append(got, d)
		}
	}
	same := len(got) == len(want)
	for i := 0; i < len(want) && same; i++ {
		w := want[i]
		w.Kind, w.Applied = learn.KindHuge, true
		near := func(x, y float64) bool { return math.Abs(x-y) <= 1e-6*y }
		same = near(got[i].Predicted, w.Predicted) && near(got[i].Realised, w.Realised)
		w.Predicted, w.Realised = got[i].Predicted, got[i].Realised
		same = same && got[i] == w
	}
	var text strings.Builder
	if err := s.Explain(&text); err != nil {
		t.Fatal(err)
	}
	if !same || !strings.Contains(text.String(), "making huge pages of superslabs that stay as they are went from ") {
		t.Errorf("decisions\n%+v, want\n%+v\n%s", got, want, text.String())
	}
}

// hugeChunks returns how many chunks were collapsed, by the books.
func hugeChunks() (n int) {
	region.mu.Lock()
	defer region.mu.Unlock()
	for c := region.firstChunk(); c < region.endChunk(); c++ {
		if super(c).collapsed {
			n++
		}
	}
	return n
}

// fullest returns the chunk that has most of the blocks.
func fullest(blocks []Block) (most chunkNo) {
	n := map[chunkNo]int{}
	for _, p := range blocks {
		c := p.page().chunk()
		if n[c]++; n[c] > n[most] {
			most = c
		}
	}
	return most
}

// TestCollapse: nothing happens within a minute; then a 16th of the chunks is collapsed; and all of them if
// the program has become faster, or no more.
func TestCollapse(t *testing.T) {
	const chunks = 40
	for _, faster := range []bool{true, false} {
		t.Run(fmt.Sprintf("faster %t", faster), func(t *testing.T) {
			huge := false
			c, blocks := withCanary(t, chunks, func() time.Duration {
				if huge && faster {
					return 95 * time.Microsecond
				}
				return 100 * time.Microsecond
			})
			for _, p := range *blocks {
				*u8(p.addr().Add(100)) = uint8(p >> 12)
			}
			before := collapsing.bytes.Load()
			osmem.Inject(func(op osmem.Op) error {
				if op == osmem.OpAdvise && calledBy("collapseNext") {
					c.Skip(1200 * time.Microsecond)
					huge = true
				}
				return nil
			})
			live(t, c, 50*time.Second)
			if huge || collapsing.bytes.Load() != before {
				t.Fatal("a chunk was collapsed within 50 s")
			}
			for range 60 {
				if live(t, c, time.Second); collapsing.phase > collapseTries {
					break
				}
			}
			if collapsing.phase == collapseNever {
				t.Skip("skipped: the system makes no huge pages of chunks")
			}
			if n := hugeChunks(); n < chunks/collapsePart-1 || n > chunks/collapsePart+1 {
				t.Errorf("a trial collapses %d of %d chunks", n, chunks)
			}
			trial := []learn.Decision{{From: 0, To: 1. / collapsePart, Predicted: 98.5e-6}}
			collapseDecisions(t, trial...)
			live(t, c, 8*time.Second)
			trial[0].Realised, trial[0].Outcome = 100e-6, learn.OutcomeRight
			after := learn.Decision{From: 1. / collapsePart, To: 0, Predicted: 100e-6}
			if faster {
				trial[0].Realised = 95e-6
				after.To, after.Predicted = 1, 95e-6
			}
			collapseDecisions(t, append(trial, after)...)
			live(t, c, 12*time.Second)
			after.Realised, after.Outcome = after.Predicted, learn.OutcomeRight
			collapseDecisions(t, append(trial, after)...)
			n := hugeChunks()
			if faster && n < chunks*3/4 || !faster && n > chunks/collapsePart+1 {
				t.Errorf("faster: %t, and then %d of %d chunks are collapsed", faster, n, chunks)
			}
			if got := collapsing.bytes.Load() - before; got > uint64(n)<<superShift || got == 0 {
				t.Errorf("%d bytes are counted for %d chunks", got, n)
			}
			for _, p := range *blocks {
				if *u8(p.addr().Add(100)) != uint8(p>>12) {
					t.Fatalf("the block at %#x has lost its contents", p)
				}
			}
			if !faster {
				live(t, c, 9*time.Minute)
				if hugeChunks() != n || collapsing.phase != collapseRests {
					t.Errorf("%d more chunks in nine minutes after a trial that failed", hugeChunks()-n)
				}
				live(t, c, 2*time.Minute)
				if hugeChunks() == n {
					t.Error("no other trial after eleven minutes")
				}
				collapseDecisions(t, append(trial, after, trial[0], after)...)
			}
			mustHold(t)
		})
	}
}

// TestCollapseOtherLearner: what came of a trial is not noted in the log of a Learner that knows nothing of it.
func TestCollapseOtherLearner(t *testing.T) {
	if !learning {
		t.Skip("skipped: nothing is learnt in this build")
	}
	c, _ := withCanary(t, 40, func() time.Duration { return time.Microsecond })
	for range 120 {
		if live(t, c, time.Second); collapsing.noted != 0 || collapsing.phase == collapseNever {
			break
		}
	}
	if collapsing.phase == collapseNever {
		t.Skip("skipped: the system makes no huge pages of chunks")
	}
	tune(t, func(p *policy.Tuning) { p.Elo = learn.DecideLeader })
	if !scavenger.lock() {
		t.Fatal("the scavenger is held")
	}
	for i := range 3 {
		aboveModels().NotePrice(float64(1 + i))
	}
	scavenger.unlock()
	live(t, c, 20*time.Second)
	s, _ := LearnerState()
	n := 0
	for _, d := range s.Decisions {
		if d.Kind == learn.KindPrice && d.Outcome != learn.OutcomeOpen {
			t.Errorf("the price has an outcome: %+v", d)
		}
		if d.Kind == learn.KindHuge {
			if n++; d.From == 0 || d.Outcome == learn.OutcomeOpen {
				t.Errorf("%+v", d)
			}
		}
	}
	if n != 1 {
		t.Errorf("%d decisions about huge pages, want the one after the trial", n)
	}
}

// TestCollapseBudget: in any time, 1 % of it is spent.
func TestCollapseBudget(t *testing.T) {
	c, _ := withCanary(t, 60, func() time.Duration { return time.Microsecond })
	took := time.Duration(0)
	osmem.Inject(func(op osmem.Op) error {
		if op == osmem.OpAdvise && calledBy("collapseNext") {
			c.Skip(1200 * time.Microsecond)
			took += 1200 * time.Microsecond
		}
		return nil
	})
	live(t, c, 70*time.Second)
	collapsing.phase, took = collapseAll, 0
	live(t, c, 3*time.Second)
	if took < 25*time.Millisecond || took > 3*time.Second/collapseShare+mostCredit+2*time.Millisecond {
		t.Errorf("%v of 3 s are spent", took)
	}
}

// TestCollapseRefused: what the system refuses is no error, and after some refusals it is not asked any more.
func TestCollapseRefused(t *testing.T) {
	c, _ := withCanary(t, 40, func() time.Duration { return time.Microsecond })
	forgetSurvived(t)
	calls := 0
	osmem.Inject(func(op osmem.Op) error {
		if op == osmem.OpAdvise && calledBy("collapseNext") {
			calls++
			return osmem.ErrInjected
		}
		return nil
	})
	live(t, c, 120*time.Second)
	collapseDecisions(t, learn.Decision{From: 0, To: 1. / collapsePart, Predicted: 0.985e-6}, learn.Decision{From: 1. / collapsePart, To: 0, Why: learn.CauseRefused})
	if calls != mostFailures || collapsing.phase != collapseNever {
		t.Errorf("%d calls, phase %d", calls, collapsing.phase)
	}
	if errs := Survived(); len(errs) > 0 {
		t.Errorf("errors are reported: %v", errs)
	}
}

// TestCollapseOnlyDense: a chunk with many free blocks, or with an OS page that has no memory, is left as it
// is.
func TestCollapseOnlyDense(t *testing.T) {
	for _, test := range []struct {
		name string
		free int // one in so many blocks; 0: none
		hole bool
		want bool
	}{
		{"nothing", 0, false, true},
		{"a twentieth is free", 20, false, true},
		{"a quarter is free", 4, false, false},
		{"a hole", 0, true, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, blocks := withCanary(t, 4, func() time.Duration { return time.Microsecond })
			chunk := fullest(*blocks)
			f := front(t)
			var rest []Block
			for i, p := range *blocks {
				if test.free > 0 && i%test.free == 0 {
					if bad := Free(f, p); bad.Kind != OK {
						t.Error(bad)
					}
				} else {
					rest = append(rest, p)
				}
			}
			*blocks = rest
			CloseHeapFront(f) // the blocks go to their slabs
			if test.hole {
				if err := osmem.Discard(chunk.addr().Add(70*4096), 4096); err != nil {
					t.Fatal(err)
				}
			}
			scavenger.mu.Lock()
			defer scavenger.mu.Unlock()
			if is := isDense(chunk); is != test.want {
				t.Errorf("dense: %t, want %t", is, test.want)
			}
		})
	}
}

// TestCollapseRipe: a chunk of which a page was given back, that has advice, or that the system refused is
// not ripe.
func TestCollapseRipe(t *testing.T) {
	c, blocks := withCanary(t, 4, func() time.Duration { return time.Microsecond })
	chunk := fullest(*blocks)
	s := super(chunk)
	round := func() uint8 {
		scavenger.mu.Lock()
		defer scavenger.mu.Unlock()
		ripen(milliseconds())
		return s.rounds
	}
	c.Skip(time.Hour)
	for i := range uint8(ripeRounds + 2) {
		if n := round(); n != min(i+1, ripeRounds) {
			t.Fatalf("after %d rounds the chunk has %d", i+1, n)
		}
	}
	for name, change := range map[string]func() (undo func()){
		"a free page":          func() func() { return set(&s.free, 1) },
		"advice":               func() func() { return set(&s.smallPages, true) },
		"a refused page":       func() func() { return set(&s.refused, 1) },
		"a page came and went": func() func() { return set(&s.freedAt, milliseconds()-5) },
		"no slabs":             func() func() { return set(&s.isSlabs, false) },
	} {
		undo := change()
		n := round()
		undo()
		if again := round(); n != 0 || again != 1 {
			t.Errorf("%s: %d rounds, and then %d", name, n, again)
		}
	}
}
