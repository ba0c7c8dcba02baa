package sim

import (
	"math"
	"time"

	"github.com/hakmem/hakmem/internal/learn"
)

// Recovery is how long policies take to find the best hold time after a change of regime.
type Recovery struct {
	Kind     string
	From, To time.Duration // the gaps between peaks before the change and after it
	Gaps     int           // how many the new regime has
	// Needed is how many of them pass, on average over the programs, until a policy costs at most
	// recovered times what the best arm for the regime costs, from then to the regime's end. It is Gaps if
	// it never does.
	Needed map[string]float64
}

// recovered is how close to the best arm a policy comes when it is taken to have found it: 10 %, half of
// what the learner costs over the optimum.
const recovered = 1.1

// gapMarks returns the times at which the gaps of a regime begin, and its end. A part of a gap counts to
// the one before it.
func (r Regime) gapMarks() []time.Duration {
	var marks []time.Duration
	for t := r.From; t+r.Gap <= r.To; t += r.Gap {
		marks = append(marks, t)
	}
	return append(marks, r.To)
}

// recover returns how many gaps of a new regime each of the makers' policies needs, by name, and how many
// the regime has: 0 if it is shorter than one.
func (p *Placed) recover(r Regime, makers []Maker, seed uint64, c learn.Costs) (needed map[string]int, gaps int) {
	marks := r.gapMarks()
	gaps = len(marks) - 1
	if gaps == 0 {
		return nil, 0
	}
	var best []float64
	least := math.Inf(1)
	for _, arm := range learn.Arms {
		curve := p.staticCurve(arm, c, marks)
		if x := curve[gaps] - curve[0]; x < least {
			least, best = x, curve
		}
	}
	needed = map[string]int{}
	for _, m := range makers {
		curve := p.run(m.New(c, seed), c, marks).Curve
		n := 0
		for n < gaps && curve[gaps]-curve[n] > recovered*(best[gaps]-best[n]) {
			n++
		}
		needed[m.Name] = n
	}
	return needed, gaps
}
