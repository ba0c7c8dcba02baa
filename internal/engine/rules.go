package engine

import (
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/learn"
	"github.com/hakmem/hakmem/internal/site"
)

// This file holds the rules that say in place of the model which sites' blocks go to the long lane, and
// what policy files say of sites. region.mu owns all of it.

// Lane is where the blocks of a site go.
type Lane uint8

// The lanes.
const (
	LaneAuto  Lane = iota // learnt
	LaneShort             // the common lane
	LaneLong              // the long lane
)

// rules is what is known of sites besides what the model knows. Owned by region.mu.
var rules struct {
	set      map[site.ID]Lane           // LaneShort or LaneLong
	imported map[site.ID]learn.SiteRule // learnt elsewhere; they hold until the model judges the site
	unknown  map[string]learn.SiteRule  // of names that no site has yet, set ones too
}

// anyUnknown says that rules.unknown is not empty. It is read without a lock.
var anyUnknown atomic.Bool

// SetLane sets the rule of a site, which must be registered; LaneAuto takes an earlier one back. Blocks
// that were allocated before stay where they are. Any goroutine, not entered.
func SetLane(s site.ID, lane Lane) {
	check.MustNotBeEntered("SetLane")
	region.mu.Lock()
	defer region.mu.Unlock()
	setLane(s, lane)
	publishLanes()
}

// setLane is the change that SetLane makes. Under region.mu.
func setLane(s site.ID, lane Lane) {
	check.MustHold(&region.mu, "setLane")
	if rules.set == nil {
		rules.set = map[site.ID]Lane{}
	}
	if rules.set[s] = lane; lane == LaneAuto {
		delete(rules.set, s)
	}
}

// LaneOf returns the rule that is set for a site, and whether its blocks go to the long lane now. Any
// goroutine, not entered.
func LaneOf(s site.ID) (set Lane, long bool) {
	check.MustNotBeEntered("LaneOf")
	region.mu.Lock()
	defer region.mu.Unlock()
	return rules.set[s], isLong(s)
}

// RegisterSite is site.Register. A rule that was imported for the name holds from now on. Any goroutine,
// not entered.
func RegisterSite(name string) site.ID {
	s := site.Register(name)
	if s != 0 && anyUnknown.Load() {
		meetSite(s, name)
	}
	return s
}

// meetSite puts the rule for a name that no site had, if there is one, in force for the site that has the
// name. Not entered.
func meetSite(s site.ID, name string) {
	check.MustNotBeEntered("meetSite")
	region.mu.Lock()
	defer region.mu.Unlock()
	r, known := rules.unknown[name]
	if !known {
		return
	}
	delete(rules.unknown, name)
	anyUnknown.Store(len(rules.unknown) > 0)
	switch {
	case r.Samples > 0:
		rules.imported[s] = r
	case rules.set[s] == LaneAuto: // otherwise the program has set another one
		setLane(s, laneFor(r.Long))
	}
	publishLanes()
}

// laneFor returns the lane of blocks that live for long, or do not.
func laneFor(long bool) Lane {
	if long {
		return LaneLong
	}
	return LaneShort
}

// importRules puts the rules of a policy file in place of the imported ones. Not entered.
func importRules(list []learn.SiteRule) {
	check.MustNotBeEntered("importRules")
	region.mu.Lock()
	rules.imported, rules.unknown = map[site.ID]learn.SiteRule{}, map[string]learn.SiteRule{}
	for _, r := range list {
		rules.unknown[r.Name] = r
	}
	anyUnknown.Store(len(list) > 0)
	publishLanes()
	region.mu.Unlock()
	// A site that is registered from here on meets its rule by itself.
	for _, r := range list {
		if s := site.Find(r.Name); s != 0 {
			meetSite(s, r.Name)
		}
	}
}

// siteRules returns what is known of sites, for a policy file. Under region.mu.
func siteRules() (list []learn.SiteRule) {
	check.MustHold(&region.mu, "siteRules")
	by := map[site.ID]learn.SiteRule{}
	for s, r := range rules.imported {
		by[s] = r
	}
	lifetimes.model.Judged(func(s uint32, samples float64, long bool) {
		by[site.ID(s)] = learn.SiteRule{Long: long, Samples: samples}
	})
	for s, lane := range rules.set {
		by[s] = learn.SiteRule{Long: lane == LaneLong}
	}
	for s, r := range by {
		r.Name, _, _ = site.Read(s)
		list = append(list, r)
	}
	for _, r := range rules.unknown {
		list = append(list, r)
	}
	learn.SortRules(list)
	return list
}

// verdicts is used by publishLanes, which allocates nothing when it says what it has said before.
var verdicts = map[site.ID]bool{}

// publishLanes makes longSites agree with the rules and the model. Under region.mu.
func publishLanes() {
	check.MustHold(&region.mu, "publishLanes")
	long := verdicts
	clear(long)
	for s, r := range rules.imported {
		long[s] = r.Long
	}
	lifetimes.model.Judged(func(s uint32, _ float64, is bool) { long[site.ID(s)] = is })
	for s, lane := range rules.set {
		long[s] = lane == LaneLong
	}
	for _, s := range lifetimes.long {
		if !long[s] {
			longSites[s/64].And(^(uint64(1) << (s % 64)))
		}
	}
	lifetimes.long = lifetimes.long[:0]
	for s, is := range long {
		if is {
			longSites[s/64].Or(1 << (s % 64))
			lifetimes.long = append(lifetimes.long, s)
		}
	}
}
