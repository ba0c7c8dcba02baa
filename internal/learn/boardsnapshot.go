package learn

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// BoardSnapshot is how the strategies stand on a Board, in a form that can be stored and given to another
// Board. It says nothing about recorded windows and the real match that goes on.
type BoardSnapshot struct {
	Strategies []Strategy // the list of that name
	Standings  []Standing // in the order of Strategies
}

// Snapshot returns how the strategies stand. It allocates.
func (b *Board) Snapshot() BoardSnapshot {
	return BoardSnapshot{slices.Clone(Strategies[:]), slices.Clone(b.players[:])}
}

// Restore replaces how the strategies stand. The recorded windows stay; the real match that goes on is
// given up, and a round begins. If s is damaged, or of other Strategies, Restore returns an error and
// changes nothing.
func (b *Board) Restore(s BoardSnapshot) error {
	if !slices.Equal(s.Strategies, Strategies[:]) {
		return errors.New("learn: the snapshot has other strategies")
	}
	if len(s.Standings) != nStrategies {
		return fmt.Errorf("learn: the snapshot has the standings of %d strategies, want %d", len(s.Standings), nStrategies)
	}
	var sum float64
	var wins, losses, draws uint64
	active := 0
	for i, p := range s.Standings {
		// Ratings of more than some thousand points would need matches against such players.
		if p.Strategy != i || !(math.Abs(p.Rating) < 1e6) {
			return fmt.Errorf("learn: standing %d of the snapshot cannot be: %+v", i, p)
		}
		if p.Wins+p.Losses+p.Draws > 0 && p.Samples < matchWindows {
			return fmt.Errorf("learn: standing %d of the snapshot has matches, but %d samples", i, p.Samples)
		}
		sum += p.Rating
		wins += p.Wins
		losses += p.Losses
		draws += p.Draws
		if p.Active {
			active++
		}
	}
	switch {
	case math.Abs(sum-nStrategies*startRating) > 0.001: // no more than rounding
		return fmt.Errorf("learn: the snapshot has %g points, want %d", sum, nStrategies*startRating)
	case wins != losses || draws%2 != 0:
		return fmt.Errorf("learn: the snapshot has %d wins, %d losses and %d draws", wins, losses, draws)
	case active != survivors && active != nStrategies:
		return fmt.Errorf("learn: the snapshot has %d active strategies, want %d or %d", active, survivors, nStrategies)
	}
	copy(b.players[:], s.Standings)
	b.open = false
	b.begin()
	return nil
}

// Leader returns the strategy that leads: that of Board.Leader.
func (s BoardSnapshot) Leader() Strategy { return s.Strategies[leaderOf(s.Standings)] }

// Matches returns how many matches were played.
func (s BoardSnapshot) Matches() (n uint64) {
	for _, p := range s.Standings {
		n += p.Wins + p.Losses + p.Draws
	}
	return n / 2 // each is in the books of two
}

// merge returns how the strategies stand by the matches of both: ratings are means, which count by the
// matches, so that their sum stays what it is. Those strategies are active that are so where more was played.
func (s *BoardSnapshot) merge(o *BoardSnapshot) *BoardSnapshot {
	switch {
	case s == nil || o != nil && s.Matches() == 0:
		return o
	case o == nil || o.Matches() == 0:
		return s
	}
	a, b := float64(s.Matches()), float64(o.Matches())
	more := s
	if b > a {
		more = o
	}
	both := BoardSnapshot{s.Strategies, slices.Clone(more.Standings)}
	for i := range both.Standings {
		p, x, y := &both.Standings[i], &s.Standings[i], &o.Standings[i]
		p.Rating = (a*x.Rating + b*y.Rating) / (a + b)
		p.Wins, p.Losses, p.Draws, p.Samples = x.Wins+y.Wins, x.Losses+y.Losses, x.Draws+y.Draws, x.Samples+y.Samples
	}
	return &both
}
