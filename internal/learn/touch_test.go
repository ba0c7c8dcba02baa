package learn

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"runtime"
	"strings"
	"testing"
)

// touchMachine is a machine and a program of a test: what the arms cost for each OS page, and what the
// program does with its blocks.
type touchMachine struct {
	fault, populate, huge float64 // CPU seconds for an OS page
	used                  float64 // the share of pages that the program uses
	hold                  float64 // CPU seconds: a page for as long as a block lives
	noise                 float64 // calls cost the mean, give or take this share of it
}

// dense has the costs that docs/learning.md begins with, and blocks that live for a second.
var dense = touchMachine{fault: 0.75e-6, populate: 0.40e-6, huge: 0.19e-6, used: 1, hold: 0.38e-6, noise: 0.2}

func siteName(site uint32) string { return "site " + string(rune('A'+site)) }

// run allocates n blocks of so many pages, and returns how many of them came by each arm and how many were
// plays.
func (m touchMachine) run(touch *Touch, site uint32, pages uint, n int, seed uint64) (arms [nTouchArms]int, plays int) {
	rng := rand.New(rand.NewPCG(seed, 2))
	g := TouchGroupOf(pages)
	best := TouchPopulate
	if g >= hugeGroup {
		best = TouchHuge
	}
	for range n {
		arm, draw := touch.Next(site, g, best, true)
		arms[arm]++
		if draw == TouchNoPlay {
			continue
		}
		plays++
		p := TouchPlay{Site: site, Group: g, Arm: arm, Draw: draw, Pages: float64(16 * pages), CPU: m.fault, Hold: m.hold}
		switch cost := p.Pages * (1 + m.noise*(2*rng.Float64()-1)); arm {
		case TouchFault:
			p.Used = m.used * p.Pages
		case TouchPopulate:
			p.CPU = m.populate * cost
		case TouchHuge:
			p.CPU = m.huge * cost
		}
		touch.Played(p)
	}
	return arms, plays
}

// inForce returns what is adopted for a group of all sites.
func inForce(touch *Touch, pages uint) TouchArm {
	arm, _ := touch.Next(0, TouchGroupOf(pages), TouchHuge, false)
	return arm
}

// TestTouchLearns: the cheapest arm for what the program uses is adopted within 40 plays.
func TestTouchLearns(t *testing.T) {
	t.Parallel()
	with := func(change func(*touchMachine)) touchMachine {
		m := dense
		change(&m)
		return m
	}
	for _, test := range []struct {
		name  string
		pages uint
		m     touchMachine
		want  TouchArm
	}{
		{"one page", 1, dense, TouchPopulate},
		{"20 pages", 20, dense, TouchPopulate},
		{"a chunk", 32, dense, TouchHuge},
		{"a large block", 1000, dense, TouchHuge},
		{"a tenth is used", 8, with(func(m *touchMachine) { m.used = 0.1 }), TouchFault},
		{"a tenth is used of a chunk", 32, with(func(m *touchMachine) { m.used = 0.1 }), TouchFault},
		{"nothing is used", 8, with(func(m *touchMachine) { m.used = 0 }), TouchFault},
		{"half is used, of blocks that live shortly", 32, with(func(m *touchMachine) { m.used, m.hold = 0.5, 0 }), TouchHuge},
		{"half is used, of blocks that live for long", 32, with(func(m *touchMachine) { m.used, m.hold = 0.5, 1e-6 }), TouchFault},
		{"a call is dear", 4, with(func(m *touchMachine) { m.populate = 0.9e-6 }), TouchFault},
		{"a call is cheaper by less than the margin", 4, with(func(m *touchMachine) { m.populate, m.noise = 0.71e-6, 0.02 }), TouchFault},
		{"slow faults", 2, with(func(m *touchMachine) { m.fault, m.populate = 3e-6, 1.1e-6 }), TouchPopulate},
	} {
		for seed := range uint64(20) {
			touch := NewTouch(siteName)
			test.m.run(touch, 0, test.pages, 40+8*touchShare, seed)
			if arm := inForce(touch, test.pages); arm != test.want {
				t.Errorf("%s, seed %d: %v is adopted, want %v", test.name, seed, arm, test.want)
			}
		}
	}
}

