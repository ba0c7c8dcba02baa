package governor

import "testing"

// TestHeapPercent: the percent makes the heap fill its part, within bounds.
func TestHeapPercent(t *testing.T) {
	for _, c := range []struct {
		name               string
		live, other, limit uint64
		now, want          int
	}{
		{"half is free", 100 * mib, 0, 200 * mib, 100, 100},
		{"no room", 100 * mib, 0, 110 * mib, 100, 100},
		{"no room any more", 100 * mib, 0, 110 * mib, 700, 100},
		{"room", 100 * mib, 0, 500 * mib, 100, 399},
		{"other memory takes room", 100 * mib, 200 * mib, 500 * mib, 100, 199},
		{"much room", 100 * mib, 0, 5000 * mib, 100, 1000},
		{"nearly right", 100 * mib, 0, 500 * mib, 360, 360},
		{"nearly right, from above", 100 * mib, 0, 500 * mib, 440, 440},
		{"not right", 100 * mib, 0, 500 * mib, 350, 399},
		{"not right, from above", 100 * mib, 0, 500 * mib, 460, 399},
		{"nearly right, near the bound", 100 * mib, 0, 205 * mib, 110, 110},
		{"nothing alive", 0, 0, 24 * mib, 100, 499},
		{"other memory is more than the limit", 100 * mib, 900 * mib, 500 * mib, 100, 100},
	} {
		if got := heapPercent(goMemory{live: c.live, other: c.other}, c.limit, c.now); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}
