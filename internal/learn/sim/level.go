package sim

import "time"

// Level says how many pages a program uses from a time on.
type Level struct {
	At    time.Duration
	Pages int
}

// PlaceLevels returns the program whose demand is a list of levels, in the order of time. It ends at the
// time of the last one, whose level says nothing. A level takes the lowest pages: what is freed is always
// what was taken last, as nothing is known of blocks.
func PlaceLevels(name string, levels []Level) *Placed {
	last := len(levels) - 1
	p := &Placed{Name: name, Length: levels[last].At}
	var clock waitClock
	use := uint32(0)
	for _, l := range levels[:last] {
		want := uint32(l.Pages)
		switch {
		case want > use:
			p.runs = append(p.runs, run{l.At, use, want - use, true})
			clock.taken(use, want-use, l.At)
		case want < use:
			p.runs = append(p.runs, run{l.At, want, use - want, false})
			clock.freed(want, use-want, l.At)
		}
		use = want
		p.Pages = max(p.Pages, use)
	}
	p.end(&clock)
	return p
}
