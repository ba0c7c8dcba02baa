package engine

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// mark writes the first and the last word of a block's size, a multiple of 8, and one in each OS
// page, because a hole could take any of them.
func mark(p Block, size mem.Bytes, key uint64) {
	eachMark(p, size, func(i mem.Addr) bool { *u64(i) = key ^ uint64(i); return true })
}

func marked(p Block, size mem.Bytes, key uint64) bool {
	whole := true
	eachMark(p, size, func(i mem.Addr) bool { whole = whole && *u64(i) == key^uint64(i); return whole })
	return whole
}

func eachMark(p Block, size mem.Bytes, at func(mem.Addr) bool) {
	for i := p.addr(); i < p.addr().Add(size) && at(i); i += 2048 {
	}
	at(p.addr().Add(size - 8))
}

// osPages are the sizes of OS pages that holes are tested with: the system's own and larger ones.
func osPages() (sizes []mem.Bytes) {
	for _, page := range []mem.Bytes{4 << 10, 16 << 10, 64 << 10} {
		if page >= osmem.PageSize() {
			sizes = append(sizes, page)
		}
	}
	return sizes
}

// withHolePage makes holes of larger OS pages than the system has. What it has returned before is
// forgotten, because a unit means something else then.
func withHolePage(t *testing.T, page mem.Bytes) {
	t.Helper()
	if !Ready() {
		t.Fatal(Survived())
	}
	use := func(page mem.Bytes) {
		scavenger.mu.Lock()
		defer scavenger.mu.Unlock()
		for p := region.firstPage(); p < region.endPage(); p++ {
			if s := slabID(p + 1); super(p.chunk()).isSlabs && s.meta().slabList.Load() != 0 {
				s.forgetHoles(0) // nobody else uses the slab in a test
			}
		}
		holePage = page
	}
	was := holePage
	use(page)
	t.Cleanup(func() { use(was) })
}

// TestHoleUnits: units are whole OS pages, at most 64 of them make up a slab, and none is larger
// than it must be.
func TestHoleUnits(t *testing.T) {
	for _, c := range []struct {
		pages      pageCount
		page, unit mem.Bytes // KiB
	}{
		{1, 4, 4}, {2, 4, 4}, {4, 4, 4}, {8, 4, 8},
		{1, 16, 16}, {2, 16, 16}, {4, 16, 16}, {8, 16, 16},
		{1, 64, 64}, {2, 64, 64}, {4, 64, 64}, {8, 64, 64},
		{1, 128, 128}, {2, 128, 128}, // larger OS pages than the smallest slab
	} {
		slab, page := c.pages.bytes(), c.page<<10
		unit := c.pages.holeUnit(page)
		if unit != c.unit<<10 || unit%page != 0 || unit <= slab && slab%unit != 0 || slab/unit > 64 {
			t.Errorf("a slab of %d KiB, OS pages of %d KiB: the unit is %d KiB, want %d", slab>>10, c.page, unit>>10, c.unit)
		}
	}
}

// TestHoles: the memory of free blocks is returned although their slabs have live blocks. The live
// blocks keep their contents, and the free ones can be allocated again. It is done once, and not
// before the window has passed.
func TestHoles(t *testing.T) {
	for _, page := range osPages() {
		t.Run(fmt.Sprintf("%d KiB", page>>10), func(t *testing.T) {
			withHolePage(t, page)
			testHoles(t, page)
		})
	}
}

func testHoles(t *testing.T, page mem.Bytes) {
	for _, size := range []mem.Bytes{16, 48, 1024, 3 << 10, 20 << 10} {
		c := withClock(t)
		const total = 32 * mebibyte
		blocks := fillBytes(t, total, size)
		var live, rest []Block
		k := int(256 * 1024 / size) // one in 256 KiB stays
		for i, p := range blocks {
			if i%k == 0 {
				mark(p, size, uint64(p))
				live = append(live, p)
			} else {
				rest = append(rest, p)
			}
		}
		was := punched.Load()
		freeBlocks(t, rest)
		c.Advance(time.Second)
		if n := punched.Load() - was; n != 0 {
			t.Errorf("%d bytes: %d bytes of holes after a second", size, n)
		}
		c.Advance(4 * time.Second)
		// Slabs of small blocks are one page, so three of four are EMPTY. A live block keeps its
		// bytes and a part of at most two units.
		slab := mem.Bytes(pageSize) << sizeclass.Classes[sizeclass.Of(size)].Order
		want := uint64(0)
		if all, kept := min(slab, 256<<10), size+2*pagesOf(slab).holeUnit(page); all > kept {
			want = uint64(total / 256 / 1024 * (all - kept) / 2)
		}
		got := punched.Load() - was
		if got < want || got > total {
			t.Errorf("%d bytes: %d KiB of holes, want at least %d", size, got>>10, want>>10)
		}
		c.Advance(time.Minute)
		kick()
		c.Advance(time.Minute)
		if again := punched.Load() - was - got; again > got/8 {
			t.Errorf("%d bytes: %d KiB of holes were made again", size, again>>10)
		}
		if c.Pending() != 0 {
			t.Errorf("%d bytes: the timer does not stop", size)
		}
		for _, p := range live {
			if !marked(p, size, uint64(p)) {
				t.Fatalf("%d bytes: the block at %#x has lost its contents", size, p)
			}
		}
		more := fillBytes(t, total/2, size)
		for _, p := range live {
			if !marked(p, size, uint64(p)) {
				t.Fatalf("%d bytes: the block at %#x has lost its contents when others were allocated", size, p)
			}
		}
		freeBlocks(t, append(more, live...))
	}
}