// TestTouchChanges: a program that uses less of its blocks than before goes back to faults. The adoptions
// are reported once.
func TestTouchChanges(t *testing.T) {
	t.Parallel()
	touch := NewTouch(siteName)
	dense.run(touch, 0, 4, 10_000, 1)
	sparse := dense
	sparse.used = 0.1
	sparse.run(touch, 0, 4, 25_000, 2)
	var seen []TouchChange
	touch.Changes(func(c TouchChange) { seen = append(seen, c) })
	if len(seen) != 2 || seen[0].To != TouchPopulate || seen[1].From != TouchPopulate || seen[1].To != TouchFault || seen[0].Group != 2 || seen[0].Site != 0 || seen[0].Cost < 0.3e-6 || seen[0].Cost > 0.5e-6 {
		t.Errorf("%+v", seen)
	}
	touch.Changes(func(c TouchChange) { t.Errorf("reported again: %+v", c) })
}

// TestTouchPlays: few blocks are plays once the first ones were, and few of these are of an arm that costs
// more.
func TestTouchPlays(t *testing.T) {
	t.Parallel()
	const n = 100_000
	arms, plays := dense.run(NewTouch(siteName), 0, 4, n, 3)
	if want := firstTouches + n/touchShare; plays < want*9/10 || plays > want*11/10 {
		t.Errorf("%d plays, want about %d", plays, want)
	}
	if arms[TouchFault] > plays/8 {
		t.Errorf("%d of %d plays are faults", arms[TouchFault], plays)
	}
}

// TestTouchMayNotPlay: without plays nothing is learnt, and faults stay. So they do where looks never say
// what is used.
func TestTouchMayNotPlay(t *testing.T) {
	t.Parallel()
	touch := NewTouch(siteName)
	for range 1000 {
		if arm, play := touch.Next(7, 3, TouchPopulate, false); arm != TouchFault || play != TouchNoPlay {
			t.Fatal(arm, play)
		}
		if arm, play := touch.Next(7, 3, TouchPopulate, true); arm != TouchFault || play != TouchOfAll {
			t.Fatal(arm, play) // a play of which nobody tells
		}
	}
	for range leastLooks - 1 {
		touch.Played(TouchPlay{Group: 3, Arm: TouchFault, Draw: TouchOfAll, Pages: 128, Used: 128, CPU: 1e-6})
	}
	touch.Played(TouchPlay{Group: 3, Arm: TouchPopulate, Draw: TouchOfAll, Pages: 128, CPU: 1e-9})
	touch.Played(TouchPlay{Group: 3, Arm: TouchFault, Draw: TouchOfAll, Pages: 0, CPU: 1e-9})
	touch.Played(TouchPlay{Group: 3, Arm: TouchFault, Pages: 128, Used: 128, CPU: 1e-6})
	if arm, play := touch.Next(0, 3, TouchPopulate, true); arm != TouchFault || play != TouchOfAll {
		t.Error("plays that say nothing were counted: ", arm, play)
	}
}

// TestTouchRuleOut: an arm that is ruled out is neither played nor adopted, in cells old and new.
func TestTouchRuleOut(t *testing.T) {
	t.Parallel()
	touch := NewTouch(siteName)
	dense.run(touch, 3, 40, 200, 1)
	if arm := inForce(touch, 40); arm != TouchHuge {
		t.Fatal(arm)
	}
	touch.RuleOut(TouchHuge)
	touch.RuleOut(TouchFault)
	if arms, _ := dense.run(touch, 3, 40, 2000, 2); arms[TouchHuge] != 0 || arms[TouchPopulate] < 1000 {
		t.Errorf("without huge pages: %v", arms)
	}
	touch.RuleOut(TouchPopulate)
	for _, pages := range []uint{40, 64, 2} {
		if arms, _ := dense.run(touch, 3, pages, 500, 2); arms != [nTouchArms]int{500} {
			t.Errorf("%d pages, faults only: %v", pages, arms)
		}
	}
	if touch.RuledOut(TouchFault) || !touch.RuledOut(TouchPopulate) || touch.Possible(TouchHuge, TouchHuge) != TouchFault {
		t.Error("faults are ruled out, or something else is not")
	}
	touch = NewTouch(siteName)
	touch.RuleOut(TouchPopulate)
	dense.run(touch, 0, 40, 200, 1)
	if arm, _ := touch.Next(0, 5, TouchPopulate, false); inForce(touch, 40) != TouchHuge || arm != TouchFault {
		t.Errorf("a block without room for huge pages gets %v", arm)
	}
}

