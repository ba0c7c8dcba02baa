package engine

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/hakmem/hakmem/internal/learn"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/policy"
	"github.com/hakmem/hakmem/internal/site"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// withWMax puts a factor in force until the test ends. The caches are empty then, and have room.
func withWMax(t *testing.T, w policy.WMax) {
	t.Helper()
	withRoom(t)
	tune(t, func(p *policy.Tuning) { p.WMax = w })
	if !scavenger.lock() {
		t.Fatal("the scavenger is held")
	}
	wmax.WMax = nil
	wider.factor.Store(0)
	scavenger.unlock()
	Trim()
}

// TestWider: a cached block serves a smaller request if it is not larger than W_MAX times the request, the
// nearest class first; it stays a block of its own class.
func TestWider(t *testing.T) {
	withClock(t)
	const kib = 1 << 10
	for _, test := range []struct {
		wmax                  policy.WMax
		cached, request, size mem.Bytes // size is what the request gets
	}{
		{0, 80 * kib, 72 * kib, 72 * kib},
		{1, 80 * kib, 72 * kib, 80 * kib},
		{1, 80 * kib, 64*kib + 1, 80 * kib}, // 1.25 times 65537 is more than 80 KiB
		{1, 80 * kib, 64 * kib, 80 * kib},   // exactly
		{1, 80 * kib, 64*kib - 1, 64 * kib},
		{1, 96 * kib, 72 * kib, 72 * kib},
		{2, 96 * kib, 64 * kib, 96 * kib},
		{2, 112 * kib, 64 * kib, 64 * kib},
		{3, 112 * kib, 64 * kib, 112 * kib},
		{3, 2048 * kib, 1200 * kib, 2048 * kib}, // the last class
		{3, 2304 * kib, 2048 * kib, 2048 * kib}, // a huge block, which has no class
		{3, 32 * kib, 32*kib + 1, 36 * kib},     // a block of a slab
		{3, 64 * kib, 80 * kib, 80 * kib},       // smaller
	} {
		t.Run(fmt.Sprintf("%g of %d, %d cached", learn.WMaxFactors[test.wmax], test.request, test.cached), func(t *testing.T) {
			withWMax(t, test.wmax)
			f := heapFront(t)
			free := func(p Block) Kind { return Free(f, p).Kind }
			p := Malloc(f, test.cached)
			if why := free(p); why != OK {
				t.Fatal(why)
			}
			var was, is Totals
			ReadTotals(&was)
			q := Malloc(f, test.request)
			size, _, bad := Size(q)
			if bad.Kind != OK || size != test.size {
				t.Errorf("the request got %d bytes, want %d; %+v", size, test.size, bad)
			}
			mustHold(t)
			ReadTotals(&is)
			wide := test.size == test.cached
			served, beyond := is.Large.Wider-was.Large.Wider, is.Large.WiderBytes-was.Large.WiderBytes
			if wide && (q != p || served != 1 || beyond != uint64(size-test.request)) || !wide && served+beyond != 0 {
				t.Errorf("%d served, with %d bytes more than was asked for", served, beyond)
			}
			if live := is.Large.LiveBytes - was.Large.LiveBytes; checkLive && live != uint64(size) {
				t.Errorf("%d bytes are live, want %d", live, size)
			}
			if why := free(q); why != OK {
				t.Fatal(why)
			}
			if checkLive {
				if why := free(q); why != Freed {
					t.Errorf("a second free of the block: %v", why)
				}
			}
			if !wide {
				return
			}
			again := Malloc(f, test.cached) // it went back to where it came from
			if again != p {
				t.Errorf("its own class got %#x, want %#x", again, p)
			}
			if why := free(again); why != OK {
				t.Error(why)
			}
		})
	}
}

// TestWiderNearest: of several the nearest class serves, and the own class before all others.
func TestWiderNearest(t *testing.T) {
	withClock(t)
	withWMax(t, 3)
	f := heapFront(t)
	const request = 64 << 10
	var blocks []Block
	for _, size := range []mem.Bytes{112 << 10, 80 << 10, 96 << 10, 64 << 10} {
		blocks = append(blocks, Malloc(f, size))
	}
	for _, p := range blocks {
		if bad := Free(f, p); bad.Kind != OK {
			t.Fatal(bad)
		}
	}
	for _, want := range []int{3, 1, 2, 0} {
		if got := Malloc(f, request); got != blocks[want] {
			t.Fatalf("got %#x, want block %d of %#x", got, want, blocks)
		}
	}
	fresh := Malloc(f, request)
	if size, _, _ := Size(fresh); size != request {
		t.Errorf("with empty caches a request for %d got %d", request, size)
	}
	for _, p := range append(blocks, fresh) {
		if bad := Free(f, p); bad.Kind != OK {
			t.Error(bad)
		}
	}
}

