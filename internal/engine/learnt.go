package engine

import (
	"errors"
	"slices"
	"unicode/utf8"

	"github.com/hakmem/hakmem/internal/learn"
	"github.com/hakmem/hakmem/internal/policy"
	"github.com/hakmem/hakmem/internal/site"
)

// This file hands out what was learnt and decided, and takes it from a policy file. It has no state.

// Learnt returns what was learnt of free pages, of holes and of sites, the sizes that were added, and what is
// known of fresh blocks (touch.go), of W_MAX and of batches if they are played, and of strategies if they were
// compared. Of all this it leaves out holes, W_MAX, batches and strategies if the scavenger hangs. Any goroutine,
// not entered.
func Learnt() learn.Snapshot {
	region.mu.Lock()
	s := keptModel().Snapshot()
	s.Sites, s.Sizes = siteRules(), slices.Clone(addedSizes)
	if touches.model != nil {
		fresh := touches.model.Snapshot()
		s.Touch = &fresh
		s.Sites = withTouches(s.Sites)
	}
	region.mu.Unlock()
	learn.SortRules(s.Sites)
	if scavenger.lock() {
		holes := holesModel().Snapshot()
		s.Holes = &holes
		s.WMax, s.Batches, s.Board = wmaxLearnt(), batchesLearnt(), boardLearnt()
		scavenger.unlock()
	}
	return s
}

// withTouches returns rules of sites with the Touches that were learnt here in place of imported ones. Under
// region.mu.
func withTouches(list []learn.SiteRule) []learn.SiteRule {
	touches.model.Settled(func(s uint32, rule learn.TouchRule, plays uint64) {
		name, _, _ := site.Read(site.ID(s))
		i := slices.IndexFunc(list, func(r learn.SiteRule) bool { return r.Name == name })
		switch {
		case i < 0 && (rule == learn.RuleAuto || !utf8.ValidString(name)): // a file is JSON, which has no other names
			return
		case i < 0:
			list = append(list, learn.SiteRule{Name: name, NoLane: true})
			i = len(list) - 1
		}
		r := &list[i]
		if r.LearntTouch, r.TouchPlays = rule, plays; rule == learn.RuleAuto {
			r.TouchPlays = 0
		}
		if *r == (learn.SiteRule{Name: name, NoLane: true}) {
			list = slices.Delete(list, i, i+1)
		}
	})
	return list
}

// Learn replaces what was learnt of free pages and, if s has them, of holes, of fresh blocks, of W_MAX, of
// kinds of batches and of strategies, and the imported rules of sites. What was learnt of sites in this process stays, and so do sizes that were added:
// those of s come on top, as far as there are spare classes. It returns an error, and changes nothing, if s
// is damaged or the scavenger hangs. Any goroutine, not entered.
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
	return errors.Join(restoreTouch(s), restoreWMax(s.WMax), restoreBatches(s.Batches), restoreBoard(s.Board, &scavenger.moving))
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
	s.Sites = sitesOf(s.Decisions, s.Touch)
	return s, true
}

// sitesOf returns the names of the sites that decisions, and ways to fault in, are about. It is nil if there
// are none.
func sitesOf(list []learn.Decision, touch []learn.TouchInForce) (names map[uint32]string) {
	note := func(s uint32) {
		if !site.ID(s).Known() {
			return
		}
		if names == nil {
			names = map[uint32]string{}
		}
		names[s], _, _ = site.Read(site.ID(s))
	}
	for _, d := range list {
		switch d.Kind {
		case learn.KindLane:
			note(d.Where)
		case learn.KindTouch:
			note(learn.SiteOfTouch(d.Where))
		}
	}
	for _, t := range touch {
		note(learn.SiteOfTouch(t.Where))
	}
	return names
}
