package engine

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/learn"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// CheckInvariants looks at everything that hakmem knows and reports what does not fit together, nil
// if everything does. It looks at
//
//   - the tables of size classes (this file);
//   - fronts, their magazines and leases, and the long lanes (invariants_fronts.go);
//   - the caches of free blocks and guarded blocks (this file);
//   - the region, superslabs, slabs, large blocks, free pages and the counts of them
//     (invariants_region.go).
//
// At its core is one rule: a block is in exactly one place. It is live, or its slab owns it (bit
// set), or it waits in a magazine, a shared slot, a SiteCache entry, the huge-block cache or a
// quarantine. A guarded block is live or withdrawn.
//
// No call of this package may be in progress, and no P may be between two instructions of a fast
// section. Nothing keeps others from changing what CheckInvariants reads, except that the scavenger
// and the cleanups of unreachable Heaps wait. Not entered. If two overlapping frees left a copy of
// a block behind, and it is not found yet, the copy is reported too.
func CheckInvariants() error {
	check.MustNotBeEntered("CheckInvariants")
	if !region.ready.Load() {
		return nil
	}
	k := newChecker()
	check.Exclusive(k.check)
	if checkLive && !k.wild {
		k.checkTotals()
	}
	if k.more > 0 {
		k.errs = append(k.errs, fmt.Errorf("hakmem: %d more broken invariants", k.more))
	}
	return errors.Join(k.errs...)
}

// check holds the locks of everything that may act on its own, in the order in which they are taken
// elsewhere.
func (k *checker) check() {
	abandoned.Lock()
	defer abandoned.Unlock()
	if !scavenger.lock() {
		k.errs, k.wild = append(k.errs, errGone), true
		return
	}
	defer scavenger.unlock()
	scavenger.moving.Lock()
	defer scavenger.moving.Unlock()
	openHeaps.Lock()
	k.heaps = maps.Clone(openHeaps.by)
	openHeaps.Unlock()
	guard.Lock()
	defer guard.Unlock()
	frontPool.mu.Lock()
	defer frontPool.mu.Unlock()
	region.mu.Lock()
	defer region.mu.Unlock()

	for _, s := range punchLost {
		k.lost[s] = true
	}
	k.checkClasses()
	k.checkFronts()
	k.checkLanes()
	k.checkCaches()
	k.checkBudget()
	k.checkGuard()
	k.checkRegion()
	k.checkPages()
	k.checkTouches()
	k.checkSets()
	k.checkTree()
	k.checkCounts()
}

// checkClasses looks at the tables of size classes: at the spare ones, and at which class each size above
// 1 KiB has.
func (k *checker) checkClasses() {
	defined := 0
	for c := sizeclass.ID(sizeclass.NumFixed + 1); c <= sizeclass.Num; c++ {
		s, size := subject{noun: "class", class: c}, c.Bytes()
		if !c.Whole() {
			k.bad(s, "a spare class is as its size makes it", sizeclass.Classes[c], fmt.Sprintf("a class of %d bytes", size))
		}
		if size == 0 {
			continue
		}
		defined++
		if !slices.ContainsFunc(addedSizes, func(b learn.BlockSize) bool { return mem.Bytes(b.Size) == size }) {
			k.bad(s, "a spare class has a size that was added", size, addedSizes)
		}
	}
	if defined != len(addedSizes) {
		k.bad(subject{noun: "size classes"}, "each size that was added has a class", defined, len(addedSizes))
	}
	for i := sizeclass.MaxTiny / sizeclass.Step; i < len(sizeclass.Mid); i++ {
		size, best := mem.Bytes(i+1)*sizeclass.Step, sizeclass.ID(sizeclass.NumFixed)
		for c := sizeclass.ID(1); c <= sizeclass.Num; c++ {
			if n := c.Bytes(); n >= size && n < best.Bytes() {
				best = c
			}
		}
		if c := sizeclass.Mid[i]; c != best {
			k.bad(subject{noun: "block size", addr: mem.Addr(size), class: best}, "a size has the smallest class that holds it", c, best)
		}
	}
}

