package engine

import (
	"maps"
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/learn"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/site"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// This file holds what is set for the blocks of a site besides their lane. Slow paths read it without a
// lock; region.mu owns the changes.

// rule is what is set for the blocks of a site. It never changes.
type rule = learn.SiteSettings

// ruled has the rules of the sites that have one; nil: there are none. The map never changes: another
// rule makes another map.
var ruled atomic.Pointer[map[site.ID]*rule]

const _ = uint(sizeclass.MaxMid-learn.MostSiteClass) + uint(learn.MostSiteClass-sizeclass.MaxMid) // a Class is a slab's

// ruleOf returns what is set for the blocks of a site, or nil for nothing. Any goroutine, without a lock, also
// entered.
func ruleOf(s site.ID) *rule { return ruledSites()[s] }

// ruledSites returns the rules of all sites that have one, for reading. Any goroutine, without a lock.
func ruledSites() map[site.ID]*rule {
	if m := ruled.Load(); m != nil {
		return *m
	}
	return nil
}

// settingsOf is ruleOf with the zero value for nothing.
func settingsOf(s site.ID) rule {
	if r := ruleOf(s); r != nil {
		return *r
	}
	return rule{}
}

// setSettings sets what ruleOf returns for a site. Under region.mu.
func setSettings(s site.ID, r rule) {
	check.MustHold(&region.mu, "setSettings")
	if r == settingsOf(s) {
		return
	}
	m := maps.Clone(ruledSites())
	if m == nil {
		m = map[site.ID]*rule{}
	}
	if m[s] = &r; r == (rule{}) {
		delete(m, s)
	}
	if ruled.Store(&m); len(m) == 0 {
		ruled.Store(nil)
	}
}

// AtLeast returns how many bytes a block needs for which size bytes are asked at a site: more where a Class is
// set for the site. Hardened blocks have the bytes that were asked for. Any goroutine, without a lock.
func AtLeast(s site.ID, size mem.Bytes) mem.Bytes {
	if r := ruleOf(s); r != nil && !Hardened() {
		return max(size, mem.Bytes(r.Class))
	}
	return size
}

// touchRule returns how the memory of a site's fresh blocks comes (touch.go), if that is set; it comes before
// HAKMEM_TOUCH and what is learnt. Any goroutine, without a lock, also entered.
func touchRule(s site.ID) (arm learn.TouchArm, set bool) { return settingsOf(s).Touch.Arm() }

// wmaxRule returns the W_MAX that is set for a site (wmax.go) in place of HAKMEM_W_MAX, if one is. Any
// goroutine, without a lock, also entered.
func wmaxRule(s site.ID) (factor float64, set bool) {
	f := settingsOf(s).WMax
	return f, f != 0
}

// holdFactor returns the factor that is set for the hold time of pages that a site's large block leaves, 0 for
// none at all, and whether one is set. Any goroutine, without a lock, also entered.
func holdFactor(s site.ID) (f holdScale, set bool) {
	r := ruleOf(s)
	switch {
	case r == nil || r.HoldScale == 0:
		return 1, false
	case r.HoldScale == learn.ReturnAtOnce:
		return 0, true
	}
	return holdScale(r.HoldScale), true
}
