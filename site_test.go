package hakmem_test

import (
	"math"
	"slices"
	"testing"
	"unsafe"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/testkit/workout"
)

// Tests of sites: their names and the counts of their live blocks.

func siteStats(t *testing.T, s hakmem.Site) hakmem.SiteStats {
	t.Helper()
	for _, x := range workout.ReadStats().Sites {
		if x.Site == s {
			return x
		}
	}
	t.Fatalf("site %d is not in Stats.Sites", s)
	return hakmem.SiteStats{}
}

func TestSites(t *testing.T) {
	classSizes(t)
	a, b := hakmem.RegisterSite("TestSites: a"), hakmem.RegisterSite("TestSites: b")
	if a == 0 || b == 0 || a == b {
		t.Fatalf("sites %d and %d", a, b)
	}
	if again := hakmem.RegisterSite("TestSites: a"); again != a {
		t.Errorf("the same name gave sites %d and %d", a, again)
	}
	if x := siteStats(t, a); x.Name != "TestSites: a" || x.LiveBlocks != 0 || x.LiveBytes != 0 {
		t.Errorf("a fresh site: %+v", x)
	}
	mustPanicNaming(t, "an unregistered site", func() { hakmem.MallocAt(65_535, 10) }, "MallocAt", "65535")

	h := hakmem.NewHeap()
	defer h.Close()
	var bytes, blocks uint64
	want := func(when string) {
		t.Helper()
		if x := siteStats(t, a); x.LiveBytes != bytes || x.LiveBlocks != blocks {
			t.Fatalf("%s: site has %d bytes in %d blocks, want %d in %d", when, x.LiveBytes, x.LiveBlocks, bytes, blocks)
		}
		if x := siteStats(t, b); x.LiveBytes != 0 || x.LiveBlocks != 0 {
			t.Fatalf("%s: the other site has %+v", when, x)
		}
	}
	add := func(p unsafe.Pointer, sign uint64) {
		bytes += sign * uint64(hakmem.UsableSize(p))
		blocks += sign
	}
	const down = math.MaxUint64 // −1
	var held []unsafe.Pointer
	for _, size := range boundarySizes(1 << 20) {
		p := hakmem.MallocAt(a, size)
		add(p, 1)
		held = append(held, p)
		hakmem.Free(hakmem.MallocAt(0, size)) // site 0 is no site
	}
	want("allocated")
	// Realloc keeps the site, whether or not the block moves and whichever front does it.
	for i, p := range held {
		add(p, down)
		switch i % 4 {
		case 0:
			p = hakmem.Realloc(p, hakmem.UsableSize(p)*3+1)
		case 1:
			p = h.Realloc(p, hakmem.UsableSize(p)/3)
		case 2:
			p = hakmem.Realloc(p, hakmem.UsableSize(p))
		case 3:
			p = h.Realloc(p, 0)
		}
		add(p, 1)
		held[i] = p
	}
	want("reallocated")
	if q := hakmem.Realloc(held[0], absurd); q != nil {
		t.Error("Realloc of an absurd size")
	}
	want("after a Realloc that failed")
	for i, p := range held {
		add(p, down)
		if i%2 == 0 {
			hakmem.Free(p)
		} else {
			h.Free(p)
		}
		if m, instead := workout.MisuseOf(func() { hakmem.Free(p) }); m == nil {
			t.Fatalf("double free of a block with a site: %s", instead)
		}
		if i%50 == 0 {
			want("while freeing")
		}
	}
	want("freed")
	// Blocks that are reused without a site do not count for it.
	var plain []unsafe.Pointer
	for _, size := range boundarySizes(1 << 17) {
		plain = append(plain, hakmem.Malloc(size))
	}
	want("memory used again without a site")
	for _, p := range plain {
		hakmem.Free(p)
	}
	want("and freed again")
}

func TestSiteNamesAreInOrderOfRegistration(t *testing.T) {
	first := hakmem.RegisterSite("TestSiteNames: 1")
	second := hakmem.RegisterSite("TestSiteNames: 2")
	sites := workout.ReadStats().Sites
	i := slices.IndexFunc(sites, func(s hakmem.SiteStats) bool { return s.Site == first })
	j := slices.IndexFunc(sites, func(s hakmem.SiteStats) bool { return s.Site == second })
	if i < 0 || j <= i {
		t.Errorf("sites %d and %d are at %d and %d", first, second, i, j)
	}
}

