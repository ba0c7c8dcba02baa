package learn

import (
	"testing"
	"time"
)

// TestSentence: what is said of each kind of decision.
func TestSentence(t *testing.T) {
	for _, c := range []struct {
		d    Decision
		want string
	}{
		{Decision{Kind: KindHold, Where: 4, From: 2.3, To: 0.3, Predicted: 1.2e-4, Realised: 1.1e-4, Outcome: OutcomeRight, Applied: true},
			"At 12.3 s the hold time of free pages in band 4 went from 2.3 s to 300 ms, because waits there are longer than that would pay for; expected 1.2e-4 CPU s, became 1.1e-4."},
		{Decision{Kind: KindHold, Where: 0, From: 0, To: 64, Applied: true},
			"At 12.3 s the hold time of free pages in band 0 went from 0 s to 64 s, because waits there end soon enough to pay for it."},
		{Decision{Kind: KindHold, Where: 4, From: 2.3, To: 0.3, Predicted: 1.2e-4, Realised: 3e-4, Outcome: OutcomeWrong},
			"At 12.3 s the hold time of free pages in band 4 would have gone from 2.3 s to 300 ms, because waits there are longer than that would pay for; expected 1.2e-4 CPU s, would have become 3.0e-4, which was wrong."},
		{Decision{Kind: KindHold, Where: 15, From: 1, To: 1, Predicted: 0.5, Applied: true},
			"At 12.3 s the hold time of free pages in band 15 stayed at 1 s, because nothing else was cheaper; expected 0.5 CPU s."},
		{Decision{Kind: KindHold, Where: 15, From: 1, To: 1, Predicted: 250},
			"At 12.3 s the hold time of free pages in band 15 would have stayed at 1 s, because nothing else was cheaper; expected 2.5e2 CPU s."},
		{Decision{Kind: KindCache, Where: 1, From: 64 << 20, To: 96 << 20, Predicted: 0.02, Applied: true},
			"At 12.3 s the room of cache 1 went from 64 MiB to 96 MiB, because what it had no room for was soon needed again; expected 0.02 CPU s."},
		{Decision{Kind: KindCache, Where: 1, From: 64 << 20, To: 0, Applied: true},
			"At 12.3 s the room of cache 1 went from 64 MiB to 0 bytes, because what it holds is seldom needed again."},
		{Decision{Kind: KindRoom, Where: 12, From: 16 << 10, To: 24 << 10, Applied: true},
			"At 12.3 s the room of size class 12 in the caches went from 16 KiB to 24 KiB, because a byte there saves more slow paths than in other classes."},
		{Decision{Kind: KindRoom, Where: 12, From: 16 << 10, To: 1000, Applied: true},
			"At 12.3 s the room of size class 12 in the caches went from 16 KiB to 1000 bytes, because a byte saves more slow paths in other classes."},
		{Decision{Kind: KindLane, Where: 77, From: 0, To: 2, Applied: true},
			"At 12.3 s the lane of site 77 went from 0 to 2, because its blocks live about as long as those of that lane."},
		{Decision{Kind: KindFault, Where: 9, From: 4096, To: 65536, Applied: true},
			"At 12.3 s what size class 9 faults in at a time went from 4 KiB to 64 KiB, because what lies next to a first touch is mostly touched soon."},
		{Decision{Kind: KindFault, Where: 9, From: 2 << 20, To: 65536, Applied: true},
			"At 12.3 s what size class 9 faults in at a time went from 2 MiB to 64 KiB, because much of what was faulted in was not touched."},
		{Decision{Kind: KindClass, Where: 40, From: 40 << 10, To: 41 << 10, Applied: true},
			"At 12.3 s the block size of size class 40 went from 40 KiB to 41 KiB, because requests just above it are frequent."},
		{Decision{Kind: KindClass, Where: 40, From: 3 << 30, To: 3 << 29, Applied: true},
			"At 12.3 s the block size of size class 40 went from 3 GiB to 1.5 GiB, because most requests there are for less."},
		{Decision{Kind: KindLeader, Where: 2, From: 5, To: 3, Predicted: 1e-12, Realised: 0, Outcome: OutcomeRight, Applied: true},
			"At 12.3 s the lead on board 2 went from strategy 5 to strategy 3, because that strategy costs less in the same rounds; expected 1.0e-12 CPU s, became 0."},
		{Transition{ModeLearn, ModeFrozen, CauseSettled}.Decision(0),
			"At 12.3 s the mode of the learner went from LEARN to FROZEN, because its figures were steady for three windows."},
		{Transition{ModeCanary, ModeLearn, CauseSizes}.Decision(0),
			"At 12.3 s the mode of the learner went from CANARY to LEARN, because other sizes than usual were asked for in three windows."},
		{Transition{ModeFrozen, ModeFrozen, CauseNone}.Decision(0),
			"At 12.3 s the mode of the learner stayed at FROZEN, because nothing asks for another."},
		{Decision{Kind: KindPrice, From: 0.1, To: 0.4, Applied: true},
			"At 12.3 s the price of a GiB·s went from 0.1 CPU s to 0.4 CPU s, because the memory in use came nearer to the soft limit."},
		{Decision{Kind: KindPrice, From: 0.4, To: 0.1, Applied: true},
			"At 12.3 s the price of a GiB·s went from 0.4 CPU s to 0.1 CPU s, because the memory in use is further from the soft limit again."},
		{Decision{Kind: 200}, "At 12.3 s something was decided that this version of hakmem has no words for."},
		{Decision{Kind: KindHold, Why: 200}, "At 12.3 s something was decided that this version of hakmem has no words for."},
	} {
		c.d.At = 12345 * time.Millisecond
		if got := c.d.Sentence(); got != c.want {
			t.Errorf("%+v:\n got %s\nwant %s", c.d, got, c.want)
		}
	}
}
