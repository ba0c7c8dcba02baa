package governor

import (
	"testing"

	"github.com/hakmem/hakmem"
)

// TestProvider: what is left besides hakmem's memory, and 32 MiB at least, or all of a smaller container.
func TestProvider(t *testing.T) {
	for _, c := range []struct{ limit, counted, want uint64 }{
		{1000 * mib, 300 * mib, 700 * mib}, {1000 * mib, 0, 1000 * mib}, {1000 * mib, 990 * mib, 32 * mib},
		{1000 * mib, 2000 * mib, 32 * mib}, {10 * mib, 2 * mib, 10 * mib},
	} {
		if got := leaves(c.limit, c.counted); got != c.want {
			t.Errorf("of %d beside %d: %d, want %d", c.limit, c.counted, got, c.want)
		}
	}
	limit, limited := hakmem.ContainerLimit()
	n, err := Provider()
	if limited != (err == nil) || n > limit || limited && n == 0 || err != nil && !said(err, "no container's memory limit", "FromSystem") {
		t.Errorf("%d, %v in a container of %d, %t", n, err, limit, limited)
	}
}
