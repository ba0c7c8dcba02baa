package engine

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/hakmem/hakmem/internal/learn"
	"github.com/hakmem/hakmem/internal/policy"
)

// This file says for how long a slab is PARTIAL before the memory of its free blocks is returned
// (punch.go). It is the question of keep.go, asked of slabs: how long do they wait until a front takes
// blocks from them again? The answer is another one, because a hole is returned by itself. So there is a
// second model, which counts in units of slabs: at least an OS page of free blocks.

// holeTimes is the second model. Owned by scavenger.mu.
var holeTimes struct {
	model   *learn.Model
	machine learn.Machine // that its costs are of
	price   int           // and of memory
	// roundAt and lastRound are when the round over the slabs began, and the last one that was completed.
	roundAt, lastRound stamp
}

// holeWaits has the waits that ended since the last tick. Whoever takes a slab puts one in, unless someone
// else does so at this moment.
var holeWaits struct {
	busy  atomic.Bool
	n     int
	waits [holeSamples]holeWait
	skip  uint32
}

// holeWait says that so many units of the slab that begins at page waited.
type holeWait struct {
	page  uint32
	units uint32
	wait  millis
}

const (
	// holeSamples is how many waits are remembered between two ticks: 1 KiB.
	holeSamples = 85
	// holeEvery: one in so many slabs that are taken is noted. To count its free units takes 50 ns.
	holeEvery = 8
	// holeReturn is how many times as long the return of a hole takes, for 4 KiB, as that of free pages:
	// it is a range of its own (docs/ledger.md, "Holes by their own clock").
	holeReturn = 4
)

// listedAt returns the time since which the slab has been PARTIAL, or a later time.
func (m *pageMeta) listedAt() stamp {
	if m.listed() == stamp(times.idleStamp.Load()) {
		return stamp(times.armedAt.Load())
	}
	return m.listed()
}

// noteHoleWait notes for how long the slab that begins at page waited, which the caller has just taken
// from the PARTIAL ones. free counts its units without a live block.
func noteHoleWait(page pageNo, since stamp, free func() int) {
	now := stamp(times.listed.Load())
	if int32(now-since) <= 0 {
		// It waited for less than a tick, as a slab does that is taken and listed again and again. That says
		// nothing about slabs that lie idle.
		return
	}
	h := &holeWaits
	if !learns() || !h.busy.CompareAndSwap(false, true) {
		return
	}
	defer h.busy.Store(false)
	if h.skip++; h.skip%holeEvery != 0 || h.n == len(h.waits) {
		return
	}
	if n := free(); n > 0 {
		h.waits[h.n] = holeWait{uint32(page - region.firstPage()), uint32(n), now.since(since)}
		h.n++
	}
}

// learnHoles lets the second model learn at a tick. Under scavenger.mu.
func learnHoles(now stamp) {
	if !learns() {
		return
	}
	t, h := &holeTimes, &holeWaits
	region.mu.Lock()
	machine, price := keeper.machine.Machine(), keeper.price
	region.mu.Unlock()
	machine.Return *= holeReturn
	if model := holesModel(); machine != t.machine || price != t.price {
		t.machine, t.price = machine, price
		model.SetCosts(machine.Costs(4096, float64(max(price, 1))/1000))
	}
	if h.busy.CompareAndSwap(false, true) { // otherwise the next tick does it
		for _, w := range h.waits[:h.n] {
			t.model.Waited(w.page, w.units*holeEvery, time.Duration(uint64(w.wait)*keptUnit/uint64(decay()))*time.Millisecond)
		}
		h.n = 0
		h.busy.Store(false)
	}
	if policy.Now().Evo == learn.EvolutionFrozen {
		t.model.Freeze(true)
	}
	t.model.Tick(keptTime(now))
}

// holesModel returns the second model. Under scavenger.mu.
func holesModel() *learn.Model {
	if holeTimes.model == nil {
		m := learn.TypicalMachine
		m.Return *= holeReturn
		holeTimes.model, holeTimes.machine = learn.New(m.Costs(4096, float64(policy.Now().MemoryPrice)/1000)), learn.Machine{}
	}
	return holeTimes.model
}

// beginHoleRound notes that a round over the PARTIAL slabs begins, endHoleRound that it has seen all of them.
// Under scavenger.mu.
func beginHoleRound(now stamp) { holeTimes.roundAt = now }
func endHoleRound()            { holeTimes.lastRound = holeTimes.roundAt }

// holesWait notes that so many units of the slab that begins at page still wait, if that has become a long
// wait since the last round. Under scavenger.mu.
func holesWait(page pageNo, units int, since stamp) {
	t := &holeTimes
	if !learns() || t.model == nil || t.lastRound == 0 {
		return
	}
	long := ownTime(t.model.Long())
	waited, before := int32(t.roundAt-since), int32(t.lastRound-since) // before 0: it was listed since
	if waited >= int32(long) && before < int32(long) {
		t.model.Waits(uint32(page-region.firstPage()), uint32(units))
	}
}

// holeTime returns for how long the slab that begins at page is PARTIAL before it is punched. Under
// scavenger.mu.
func holeTime(page pageNo) millis {
	hold, fixed := policy.Now().Keep.Time()
	switch {
	case fixed:
	case !learns() || holeTimes.model == nil:
		return decay()
	default:
		return ownTime(holeTimes.model.Hold(uint32(page - region.firstPage())))
	}
	return millis(hold.Milliseconds())
}

// meanHoleTime returns the mean of holeTime. Under scavenger.mu.
func meanHoleTime() time.Duration {
	hold, fixed := policy.Now().Keep.Time()
	switch {
	case fixed:
		return hold
	case !learns():
		return time.Duration(decay()) * time.Millisecond
	}
	return time.Duration(ownTime(holesModel().Mean())) * time.Millisecond
}

// ownTime returns a time of the model's in the scavenger's time, which HAKMEM_DECAY_MS stretches. It is at
// most 24 days, half of what a stamp can tell apart.
func ownTime(d time.Duration) millis {
	return millis(min(uint64(d.Milliseconds())*uint64(decay())/keptUnit, math.MaxInt32))
}
