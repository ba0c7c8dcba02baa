package engine

import (
	"testing"
	"time"

	"github.com/hakmem/hakmem/internal/learn"
	"github.com/hakmem/hakmem/internal/site"
)

// TestStateNamesSites: a decision about the lane of a site comes with the site's name.
func TestStateNamesSites(t *testing.T) {
	needSites(t)
	c := withClock(t)
	withLearner(t, learn.EvolutionLearn, learn.DecideNone)
	forgetLifetimes(t)
	waits(t, c.Advance, 2, 2500*time.Millisecond)
	s := laneSite(t, "named", LaneLong)
	waits(t, c.Advance, 2, 2500*time.Millisecond)
	state, ok := LearnerState()
	if !ok {
		t.Fatal("the scavenger hangs")
	}
	name, _, _ := site.Read(s)
	for _, d := range state.Decisions {
		if d.Kind == learn.KindLane && d.Where == uint32(s) {
			if got := state.Sites[d.Where]; got != name {
				t.Errorf("the site %d has the name %q, want %q", s, got, name)
			}
			return
		}
	}
	t.Errorf("no decision is about the site %d: %+v", s, state.Decisions)
}
