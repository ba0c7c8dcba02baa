package sim

import (
	"slices"
	"time"

	"github.com/hakmem/hakmem/internal/learn"
)

// curve returns what the waits of p have cost by each of the marks, which are in order, if kept says for
// how long the pages of a gap are kept. What comes after the last mark is left out. A page that is kept
// until its wait ends is not returned.
func (p *Placed) curve(c learn.Costs, marks []time.Duration, kept func(gap) time.Duration) []float64 {
	list := make([]float64, len(marks)+1) // the last one is what comes after all marks
	at := func(t time.Duration) int {
		i, _ := slices.BinarySearch(marks, t)
		return i
	}
	for _, g := range p.gaps {
		end := g.to
		if k := kept(g); g.to-g.from > k {
			end = g.from + k
			list[at(end)] += g.pages * c.Return
			if !g.last {
				list[at(g.to)] += g.pages * c.Fault
			}
		}
		for i, from := at(g.from), g.from; from < end; i++ {
			to := end
			if i < len(marks) {
				to = min(marks[i], end)
			}
			list[i] += g.pages * (to - from).Seconds() * c.Hold
			from = to
		}
	}
	for i := range marks[1:] {
		list[i+1] += list[i]
	}
	return list[:len(marks)]
}

// optimumCurve is the curve of the optimum. What a wait costs it depends on when the wait will end, so
// that for a while others may have paid less.
func (p *Placed) optimumCurve(c learn.Costs, marks []time.Duration) []float64 {
	return p.curve(c, marks, func(g gap) time.Duration {
		returned := c.Return
		if !g.last {
			returned += c.Fault
		}
		if (g.to-g.from).Seconds()*c.Hold <= returned {
			return Forever
		}
		return 0
	})
}

// staticCurve is the curve of a fixed hold time, with pages returned at ticks.
func (p *Placed) staticCurve(hold time.Duration, c learn.Costs, marks []time.Duration) []float64 {
	return p.curve(c, marks, func(g gap) time.Duration { return atTick(hold, (Tick-g.from%Tick)%Tick) })
}
