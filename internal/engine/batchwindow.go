package engine

import (
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/learn"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// This file judges the sizes of batches once in a window.

const (
	// turnNanos is what a refill takes beyond moving blocks, and a flush too: half of turnSeconds.
	turnNanos = turnSeconds * 1e9 / 2
	// leastBatches is how many samples a window needs to count: with them the mean of what varies as much
	// as it costs is known within a quarter.
	leastBatches = 16
)

// batchLearner is what is known of batches. Owned by scavenger.mu.
var batchLearner struct {
	by [batchKinds]*learn.Batch
	// refills and flushes are how many there were, by group, when the last window ended, and turned how
	// many flushes there were for each refill since the window before.
	refills, flushes [batchScan]uint64
	turned           [batchScan]float64
}

// countTurns counts refills and flushes for the next batchWindow. Under scavenger.mu and scavenger.moving.
func countTurns() {
	if !learnsBatch() {
		return
	}
	b := &batchLearner
	var refills, flushes [batchScan]uint64
	for c := sizeclass.ID(1); c <= sizeclass.Num; c++ {
		refills[batchOf(c)] += spent.refills[c]
		flushes[batchOf(c)] += spent.flushes[c]
	}
	for f := range frontPool.withMemory {
		for c := sizeclass.ID(1); c <= sizeclass.Num; c++ {
			refills[batchOf(c)] += atomic.LoadUint64(f.refills(c))
			flushes[batchOf(c)] += atomic.LoadUint64(f.flushes(c))
		}
	}
	for k := range b.turned {
		b.turned[k] = float64(flushes[k]-b.flushes[k]) / max(float64(refills[k]-b.refills[k]), 1)
	}
	b.refills, b.flushes = refills, flushes
}

// batchWindow ends a window of batches and begins the next one. costs are those of a page; frozen says that
// what is adopted stays. note takes each decision. Under scavenger.mu.
func batchWindow(costs learn.Costs, frozen bool, note func(learn.Decision)) {
	if !learnsBatch() {
		return
	}
	for k := range batchKind(batchKinds) {
		b := batchModel(k)
		turn := turnWord(turnsNow[k].Load())
		if cost, known := blockCost(k, turn, costs); known && turn != 0 && !frozen {
			if d, adopted := b.Window(cost); adopted {
				note(d)
			}
		}
		turnsNow[k].Store(uint32(nextTurn(turn, b.Arm(!frozen))))
	}
}

// batchModel returns what is known of a kind of batch. Under scavenger.mu.
func batchModel(k batchKind) *learn.Batch {
	b := &batchLearner.by[k]
	if *b == nil {
		*b = learn.NewBatch(uint32(k))
	}
	return *b
}

// batchesLearnt returns what is known of each kind of batch of which a window was played. Under scavenger.mu.
func batchesLearnt() (list []learn.BatchSnapshot) {
	for _, b := range batchLearner.by {
		if b != nil {
			if s := b.Snapshot(); s.Plays() > 0 {
				list = append(list, s)
			}
		}
	}
	return list
}

// restoreBatches replaces what is known of those kinds of batches that are in the list. The factors that it
// has adopted are in force at once: a window begins. Under scavenger.mu.
func restoreBatches(list []learn.BatchSnapshot) error {
	for _, s := range list {
		k := batchKind(s.Kind)
		b := batchModel(k)
		if err := b.Restore(s); err != nil {
			return err
		}
		if k == batchScan {
			takeSearches()
		}
		turnsNow[k].Store(uint32(nextTurn(turnWord(turnsNow[k].Load()), b.Arm(false))))
	}
	return nil
}

// blockCost returns what a block cost in the window turn of a kind of batch, in seconds of CPU time, and of
// searches what a page cost; or false if there were too few samples. costs are those of a page.
//
// A refill costs its time, and turnNanos; and as much for each flush that there was: blocks that were moved
// and went back unused.
func blockCost(k batchKind, turn turnWord, costs learn.Costs) (seconds float64, known bool) {
	if k == batchScan {
		nanos, fresh, pages := takeSearches()
		faults := float64(fresh) / pageSize * costs.Fault
		return (float64(nanos)/1e9 + faults) / float64(pages), pages >= leastBatches
	}
	n := batchCount{}
	for f := range frontPool.withMemory {
		f.head().batches.sums[k].addTo(&n, turn)
	}
	nanos := n.nanos + n.batches*turnNanos*(1+batchLearner.turned[k])
	return nanos / n.blocks / 1e9, n.batches >= leastBatches
}

// takeSearches returns what searches took and found since the last window, as searches has it, and begins anew.
func takeSearches() (nanos, fresh, pages int64) {
	return searches.nanos.Swap(0), searches.fresh.Swap(0), searches.pages.Swap(0)
}
