package governor

import (
	"math/rand/v2"
	"testing"
)

// TestNeedOf: Go needs a tenth more than what is alive, and wants the garbage of its GC percent.
func TestNeedOf(t *testing.T) {
	g := goMemory{live: 900 * mib, other: 100 * mib}
	const least = 1100*mib + leastHeap
	for _, c := range []struct {
		percent int
		want    uint64
	}{{100, least + 900*mib}, {50, least + 450*mib}, {0, least}, {-1, least + 9000*mib}, {5000, least + 9000*mib}} {
		if n := g.needOf(c.percent); n.least != least || n.want != c.want {
			t.Errorf("with GOGC=%d: %d and %d, want %d and %d", c.percent, n.least, n.want, uint64(least), c.want)
		}
	}
}

// TestGrowth: growth is remembered, and forgotten by halves.
func TestGrowth(t *testing.T) {
	var g growth
	for i, c := range []struct{ least, expected uint64 }{{1000, 0}, {1000, 0}, {1400, 400}, {1500, 200}, {1500, 100}, {100, 50}, {1000, 900}} {
		if g.note(c.least); g.expected != c.expected {
			t.Errorf("step %d: %d is expected, want %d", i, g.expected, c.expected)
		}
	}
}

// TestDivide: each side gets what it cannot do without, then what it wants, then half of the rest.
func TestDivide(t *testing.T) {
	const budget = 3200 // the slack is 100
	for _, c := range []struct {
		name           string
		ofGo           need
		counted, least uint64
		grows          uint64
		limit, short   uint64
	}{
		{"all have what they want", need{500, 1000}, 1000, 700, 0, 1000 + (3200-1000-1100)/2, 0},
		{"growth is a want", need{500, 1000}, 1000, 700, 100, 1000 + (3200-1000-1300)/2, 0},
		{"just enough", need{500, 1500}, 1600, 700, 0, 1500, 0},
		{"too little for what is wanted", need{500, 3300}, 2100, 700, 0, 500 + 1900*2800/(2800+1400), 0},
		{"nothing is alive off the heap", need{500, 4000}, 0, 0, 0, 3100, 0},
		{"nothing is wanted", need{500, 500}, 2600, 2600, 0, 500, 0},
		{"hakmem has all", need{500, 1000}, 2600, 2600, 0, 500, 0},
		{"a byte too much is alive", need{500, 1000}, 2601, 2601, 0, 500, 1},
		{"much too much is alive", need{2000, 3000}, 9000, 8000, 500, 2000, 6900},
		{"Go alone is too large", need{5000, 9000}, 0, 0, 0, 5000, 1900},
		{"growth without bounds", need{500, 1000}, 1000, 700, 1 << 60, 500 + 1900*500/(500+300+6400), 0},
	} {
		d := divide(budget, c.ofGo, offHeap{counted: c.counted, least: c.least}, growth{expected: c.grows})
		if diff := int64(d.limit) - int64(c.limit); diff < -1 || diff > 1 || d.short != c.short || d.needed != c.ofGo || d.budget != budget {
			t.Errorf("%s: %+v, want a limit of %d, short %d", c.name, d, c.limit, c.short)
		}
	}
}

// TestDivideHoldsItsBounds: whatever is needed, Go has what it cannot do without, and if that is possible so has
// hakmem, with its slack.
func TestDivideHoldsItsBounds(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	upTo := func(n uint64) uint64 { return r.Uint64N(n + 1) }
	for range 100_000 {
		budget := uint64(32*mib) << r.IntN(30)
		ofGo := need{least: upTo(budget)}
		ofGo.want = ofGo.least + upTo(10*budget)
		h := offHeap{counted: upTo(budget)}
		h.least = upTo(h.counted)
		d := divide(budget, ofGo, h, growth{expected: upTo(budget)})
		slack := budget / slackShare
		if d.limit < ofGo.least {
			t.Fatalf("of %d, with %+v and %+v: %+v is below what Go needs", budget, ofGo, h, d)
		}
		if fits := ofGo.least+h.least+slack <= budget; fits != (d.short == 0) || fits && d.limit+h.least+slack > budget+1024 { // 1024: float64 has 53 bits
			t.Fatalf("of %d, with %+v and %+v: %+v leaves hakmem too little", budget, ofGo, h, d)
		}
	}
}
