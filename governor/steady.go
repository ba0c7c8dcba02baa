package governor

const (
	// bandShare: a limit moves only by a 64th of the budget or more. A move makes Go's runtime compute its
	// next collection anew, and hakmem look whether it is near its limit; less would not be worth it.
	bandShare = 64
	// steadyPeriods is for how many periods Go's limit must have been too low before it is raised: one
	// second with the default period. Demand of hakmem that comes back within this time finds its room
	// free.
	steadyPeriods = 10
)

// steady makes Go's limit of what divide says, so that swings do not move it. The zero value has seen
// nothing.
type steady struct {
	limit  uint64                // Go's part now
	recent [steadyPeriods]uint64 // what divide said lately; a ring
	count  int                   // of all that divide said
}

// next is told what divide says and returns Go's part. It is never below d.least.
func (s *steady) next(d division) uint64 {
	first := s.count == 0
	s.recent[s.count%steadyPeriods] = d.limit
	s.count++
	low := d.limit
	for _, l := range s.recent[:min(s.count, steadyPeriods)] {
		low = min(low, l)
	}
	band := d.budget / bandShare
	switch {
	case first, d.limit+band < s.limit: // hakmem needs the room
		s.limit = d.limit
	case s.limit < d.least || s.limit+band < low:
		s.limit = max(d.least, low)
	}
	return s.limit
}
