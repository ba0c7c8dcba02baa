package governor

import "testing"

// TestAsking: what was asked for is not asked for again before it can have shown.
func TestAsking(t *testing.T) {
	type step struct {
		short uint64
		ended cycles
		busy  bool
		want  uint64
	}
	for name, steps := range map[string][]step{
		"nothing is wrong":             {{0, 0, false, 0}, {0, 5, false, 0}},
		"once":                         {{100, 0, false, 100}, {100, 0, false, 0}, {100, 1, false, 0}},
		"again after two collections":  {{100, 5, false, 100}, {100, 6, false, 0}, {100, 7, false, 100}, {100, 8, false, 0}},
		"again after eight looks":      {{100, 0, false, 100}, {100, 0, false, 0}, {100, 0, false, 0}, {100, 0, false, 0}, {100, 0, false, 0}, {100, 0, false, 0}, {100, 0, false, 0}, {100, 0, false, 0}, {100, 0, false, 100}},
		"more is too much":             {{100, 0, false, 100}, {130, 0, false, 30}, {130, 0, false, 0}},
		"more and more is too much":    {{10, 0, false, 10}, {20, 1, false, 10}, {30, 2, false, 30}, {40, 3, false, 10}, {50, 4, false, 50}},
		"what was given and needed":    {{100, 0, false, 100}, {0, 0, false, 0}, {60, 0, false, 60}},
		"a part was given":             {{100, 0, false, 100}, {40, 0, false, 0}, {70, 0, false, 30}},
		"a round that takes long":      {{100, 0, false, 100}, {100, 3, true, 0}, {100, 4, true, 0}, {100, 5, false, 0}, {100, 6, false, 100}},
		"a round that is not answered": {{100, 0, true, 0}, {100, 0, false, 100}},
	} {
		var a asking
		for i, s := range steps {
			got := a.next(s.short, s.ended, s.busy)
			if got != s.want {
				t.Errorf("%s, step %d: %d, want %d", name, i, got, s.want)
			}
			if got > 0 {
				a.asked(got, s.ended)
			}
		}
	}
}
