package governor

import "testing"

// TestSteady: Go's limit follows down at once; up at once to what Go wants, and beyond when it was too low for
// ten periods. What is less than a 64th of the budget moves nothing, unless Go cannot do without it.
func TestSteady(t *testing.T) {
	const budget = 6400 // the band is 100
	type step struct {
		times int
		limit uint64
		need
		now uint64
	}
	none := need{}
	for name, steps := range map[string][]step{
		"down at once":               {{1, 3000, none, 3000}, {1, 2000, none, 2000}, {1, 1000, none, 1000}},
		"small steps":                {{1, 3000, none, 3000}, {5, 2900, none, 3000}, {20, 3100, none, 3000}, {1, 2899, none, 2899}},
		"up after ten":               {{1, 1000, none, 1000}, {9, 3000, none, 1000}, {1, 3000, none, 3000}},
		"up to the least of ten":     {{1, 1000, none, 1000}, {5, 3000, none, 1000}, {1, 2000, none, 1000}, {3, 3000, none, 1000}, {6, 3000, none, 2000}, {1, 3000, none, 3000}},
		"a swing moves nothing more": {{1, 3000, none, 3000}, {1, 1000, none, 1000}, {9, 3000, none, 1000}, {1, 1000, none, 1000}, {9, 3000, none, 1000}, {1, 1000, none, 1000}},
		"what Go wants":              {{1, 1000, need{500, 900}, 1000}, {1, 3000, need{500, 1100}, 1000}, {1, 3000, need{500, 1101}, 1101}, {1, 2000, need{500, 5000}, 2000}, {1, 3000, need{500, 5000}, 3000}},
		"what Go cannot do without":  {{1, 1000, need{500, 900}, 1000}, {1, 3000, need{1050, 1050}, 1050}, {1, 3000, need{1051, 1051}, 1051}},
	} {
		var s steady
		for i, st := range steps {
			for n := range st.times {
				if got := s.next(division{budget: budget, limit: st.limit, needed: st.need}); got != st.now {
					t.Errorf("%s, step %d, time %d: %d, want %d", name, i, n, got, st.now)
				}
			}
		}
	}
}
