package engine

import (
	"testing"
	"time"

	"github.com/hakmem/hakmem/internal/learn"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/policy"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// missMany lets n allocations find a magazine empty.
func missMany(t *testing.T, n uint64) {
	t.Helper()
	const size = mem.Bytes(16 << 10)
	c := sizeclass.Of(size)
	for before := countMissesOf(c); countMissesOf(c)-before < n; {
		var blocks []Block
		for range 256 {
			p := Malloc(0, size)
			if p == 0 {
				t.Fatal(Survived())
			}
			blocks = append(blocks, p)
		}
		freeBlocks(t, blocks)
	}
}

func countMissesOf(c sizeclass.ID) uint64 {
	scavenger.moving.Lock()
	defer scavenger.moving.Unlock()
	return countMisses()[c]
}

// TestLatency: with HAKMEM_EVO=auto some allocations are timed that find a magazine empty, and a window gets
// their 99th percentile if they are many. Otherwise none is.
func TestLatency(t *testing.T) {
	withClock(t)
	for _, test := range []struct {
		evo    learn.EvolutionPolicy
		misses uint64
		known  bool
	}{
		{learn.EvolutionAuto, 2 * latencyEvery * latencyRoom, true},
		{learn.EvolutionAuto, latencyEvery * latencyRoom / 2, false},
		{learn.EvolutionLearn, 2 * latencyEvery * latencyRoom, false},
	} {
		tune(t, func(p *policy.Tuning) { p.Evo = test.evo })
		takeP99()
		missMany(t, test.misses)
		p99 := takeP99()
		if known := p99 > 0; known != (test.known && learning) {
			t.Errorf("%v, %d misses: p99 is %g ns", test.evo, test.misses, p99)
		}
		if p99 > float64(10*time.Second) {
			t.Errorf("%v: p99 is %g ns", test.evo, p99)
		}
	}
}
