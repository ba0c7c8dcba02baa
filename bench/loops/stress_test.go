package loops

import "testing"

// TestRptestStride checks that a thread's step reaches all places, even where their number is a
// multiple of a prime in the table.
func TestRptestStride(t *testing.T) {
	for _, n := range []uint64{1, 2, 157, 157 * 211, 1000, 2000} {
		for i := range 6 {
			seen := make([]bool, n)
			s, step := uint64(0), rptestStride(n, i)
			for range n {
				if seen[s] {
					t.Fatalf("thread %d comes back to %d of %d early", i, s, n)
				}
				seen[s] = true
				s = wrap(s+step, n)
			}
		}
	}
}

func TestRptestTable(t *testing.T) {
	p := Params{Min: 8, Max: 16000}
	var lower int
	for _, size := range rptestTable(&worker{p: p, seed: 1}) {
		if uint64(size) < p.Min || uint64(size) > p.Max {
			t.Fatalf("size %d", size)
		}
		if size < 8004 {
			lower++
		}
	}
	if lower < rptestSizes*70/100 || lower > rptestSizes*80/100 { // linear: 75 %
		t.Errorf("%d of %d sizes are in the lower half", lower, rptestSizes)
	}
}
