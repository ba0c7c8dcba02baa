package engine

import (
	"slices"
	"testing"
	"time"

	"github.com/hakmem/hakmem/internal/learn"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// replace fills so many bytes with blocks of one size and gives the clock a window's time, n times. It
// returns the blocks of the last time.
func replace(t *testing.T, advance func(time.Duration), n int, size, total mem.Bytes) (blocks []Block) {
	t.Helper()
	for range n {
		freeBlocks(t, blocks)
		blocks = fillBytes(t, total, size)
		advance(learn.WindowTime + 500*time.Millisecond)
	}
	return blocks
}

// inUsePages returns the bytes of the pages in use.
func inUsePages() mem.Bytes {
	region.mu.Lock()
	defer region.mu.Unlock()
	return pageCount(pageUse.used).bytes()
}

// TestPeakBecomesClass: a program of blocks of 4112 bytes takes an eighth more than it asked for at first,
// and a 25th at most when it has replaced them some times. Why is in the log of decisions.
func TestPeakBecomesClass(t *testing.T) {
	if !learning || raced {
		t.Skip("skipped: no class is made by learning in this build")
	}
	if !alone(t, "HAKMEM_DYN=auto") {
		return
	}
	c := withClock(t)
	withLearner(t, learn.EvolutionLearn, learn.DecideNone)
	const size, total = 4112, 64 * mebibyte
	rest := inUsePages()
	share := func() float64 { return float64(inUsePages()-rest) / total }
	blocks := replace(t, c.Advance, 1, size, total)
	first := share()
	freeBlocks(t, blocks)
	blocks = replace(t, c.Advance, 8, size, total)
	last := share()
	t.Logf("%.3f times what was asked for is in use at first, and %.3f times in the end", first, last)
	if first < 1.12 || first > 1.2 || last > 1.04 {
		t.Error("want 1.12 to 1.2 times at first, and 1.04 at most in the end")
	}
	if list := added(); len(list) != 1 || list[0].Size != 4224 || list[0].Weight < 32 {
		t.Errorf("added are %+v", list)
	}
	for _, p := range blocks {
		if n := usable(t, p); n != 4224 {
			t.Fatalf("a block has %d bytes", n)
		}
	}
	s, ok := LearnerState()
	if !ok {
		t.Fatal("the scavenger hangs")
	}
	i := slices.IndexFunc(s.Decisions, func(d learn.Decision) bool { return d.Kind == learn.KindSize })
	if i < 0 || s.Decisions[i].From != 4608 || s.Decisions[i].To != 4224 || !s.Decisions[i].Applied {
		t.Errorf("the log has %+v", s.Decisions)
	}
	freeBlocks(t, blocks)

	// The second one is for other blocks, and there is no third.
	freeBlocks(t, replace(t, c.Advance, 8, 16400, total))
	freeBlocks(t, replace(t, c.Advance, 8, 8208, total))
	if list := added(); len(list) != 2 || list[1].Size != 16512 || sizeclass.Of(8208).Bytes() != 9216 {
		t.Errorf("added are %+v", list)
	}
}

// TestNoPeak: nothing is made of sizes spread evenly, of few bytes, or where learning is off or frozen.
func TestNoPeak(t *testing.T) {
	for _, test := range []struct {
		name   string
		policy learn.EvolutionPolicy
		do     func(c func(time.Duration))
	}{
		{"few bytes", learn.EvolutionLearn, func(advance func(time.Duration)) {
			freeBlocks(t, replace(t, advance, 6, 4112, 8*mebibyte))
		}},
		{"its own class", learn.EvolutionLearn, func(advance func(time.Duration)) {
			freeBlocks(t, replace(t, advance, 6, 4608, 64*mebibyte))
		}},
		{"frozen", learn.EvolutionFrozen, func(advance func(time.Duration)) {
			freeBlocks(t, replace(t, advance, 6, 4112, 64*mebibyte))
		}},
		{"off", learn.EvolutionOff, func(advance func(time.Duration)) {
			freeBlocks(t, replace(t, advance, 6, 4112, 64*mebibyte))
		}},
		{"evenly", learn.EvolutionLearn, func(advance func(time.Duration)) {
			for range 6 {
				var blocks []Block
				for size := mem.Bytes(4097); size <= 4608; size += 8 {
					blocks = append(blocks, fillBytes(t, mebibyte, size)...)
				}
				advance(learn.WindowTime + 500*time.Millisecond)
				freeBlocks(t, blocks)
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := withClock(t)
			withLearner(t, test.policy, learn.DecideNone)
			test.do(c.Advance)
			if list := added(); len(list) != 0 {
				t.Errorf("added are %+v", list)
			}
		})
	}
}

// TestUsedBytes: what is in use of a class is estimated from some of its slabs.
func TestUsedBytes(t *testing.T) {
	withClock(t)
	const size, total = 4608, 64 * mebibyte
	c := sizeclass.Of(size)
	k := &sizeclass.Classes[c]
	blocks := fillBytes(t, total, size)
	whole := float64(len(blocks)) * sizeclass.SlabShare(size)
	if n := usedBytes(c); n < 0.98*whole || n > 1.05*whole {
		t.Errorf("%.0f bytes are in use, want %.0f", n, whole)
	}
	var kept, rest []Block // of every second slab everything, of the others a quarter
	half := map[slabID]bool{}
	for _, p := range blocks {
		s := owner(p)
		if _, met := half[s]; !met {
			half[s] = len(half)%2 == 0
		}
		if j, _ := k.Index(p.addr().From(s.addr())); half[s] || j < k.Blocks/4 {
			kept = append(kept, p)
		} else {
			rest = append(rest, p)
		}
	}
	freeBlocks(t, rest)
	Trim() // what magazines hold is free, too
	want := float64(len(kept)) * sizeclass.SlabShare(size)
	if n := usedBytes(c); n < 0.9*want || n > 1.1*want {
		t.Errorf("%.0f bytes are in use, want %.0f", n, want)
	}
	freeBlocks(t, kept)
	if Trim(); usedBytes(c) != 0 {
		t.Errorf("%.0f bytes are in use, and all blocks are free", usedBytes(c))
	}
}
