package learn

import (
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"
)

func TestBoardSnapshot(t *testing.T) {
	t.Parallel()
	p, best := newProgram(1, 0.15, 0.1, 0.05)
	b := NewBoard(1)
	p.record(b, 300)
	text, err := json.Marshal(b.Snapshot())
	if err != nil {
		t.Fatal(err)
	}
	var s BoardSnapshot
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	other := NewBoard(2)
	other.Pair()
	if err := other.Restore(s); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(b.Snapshot(), other.Snapshot()) || other.Leader() != best {
		t.Error("a Board that was restored differs")
	}
	if other.left != roundMatches*survivors {
		t.Errorf("a round of %d matches begins", other.left)
	}
	if use, against := other.Pair(); !other.players[use].Active || !other.players[against].Active {
		t.Errorf("%d and %d are to meet, and one is inactive", use, against)
	}
	p.record(other, matches50)
	checkPoints(t, other, 300-matchWindows+1+50)
	for _, bad := range []struct {
		says string
		do   func(*BoardSnapshot)
	}{
		{"other strategies", func(s *BoardSnapshot) { s.Strategies = s.Strategies[1:] }},
		{"other strategies", func(s *BoardSnapshot) { s.Strategies[3].Hold = 3 }},
		{"11 strategies", func(s *BoardSnapshot) { s.Standings = s.Standings[1:] }},
		{"standing 4", func(s *BoardSnapshot) { s.Standings[4].Strategy = 5 }},
		{"standing 4", func(s *BoardSnapshot) { s.Standings[4].Rating = math.NaN() }},
		{"standing 4", func(s *BoardSnapshot) { s.Standings[4].Rating = math.Inf(-1) }},
		{"49 samples", func(s *BoardSnapshot) { s.Standings[4].Samples = 49 }},
		{"points", func(s *BoardSnapshot) { s.Standings[4].Rating++ }},
		{"wins", func(s *BoardSnapshot) { s.Standings[4].Wins++ }},
		{"draws", func(s *BoardSnapshot) { s.Standings[4].Draws++ }},
		{"5 active", func(s *BoardSnapshot) { s.Standings[best].Active = false }},
	} {
		s := b.Snapshot()
		bad.do(&s)
		was := other.Snapshot()
		if err := other.Restore(s); err == nil || !strings.Contains(err.Error(), bad.says) {
			t.Errorf("a damaged snapshot: %v, want one about %s", err, bad.says)
		}
		if !reflect.DeepEqual(was, other.Snapshot()) {
			t.Errorf("a snapshot that is damaged (%s) changed the Board", bad.says)
		}
	}
	if err := other.Restore(NewBoard(3).Snapshot()); err != nil || other.Leader() != 0 {
		t.Errorf("one on which nothing was played was restored: %v", err)
	}
}
