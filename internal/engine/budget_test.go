package engine

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/policy"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// cachesNow returns what inCaches and scarcity return.
func cachesNow() (held, limit mem.Bytes, scarce float64) {
	scavenger.moving.Lock()
	defer scavenger.moving.Unlock()
	held, limit = inCaches()
	return held, limit, scarcity()
}

// replacer is a Heap whose blocks are replaced at random, one by one.
type replacer struct {
	heap   *testHeap
	r      *rand.Rand
	blocks []Block
}

// turn replaces n blocks by others, whose sizes from 16 B to 256 KiB are evenly distributed on a
// logarithmic scale.
func (x *replacer) turn(t *testing.T, n int) {
	for range n {
		p := &x.blocks[x.r.IntN(len(x.blocks))]
		if *p != 0 {
			x.heap.free(t, *p)
		}
		if *p = x.heap.malloc(mem.Bytes(16 * math.Exp(x.r.Float64()*math.Log(256<<10/16)))); *p == 0 {
			t.Fatal(Survived())
		}
	}
}

func (x *replacer) close(t *testing.T) {
	for _, p := range x.blocks {
		if p != 0 {
			x.heap.free(t, p)
		}
	}
	x.heap.close(t)
}

// TestBudget: sixteen fronts hold at most what the budget allows, a second after they began to use memory
// of all sizes, and much more when they may.
func TestBudget(t *testing.T) {
	needsACE(t)
	const (
		fronts = 16
		alive  = 256                  // blocks of 27 KiB on average: 107 MiB in all fronts
		round  = 5 * time.Millisecond // in which each front replaces 60 blocks: 192,000 in a second in all
		phase  = 300                  // rounds, 1.5 s: six looks
		seen   = 100                  // the last rounds of a phase, which count
		// Caches grow between two looks. With this seed they held 14.3 MiB of 14 and 75 of 136.
		tolerance = 1.1
	)
	clock := withClock(t)
	unlimited := func(p *policy.Tuning) { p.CacheBudget = maxRegion }
	tune(t, unlimited)
	var all []*replacer
	for i := range uint64(fronts) {
		x := &replacer{newTestHeap(t), rand.New(rand.NewPCG(1, i)), make([]Block, alive)}
		defer x.close(t)
		all = append(all, x)
	}
	run := func(rounds int) (held, limit, scarce float64) {
		for i := range rounds {
			for _, x := range all {
				x.turn(t, 60)
			}
			clock.Advance(round)
			if i >= rounds-seen {
				h, l, s := cachesNow()
				held, limit, scarce = held+float64(h)/seen, float64(l), s
			}
		}
		mustHold(t)
		return held, limit, scarce
	}
	free, _, scarce := run(phase)
	t.Logf("without a budget %.0f MiB are held", free/mebibyte)
	if scarce != 0 {
		t.Errorf("without a budget memory is %g times as scarce", scarce)
	}
	for _, test := range []struct {
		budget int
		want   float64
	}{
		{0, 14 * mebibyte}, // 12 MiB and an eighth of one for each front; the P of the test has none
		{int(free) / 2, free / 2},
	} {
		tune(t, func(p *policy.Tuning) { p.CacheBudget = test.budget })
		held, limit, scarce := run(2 * phase)
		t.Logf("%.0f MiB are held of %.0f, %.1f times as scarce", held/mebibyte, limit/mebibyte, scarce)
		if math.Abs(limit-test.want) > 5*mebibyte {
			t.Errorf("the budget is %.1f MiB, want %.1f", limit/mebibyte, test.want/mebibyte)
		}
		if held > tolerance*limit || held < limit/4 || scarce == 0 {
			t.Errorf("%.1f MiB are held, %g times as scarce; want at most the budget of %.1f, and more than a quarter of it", held/mebibyte, scarce, limit/mebibyte)
		}
	}
	tune(t, unlimited)
	// The price falls for a second, and magazines that had little room grow from step to step.
	again, _, scarce := run(2 * phase)
	if again < 0.6*free || scarce != 0 {
		t.Errorf("when there is no budget any more %.1f MiB are held, %g times as scarce; it was %.1f MiB before", again/mebibyte, scarce, free/mebibyte)
	}
}

// TestBudgetSetting: HAKMEM_CACHE_BUDGET is the budget.
func TestBudgetSetting(t *testing.T) {
	withClock(t)
	withPolicy(t, map[string]string{"HAKMEM_CACHE_BUDGET": "12345678"})
	if _, limit, _ := cachesNow(); limit != 12345678 {
		t.Errorf("the budget is %d bytes, want 12345678", limit)
	}
}

