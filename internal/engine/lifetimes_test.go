package engine

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hakmem/hakmem/internal/learn"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/site"
	"github.com/hakmem/hakmem/internal/testkit"
)

// forgetLifetimes makes the model know nothing, as long as the test runs and again after it.
func forgetLifetimes(t *testing.T) {
	forget := func() {
		region.mu.Lock()
		defer region.mu.Unlock()
		forgetSamples()
		lifetimes.model = learn.Lifetimes{}
		publishJudged()
	}
	forget()
	t.Cleanup(forget)
}

// live lets x allocate for a time, 10,000 blocks a second of which one in 20 lives on; the others live for
// 100 ms. It returns those that live.
func (x twoSites) live(t *testing.T, c *testkit.Clock, d time.Duration) (live []Block) {
	t.Helper()
	for range d / (100 * time.Millisecond) {
		var short []Block
		for i := range 1000 {
			if i%20 == 7 {
				live = append(live, mallocAtSite(t, x.long, x.size))
			} else {
				short = append(short, mallocAtSite(t, x.short, x.size))
			}
		}
		c.Advance(100 * time.Millisecond)
		freeBlocks(t, short)
	}
	return live
}

// TestLaneIsLearnt: within seconds it is known which site's blocks live for long; from then on they go to
// the long lane, and when the others are freed little is kept.
func TestLaneIsLearnt(t *testing.T) {
	needSites(t)
	needsUnits(t)
	needLearning(t)
	for _, size := range []mem.Bytes{64, 256, 1024, 4096} {
		clock := withClock(t)
		forgetLifetimes(t)
		x := twoSites{laneSite(t, "short", LaneAuto), laneSite(t, "long", LaneAuto), size}
		before := x.live(t, clock, 5*time.Second)
		if isLong(x.short) || !isLong(x.long) {
			t.Fatalf("%d bytes: after 5 s the lane of short lives is long: %t, that of long ones: %t", size, isLong(x.short), isLong(x.long))
		}
		if _, long := ReadRule(x.long); !long {
			t.Error("ReadRule does not know the lane")
		}
		p, q := mallocAtSite(t, x.short, size), mallocAtSite(t, x.long, size)
		if isLongBlock(p) || !isLongBlock(q) {
			t.Errorf("%d bytes: in the long lane: %t and %t", size, isLongBlock(p), isLongBlock(q))
		}
		freeBlocks(t, append(before, p, q))
		if kept := x.keptShare(t, clock); kept > 2 {
			t.Errorf("%d bytes: %.2f times what lives is kept", size, kept)
		}
		mustHold(t)
	}
}

// TestLaneIsUnlearnt: a site whose blocks live shortly from some time on goes back to the common lane.
func TestLaneIsUnlearnt(t *testing.T) {
	needSites(t)
	needLearning(t)
	clock := withClock(t)
	forgetLifetimes(t)
	x := twoSites{laneSite(t, "short", LaneAuto), laneSite(t, "long", LaneAuto), 64}
	live := x.live(t, clock, 5*time.Second)
	if !isLong(x.long) {
		t.Fatal("not learnt")
	}
	freeBlocks(t, live)
	for range 600 { // 40 blocks each
		var short []Block
		for range 20 {
			short = append(short, mallocAtSite(t, x.long, 64), mallocAtSite(t, x.long, 64), mallocAtSite(t, x.short, 64))
		}
		clock.Advance(100 * time.Millisecond)
		freeBlocks(t, short)
	}
	if isLong(x.long) {
		t.Error("blocks of 0.1 s go to the long lane after 24,000 of them")
	}
}

