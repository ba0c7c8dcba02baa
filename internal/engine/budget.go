package engine

import (
	"math"
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/learn"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/policy"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// This file holds the budget of all caches together. The scavenger looks at what they hold and sets the
// price at which they decide how much room they are worth (ace.go). The shared slots, which belong to no
// front, are fitted here.
//
// The site cache and the huge-block cache are not part of it: they are bounded by the time for which they
// keep a block.

const (
	// budgetBase and budgetShare are the budget: 20 MiB times the square root of the number of fronts in
	// use, or a 16th of the pages in use if that is more. A cache needs room in proportion to the square
	// root of what passes through it (learn.RoomCosts), so n caches that share what one had need √n times
	// its room together (docs/ledger.md, "The budget").
	budgetBase, budgetShare = 20 << 20, 16
	// budgetTime is the time between two looks, in hundredths of HAKMEM_DECAY_MS: 0.25 s.
	budgetTime = cacheTime
)

// budget is what the last look found, and the price that followed. Owned by scavenger.mu.
var budget struct {
	learn.Budget
	looked      stamp
	factor      float64 // of the strategy in force; 0: 1
	held, limit mem.Bytes
	dwells      [sizeclass.NumLarge]dwell // of the shared slots
}

// shareBudget looks at the caches and sets the price of their memory, if it is time. Under scavenger.mu.
func shareBudget(now stamp) {
	b := &budget
	since := now.since(b.looked)
	if !learning || since < decayPart(budgetTime) {
		return
	}
	b.looked = now
	held, fronts := mem.Bytes(0), 0
	eachFront(func(f Front) {
		held += f.heldBytes() + f.leased()
		fronts++
	})
	_, inSlots := inShared()
	b.held = held + inSlots
	if b.limit = mem.Bytes(policy.Now().CacheBudget); b.limit == 0 {
		region.mu.Lock()
		used := pageCount(pageUse.used).bytes()
		region.mu.Unlock()
		b.limit = max(mem.Bytes(budgetBase*math.Sqrt(float64(fronts))), used/budgetShare)
	}
	if b.factor > 0 {
		b.limit = mem.Bytes(b.factor * float64(b.limit))
	}
	b.Base = bytePrice()
	b.Adjust(float64(b.held), float64(b.limit))
	if b.Price == b.Base {
		cachePrice.Store(0)
	} else {
		cachePrice.Store(math.Float64bits(b.Price))
	}
	fitShared(float64(since) / 1000)
}

// eachFront calls do for the fronts of all Ps and shards, and of Heaps that were used since the last
// harvest. Under scavenger.mu, so that none of them is taken out and given back meanwhile.
func eachFront(do func(Front)) {
	drainMu.Lock()
	defer drainMu.Unlock()
	fronts := frontTable.Load()
	for i := range fronts {
		if f := Front(atomic.LoadUintptr(&fronts[i])); f != trapFront {
			do(f)
		}
	}
	for i := range shards {
		s := &shards[i]
		s.mu.Lock()
		if s.front != trapFront {
			do(s.front)
		}
		s.mu.Unlock()
	}
	openHeaps.Lock()
	defer openHeaps.Unlock()
	for f := range openHeaps.by {
		if f.head().duty.Load() != harvested {
			do(f)
		}
	}
}

// fitShared is fit for the shared slots of all classes. By the scavenger's lock.
func fitShared(seconds float64) {
	for i := range shared {
		line, c := &shared[i], sizeclass.ID(sizeclass.Num+1+i)
		moved := float64(min(line.evicted.Swap(0), line.missed.Swap(0))) / seconds
		if !scarce() {
			line.setRoom(sharedSlots)
			continue
		}
		room := line.room()
		switch budget.dwells[i].turn(cacheCosts(pagesSeconds).Fit(max(room, 1), float64(c.Bytes()), moved)) {
		case +1:
			line.setRoom(max(2*room, 1))
		case -1:
			line.setRoom(room / 2)
		}
	}
}