// TestWiderShared: the shared slots serve smaller requests, too, and the block of a site has the site.
func TestWiderShared(t *testing.T) {
	withClock(t)
	withWMax(t, 1)
	tune(t, func(p *policy.Tuning) { p.MagLargeBytes = 0 })
	Trim()
	const n, size = 6, 600 << 10
	blocks := fillBytes(t, n*size, size)
	freeBlocks(t, blocks) // a magazine has room for one in any case
	var was, is Totals
	ReadTotals(&was)
	if was.Shared.Blocks < n-2 {
		t.Fatalf("%d blocks are in shared slots, want %d or so", was.Shared.Blocks, n-1)
	}
	s := site.Register("wider")
	misses := was.Shared.Misses
	for range n - 2 {
		p := MallocAt(s, 520<<10)
		if size, of, bad := Size(p); bad.Kind != OK || checkLive && of != s || size < 600<<10 {
			t.Errorf("%d bytes of site %d, want 600 KiB or more of %d: %+v", size, of, s, bad)
		}
		mustHold(t)
		blocks = append(blocks, p)
	}
	ReadTotals(&is)
	if got := is.Large.Wider - was.Large.Wider; got != n-2 {
		t.Errorf("%d blocks served smaller requests, want %d", got, n-2)
	}
	if got := is.Shared.Misses - misses; got != n-2 {
		t.Errorf("%d misses of the shared slots, want one for each allocation", got)
	}
	freeBlocks(t, blocks[n:])
}

// TestWiderZero: memory that must be zero is, also in a block that served a larger request before.
func TestWiderZero(t *testing.T) {
	withClock(t)
	withWMax(t, 3)
	p := Malloc(0, 112<<10)
	for i := range Block(112 << 10) {
		*u8(mem.Addr(p + i)) = 0xA5
	}
	freeBlocks(t, []Block{p})
	const n = 65 << 10
	q := MallocZero(0, n)
	if q != p {
		t.Skip("skipped: the test moved to another P")
	}
	for i := range Block(n) {
		if *u8(mem.Addr(q + i)) != 0 {
			t.Fatalf("byte %d of the block is not 0", i)
		}
	}
	if !Resize(q, 110<<10, KeepAll) { // without moving: the block is large enough
		t.Error("the block could not grow within itself")
	}
	mustHold(t)
	freeBlocks(t, []Block{q})
}

// TestWiderResized: a block that got another class while it was live is not taken for the old one.
func TestWiderResized(t *testing.T) {
	withClock(t)
	withWMax(t, 3)
	p := Malloc(0, 448<<10)
	freeBlocks(t, []Block{p})
	q := Malloc(0, 300<<10)
	if !Resize(q, 320<<10, KeepAll) {
		t.Fatal("the block could not become smaller")
	}
	if size, _, _ := Size(q); size != 320<<10 {
		t.Errorf("the block has %d bytes, want 320 KiB", size)
	}
	freeBlocks(t, []Block{q})
	mustHold(t)
	r := Malloc(0, 448<<10)
	if size, _, _ := Size(r); r == q || size != 448<<10 {
		t.Errorf("a request for 448 KiB got %#x with %d bytes", r, size)
	}
	freeBlocks(t, []Block{r})
}

// TestWiderRace: goroutines that take blocks of each other's classes never get the same one.
func TestWiderRace(t *testing.T) {
	withClock(t)
	withWMax(t, 3)
	tune(t, func(p *policy.Tuning) { p.MagLargeBytes = 0 })
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			var held [8]Block
			for i := range 3000 {
				at := &held[(i*7+g)%len(held)]
				if *at != 0 {
					if got := *u8(mem.Addr(*at)); got != uint8(g+1) {
						t.Errorf("block %#x has the mark %d, want %d", *at, got, g+1)
					}
					if bad := Free(0, *at); bad.Kind != OK {
						t.Errorf("%+v", bad)
					}
				}
				*at = Malloc(0, mem.Bytes(33+(i*13+g*5)%90)<<10)
				*u8(mem.Addr(*at)) = uint8(g + 1)
			}
			for _, p := range held {
				if bad := Free(0, p); bad.Kind != OK {
					t.Errorf("%+v", bad)
				}
			}
		})
	}
	wg.Wait()
	mustHold(t)
}

// TestWMaxLearns: with auto the factors are tried, and one whose windows cost less is adopted. The test's
// clock stands still while a miss is served, so the test adds what misses cost.
func TestWMaxLearns(t *testing.T) {
	if !learning || !checkLive {
		t.Skip("skipped: nothing is learnt in this build, or it is not known which blocks live")
	}
	c := withClock(t)
	withLearner(t, learn.EvolutionLearn, learn.DecideNone)
	withWMax(t, policy.WMaxAuto)
	before := wider.served.Load()
	for range 80 {
		var blocks []Block
		for i := range 100 { // each size is cached only while its neighbour is wanted
			blocks = append(blocks, fillBytes(t, 64<<10, mem.Bytes(64+8*(i%2))<<10)...)
		}
		freeBlocks(t, blocks)
		served := wider.served.Load()
		p := fillBytes(t, 20*57<<10, 57<<10) // their class is always empty
		if f := widest(0); f == 1 && wider.served.Load() != served {
			t.Fatal("a smaller request was served with factor 1")
		}
		freeBlocks(t, p)
		if widest(0) == 1 { // misses cost 100 µs each
			wider.nanos.Add(100 * 100_000 / missSample)
		}
		c.Advance(2100 * time.Millisecond)
	}
	s, _ := LearnerState()
	adopted := false
	for _, d := range s.Decisions {
		adopted = adopted || d.Kind == learn.KindWMax && d.From == 1 && d.To > 1
	}
	if !adopted || wmax.Adopted() == 1 {
		t.Errorf("factor %g is in force; decisions %+v", wmax.Adopted(), s.Decisions)
	}
	if wider.served.Load() == before {
		t.Error("no block served a smaller request")
	}
	tune(t, func(p *policy.Tuning) { p.Evo = learn.EvolutionOff })
	if f := widest(0); f != 1 {
		t.Errorf("the factor is %g where nothing is learnt", f)
	}
}

