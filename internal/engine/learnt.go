package engine

import (
	"github.com/hakmem/hakmem/internal/learn"
	"github.com/hakmem/hakmem/internal/policy"
)

// This file hands out what was learnt and decided, and takes it from a policy file. It has no state.

// Learnt returns what was learnt of free pages, of holes and of sites, and of fresh blocks if they are played
// (touch.go). It leaves out holes if the scavenger hangs. Any goroutine, not entered.
func Learnt() learn.Snapshot {
	region.mu.Lock()
	s := keptModel().Snapshot()
	s.Sites = siteRules()
	if touches.model != nil {
		fresh := touches.model.Snapshot()
		s.Touch = &fresh
	}
	region.mu.Unlock()
	learn.SortRules(s.Sites)
	if scavenger.lock() {
		holes := holesModel().Snapshot()
		scavenger.unlock()
		s.Holes = &holes
	}
	return s
}

// Learn replaces what was learnt of free pages and, if s has them, of holes and of fresh blocks, and the
// imported rules of sites. What was learnt of sites in this process stays. It returns an error, and changes nothing, if s is
// damaged or the scavenger hangs. Any goroutine, not entered.
func Learn(s learn.Snapshot) error {
	if err := s.Check(); err != nil {
		return err
	}
	if !scavenger.lock() {
		return errGone
	}
	defer scavenger.unlock()
	if err := restoreKept(s); err != nil {
		return err
	}
	if s.Holes != nil {
		if err := holesModel().Restore(*s.Holes); err != nil {
			return err
		}
	}
	importRules(s.Sites)
	return restoreTouch(s)
}

// restoreKept is Learn for free pages.
func restoreKept(s learn.Snapshot) error {
	region.mu.Lock()
	defer region.mu.Unlock()
	return keptModel().Restore(s)
}

// restoreTouch is Learn for fresh blocks.
func restoreTouch(s learn.Snapshot) error {
	if s.Touch == nil {
		return nil
	}
	region.mu.Lock()
	defer region.mu.Unlock()
	return touchModel().Restore(*s.Touch)
}

// LearnerState returns what was decided so far, and why the process holds what it holds; Memory.Resident,
// Live and what statistics say otherwise are left to the caller. ok is false if the scavenger hangs. Any
// goroutine, not entered.
func LearnerState() (s learn.State, ok bool) {
	if !scavenger.lock() {
		return s, false
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
	m.Holes = meanHoleTime().Seconds()
	m.Soft = uint64(memoryLimit.soft.Load())
	if touches.model != nil && policy.Now().Touch == policy.TouchAuto {
		touches.model.Adopted(func(site uint32, g learn.TouchGroup, arm learn.TouchArm) {
			s.Touch = append(s.Touch, learn.TouchInForce{Where: learn.TouchWhere(site, g), Arm: arm})
		})
	}
	return s, true
}
