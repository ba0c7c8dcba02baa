package engine

import (
	"errors"
	"slices"

	"github.com/hakmem/hakmem/internal/learn"
	"github.com/hakmem/hakmem/internal/site"
)

// This file hands out what was learnt and decided, and takes it from a policy file. It has no state.

// Learnt returns what was learnt of free pages, of holes and of sites, and the sizes that were added. It leaves out holes if the scavenger
// hangs. Any goroutine, not entered.
func Learnt() learn.Snapshot {
	region.mu.Lock()
	s := keptModel().Snapshot()
	s.Sites, s.Sizes = siteRules(), slices.Clone(addedSizes)
	region.mu.Unlock()
	learn.SortRules(s.Sites)
	if scavenger.lock() {
		holes := holesModel().Snapshot()
		scavenger.unlock()
		s.Holes = &holes
	}
	return s
}

// Learn replaces what was learnt of free pages and, if s has them, of holes, and the imported rules of
// sites. What was learnt of sites in this process stays, and so do sizes that were added: those of s come
// on top, as far as there are spare classes. It returns an error, and changes nothing, if s is damaged or
// the scavenger hangs. Any goroutine, not entered.
func Learn(s learn.Snapshot) error {
	if err := errors.Join(s.Check(), checkSizes(s.Sizes)); err != nil {
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
	importSizes(s.Sizes)
	return nil
}

// restoreKept is Learn for free pages.
func restoreKept(s learn.Snapshot) error {
	region.mu.Lock()
	defer region.mu.Unlock()
	return keptModel().Restore(s)
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
	s.Sites = sitesOf(s.Decisions)
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
	return s, true
}

// sitesOf returns the names of the sites that decisions are about, nil if there are none.
func sitesOf(list []learn.Decision) (names map[uint32]string) {
	for _, d := range list {
		if d.Kind != learn.KindLane {
			continue
		}
		if names == nil {
			names = map[uint32]string{}
		}
		names[d.Where], _, _ = site.Read(site.ID(d.Where))
	}
	return names
}