// TestFollowLives: the lives of blocks that served smaller requests are seen at ticks.
func TestFollowLives(t *testing.T) {
	if !learning || !checkLive {
		t.Skip("skipped: nothing is learnt in this build, or it is not known which blocks live")
	}
	c := withClock(t)
	withLearner(t, learn.EvolutionLearn, learn.DecideNone)
	withWMax(t, policy.WMaxAuto)
	for i := range wider.lives {
		wider.lives[i].Store(0)
	}
	look := func() float64 {
		if !scavenger.lock() {
			t.Fatal("the scavenger is held")
		}
		defer scavenger.unlock()
		if wmax.WMax == nil {
			wmax.WMax, wmax.looked = learn.NewWMax(), milliseconds()
		}
		followLives(milliseconds())
		return wmax.Life()
	}
	look()
	class := sizeclass.LargeOf(64 << 10)
	blocks := fillBytes(t, 10*64<<10, 64<<10)
	for _, p := range blocks {
		wider.served.Add(1)
		followLife(p, class)
	}
	for range 3 {
		c.Skip(time.Second)
		look()
	}
	if l := wmax.Life(); l != 1+10*3 {
		t.Errorf("ten blocks have lived for 3 s each, none has died: the mean is %g s, want 31", l)
	}
	freeBlocks(t, blocks)
	c.Skip(2 * time.Second)
	if l, want := look(), (1+10*3.+10*1)/(1+10); l != want {
		t.Errorf("they died within 2 s: the mean is %g s, want %g", l, want)
	}
	c.Skip(time.Second)
	if l, want := look(), (1+10*3.+10*1)/(1+10); l != want {
		t.Errorf("samples that have died count on: %g s, want %g", l, want)
	}
	blocks = fillBytes(t, 64<<10, 64<<10)
	followLife(blocks[0], class)
	freeBlocks(t, blocks)
	c.Skip(time.Hour)
	if l, want := look(), (1+10*3.+10*1)/(1+10); l != want {
		t.Errorf("a sample that died in an hour without ticks counts: %g s, want %g", l, want)
	}
}

// TestWMaxWorth: the more W_MAX is, the fewer blocks are made of free pages, and the more bytes the live
// blocks have beyond what was asked for. The program replaces blocks of 33 KiB to 512 KiB at random, 100 at
// a time.
func TestWMaxWorth(t *testing.T) {
	withClock(t)
	lastMade, lastBeyond := uint64(math.MaxUint64), 0.0
	for w, factor := range learn.WMaxFactors {
		withWMax(t, policy.WMax(w))
		f, rng := heapFront(t), rand.New(rand.NewPCG(1, 2))
		var was, is Totals
		ReadTotals(&was)
		var blocks [100]Block
		var asked [100]mem.Bytes
		beyond, sum := mem.Bytes(0), mem.Bytes(0)
		const n = 20_000
		for range n {
			i := rng.IntN(len(blocks))
			if blocks[i] != 0 {
				if bad := Free(f, blocks[i]); bad.Kind != OK {
					t.Fatal(bad)
				}
			}
			asked[i] = mem.Bytes(33<<10 + rng.IntN(479<<10))
			blocks[i] = Malloc(f, asked[i])
		}
		for i, p := range blocks {
			size, _, _ := Size(p)
			beyond += size - asked[i]
			sum += asked[i]
			if bad := Free(f, p); bad.Kind != OK {
				t.Fatal(bad)
			}
		}
		ReadTotals(&is)
		made := is.Large.Allocs - was.Large.Allocs
		over := float64(beyond) / float64(sum)
		t.Logf("W_MAX %g: of %d allocations %d made a block of free pages, %d got a wider one; live blocks have %.1f %% beyond what was asked for",
			factor, n, made, is.Large.Wider-was.Large.Wider, 100*over)
		if made >= lastMade || over <= lastBeyond || over > factor-1+1./8 {
			t.Errorf("W_MAX %g: %d blocks were made, with a smaller one %d; %.1f %% beyond, before %.1f %%", factor, made, lastMade, 100*over, 100*lastBeyond)
		}
		lastMade, lastBeyond = made, over
	}
}
