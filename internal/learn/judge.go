package learn

import "math"

// This file judges the decisions of a Model after the event: what they cost, what others would have cost
// on the same waits, and what would have been best. All of it follows from the waits, as the decisions do.

// HoldScales are the factors of hold times that are compared: those of Strategies.
var HoldScales = [...]float64{0.25, 0.5, 1, 2}

// Judgement is about the waits that were noted since the Judgement before. Costs are in the unit of Costs.
type Judgement struct {
	Waits    float64 // how many there were, of those that ended and those that became long
	Realised float64 // what they cost with the hold times in force
	Best     float64 // what they would have cost with the best hold time of each band, in hindsight
	// Scaled is what they would have cost with the model's hold times times each of HoldScales. Memory is
	// in page seconds.
	Scaled [len(HoldScales)]Sample
	// Bands has what the waits in each band cost.
	Bands [Bands]struct{ Waits, Realised float64 }
	// Candidate and Rest are about the chunks of a trial (SetTrial) and about the others: what their waits
	// cost, over what they would have cost at best.
	Candidate, Rest Tally
}

// Dearness returns what the decisions cost over the best ones in hindsight, 0 if nothing is known.
func (j Judgement) Dearness() float64 {
	if j.Best == 0 {
		return 0
	}
	return j.Realised / j.Best
}

// judged is what a Model has seen since the last Judgement.
type judged struct {
	seen, trial [Bands]band
	waits       float64
	realised    float64
	bands       [Bands]struct{ Waits, Realised float64 }
	scaled      [len(HoldScales)]outcome
	candidate   outcome
}

// trialOf is a trial of other hold times on some chunks.
type trialOf struct {
	scale   float64
	scaling scaling
	in      func(chunk uint32) bool // nil: there is no trial
}

// SetScale multiplies all hold times by a factor, from now on. It is 1 in a new Model. It panics if the
// factor is not positive and finite.
func (m *Model) SetScale(scale float64) {
	if !(scale > 0) || math.IsInf(scale, 1) {
		panic("learn: the factor of hold times must be positive")
	}
	if scale != m.scale {
		m.scale, m.scaling = scale, scaledBy(scale)
	}
}

// Freeze leaves the hold times as they are, until Freeze(false). What is seen meanwhile is judged and
// forgotten.
func (m *Model) Freeze(frozen bool) { m.frozen = frozen }

// SetTrial multiplies the hold times of those chunks by scale that are in the trial. With in nil there is
// none any more. A chunk is ChunkPages pages.
func (m *Model) SetTrial(scale float64, in func(chunk uint32) bool) {
	m.trial = trialOf{scale, scaledBy(scale), in}
}

// Judge returns the Judgement of what was seen before the last Tick.
func (m *Model) Judge() (j Judgement) {
	d := &m.judged
	j.Waits, j.Realised, j.Bands = d.waits, d.realised, d.bands
	var trialBest float64
	for i := range d.seen {
		j.Best += m.best(&d.seen[i])
		if m.trial.in != nil {
			trialBest += m.best(&d.trial[i])
		}
	}
	for s, o := range d.scaled {
		j.Scaled[s] = Sample{CPU: o.faults*m.costs.Fault + o.returns*m.costs.Return, Faults: o.faults, Memory: o.held}
	}
	if m.trial.in != nil {
		j.Candidate = tallyOf(d.candidate.at(m.costs), trialBest, d.trial[:])
		j.Rest = tallyOf(d.realised-d.candidate.at(m.costs), j.Best-trialBest, nil)
		j.Rest.Decisions = uint32(min(max(d.waits-float64(j.Candidate.Decisions), 0), math.MaxUint32))
		j.Rest.Cost *= float64(j.Rest.Decisions)
	}
	*d = judged{}
	return j
}

// tallyOf returns what decisions about the waits in bands cost over the best ones. Without bands it is the
// cost of one.
func tallyOf(cost, best float64, bands []band) (t Tally) {
	n := 0.0
	for i := range bands {
		n += bands[i].all()
	}
	t.Decisions = uint32(min(n, math.MaxUint32))
	if best > 0 {
		t.Cost = cost / best
		if bands != nil {
			t.Cost *= float64(t.Decisions)
		}
	}
	return t
}

// all returns how many waits b has, those that were counted as open before they ended too.
func (b *band) all() float64 {
	n := b.mass()
	for k := range b.late.n {
		n += b.late.n[k]
	}
	return n
}

// best returns what the waits of b would have cost with the best arm.
func (m *Model) best(b *band) float64 {
	best := math.Inf(1)
	for _, c := range m.cost(b) {
		best = min(best, c)
	}
	return best
}

// judge adds what came of the waits that were noted since the last Tick in band i. The hold times are those
// that were in force when the waits ended.
func (m *Model) judge(i int, fresh, trial *band) {
	d := &m.judged
	d.waits += fresh.all()
	d.seen[i].add(fresh, 1)
	out := fresh.outcomes(m.long.Seconds())
	for s := range holdScalings {
		d.scaled[s].add(m.mixed(i, &out, &holdScalings[s]))
	}
	realised := m.mixed(i, &out, &m.scaling)
	d.realised += realised.at(m.costs)
	d.bands[i].Waits += fresh.all()
	d.bands[i].Realised += realised.at(m.costs)
	if m.trial.in != nil {
		d.trial[i].add(trial, 1)
		out := trial.outcomes(m.long.Seconds())
		with, without := m.mixed(i, &out, &m.trial.scaling), m.mixed(i, &out, &m.scaling)
		more := with.at(m.costs) - without.at(m.costs)
		d.realised += more
		d.bands[i].Realised += more
		d.candidate.add(with)
	}
}

func (o *outcome) add(x outcome) {
	o.faults += x.faults
	o.returns += x.returns
	o.held += x.held
}

// expected returns what a wait in band i costs by what was seen, with the hold times in force; 0 if little
// was seen.
func (m *Model) expected(i int) float64 {
	b := &m.seen[i]
	n := b.all()
	if n < m.size() {
		return 0
	}
	out := b.outcomes(m.long.Seconds())
	return m.mixed(i, &out, &m.scaling).at(m.costs) / n
}

// mixed returns what comes of waits in band i, with the arms of the band in their shares, scaled.
func (m *Model) mixed(i int, out *[nArms]outcome, by *scaling) (o outcome) {
	before := float32(0)
	for a, s := range m.share[i] {
		f := float64(s - before)
		before = s
		x := &out[by[a]]
		o.add(outcome{f * x.faults, f * x.returns, f * x.held})
	}
	return o
}

// scaling says which arm is nearest to each arm times a factor.
type scaling [nArms]uint8

// scaledBy returns the scaling by a factor. Nearest is by the ratio of the two hold times, where 0.05 s stand
// for 0.
func scaledBy(scale float64) (to scaling) {
	for a, h := range Arms {
		hold, least := scale*h.Seconds(), math.Inf(1)
		for b, x := range Arms {
			if d := math.Abs(math.Log((x.Seconds() + 0.05) / (hold + 0.05))); d < least {
				least, to[a] = d, uint8(b)
			}
		}
	}
	return to
}

// holdScalings are the scalings by HoldScales.
var holdScalings = func() (list [len(HoldScales)]scaling) {
	for i, s := range HoldScales {
		list[i] = scaledBy(s)
	}
	return list
}()