// TestPunchScan: a round over the slabs of a heap takes at most punchTicks ticks, up to the size at which a
// tick would take too long.
func TestPunchScan(t *testing.T) {
	for _, gib := range []int{0, 1, 2, 3, 12, 31, 32, 33, 1000} {
		pages := gib << 30 >> pageShift
		got := punchScan(pageCount(pages))
		if got < punchLeast || got > punchMost || gib <= 32 && got*punchTicks < pages || gib <= 2 && got != punchLeast {
			t.Errorf("%d GiB: %d of %d slabs in a tick", gib, got, pages)
		}
	}
}

// TestPunchRoundOfManyTicks: slabs that become PARTIAL behind the cursor of a round that takes
// several ticks are looked at by the next round.
func TestPunchRoundOfManyTicks(t *testing.T) {
	if pageCount(1).holeUnit(osmem.PageSize()) >= pageSize/2 {
		t.Skipf("skipped: OS pages of %d bytes leave no hole in a slab of one page with a live block", osmem.PageSize())
	}
	defer func(was func(pageCount) int) { punchScan = was }(punchScan)
	punchScan = func(pageCount) int { return 4 }
	c := withClock(t)
	// 32 slabs of a high class that are PARTIAL and done.
	const low, high, slabs = 48, 1024, 32
	var kept []Block
	free := func(own Front, blocks []Block) { // all except one of each slab
		page := pageNo(0)
		for _, p := range blocks {
			if p.page() != page {
				page = p.page()
				kept = append(kept, p)
			} else if bad := Free(own, p); bad.Kind != OK {
				t.Fatal(bad)
			}
		}
	}
	blocks := fillBytes(t, slabs*pageSize, high)
	h := heapFront(t)
	var burst []Block
	for range slabs * pageSize / low {
		p := Malloc(h, low)
		mark(p, low, uint64(p))
		burst = append(burst, p)
	}
	free(0, blocks)
	c.Advance(time.Minute)
	if c.Pending() != 0 {
		t.Fatal("the timer does not stop")
	}
	kick()
	for i := 0; punchAt.list != commonList(sizeclass.Of(high)); i++ {
		if i == 100 || c.Pending() == 0 {
			t.Fatalf("no tick ended within the class of %d bytes", high)
		}
		c.Advance(tick())
	}
	was := punched.Load()
	free(h, burst) // through a Heap, whose front keeps no timer alive
	c.Advance(time.Minute)
	if c.Pending() != 0 {
		t.Fatal("the timer does not stop")
	}
	if n := punched.Load() - was; n < slabs*pageSize/2 {
		t.Errorf("%d KiB of holes of %d KiB in slabs that became PARTIAL in the middle of a round", n>>10, slabs*pageSize>>10)
	}
	for _, p := range kept {
		if bad := Free(0, p); bad.Kind != OK {
			t.Fatal(bad)
		}
	}
}

// TestHolesWhileUsed: goroutines allocate and free while the slabs are punched all the time. No
// block loses its contents.
func TestHolesWhileUsed(t *testing.T) {
	withClock(t)
	SetClock(nil)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for g := range uint64(3) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(g, 7))
			sizes := []mem.Bytes{16, 64, 200, 1500, 9000}
			slots := make([]struct {
				p    Block
				size mem.Bytes
			}, 20_000)
			for i := range 400_000 {
				s := &slots[r.IntN(len(slots))]
				if s.p != 0 {
					if !marked(s.p, s.size, g) {
						t.Errorf("the block of %d bytes at %#x has lost its contents", s.size, s.p)
						return
					}
					if bad := Free(0, s.p); bad.Kind != OK {
						t.Error(bad)
						return
					}
					s.p = 0
				}
				if i%5 > 0 && i%100_000 < 70_000 {
					s.size = sizes[r.IntN(len(sizes))]
					s.p = Malloc(0, s.size)
					mark(s.p, s.size, g)
				}
			}
			for _, s := range slots {
				if s.p != 0 {
					Free(0, s.p)
				}
			}
		})
	}
	was := punched.Load()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				scavenger.mu.Lock()
				punchSlabs(0, false, 1, math.MaxInt, false)
				scavenger.mu.Unlock()
				runtime.Gosched()
			}
		}
	}()
	wg.Wait()
	close(stop)
	<-done
	if punched.Load() == was {
		t.Error("no slab was punched")
	}
	Trim()
}