// TestTouchSites: a site learns for itself, and all together learn for those that are not known.
func TestTouchSites(t *testing.T) {
	t.Parallel()
	touch := NewTouch(siteName)
	sparse := dense
	sparse.used = 0.02
	for i := range uint64(1000) {
		sparse.run(touch, 1, 4, 2, i)
		dense.run(touch, 2, 4, 10, i)
	}
	for site, want := range map[uint32]TouchArm{0: TouchPopulate, 1: TouchFault, 2: TouchPopulate, 3: TouchPopulate} {
		if arm, _ := touch.Next(site, 2, TouchHuge, false); arm != want {
			t.Errorf("site %d gets %v, want %v", site, arm, want)
		}
	}
	got := map[uint32]TouchArm{}
	touch.Adopted(func(site uint32, g TouchGroup, arm TouchArm) {
		if g == 2 {
			got[site] = arm
		}
	})
	if want := map[uint32]TouchArm{0: TouchPopulate, 2: TouchPopulate}; !reflect.DeepEqual(got, want) {
		t.Errorf("reported: %v, want %v", got, want)
	}
}

// TestTouchManySites: of many sites those that allocate most keep their places, and one that has stopped
// makes room.
func TestTouchManySites(t *testing.T) {
	t.Parallel()
	touch := NewTouch(siteName)
	has := func(site uint32) bool {
		for i := range touch.sites {
			if touch.sites[i].site == site {
				return true
			}
		}
		return false
	}
	for i := range uint32(20_000) {
		touch.Next(1+i%8, 0, TouchPopulate, true)
		touch.Next(1000+i, 0, TouchPopulate, true)
	}
	for site := range uint32(8) {
		if !has(1 + site) {
			t.Errorf("site %d, which allocates most, has no place", 1+site)
		}
	}
	for i := range uint32(14 * touchFade) {
		touch.Next(100_000+i%touchSites, 0, TouchPopulate, true)
	}
	for site := range uint32(8) {
		if has(1 + site) {
			t.Errorf("site %d, which has stopped, keeps its place", 1+site)
		}
	}
}

