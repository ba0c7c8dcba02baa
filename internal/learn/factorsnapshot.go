package learn

import (
	"errors"
	"fmt"
	"slices"
)

// This file puts what is known of factors, those of W_MAX and of batches, into policy files.

// FactorSnapshot is what is known of the factors of which one is chosen, in a form that can be stored.
type FactorSnapshot struct {
	Factors []float64 // those to choose from, in the order of Arms
	BanditSnapshot
}

// WMaxSnapshot is what a WMax has learnt.
type WMaxSnapshot struct {
	FactorSnapshot
	// Lived is for how many seconds blocks that served smaller requests lived all together, and Died how many
	// of them did. Older ones count less.
	Lived, Died float64
}

// BatchSnapshot is what a Batch has learnt.
type BatchSnapshot struct {
	Kind uint32 // which kind of batch it is, below BatchKinds
	FactorSnapshot
}

// Snapshot returns what w has learnt. It allocates.
func (w *WMax) Snapshot() WMaxSnapshot { return WMaxSnapshot{w.snapshot(), w.alive, w.died} }

// Restore replaces what w has learnt. The adopted factor of s is in force until Factor names another one. If s
// is damaged, Restore returns an error and changes nothing.
func (w *WMax) Restore(s WMaxSnapshot) error {
	if err := s.check(); err != nil {
		return err
	}
	w.alive, w.died = s.Lived, s.Died
	return w.restore(s.FactorSnapshot)
}

// Snapshot returns what b has learnt. It allocates.
func (b *Batch) Snapshot() BatchSnapshot { return BatchSnapshot{b.kind, b.snapshot()} }

// Restore replaces what b has learnt. The adopted factor of s is in force until Arm names another one. If s is
// damaged, or of another kind of batch, Restore returns an error and changes nothing.
func (b *Batch) Restore(s BatchSnapshot) error {
	if s.Kind != b.kind {
		return fmt.Errorf("learn: the snapshot is of batches of kind %d, want %d", s.Kind, b.kind)
	}
	if err := checkBatches([]BatchSnapshot{s}); err != nil {
		return err
	}
	return b.restore(s.FactorSnapshot)
}

func (f *factorBandit) snapshot() FactorSnapshot {
	return FactorSnapshot{slices.Clone(f.factors), f.bandit.Snapshot()}
}

// restore replaces what is known by s, which was checked.
func (f *factorBandit) restore(s FactorSnapshot) error {
	err := f.bandit.Restore(s.BanditSnapshot)
	f.next(false)
	return err
}

// check returns an error if s could not be restored where factors are those to choose from.
func (s FactorSnapshot) check(factors []float64) error {
	if !slices.Equal(s.Factors, factors) {
		return fmt.Errorf("the policy file has the factors %v, this hakmem has %v: export it again", s.Factors, factors)
	}
	return newFactorBandit(factors).bandit.Restore(s.BanditSnapshot)
}

// Factor returns the factor that is adopted.
func (s FactorSnapshot) Factor() float64 { return s.Factors[s.Adopted] }

// check returns an error if s could not be restored.
func (s WMaxSnapshot) check() error {
	err := s.FactorSnapshot.check(WMaxFactors[:])
	if err == nil && (!sensible(s.Lived) || !sensible(s.Died)) {
		err = fmt.Errorf("%g blocks lived for %g s", s.Died, s.Lived)
	}
	if err != nil {
		return fmt.Errorf("learn: W_MAX: %w", err)
	}
	return nil
}

// checkBatches returns an error if what is known of batches could not be restored.
func checkBatches(list []BatchSnapshot) error {
	for i, s := range list {
		err := s.check(BatchFactors[:])
		switch {
		case s.Kind >= BatchKinds:
			err = fmt.Errorf("there are kinds 0 to %d", BatchKinds-1)
		case slices.ContainsFunc(list[:i], func(o BatchSnapshot) bool { return o.Kind == s.Kind }):
			err = errors.New("it is there twice")
		}
		if err != nil {
			return fmt.Errorf("learn: the size of batches of kind %d: %w", s.Kind, err)
		}
	}
	return nil
}

// merge returns what is known of factors together, and which part of it is that of s. Each counts by its
// plays. What a window costs depends on the machine and on how much a program does, so costs are compared as
// multiples of what the first factor, which changes nothing, costs in the same snapshot. Where that is not
// known, the one with more plays counts alone. Of two factors that were adopted the one that is cheaper
// in all stays.
func (s FactorSnapshot) merge(o FactorSnapshot) (both FactorSnapshot, part float64) {
	a, b := float64(s.Plays()), float64(o.Plays())
	part = 1
	if a < b {
		part = 0
	}
	both = s
	if part == 0 {
		both = o
	}
	if x, y := s.Arms[0].Mean, o.Arms[0].Mean; a > 0 && b > 0 && x > 0 && y > 0 {
		f := a / (a + b)
		weighed := FactorSnapshot{s.Factors, s.BanditSnapshot.weighed(o.BanditSnapshot.scaled(x/y), f)}
		if weighed.check(s.Factors) == nil { // else the costs are too far apart for numbers
			return weighed, f
		}
	}
	return both, part
}

// merge returns what s and o have learnt of W_MAX.
func (s *WMaxSnapshot) merge(o *WMaxSnapshot) *WMaxSnapshot {
	switch {
	case s == nil:
		return o
	case o == nil:
		return s
	}
	both, f := s.FactorSnapshot.merge(o.FactorSnapshot)
	return &WMaxSnapshot{both, f*s.Lived + (1-f)*o.Lived, f*s.Died + (1-f)*o.Died}
}

// mergeBatches returns what both lists know of batches, by kinds.
func mergeBatches(list, others []BatchSnapshot) []BatchSnapshot {
	merged := slices.Clone(list)
	for _, o := range others {
		i := slices.IndexFunc(merged, func(s BatchSnapshot) bool { return s.Kind == o.Kind })
		if i < 0 {
			merged = append(merged, o)
			continue
		}
		merged[i].FactorSnapshot, _ = merged[i].FactorSnapshot.merge(o.FactorSnapshot)
	}
	slices.SortFunc(merged, func(a, b BatchSnapshot) int { return int(a.Kind) - int(b.Kind) })
	return merged
}
