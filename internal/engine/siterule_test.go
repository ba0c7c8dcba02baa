package engine

import (
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/hakmem/hakmem/internal/learn"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/policy"
	"github.com/hakmem/hakmem/internal/site"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// TestRuleOf: what is set for a site holds until it is taken back, and what cannot be used changes nothing.
func TestRuleOf(t *testing.T) {
	before := len(ruledSites())
	s, other := laneSite(t, "ruled", LaneAuto), laneSite(t, "other", LaneAuto)
	if ruleOf(s) != nil || ruleOf(0) != nil {
		t.Fatal("a fresh site, or none, has a rule")
	}
	want := learn.SiteSettings{Touch: learn.RulePopulate, HoldScale: 2, WMax: 1.5, Class: 1000}
	if err := SetRule(s, Rule{LaneLong, want}); err != nil || ruleOf(s) == nil || *ruleOf(s) != want {
		t.Errorf("set: %v, %+v", err, ruleOf(s))
	}
	if err := SetRule(s, Rule{LaneShort, learn.SiteSettings{WMax: 3}}); err == nil || !strings.Contains(err.Error(), "WMax 3") {
		t.Errorf("WMax 3: %v", err)
	}
	if set, long := ReadRule(s); set != (Rule{LaneLong, want}) || !long || ruleOf(other) != nil {
		t.Errorf("the rule is %+v, long %t; another site's is %+v", set, long, ruleOf(other))
	}
	// The lane and the rest are independent.
	if err := SetRule(s, Rule{LaneAuto, learn.SiteSettings{HoldScale: 0.5}}); err != nil {
		t.Error(err)
	}
	if set, long := ReadRule(s); set != (Rule{LaneAuto, learn.SiteSettings{HoldScale: 0.5}}) || long {
		t.Errorf("the rule is %+v, long %t", set, long)
	}
	setLaneRule(s, LaneAuto)
	if ruleOf(s) != nil || len(ruledSites()) != before {
		t.Errorf("a rule is left: %+v, of %d sites", ruleOf(s), len(ruledSites()))
	}
}

// TestClass: blocks of a site have the bytes that are set at least, and stay where they are when they grow up to
// that. Other sites' have what was asked for.
func TestClass(t *testing.T) {
	needSites(t)
	s, plain := laneSite(t, "grows", LaneAuto), laneSite(t, "plain", LaneAuto)
	if err := SetRule(s, Rule{SiteSettings: learn.SiteSettings{Class: 3000}}); err != nil {
		t.Fatal(err)
	}
	least := sizeclass.Classes[sizeclass.Of(3000)].Size
	for _, size := range []mem.Bytes{0, 1, 100, 2999, 3000, 3001, 32 << 10, 32<<10 + 1, mebibyte} {
		like := mallocAtSite(t, plain, max(size, 3000))
		want, _, bad := Size(like)
		if bad.Kind != OK {
			t.Fatal(bad)
		}
		freeBlocks(t, []Block{like})
		for _, p := range []Block{mallocAtSite(t, s, size), MallocMoved(0, 1, size, s, true, KeepAll)} {
			if got, label, bad := Size(p); bad.Kind != OK || got != want || label != s || got < mem.Bytes(least) {
				t.Errorf("%d bytes: the block has %d of site %d (%+v), want %d", size, got, label, bad, want)
			}
			freeBlocks(t, []Block{p})
		}
	}
	p := MallocMoved(0, 256, 100, s, false, KeepAll)
	if p%256 != 0 {
		t.Errorf("a block at %#x, want a multiple of 256", p)
	}
	freeBlocks(t, []Block{p})
	withPolicy(t, map[string]string{"HAKMEM_HARDEN": "1"})
	if n := AtLeast(s, 100); n != 100 {
		t.Errorf("a hardened block has %d bytes, want what is asked for", n)
	}
}

// TestImportSettings: what a file sets for a site holds next to what the program has set, and is exported with
// the lane.
func TestImportSettings(t *testing.T) {
	needSites(t)
	withClock(t)
	forgetLifetimes(t)
	forgetRules(t)
	known := laneSite(t, "known", LaneAuto)
	if err := SetRule(known, Rule{SiteSettings: learn.SiteSettings{WMax: 2}}); err != nil {
		t.Fatal(err)
	}
	later := t.Name() + ": later"
	s := Learnt()
	s.Sites = []learn.SiteRule{
		{Name: t.Name() + ": known", NoLane: true, SiteSettings: learn.SiteSettings{HoldScale: 3, WMax: 1.5}},
		{Name: later, Long: true, Samples: 20, SiteSettings: learn.SiteSettings{Class: 64, Touch: learn.RuleHuge}},
	}
	if err := Learn(s); err != nil {
		t.Fatal(err)
	}
	x := RegisterSite(later)
	defer setLaneRule(x, LaneAuto)
	if set, long := ReadRule(known); set != (Rule{LaneAuto, learn.SiteSettings{HoldScale: 3, WMax: 2}}) || long {
		t.Errorf("known: %+v, long %t", set, long)
	}
	if set, long := ReadRule(x); set != (Rule{LaneAuto, learn.SiteSettings{Class: 64, Touch: learn.RuleHuge}}) || !long {
		t.Errorf("later: %+v, long %t", set, long)
	}
	want := s.Sites
	want[0].WMax = 2
	if got := ours(t, Learnt().Sites); !reflect.DeepEqual(got, want) {
		t.Errorf("exported:\n%+v, want\n%+v", got, want)
	}
	s.Sites = []learn.SiteRule{{Name: later, NoLane: true, SiteSettings: learn.SiteSettings{HoldScale: 1000}}}
	if err := Learn(s); err == nil || !strings.Contains(err.Error(), "HoldScale 1000") {
		t.Errorf("HoldScale 1000: %v", err)
	}
	if got := ours(t, Learnt().Sites); !reflect.DeepEqual(got, want) {
		t.Errorf("after a file that was refused:\n%+v, want\n%+v", got, want)
	}
}

// TestRulesAtOnce: rules are set while blocks of the sites are allocated and freed.
func TestRulesAtOnce(t *testing.T) {
	needSites(t)
	s := laneSite(t, "changes", LaneAuto)
	rounds := 2000
	if raced {
		rounds = 300
	}
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for i := range rounds {
				p := MallocAt(s, mem.Bytes(i%2)*300<<10)
				if bad := Free(0, p); bad.Kind != OK {
					t.Errorf("Free(%#x) = %+v", p, bad)
				}
			}
		})
	}
	for i := range rounds {
		r := Rule{SiteSettings: learn.SiteSettings{HoldScale: []float64{0, learn.ReturnAtOnce, 2}[i%3], Class: uint64(i % 2 * 500)}}
		if err := SetRule(s, r); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	mustHold(t)
}