// TestBudgetCounts: magazines, leases and shared slots are held, and what waits in a quarantine is not: no
// price makes it less.
func TestBudgetCounts(t *testing.T) {
	withClock(t)
	h := newTestHeap(t)
	before, limit, _ := cachesNow()
	want := func(what string, more mem.Bytes) {
		t.Helper()
		if held, _, _ := cachesNow(); held != before+more {
			t.Errorf("%s: %d bytes are held, want %d and %d", what, held, before, more)
		}
	}
	c := sizeclass.Of(5000)
	p := Malloc(h.own, 5000)
	lease := slabBytes(c) / 2
	want("a lease and the rest of a refill", lease+mem.Bytes(h.own.held(c))*c.Bytes())
	if bad := Free(h.own, p); bad.Kind != OK {
		t.Fatal(bad)
	}
	emptyMagazine(h.own, c)
	want("a lease", lease)
	const large = 300 << 10
	lc := sizeclass.LargeOf(large)
	a, b := Malloc(h.own, large), Malloc(h.own, large)
	freeThrough(t, h.own, a)
	want("a magazine of large blocks", lease+lc.Bytes())
	freeThrough(t, h.own, b) // there is room for one, and the older one goes to a slot
	want("a shared slot", lease+2*lc.Bytes())
	h.own.head().waiting[c] += 100
	want("a quarantine", lease+2*lc.Bytes())
	h.own.head().waiting[c] -= 100
	var totals Totals
	ReadTotals(&totals)
	if got, want := totals.Budget, (BudgetTotals{Held: uint64(before + lease + 2*lc.Bytes()), Limit: uint64(limit)}); got != want {
		t.Errorf("statistics say %+v, want %+v", got, want)
	}
	if limit < budgetMost {
		t.Errorf("the budget is %d bytes, want at least %d", limit, budgetMost)
	}
	h.close(t)
}

func freeThrough(t *testing.T, f Front, p Block) {
	t.Helper()
	if bad := Free(f, p); bad.Kind != OK {
		t.Fatalf("Free(%#x) = %+v", p, bad)
	}
}

// TestSharedRoom: shared slots are given up where they save nothing and memory is scarce, and used again
// where they do. Blocks that lie in slots that were given up are still found.
func TestSharedRoom(t *testing.T) {
	needsACE(t)
	const size, seconds = 200 << 10, 0.25
	withPrice(t, 64)
	c := sizeclass.LargeOf(size)
	line := &shared[c-sizeclass.Num-1]
	openSlots()
	fit := func(n int) {
		scavenger.moving.Lock()
		defer scavenger.moving.Unlock()
		for range n {
			fitShared(seconds)
		}
	}
	var blocks []Block
	for range sharedSlots {
		blocks = append(blocks, Malloc(0, size))
	}
	for _, p := range blocks {
		setLive(p, c, 0)
		if !giveShared(c, p) {
			t.Fatal("no slot is free")
		}
	}
	for _, want := range []int{8, 4, 2, 1, 0, 0} {
		if fit(1); line.room() != want {
			t.Errorf("%d slots are used, want %d", line.room(), want)
		}
	}
	mustHold(t)
	for range blocks {
		p := takeShared(c)
		if p == 0 {
			t.Fatal("a block is lost")
		}
		if giveShared(c, p) {
			t.Error("a block was put into a slot that was given up")
		}
		releaseAll([]Block{p})
	}
	// Those were evictions. So many blocks pay for one slot in the time of a look if they are missed, too.
	worth := float64(c.Bytes()) * math.Float64frombits(cachePrice.Load()) / pagesSeconds * seconds
	line.evicted.Store(1000)
	line.missed.Store(uint32(worth * 0.9))
	if fit(1); line.room() != 0 {
		t.Errorf("%d slots are used, want none", line.room())
	}
	line.evicted.Store(uint32(worth*1.1) + 1)
	line.missed.Store(1000)
	if fit(1); line.room() != 1 {
		t.Errorf("%d slots are used, want 1", line.room())
	}
	if fit(1); line.room() != 1 {
		t.Errorf("%d slots are used right after they were given back, want 1", line.room())
	}
	setPrice(t, 1)
	line.shut.Store(12)
	if fit(1); line.room() != sharedSlots {
		t.Errorf("%d slots are used while memory is not scarce", line.room())
	}
}

// TestPriceAtRest: when the scavenger comes to rest nothing is scarce, and nothing is when it does not run.
func TestPriceAtRest(t *testing.T) {
	needsACE(t)
	var totals Totals
	clock := withClock(t)
	tune(t, func(p *policy.Tuning) { p.CacheBudget = 1 })
	f := heapFront(t)
	keep := Malloc(0, 64)
	for range 30 {
		turn(t, f, 20, 300<<10)
		turn(t, 0, 20, 300<<10)
		clock.Advance(tick())
	}
	if _, _, scarce := cachesNow(); scarce < 2 {
		t.Fatalf("memory is %g times as scarce, of a budget of 1 byte", scarce)
	} else if ReadTotals(&totals); totals.Budget.Scarcity != scarce {
		t.Errorf("statistics say %g times as scarce, want %g", totals.Budget.Scarcity, scarce)
	}
	shared[0].shut.Store(5)
	clock.Advance(time.Minute)
	if clock.Pending() != 0 || scavenger.armed.Load() {
		t.Fatal("the scavenger did not come to rest")
	}
	if _, _, scarce := cachesNow(); scarce != 0 || cachePrice.Load() != 0 || shared[0].shut.Load() != 0 {
		t.Errorf("at rest memory is %g times as scarce, and %d slots are shut", scarce, shared[0].shut.Load())
	}
	freeThrough(t, 0, keep)
}
