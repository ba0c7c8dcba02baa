package engine

import (
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/policy"
	"github.com/hakmem/hakmem/internal/sizeclass"
	"github.com/hakmem/hakmem/internal/testkit"
)

// needsACE skips the test where the engine is built without.
func needsACE(t *testing.T) {
	t.Helper()
	if !learning {
		t.Skip("skipped: hakmem_nolearn leaves ACE out; TestWithoutACE is for that build")
	}
}

// withPrice makes memory in caches cost so many times its base price until the test ends. No tick may run
// meanwhile, which would set it anew: the clock is only skipped.
func withPrice(t *testing.T, times float64) *testkit.Clock {
	t.Helper()
	c := withClock(t)
	setPrice(t, times)
	t.Cleanup(func() { setPrice(t, 1) })
	return c
}

// setPrice sets the price to so many times its base price.
func setPrice(t *testing.T, times float64) {
	t.Helper()
	if !scavenger.lock() {
		t.Fatal("the scavenger is held")
	}
	defer scavenger.unlock()
	scavenger.moving.Lock()
	defer scavenger.moving.Unlock()
	forgetBudget()
	if times > 1 {
		budget.Base = bytePrice()
		budget.Price = times * budget.Base
		cachePrice.Store(math.Float64bits(budget.Price))
	}
}

// steps has the front take n steps of ACE, each the least time after the one before.
func steps(c *testkit.Clock, f Front, n int) {
	for range n {
		c.Skip(aceLeast)
		f.head().events = aceEvents
		stepCaches(f)
	}
}

// turn allocates n blocks of size through the front and frees them.
func turn(t *testing.T, f Front, n int, size mem.Bytes) {
	t.Helper()
	blocks := make([]Block, n)
	for i := range blocks {
		if blocks[i] = Malloc(f, size); blocks[i] == 0 {
			t.Fatal("out of memory", Survived())
		}
	}
	for _, p := range blocks {
		if bad := Free(f, p); bad.Kind != OK {
			t.Fatalf("Free(%#x) = %+v", p, bad)
		}
	}
}

// classOf returns the class of a block of size bytes.
func classOf(size mem.Bytes) sizeclass.ID {
	if size > sizeclass.MaxMid {
		return sizeclass.LargeOf(size)
	}
	return sizeclass.Of(size)
}

// TestStepIsDue: a front takes a step after so many misses and overflows, and not before so much time.
func TestStepIsDue(t *testing.T) {
	needsACE(t)
	clock := withClock(t)
	const size = 40 << 10
	f := heapFront(t)
	a := &f.head().adaptive
	var blocks []Block
	miss := func(n int) {
		for range n {
			blocks = append(blocks, Malloc(f, size))
		}
	}
	want := func(what string, events uint32, stepped time.Duration) {
		t.Helper()
		if a.events != events || a.stepped != stepped {
			t.Errorf("%s: %d events since the step at %v, want %d and %v", what, a.events, a.stepped, events, stepped)
		}
	}
	miss(aceEvents - 1)
	want("too few misses", aceEvents-1, 0)
	first := clock.Now()
	miss(1)
	want("the first step", 0, first)
	clock.Skip(aceLeast - 1)
	miss(aceEvents)
	want("too early", 0, first)
	clock.Skip(1)
	miss(aceEvents - 1)
	want("too few misses again", aceEvents-1, first)
	miss(1)
	want("the second step", 0, first+aceLeast)
	miss(aceEvents)
	clock.Skip(time.Hour)
	for _, p := range blocks { // the magazine overflows, except for the blocks that it has room for
		if bad := Free(f, p); bad.Kind != OK {
			t.Fatal(bad)
		}
	}
	if a.stepped != clock.Now() || a.events >= aceEvents {
		t.Errorf("after %d frees the last step was at %v, want %v", len(blocks), a.stepped, clock.Now())
	}
}

