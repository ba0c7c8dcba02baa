package engine

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/site"
	"github.com/hakmem/hakmem/internal/sizeclass"
	"github.com/hakmem/hakmem/internal/testkit"
)

// needSites skips a test of sites where blocks have none.
func needSites(t *testing.T) {
	t.Helper()
	if !checkLive {
		t.Skip("skipped: hakmem_nolive: blocks have no sites")
	}
}

// setLaneRule sets a rule that says nothing but the lane.
func setLaneRule(s site.ID, lane Lane) {
	if err := SetRule(s, Rule{Lane: lane}); err != nil {
		panic(err)
	}
}

// laneSite returns a site of the test's own, with a rule until the test ends.
func laneSite(t *testing.T, name string, lane Lane) site.ID {
	t.Helper()
	s := site.Register(t.Name() + ": " + name)
	if s == 0 {
		t.Fatal("no site")
	}
	setLaneRule(s, lane)
	t.Cleanup(func() { setLaneRule(s, LaneAuto) })
	return s
}

// mallocAtSite is MallocAt that must succeed. It writes the first byte of the block.
func mallocAtSite(t testing.TB, s site.ID, size mem.Bytes) Block {
	t.Helper()
	p := MallocAt(s, size)
	if p == 0 {
		t.Fatal("out of memory: ", Survived())
	}
	*u8(p.addr()) = 1
	return p
}

// isLongBlock reports whether the block at p lies in the long lane.
func isLongBlock(p Block) bool { return inLongLane(meta(p.page())) }

// twoSites is a program in which 19 of 20 blocks are freed soon and one lives on.
type twoSites struct {
	short, long site.ID
	size        mem.Bytes
}

// run allocates total bytes and frees the short ones. It returns the long ones.
func (x twoSites) run(t *testing.T, total mem.Bytes) (live []Block) {
	t.Helper()
	var short []Block
	for i := range total / x.size {
		if i%20 == 7 {
			live = append(live, mallocAtSite(t, x.long, x.size))
		} else {
			short = append(short, mallocAtSite(t, x.short, x.size))
		}
	}
	freeBlocks(t, short)
	return live
}

// keptShare runs x with 16 MiB and returns how many times the bytes of the living blocks are counted as
// memory 7 s after the others were freed.
func (x twoSites) keptShare(t *testing.T, c *testkit.Clock) (kept float64) {
	t.Helper()
	Trim()
	var live []Block
	n := countedBy(func() {
		live = x.run(t, 16*mebibyte)
		c.Advance(7 * time.Second)
	})
	mustHold(t)
	freeBlocks(t, live)
	return float64(n) / float64(mem.Bytes(len(live))*x.size)
}

// TestLongLaneKeepsLittle: where blocks that live for long have a lane of their own, what stays when the
// others are freed is not much more than they need. The same sites in one lane show what that is worth.
func TestLongLaneKeepsLittle(t *testing.T) {
	needSites(t)
	needsUnits(t)
	for _, c := range []struct {
		size          mem.Bytes
		apart, common float64 // at most, and at least
	}{{64, 1.6, 10}, {256, 1.5, 8}, {1024, 1.5, 4}, {4096, 1.5, 1.5}} {
		t.Run(fmt.Sprint(c.size), func(t *testing.T) {
			clock := withClock(t)
			x := twoSites{laneSite(t, "short", LaneShort), laneSite(t, "long", LaneLong), c.size}
			apart := x.keptShare(t, clock)
			setLaneRule(x.long, LaneShort)
			common := x.keptShare(t, clock)
			t.Logf("%d bytes: %.2f times what lives is kept, %.1f times in one lane", c.size, apart, common)
			if apart > c.apart || common < c.common {
				t.Errorf("%d bytes: %.2f times what lives is kept, want %.1f at most; in one lane %.2f times, want %.1f at least", c.size, apart, c.apart, common, c.common)
			}
		})
	}
}

