package engine

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hakmem/hakmem/internal/learn"
	"github.com/hakmem/hakmem/internal/site"
)

// forgetRules takes back what a test imports.
func forgetRules(t *testing.T) {
	t.Cleanup(func() { importRules(nil) })
}

// TestSetLane: a rule of the program holds at once, whatever is learnt, until it is taken back.
func TestSetLane(t *testing.T) {
	needSites(t)
	clock := withClock(t)
	forgetLifetimes(t)
	x := twoSites{laneSite(t, "short", LaneLong), laneSite(t, "long", LaneShort), 64}
	freeBlocks(t, x.live(t, clock, 5*time.Second))
	for s, want := range map[site.ID]Lane{x.short: LaneLong, x.long: LaneShort} {
		if set, long := ReadRule(s); set.Lane != want || long != (want == LaneLong) {
			t.Errorf("site %d has the rule %+v, long %t; want %d", s, set, long, want)
		}
	}
	setLaneRule(x.short, LaneAuto)
	setLaneRule(x.long, LaneAuto)
	if set, long := ReadRule(x.short); set != (Rule{}) || long {
		t.Errorf("the rule was taken back: %+v, long %t", set, long)
	}
	if _, long := ReadRule(x.long); long != learning {
		t.Errorf("the rule was taken back, and the lane of long lives is long: %t", long)
	}
	mustHold(t)
}

// TestImportRules: a rule of a policy file holds for the site that has the name, or is registered with it
// later, until the site is judged here; a set one holds like the program's own, but not in its place.
func TestImportRules(t *testing.T) {
	needSites(t)
	clock := withClock(t)
	forgetLifetimes(t)
	forgetRules(t)
	name := func(what string) string { return t.Name() + ": " + what }
	known, own := laneSite(t, "known", LaneAuto), laneSite(t, "own", LaneShort)
	s := Learnt()
	s.Sites = []learn.SiteRule{{Name: name(fmt.Sprint("new ", site.Num())), Long: true, Samples: 20}} // no site's
	if err := Learn(s); err != nil {
		t.Fatal(err)
	}
	fresh := RegisterSite(s.Sites[0].Name)
	if !isLong(fresh) {
		t.Error("a rule for a name without a site does not hold for the site that gets it")
	}
	s.Sites = []learn.SiteRule{
		{Name: name("known"), Long: true, Samples: 20},
		{Name: name("later"), Long: true, Samples: 20},
		{Name: name("later, set"), Long: true},
		{Name: name("never"), Long: true, Samples: 30},
		{Name: name("own"), Long: true},
	}
	if err := Learn(s); err != nil {
		t.Fatal(err)
	}
	later, set := RegisterSite(name("later")), RegisterSite(name("later, set"))
	defer setLaneRule(set, LaneAuto)
	for _, c := range []struct {
		s    site.ID
		set  Lane
		long bool
	}{{fresh, LaneAuto, false}, {known, LaneAuto, true}, {later, LaneAuto, true}, {set, LaneLong, true}, {own, LaneShort, false}, {RegisterSite(name("unnamed")), LaneAuto, false}} {
		if set, long := ReadRule(c.s); set.Lane != c.set || long != c.long {
			t.Errorf("site %d: rule %+v, long %t; want %d, %t", c.s, set, long, c.set, c.long)
		}
	}
	mustHold(t)
	want := s.Sites
	want[4].Long = false // the program's own
	if got := ours(t, Learnt().Sites); !reflect.DeepEqual(got, want) {
		t.Errorf("exported:\n%+v, want\n%+v", got, want)
	}
	if learning { // what is seen here replaces what was imported
		x := twoSites{short: later, long: laneSite(t, "x", LaneAuto), size: 64}
		freeBlocks(t, x.live(t, clock, 5*time.Second))
		if isLong(later) || !isLong(x.long) {
			t.Errorf("a site that was judged here keeps its imported rule: %t; the other is long: %t", isLong(later), isLong(x.long))
		}
	}
	// Another file takes the place of the first.
	s.Sites = nil
	if err := Learn(s); err != nil {
		t.Fatal(err)
	}
	if isLong(known) || !isLong(set) {
		t.Errorf("after a file without rules, learnt ones hold: %t; set ones: %t", isLong(known), isLong(set))
	}
	// A damaged one changes nothing.
	bad := s
	bad.Bands = nil
	bad.Sites = []learn.SiteRule{{Name: name("known"), Long: true, Samples: 20}}
	if err := Learn(bad); err == nil || isLong(known) {
		t.Errorf("a damaged snapshot: %v; its rules hold: %t", err, isLong(known))
	}
}

// ours returns the rules of the test's sites.
func ours(t *testing.T, rules []learn.SiteRule) (list []learn.SiteRule) {
	for _, r := range rules {
		if len(r.Name) > len(t.Name()) && r.Name[:len(t.Name())] == t.Name() {
			list = append(list, r)
		}
	}
	return list
}

// TestRulesInFiles: what is exported can be imported, whatever names sites have.
func TestRulesInFiles(t *testing.T) {
	withClock(t)
	for _, name := range []string{"file: a\xff", "file: a\xfe", "file: <&>"} {
		setLaneRule(site.Register(name), LaneLong)
	}
	var text strings.Builder
	if err := Learnt().Write(&text, nil); err != nil {
		t.Fatal(err)
	}
	s, err := learn.ReadSnapshot(strings.NewReader(text.String()))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, r := range s.Sites {
		if strings.HasPrefix(r.Name, "file: ") {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d of the names are in the file, want the one that JSON has", n)
	}
}
