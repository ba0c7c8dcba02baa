package engine

import "github.com/hakmem/hakmem/internal/learn"

// What the learner knows and has decided, for those who ask.

// LearnerState returns what was decided so far, and why the process holds what it holds; Memory.Resident,
// Live and what statistics say otherwise are left to the caller. It is empty if the scavenger hangs. Any
// goroutine, not entered.
func LearnerState() (s learn.State) {
	if !scavenger.lock() {
		return s
	}
	defer scavenger.unlock()
	s = aboveModels().State()
	m := &s.Memory
	scavenger.moving.Lock()
	held, limit := inCaches()
	scavenger.moving.Unlock()
	m.Caches, m.Budget = uint64(held), uint64(limit)
	region.mu.Lock()
	defer region.mu.Unlock()
	even := keptModel().Costs().BreakEven()
	m.Price, m.Even, m.Hold = float64(keeper.price)/1000, even.Seconds(), meanHold().Seconds()
	m.Holes = m.Even
	if holeTimes.model != nil {
		m.Holes = holeTimes.model.Mean().Seconds()
	}
	m.Soft = uint64(memoryLimit.soft.Load())
	return s
}
