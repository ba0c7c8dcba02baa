package engine

import (
	"sync/atomic"
	"unicode/utf8"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/learn"
	"github.com/hakmem/hakmem/internal/site"
)

// This file holds the rules of sites: which lane their blocks go to, where a rule says it in place of the
// model; what else is set for them (siterule.go); and what policy files say of sites. region.mu owns all of it.

// Lane is where the blocks of a site go.
type Lane uint8

// The lanes.
const (
	LaneAuto  Lane = iota // learnt
	LaneShort             // the common lane
	LaneLong              // the long lane
)

// Rule is what a program sets for the blocks of a site. The zero value sets nothing.
type Rule struct {
	Lane Lane
	learn.SiteSettings
}

// rules is what is known of sites besides what the model knows. Owned by region.mu.
var rules struct {
	set      map[site.ID]Lane           // LaneShort or LaneLong
	imported map[site.ID]learn.SiteRule // lanes and Touches learnt elsewhere; they hold until the models judge the site
	unknown  map[string]learn.SiteRule  // of names that no site has yet, set ones too
}

// anyUnknown says that rules.unknown is not empty. It is read without a lock.
var anyUnknown atomic.Bool

// SetRule sets the rule of a site, which must be registered, in place of an earlier one. Blocks that were
// allocated before stay where they are. It returns an error, and changes nothing, if r cannot be used. Any
// goroutine, not entered.
func SetRule(s site.ID, r Rule) error {
	check.MustNotBeEntered("SetRule")
	if err := r.Check(); err != nil {
		return err
	}
	region.mu.Lock()
	defer region.mu.Unlock()
	setLane(s, r.Lane)
	setSettings(s, r.SiteSettings)
	return nil
}

// setLane sets the lane of a site; LaneAuto takes an earlier one back. Under region.mu.
func setLane(s site.ID, lane Lane) {
	check.MustHold(&region.mu, "setLane")
	if rules.set == nil {
		rules.set = map[site.ID]Lane{}
	}
	if rules.set[s] = lane; lane == LaneAuto {
		delete(rules.set, s)
	}
	publish(s)
}

// ReadRule returns the rule that is set for a site, and whether its blocks go to the long lane now. Any
// goroutine, not entered.
func ReadRule(s site.ID) (set Rule, long bool) {
	check.MustNotBeEntered("ReadRule")
	region.mu.Lock()
	defer region.mu.Unlock()
	return Rule{rules.set[s], settingsOf(s)}, isLong(s)
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
	learnt := learn.SiteRule{NoLane: r.NoLane || r.Samples == 0, LearntTouch: r.LearntTouch, TouchPlays: r.TouchPlays}
	if !learnt.NoLane {
		learnt.Long, learnt.Samples = r.Long, r.Samples
	}
	if !learnt.NoLane || learnt.TouchPlays > 0 {
		rules.imported[s] = learnt
		publish(s)
	}
	switch {
	case r.NoLane, r.Samples > 0:
	case rules.set[s] == LaneAuto: // otherwise the program has set another one
		setLane(s, laneFor(r.Long))
	}
	setSettings(s, settingsOf(s).Or(r.SiteSettings)) // what the program has set comes first
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
	old := rules.imported
	rules.imported, rules.unknown = map[site.ID]learn.SiteRule{}, map[string]learn.SiteRule{}
	for s := range old {
		publish(s)
	}
	for _, r := range list {
		rules.unknown[r.Name] = r
	}
	anyUnknown.Store(len(list) > 0)
	region.mu.Unlock()
	// A site that is registered from here on meets its rule by itself.
	for _, r := range list {
		if s := site.Find(r.Name); s != 0 {
			meetSite(s, r.Name)
		}
	}
}

// siteRules returns what is known of sites, for a policy file, in any order. Under region.mu.
func siteRules() (list []learn.SiteRule) {
	check.MustHold(&region.mu, "siteRules")
	by := map[site.ID]learn.SiteRule{}
	for s, r := range rules.imported {
		by[s] = r
	}
	laned := func(s site.ID, long bool, samples float64) {
		r := by[s]
		r.Long, r.Samples, r.NoLane = long, samples, false
		by[s] = r
	}
	lifetimes.model.Judged(func(s uint32, samples float64, long bool) { laned(site.ID(s), long, samples) })
	for s, lane := range rules.set {
		laned(s, lane == LaneLong, 0)
	}
	for s, u := range ruledSites() {
		r, is := by[s]
		r.NoLane, r.SiteSettings = r.NoLane || !is, *u
		by[s] = r
	}
	names := map[string]bool{}
	for s, r := range by {
		// A file is JSON, which has no other names.
		if r.Name, _, _ = site.Read(s); utf8.ValidString(r.Name) {
			names[r.Name] = true
			list = append(list, r)
		}
	}
	for _, r := range rules.unknown {
		if !names[r.Name] { // a site of that name is about to meet its rule
			list = append(list, r)
		}
	}
	return list
}

// importedTouch returns how the memory of a site's fresh blocks comes best, by a policy file. Under region.mu.
func importedTouch(s site.ID) learn.TouchRule {
	check.MustHold(&region.mu, "importedTouch")
	return rules.imported[s].LearntTouch
}

// laneNow reports whether the blocks of a site are to go to the long lane. Under region.mu.
func laneNow(s site.ID) bool {
	check.MustHold(&region.mu, "laneNow")
	if lane := rules.set[s]; lane != LaneAuto {
		return lane == LaneLong
	}
	if long, judged := lifetimes.judged[s]; judged {
		return long
	}
	return rules.imported[s].Long
}

// publish makes longSites say of a site what laneNow says. Under region.mu.
func publish(s site.ID) {
	w, bit := &longSites[s/64], uint64(1)<<(s%64)
	l := &lifetimes
	long := laneNow(s)
	switch {
	case long && w.Or(bit)&bit == 0:
		l.long++
	case !long && w.And(^bit)&bit != 0:
		l.long--
	default:
		return
	}
	if len(l.changes) < mostChanges {
		l.changes = append(l.changes, laneChange{s, long})
	}
}

// publishJudged makes longSites agree with what the model has decided. Only sites that the model knows or
// has known can change. Under region.mu.
func publishJudged() {
	check.MustHold(&region.mu, "publishJudged")
	l := &lifetimes
	l.judged, l.before = l.before, l.judged
	if l.judged == nil {
		l.judged = map[site.ID]bool{}
	}
	clear(l.judged)
	l.model.Judged(func(s uint32, _ float64, long bool) { l.judged[site.ID(s)] = long })
	for s := range l.judged {
		publish(s)
	}
	for s := range l.before {
		publish(s)
	}
}
