package governor

import "testing"

// TestLever: a lever moves until something else has moved it.
func TestLever(t *testing.T) {
	now, swaps := 100, 0
	swap := func(v int) (was int) {
		swaps++
		was, now = now, v
		return was
	}
	l := newLever(now, true)
	move := func(v int) (int, bool) { return l.move(v, swap) }
	for _, v := range []int{100, 200, 200, 300} {
		if _, foreign := move(v); foreign || now != v || l.notice(now) {
			t.Fatalf("moved to %d: %d, %+v", v, now, l)
		}
	}
	if swaps != 2 {
		t.Errorf("%d swaps, want 2: what is in force already is not set", swaps)
	}
	now = 7 // something else, seen when the lever is moved
	if other, foreign := move(400); !foreign || other != 7 || now != 7 || l.ours {
		t.Errorf("%d, %t: %d is in force, want 7; %+v", other, foreign, now, l)
	}
	if _, foreign := move(500); foreign || now != 7 || l.notice(8) {
		t.Errorf("a lost lever: %d, %+v", now, l)
	}

	now, l = 100, newLever(100, true)
	if !l.notice(9) || l.notice(10) || l.ours { // seen by a look, once
		t.Errorf("%+v", l)
	}
	if l = newLever(100, false); l.notice(3) {
		t.Error("a lever that is left alone notices")
	}
}
