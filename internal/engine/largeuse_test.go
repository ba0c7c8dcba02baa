package engine

import (
	"testing"
	"time"

	"github.com/hakmem/hakmem/internal/learn"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/policy"
	"github.com/hakmem/hakmem/internal/site"
)

func TestLargeBin(t *testing.T) {
	for _, test := range []struct {
		size mem.Bytes
		want int
	}{{36 << 10, 0}, {64 << 10, 0}, {72 << 10, 1}, {128 << 10, 1}, {1 << 20, 4}, {2 << 20, 5}, {2<<20 + 1, 6}, {1 << 30, 6}} {
		if got := largeBin(test.size); got != test.want {
			t.Errorf("largeBin(%d) = %d, want %d", test.size, got, test.want)
		}
	}
	for i, size := range learn.ThresholdBytes {
		if below, above := largeBin(mem.Bytes(size)), largeBin(mem.Bytes(size+1)); below != len(learn.ThresholdBytes)-1-i || above != below+1 {
			t.Errorf("the bins below and above %d bytes are %d and %d", size, below, above)
		}
	}
}

// turns allocates n blocks through a Heap's front and frees them.
func turns(t *testing.T, f Front, n int, size mem.Bytes) {
	t.Helper()
	var blocks []Block
	for range n {
		blocks = append(blocks, Malloc(f, size))
	}
	for _, p := range blocks {
		if bad := Free(f, p); bad.Kind != OK {
			t.Fatal(bad)
		}
	}
}

// TestLargeUse: a window has the allocations that magazines did not serve, by size, and what caches hold.
func TestLargeUse(t *testing.T) {
	withClock(t)
	withRoom(t)
	Trim()
	look := func() [learn.LargeBins]learn.LargeUse {
		scavenger.moving.Lock()
		defer scavenger.moving.Unlock()
		missed := countMisses()
		return largeUse(&missed, 2000)
	}
	f := heapFront(t) // what a P without a front misses is not counted
	before := look()
	p := MallocAt(site.Register("large use"), 200<<10)
	huge := Malloc(f, 3<<20)
	turns(t, f, 10, 100<<10) // the class of 104 KiB
	freeBlocks(t, []Block{p, huge})
	use := look()
	allocs := func(bin int) float64 { return use[bin].Allocs - before[bin].Allocs }
	if n := allocs(1); n != 10 {
		t.Errorf("%g allocations up to 128 KiB, want 10", n)
	}
	if u := use[6]; u.Allocs != 1 || u.Memory != 3./1024 || u.CPU != pagesSeconds || u.Held != 2*3./1024 {
		t.Errorf("one huge block of 3 MiB, which waits in its cache: %+v", u)
	}
	if u := use[1]; u.Held != 2*10*104./(1<<20) {
		t.Errorf("caches hold %g GiB·s of 10 blocks of 104 KiB in 2 s", u.Held)
	}
	if checkLive {
		if u := use[2]; u.Held != 2*208./(1<<20) {
			t.Errorf("the site cache holds %g GiB·s of a block of 208 KiB in 2 s", u.Held)
		}
	}
	if again := look(); again[6].Allocs != 0 {
		t.Errorf("the huge block counts again: %+v", again[6])
	}
}

// TestThresholdsInState: the engine tells the Learner of large blocks, and the state says what thresholds
// would have cost: to return blocks that are used again at once costs more than to cache them.
func TestThresholdsInState(t *testing.T) {
	c := withClock(t)
	withLearner(t, learn.EvolutionLearn, learn.DecideNone)
	tune(t, func(p *policy.Tuning) { p.MagLargeBytes = 0 })
	f := heapFront(t)
	for range 20 {
		for range 10 {
			turns(t, f, 10, 200<<10)
		}
		c.Advance(2100 * time.Millisecond)
	}
	s, ok := LearnerState()
	if !ok {
		t.Fatal("the scavenger hangs")
	}
	if len(s.Thresholds) != 1+len(learn.ThresholdBytes) {
		t.Fatalf("%+v", s.Thresholds)
	}
	caches, above, below := s.Thresholds[0], s.Thresholds[1], s.Thresholds[6]
	if caches.Cost <= 0 || above.Cost != caches.Cost || below.Cost < 5*caches.Cost {
		t.Errorf("blocks of 200 KiB cost %g s in caches, %g with a threshold of 2 MiB, %g with one of 64 KiB", caches.Cost, above.Cost, below.Cost)
	}
}
