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
