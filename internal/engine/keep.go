package engine

import (
	"math/bits"
	"time"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/learn"
	"github.com/hakmem/hakmem/internal/policy"
)

// This file says for how long free pages keep their memory. With HAKMEM_KEEP=auto package learn says
// it. It learns from how long each page waits until it is taken again, whether its memory was returned
// meanwhile or not: where a block goes does not depend on what was returned. superMeta.take and give
// report that to it, and the scavenger's tick lets it learn.

// keeper is the model, and what its costs follow from. Owned by region.mu.
var keeper struct {
	model   *learn.Model
	machine learn.Probes // what memory costs here, as probe has measured it
	price   int          // of memory, in its costs: HAKMEM_MEMORY_PRICE, or more (priceSteps)
}

const (
	// keptUnit is the HAKMEM_DECAY_MS with which the model's times are milliseconds. With another value
	// they are shorter or longer, as all times of the scavenger are.
	keptUnit = 2200
	// maxPriceSteps: with 64 times the default price break-even is 36 ms, less than a tick.
	maxPriceSteps = 6
	// justNow bounds how long before a free the time of a tick may have been read: a quarter of an hour.
	justNow millis = 1 << 20
)

// keptCosts returns the costs of a page of hakmem's for a price in thousandths of a second. Under
// region.mu.
func keptCosts(price int) learn.Costs {
	return keeper.machine.Machine().Costs(pageSize, float64(price)/1000)
}

// keptModel returns the model. Under region.mu.
func keptModel() *learn.Model {
	check.MustHold(&region.mu, "keptModel")
	if keeper.model == nil {
		keeper.price = policy.Now().MemoryPrice
		keeper.model = learn.New(keptCosts(keeper.price))
	}
	return keeper.model
}

// keptTime returns a stamp as the model's time.
func keptTime(s stamp) time.Duration {
	return time.Duration(uint64(s)*keptUnit/uint64(decay())&(1<<31-1)) * time.Millisecond
}

// kept returns the model's number of the chunk's first page: it counts from the region's first one.
func (c chunkNo) kept() uint32 { return uint32(c.page() - region.firstPage()) }

// learns reports whether anything is learnt.
func learns() bool { return learning && policy.Now().Evo != learn.EvolutionOff }

// noteFreed notes that the pages m of chunk c have been free since the given time. Under region.mu.
func noteFreed(c chunkNo, m pageSet, at stamp) {
	if !learns() {
		return
	}
	model, first := keptModel(), c.kept()
	m.runs(func(from, n uint32) { model.Freed(first+from, n, keptTime(at)) })
}

// noteTaken notes that the pages m of chunk c are used from now on. Under region.mu.
func noteTaken(c chunkNo, m pageSet, now stamp) {
	if !learns() {
		return
	}
	model, first := keptModel(), c.kept()
	m.runs(func(from, n uint32) { model.Taken(first+from, n, keptTime(now)) })
}

// wereUsed returns which of the free pages m of chunk c were used before. Under region.mu.
func wereUsed(c chunkNo, m pageSet) (used pageSet) {
	model := keptModel()
	for ; m != 0; m &= m - 1 {
		page := bits.TrailingZeros32(uint32(m))
		if _, waits := model.Since(c.kept()+uint32(page), 0); waits {
			used |= 1 << page
		}
	}
	return used
}

// runs calls f for each run of pages in m.
func (m pageSet) runs(f func(from, n uint32)) {
	for m != 0 {
		from := uint32(bits.TrailingZeros32(uint32(m)))
		n := uint32(bits.TrailingZeros32(^(uint32(m) >> from)))
		f(from, n)
		m &^= pageSet(uint64(1)<<(from+n) - 1)
	}
}

// learnKept lets the model learn at a tick. Under region.mu.
func learnKept(now stamp) {
	model := keptModel()
	keeper.price = policy.Now().MemoryPrice << priceSteps()
	if costs := keptCosts(keeper.price); costs != model.Costs() {
		model.SetCosts(costs)
	}
	if policy.Now().Evo == learn.EvolutionFrozen { // before the first window, too
		model.Freeze(true)
	}
	model.Tick(keptTime(now))
}

// priceSteps returns how often the price of memory has doubled because memory is scarce: not at all up to
// half of the soft limit, and maxPriceSteps times where the scavenger begins to keep nothing (pressed).
func priceSteps() int {
	soft := memoryLimit.soft.Load()
	if soft == 0 {
		return 0
	}
	from, to := soft/2, soft-soft/softShare
	return int(min(max(counted.Load()-from, 0)*maxPriceSteps/(to-from), maxPriceSteps))
}

// coldPages returns which of the free pages m of chunk c have been free for their hold time. idle is how
// long ago a page of the chunk was last given back. Under region.mu.
func coldPages(c chunkNo, m pageSet, now stamp, idle millis) (cold pageSet) {
	model, at := keptModel(), keptTime(now)
	first := c.kept()
	hold, fixed := policy.Now().Keep.Time() // a time that the user has set is not one of the model's
	switch {
	case fixed:
		// At most what Since can tell apart, with a short HAKMEM_DECAY_MS.
		hold = min(hold*keptUnit/time.Duration(decay()), 1<<30*time.Millisecond)
	case learns():
		hold = model.Hold(first)
	default:
		hold = model.Costs().BreakEven()
	}
	scales := holdScales[c]
	for ; m != 0; m &= m - 1 {
		page := bits.TrailingZeros32(uint32(m))
		wait, waits := model.Since(first+uint32(page), at)
		if !waits { // it got its memory without being used, perhaps after now was read
			if wait = 0; -idle >= justNow { // unsigned
				wait = keptTime(stamp(idle))
			}
		}
		if wait >= scales.scaled(hold, uint32(page)) {
			cold |= 1 << page
		}
	}
	return cold
}

// meanHold returns the mean time for which free pages are kept. Under region.mu.
func meanHold() time.Duration {
	check.MustHold(&region.mu, "meanHold")
	if d, fixed := policy.Now().Keep.Time(); fixed {
		return d
	}
	if !learns() {
		return keptModel().Costs().BreakEven() * time.Duration(decay()) / keptUnit
	}
	return keptModel().Mean() * time.Duration(decay()) / keptUnit
}
