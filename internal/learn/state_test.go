package learn

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

// madeUp returns a State in which every field that is exported has a value of its own.
func madeUp() State {
	return State{
		Evolution: EvolutionSnapshot{
			Policy: EvolutionAuto, Mode: ModeFrozen, Since: time.Minute, Now: 400 * time.Second,
			EvolutionCounts: EvolutionCounts{Windows: 200, Freezes: 3, Relearns: 2},
		},
		Board: []Standing{
			{Strategy: 2, Rating: 1623.4, Wins: 21, Losses: 4, Draws: 6, Samples: 128, Active: true},
			{Strategy: 9, Rating: 1376.6, Wins: 4, Losses: 21, Draws: 6, Samples: 77},
		},
		Strategy: Strategies[2],
		Decisions: []Decision{
			{At: 50 * time.Second, Kind: KindHold, Where: 4, From: 2.3, To: 0.3, Predicted: 1.2e-4, Realised: 1.1e-4, Outcome: OutcomeRight, Applied: true},
			{At: 52 * time.Second, Kind: KindHold, Where: 1, From: 2, To: 0.3, Applied: true},
			{At: 52 * time.Second, Kind: KindHold, Where: 2, From: 1, To: 4, Applied: true},
			{At: 52 * time.Second, Kind: KindHold, Where: 3, From: 2, To: 0.5, Applied: true},
			{At: 55 * time.Second, Kind: KindLane, Where: 7, From: 0, To: 1, Applied: true},
			{At: 55 * time.Second, Kind: KindLane, Where: 8, From: 0, To: 1, Applied: true},
			{At: 60 * time.Second, Kind: KindEvolution, From: float64(ModeLearn), To: float64(ModeFrozen), Why: CauseSettled, Applied: true},
		},
		Hindsight: []Hindsight{
			{Kind: KindHold, Decisions: 9, Applied: 9, Settled: 7, Right: 6, MeanRegret: 1e-6},
			{Kind: KindEvolution, Decisions: 5, Applied: 5},
		},
		Memory: Memory{
			Resident: 96 << 20, Live: 64 << 20, Caches: 3 << 20, Budget: 20 << 20, Huge: 5 << 20, Free: 8 << 20,
			Returned: 2 << 30, Again: 100 << 20, Price: 0.1, Even: 2.3, Hold: 1.25, Holes: 0.7, Soft: 1 << 30,
		},
		Sites: map[uint32]string{7: "a \"cache\""},
		Thresholds: []ThresholdStanding{
			{Cost: 4e-7}, {Bytes: 2 << 20, Cost: 8e-7, Plays: 12}, {Bytes: 128 << 10, Cost: 6e-7, Plays: 34, Chosen: true},
		},
		Touch: []TouchInForce{{TouchWhere(0, 2), TouchPopulate}, {TouchWhere(9, 6), TouchHuge}},
	}
}

const explainedMadeUp = `hakmem has 96 MiB of memory here; 64 MiB of it are live blocks.
Caches hold 3 MiB of free blocks, so that allocations need no lock. Together they may hold 20 MiB, which is more.
Blocks above 2 MiB and blocks of sites that were freed lately hold 5 MiB.
Free pages still have 8 MiB. They are kept for 1.3 s on average: at 0.1 CPU s for a GiB·s, keeping a page for 2.3 s costs as much as returning it and faulting it in again, and how long pages waited so far says the rest.
The memory of free blocks in slabs that also have live ones is returned when nobody took blocks from the slab for 700 ms.
Of 2 GiB returned so far, 100 MiB were wanted again soon, which cost page faults.
Near the soft limit of 1 GiB the price of memory rises, and everything goes back sooner.
The memory of fresh blocks of 4 to 7 pages comes before the program gets them, with one call.
The memory of fresh blocks of 64 pages or more of site 9 comes before the program gets them, with huge pages.

The learner is in FROZEN for 340 s, by the policy auto. It froze 3 times and learnt again 2 times.
In force are hold times times 1 and a budget times 2.
Caches cost 4.0e-7 CPU s for each block above 32 KiB that its magazine did not have. If blocks above a fixed size went back to the system at once, a bandit would have chosen 128 KiB, at 6.0e-7 CPU s.
Of 9 decisions of the kind "hold" the outcome of 7 is known; 6 were right.
5 decisions are of the kind "evolution".
The last decisions, in time since the learner's first window:
  At 50 s the hold time of free pages in band 4 went from 2.3 s to 300 ms, because waits there are longer than that would pay for; expected 1.2e-4 CPU s, became 1.1e-4.
  At 52 s the hold time of free pages in band 2 went from 1 s to 4 s, because waits there end soon enough to pay for it.
  At 52 s the hold times of free pages in 2 bands went from 2 s to 300 ms - 500 ms, because waits there are longer than that would pay for.
  At 55 s the lane for blocks of site "a \"cache\"" went from the common one to the long one, because they live longer than those of most sites.
  At 55 s the lane for blocks of site 8 went from the common one to the long one, because they live longer than those of most sites.
  At 60 s the mode of the learner went from LEARN to FROZEN, because its figures were steady for three windows.
`

const boardMadeUp = `rank  hold times  budget     rating   wins  losses  draws   windows
   1  x 1         x 2          1623     21       4      6       128
   2  x 0.25      x 1          1377      4      21      6        77  inactive

returned above      CPU s  of caches  windows
none: caches       4.0e-7        x 1        0
2 MiB              8.0e-7        x 2       12
128 KiB            6.0e-7      x 1.5       34  chosen by the bandit
`

