package governor

import (
	"strings"
	"testing"
	"time"
)

// TestOptions: what can be used gets its defaults, and what cannot is refused by name, with its value and a
// remedy.
func TestOptions(t *testing.T) {
	const gib = 1 << 30
	for _, c := range []struct {
		name          string
		o             Options
		container     uint64
		total, budget uint64
		wrong         []string // in the error
	}{
		{"a total", Options{Total: 10 * gib}, 0, 10 * gib, 9 * gib, nil},
		{"the container's", Options{}, 10 * gib, 10 * gib, 9 * gib, nil},
		{"the container's, which is less", Options{Total: 20 * gib}, 10 * gib, 10 * gib, 9 * gib, nil},
		{"the container's, which is more", Options{Total: 10 * gib}, 20 * gib, 10 * gib, 9 * gib, nil},
		{"a container's that is huge", Options{}, 1<<63 + 5, mostTotal, mostTotal - mostTotal/10, nil},
		{"a reserve", Options{Total: 10 * gib, Reserve: gib / 2}, 0, 10 * gib, 9*gib + gib/2, nil},
		{"the largest reserve", Options{Total: 10 * gib, Reserve: 5 * gib}, 0, 10 * gib, 5 * gib, nil},
		{"the least", Options{Total: leastTotal, Period: leastPeriod}, 0, leastTotal, leastTotal - leastTotal/10, nil},
		{"the longest period", Options{Total: leastTotal, Period: mostPeriod}, 0, leastTotal, leastTotal - leastTotal/10, nil},
		{"no limit", Options{}, 0, 0, 0, []string{"Total is 0", "set Total"}},
		{"too small", Options{Total: leastTotal - 1}, 0, 0, 0, []string{"Total of 33554431", "at least 33554432"}},
		{"too large", Options{Total: mostTotal + 1}, 0, 0, 0, []string{"Total of 4611686018427387905", "use 4611686018427387904"}},
		{"a container that is too small", Options{Total: gib}, 1000, 0, 0, []string{"container's memory limit of 1000", "raise it"}},
		{"a reserve that is too large", Options{Total: 100 << 20, Reserve: 51 << 20}, 0, 0, 0, []string{"Reserve of 53477376", "52428800 at most"}},
		{"a reserve that is too large for the container", Options{Total: 1 << 40, Reserve: 51 << 20}, 100 << 20, 0, 0, []string{"Reserve of 53477376", "52428800 at most"}},
		{"a short period", Options{Total: gib, Period: time.Millisecond}, 0, 0, 0, []string{"Period of 1ms", "10ms to 10s"}},
		{"a long period", Options{Total: gib, Period: time.Minute}, 0, 0, 0, []string{"Period of 1m0s", "10ms to 10s"}},
		{"a negative period", Options{Total: gib, Period: -1}, 0, 0, 0, []string{"Period of -1ns", "10ms to 10s"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFake(mib, mib)
			f.limit = c.container
			g, err := start(c.o, f)
			if c.wrong != nil {
				if err == nil {
					g.Close()
					t.Fatal("no error")
				}
				for _, w := range c.wrong {
					if !strings.Contains(err.Error(), w) {
						t.Errorf("%q does not say %q", err, w)
					}
				}
				if f.moved.limit+f.moved.percent+f.moved.hakmem > 0 {
					t.Error("something was set")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer g.Close()
			if n := g.options.total(c.container); n != c.total {
				t.Errorf("the total is %d, want %d", n, c.total)
			}
			if n := g.options.budget(c.container); n != c.budget {
				t.Errorf("the budget is %d, want %d", n, c.budget)
			}
			if c.o.Period == 0 && g.options.Period != defaultPeriod {
				t.Errorf("the period is %v", g.options.Period)
			}
		})
	}
}

// TestBudgetOfASmallContainer: a container that has become smaller than the reserve leaves half.
func TestBudgetOfASmallContainer(t *testing.T) {
	o := Options{Total: 1000 * mib, Reserve: 400 * mib}
	for limit, want := range map[uint64]uint64{0: 600 * mib, 900 * mib: 500 * mib, 600 * mib: 300 * mib, 100 * mib: 50 * mib} {
		if n := o.budget(limit); n != want {
			t.Errorf("in a container of %d MiB the budget is %d MiB, want %d", limit/mib, n/mib, want/mib)
		}
	}
}