// TestTouchMemory: all that there can be takes less than 64 KiB, and Next and Played allocate nothing
// afterwards.
func TestTouchMemory(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	touch := NewTouch(siteName)
	for site := range uint32(touchSites + 1) {
		for g := range TouchGroup(TouchGroups) {
			touch.Next(site, g, TouchHuge, true)
		}
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n >= 64<<10 {
		t.Errorf("%d bytes", n)
	} else {
		t.Logf("%d bytes", n)
	}
	if n := testing.AllocsPerRun(1000, func() {
		arm, draw := touch.Next(3, 5, TouchHuge, true)
		touch.Played(TouchPlay{Site: 3, Group: 5, Arm: arm, Draw: draw, Pages: 512, Used: 512, CPU: 1e-4})
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestTouchGroups: the groups follow each other without holes.
func TestTouchGroups(t *testing.T) {
	last := TouchGroup(0)
	for pages := uint(1); pages < 5000; pages++ {
		g := TouchGroupOf(pages)
		if g < last || g > last+1 || g.Pages() > pages || g+1 < TouchGroups && (g+1).Pages() <= pages {
			t.Fatalf("%d pages are of group %d, from %d pages on", pages, g, g.Pages())
		}
		last = g
	}
	if last != TouchGroups-1 || hugeGroup.Pages() != 32 {
		t.Errorf("the last group is %d, huge pages begin with %d pages", last, hugeGroup.Pages())
	}
}

// TestTouchSnapshot: what was learnt passes through a policy file. What a file says of a site holds as soon
// as the site allocates.
func TestTouchSnapshot(t *testing.T) {
	t.Parallel()
	touch := NewTouch(siteName)
	sparse := dense
	sparse.used = 0.02
	for i := range uint64(40) {
		sparse.run(touch, 1, 4, 2, i)
		dense.run(touch, 2, 40, 10, i)
	}
	s := touch.Snapshot()
	model := New(testCosts).Snapshot()
	model.Touch = &s
	read, err := ReadSnapshot(strings.NewReader(fileOf(t, model)))
	if err != nil || !reflect.DeepEqual(read, model) {
		t.Fatalf("%v, got\n%+v\nwant\n%+v", err, read, model)
	}
	other := NewTouch(siteName)
	dense.run(other, 9, 4, 100, 1) // a site of which the file says nothing
	if err := other.Restore(*read.Touch); err != nil {
		t.Fatal(err)
	}
	if again := other.Snapshot(); len(again.Sites) != 3 || !reflect.DeepEqual(again.Sites[:2], s.Sites) || again.Sites[2].Groups[2].Bandit != nil {
		t.Errorf("got\n%+v\nwant\n%+v, and a site without anything", again.Sites, s.Sites)
	}
	for _, c := range []struct {
		site uint32
		g    TouchGroup
		want TouchArm
	}{{0, 5, TouchHuge}, {1, 2, TouchFault}, {2, 5, TouchHuge}} {
		if arm, _ := other.Next(c.site, c.g, TouchHuge, false); arm != c.want {
			t.Errorf("site %d, group %d: %v, want %v", c.site, c.g, arm, c.want)
		}
	}
	if again := other.Snapshot(); !reflect.DeepEqual(again.Groups, s.Groups) {
		t.Errorf("groups: got\n%+v\nwant\n%+v", again.Groups, s.Groups)
	}
	few := NewTouch(siteName)
	dense.run(few, 0, 4, 3, 1)
	f := few.Snapshot()
	plain := New(testCosts).Snapshot()
	for _, c := range []struct{ a, b, want *TouchSnapshot }{{nil, nil, nil}, {&s, nil, &s}, {nil, &s, &s}, {&s, &f, &s}, {&f, &s, &s}} {
		x, y := plain, plain
		x.Touch, y.Touch = c.a, c.b
		if both, err := x.Merge(y); err != nil || both.Touch != c.want {
			t.Errorf("%p and %p merged are %p: %v", c.a, c.b, both.Touch, err)
		}
	}
}

// TestTouchDamaged: a damaged snapshot is refused, and changes nothing.
func TestTouchDamaged(t *testing.T) {
	t.Parallel()
	touch := NewTouch(siteName)
	dense.run(touch, 2, 40, 100, 1)
	for what, damage := range map[string]func(s *TouchSnapshot){
		"6 groups, want 7":          func(s *TouchSnapshot) { s.Groups = s.Groups[1:] },
		"the share 1.5 of pages":    func(s *TouchSnapshot) { s.Groups[5].Used = 1.5 },
		"the share -1 of pages":     func(s *TouchSnapshot) { s.Groups[5].Used = -1 },
		"by 0 plays":                func(s *TouchSnapshot) { s.Groups[5].Looks = 0 },
		"has 3 arms, want 2":        func(s *TouchSnapshot) { s.Groups[1].Bandit = s.Groups[5].Bandit },
		"cannot be":                 func(s *TouchSnapshot) { s.Groups[5].Bandit.Arms[0].Mean = -1 },
		"is there twice":            func(s *TouchSnapshot) { s.Sites = append(s.Sites, s.Sites[0]) },
		"of the site \"site C\": 0": func(s *TouchSnapshot) { s.Sites[0].Groups = nil },
		"33 sites, want at most 32": func(s *TouchSnapshot) { s.Sites = make([]TouchSite, 33) },
	} {
		s := touch.Snapshot()
		damage(&s)
		was := touch.Snapshot()
		if err := touch.Restore(s); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%v, want an error about %s", err, what)
		}
		if !reflect.DeepEqual(touch.Snapshot(), was) {
			t.Errorf("%s: something changed", what)
		}
		model := New(testCosts).Snapshot()
		model.Touch = &s
		if model.Check() == nil {
			t.Errorf("%s: Check finds nothing", what)
		}
	}
	var arm TouchArm
	if err := json.Unmarshal([]byte(`"slow"`), &arm); err == nil || !strings.Contains(err.Error(), "want one of fault, populate, huge") {
		t.Error(err)
	}
}

// settled returns what Settled says.
func settled(touch *Touch) map[uint32]TouchRule {
	list := map[uint32]TouchRule{}
	touch.Settled(func(site uint32, rule TouchRule, plays uint64) {
		if plays < firstTouches {
			panic("a rule from few plays")
		}
		list[site] = rule
	})
	return list
}

// TestTouchSettled: a site has a rule when all of its groups that are known well agree, and no other arm was
// adopted lately. Groups without room for huge pages agree with those that have them.
func TestTouchSettled(t *testing.T) {
	t.Parallel()
	touch := NewTouch(siteName)
	dense.run(touch, 1, 4, firstTouches-1, 1)
	if got := settled(touch); len(got) != 0 {
		t.Errorf("after %d plays: %v", firstTouches-1, got)
	}
	dense.run(touch, 1, 4, 5, 1)
	if got := settled(touch); got[1] != RuleAuto || len(got) != 1 {
		t.Errorf("just after the adoption: %v", got)
	}
	sparse, poor := dense, dense
	sparse.used, poor.huge = 0.02, 5e-6
	dense.run(touch, 1, 4, 2000, 2)
	sparse.run(touch, 2, 4, 2000, 3)
	dense.run(touch, 3, 4, 2000, 4)
	dense.run(touch, 3, 40, 2000, 5)
	dense.run(touch, 4, 4, 2000, 6)
	sparse.run(touch, 4, 40, 2000, 7)
	want := map[uint32]TouchRule{1: RulePopulate, 2: RuleFault, 3: RuleHuge, 4: RuleAuto}
	if got := settled(touch); !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	other := NewTouch(siteName)
	poor.run(other, 5, 4, 2000, 8)
	poor.run(other, 5, 40, 2000, 9)
	if got := settled(other); got[5] != RulePopulate {
		t.Errorf("where huge pages are dear: %v", got)
	}
	sparse.run(other, 5, 4, 40_000, 10)
	if got := settled(other); got[5] != RuleAuto {
		t.Errorf("when a group has changed: %v", got)
	}
}

// TestTouchExpect: what was learnt elsewhere of a site holds until its own plays are enough, as far as that is
// possible here, and for no other site.
func TestTouchExpect(t *testing.T) {
	t.Parallel()
	touch := NewTouch(siteName)
	touch.Expect(func(site uint32) TouchRule {
		return map[uint32]TouchRule{1: RuleHuge, 2: RuleFault}[site]
	})
	dense.run(touch, 3, 2, 2000, 1) // all sites together learn TouchPopulate
	next := func(site uint32, pages uint, best TouchArm) TouchArm {
		arm, play := touch.Next(site, TouchGroupOf(pages), best, false)
		if play != TouchNoPlay {
			t.Error("a play where there may be none")
		}
		return arm
	}
	for _, c := range []struct {
		site  uint32
		pages uint
		best  TouchArm
		want  TouchArm
	}{
		{0, 2, TouchPopulate, TouchPopulate}, {3, 2, TouchPopulate, TouchPopulate}, {4, 40, TouchHuge, TouchFault},
		{1, 2, TouchPopulate, TouchPopulate}, {1, 40, TouchHuge, TouchHuge}, {1, 40, TouchPopulate, TouchPopulate}, {2, 2, TouchPopulate, TouchFault},
	} {
		if got := next(c.site, c.pages, c.best); got != c.want {
			t.Errorf("site %d, %d pages: %v, want %v", c.site, c.pages, got, c.want)
		}
	}
	if _, plays := dense.run(touch, 2, 2, 2000, 2); plays < firstTouches {
		t.Errorf("a site of which something is expected has %d plays", plays)
	}
	if got := next(2, 2, TouchPopulate); got != TouchPopulate {
		t.Errorf("after plays of its own: %v", got)
	}
	touch.RuleOut(TouchHuge)
	if got := next(1, 40, TouchHuge); got != TouchPopulate {
		t.Errorf("where huge pages are ruled out: %v", got)
	}
}