// TestIdleRoomIsTaken: where memory is scarce, magazines that save nothing keep the least room. Their
// oldest blocks go back, and none is lost.
func TestIdleRoomIsTaken(t *testing.T) {
	needsACE(t)
	for _, size := range []mem.Bytes{16, 64, 600, 1000, 1152, 5000, 32 << 10, 40 << 10, 300 << 10, 1 << 20, 2 << 20} {
		clock := withPrice(t, 64)
		f, c := heapFront(t), classOf(size)
		for range 4 {
			turn(t, f, 300, size)
		}
		room, held := int(f.head().cap[c]), f.held(c)
		if held == 0 {
			t.Fatalf("%d bytes: the magazine is empty", size)
		}
		least, _ := roomRange(c)
		taken := 0
		for int(f.head().cap[c]) > least {
			top, was := *word(*f.top(c)), f.held(c)
			steps(clock, f, 1)
			if taken++; taken > 40 {
				t.Fatalf("%d bytes: after %d steps there is room for %d, want %d", size, taken, f.head().cap[c], least)
			}
			switch n := f.held(c); {
			case n > uintptr(f.head().cap[c]), was-n > stepRoom:
				t.Errorf("%d bytes: %d of %d blocks are left in room for %d", size, n, was, f.head().cap[c])
			case n > 0 && *word(*f.top(c)) != top:
				t.Errorf("%d bytes: the block freed last is gone", size)
			}
			mustHold(t)
		}
		steps(clock, f, 5)
		if got := int(f.head().cap[c]); got != least || f.held(c) > uintptr(least) {
			t.Errorf("%d bytes: room for %d, with %d blocks; want %d", size, got, f.held(c), least)
		}
		if c > sizeclass.Num && (*f.top(c) != *trapFront.top(0) || !f.head().closed[c]) {
			t.Errorf("%d bytes: a magazine without room is not closed", size)
		}
		if room < least || taken == 0 && room > least {
			t.Errorf("%d bytes: room for %d at first", size, room)
		}
		turn(t, f, 300, size)
		mustHold(t)
	}
}

// TestRoomBelowTheLeast: a magazine that is smaller than the least room, because the policy allowed less
// when it was made, is left as it is.
func TestRoomBelowTheLeast(t *testing.T) {
	needsACE(t)
	clock := withPrice(t, 64)
	f, c := heapFront(t), sizeclass.Of(64)
	withPolicy(t, map[string]string{"HAKMEM_MAG_BLOCKS": "8"})
	turn(t, f, 20, 64)
	withPolicy(t, nil)
	steps(clock, f, 3)
	if got := f.head().cap[c]; got != 8 {
		t.Errorf("room for %d, want 8 as before", got)
	}
	turn(t, f, 20, 64)
	mustHold(t)
}

// TestOldestGoBack: what has no room any more is what was freed first.
func TestOldestGoBack(t *testing.T) {
	needsACE(t)
	for _, size := range []mem.Bytes{512, 5000} {
		clock := withPrice(t, 64)
		f, c := heapFront(t), sizeclass.Of(size)
		turn(t, f, 26, size)
		var before []Block
		for i := range f.held(c) {
			before = append(before, Block(*word(f.sentinel(c) + slots(int(i)+1))))
		}
		for f.held(c) == uintptr(len(before)) {
			steps(clock, f, 1)
		}
		var after []Block
		for i := range f.held(c) {
			after = append(after, Block(*word(f.sentinel(c) + slots(int(i)+1))))
		}
		out := len(before) - len(after)
		if !slices.Equal(after, before[out:]) {
			t.Errorf("%d bytes: %#x are left of %#x", size, after, before)
		}
		for _, p := range before[:out] {
			if !isFree(p, c) {
				t.Errorf("%d bytes: %#x did not go back to its slab", size, p)
			}
		}
	}
}

