package sim

import (
	"slices"
	"testing"
)

// TestPlaceLevels: a level is the same as blocks on the lowest pages of which the last one is freed first.
func TestPlaceLevels(t *testing.T) {
	t.Parallel()
	got := PlaceLevels("levels", []Level{{0, 3}, {1 * sec, 5}, {2 * sec, 5}, {3 * sec, 2}, {7 * sec, 4}, {8 * sec, 3}, {9 * sec, 0}, {20 * sec, 6}})
	want := Place(&Program{"levels", 20 * sec, 6, []Event{
		{0, 0, 2}, {0, 1, 1}, {1 * sec, 2, 2},
		{3 * sec, 1, 0}, {3 * sec, 2, 0},
		{7 * sec, 3, 1}, {7 * sec, 4, 1}, {8 * sec, 4, 0}, {9 * sec, 3, 0}, {9 * sec, 0, 0},
	}})
	if got.Pages != 5 || got.Length != want.Length || got.Name != want.Name || !slices.Equal(got.waits, want.waits) {
		t.Errorf("%+v, want %+v", got, want)
	}
	c := CostsAt(0.13)
	for _, hold := range grid {
		if a, b := Run(got, Fixed(hold), c).Cost, Run(want, Fixed(hold), c).Cost; !same(a, b) {
			t.Errorf("hold time %v costs %g, want %g", hold, a, b)
		}
	}
}
