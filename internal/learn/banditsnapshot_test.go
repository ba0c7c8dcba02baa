package learn

import (
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"
)

func TestBanditSnapshot(t *testing.T) {
	t.Parallel()
	m := newMachine(1, 0.3, 100, 50, 80, 70)
	b := NewBandit(4, DefaultBanditRules())
	m.play(b, 3000)
	text, err := json.Marshal(b.Snapshot())
	if err != nil {
		t.Fatal(err)
	}
	var s BanditSnapshot
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	other := NewBandit(4, DefaultBanditRules())
	if err := other.Restore(s); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(b.Snapshot(), other.Snapshot()) || b.Next() != other.Next() || other.Choice() != 1 {
		t.Error("a Bandit that was restored differs")
	}
	for _, bad := range []struct {
		says string
		do   func(*BanditSnapshot)
	}{
		{"3 arms", func(s *BanditSnapshot) { s.Arms = s.Arms[1:] }},
		{"adopted arm 4", func(s *BanditSnapshot) { s.Adopted = 4 }},
		{"adopted arm -1", func(s *BanditSnapshot) { s.Adopted = -1 }},
		{"costs from", func(s *BanditSnapshot) { s.Low = s.High + 1 }},
		{"costs from", func(s *BanditSnapshot) { s.High = math.NaN() }},
		{"costs from", func(s *BanditSnapshot) { s.Low = -1 }},
		{"arm 2", func(s *BanditSnapshot) { s.Arms[2].Mean = math.NaN() }},
		{"arm 2", func(s *BanditSnapshot) { s.Arms[2].Weight = -1 }},
		{"arm 2", func(s *BanditSnapshot) { s.Arms[2].Weight = 0 }},
		{"arm 2", func(s *BanditSnapshot) { s.Arms[2].Weight = math.NaN() }},
		{"arm 2", func(s *BanditSnapshot) { s.Arms[2].Weight = leastWeight / 2 }},
		{"arm 2", func(s *BanditSnapshot) { s.Arms[2].Plays = 1 }},
		{"arm 2", func(s *BanditSnapshot) { s.Arms[2].Squares = 0 }},
		{"arm 2", func(s *BanditSnapshot) { s.Arms[2].Squares = 2 * s.Arms[2].Weight }},
		{"arm 3", func(s *BanditSnapshot) { s.Arms[3].Spread = math.Inf(1) }},
		{"arm 3", func(s *BanditSnapshot) { s.Arms[3].Spread = -1 }},
	} {
		s := b.Snapshot()
		bad.do(&s)
		was := other.Snapshot()
		if err := other.Restore(s); err == nil || !strings.Contains(err.Error(), bad.says) {
			t.Errorf("a damaged snapshot: %v, want one about %s", err, bad.says)
		}
		if !reflect.DeepEqual(was, other.Snapshot()) {
			t.Errorf("a snapshot that is damaged (%s) changed the Bandit", bad.says)
		}
	}

	// Which arms are ruled out depends on the machine.
	here := NewBandit(4, DefaultBanditRules())
	here.RuleOut(1)
	if err := here.Restore(s); err != nil || !here.RuledOut(1) || here.Choice() != 3 || here.Next() == 1 {
		t.Errorf("the adopted arm is ruled out here, and arm %d is adopted, want the next best: %v", here.Choice(), err)
	}
	fresh := NewBandit(4, DefaultBanditRules())
	if err := other.Restore(fresh.Snapshot()); err != nil || other.Next() != 0 || other.Choice() != 0 {
		t.Errorf("one that knows nothing was restored: arm %d is the next: %v", other.Next(), err)
	}
}
