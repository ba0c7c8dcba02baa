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
