package sim

import (
	"slices"
	"testing"
	"time"

	"github.com/hakmem/hakmem/internal/learn"
)

// TestRecover: after a change from gaps of 0.5 s to gaps of 6 s, an arm that suits the new regime needs
// none of them, one that suits the old regime all, and one that changes in the middle the half.
func TestRecover(t *testing.T) {
	t.Parallel()
	c := CostsAt(0.13) // break-even is 1.9 s
	var levels []Level
	for at := time.Duration(0); at < 60*sec; at += sec / 2 {
		levels = append(levels, Level{at, 100}, Level{at + sec/10, 0})
	}
	for at := 60 * sec; at < 180*sec; at += 6 * sec {
		levels = append(levels, Level{at, 100}, Level{at + sec, 0})
	}
	p := PlaceLevels("", append(levels, Level{180 * sec, 0}))
	fixed := func(hold time.Duration) Maker {
		return Maker{hold.String(), func(learn.Costs, uint64) Policy { return Fixed(hold) }}
	}
	makers := []Maker{fixed(0), fixed(3 * sec), {"switch", func(learn.Costs, uint64) Policy { return &switching{at: 120 * sec} }}, {"learner", Learner}}
	needed, gaps := p.recover(Regime{60 * sec, 180 * sec, 6 * sec}, makers, 1, c)
	if gaps != 20 || needed["0s"] != 0 || needed["3s"] != 20 || needed["switch"] != 10 {
		t.Errorf("of %d gaps %v are needed", gaps, needed)
	}
	if n := needed["learner"]; n < 1 || n > 8 {
		t.Errorf("the learner needs %d gaps", n)
	}
	if _, gaps := p.recover(Regime{60 * sec, 65 * sec, 6 * sec}, makers, 1, c); gaps != 0 {
		t.Errorf("%d gaps in a regime that is shorter than one", gaps)
	}
}

// switching keeps pages for 3 s before a time and not at all from then on.
type switching struct {
	blind
	at, now time.Duration
}

func (s *switching) Tick(now time.Duration) { s.now = now }

func (s *switching) Hold(uint32) time.Duration {
	if s.now < s.at {
		return 3 * sec
	}
	return 0
}

func TestRegimes(t *testing.T) {
	t.Parallel()
	if list := Regimes("saw1", testLength); list != nil {
		t.Errorf("%v", list)
	}
	want := []Regime{{0, 100 * sec, sec / 2}, {100 * sec, 200 * sec, 6 * sec}, {200 * sec, 300 * sec, sec / 2}}
	if list := Regimes("shiftA", 300*sec); !slices.Equal(list, want) {
		t.Errorf("%v, want %v", list, want)
	}
	for kind := range shifts {
		if !slices.Contains(Kinds(), kind) {
			t.Errorf("%s is no kind", kind)
		}
	}
}
