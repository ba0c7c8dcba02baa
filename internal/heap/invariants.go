package heap

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// CheckInvariants looks at everything that hakmem knows and reports what does not
// fit together, nil if all does. It looks at
//
//   - fronts, their magazines and leases, and the caches of free blocks (this file);
//   - the region, superslabs, slabs, spans, free pages and the counts of them
//     (invariants_region.go).
//
// At its core is one rule: a block is in exactly one place. It is live, or its slab
// owns it (bit set), or it waits in one magazine, shared slot, BigCache entry, the
// whale cache or a quarantine; a guarded block is live or withdrawn.
//
// No call of this package may be in progress, and no P may be between two
// instructions of a fast section: nothing keeps others from changing what it reads,
// but for the scavenger and the cleanups of unreachable Heaps, which wait. Not entered.
// A copy of a block that two overlapping frees left behind, and that is not found
// yet, is reported too.
func CheckInvariants() error {
	if !region.ready.Load() {
		return nil
	}
	k := newChecker()
	k.check()
	if checkLive && !k.wild {
		k.checkTotals()
	}
	if k.more > 0 {
		k.errs = append(k.errs, fmt.Errorf("hakmem: %d more broken invariants", k.more))
	}
	return errors.Join(k.errs...)
}

// check holds the locks of everyone who may act on their own, in the order in which
// they are taken elsewhere.
func (k *checker) check() {
	abandoned.Lock()
	defer abandoned.Unlock()
	scavenger.mu.Lock()
	defer scavenger.mu.Unlock()
	scavenger.moving.Lock()
	defer scavenger.moving.Unlock()
	guard.Lock()
	defer guard.Unlock()
	frontPool.mu.Lock()
	defer frontPool.mu.Unlock()
	region.mu.Lock()
	defer region.mu.Unlock()

	for _, s := range punchLost {
		k.lost[s] = true
	}
	k.checkFronts()
	k.checkCaches()
	k.checkGuard()
	k.checkRegion()
	k.checkPages()
	k.checkSets()
	k.checkTree()
	k.checkCounts()
}

// checkFronts looks at who has which front, and at all magazines and leases.
func (k *checker) checkFronts() {
	slot := trapFront + trapSlot
	for c := range uint8(frontTypes) {
		if t := *top(trapFront, c); t != slot || *word(slot) != 0 {
			k.bad(subject{noun: "trap front", addr: trapFront, class: c}, "the trap front is never written", hex(t), hex(slot))
		}
	}
	owners := map[uintptr]bool{}
	for _, table := range []*[MaxP]uintptr{&Fronts, &hardFronts} {
		for i := range table {
			f := atomic.LoadUintptr(&table[i])
			if f == trapFront {
				continue
			}
			k.owns(fmt.Sprintf("P %d", i), f)
			if of := *word(f + OwnerOffset); (of != 0) != (PAddress != nil && table == &Fronts) || of != 0 && owners[of] {
				k.bad(subject{noun: "front", addr: f}, "a front's owner is the P that has it", hex(of), fmt.Sprintf("the address of P %d, no other front's", i))
			} else {
				owners[of] = true
			}
			if table != frontTable.Load() || Watched() {
				k.bad(subject{noun: "front", addr: f}, "a table that is not in use has traps only", fmt.Sprintf("a front at P %d", i), "the trap front")
			}
		}
	}
	for i := range shards {
		s := &shards[i]
		s.mu.Lock()
		if s.front != trapFront {
			k.owns(fmt.Sprintf("shard %d", i), s.front)
		}
		s.mu.Unlock()
	}
	for _, f := range abandoned.fronts {
		k.owns("an abandoned Heap", f)
	}
	for _, f := range slices.Concat(frontPool.free, frontPool.lost) {
		k.owns("the pool", f)
	}
	if fp := &frontPool; fp.clean < 0 || fp.clean > fp.low || fp.low > len(fp.free) {
		k.bad(subject{noun: "pool of fronts"}, "spare fronts without memory are the ones longest spare", fmt.Sprintf("%d, %d since the last tick", fp.clean, fp.low), fmt.Sprintf("at most %d", len(fp.free)))
	}
	for i := range frontPool.built.Load() {
		f := frontAt(i)
		if of := *word(f + OwnerOffset); of != 0 && !owners[of] {
			k.bad(subject{noun: "front", addr: f}, "a front without a P has no owner", hex(of), 0)
		}
		for _, c := range []uint8{sizeclass.NumTiny, sizeclass.NumAll} {
			if at := last(f, c); at%magSize(c) != 0 {
				k.bad(subject{noun: "front", addr: f, class: c}, "a magazine's last slot is a multiple of its size", hex(at), hex(magSize(c)))
			}
		}
		k.checkMagazines(f)
		k.checkQuarantine(f)
		k.checkLeases(f)
	}
}