// TestLongLane: blocks of the long lane are cut from slabs of their own and freed straight to them. Their
// slabs are given back, or returned in part, like others.
func TestLongLane(t *testing.T) {
	needSites(t)
	clock := withClock(t)
	s := laneSite(t, "long", LaneLong)
	for _, size := range []mem.Bytes{16, 64, 1000, 1100, 4096} {
		c := sizeclass.Of(size)
		before, _ := use()
		var blocks []Block
		for range 3*sizeclass.Classes[c].Blocks + 1 {
			p := mallocAtSite(t, s, size)
			if !isLongBlock(p) {
				t.Fatalf("%d bytes: %#x is in the common lane", size, p)
			}
			testkit.Fill(ptr(p.addr()), uintptr(size), uint64(p))
			blocks = append(blocks, p)
		}
		mustHold(t)
		for _, p := range blocks {
			if !testkit.Intact(ptr(p.addr()), uintptr(size), uint64(p)) {
				t.Fatalf("%d bytes: the block at %#x was overwritten", size, p)
			}
		}
		if p := mallocAtSite(t, 0, size); isLongBlock(p) {
			t.Errorf("%d bytes: a block without a site is in the long lane", size)
		} else {
			freeBlocks(t, []Block{p})
		}
		// The block that was freed last is handed out again, as the only free one of its slab.
		freeBlocks(t, blocks[:1])
		if bad := Free(0, blocks[0]); bad.Kind != Freed {
			t.Errorf("%d bytes: a double free gives %+v", size, bad)
		}
		own := owner(blocks[1])
		if own.freeBlocks(&sizeclass.Classes[c]) != 1 || own.meta().slabState.Load() != slabPartial {
			t.Errorf("%d bytes: a block was freed, and the slab owns %d; state %d", size, own.freeBlocks(&sizeclass.Classes[c]), own.meta().slabState.Load())
		}
		freeBlocks(t, blocks[1:])
		clock.Advance(time.Minute)
		if used, _ := use(); used > before {
			t.Errorf("%d bytes: %d pages in use after all was freed, %d before", size, used, before)
		}
		if n := clock.Pending(); n != 0 {
			t.Errorf("%d bytes: %d timers are set with nothing to return", size, n)
		}
	}
	// No lane above 4 KiB.
	p := mallocAtSite(t, s, maxLaned+1)
	if isLongBlock(p) {
		t.Error("a block above 4 KiB is in the long lane")
	}
	freeBlocks(t, []Block{p})
	if c := sizeclass.Of(maxLaned); c != numLaned || c.Bytes() != maxLaned {
		t.Errorf("class %d of %d bytes is the last one with a lane, want %d", c, c.Bytes(), numLaned)
	}
}

// TestLaneOfSpareClass: sited blocks of a spare class lie in the common lane, and those that live for long in
// the long lane of the next fixed class, aligned as they must be.
func TestLaneOfSpareClass(t *testing.T) {
	needSites(t)
	if !alone(t, "HAKMEM_DYN=2176,4224") || !Ready() {
		return
	}
	long, short := laneSite(t, "long", LaneLong), laneSite(t, "short", LaneShort)
	for _, test := range []struct {
		site   site.ID
		size   mem.Bytes
		usable mem.Bytes
		inLong bool
	}{{short, 2080, 2176, false}, {long, 2080, 2304, true}, {long, 2177, 2304, true}, {long, 4112, 4224, false}} {
		for _, align := range []mem.Align{1, 128} {
			p := mallocAligned(0, align, test.size, test.site)
			if n, s, bad := Size(p); n != test.usable || s != test.site || bad.Kind != OK || isLongBlock(p) != test.inLong || mem.Align(p)%align != 0 {
				t.Errorf("%d bytes of site %d: %d, site %d, long %t, %+v", test.size, test.site, n, s, isLongBlock(p), bad)
			}
			freeBlocks(t, []Block{p})
		}
	}
	mustHold(t)
}

