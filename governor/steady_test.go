package governor

import "testing"

// TestSteady: Go's limit follows down at once and up when it was too low for ten periods. What is less than a
// 64th of the budget moves nothing.
func TestSteady(t *testing.T) {
	const budget = 6400 // the band is 100
	type step struct {
		times        int
		limit, least uint64
		want         uint64
	}
	for name, steps := range map[string][]step{
		"down at once":               {{1, 3000, 0, 3000}, {1, 2000, 0, 2000}, {1, 1000, 0, 1000}},
		"small steps":                {{1, 3000, 0, 3000}, {5, 2900, 0, 3000}, {20, 3100, 0, 3000}, {1, 2899, 0, 2899}},
		"up after ten":               {{1, 1000, 0, 1000}, {9, 3000, 0, 1000}, {1, 3000, 0, 3000}},
		"up to the least of ten":     {{1, 1000, 0, 1000}, {5, 3000, 0, 1000}, {1, 2000, 0, 1000}, {3, 3000, 0, 1000}, {6, 3000, 0, 2000}, {1, 3000, 0, 3000}},
		"a swing moves nothing more": {{1, 3000, 0, 3000}, {1, 1000, 0, 1000}, {9, 3000, 0, 1000}, {1, 1000, 0, 1000}, {9, 3000, 0, 1000}, {1, 1000, 0, 1000}},
		"what Go needs, at once":     {{1, 1000, 500, 1000}, {1, 3000, 1050, 1050}, {1, 3000, 2500, 2500}, {7, 3000, 2500, 2500}, {1, 3000, 2500, 3000}},
	} {
		var s steady
		for i, st := range steps {
			for n := range st.times {
				if got := s.next(division{budget: budget, limit: st.limit, least: st.least}); got != st.want {
					t.Errorf("%s, step %d, time %d: %d, want %d", name, i, n, got, st.want)
				}
			}
		}
	}
}