// owns notes who has a front.
func (k *checker) owns(who string, f uintptr) {
	if n := (f - frontAt(0)) / frontSize; f < frontAt(0) || n >= frontPool.built.Load() || frontAt(n) != f {
		k.bad(subject{noun: "front", addr: f}, "a table's entry is a front", who, "one of those built")
		return
	}
	if other, ok := k.fronts[f]; ok {
		k.bad(subject{noun: "front", addr: f}, "a front has one owner", who, other)
	}
	k.fronts[f] = who
}

// checkMagazines notes what lies in the magazines of a front.
func (k *checker) checkMagazines(f uintptr) {
	inPool := k.fronts[f] == "the pool"
	trap := *top(trapFront, 0)
	for c := range uint8(frontTypes) {
		s := subject{noun: "magazine", addr: f, class: c}
		t := atomic.LoadUintptr(top(f, c))
		if t == trap {
			continue
		}
		if c == 0 || c > sizeclass.NumAll {
			k.bad(s, "a class without blocks has a trap for a magazine", hex(t), hex(trap))
			continue
		}
		bottom, end := sentinel(f, c), last(f, c)
		switch {
		case head(f).cap[c] == 0 || int(head(f).cap[c]) > maxBlocks(c) || t < bottom || t > end || t%8 != 0:
			k.bad(s, "a magazine's top is one of its slots", hex(t), fmt.Sprintf("%#x to %#x", bottom, end))
			continue
		case *word(bottom) != 0:
			k.bad(s, "a magazine's sentinel is 0", hex(*word(bottom)), 0)
		case inPool && t != bottom:
			k.bad(s, "a front in the pool is empty", (t-bottom)/8, 0)
		}
		for slot := bottom + 8; slot <= t; slot += 8 {
			k.waits(*word(slot), place{"magazine of front", f, c})
		}
	}
}

// checkQuarantine notes what waits in the quarantine of a front.
func (k *checker) checkQuarantine(f uintptr) {
	q := quarantineOf(f)
	s := subject{noun: "quarantine of front", addr: f}
	if q.n > quarantineBlocks || q.first >= quarantineBlocks {
		k.bad(s, "a quarantine is within its ring", fmt.Sprintf("%d blocks from entry %d on", q.n, q.first), fmt.Sprintf("at most %d", quarantineBlocks))
		return
	}
	if q.n > 0 && k.fronts[f] == "the pool" {
		k.bad(s, "a front in the pool is empty", q.n, 0)
	}
	bytes, waiting := uintptr(0), [frontTypes]uint32{}
	for i := range q.n {
		b := &q.ring[(q.first+i)%quarantineBlocks]
		k.waits(b.p, place{"quarantine of front", f, b.class()})
		bytes += b.size()
		waiting[b.class()]++
	}
	if bytes != q.bytes || waiting != head(f).waiting {
		k.bad(s, "a quarantine adds up", fmt.Sprintf("%d bytes, by class %v", q.bytes, head(f).waiting), fmt.Sprintf("%d bytes, by class %v", bytes, waiting))
	}
}

// checkLeases looks at the leases of a front.
func (k *checker) checkLeases(f uintptr) {
	for c := range uint8(leaseWords) {
		s := *lease(f, c)
		if s == 0 {
			continue
		}
		of := subject{noun: "lease of front", addr: f, class: c}
		switch {
		case c == 0 || c > sizeclass.Num:
			k.bad(of, "only classes of slabs are leased", hex(s), 0)
			continue
		case k.fronts[f] == "the pool":
			k.bad(of, "a front in the pool leases nothing", hex(s.addr()), 0)
		}
		if !isPage(s.page()) || s.meta().slabClass.Load() != uint32(c) || s.meta().slabState.Load() != slabLeased {
			k.bad(of, "a lease is a LEASED slab of its class", hex(s.addr()), "one")
			continue
		}
		if other, ok := k.leases[s]; ok {
			of.slab = s.addr()
			k.bad(of, "a slab is leased once", hex(f), hex(other))
		}
		k.leases[s] = f
	}
}

