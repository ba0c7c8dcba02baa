package governor

const (
	// bandShare: a limit moves only by a 64th of the budget or more. A move makes Go's runtime compute its
	// next collection anew, and hakmem look whether it is near its limit; less would not be worth it.
	bandShare = 64
	// steadyPeriods is for how many periods Go's limit must have been too low before it is raised beyond
	// what Go wants: one second with the default period. Demand of hakmem that comes back within this time
	// finds its room free.
	steadyPeriods = 10
)

// steady makes Go's limit of what divide says, so that swings do not move it. The zero value has seen
// nothing.
type steady struct {
	limit  uint64                // Go's part now
	recent [steadyPeriods]uint64 // what divide said lately; a ring
	count  int                   // of all that divide said
}

// next takes what divide says and returns Go's part. It is never below what Go cannot do without. It is
// lowered at once, because hakmem needs the room, and raised at once as far as Go's heap at its GC percent
// would fill it. The rest would only be filled with more garbage, which can wait.
func (s *steady) next(d division) uint64 {
	first := s.count == 0
	s.recent[s.count%steadyPeriods] = d.limit
	s.count++
	low := d.limit
	for _, l := range s.recent[:min(s.count, steadyPeriods)] {
		low = min(low, l)
	}
	up := max(low, min(d.limit, d.needed.want))
	band := d.budget / bandShare
	switch {
	case first, d.limit+band < s.limit:
		s.limit = d.limit
	case s.limit < d.needed.least || s.limit+band < up:
		s.limit = up
	}
	return s.limit
}
