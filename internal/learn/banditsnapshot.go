package learn

import (
	"fmt"
	"math"
	"slices"
)

// BanditSnapshot is what a Bandit has learnt, in a form that can be stored and given to another Bandit
// with as many arms. It says nothing about which arms are ruled out: that depends on the machine.
type BanditSnapshot struct {
	Arms      []BanditArm
	Low, High float64 // the range of the costs
	Adopted   int     // the adopted arm
}

// BanditArm is what is known of an arm. The weight of a play is 1 when it is counted, and falls with each
// later play of any arm.
type BanditArm struct {
	Plays   uint64  // all that were counted
	Weight  float64 // the sum of the weights of plays, 0 if nothing is known of the arm
	Squares float64 // the sum of their squares
	Mean    float64 // of the costs, weighted
	Spread  float64 // the weighted sum of the squares of their distances from the mean
}

// Snapshot returns what b has learnt. It allocates.
func (b *Bandit) Snapshot() BanditSnapshot {
	s := BanditSnapshot{Low: b.low, High: b.high, Adopted: b.adopted}
	for i := range b.arms {
		a := &b.arms[i]
		s.Arms = append(s.Arms, BanditArm{a.plays, a.weight, a.squares, a.mean, a.spread})
	}
	return s
}

// Restore replaces what b has learnt. Its rules stay, and the arms that are ruled out. If the adopted arm
// of s is one of these, the cheapest of the others is adopted. Comparisons begin anew. If s is damaged,
// Restore returns an error and changes nothing.
func (b *Bandit) Restore(s BanditSnapshot) error {
	if len(s.Arms) != len(b.arms) {
		return fmt.Errorf("learn: the snapshot has %d arms, want %d", len(s.Arms), len(b.arms))
	}
	if s.Adopted < 0 || s.Adopted >= len(s.Arms) {
		return fmt.Errorf("learn: the snapshot has adopted arm %d of %d", s.Adopted, len(s.Arms))
	}
	if !sensible(s.Low) || !sensible(s.High) || s.Low > s.High {
		return fmt.Errorf("learn: the snapshot has costs from %g to %g", s.Low, s.High)
	}
	for i, a := range s.Arms {
		if !a.valid() {
			return fmt.Errorf("learn: arm %d of the snapshot cannot be: %+v", i, a)
		}
	}
	for i, a := range s.Arms {
		b.arms[i] = banditArm{a.Plays, a.Weight, a.Squares, a.Mean, a.Spread, b.arms[i].out}
	}
	b.low, b.high = s.Low, s.High
	b.adopted = s.Adopted
	if b.arms[b.adopted].out {
		b.adopted = b.cheapest()
	}
	b.candidate, b.streak, b.cooldown = b.adopted, 0, 0
	return nil
}

// Plays returns how many plays of all arms were counted.
func (s BanditSnapshot) Plays() (n uint64) {
	for _, a := range s.Arms {
		n += a.Plays
	}
	return n
}

// scaled returns s with each cost multiplied by f.
func (s BanditSnapshot) scaled(f float64) BanditSnapshot {
	s.Arms = slices.Clone(s.Arms)
	for i := range s.Arms {
		s.Arms[i].Mean *= f
		s.Arms[i].Spread *= f * f
	}
	s.Low *= f
	s.High *= f
	return s
}

// weighed returns s and o together, whose costs are in one unit: a part f of what is known is that of s, and
// the rest that of o. Of the two adopted arms it has the one that costs less then; of two that cost the same,
// or are not known, that of s.
func (s BanditSnapshot) weighed(o BanditSnapshot, f float64) BanditSnapshot {
	both := BanditSnapshot{Low: min(s.Low, o.Low), High: max(s.High, o.High), Adopted: s.Adopted}
	for i := range s.Arms {
		both.Arms = append(both.Arms, s.Arms[i].weighed(o.Arms[i], f))
	}
	x, y := both.Arms[s.Adopted], both.Arms[o.Adopted]
	if y.Weight > 0 && (x.Weight == 0 || y.Mean < x.Mean) {
		both.Adopted = o.Adopted
	}
	return both
}

// weighed is BanditSnapshot.weighed for an arm.
func (a BanditArm) weighed(o BanditArm, f float64) BanditArm {
	x, y := f*a.Weight, (1-f)*o.Weight
	both := BanditArm{Plays: a.Plays + o.Plays, Weight: x + y}
	if both.Weight < leastWeight {
		both.Weight = 0
		return both
	}
	both.Squares = f*f*a.Squares + (1-f)*(1-f)*o.Squares
	both.Mean = (x*a.Mean + y*o.Mean) / both.Weight
	d := a.Mean - o.Mean
	both.Spread = f*a.Spread + (1-f)*o.Spread + d*d*x*y/both.Weight
	return both
}

// valid reports whether plays can have led to this.
func (a BanditArm) valid() bool {
	if a.Weight == 0 {
		return a.Squares == 0 && a.Mean == 0 && a.Spread == 0
	}
	const rounding = 1 + 1e-6
	return a.Weight >= leastWeight && a.Weight <= float64(a.Plays)*rounding &&
		a.Squares > 0 && a.Squares <= a.Weight*rounding &&
		sensible(a.Mean) && a.Spread >= 0 && !math.IsInf(a.Spread, 1)
}