// TestLaneLease: a lane that is not used gives up its slab at the second tick, and the timer stops; Trim
// and a failed allocation end its lease at once.
func TestLaneLease(t *testing.T) {
	needSites(t)
	clock := withClock(t)
	s := laneSite(t, "long", LaneLong)
	leased := func(p Block) bool { return owner(p).meta().slabState.Load() == slabLeased }
	p := mallocAtSite(t, s, 64)
	if !leased(p) || clock.Pending() == 0 {
		t.Fatalf("leased %t, %d timers", leased(p), clock.Pending())
	}
	clock.Advance(tick())
	if !leased(p) {
		t.Error("a lane that was used since the last tick gave up its slab")
	}
	clock.Advance(tick())
	if leased(p) {
		t.Error("an idle lane keeps its slab")
	}
	clock.Advance(time.Minute)
	if n := clock.Pending(); n != 0 {
		t.Errorf("%d timers are set with a block in the long lane", n)
	}
	Trim()
	if somethingLeft() {
		t.Error("Trim leaves something to do")
	}
	last := mallocAtSite(t, s, 64) // its free would need a front
	if !somethingLeft() {
		t.Error("a tick at the end of the work does not see the lane's lease")
	}
	freeBlocks(t, []Block{last})
	for what, do := range map[string]func(){"Trim": func() { Trim() }, "reclaim": func() {
		reclaimSkip.Store(0)
		reclaim(0, 1)
	}} {
		q := mallocAtSite(t, s, 64)
		if owner(q) != owner(p) || !leased(q) {
			t.Errorf("%#x is not of the slab of %#x, or that is not leased", q, p)
		}
		do()
		if leased(q) {
			t.Errorf("%s leaves the lane's lease", what)
		}
		freeBlocks(t, []Block{q})
	}
	freeBlocks(t, []Block{p})
}

// TestLaneHoles: the memory of free blocks in slabs of the long lane is returned, and faulted in again
// when they are handed out.
func TestLaneHoles(t *testing.T) {
	needSites(t)
	withClock(t)
	s := laneSite(t, "long", LaneLong)
	var blocks []Block
	for range sizeclass.Classes[sizeclass.Of(4096)].Blocks {
		blocks = append(blocks, mallocAtSite(t, s, 4096))
	}
	freeBlocks(t, blocks[1:])
	Trim()
	of := owner(blocks[0])
	if of.meta().holes() == 0 {
		t.Error("Trim made no holes")
	}
	mustHold(t)
	for i := range blocks[1:] {
		if blocks[i+1] = mallocAtSite(t, s, 4096); owner(blocks[i+1]) != of {
			t.Errorf("block %d is of another slab", i+1)
		}
	}
	if h := of.meta().holes(); h != 0 {
		t.Errorf("holes %#x under live blocks", h)
	}
	mustHold(t)
	freeBlocks(t, blocks)
}

// TestLaneAtTheLimit: the long lane keeps to the hard limit. When there is no room, an allocation brings
// together what other slabs do not need, and then fails.
func TestLaneAtTheLimit(t *testing.T) {
	needSites(t)
	withClock(t)
	s, short := laneSite(t, "long", LaneLong), laneSite(t, "short", LaneShort)
	freeBlocks(t, []Block{mallocAtSite(t, s, 64)}) // the site map
	for _, size := range []mem.Bytes{64, 4096} {
		Trim()
		withLimit(t, 0, uint64(counted.Load())+2*mebibyte)
		was := outOfMemory.Load()
		var blocks []Block
		for {
			p := MallocAt(s, size)
			if p == 0 {
				break
			}
			*u8(p.addr()) = 1
			if blocks = append(blocks, p); mem.Bytes(len(blocks))*size > 3*mebibyte {
				t.Fatalf("%d bytes: %d blocks under a limit of 2 MiB more", size, len(blocks))
			}
		}
		if outOfMemory.Load() != was+1 || mem.Bytes(len(blocks))*size < mebibyte {
			t.Errorf("%d bytes: %d failures counted, after %d blocks", size, outOfMemory.Load()-was, len(blocks))
		}
		if c, hard := counted.Load(), memoryLimit.hard.Load(); c > hard {
			t.Errorf("%d bytes: %d bytes are counted, the limit is %d", size, c, hard)
		}
		mustHold(t)
		// What the common lane does not need any more serves the long one, and the other way round.
		freeBlocks(t, blocks)
		blocks = blocks[:0]
		for range mebibyte / size {
			blocks = append(blocks, mallocAtSite(t, short, size))
		}
		freeBlocks(t, blocks)
		for i := range blocks {
			blocks[i] = mallocAtSite(t, s, size)
		}
		freeBlocks(t, blocks)
		noLimit(t)
		mustHold(t)
	}
}

