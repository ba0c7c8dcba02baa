package engine

import (
	"testing"
	"time"

	"github.com/hakmem/hakmem/internal/learn"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/policy"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// withBatch has the sizes of batches learnt until the test ends, from the beginning.
func withBatch(t *testing.T) {
	t.Helper()
	withLearner(t, learn.EvolutionLearn, learn.DecideNone)
	tune(t, func(p *policy.Tuning) { p.Batch = policy.BatchAuto })
	forget := func() {
		if !scavenger.lock() {
			t.Fatal("the scavenger is held")
		}
		defer scavenger.unlock()
		batchLearner.by = [batchKinds]*learn.Batch{}
		for k := range turnsNow {
			setArm(batchKind(k), 0) // fronts have samples of earlier windows
		}
	}
	forget()
	t.Cleanup(forget)
}

// setArm begins a window of a kind of batch with an arm.
func setArm(k batchKind, arm int) turnWord {
	turn := nextTurn(turnWord(turnsNow[k].Load()), arm)
	turnsNow[k].Store(uint32(turn))
	return turn
}

func TestBatchOf(t *testing.T) {
	for _, test := range []struct {
		size mem.Bytes
		want batchKind
	}{{16, batchTiny}, {1024, batchTiny}, {1025, batchMid}, {8 << 10, batchMid}, {8<<10 + 1, batchWide}, {32 << 10, batchWide}} {
		if got := batchOf(sizeclass.Of(test.size)); got != test.want {
			t.Errorf("blocks of %d bytes are of kind %d, want %d", test.size, got, test.want)
		}
	}
}

// TestTurnTimes: a turn has the factor of its arm, and what comes of it is never 0.
func TestTurnTimes(t *testing.T) {
	for _, test := range []struct {
		turn    turnWord
		n, want int
	}{
		{0, 64, 64},
		{nextTurn(0, 0), 64, 64},
		{nextTurn(0, 1), 64, 32},
		{nextTurn(0, 2), 64, 128},
		{nextTurn(0, 1), 1, 1},
		{nextTurn(1<<32-1, 2), 3, 6}, // the number of the window begins anew
	} {
		if got := test.turn.times(test.n); got != test.want || test.turn != 0 && test.turn>>2 == 0 {
			t.Errorf("turn %#x: %d times, want %d", test.turn, got, test.want)
		}
	}
}

// TestBatchSum: a sum has the samples of one window, and does not overflow.
func TestBatchSum(t *testing.T) {
	var s batchSum
	sum := func(turn turnWord) (n batchCount) {
		s.addTo(&n, turn)
		return n
	}
	s.add(5, 300, 20)
	s.add(5, 500, 30)
	if n := sum(5); n != (batchCount{800, 50, 2}) {
		t.Errorf("%+v", n)
	}
	if n := sum(9); n != (batchCount{}) {
		t.Errorf("another window has %+v", n)
	}
	s.add(9, time.Second, 1)
	s.add(9, -1, 1)
	if n := sum(9); n != (batchCount{mostNanos, 2, 2}) || sum(5) != (batchCount{}) {
		t.Errorf("a batch that was interrupted, and one when the clock stood: %+v", n)
	}
	for range mostSum + 100 {
		s.add(13, time.Second, mostBatch)
	}
	if n := sum(13); n != (batchCount{mostSum * mostNanos, mostSum * mostBatch, mostSum}) {
		t.Errorf("a full sum has %+v", n)
	}
}

// TestBatchFactor: the factor in force is how much a refill moves at most.
func TestBatchFactor(t *testing.T) {
	withClock(t)
	withRoom(t)
	withBatch(t)
	for arm, factor := range learn.BatchFactors {
		setArm(batchTiny, arm)
		f := heapFront(t)
		var blocks []Block
		most, c := 0, sizeclass.Of(64)
		for range 1000 {
			blocks = append(blocks, Malloc(f, 64))
			most = max(most, int(f.held(c))+1)
		}
		if want := min(int(64*factor), firstCap); most != want {
			t.Errorf("factor %g: a refill moved up to %d blocks, want %d", factor, most, want)
		}
		for _, p := range blocks {
			if bad := Free(f, p); bad.Kind != OK {
				t.Fatal(bad)
			}
		}
	}
	mustHold(t)
}

// TestRefillsAreSampled: one refill in 32 on average is counted, in the group of its class and the window that goes on;
// nothing is where nothing is learnt.
func TestRefillsAreSampled(t *testing.T) {
	withClock(t)
	withRoom(t)
	withBatch(t)
	turn := setArm(batchMid, 0)
	f := heapFront(t)
	run := func(size mem.Bytes, refills uint64) {
		var blocks []Block
		c := sizeclass.Of(size)
		for before := *f.refills(c); *f.refills(c) < before+refills; {
			blocks = append(blocks, Malloc(f, size))
		}
		for _, p := range blocks {
			if bad := Free(f, p); bad.Kind != OK {
				t.Fatal(bad)
			}
		}
	}
	count := func() (n batchCount) {
		f.head().batches.sums[batchMid].addTo(&n, turn)
		return n
	}
	run(4096, 64*batchSample)
	n := count()
	if n.batches < 60 || n.batches > 68 || n.blocks < n.batches || n.blocks > n.batches*64 {
		t.Errorf("%+v, want 64 batches or nearly so", n)
	}
	run(64, 2*batchSample)
	if count() != n {
		t.Errorf("refills of another group count: %+v, before %+v", count(), n)
	}
	tune(t, func(p *policy.Tuning) { p.Batch = policy.BatchFixed })
	run(4096, 2*batchSample)
	if count() != n {
		t.Errorf("refills count although nothing is learnt: %+v, before %+v", count(), n)
	}
}

// TestSearches: the pages that a search finds are counted, with the memory that they still need.
func TestSearches(t *testing.T) {
	withClock(t)
	withRoom(t)
	withBatch(t)
	turn := setArm(batchScan, 2)
	searches.nanos.Store(0)
	searches.fresh.Store(0)
	searches.pages.Store(0)
	var slabs []slabID
	l := commonList(sizeclass.Of(32 << 10)) // eight pages a slab
	order := sizeclass.Classes[l.class()].Order
	for range 3 * batchSample {
		slabs = append(slabs, acquireSlab(l))
	}
	if n := searches.pages.Load(); n != 3<<order {
		t.Errorf("%d pages were found by sampled searches, want %d", n, 3<<order)
	}
	before := searches.pages.Load()
	searchEnds(nextTurn(turn, 0), 1, 8, 0)
	if searches.pages.Load() != before {
		t.Error("a search of another window counts")
	}
	for _, s := range slabs {
		retire(s)
	}
	mustHold(t)
}
