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
		{Decision{Kind: KindBudget, From: 64 << 20, To: 96 << 20, Predicted: 0.02, Applied: true},
			"At 12.3 s what caches may hold together went from 64 MiB to 96 MiB, because more goroutines use caches of their own, or more memory is in use; expected 0.02 CPU s."},
		{Decision{Kind: KindBudget, From: 3 << 29, To: 1000, Applied: true},
			"At 12.3 s what caches may hold together went from 1.5 GiB to 1000 bytes, because fewer goroutines use caches of their own, and less memory is in use."},
		{Decision{Kind: KindBudget, From: 16 << 10, To: 0, Applied: true},
			"At 12.3 s what caches may hold together went from 16 KiB to 0 bytes, because fewer goroutines use caches of their own, and less memory is in use."},
		{Decision{Kind: KindLane, Where: 77, From: 0, To: 1, Applied: true},
			"At 12.3 s the lane for blocks of site 77 went from the common one to the long one, because they live longer than those of most sites."},
		{Decision{Kind: KindLane, Where: 77, From: 1, To: 0, Applied: true},
			"At 12.3 s the lane for blocks of site 77 went from the long one to the common one, because they are freed as soon as those of most sites."},
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
		{Decision{Kind: KindSize, Where: 4224, From: 4608, To: 4224, Applied: true},
			"At 12.3 s the size of blocks for requests of up to 4224 bytes went from 4608 bytes to 4224 bytes, because so many have such a size that the difference adds up."},
		{Decision{Kind: KindTouch, Where: TouchWhere(0, 0), From: 0, To: 1, Predicted: 4e-7, Applied: true},
			"At 12.3 s the way in which the memory of fresh blocks of 1 page comes went from \"fault\" to \"populate\", because that costs less for each page that is used; expected 4.0e-7 CPU s."},
		{Decision{Kind: KindTouch, Where: TouchWhere(77, 5), From: 2, To: 0, Applied: true},
			"At 12.3 s the way in which the memory of fresh blocks of 32 to 63 pages of site 77 comes went from \"huge\" to \"fault\", because that costs less for each page that is used."},
		{Decision{Kind: KindTouch, Where: TouchWhere(65535, 6), From: 0, To: 2, Applied: true},
			"At 12.3 s the way in which the memory of fresh blocks of 64 pages or more of site 65535 comes went from \"fault\" to \"huge\", because that costs less for each page that is used."},
		{Decision{Kind: KindBatch, Where: 1, From: 1, To: 2, Predicted: 8e-9, Applied: true},
			"At 12.3 s the size of refills of blocks up to 8 KiB went from 1 times to 2 times, because a block cost less with that; expected 8.0e-9 CPU s."},
		{Decision{Kind: KindBatch, Where: 9, From: 1, To: 0.5, Applied: true},
			"At 12.3 s the size of batches of kind 9 went from 1 times to 0.5 times, because a block cost less with that."},
		{Decision{Kind: KindHuge, From: 0, To: 1. / 16, Predicted: 9.85e-5, Realised: 9.5e-5, Outcome: OutcomeRight, Applied: true},
			"At 12.3 s making huge pages of superslabs that stay as they are went from off to a trial with one in 16, because only a trial shows what that is worth; expected 9.8e-5 CPU s, became 9.5e-5."},
		{Decision{Kind: KindHuge, From: 1. / 16, To: 1, Predicted: 9.5e-5, Realised: 2e-4, Outcome: OutcomeWrong, Applied: true},
			"At 12.3 s making huge pages of superslabs that stay as they are went from a trial with one in 16 to on, because the process took less CPU time for each miss of a magazine; expected 9.5e-5 CPU s, became 2.0e-4, which was wrong."},
		{Decision{Kind: KindHuge, From: 1. / 16, To: 0, Predicted: 1e-4, Applied: true},
			"At 12.3 s making huge pages of superslabs that stay as they are went from a trial with one in 16 to off, because the process took no less CPU time for each miss of a magazine; expected 1.0e-4 CPU s."},
		{Decision{Kind: KindHuge, From: 1, To: 0, Why: CauseRefused, Applied: true},
			"At 12.3 s making huge pages of superslabs that stay as they are went from on to off, because the system refuses it."},
		{Decision{Kind: 200}, "At 12.3 s something was decided that this version of hakmem has no words for."},
		{Decision{Kind: KindHold, Why: 200}, "At 12.3 s something was decided that this version of hakmem has no words for."},
	} {
		c.d.At = 12345 * time.Millisecond
		if got := c.d.Sentence(); got != c.want {
			t.Errorf("%+v:\n got %s\nwant %s", c.d, got, c.want)
		}
	}
}