// TestRuleOfTouch: what a rule says of fresh blocks comes before HAKMEM_TOUCH, for the blocks of that site.
func TestRuleOfTouch(t *testing.T) {
	needSites(t)
	populates(t)
	s, plain := laneSite(t, "touched", LaneAuto), laneSite(t, "plain", LaneAuto)
	const size = 300 << 10
	for _, test := range []struct {
		set  policy.Touch
		rule learn.TouchRule
		site site.ID
		want bool // memory comes before it is touched
	}{
		{policy.TouchFault, learn.RulePopulate, s, true},
		{policy.TouchFault, learn.RulePopulate, plain, false},
		{policy.TouchPopulate, learn.RuleFault, s, false},
		{policy.TouchPopulate, learn.RuleFault, plain, true},
		{policy.TouchPopulate, learn.RuleAuto, s, true},
	} {
		withTouch(t, test.set)
		if err := SetRule(s, Rule{SiteSettings: learn.SiteSettings{Touch: test.rule}}); err != nil {
			t.Fatal(err)
		}
		Trim()
		before := touched.bytes.Load()
		p := mallocAtSite(t, test.site, size)
		if came := touched.bytes.Load() > before; came != test.want {
			t.Errorf("HAKMEM_TOUCH %d, rule %v, site %d: memory came before it was touched: %t", test.set, test.rule, test.site, came)
		}
		freeBlocks(t, []Block{p})
	}
}

// TestRuleOfWMax: a rule's W_MAX comes before HAKMEM_W_MAX, for the blocks of that site.
func TestRuleOfWMax(t *testing.T) {
	needSites(t)
	withClock(t)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // another P has another magazine
	s, plain := laneSite(t, "wide", LaneAuto), laneSite(t, "plain", LaneAuto)
	for _, test := range []struct {
		set  policy.WMax
		rule float64
		site site.ID
		want mem.Bytes
	}{
		{0, 1.6, s, 96 << 10},
		{0, 1.6, plain, 64 << 10},
		{3, 1, s, 64 << 10},
		{3, 1, plain, 96 << 10},
		{3, 0, s, 96 << 10},
	} {
		withWMax(t, test.set)
		if err := SetRule(s, Rule{SiteSettings: learn.SiteSettings{WMax: test.rule}}); err != nil {
			t.Fatal(err)
		}
		freeBlocks(t, []Block{Malloc(0, 96<<10)})
		p := mallocAtSite(t, test.site, 64<<10)
		if size, _, _ := Size(p); size != test.want {
			t.Errorf("HAKMEM_W_MAX %d, rule %g, site %d: the block has %d bytes, want %d", test.set, test.rule, test.site, size, test.want)
		}
		freeBlocks(t, []Block{p})
	}
}
