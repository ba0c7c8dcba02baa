package learn

import (
	"math"
	"reflect"
	"strings"
	"testing"
)

// lane returns a rule that says nothing but the lane of a site.
func lane(name string, long bool, samples float64) SiteRule {
	return SiteRule{Name: name, Long: long, Samples: samples}
}

// someSettings has another value than none in each field.
var someSettings = SiteSettings{Touch: RuleHuge, HoldScale: 0.5, WMax: 1.25, Class: 96}

// TestRulesInFiles: a policy file carries rules, one without them is read as before, and bad ones are
// refused.
func TestRulesInFiles(t *testing.T) {
	s := New(testCosts).Snapshot()
	write := func() string { return fileOf(t, s) }
	if text := write(); strings.Contains(text, "Sites") {
		t.Error("a file without rules mentions them")
	}
	s.Sites = []SiteRule{lane("a", true, 20), lane("b", false, 0)}
	got, err := ReadSnapshot(strings.NewReader(write()))
	if err != nil || !reflect.DeepEqual(got.Sites, s.Sites) {
		t.Errorf("%+v, %v; want %+v", got.Sites, err, s.Sites)
	}
	s.Sites = append(s.Sites, SiteRule{Name: "c", NoLane: true, SiteSettings: someSettings}, SiteRule{Name: "d", Long: true, Samples: 3, SiteSettings: SiteSettings{HoldScale: ReturnAtOnce}})
	if got, err = ReadSnapshot(strings.NewReader(write())); err != nil || !reflect.DeepEqual(got.Sites, s.Sites) {
		t.Errorf("%+v, %v; want %+v", got.Sites, err, s.Sites)
	}
	text := write()
	for says, replaced := range map[string][2]string{
		`no Touch "often", want one of auto, fault, populate, huge`: {`"Touch": "huge"`, `"Touch": "often"`},
		"HoldScale 200: use a factor from 0.01 to 100":              {`"HoldScale": 0.5`, `"HoldScale": 200`},
		"WMax 3": {`"WMax": 1.25`, `"WMax": 3`},
	} {
		bad := strings.Replace(text, replaced[0], replaced[1], 1)
		if _, err := ReadSnapshot(strings.NewReader(bad)); bad == text || err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("a file with %s: %v, want it to say %q", replaced[1], err, says)
		}
	}
	s.Sites = []SiteRule{{Name: "e", NoLane: true, LearntTouch: RulePopulate, TouchPlays: 64}}
	if got, err = ReadSnapshot(strings.NewReader(write())); err != nil || !reflect.DeepEqual(got.Sites, s.Sites) {
		t.Errorf("%+v, %v; want %+v", got.Sites, err, s.Sites)
	}
	for says, bad := range map[string][]SiteRule{
		`"a" has learnt the Touch huge from 0 plays`: {{Name: "a", LearntTouch: RuleHuge}},
		`"a" has learnt the Touch auto from 3 plays`: {{Name: "a", TouchPlays: 3}},
		`"a" has learnt the Touch 9 from 3 plays`:    {{Name: "a", LearntTouch: 9, TouchPlays: 3}},
		`"a" has a lane`:   {{Name: "a", Long: true, NoLane: true}},
		"a Class of 40000": {{Name: "a", SiteSettings: SiteSettings{Class: 40_000}}},
		"two rules":        {lane("a", true, 20), lane("a", true, 20)},
		"-1":               {lane("a", true, -1)},
		"NaN":              {lane("a", true, math.NaN())},
	} {
		s.Sites = bad
		if err := s.Check(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%+v: %v, want it to say %q", bad, err, says)
		}
	}
}

