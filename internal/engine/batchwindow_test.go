package engine

import (
	"math"
	"testing"
	"time"

	"github.com/hakmem/hakmem/internal/learn"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/policy"
)

// TestBlockCost: what a block costs in a window, from the samples of all fronts.
func TestBlockCost(t *testing.T) {
	withClock(t)
	withBatch(t)
	turn := setArm(batchTiny, 0)
	f, g := heapFront(t), heapFront(t)
	cost := func() (float64, bool) { return blockCost(batchTiny, turn, learn.Costs{}) }
	batchLearner.turned[batchTiny] = 0
	for range leastBatches - 1 {
		f.head().batches.sums[batchTiny].add(turn, 640, 64)
	}
	if _, known := cost(); known {
		t.Error("a window with few samples counts")
	}
	g.head().batches.sums[batchTiny].add(turn, 640, 64)
	if got, known := cost(); !known || math.Abs(got-(640+turnNanos)/64*1e-9) > 1e-15 {
		t.Errorf("a block costs %g s, want %g", got, (640+turnNanos)/64*1e-9)
	}
	batchLearner.turned[batchTiny] = 0.5 // a flush for each two refills
	if got, _ := cost(); math.Abs(got-(640+1.5*turnNanos)/64*1e-9) > 1e-15 {
		t.Errorf("with flushes a block costs %g s", got)
	}
	if _, known := blockCost(batchTiny, nextTurn(turn, 0), learn.Costs{}); known {
		t.Error("samples of a window before count")
	}
}

// TestSearchCost: what a page costs that a search finds, with its faults; it is counted once.
func TestSearchCost(t *testing.T) {
	searches.nanos.Store(2000)
	searches.fresh.Store(5 * pageSize)
	searches.pages.Store(20)
	costs := learn.Costs{Fault: 12e-6}
	if got, known := blockCost(batchScan, 4, costs); !known || math.Abs(got-(2e-6+5*12e-6)/20) > 1e-15 {
		t.Errorf("a page costs %g s, want %g", got, (2e-6+5*12e-6)/20)
	}
	if _, known := blockCost(batchScan, 4, costs); known {
		t.Error("searches count twice")
	}
}

// TestBatchLearns: where only the fixed cost of a refill counts, because the test's clock stands still in
// them, twice as many blocks are adopted. The decision is noted, and nothing more is tried when frozen.
func TestBatchLearns(t *testing.T) {
	c := withClock(t)
	withRoom(t)
	withBatch(t)
	f := heapFront(t)
	window := func() {
		var blocks []Block
		for range 64 {
			for range 4000 {
				blocks = append(blocks, Malloc(f, 64))
			}
			for _, p := range blocks {
				if bad := Free(f, p); bad.Kind != OK {
					t.Fatal(bad)
				}
			}
			blocks = blocks[:0]
		}
		freeBlocks(t, fillBytes(t, mebibyte, mebibyte)) // wakes the scavenger
		c.Advance(2100 * time.Millisecond)
	}
	adopted := func() float64 {
		if !scavenger.lock() {
			t.Fatal("the scavenger is held")
		}
		defer scavenger.unlock()
		if b := batchLearner.by[batchTiny]; b != nil {
			return b.Adopted()
		}
		return 0
	}
	for i := 0; i < 60 && adopted() != 2; i++ {
		window()
	}
	if f := adopted(); f != 2 {
		t.Fatalf("factor %g is adopted, want 2", f)
	}
	s, _ := LearnerState()
	noted := false
	for _, d := range s.Decisions {
		noted = noted || d.Kind == learn.KindBatch && d.Where == uint32(batchTiny) && d.From == 1 && d.To == 2
	}
	if !noted {
		t.Errorf("the decision is not noted: %+v", s.Decisions)
	}
	tune(t, func(p *policy.Tuning) { p.Evo = learn.EvolutionFrozen })
	window()
	for range 5 {
		window()
		if n := batchTurn(batchTiny).times(64); n != 128 {
			t.Fatalf("frozen, a refill takes up to %d blocks, want 128", n)
		}
	}
	tune(t, func(p *policy.Tuning) { p.Batch = policy.BatchFixed })
	if n := batchTurn(batchTiny).times(64); n != 64 {
		t.Errorf("fixed, a refill takes up to %d blocks, want 64", n)
	}
}

// TestBatchesRace: refills go on in goroutines while windows end.
func TestBatchesRace(t *testing.T) {
	c := withClock(t)
	withRoom(t)
	withBatch(t)
	done, stop := make(chan bool), make(chan bool)
	for range 2 {
		go func() {
			defer func() { done <- true }()
			for {
				select {
				case <-stop:
					return
				default:
				}
				var blocks []Block
				for i := range mem.Bytes(300) {
					blocks = append(blocks, Malloc(0, 16+i*32))
				}
				for _, p := range blocks {
					if bad := Free(0, p); bad.Kind != OK {
						t.Error(bad)
					}
				}
			}
		}()
	}
	for range 30 {
		freeBlocks(t, fillBytes(t, mebibyte, mebibyte))
		c.Advance(2100 * time.Millisecond)
	}
	close(stop)
	<-done
	<-done
	mustHold(t)
}