// TestClosedMagazine: a magazine of large blocks that is worth nothing is closed. When blocks go by it
// often enough, it opens again.
func TestClosedMagazine(t *testing.T) {
	needsACE(t)
	const size = 300 << 10
	clock := withPrice(t, 64)
	f, c := heapFront(t), sizeclass.LargeOf(size)
	h := f.head()
	turn(t, f, 1, size)
	steps(clock, f, 3)
	if !h.closed[c] || h.cap[c] != 0 {
		t.Fatalf("closed %t, with room for %d", h.closed[c], h.cap[c])
	}
	turn(t, f, 1, size)
	if h.cap[c] != 0 || h.ghosts[c] != 1 {
		t.Errorf("a free made room for %d; %d ghosts, want 1", h.cap[c], h.ghosts[c])
	}
	// What a turn saves, 200 ns, is to be what room for one costs in the time of so many turns.
	worth := float64(c.Bytes()) * math.Float64frombits(cachePrice.Load()) / largeSeconds * aceLeast.Seconds()
	for range int(worth * 0.9) {
		turn(t, f, 1, size)
	}
	if steps(clock, f, 1); !h.closed[c] {
		t.Errorf("%d turns in %v opened the magazine, which would take %.1f", int(worth*0.9), aceLeast, worth)
	}
	for range int(worth*1.1) + 1 {
		turn(t, f, 1, size)
	}
	if steps(clock, f, 1); h.closed[c] || h.most[c] != 1 {
		t.Fatalf("closed %t, at most %d; want a magazine for 1", h.closed[c], h.most[c])
	}
	turn(t, f, 1, size)
	if h.cap[c] != 1 || f.held(c) != 1 {
		t.Errorf("room for %d, %d blocks; want 1 of 1", h.cap[c], f.held(c))
	}
	misses := *f.misses(c)
	turn(t, f, 1, size)
	if *f.misses(c) != misses {
		t.Error("the magazine that was opened does not serve")
	}
}

// TestRoomGrowsWhereItPays: also where memory is scarce a magazine gets the room for a program's turns, if
// they come often, and keeps it.
func TestRoomGrowsWhereItPays(t *testing.T) {
	needsACE(t)
	for _, test := range []struct {
		size   mem.Bytes
		blocks int
	}{{64, 500}, {1000, 100}, {5000, 20}, {200 << 10, 4}} {
		clock := withPrice(t, 8)
		f, c := heapFront(t), classOf(test.size)
		turn(t, f, 1, test.size)
		steps(clock, f, 20)
		if least, _ := roomRange(c); int(f.head().cap[c]) != least {
			t.Fatalf("%d bytes: room for %d, want the least, %d", test.size, f.head().cap[c], least)
		}
		for range 30 {
			for range 40_000 / test.blocks / int(math.Sqrt(float64(test.size))) { // fewer where blocks are dear
				turn(t, f, test.blocks, test.size)
			}
			steps(clock, f, 1)
		}
		room := int(f.head().cap[c])
		// A flush takes at least a batch, so that a room which is a little too small will do, too.
		if room < test.blocks/2 || room > 4*test.blocks {
			t.Errorf("%d bytes: room for %d, with turns of %d", test.size, room, test.blocks)
		}
		mustHold(t)
	}
}

