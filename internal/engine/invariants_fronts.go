package engine

import (
	"fmt"
	"math"
	"math/bits"
	"slices"
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/learn"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/site"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// The part of CheckInvariants that looks at fronts and at the long lanes. Called by checker.check, under
// its locks.

// checkFronts looks at the holder of each front, and at all magazines and leases.
func (k *checker) checkFronts() {
	slot := trapFront + trapSlot
	for c := range sizeclass.ID(frontTypes) {
		if t := *trapFront.top(c); t != mem.Addr(slot) || *word(mem.Addr(slot)) != 0 {
			k.bad(subject{noun: "trap front", addr: mem.Addr(trapFront), class: c}, "the trap front is never written", hex(t), hex(slot))
		}
	}
	owners := map[uintptr]bool{}
	for _, table := range []*[MaxP]uintptr{&pFronts, &hardFronts} {
		for i := range table {
			f := atomic.LoadUintptr(&table[i])
			if Front(f) == trapFront {
				continue
			}
			k.owns(fmt.Sprintf("P %d", i), Front(f))
			if of := *word(mem.Addr(f + ownerOffset)); (of != 0) != (pAddress != nil && table == &pFronts) || of != 0 && owners[of] {
				k.bad(subject{noun: "front", addr: mem.Addr(f)}, "a front's owner is the P that has it", hex(of), fmt.Sprintf("the address of P %d, no other front's", i))
			} else {
				owners[of] = true
			}
			if table != frontTable.Load() || Watched() {
				k.bad(subject{noun: "front", addr: mem.Addr(f)}, "a table that is not in use has traps only", fmt.Sprintf("a front at P %d", i), "the trap front")
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
	k.checkOpenHeaps()
	for _, f := range abandoned.fronts {
		k.owns("an abandoned Heap", f)
	}
	for _, f := range slices.Concat(frontPool.free, frontPool.lost) {
		k.owns("the pool", f)
	}
	if fp := &frontPool; fp.clean < 0 || fp.clean > fp.low || fp.low > len(fp.free) {
		k.bad(subject{noun: "pool of fronts"}, "spare fronts without memory are the ones longest spare", fmt.Sprintf("%d, %d since the last tick", fp.clean, fp.low), fmt.Sprintf("at most %d", len(fp.free)))
	}
	if n := frontPool.out; n != 0 { // the scavenger waits
		k.bad(subject{noun: "pool of fronts"}, "no front is out of the pool", n, 0)
	}
	for i := range frontPool.built.Load() {
		f := frontAt(i)
		if of := *word(mem.Addr(f + ownerOffset)); of != 0 && !owners[of] {
			k.bad(subject{noun: "front", addr: mem.Addr(f)}, "a front without a P has no owner", hex(of), 0)
		}
		for _, c := range []sizeclass.ID{sizeclass.NumTiny, sizeclass.NumAll} {
			if at := f.last(c); at%mem.Addr(magSize(c)) != 0 {
				k.bad(subject{noun: "front", addr: mem.Addr(f), class: c}, "a magazine's last slot is a multiple of its size", hex(at), hex(magSize(c)))
			}
		}
		k.checkTurns(f)
		k.checkRoom(f)
		touched := f.head().touched
		k.counted += touched.bytes()
		k.checkMagazines(f)
		k.checkQuarantine(f)
		k.checkLeases(f)
	}
}

// checkOpenHeaps looks at what the open Heaps and their fronts say of each other.
func (k *checker) checkOpenHeaps() {
	for f, h := range k.heaps {
		s := subject{noun: "front of a Heap", addr: mem.Addr(f)}
		if h.front != f {
			k.bad(s, "an open Heap is listed by its front", hex(h.front), hex(f))
			continue
		}
		k.owns("an open Heap", f)
		fast := h.fast.Value()
		if fast == nil {
			continue // unreachable, and its cleanup is to come
		}
		switch now := Front(atomic.LoadUintptr((*uintptr)(fast))); {
		case now != f && now != trapFront:
			k.bad(s, "a Heap's fast paths use its front or the trap", hex(now), hex(f))
		case now != trapFront && f.head().duty.Load() != calm:
			k.bad(s, "a Heap that was asked for its front has the trap", hex(now), hex(trapFront))
		}
	}
}

// checkTurns looks at the words of a front by which a Heap's owner and the harvester take turns.
func (k *checker) checkTurns(f Front) {
	h, s := f.head(), subject{noun: "front", addr: mem.Addr(f)}
	duty := h.duty.Load()
	switch {
	case h.busy != 0:
		k.bad(s, "no slow path uses a Heap's front", h.busy, 0)
	case duty == taken || duty > harvested:
		k.bad(s, "no harvester has a front", duty, calm)
	case duty != calm && k.heaps[f] == nil && k.fronts[f] != "an abandoned Heap":
		k.bad(s, "only an open Heap is asked for its front", duty, calm)
	}
	for c := range sizeclass.ID(frontTypes) {
		if n := h.uncut[c]; n != 0 && (duty != harvested || n < h.cap[c] || int(n) > maxBlocks(c)) {
			s.class = c
			k.bad(s, "only a harvest cuts a magazine", n, h.cap[c])
		}
	}
}

// checkRoom looks at what a front knows for ACE.
func (k *checker) checkRoom(f Front) {
	h, s, room := f.head(), subject{noun: "front", addr: mem.Addr(f)}, mem.Bytes(0)
	for c := range sizeclass.ID(frontTypes) {
		s.class = c
		slab := c > 0 && c <= sizeclass.Num
		if h.closed[c] && (c <= sizeclass.Num || c > sizeclass.NumAll || h.cap[c] != 0) {
			k.bad(s, "a closed magazine is one of large blocks without room", h.cap[c], 0)
		}
		if most := h.most[c]; most != 0 && (int(most) > maxBlocks(c) || h.cap[c] > most) {
			k.bad(s, "a magazine has at most the room that ACE allows", h.cap[c], fmt.Sprintf("at most %d, of %d slots", most, maxBlocks(c)))
		}
		if h.ghosts[c] > maxGhosts {
			k.bad(s, "no more ghosts are remembered than a magazine holds", h.ghosts[c], maxGhosts)
		}
		if h.unkept[c] && !slab {
			k.bad(s, "only leases of slabs are not kept", "another", "a class of slabs")
		}
		if n := *f.refills(c); h.refilled[c] > n && k.fronts[f] != "the pool" { // whose counts are spent
			k.bad(s, "a step has seen at most the refills that there were", h.refilled[c], n)
		}
		k.checkDwell(s, h.dwells[c])
		room += mem.Bytes(max(h.cap[c], h.uncut[c])) * c.Bytes()
	}
	s.class = 0
	if h.room != room {
		k.bad(s, "a front adds up what its magazines have room for", h.room, room)
	}
	if h.hand > sizeclass.Num {
		k.bad(s, "only leases of slabs end in turn", h.hand, sizeclass.Num)
	}
}

// checkDwell looks at for how long room is kept.
func (k *checker) checkDwell(s subject, d dwell) {
	if d.again > maxAgain || d.left > 1<<d.again {
		k.bad(s, "the turns to wait are within their bound", fmt.Sprintf("%d of 2^%d", d.left, d.again), fmt.Sprintf("at most 2^%d", maxAgain))
	}
}

// checkBudget looks at the price of memory in caches, and at what it does to the shared slots.
func (k *checker) checkBudget() {
	b, s := &budget, subject{noun: "budget of caches"}
	if b.Price != 0 && !(b.Price >= b.Base*learn.LeastPrice && b.Price <= b.Base*learn.MostPrice) {
		k.bad(s, "the price of memory in caches is 0 or within its bounds", b.Price, fmt.Sprintf("%g times %g to %g", b.Base, learn.LeastPrice, float64(learn.MostPrice)))
	}
	if p := math.Float64frombits(cachePrice.Load()); p != b.Price {
		k.bad(s, "fronts know the price of memory in caches", p, b.Price)
	}
	for i := range shared {
		s := subject{noun: "shared slots", class: sizeclass.ID(sizeclass.Num + 1 + i)}
		if n := shared[i].shut.Load(); n > sharedSlots {
			k.bad(s, "no more slots are shut than there are", n, sharedSlots)
		}
		k.checkDwell(s, b.dwells[i])
	}
}

// owns notes the holder of a front.
func (k *checker) owns(who string, f Front) {
	if n := f.number(); f < frontAt(0) || n >= frontPool.built.Load() || frontAt(n) != f {
		k.bad(subject{noun: "front", addr: mem.Addr(f)}, "a table's entry is a front", who, "one of those built")
		return
	}
	if other, ok := k.fronts[f]; ok {
		k.bad(subject{noun: "front", addr: mem.Addr(f)}, "a front has one owner", who, other)
	}
	k.fronts[f] = who
}

// checkMagazines notes the blocks in the magazines of a front.
func (k *checker) checkMagazines(f Front) {
	inPool := k.fronts[f] == "the pool"
	trap := *trapFront.top(0)
	for c := range sizeclass.ID(frontTypes) {
		s := subject{noun: "magazine", addr: mem.Addr(f), class: c}
		t := f.loadTop(c)
		if t == trap || t == 0 && inPool { // 0: its memory was returned
			continue
		}
		if c == 0 || c > sizeclass.NumAll {
			k.bad(s, "a class without blocks has a trap for a magazine", hex(t), hex(trap))
			continue
		}
		bottom, end := f.sentinel(c), f.last(c)
		if i, _ := f.pagesAt(bottom, 1); !inPool && !f.head().touched.has(i) {
			k.bad(s, "a magazine's memory is counted", "not", "counted")
		}
		switch {
		case f.head().cap[c] == 0 || int(f.head().cap[c]) > maxBlocks(c) || t < bottom || t > end || t%8 != 0:
			k.bad(s, "a magazine's top is one of its slots", hex(t), fmt.Sprintf("%#x to %#x", bottom, end))
			continue
		case *word(bottom) != 0:
			k.bad(s, "a magazine's sentinel is 0", hex(*word(bottom)), 0)
		case inPool && t != bottom:
			k.bad(s, "a front in the pool is empty", (t-bottom)/8, 0)
		}
		for slot := bottom + 8; slot <= t; slot += 8 {
			k.waits(Block(*word(slot)), place{"magazine of front", uintptr(f), c})
		}
	}
}

// checkQuarantine notes the blocks that wait in the quarantine of a front.
func (k *checker) checkQuarantine(f Front) {
	if !f.hasQuarantine() {
		return
	}
	q := f.quarantine()
	s := subject{noun: "quarantine of front", addr: mem.Addr(f)}
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
		k.waits(b.p, place{"quarantine of front", uintptr(f), b.class()})
		bytes += uintptr(b.size())
		waiting[b.class()]++
	}
	if mem.Bytes(bytes) != q.bytes || waiting != f.head().waiting {
		k.bad(s, "a quarantine adds up", fmt.Sprintf("%d bytes, by class %v", q.bytes, f.head().waiting), fmt.Sprintf("%d bytes, by class %v", bytes, waiting))
	}
}

// checkLeases looks at the leases of a front.
func (k *checker) checkLeases(f Front) {
	leased := mem.Bytes(0)
	for c := range sizeclass.ID(leaseWords) {
		s := *f.lease(c)
		if s == 0 {
			continue
		}
		of := subject{noun: "lease of front", addr: mem.Addr(f), class: c}
		switch {
		case c == 0 || c > sizeclass.Num:
			k.bad(of, "only classes of slabs are leased", hex(s), 0)
			continue
		case k.fronts[f] == "the pool":
			k.bad(of, "a front in the pool leases nothing", hex(s.addr()), 0)
		}
		if !isPage(s.page()) || s.meta().list() != commonList(c) || s.meta().slabState.Load() != slabLeased {
			k.bad(of, "a lease is a LEASED slab of its class", hex(s.addr()), "one")
			continue
		}
		if other, ok := k.leases[s]; ok {
			of.slab = s.addr()
			k.bad(of, "a slab is leased once", hex(f), hex(other))
		}
		k.leases[s] = f
		leased += slabBytes(c)
	}
	if h := f.head(); h.leases != leased {
		k.bad(subject{noun: "front", addr: mem.Addr(f)}, "a front adds up what it leases", h.leases, leased)
	}
}

// checkLanes looks at the leases of the long lanes, at the sites whose blocks go there, and at samples.
func (k *checker) checkLanes() {
	for c := range lanes {
		l := &lanes[c]
		l.mu.Lock()
		s := l.current
		l.mu.Unlock()
		of := subject{noun: "long lane", addr: mem.Addr(c), class: sizeclass.ID(c)}
		switch {
		case s == 0:
		case c == 0 || !isPage(s.page()) || s.meta().list() != longList(sizeclass.ID(c)) || s.meta().slabState.Load() != slabLeased:
			k.bad(of, "a long lane leases a LEASED slab of its own", hex(s.addr()), "one")
		default: // no front leases it: that would be one of another list
			k.leases[s] = 0
		}
	}
	n := uint64(0)
	for i := range longSites {
		n += uint64(bits.OnesCount64(longSites[i].Load()))
	}
	for s := site.ID(1); s <= site.Num(); s++ {
		if want := laneNow(s); isLong(s) != want {
			k.bad(subject{noun: "site", addr: mem.Addr(s)}, "blocks of a site go where its rule says", fmt.Sprint("long ", isLong(s)), want)
		}
	}
	if n != lifetimes.long {
		k.bad(subject{noun: "sites"}, "the sites of the long lane are counted", n, lifetimes.long)
	}
	for i := range liveSamples {
		s := &liveSamples[i]
		if p := Block(s.at.Load()); p != 0 && (sampleAt(p) != s || !isPage(p.page()) || !site.ID(s.site).Known()) {
			k.bad(subject{noun: "sample", addr: mem.Addr(p)}, "a sample is a block with a site, in its place", fmt.Sprintf("entry %d, site %d", i, s.site), "its own")
		}
	}
}
