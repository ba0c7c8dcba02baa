package loops

import (
	"math"
	"slices"
	"testing"
)

// TestPareto draws slots: each class gets its share, and so does each of its slots.
func TestPareto(t *testing.T) {
	const slots, draws = 1 << 18, 1 << 22
	p := newPareto(slots)
	counts := make([]int, slots)
	for x, n := uint64(1), 0; n < draws; n++ {
		x = step(x)
		counts[p.slot(x)]++
	}
	next := uint64(0)
	for k, share := range paretoShares {
		c := p.class[k]
		if c.first != next {
			t.Errorf("class %d begins at slot %d, not %d", k, c.first, next)
		}
		next = c.first + c.count
		sum := 0
		for _, n := range counts[c.first:next] {
			sum += n
		}
		// 5 standard deviations of a binomial count
		if want := float64(share) / 1e6 * draws; math.Abs(float64(sum)-want) > 5*math.Sqrt(want) {
			t.Errorf("class %d: %d of %d draws, want %.0f", k, sum, draws, want)
		}
	}
	if next != slots {
		t.Errorf("the classes end at slot %d of %d", next, slots)
	}
	if first := counts[:p.class[0].count]; slices.Min(first) < slices.Max(first)*9/10 {
		t.Errorf("slots of the first class: %d", first)
	}
	for n := range uint64(300) { // few slots: the classes overlap, and stay inside
		p := newPareto(n + 1)
		for x, i := uint64(1), 0; i < 1000; i++ {
			x = step(x)
			if slot := p.slot(x); slot > n {
				t.Fatalf("slot %d of %d", slot, n+1)
			}
		}
	}
}

// TestLevelSize draws sizes: each level half as often as the level before it.
func TestLevelSize(t *testing.T) {
	for _, c := range []struct{ low, high, levels uint64 }{{8, 1024, 8}, {8, 1000, 7}, {1, 3, 2}} {
		top := topLevel(c.low, c.high)
		if top != 1<<(c.levels-1) {
			t.Errorf("%d-%d has the top level %#b", c.low, c.high, top)
		}
		const draws = 1 << 18
		counts := make([]int, c.levels)
		for x, n := uint64(1), 0; n < draws; n++ {
			x = step(x)
			size := uint64(levelSize(x, c.low, c.high, top))
			if size < c.low || size > c.high {
				t.Fatalf("size %d of %d-%d", size, c.low, c.high)
			}
			level := 0
			for c.low<<(level+1) <= size {
				level++
			}
			counts[level]++
		}
		for level, n := range counts {
			want := draws / float64(uint64(2)<<min(level, int(c.levels)-2))
			if math.Abs(float64(n)-want) > 5*math.Sqrt(want) {
				t.Errorf("%d-%d: level %d drawn %d times, want %.0f", c.low, c.high, level, n, want)
			}
		}
	}
}

// TestInverseSquares compares the table with the distribution: the share of the sizes from a to b
// is proportional to 1/a - 1/b.
func TestInverseSquares(t *testing.T) {
	const low, high = 4, 32768
	sizes, _ := inverseSquares(1, low, high)
	if slices.Min(sizes[:]) < low || slices.Max(sizes[:]) > high {
		t.Errorf("sizes from %d to %d", slices.Min(sizes[:]), slices.Max(sizes[:]))
	}
	for _, bound := range []float64{5, 8, 64, 1024} {
		n := 0
		for _, s := range sizes {
			if float64(s) < bound {
				n++
			}
		}
		want := threadSizes * (1.0/low - 1/bound) / (1.0/low - 1.0/high)
		if math.Abs(float64(n)-want) > 5*math.Sqrt(threadSizes)/2 {
			t.Errorf("%d of %d sizes are below %v, want %.0f", n, threadSizes, bound, want)
		}
	}
}