func explanation(t *testing.T, s State) string {
	t.Helper()
	var b strings.Builder
	if err := s.Explain(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestExplain: what is said of a State, and what is left out where there is nothing to say.
func TestExplain(t *testing.T) {
	if got := explanation(t, madeUp()); got != explainedMadeUp {
		t.Errorf("got\n%s\nwant\n%s", got, explainedMadeUp)
	}
	for _, test := range []struct {
		name      string
		change    func(*State)
		says, not string
	}{
		{"caches above their budget", func(s *State) { s.Memory.Caches = 21 << 20 }, "may hold 20 MiB, which is less: each time that the scavenger looks, their memory becomes dearer.", "as that is less"},
		{"more alive than resident", func(s *State) { s.Memory.Live = 128 << 20 }, "96 MiB of memory here. The live blocks have 128 MiB; some of that was not written to yet", "of it are"},
		{"no huge blocks", func(s *State) { s.Memory.Huge = 0 }, "Free pages", "above 2 MiB"},
		{"nothing returned", func(s *State) { s.Memory.Returned = 0 }, "Free pages", "returned so far"},
		{"no limit", func(s *State) { s.Memory.Soft = 0 }, "Free pages", "soft limit"},
		{"nothing learnt", func(s *State) { s.Evolution.Policy = EvolutionOff }, "Nothing is learnt: HAKMEM_EVO is off", "The learner is in"},
		{"no strategy", func(s *State) { s.Strategy = Strategies[0] }, "It froze", "In force"},
		{"only noted", func(s *State) {
			for i := range s.Decisions {
				s.Decisions[i].Applied = false
			}
		}, "2 bands would have gone from 2 s to 300 ms - 500 ms", "bands went"},
		{"no decisions", func(s *State) { s.Decisions = nil }, "Nothing has been decided yet: the learner needs a few windows of 2s", "The last decisions"},
		{"no thresholds", func(s *State) { s.Thresholds = nil }, "It froze", "a bandit"},
		{"many decisions", func(s *State) {
			for i := range 30 {
				s.Decisions = append(s.Decisions, Decision{At: time.Duration(100+i) * time.Second, Kind: KindPrice, From: 1, To: 2})
			}
		}, "At 118 s", "At 117 s"},
	} {
		s := madeUp()
		test.change(&s)
		if got := explanation(t, s); !strings.Contains(got, test.says) || strings.Contains(got, test.not) {
			t.Errorf("%s: want %q, and not %q:\n%s", test.name, test.says, test.not, got)
		}
	}
}

func TestWriteBoard(t *testing.T) {
	var b strings.Builder
	if err := madeUp().WriteBoard(&b); err != nil || b.String() != boardMadeUp {
		t.Errorf("%v, got\n%s\nwant\n%s", err, b.String(), boardMadeUp)
	}
}

var errFull = errors.New("no room")

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errFull }

// TestStateWriters: the errors of writers are returned.
func TestStateWriters(t *testing.T) {
	if err := madeUp().Explain(full{}); !errors.Is(err, errFull) {
		t.Errorf("Explain = %v", err)
	}
	if err := madeUp().WriteBoard(full{}); !errors.Is(err, errFull) {
		t.Errorf("WriteBoard = %v", err)
	}
}

// TestReadState: the state in a policy file is what was written. One that is missing or damaged is refused.
func TestReadState(t *testing.T) {
	s := madeUp()
	var b strings.Builder
	if err := New(testCosts).Snapshot().Write(&b, &s); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	if got, err := ReadState(strings.NewReader(text)); err != nil || !reflect.DeepEqual(got, s) {
		t.Errorf("%v, got\n%+v\nwant\n%+v", err, got, s)
	}
	if _, err := ReadSnapshot(strings.NewReader(text)); err != nil {
		t.Errorf("a file with a state: %v", err)
	}
	for says, bad := range map[string]string{
		"how the learner stood":      fileOf(t, New(testCosts).Snapshot()),
		"no strategy 12":             strings.Replace(text, `"Strategy": 9`, `"Strategy": 12`, 1),
		"no strategy -1":             strings.Replace(text, `"Strategy": 9`, `"Strategy": -1`, 1),
		"damaged":                    strings.Replace(text, `"FROZEN"`, `"THAWED"`, 1),
		`no kind of decision "moon"`: strings.Replace(text, `"kind": "lane"`, `"kind": "moon"`, 1),
		"no policy file":             text[:len(text)/2],
	} {
		if bad == text {
			t.Fatalf("%s: the file was not changed:\n%s", says, text)
		}
		if got, err := ReadState(strings.NewReader(bad)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, %+v", says, err, got)
		}
		// What a process begins with does not depend on it.
		_, err := ReadSnapshot(strings.NewReader(bad))
		if whole := json.Valid([]byte(bad)); (err == nil) != whole {
			t.Errorf("%s: ReadSnapshot: %v", says, err)
		}
	}
}

// TestLearnerState: the state of a Learner has what it saw and what it decided.
func TestLearnerState(t *testing.T) {
	d := newDemand(EvolutionLearn, DecideNone)
	d.windows(60, time.Second)
	d.l.NotePrice(0.1)
	d.l.NotePrice(0.2)
	s := d.l.State()
	if s.Evolution != d.l.Evolution().Snapshot() || s.Evolution.Windows != 60 || len(s.Board) != nStrategies || s.Strategy != d.l.Strategy() || !reflect.DeepEqual(s.Hindsight, d.l.Log().Hindsight()) {
		t.Errorf("%+v", s)
	}
	for i, p := range s.Board[1:] {
		if before := s.Board[i]; before.Active && p.Active && before.Rating < p.Rating {
			t.Errorf("place %d has %g points, the next one %g", i+1, before.Rating, p.Rating)
		}
	}
	if last := s.Decisions[len(s.Decisions)-1]; last.Kind != KindPrice || last.To != 0.2 {
		t.Errorf("the last decision is %+v", last)
	}
}
