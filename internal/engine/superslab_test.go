package engine

import (
	"math/rand/v2"
	"testing"
)

func TestAlignedRuns(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 10_000 {
		m := r.Uint32() | r.Uint32() | r.Uint32()
		for order := uint32(0); order < 4; order++ {
			want := uint32(0)
			n := uint32(1) << order
			for b := uint32(0); b < 32; b += n {
				if run := (uint32(1)<<n - 1) << b; m&run == run {
					want |= 1 << b
				}
			}
			if got := alignedRuns(pageSet(m), slabOrder(order)); got != pageSet(want) {
				t.Fatalf("alignedRuns(%032b, %d) = %032b, want %032b", m, order, got, want)
			}
		}
	}
}