// TestSamples: the first blocks of a site are samples, then one in 64. A sample is forgotten when the
// block is freed or has grown old, and gives way when it has lived for 4 s.
func TestSamples(t *testing.T) {
	needSites(t)
	needLearning(t)
	clock := withClock(t)
	forgetLifetimes(t)
	count := func() (n int) {
		region.mu.Lock()
		defer region.mu.Unlock()
		for i := range liveSamples {
			if liveSamples[i].at.Load() != 0 {
				n++
			}
		}
		return n
	}
	s := laneSite(t, fmt.Sprint("samples ", site.Num()), LaneAuto) // one that nobody has used
	var blocks []Block
	for range firstSamples {
		blocks = append(blocks, mallocAtSite(t, s, 64))
	}
	first := count()
	if first < firstSamples*9/10 { // a few have the same place
		t.Errorf("%d of the first %d blocks are samples", first, firstSamples)
	}
	for range 6400 {
		blocks = append(blocks, mallocAtSite(t, s, 64))
	}
	if n := count() - first; n < 80 || n > 120 {
		t.Errorf("%d of 6400 further blocks are samples", n)
	}
	all, samples := count(), lifetimes.samples
	freeBlocks(t, blocks[3200:])
	if n := count(); n < all/4 || n > all*3/4+firstSamples/2 {
		t.Errorf("%d of %d samples are left after half of the blocks were freed", n, all)
	}
	// The rest grows old.
	clock.Advance(2 * time.Minute)
	kick()
	clock.Advance(2 * time.Minute)
	if n := count(); n != 0 {
		t.Errorf("%d samples are left after minutes", n)
	}
	freeBlocks(t, blocks[:3200])
	if lifetimes.samples != samples {
		t.Errorf("%d blocks became samples when they were freed", lifetimes.samples-samples)
	}

	// Two blocks in one place.
	p, q := mallocAtSite(t, s, 64), Block(0)
	defer freeBlocks(t, []Block{p})
	addSample(p, s)
	for q = p + 64; sampleAt(q) != sampleAt(p); q += 64 {
	}
	for _, c := range []struct {
		after time.Duration
		want  Block
	}{{3900 * time.Millisecond, p}, {200 * time.Millisecond, q}} {
		clock.Skip(c.after)
		addSample(q, s)
		if got := Block(sampleAt(p).at.Load()); got != c.want {
			t.Errorf("%#x and %#x have one place, and %#x has it", p, q, got)
		}
	}
	region.mu.Lock()
	sampleAt(p).at.Store(0)
	region.mu.Unlock()
}

// TestIsSample: of later blocks one in 64 is a sample, wherever one looks and whatever the program repeats.
func TestIsSample(t *testing.T) {
	for _, step := range []uint32{1, 2, 7, 64, 128, 1000} {
		n := 0
		for i := range uint32(6400) {
			if isSample(firstSamples + 1 + i*step) {
				n++
			}
		}
		if n < 75 || n > 130 {
			t.Errorf("%d of 6400 blocks, each %d apart, are samples; want 100", n, step)
		}
	}
}

// TestSampleStress: blocks of one site are allocated and freed by several goroutines while decisions are
// made.
func TestSampleStress(t *testing.T) {
	needSites(t)
	needLearning(t)
	clock := withClock(t)
	forgetLifetimes(t)
	s := laneSite(t, "stress", LaneAuto)
	rounds := 20_000
	if raced {
		rounds = 2000
	}
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for range rounds {
				p, q := MallocAt(s, 64), MallocAt(s, 200)
				for _, p := range []Block{p, q} {
					if bad := Free(0, p); bad.Kind != OK {
						t.Errorf("Free(%#x) = %+v", p, bad)
					}
				}
			}
		})
	}
	for range 20 {
		clock.Advance(time.Second)
		Trim()
	}
	wg.Wait()
	mustHold(t)
}

// TestDecisionsAllocateNothing: ticks come while the program runs.
func TestDecisionsAllocateNothing(t *testing.T) {
	needSites(t)
	needLearning(t)
	clock := withClock(t)
	forgetLifetimes(t)
	x := twoSites{laneSite(t, "short", LaneAuto), laneSite(t, "long", LaneAuto), 64}
	defer freeBlocks(t, x.live(t, clock, 5*time.Second))
	region.mu.Lock()
	defer region.mu.Unlock()
	if n := testing.AllocsPerRun(10, func() {
		lifetimes.decided -= stamp(decideEvery)
		if !learnLanes(milliseconds()) {
			t.Error("no decision was due")
		}
		publishJudged()
	}); n != 0 {
		t.Errorf("a decision makes %v Go allocations", n)
	}
}