// checkCaches notes what waits in the shared slots, the BigCache and the whale
// cache. Spans that are none are found here, live ones by checkSpan.
func (k *checker) checkCaches() {
	for i := range shared {
		for j := range shared[i].slot {
			if p := shared[i].slot[j].Load(); p != 0 {
				k.waits(p, place{"shared slot", uintptr(j), uint8(sizeclass.Num + 1 + i)})
			}
		}
	}
	for i := range bigCache {
		v := bigCache[i].Load()
		if v == 0 {
			continue
		}
		site, c := uint32(v>>8&MaxSites), uint8(v)
		if e, _ := bigEntry(site, c); e != &bigCache[i] || c <= sizeclass.Num || c > sizeclass.NumAll || knownSite(site) == 0 {
			k.bad(subject{noun: "BigCache entry", addr: uintptr(i), class: c}, "a BigCache entry is where its key belongs", hex(v), "a key of this entry")
			continue
		}
		k.waits(bigAddr(v), place{"BigCache entry", uintptr(i), c})
	}
	w := &whales
	bytes := uintptr(0)
	for i, s := range w.spans {
		of := subject{noun: "whale", addr: s.p}
		k.waits(s.p, place{"whale cache entry", uintptr(i), 0})
		bytes += s.size
		if page := (s.p - region.base) >> pageShift; isPage(page) && meta(page).spanSize != s.size {
			k.bad(of, "a whale has its span's size", s.size, meta(page).spanSize)
		}
		if i > 0 && int32(s.since-w.spans[i-1].since) < 0 {
			k.bad(of, "whales are oldest first", s.since, fmt.Sprint("at least ", w.spans[i-1].since))
		}
	}
	if bytes != w.bytes || len(w.spans) > maxWhales {
		k.bad(subject{noun: "whale cache"}, "the whale cache adds up", fmt.Sprintf("%d bytes in %d spans", w.bytes, len(w.spans)), fmt.Sprintf("%d in at most %d", bytes, maxWhales))
	}
}

// checkGuard looks at the slots of guarded blocks: each is live or among the freed.
func (k *checker) checkGuard() {
	g := &guard
	freed := map[*guardSlot]int{}
	for _, s := range g.freed {
		freed[s]++
	}
	page := uintptr(osmem.PageSize())
	live, next := 0, g.base
	for _, s := range g.slots {
		of := subject{noun: "guarded block", addr: s.p}
		if s.start != next+page || s.start+s.pages*page > g.next {
			k.bad(of, "slots of guarded blocks follow each other", hex(s.start), hex(next+page))
		}
		next = s.start + s.pages*page
		if n := freed[s]; s.live && n != 0 || !s.live && n != 1 {
			k.bad(of, "a guarded block is live or freed", fmt.Sprintf("live %t, %d times among the freed", s.live, n), "one of them")
		}
		delete(freed, s)
		if !s.live {
			continue
		}
		live++
		if s.p < s.start || s.p+s.size > next {
			k.bad(of, "a guarded block lies in its slot", fmt.Sprintf("%d bytes", s.size), fmt.Sprintf("within %#x to %#x", s.start, next))
		}
		k.alive(s.site, s.size)
	}
	if live != g.live || len(freed) > 0 {
		k.bad(subject{noun: "guarded blocks"}, "guarded blocks are counted", fmt.Sprintf("%d live, %d freed unknown slots", g.live, len(freed)), fmt.Sprintf("%d and none", live))
	}
}

// checkTotals holds what ReadTotals tells against what was found alive. Without
// the locks: while the scavenger moves free blocks the live ones stay.
func (k *checker) checkTotals() {
	t := new(Totals)
	ReadTotals(t)
	for c := 1; c <= sizeclass.Num; c++ {
		n := &t.Classes[c]
		if live := n.Blocks - n.Free - n.InMagazines; live != k.live[c] {
			k.bad(subject{noun: "class", class: uint8(c)}, "statistics count the live blocks", live, k.live[c])
		}
	}
	if t.SpanBlocks != k.liveSpans {
		k.bad(subject{noun: "spans"}, "statistics count the live spans", t.SpanBlocks, k.liveSpans)
	}
}