// TestMergeRules: rules count by their samples, and those that were set count in any case.
func TestMergeRules(t *testing.T) {
	for _, c := range []struct{ a, b, want []SiteRule }{
		{nil, nil, nil},
		{[]SiteRule{lane("b", true, 20)}, []SiteRule{lane("a", false, 30)}, []SiteRule{lane("a", false, 30), lane("b", true, 20)}},
		{[]SiteRule{lane("a", true, 20)}, []SiteRule{lane("a", true, 30)}, []SiteRule{lane("a", true, 50)}},
		{[]SiteRule{lane("a", true, 20)}, []SiteRule{lane("a", false, 30)}, []SiteRule{lane("a", false, 10)}},
		{[]SiteRule{lane("a", true, 30)}, []SiteRule{lane("a", false, 20)}, []SiteRule{lane("a", true, 10)}},
		{[]SiteRule{lane("a", true, 30)}, []SiteRule{lane("a", false, 30)}, []SiteRule{lane("a", false, 1)}},
		{[]SiteRule{lane("a", false, 30)}, []SiteRule{lane("a", true, 30)}, []SiteRule{lane("a", false, 1)}},
		{[]SiteRule{lane("a", true, 30)}, []SiteRule{lane("a", false, 0)}, []SiteRule{lane("a", false, 0)}},
		{[]SiteRule{lane("a", true, 0)}, []SiteRule{lane("a", false, 30)}, []SiteRule{lane("a", true, 0)}},
		{[]SiteRule{lane("a", true, 0)}, []SiteRule{lane("a", false, 0)}, []SiteRule{lane("a", true, 0)}},
	} {
		if got := mergeRules(c.a, c.b); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%v and %v: %v, want %v", c.a, c.b, got, c.want)
		}
	}
	set := func(r SiteRule, s SiteSettings) SiteRule {
		r.SiteSettings = s
		return r
	}
	none := SiteRule{Name: "a", NoLane: true}
	for _, c := range []struct{ a, b, want SiteRule }{
		{set(none, someSettings), none, set(none, someSettings)},
		{none, set(none, someSettings), set(none, someSettings)},
		{set(none, SiteSettings{HoldScale: 2}), set(none, someSettings), set(none, SiteSettings{RuleHuge, 2, 1.25, 96})},
		{set(none, SiteSettings{RuleFault, 0, 2, 16}), set(none, someSettings), set(none, SiteSettings{RuleFault, 0.5, 2, 16})},
		{none, lane("a", true, 5), lane("a", true, 5)},
		{none, lane("a", true, 0), lane("a", true, 0)},
		{lane("a", true, 0), none, lane("a", true, 0)},
		{lane("a", true, 5), set(none, someSettings), set(lane("a", true, 5), someSettings)},
		{set(lane("a", true, 30), someSettings), lane("a", false, 50), set(lane("a", false, 20), someSettings)},
		{set(lane("a", true, 30), someSettings), lane("a", false, 0), set(lane("a", false, 0), someSettings)},
	} {
		if got := mergeRules([]SiteRule{c.a}, []SiteRule{c.b}); len(got) != 1 || got[0] != c.want {
			t.Errorf("%+v and %+v: %+v, want %+v", c.a, c.b, got, c.want)
		}
	}
	learnt := func(rule TouchRule, plays uint64) SiteRule {
		return SiteRule{Name: "a", NoLane: true, LearntTouch: rule, TouchPlays: plays}
	}
	for _, c := range []struct{ a, b, want SiteRule }{
		{learnt(RulePopulate, 40), none, learnt(RulePopulate, 40)},
		{none, learnt(RulePopulate, 40), learnt(RulePopulate, 40)},
		{learnt(RulePopulate, 40), learnt(RulePopulate, 50), learnt(RulePopulate, 90)},
		{learnt(RulePopulate, 40), learnt(RuleFault, 50), learnt(RuleFault, 10)},
		{learnt(RuleHuge, 50), learnt(RuleFault, 40), learnt(RuleHuge, 10)},
		{learnt(RuleHuge, 50), learnt(RulePopulate, 50), learnt(RulePopulate, 1)},
		{learnt(RuleHuge, 50), set(none, SiteSettings{Touch: RuleFault}), set(learnt(RuleHuge, 50), SiteSettings{Touch: RuleFault})},
	} {
		if got := mergeRules([]SiteRule{c.a}, []SiteRule{c.b}); len(got) != 1 || got[0] != c.want {
			t.Errorf("%+v and %+v: %+v, want %+v", c.a, c.b, got, c.want)
		}
	}
	a, b := New(testCosts).Snapshot(), New(testCosts).Snapshot()
	a.Sites, b.Sites = []SiteRule{lane("a", true, 20)}, []SiteRule{lane("b", true, 20)}
	if both, err := a.Merge(b); err != nil || len(both.Sites) != 2 || len(a.Sites) != 1 {
		t.Errorf("merged: %+v, %v; the first is now %+v", both.Sites, err, a.Sites)
	}
}
