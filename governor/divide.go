package governor

// need is what one side needs of the budget, in bytes.
type need struct {
	least uint64 // what cannot be taken from it
	want  uint64 // what it would have if nobody limited it; not below least
}

const (
	// aliveShare: Go gets a tenth more than what is alive. With less a collection would begin before the
	// heap has grown by a tenth, and Go spends up to half of its time on collections then.
	aliveShare = 10
	// leastHeap is what Go gets beyond that. Go's runtime does not collect a heap below 4 MiB by itself
	// (with GOGC=100).
	leastHeap = 4 * mib
	// slackShare: hakmem gets a 32nd of the budget beyond what it has, to grow during a period. It is twice
	// what a move of the limits must come to (bandShare), so that a move that is not made takes at most half
	// of it.
	slackShare = 32
	// growthKept: the growth that is expected is at least half of what was expected before. So a burst
	// is remembered for some periods and forgotten within a second.
	growthKept = 2
	// growthTwice: hakmem wants twice what it has lately grown by in a period, since growth that becomes
	// faster from period to period rarely doubles.
	growthTwice = 2
)

// needOf returns what Go needs. percent is the GC percent that would hold without the governor; -1 is off.
func (g goMemory) needOf(percent int) need {
	if percent < 0 || percent > mostPercent {
		percent = mostPercent // what is without end cannot be compared
	}
	alive := g.live + g.other
	least := alive + alive/aliveShare + leastHeap
	return need{least, least + g.live/100*uint64(percent)}
}

// growth remembers by how much hakmem's memory has lately grown in a period. The zero value has seen nothing.
type growth struct {
	last     uint64 // the least of the last period
	expected uint64 // bytes in a period
	seen     bool
}

// note adds what hakmem cannot give back, once in a period.
func (g *growth) note(least uint64) {
	now := uint64(0)
	if g.seen {
		now = less(least, g.last)
	}
	g.expected = max(now, g.expected/growthKept)
	g.last, g.seen = least, true
}

// division says how the budget is divided. Sizes are in bytes.
type division struct {
	budget uint64
	limit  uint64 // Go's part; hakmem has the rest
	needed need   // of Go; limit is never below what it cannot do without
	short  uint64 // by how much what both cannot do without exceeds the budget
}

// divide divides the budget between Go and hakmem, as the package comment says.
func divide(budget uint64, ofGo need, h offHeap, grows growth) division {
	d := division{budget: budget, limit: ofGo.least, needed: ofGo}
	slack := budget / slackShare
	least := h.least + slack
	if needed := ofGo.least + least; needed > budget {
		d.short = needed - budget
		return d
	}
	rest := budget - ofGo.least - least
	more := ofGo.want - ofGo.least
	moreHak := less(h.counted, h.least) + growthTwice*min(grows.expected, budget)
	if more+moreHak <= rest {
		d.limit += more + (rest-more-moreHak)/2
	} else { // a product of two sizes does not fit 64 bits
		d.limit += uint64(float64(rest) * (float64(more) / float64(more+moreHak)))
	}
	return d
}
