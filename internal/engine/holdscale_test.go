package engine

import (
	"testing"
	"time"

	"github.com/hakmem/hakmem/internal/learn"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/testkit"
)

// withRules is withClock for tests of rules. After the test no page is kept because of them.
func withRules(t *testing.T) *testkit.Clock {
	t.Cleanup(func() { Trim() })
	return withClock(t)
}

// keptFor frees the large block at p and returns for how long all of its pages keep their memory, in steps of a
// tenth of a second, up to a limit.
func keptFor(t *testing.T, clock *testkit.Clock, p Block, limit time.Duration) time.Duration {
	t.Helper()
	page, n := p.page(), pageCount(meta(p.page()).pages)
	dirty := func() (all bool) {
		region.mu.Lock()
		defer region.mu.Unlock()
		all = true
		chunksOf(page, n, func(c chunkNo, m pageSet) {
			all = all && (ownerOf(c) == page || super(c).dirty&m == m) // or it is in a cache
		})
		return all
	}
	freeBlocks(t, []Block{p})
	kept := time.Duration(0)
	for ; dirty() && kept < limit; kept += 100 * time.Millisecond {
		clock.Advance(100 * time.Millisecond)
	}
	return kept
}

// TestHoldScale: the pages of a site's large blocks are kept for a multiple of the hold time, whatever cache the
// blocks go to first; those of other sites are kept as before.
func TestHoldScale(t *testing.T) {
	needSites(t)
	for _, size := range []mem.Bytes{300 << 10, 2 * mebibyte, 10 * mebibyte} {
		clock := withRules(t)
		withPolicy(t, map[string]string{"HAKMEM_EVO": "off"}) // all pages are held for the break-even time
		region.mu.Lock()
		even := meanHold()
		region.mu.Unlock()
		// A page is returned by a tick. Ticks are at most so far apart; and a block waits in a cache for less
		// than that before its pages are free, since when it was freed.
		const tick = 600 * time.Millisecond
		for _, c := range []struct {
			scale    float64
			from, to time.Duration
		}{
			{0, even, even + tick},
			{learn.ReturnAtOnce, 0, tick},
			{0.01, even / 100, even/100 + tick},
			{0.4, even * 2 / 5, even*2/5 + tick},
			{3, 3 * even, 3*even + tick},
			{100, 100 * even, 100*even + tick},
		} {
			s := laneSite(t, "scaled", LaneAuto)
			if err := SetRule(s, Rule{SiteSettings: learn.SiteSettings{HoldScale: c.scale}}); err != nil {
				t.Fatal(err)
			}
			p := mallocAtSite(t, s, size)
			for i := mem.Bytes(0); i < size; i += pageSize {
				*u8(p.addr().Add(i)) = 1
			}
			if got := keptFor(t, clock, p, c.to+time.Second); got < c.from || got > c.to {
				t.Errorf("%d bytes, HoldScale %g: kept for %v, want %v to %v", size, c.scale, got, c.from, c.to)
			}
			mustHold(t)
			// The pages are used by another site: the factor is gone.
			p = mallocAtSite(t, laneSite(t, "plain", LaneAuto), size)
			if got := keptFor(t, clock, p, even+time.Second); got < even || got > even+tick {
				t.Errorf("%d bytes, after HoldScale %g: kept for %v, want %v", size, c.scale, got, even)
			}
		}
	}
}

// factors reports whether all pages of n bytes at p are free and have a factor of their hold time.
func factors(p Block, n mem.Bytes) (all bool) {
	region.mu.Lock()
	defer region.mu.Unlock()
	all = true
	chunksOf(p.page(), pagesOf(n), func(c chunkNo, m pageSet) {
		x := holdScales[c]
		all = all && x != nil && x.pages&m == m
	})
	return all
}

// TestShortHoldIsNotCached: a block that is to be kept for a shorter time goes to no cache, which would keep it.
func TestShortHoldIsNotCached(t *testing.T) {
	needSites(t)
	withRules(t)
	for _, size := range []mem.Bytes{300 << 10, 10 * mebibyte} {
		for scale, want := range map[float64]bool{learn.ReturnAtOnce: true, 0.9: true, 1: false, 1.1: false} {
			s := laneSite(t, "scaled", LaneAuto)
			if err := SetRule(s, Rule{SiteSettings: learn.SiteSettings{HoldScale: scale}}); err != nil {
				t.Fatal(err)
			}
			p := mallocAtSite(t, s, size)
			freeBlocks(t, []Block{p})
			if got := factors(p, size); got != want {
				t.Errorf("%d bytes, HoldScale %g: the pages are free: %t", size, scale, got)
			}
			Trim()
		}
	}
}

// TestHoldScaleOfEvicted: a block that another one drives out of the site cache, and pages that a block gives
// back as it shrinks, are kept as the rule says.
func TestHoldScaleOfEvicted(t *testing.T) {
	needSites(t)
	clock := withRules(t)
	withPolicy(t, map[string]string{"HAKMEM_EVO": "off"})
	const size = 300 << 10
	s := laneSite(t, "scaled", LaneAuto)
	if err := SetRule(s, Rule{SiteSettings: learn.SiteSettings{HoldScale: 4}}); err != nil {
		t.Fatal(err)
	}
	p, q, big := mallocAtSite(t, s, size), mallocAtSite(t, s, size), mallocAtSite(t, s, 3*mebibyte)
	freeBlocks(t, []Block{p})
	if factors(p, size) {
		t.Error("the block is not in the site cache")
	}
	freeBlocks(t, []Block{q})
	if !factors(p, size) {
		t.Error("an evicted block's pages are kept like others")
	}
	if !Resize(big, mebibyte, KeepAll) || !factors(big+Block(2*mebibyte), mebibyte) {
		t.Error("the pages of a block that has shrunk are kept like others")
	}
	freeBlocks(t, []Block{big})
	clock.Advance(time.Minute)
	if n := len(holdScales); n == 0 {
		t.Error("no pages have factors")
	}
	mustHold(t)
	// Without a rule the pages that are freed from now on have no factor.
	setLaneRule(s, LaneAuto)
	p = mallocAtSite(t, s, size)
	freeBlocks(t, []Block{p})
	Trim()
	if factors(p, size) {
		t.Error("the rule was taken back, and pages have its factor")
	}
}

// TestHoldScaleTeachesNothing: the model sees the same waits with a rule as without one.
func TestHoldScaleTeachesNothing(t *testing.T) {
	needSites(t)
	needLearning(t)
	var seen [2]float64
	for i, scale := range []float64{0, 50} {
		clock := withRules(t)
		withPolicy(t, map[string]string{"HAKMEM_HUGE_CACHE_BYTES": "0"})
		s := laneSite(t, "scaled", LaneAuto)
		if err := SetRule(s, Rule{SiteSettings: learn.SiteSettings{HoldScale: scale}}); err != nil {
			t.Fatal(err)
		}
		before := Learnt().Samples()
		for range 20 {
			p := mallocAtSite(t, s, 10*mebibyte)
			freeBlocks(t, []Block{p})
			clock.Advance(time.Second)
		}
		seen[i] = Learnt().Samples() - before
	}
	if seen[0] <= 0 || seen[1] < seen[0]*0.9 || seen[1] > seen[0]*1.1 {
		t.Errorf("%.0f waits seen without a rule, %.0f with one", seen[0], seen[1])
	}
}