// TestLaneRefused: when the system refuses memory, an allocation in the long lane fails, and the next one
// succeeds when it does not refuse any more.
func TestLaneRefused(t *testing.T) {
	needSites(t)
	withClock(t)
	forgetSurvived(t)
	s := laneSite(t, "long", LaneLong)
	freeBlocks(t, []Block{mallocAtSite(t, s, 64)}) // the site map
	testkit.RefuseOp(osmem.OpCommit, func(int) bool { return true })
	defer osmem.Inject(nil)
	var blocks []Block
	for len(blocks) < 1<<30/4096 {
		p := MallocAt(s, 4096) // nobody touches it
		if p == 0 {
			break
		}
		blocks = append(blocks, p)
	}
	osmem.Inject(nil)
	if len(blocks) == 1<<30/4096 {
		t.Error("a GiB was allocated while the system refused memory")
	}
	mustHold(t)
	freeBlocks(t, append(blocks, mallocAtSite(t, s, 4096)))
	mustHold(t)
}

// TestLaneLateDoubleFree: a block that two overlapping frees gave back, and that was handed out since, is
// its holder's: the lane drops the copy and reports it.
func TestLaneLateDoubleFree(t *testing.T) {
	needSites(t)
	withClock(t)
	s, c := laneSite(t, "long", LaneLong), sizeclass.Of(64)
	p := mallocAtSite(t, s, 64)
	of, j := owner(p), blockIndex((uint64(p)-uint64(owner(p).addr()))/64)
	*of.bits(uint32(j / 64)) |= 1 << (j % 64) // what the second free leaves
	of.meta().setLowWord(0)
	var q Block
	if late := lateIn(func() { q, _ = lanes[c].cut(c) }); late != p || q == p || q == 0 {
		t.Errorf("the copy of %#x was found as %#x, and %#x handed out", p, late, q)
	}
	flush([]Block{q}, c)
	freeBlocks(t, []Block{p})
}

// TestWrongLane: a block in the wrong lane, whoever frees it, costs memory and nothing else.
func TestWrongLane(t *testing.T) {
	needSites(t)
	withClock(t)
	s := laneSite(t, "either", LaneLong)
	f := heapFront(t)
	r := rand.New(rand.NewPCG(48, 64))
	live := map[Block]mem.Bytes{}
	for i := range 20_000 {
		if i%500 == 0 {
			setLaneRule(s, []Lane{LaneLong, LaneShort, LaneAuto}[r.IntN(3)])
		}
		if r.IntN(3) > 0 {
			size := 1 + mem.Bytes(r.IntN(6000))
			p := mallocAtSite(t, s, size)
			testkit.Fill(ptr(p.addr()), uintptr(size), uint64(p))
			live[p] = size
			continue
		}
		for p, size := range live {
			if !testkit.Intact(ptr(p.addr()), uintptr(size), uint64(p)) {
				t.Fatalf("the block at %#x was overwritten", p)
			}
			if bad := Free([]Front{0, f}[r.IntN(2)], p); bad.Kind != OK {
				t.Fatalf("Free(%#x) = %+v", p, bad)
			}
			delete(live, p)
			break
		}
	}
	mustHold(t)
	for p := range live {
		freeBlocks(t, []Block{p})
	}
}

// TestLaneStress: goroutines allocate in both lanes, free what others allocated, change the rule and trim,
// all at once.
func TestLaneStress(t *testing.T) {
	needSites(t)
	withClock(t)
	s := laneSite(t, "long", LaneLong)
	rounds := 20_000
	if raced {
		rounds = 3000
	}
	between := make(chan Block, 1000)
	var wg sync.WaitGroup
	for g := range uint64(4) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(g, 5))
			for i := range rounds {
				size := mem.Bytes(16 << r.IntN(9))
				p := MallocAt(s, size)
				if p == 0 {
					t.Error("out of memory")
					return
				}
				*u8(p.addr()) = uint8(g)
				*u8(p.addr().Add(size - 1)) = uint8(g)
				select {
				case between <- p:
				default:
					p, q := p, <-between
					for _, x := range []Block{p, q} {
						if bad := Free(0, x); bad.Kind != OK {
							t.Errorf("Free(%#x) = %+v", x, bad)
						}
					}
				}
				switch {
				case i%1000 == 999:
					setLaneRule(s, []Lane{LaneLong, LaneLong, LaneShort}[r.IntN(3)])
				case i%700 == 699:
					runtime.Gosched()
				case i%2500 == 2499 && g == 0:
					Trim()
				}
			}
		})
	}
	wg.Wait()
	close(between)
	for p := range between {
		freeBlocks(t, []Block{p})
	}
	mustHold(t)
}
