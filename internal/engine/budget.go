package engine

import (
	"math"
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/learn"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// This file holds the budget of all caches together. The scavenger looks at what they hold and sets the
// price at which they decide how much room they are worth (ace.go). The shared slots, which belong to no
// front, are fitted here.
//
// The site cache and the huge-block cache are not part of it: they are bounded by the time for which they
// keep a block.

// budgetTime is the time between two looks, in hundredths of HAKMEM_DECAY_MS: 0.25 s.
const budgetTime = cacheTime

// budget is the price that followed from the last look, and when that was. Owned by scavenger.moving.
var budget struct {
	learn.Budget
	looked stamp
	factor float64                   // of the strategy in force; 0: 1
	dwells [sizeclass.NumLarge]dwell // of the shared slots
}

// shareBudget looks at the caches and sets the price of their memory, if it is time. Under
// scavenger.moving.
func shareBudget(now stamp) {
	b := &budget
	since := now.since(b.looked)
	if !learning || since < decayPart(budgetTime) {
		return
	}
	b.looked = now
	look := lookAtCaches()
	setFronts(look.fronts, look.used)
	b.Base = bytePrice()
	b.Adjust(float64(look.held), float64(look.limit))
	cachePrice.Store(math.Float64bits(b.Price))
	fitShared(float64(since) / 1000)
}

// easeBudget forgets that memory was scarce in caches. The scavenger calls it when it comes to rest: then
// they are empty, and nobody looks at them until it is started again. Under scavenger.moving.
func easeBudget() {
	budget.Price = 0
	cachePrice.Store(0)
	fitShared(1)
}

// cacheLook is what all caches of the budget hold together, and how much they may; and what that follows from: the
// fronts in use, and the bytes of the pages in use.
type cacheLook struct {
	held, limit mem.Bytes
	fronts      int
	used        mem.Bytes
}

// inCaches returns what all caches of the budget hold together, and how much they may. Under scavenger.moving.
func inCaches() (held, limit mem.Bytes) {
	l := lookAtCaches()
	return l.held, l.limit
}

// lookAtCaches looks at all caches of the budget. A lease counts as half of its slab. Under scavenger.moving. It
// makes no Go memory.
func lookAtCaches() (l cacheLook) {
	sum := inFronts()
	_, inSlots := inShared()
	l.held, l.fronts = sum.held+inSlots, sum.fronts
	region.mu.Lock()
	l.used = pageCount(pageUse.used).bytes()
	region.mu.Unlock()
	l.limit = cacheLimit(l.fronts, l.used)
	if budget.factor > 0 {
		l.limit = mem.Bytes(budget.factor * float64(l.limit))
	}
	return l
}

// scarcity returns how many times as much memory in caches costs as other memory, or 0 where it is not
// scarce. Under scavenger.moving.
func scarcity() float64 {
	if !scarce() {
		return 0
	}
	return budget.Price / budget.Base
}

// frontSum is what some fronts hold together.
type frontSum struct {
	held   mem.Bytes
	fronts int
}

func (s *frontSum) add(f Front) {
	s.held += f.inMagazines() + f.leased()
	s.fronts++
}

// inFronts sums up the fronts of all Ps and shards, and of Heaps that were used since the last harvest.
// Under scavenger.moving, under which fronts are drained: so none of them becomes spare meanwhile.
func inFronts() (sum frontSum) {
	fronts := frontTable.Load()
	for i := range fronts {
		if f := Front(atomic.LoadUintptr(&fronts[i])); f != trapFront {
			sum.add(f)
		}
	}
	for i := range shards {
		s := &shards[i]
		s.mu.Lock()
		if s.front != trapFront {
			sum.add(s.front)
		}
		s.mu.Unlock()
	}
	openHeaps.Lock()
	defer openHeaps.Unlock()
	for f := range openHeaps.by {
		if f.head().duty.Load() != harvested {
			sum.add(f)
		}
	}
	return sum
}

// fitShared is fit for the shared slots of all classes. Under scavenger.moving.
func fitShared(seconds float64) {
	for i := range shared {
		line, c := &shared[i], sizeclass.ID(sizeclass.Num+1+i)
		moved := float64(min(line.evicted.Swap(0), line.missed.Swap(0))) / seconds
		if !scarce() {
			line.setRoom(sharedSlots)
			continue
		}
		room := line.room()
		best := cacheCosts(pagesSeconds).Fit(max(room, 1), float64(c.Bytes()), moved)
		if best < 0 && room == 0 {
			continue
		}
		switch budget.dwells[i].turn(best) {
		case +1:
			line.setRoom(max(2*room, 1))
		case -1:
			line.setRoom(room / 2)
		}
	}
}
