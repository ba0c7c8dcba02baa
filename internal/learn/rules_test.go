package learn

import (
	"math"
	"reflect"
	"strings"
	"testing"
)

// TestRulesInFiles: a policy file carries rules, one without them is read as before, and bad ones are
// refused.
func TestRulesInFiles(t *testing.T) {
	s := New(testCosts).Snapshot()
	write := func() string {
		var text strings.Builder
		if err := s.Write(&text, nil); err != nil {
			t.Fatal(err)
		}
		return text.String()
	}
	if text := write(); strings.Contains(text, "Sites") {
		t.Error("a file without rules mentions them")
	}
	s.Sites = []SiteRule{{"a", true, 20}, {"b", false, 0}}
	got, err := ReadSnapshot(strings.NewReader(write()))
	if err != nil || !reflect.DeepEqual(got.Sites, s.Sites) {
		t.Errorf("%+v, %v; want %+v", got.Sites, err, s.Sites)
	}
	for says, bad := range map[string][]SiteRule{
		"two rules": {{"a", true, 20}, {"a", true, 20}},
		"-1":        {{"a", true, -1}},
		"NaN":       {{"a", true, math.NaN()}},
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
		{[]SiteRule{{"b", true, 20}}, []SiteRule{{"a", false, 30}}, []SiteRule{{"a", false, 30}, {"b", true, 20}}},
		{[]SiteRule{{"a", true, 20}}, []SiteRule{{"a", true, 30}}, []SiteRule{{"a", true, 50}}},
		{[]SiteRule{{"a", true, 20}}, []SiteRule{{"a", false, 30}}, []SiteRule{{"a", false, 10}}},
		{[]SiteRule{{"a", true, 30}}, []SiteRule{{"a", false, 20}}, []SiteRule{{"a", true, 10}}},
		{[]SiteRule{{"a", true, 30}}, []SiteRule{{"a", false, 30}}, []SiteRule{{"a", false, 1}}},
		{[]SiteRule{{"a", false, 30}}, []SiteRule{{"a", true, 30}}, []SiteRule{{"a", false, 1}}},
		{[]SiteRule{{"a", true, 30}}, []SiteRule{{"a", false, 0}}, []SiteRule{{"a", false, 0}}},
		{[]SiteRule{{"a", true, 0}}, []SiteRule{{"a", false, 30}}, []SiteRule{{"a", true, 0}}},
		{[]SiteRule{{"a", true, 0}}, []SiteRule{{"a", false, 0}}, []SiteRule{{"a", true, 0}}},
	} {
		if got := mergeRules(c.a, c.b); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%v and %v: %v, want %v", c.a, c.b, got, c.want)
		}
	}
	a, b := New(testCosts).Snapshot(), New(testCosts).Snapshot()
	a.Sites, b.Sites = []SiteRule{{"a", true, 20}}, []SiteRule{{"b", true, 20}}
	if both, err := a.Merge(b); err != nil || len(both.Sites) != 2 || len(a.Sites) != 1 {
		t.Errorf("merged: %+v, %v; the first is now %+v", both.Sites, err, a.Sites)
	}
}