// TestLiveBlockInAHole: a block was freed twice at once, and one copy was handed out before the
// other came back. The block's memory is not returned while its holder has it, where other blocks
// of the slab are in use.
func TestLiveBlockInAHole(t *testing.T) {
	for _, size := range []mem.Bytes{16, 64, 1000, 3000} {
		withClock(t)
		c := sizeclass.Of(size)
		k := &sizeclass.Classes[c]
		q := Malloc(0, size)
		drainAll()
		s := owner(q)
		if s.units() < 4 { // two live blocks may be in all of them
			freeBlocks(t, []Block{q})
			continue
		}
		if s.freeBlocks(k) != int(k.Blocks)-1 {
			t.Fatalf("%d B: %d of %d blocks are free", size, s.freeBlocks(k), k.Blocks)
		}
		s.forgetHoles(0) // all its blocks were handed out once
		j := k.Blocks / 2
		p := s.block(c, blockIndex(j))
		setLive(p, c, liveState(c))
		fill := unsafe.Slice(u8(p.addr()), size)
		for i := range fill {
			fill[i] = 7
		}
		holes, before := punched.Load(), lateFrees.Load()
		if late := Trim(); late.Addr != p.addr() || late.Kind != LateFreed || lateFrees.Load() != before+1 {
			t.Errorf("%d B: %+v, %d counted", size, late, lateFrees.Load()-before)
		}
		if punched.Load() == holes {
			t.Errorf("%d B: no hole was made: the test shows nothing", size)
		}
		if n := bytes.Count(fill, []byte{7}); n != int(size) {
			t.Errorf("%d B: %d bytes are left", size, n)
		}
		if err := CheckInvariants(); err != nil {
			t.Errorf("%d B: %v", size, err)
		}
		freeBlocks(t, []Block{p, q})
	}
}

// TestLabelsOfHoles: when pages of a slab become holes as a whole, the memory that says which blocks there
// belong to which site is returned with them. It comes back with new blocks, and other blocks keep their
// site.
func TestLabelsOfHoles(t *testing.T) {
	needSites(t)
	needsLook(t)
	withClock(t)
	if needsUnits(t); osmem.PageSize() > 8<<10 {
		t.Skip("skipped: OS pages above 8 KiB")
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // another P would take blocks of another slab
	const size = 5120                               // a slab of these has more than one page
	s := laneSite(t, "holes", LaneShort)
	k := &sizeclass.Classes[sizeclass.Of(size)]
	pages := func(of slabID) (n int) {
		m := pageSet(super(of.page().chunk()).sited.Load()) >> of.page().inChunk()
		return (m & (1<<(1<<k.Order) - 1)).count()
	}
	all := 1 << k.Order
	for _, broken := range []bool{false, true} {
		Trim()
		var blocks []Block
		for range k.Blocks {
			blocks = append(blocks, mallocAtSite(t, s, size))
		}
		of := owner(blocks[0])
		if n := pages(of); n != all || all < 2 {
			t.Fatalf("the site map of %d pages is counted, of a slab of %d", n, all)
		}
		freeBlocks(t, blocks[1:])
		if broken { // the map's memory is gone, and does not come back at once
			forgetSurvived(t)
			n := 0
			osmem.Inject(func(op osmem.Op) error {
				switch {
				case op == osmem.OpCommit:
					return osmem.ErrInjected
				case op == osmem.OpDiscard:
					if n++; n > 1 { // the first call is for the blocks
						return fmt.Errorf("%w: %w", osmem.ErrInjected, osmem.ErrDecommitted)
					}
				}
				return nil
			})
		}
		Trim()
		osmem.Inject(nil)
		if state := of.meta().slabState.Load(); broken != (state == slabClaimed) {
			t.Errorf("broken %t: the slab has state %d", broken, state)
		}
		mustHold(t)
		if broken { // the slab's memory comes back, and that of the map does not
			n := 0
			osmem.Inject(func(op osmem.Op) error {
				if op == osmem.OpCommit {
					if n++; n == 2 {
						return osmem.ErrInjected
					}
				}
				return nil
			})
			Trim()
			osmem.Inject(nil)
			if of.meta().slabState.Load() != slabClaimed {
				t.Error("a slab is used of whose site map memory is gone")
			}
		}
		Trim()
		if n := pages(of); !broken && n != 1 {
			t.Errorf("one block lives, and the site map of %d pages is counted", n)
		}
		mustHold(t)
		if _, site, bad := Size(blocks[0]); site != s || bad.Kind != OK {
			t.Errorf("the block that lives has the site %d: %+v", site, bad)
		}
		if residentBytes(t, labelsOf(of.page()+pageNo(all)-1), region.sites.unit) != 0 {
			t.Error("the site map of a hole is resident")
		}
		for i := range blocks[1:] {
			blocks[i+1] = mallocAtSite(t, s, size)
		}
		if n := pages(of); n != all {
			t.Errorf("blocks came back, and the site map of %d pages is counted, of %d", n, all)
		}
		mustHold(t)
		freeBlocks(t, blocks)
	}
}
