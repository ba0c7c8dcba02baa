package engine

import (
	"fmt"
	"math/bits"
	"sync/atomic"
	"time"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/learn"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/policy"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// This file is where the engine and learn.Learner meet. Once in a window the engine reports what the
// caches moved and held and which sizes were asked for, and the Learner judges what the model of hold times
// has done.
// It decides whether learning goes on, and which strategy is in force.

// learner is what stands above the models. Owned by scavenger.mu.
var learner struct {
	*learn.Learner
	windowAt stamp // when the last window ended
	// clock is the model's time since the first window. keptTime begins anew after 25 days.
	clock time.Duration
	// misses is what the counts of misses were then, by size class, and moved what movedNanos was.
	misses [frontTypes]uint64
	moved  int64
	limit  float64 // the budget of caches that was noted last, in bytes
	// imported is the board of a policy file, for a Learner that takes the place of this one; or nil.
	imported *learn.BoardSnapshot
}

// windowTime is the length of a window, in hundredths of HAKMEM_DECAY_MS: learn.WindowTime.
const windowTime = 100 * float64(learn.WindowTime/time.Millisecond) / keptUnit

// leastNoted is the factor by which the budget of caches changes before that is noted as a decision.
const leastNoted = 2

// aboveModels returns the Learner. Under scavenger.mu.
func aboveModels() *learn.Learner {
	t, l := policy.Now(), &learner
	evo := t.Evo
	if !learning {
		evo = learn.EvolutionOff
	}
	if l.Learner == nil || l.Policy() != evo || l.Deciding() != t.Elo {
		l.Learner = learn.NewLearner(evo, t.Elo, uint64(secret)|1)
		region.mu.Lock()
		keptModel().SetTrial(1, nil) // of the one before
		region.mu.Unlock()
		if l.imported != nil {
			if err := l.RestoreBoard(*l.imported); err != nil {
				survive(fmt.Errorf("hakmem: policy: %w, although the file was checked; the strategies begin anew", err))
			}
		}
	}
	return l.Learner
}

// boardLearnt returns how the strategies stand, or nil if no match was played. Under scavenger.mu.
func boardLearnt() *learn.BoardSnapshot {
	s := aboveModels().Board().Snapshot()
	if s.Matches() == 0 {
		return nil
	}
	return &s
}

// restoreBoard replaces how the strategies stand, unless s is nil. If the leader decides, it is in force at
// once. moving is scavenger.moving, which it takes. Under scavenger.mu.
func restoreBoard(s *learn.BoardSnapshot, moving *check.Mutex[check.Moving]) error {
	if s == nil {
		return nil
	}
	above := aboveModels()
	if err := above.RestoreBoard(*s); err != nil {
		return err
	}
	learner.imported = s
	inForce := above.Strategy()
	moving.Lock()
	budget.factor = inForce.Budget
	moving.Unlock()
	region.mu.Lock()
	keptModel().SetScale(inForce.Hold)
	region.mu.Unlock()
	return nil
}

// learnWindow lets the Learner judge, if a window has passed. moving is scavenger.moving, which it takes for
// the counters. Under scavenger.mu.
func learnWindow(now stamp, moving *check.Mutex[check.Moving]) {
	l := &learner
	followLives(now)
	since := now.since(l.windowAt)
	if !learns() || since < decayPart(windowTime) {
		return
	}
	first := l.windowAt == 0
	l.windowAt = now
	if !first {
		l.clock += time.Duration(uint64(since)*keptUnit/uint64(decay())) * time.Millisecond
	}
	moving.Lock()
	held, budgetBytes := inCaches()
	misses := countMisses()
	missed := misses
	for c := range missed {
		missed[c] -= l.misses[c]
	}
	countTurns()
	large := largeUse(&missed, since)
	moving.Unlock()
	r := learn.Report{
		End:         l.clock,
		Pages:       pageSize / float64(1<<30),
		CacheMemory: float64(held) / (1 << 30) * float64(since) / 1000,
		Large:       large,
	}
	_, r.Fixed = policy.Now().Keep.Time()
	moved := movedNanos.Load()
	r.CacheCPU, l.moved = float64(moved-l.moved)/1e9, moved
	for c, n := range missed {
		size := sizeclass.ID(c).Bytes()
		if c > 0 && c <= sizeclass.NumAll && size > 0 {
			r.Sizes[bits.Len64(uint64(size-1))%learn.SizeBins] += uint32(n)
		}
	}
	l.misses = misses
	r.P99 = takeP99()
	above := aboveModels()
	budgetLimit := float64(budgetBytes) // by itself, whatever the strategy makes of it
	if f := budget.factor; f > 0 {
		budgetLimit /= f
	}
	if l.limit == 0 || budgetLimit > leastNoted*l.limit || budgetLimit < l.limit/leastNoted {
		if l.limit != 0 {
			above.NoteBudget(l.limit, budgetLimit)
		}
		l.limit = budgetLimit
	}
	if policy.Now().Elo == learn.DecideReal {
		r.Real = processUse(since)
	}
	region.mu.Lock()
	above.NotePrice(float64(keeper.price) / 1000)
	for _, c := range lifetimes.changes {
		above.NoteLane(uint32(c.site), c.long)
	}
	lifetimes.changes = lifetimes.changes[:0]
	if touches.model != nil {
		touches.model.Changes(above.NoteTouch)
	}
	if first { // the time before is no window
		keptModel().Judge()
	} else {
		above.Window(keptModel(), r)
	}
	frozen := above.Evolution().Mode() != learn.ModeLearn
	lifetimes.frozen = frozen
	costs := keptModel().Costs()
	region.mu.Unlock()
	batchWindow(costs, frozen, above.NoteAdopted)
	rested := since > 2*decayPart(windowTime) // there were no ticks, so a second of it says little
	if d, adopted := wmaxWindow(since, costs, frozen || rested); adopted {
		above.NoteAdopted(d)
	}
	holesModel().Freeze(frozen)
	learnSizes(above, frozen)
	moving.Lock()
	budget.factor = above.Strategy().Budget
	moving.Unlock()
}

// lastUse is what the process had used when the last window ended. Owned by scavenger.mu.
var lastUse struct {
	cpu    time.Duration
	faults uint64
}

// processUse returns what the process has used since the last window. Its CPU time is 0 where it is not
// known, and in the first window.
func processUse(since millis) (s learn.Sample) {
	minor, major := osmem.ProcessFaults()
	cpu, faults := osmem.ProcessCPU(), minor+major
	if lastUse.cpu > 0 {
		held := counted.Load() // what is live is the same for both strategies of a match
		s = learn.Sample{
			CPU:    (cpu - lastUse.cpu).Seconds(),
			Faults: float64(faults - lastUse.faults),
			Memory: float64(held) / (1 << 30) * float64(since) / 1000,
		}
	}
	lastUse.cpu, lastUse.faults = cpu, faults
	return s
}

// countMisses returns how many misses there were so far, by size class. It includes fronts that are not
// in use. Under scavenger.moving.
func countMisses() (n [frontTypes]uint64) {
	n = spent.misses
	for f := range frontPool.withMemory {
		for c := range n {
			n[c] += atomic.LoadUint64(f.misses(sizeclass.ID(c)))
		}
	}
	return n
}
