package learn

import (
	"fmt"
	"math"
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