// checkCaches notes what waits in the shared slots, the SiteCache and the huge-block cache. Entries
// that are no large blocks are found here; entries that are live are found by checkLarge.
func (k *checker) checkCaches() {
	for i := range shared {
		for j := range shared[i].slot {
			if p := shared[i].slot[j].Load(); p != 0 {
				k.waits(Block(p), place{"shared slot", uintptr(j), sizeclass.ID(sizeclass.Num + 1 + i)})
			}
		}
	}
	for i := range siteCache {
		v := siteCache[i].Load()
		if v == 0 {
			continue
		}
		s, c := siteEntrySite(v), sizeclass.ID(v)
		if e, _ := siteEntry(s, c); e != &siteCache[i] || c <= sizeclass.Num || c > sizeclass.NumAll || !s.Known() {
			k.bad(subject{noun: "site cache entry", addr: mem.Addr(i), class: c}, "a site cache entry is where its key belongs", hex(v), "a key of this entry")
			continue
		}
		k.waits(siteEntryAddr(v), place{"site cache entry", uintptr(i), c})
	}
	switch w := hugeCache.kept; {
	case w.p != 0:
		k.waits(w.p, place{"huge-block cache entry", 0, 0})
		if page := w.p.page(); isPage(page) && meta(page).largeSize != w.size {
			k.bad(subject{noun: "huge block", addr: mem.Addr(w.p)}, "a huge block has its large block's size", w.size, meta(page).largeSize)
		}
	case w.size != 0:
		k.bad(subject{noun: "huge-block cache"}, "an empty huge-block cache has no bytes", w.size, 0)
	}
}

// checkGuard looks at the slots of guarded blocks: each is live or among the freed ones.
func (k *checker) checkGuard() {
	g := &guard
	freed := map[*guardSlot]int{}
	for _, s := range g.freed {
		freed[s]++
	}
	page := osmem.PageSize()
	live, next := 0, g.base
	for _, s := range g.slots {
		of := subject{noun: "guarded block", addr: mem.Addr(s.p)}
		k.counted += guardSlotBytes + s.counted
		// One that begins at a multiple of a page of hakmem's leaves out as many addresses as it needs.
		if first := next + mem.Addr(page); s.start < first || s.start >= first+pageSize || s.limit() > g.next {
			k.bad(of, "slots of guarded blocks follow each other", hex(s.start), hex(first))
		}
		next = s.limit()
		if n := freed[s]; s.live && n != 0 || !s.live && n != 1 {
			k.bad(of, "a guarded block is live or freed", fmt.Sprintf("live %t, %d times among the freed", s.live, n), "one of them")
		}
		delete(freed, s)
		if !s.live {
			continue
		}
		live++
		if end := s.end(); mem.Addr(s.p) < s.start || mem.Addr(s.p+Block(s.size)) > end || s.used > s.pages {
			k.bad(of, "a guarded block lies in its slot", fmt.Sprintf("%d bytes, %d of %d pages", s.size, s.used, s.pages), fmt.Sprintf("within %#x to %#x", s.start, end))
		}
		k.alive(s.site, s.size)
	}
	if live != g.live || len(freed) > 0 {
		k.bad(subject{noun: "guarded blocks"}, "guarded blocks are counted", fmt.Sprintf("%d live, %d freed unknown slots", g.live, len(freed)), fmt.Sprintf("%d and none", live))
	}
}

// checkTotals compares what ReadTotals reports with what was found alive. It does so without the
// locks: while the scavenger moves free blocks, the live ones stay.
func (k *checker) checkTotals() {
	t := new(Totals)
	ReadTotals(t)
	for c := 1; c <= sizeclass.Num; c++ {
		n := &t.Classes[c]
		if live := t.blocks[c] - n.Free - n.InMagazines; live != k.live[c] {
			k.bad(subject{noun: "class", class: sizeclass.ID(c)}, "statistics count the live blocks", live, k.live[c])
		}
	}
	if t.Large.LiveBlocks != k.liveLarge {
		k.bad(subject{noun: "large blocks"}, "statistics count the live large blocks", t.Large.LiveBlocks, k.liveLarge)
	}
}
