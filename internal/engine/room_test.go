package engine

import (
	"slices"
	"testing"

	"github.com/hakmem/hakmem/internal/sizeclass"
)

// TestDwell: room that a program needs in each of its turns is taken from it ever more rarely, and room
// that it does not need as fast as turns come.
func TestDwell(t *testing.T) {
	for _, test := range []struct {
		name        string
		turns, need int
		tries       []int // the turns in which room is taken first, from the second on counted from the one before
		later       int   // after that it is tried once in so many turns
	}{
		// A try, and a turn in which the room is given back, and then the turns to wait.
		{"needs what it has", 1000, 64, []int{0, 4, 6, 10, 18, 34, 66}, 130},
		{"needs half of it", 1000, 32, []int{0, 1, 4, 6, 10, 18, 34, 66}, 130},
	} {
		d, room := dwell{}, 64
		var tries []int
		last := 0
		for turn := range test.turns {
			best := -1
			if room < test.need {
				best = +1
			}
			switch d.turn(best) {
			case +1:
				room *= 2
			case -1:
				room /= 2
				tries = append(tries, turn-last)
				last = turn
			}
		}
		n := len(test.tries)
		if len(tries) < n+3 || !slices.Equal(tries[:n], test.tries) || slices.ContainsFunc(tries[n:], func(gap int) bool { return gap != test.later }) {
			t.Errorf("%s: less room is tried after turns %v, want %v and then %d each", test.name, tries, test.tries, test.later)
		}
	}
	d, room := dwell{again: maxAgain}, 1024
	turns := 0
	for ; room > 1; turns++ {
		if d.turn(-1) < 0 {
			room /= 2
		}
	}
	if turns != 10 || d.again != 0 {
		t.Errorf("room for one after %d turns, the next wait 2^%d; want 10 turns, each of which halves the room, and no wait", turns, d.again)
	}
	if d.turn(0); !d.taken || d.left != 0 {
		t.Errorf("a turn in which nothing is to be done leaves %+v", d)
	}
}

// TestGhosts: a block that is wanted counts once, if it was moved out before, and no more are remembered
// than the largest magazine holds.
func TestGhosts(t *testing.T) {
	var a adaptive
	const c = sizeclass.ID(3)
	want := func(ghosts uint16, moved uint32) {
		t.Helper()
		if a.ghosts[c] != ghosts || a.moved[c] != moved {
			t.Errorf("%d ghosts, %d moved; want %d and %d", a.ghosts[c], a.moved[c], ghosts, moved)
		}
	}
	a.wanted(c, 5)
	want(0, 0)
	a.movedOut(c, 7)
	a.wanted(c, 5)
	want(2, 5)
	a.wanted(c, 5)
	want(0, 7)
	for range 70_000 {
		a.movedOut(c, 1000)
	}
	want(maxGhosts, 7)
	a.wanted(c, 2000)
	want(0, 7+maxGhosts)
	a.movedOut(c+1, 3)
	a.wanted(c, 3)
	want(0, 7+maxGhosts)
}

// TestBound: the least of what ACE allows and what the policy allows.
func TestBound(t *testing.T) {
	var a adaptive
	for _, test := range []struct{ most, policy, want int }{{0, 127, 127}, {16, 127, 16}, {127, 16, 16}} {
		a.most[1] = uint16(test.most)
		if got := a.bound(1, test.policy); got != test.want {
			t.Errorf("%d by ACE, %d by the policy: %d, want %d", test.most, test.policy, got, test.want)
		}
	}
}
