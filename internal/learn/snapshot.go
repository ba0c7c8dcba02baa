package learn

import (
	"errors"
	"fmt"
	"math"
)

// Snapshot is what a Model has learnt, in a form that can be stored and given to another Model, and what
// is known of sites and of block sizes. It says nothing about the pages that wait.
type Snapshot struct {
	Costs Costs
	Pages uint32 // one more than the highest page in use
	Bands []Band // Bands of them
	All   Band   // of all bands together, which forget at another pace
	// Holes is what another Model has learnt, of slabs, or nil, Sites has the rules of sites, Sizes the block
	// sizes that were added, and Touch says how memory is faulted in, or is nil. WMax and Batches have the
	// factors of W_MAX and of batches, and Board how the strategies stand, or nothing. A Model neither has nor
	// takes any of these.
	Holes   *Snapshot       `json:",omitempty"`
	Sites   []SiteRule      `json:",omitempty"`
	Sizes   []BlockSize     `json:",omitempty"`
	Touch   *TouchSnapshot  `json:",omitempty"`
	WMax    *WMaxSnapshot   `json:",omitempty"`
	Batches []BatchSnapshot `json:",omitempty"`
	Board   *BoardSnapshot  `json:",omitempty"`
}

// onlyModel reports whether s has nothing but what a Model has learnt.
func (s *Snapshot) onlyModel() bool {
	return s.Holes == nil && s.Sites == nil && s.Sizes == nil && s.Touch == nil && s.WMax == nil && s.Batches == nil && s.Board == nil
}

// Band is what is known of the waits in a band. The slices have an entry for each of the Arms: waits up
// to that time that are longer than the arm before. One entry more has the longer ones. Older waits
// count less, so that numbers are no integers.
type Band struct {
	Ended, EndedSeconds []float64 // waits, and their sum
	Late, LateSeconds   []float64 // those of waits that were in Open before
	Open                float64   // waits that were long when they were counted, ended or not
}

// Snapshot returns what m has learnt. Only what was noted before the last Tick is in it.
func (m *Model) Snapshot() Snapshot {
	s := Snapshot{Costs: m.costs, Pages: m.pages, All: exported(&m.all)}
	for i := range m.seen {
		s.Bands = append(s.Bands, exported(&m.seen[i]))
	}
	return s
}

func exported(b *band) Band {
	list := func(x [nArms + 1]float64) []float64 { return append([]float64(nil), x[:]...) }
	return Band{Ended: list(b.ended.n), EndedSeconds: list(b.ended.s), Late: list(b.late.n), LateSeconds: list(b.late.s), Open: b.open}
}

// Restore replaces what m has learnt. The costs and the pages that wait stay. If s is damaged, it returns
// an error and changes nothing.
func (m *Model) Restore(s Snapshot) error {
	if len(s.Bands) != Bands {
		return fmt.Errorf("learn: the snapshot has %d bands, want %d", len(s.Bands), Bands)
	}
	var seen [Bands]band
	for i := range seen {
		if err := s.Bands[i].imported(&seen[i]); err != nil {
			return fmt.Errorf("learn: band %d of the snapshot: %w", i, err)
		}
	}
	var all band
	if err := s.All.imported(&all); err != nil {
		return fmt.Errorf("learn: all bands of the snapshot: %w", err)
	}
	m.seen, m.all = seen, all
	m.grow(s.Pages)
	for i := range m.share {
		m.choose(i)
	}
	return nil
}

// imported puts what is known of a band into x.
func (b *Band) imported(x *band) error {
	for _, l := range []struct {
		from []float64
		to   *[nArms + 1]float64
	}{{b.Ended, &x.ended.n}, {b.EndedSeconds, &x.ended.s}, {b.Late, &x.late.n}, {b.LateSeconds, &x.late.s}} {
		if len(l.from) != len(l.to) {
			return fmt.Errorf("a list has %d entries, want %d", len(l.from), len(l.to))
		}
		copy(l.to[:], l.from)
	}
	x.open = b.Open
	for _, w := range [...]waits{x.ended, x.late} {
		for k := range w.n {
			if !sensible(w.n[k]) || !sensible(w.s[k]) {
				return errors.New("a number is negative, or no number")
			}
		}
	}
	if !sensible(x.open) {
		return errors.New("a number is negative, or no number")
	}
	return nil
}

// sensible reports whether x can be a weighted sum of waits. Sums beyond 1e18 would lose what is added.
func sensible(x float64) bool { return x >= 0 && x < 1e18 && !math.IsNaN(x) }
