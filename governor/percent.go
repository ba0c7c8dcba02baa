package governor

const (
	// goPercent is Go's GC percent where nobody sets another.
	goPercent = 100
	// mostPercent: the time that collections take is in inverse proportion to the percent. At 1000 it is a tenth
	// of that at 100, so that a higher one can save no more than this tenth; and it would make a heap of
	// which little is alive touch all of its part.
	mostPercent = 1000
	// percentBand: a percent is set when it differs from the one in force by an eighth or more. The last
	// collection leaves another live heap each time, by some percent.
	percentBand = 8
)

// heapPercent returns the GC percent with which Go's heap grows until it fills the limit, between 100 and
// mostPercent. With a percent of 100 a heap is collected when it has doubled, whatever room there is; with
// the limit alone (GOGC=off) nothing but the limit would bound it. The runtime takes the earlier of
// the two, so that the percent never makes Go exceed its limit.
//
// now is the percent in force. It is returned if it is nearly right.
func heapPercent(g goMemory, limit uint64, now int) int {
	live := max(g.live, leastHeap) // the runtime counts a smaller heap as one of 4 MiB
	p := less(less(limit, g.other), live) / (live/100 + 1)
	want := int(min(max(p, goPercent), mostPercent))
	if far := want - now; far < now/percentBand && -far < now/percentBand && want != goPercent && want != mostPercent {
		return now
	}
	return want
}