// TestSiteRule: a rule holds from when it is set until it is taken back, and what is no rule panics.
func TestSiteRule(t *testing.T) {
	classSizes(t)
	s := hakmem.RegisterSite("TestSiteRule")
	defer hakmem.SetSiteRule(s, hakmem.SiteRule{})
	slabs := func() uint64 { return workout.ReadStats().Lanes.Slabs }
	want := func(when string, set, now hakmem.Lane) {
		t.Helper()
		if r, lane := hakmem.ReadSiteRule(s); r.Lane != set || lane != now {
			t.Errorf("%s: the rule is %v, now %v; want %v, %v", when, r.Lane, lane, set, now)
		}
	}
	hakmem.Free(hakmem.MallocAt(s, 1)) // statistics begin with the first allocation
	hakmem.Trim()
	before, sites := slabs(), workout.ReadStats().Lanes.LongSites
	want("a fresh site", hakmem.LaneAuto, hakmem.LaneShort)
	hakmem.SetSiteRule(s, hakmem.SiteRule{Lane: hakmem.LaneLong})
	want("set", hakmem.LaneLong, hakmem.LaneLong)
	if n := workout.ReadStats().Lanes.LongSites; n != sites+1 {
		t.Errorf("%d sites are long, %d were", n, sites)
	}
	p, q := hakmem.MallocAt(s, 4096), hakmem.MallocAt(s, 4097)
	if n := slabs(); n != before+1 {
		t.Errorf("a block of 4096 bytes and one more byte: %d slabs in the long lane, %d before", n, before)
	}
	if r := hakmem.Realloc(p, 100); r == p { // it moves, and keeps its site
		t.Error("Realloc to 100 bytes leaves a block of 4096")
	} else if p = r; slabs() != before+2 {
		t.Errorf("a block that moved: %d slabs in the long lane, %d before", slabs(), before)
	}
	hakmem.SetSiteRule(s, hakmem.SiteRule{Lane: hakmem.LaneShort})
	want("short", hakmem.LaneShort, hakmem.LaneShort)
	hakmem.Free(p)
	hakmem.Free(q)
	hakmem.Trim()
	if n := slabs(); n != before {
		t.Errorf("%d slabs in the long lane after all was freed, %d before", n, before)
	}
	mustPanicNaming(t, "an unregistered site", func() { hakmem.SetSiteRule(65_535, hakmem.SiteRule{}) }, "SetSiteRule", "65535")
	mustPanicNaming(t, "no site", func() { hakmem.SetSiteRule(0, hakmem.SiteRule{}) }, "SetSiteRule", "site 0")
	mustPanicNaming(t, "an unregistered site", func() { hakmem.ReadSiteRule(65_535) }, "ReadSiteRule", "65535")
	rule := hakmem.SiteRule{Lane: hakmem.LaneLong, Touch: hakmem.TouchPopulate, HoldScale: hakmem.ReturnAtOnce, WMax: 1.5, Class: 200}
	hakmem.SetSiteRule(s, rule)
	for _, x := range []struct {
		r    hakmem.SiteRule
		says []string
	}{
		{hakmem.SiteRule{Lane: 3}, []string{"Lane(3)", "use LaneAuto"}},
		{hakmem.SiteRule{Touch: 4}, []string{"Touch(4)", "use TouchAuto"}},
		{hakmem.SiteRule{Touch: 256}, []string{"Touch(256)", "use TouchAuto"}},
		{hakmem.SiteRule{HoldScale: 101}, []string{"HoldScale 101", "0.01 to 100"}},
		{hakmem.SiteRule{HoldScale: math.NaN()}, []string{"HoldScale NaN", "0.01 to 100"}},
		{hakmem.SiteRule{WMax: 0.5}, []string{"WMax 0.5", "1 to 2"}},
		{hakmem.SiteRule{Class: 32<<10 + 1}, []string{"32769", "up to 32768"}},
	} {
		mustPanicNaming(t, "no rule", func() { hakmem.SetSiteRule(s, x.r) }, append(x.says, "SetSiteRule")...)
	}
	if r, _ := hakmem.ReadSiteRule(s); r != rule {
		t.Errorf("after rules that were refused, the rule is %+v, want %+v", r, rule)
	}
	for touch, name := range map[hakmem.Touch]string{hakmem.TouchAuto: "auto", hakmem.TouchHuge: "huge", -1: "Touch(-1)", 256: "Touch(256)"} {
		if touch.String() != name {
			t.Errorf("touch %d is %q, want %q", int(touch), touch, name)
		}
	}
	for lane, name := range map[hakmem.Lane]string{hakmem.LaneAuto: "auto", hakmem.LaneShort: "short", hakmem.LaneLong: "long", -1: "Lane(-1)"} {
		if lane.String() != name {
			t.Errorf("lane %d is %q, want %q", int(lane), lane, name)
		}
	}
}

// TestSiteClass: a block of a site grows in place up to the size that is set for the site.
func TestSiteClass(t *testing.T) {
	classSizes(t)
	s := hakmem.RegisterSite("TestSiteClass")
	hakmem.SetSiteRule(s, hakmem.SiteRule{Class: 4000})
	defer hakmem.SetSiteRule(s, hakmem.SiteRule{})
	p := hakmem.MallocAt(s, 10)
	if n := hakmem.UsableSize(p); n != hakmem.GoodSize(4000) {
		t.Errorf("10 bytes at a site of 4000: %d usable", n)
	}
	for _, size := range []uintptr{20, 1000, 4000, 100} {
		if q := hakmem.Realloc(p, size); q != p {
			t.Fatalf("Realloc to %d bytes moves the block", size)
		}
	}
	q := hakmem.Realloc(p, 20_000)
	if q == p || hakmem.UsableSize(q) < 20_000 {
		t.Errorf("Realloc to 20,000 bytes: %d usable", hakmem.UsableSize(q))
	}
	if p = hakmem.Realloc(q, 100); p == q || hakmem.UsableSize(p) != hakmem.GoodSize(4000) {
		t.Errorf("Realloc from 20,000 to 100 bytes: %d usable, moved %t", hakmem.UsableSize(p), p != q)
	}
	hakmem.Free(p)
}