// TestRoomWithoutPrice: when memory is not scarce any more, all is as the policy says.
func TestRoomWithoutPrice(t *testing.T) {
	needsACE(t)
	const tiny, mid, large = 64, 5000, 300 << 10
	clock := withPrice(t, 64)
	f := heapFront(t)
	h := f.head()
	sizes := []mem.Bytes{tiny, mid, large}
	for _, size := range sizes {
		turn(t, f, 50, size)
	}
	steps(clock, f, 20)
	if !h.closed[classOf(large)] || h.most[classOf(tiny)] == 0 || h.most[classOf(mid)] == 0 || !h.unkept[classOf(tiny)] {
		t.Fatal("nothing was taken")
	}
	setPrice(t, 1)
	steps(clock, f, 2)
	for _, size := range sizes {
		c := classOf(size)
		if h.most[c] != 0 || h.closed[c] || c <= sizeclass.Num && h.unkept[c] {
			t.Errorf("%d bytes: at most %d, closed %t, unkept %t", size, h.most[c], h.closed[c], h.unkept[c])
		}
	}
	for range 12 {
		turn(t, f, 3000, tiny)
		turn(t, f, 300, mid)
	}
	if got, want := int(h.cap[classOf(tiny)]), policy.Now().MagBlocks; got != want {
		t.Errorf("room for %d tiny blocks, want %d", got, want)
	}
	if got, want := int(h.cap[classOf(mid)]), policy.Now().MagGrowBytes/int(classOf(mid).Bytes()); got < want/2 || got > want {
		t.Errorf("room for %d mid blocks, want %d", got, want)
	}
	turn(t, f, 1, large)
	if got, want := int(h.cap[classOf(large)]), firstRoom(classOf(large)); got != want {
		t.Errorf("room for %d large blocks, want %d as in a new magazine", got, want)
	}
	if *f.lease(classOf(tiny)) == 0 {
		t.Error("the lease is given up although memory is not scarce")
	}
}

// TestLeaseEnds: a lease goes back that is worth less than what is free in its slab. Later refills take a
// slab and give it back, until they are many.
func TestLeaseEnds(t *testing.T) {
	needsACE(t)
	const size = 5000
	clock := withPrice(t, 16)
	f, c := heapFront(t), sizeclass.Of(size)
	var blocks []Block
	refill := func() {
		for n := *f.refills(c); *f.refills(c) == n; {
			p := Malloc(f, size)
			if p == 0 {
				t.Fatal(Survived())
			}
			blocks = append(blocks, p)
		}
	}
	refill()
	s := *f.lease(c)
	if s == 0 {
		t.Fatal("no lease")
	}
	steps(clock, f, 3)
	if *f.lease(c) != 0 || !f.head().unkept[c] || s.meta().slabState.Load() == slabLeased {
		t.Errorf("the lease of an idle class is still %#x", *f.lease(c))
	}
	mustHold(t)
	refill()
	if *f.lease(c) != 0 {
		t.Error("a refill that seldom comes kept its lease")
	}
	mustHold(t)
	// So many refills in a step are worth the bytes of a slab.
	worth := float64(slabBytes(c)) * math.Float64frombits(cachePrice.Load()) / leaseSeconds * aceLeast.Seconds()
	for range int(worth * 0.9) {
		refill()
	}
	if steps(clock, f, 1); !f.head().unkept[c] {
		t.Errorf("%d refills in %v, and leases are kept; that would take %.1f", int(worth*0.9), aceLeast, worth)
	}
	for range int(worth*1.1) + 1 {
		refill()
	}
	steps(clock, f, 1)
	refill()
	if f.head().unkept[c] || *f.lease(c) == 0 {
		t.Error("many refills did not bring the lease back")
	}
	for _, p := range blocks {
		if bad := Free(f, p); bad.Kind != OK {
			t.Fatal(bad)
		}
	}
}

// TestOldRefills: what an earlier user of a front's memory refilled does not count for the next one.
func TestOldRefills(t *testing.T) {
	f := heapFront(t)
	c := sizeclass.Of(64)
	was := *f.refills(c)
	defer func() { *f.refills(c) = was }()
	*f.refills(c) += 1000
	emptyFront(f)
	initFront(f)
	if got := f.head().refilled[c]; got != was+1000 {
		t.Errorf("refills are counted from %d on, want %d", got, was+1000)
	}
}

