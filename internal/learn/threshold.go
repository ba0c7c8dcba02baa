package learn

// LargeBins is how many kinds of sizes of large blocks are told apart: up to 64 KiB, a kind for each power
// of two up to 2 MiB, and the rest.
const LargeBins = 7

// LargeUse says what happened in a window with large blocks of one of LargeBins.
type LargeUse struct {
	Allocs float64 // allocations that a magazine did not serve
	Memory float64 // what these have together, GiB
	CPU    float64 // what it took to serve them from caches or from free pages, seconds of CPU time
	Held   float64 // what caches held, GiB·s
}

// ThresholdBytes are the THRESHOLDS: a block larger than that is taken from the system when it is allocated
// and given back when it is freed. The sizes are those of the C hakmem, which chose one for each site by
// UCB1. The largest is the first, as what comes nearest to caching everything.
var ThresholdBytes = [...]uint64{2 << 20, 1 << 20, 512 << 10, 256 << 10, 128 << 10, 64 << 10}

const nThresholds = len(ThresholdBytes)

// Thresholds calculates what each threshold would have cost, next to what the caches did, which have none.
// And a Bandit plays them in the shadow: it chooses a threshold for each window and sees its cost and no
// other. So it shows what the C hakmem would have chosen, and what that is worth. Nothing follows from it.
// A Thresholds is for one goroutine at a time.
type Thresholds struct {
	bandit *Bandit
	// allocs and costs are sums of windows, of which older ones count less: costs by the threshold, in
	// seconds of CPU time with memory at its price, and last without one.
	allocs float64
	costs  [nThresholds + 1]float64
}

// NewThresholds returns a Thresholds that has seen nothing.
func NewThresholds() *Thresholds {
	return &Thresholds{bandit: NewBandit(nThresholds, windowRules())}
}

// Window notes a window. costs are those of a GiB in place of a page.
//
// A block above the threshold costs its return and the faults of all of its pages, and holds nothing while
// it is free. A block below it costs what the caches took, and what they held. What a magazine served is
// not counted: with a threshold below their sizes such blocks would go to the system, too, so that what is
// said of low thresholds is less than they would cost.
func (t *Thresholds) Window(use [LargeBins]LargeUse, costs Costs) {
	var window [nThresholds + 1]float64
	allocs := 0.0
	for bin, u := range use {
		allocs += u.Allocs
		for i := range window {
			if i < nThresholds && bin > nThresholds-1-i {
				window[i] += u.Memory * (costs.Fault + costs.Return)
			} else {
				window[i] += u.CPU + u.Held*costs.Hold
			}
		}
	}
	if allocs < leastMisses {
		return
	}
	t.allocs = t.allocs*(1-windowForgets) + allocs
	for i := range window {
		t.costs[i] = t.costs[i]*(1-windowForgets) + window[i]
	}
	arm := t.bandit.Next()
	t.bandit.Played(arm, window[arm]/allocs)
}

// ThresholdStanding says how a threshold stands.
type ThresholdStanding struct {
	Bytes uint64 `json:"bytes"` // 0: none, which is what the caches did
	// Cost is what a large allocation that its magazine did not serve would have cost, in seconds of CPU
	// time, memory included.
	Cost   float64 `json:"cost"`
	Plays  uint64  `json:"plays"`  // windows in which the Bandit chose it
	Chosen bool    `json:"chosen"` // the Bandit has adopted it
}

// Standings returns how the thresholds stand, what the caches did first; nothing before the first window.
func (t *Thresholds) Standings() (list []ThresholdStanding) {
	if t.allocs == 0 {
		return nil
	}
	list = append(list, ThresholdStanding{Cost: t.costs[nThresholds] / t.allocs})
	for i, n := range ThresholdBytes {
		list = append(list, ThresholdStanding{n, t.costs[i] / t.allocs, t.bandit.Plays(i), i == t.bandit.Choice()})
	}
	return list
}