// TestStepAfterAHarvest: a Heap that was harvested between two steps has its room again before the next.
func TestStepAfterAHarvest(t *testing.T) {
	needsACE(t)
	clock := withPrice(t, 64)
	h := newTestHeap(t)
	h.use(t, 200, heapSizes...)
	steps(clock, h.own, 2)
	room := h.own.head().cap
	Trim()
	mustHold(t)
	steps(clock, h.own, 1)
	for _, size := range heapSizes {
		c := classOf(size)
		least, _ := roomRange(c)
		if got, want := int(h.own.head().cap[c]), max(int(room[c])/2, least); got != want {
			t.Errorf("%d bytes: room for %d, want %d: half of %d", size, got, want, room[c])
		}
	}
	mustHold(t)
	h.use(t, 200, heapSizes...)
	mustHold(t)
	h.close(t)
}

// TestACEAtOnce: goroutines allocate and free through the fronts of Ps and Heaps, while steps take room
// and Trim empties everything. No block is with two of them, and none is lost.
func TestACEAtOnce(t *testing.T) {
	needsACE(t)
	const alive = 300
	goroutines, turns := 4, 150_000
	if testing.Short() || testkit.Race {
		turns /= 15
	}
	clock := withPrice(t, 64)
	old := runtime.GOMAXPROCS(goroutines)
	defer runtime.GOMAXPROCS(old)
	var workers, trimmer sync.WaitGroup
	var stop atomic.Bool
	trimmer.Go(func() {
		for !stop.Load() {
			Trim()
			setPrice(t, 64) // a tick sets it as the budget says
			runtime.Gosched()
		}
	})
	for g := range 2 * goroutines {
		workers.Go(func() {
			own := Front(0)
			if g%2 != 0 {
				h := newTestHeap(t)
				defer h.close(t)
				own = h.own
			}
			r := rand.New(rand.NewPCG(uint64(g), 11))
			type block struct {
				p    Block
				size mem.Bytes
			}
			var blocks [alive]block
			check := func(b block, i int) {
				if !testkit.Intact(Pointer(b.p), uintptr(min(b.size, 64)), uint64(g*alive+i)) {
					t.Errorf("a block of %d bytes was overwritten", b.size)
				}
				if bad := Free(own, b.p); bad.Kind != OK {
					t.Errorf("Free(%#x) = %+v", b.p, bad)
				}
			}
			for n := range turns {
				if n%64 == 0 {
					clock.Skip(aceLeast / 4)
				}
				i := r.IntN(alive)
				if b := blocks[i]; b.p != 0 {
					check(b, i)
				}
				b := block{size: mem.Bytes(16 * math.Exp(r.Float64()*math.Log(256<<10/16)))}
				if b.p = Malloc(own, b.size); b.p == 0 {
					t.Errorf("no block of %d bytes: %v", b.size, Survived())
					return
				}
				testkit.Fill(Pointer(b.p), uintptr(min(b.size, 64)), uint64(g*alive+i))
				blocks[i] = b
			}
			for i, b := range blocks {
				if b.p != 0 {
					check(b, i)
				}
			}
			if own != 0 && own.head().stepped == 0 {
				t.Error("a Heap took no step")
			}
		})
	}
	workers.Wait()
	stop.Store(true)
	trimmer.Wait()
	mustHold(t)
}

// TestWithoutACE: with hakmem_nolearn magazines have the policy's room, whatever the price.
func TestWithoutACE(t *testing.T) {
	if learning {
		t.Skip("skipped: for builds with hakmem_nolearn")
	}
	clock := withPrice(t, 64)
	f, c := heapFront(t), sizeclass.LargeOf(40<<10)
	for range 2 * aceEvents {
		clock.Skip(aceLeast)
		turn(t, f, 100, 64)
		turn(t, f, 100, 40<<10)
	}
	a := &f.head().adaptive
	if a.events != 0 || a.stepped != 0 || *f.lease(sizeclass.Of(64)) == 0 {
		t.Errorf("%d events, a step at %v", a.events, a.stepped)
	}
	if got, want := int(f.head().cap[c]), policy.Now().MagLargeBytes/int(c.Bytes()); got != want {
		t.Errorf("room for %d large blocks, want %d", got, want)
	}
}
