package engine

import (
	"sync/atomic"
	"time"

	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// The figures of the engine, and how they are read. Each figure is owned by the file that counts
// it; ReadTotals takes the locks it needs, some of them under scavenger.moving.
//
// The structs of figures below have the fields of the public ones (stats.go of the module's root),
// which say what each figure means. The root converts each struct as a whole: it does not compile
// when a figure is missing on one side, or has another name or type there.
type (
	// GlobalTotals are the figures that belong to no class and to no part of the engine.
	GlobalTotals struct {
		Reserved, Committed, Metadata        uint64
		Live, LiveBlocks                     uint64
		InMagazines, InQuarantine            uint64
		Superslabs, Fronts                   int
		Drains, LateDoubleFrees, OutOfMemory uint64
	}
	// MemoryTotals are the figures of memory from the operating system.
	MemoryTotals struct{ Resident, Counted, SoftLimit, HardLimit uint64 }
	// ClassTotals are the figures of one size class.
	ClassTotals struct {
		Size                                uint64
		Live, Free, InMagazines             uint64 // blocks
		Slabs                               uint64
		FrontHits, Misses, Refills, Flushes uint64
	}
	// LargeTotals are the figures of large blocks, except for those of their caches (CacheTotals).
	LargeTotals struct {
		LiveBlocks, LiveBytes, CachedBlocks, CachedBytes uint64
		Allocs, Frees                                    uint64
		Wider, WiderBytes                                uint64
	}
	// BudgetTotals are the figures of the budget of caches.
	BudgetTotals struct {
		Held, Limit uint64
		Scarcity    float64
	}
	// ScavengerTotals are the figures of memory kept and returned, in bytes.
	ScavengerTotals struct {
		Used, Dirty                             uint64
		KeptReused, KeptInVain                  uint64
		Returned, FaultedAgain, ReturnedRightly uint64
		Holes, Refilled                         uint64
		HoldTime                                time.Duration
		Ticks                                   uint64
		Running                                 bool
		LimitRefused                            uint64
		PressureRounds, PressureReturned        uint64
	}
	// TouchTotals count what came before it was touched, and what became huge pages.
	TouchTotals struct{ Blocks, Bytes, HugeBlocks, HugeBytes, Collapsed uint64 }
	// LaneTotals are the figures of the long lane.
	LaneTotals struct{ Slabs, Bytes, Samples, LongSites uint64 }
	// GuardedTotals are the figures of guarded blocks.
	GuardedTotals struct{ Live, Samples, Skipped uint64 }
	// StageTotals counts the searches for a slab by the stage in which they ended.
	StageTotals struct{ OwnLease, Partial, Empty, CrossClass, Superslab uint64 }
	// SystemCallTotals counts memory system calls.
	SystemCallTotals struct{ Reserve, Commit, Decommit, Advise, Populate, Failed uint64 }
)

// Totals is a picture of the engine. It is exact when nobody allocates or frees.
type Totals struct {
	GlobalTotals
	MemoryTotals
	Classes                      [sizeclass.Num + 1]ClassTotals // by class; 0 is none
	Large                        LargeTotals
	Shared, SiteCache, HugeCache CacheTotals
	Budget                       BudgetTotals
	Scavenger                    ScavengerTotals
	ResidentBy                   ResidentTotals  // ReadResident has them, and Resident; ReadTotals leaves them 0
	PageFaults                   PageFaultTotals // these, too
	Touch                        TouchTotals
	Lanes                        LaneTotals
	Guard                        GuardedTotals
	Stages                       StageTotals
	SystemCalls                  SystemCallTotals

	blocks [sizeclass.Num + 1]uint64 // all blocks of each class's slabs, live or not
}

// ReadTotals fills t. Any goroutine. It walks the page table up to the committed bound and every
// front: 20 µs for an idle heap, 1 ms for a gigabyte.
func ReadTotals(t *Totals) {
	*t = Totals{}
	for c := range t.Classes {
		t.Classes[c].Size = uint64(sizeclass.ID(c).Bytes())
	}
	t.OutOfMemory = outOfMemory.Load()
	live, samples, skipped := GuardTotals()
	t.Guard = GuardedTotals{Live: uint64(live), Samples: samples, Skipped: skipped}
	t.SystemCalls = SystemCallTotals{
		Reserve: osmem.Calls(osmem.OpReserve), Commit: osmem.Calls(osmem.OpCommit),
		Decommit: osmem.Calls(osmem.OpDiscard), Advise: osmem.Calls(osmem.OpAdvise),
		Populate: osmem.Calls(osmem.OpPopulate), Failed: osmem.Failed(),
	}
	t.Touch = TouchTotals{
		Blocks: touched.blocks.Load(), Bytes: touched.bytes.Load(),
		HugeBlocks: touched.hugeBlocks.Load(), HugeBytes: touched.hugeBytes.Load(),
		Collapsed: collapsing.bytes.Load(),
	}
	if !region.ready.Load() {
		return
	}
	t.Metadata = uint64(region.metaCommitted.Load())
	t.Superslabs = int(superslabs.Load())
	t.Drains, t.LateDoubleFrees = drains.Load(), lateFrees.Load()

	scavenger.moving.Lock()
	t.Large.Allocs, t.Large.Frees = largeStats.allocs.Load(), largeStats.frees.Load()
	t.Large.Wider, t.Large.WiderBytes = wider.served.Load(), wider.beyond.Load()
	for l := range lists {
		ls, stages := &lists[l], &t.Stages
		ls.mu.Lock()
		stages.Partial += ls.partial
		stages.Empty += ls.empty
		stages.CrossClass += ls.cross
		stages.Superslab += ls.fresh
		ls.mu.Unlock()
	}
	for page := region.firstPage(); page < region.endPage(); page++ {
		if c := page.chunk(); ownerOf(c) != 0 { // inside a huge block
			page = (c + 1).page() - 1
			continue
		}
		m := meta(page)
		l := m.list()
		if l == 0 {
			switch {
			case m.kind != kindLarge:
			case m.cached():
				t.Large.CachedBlocks++
				t.Large.CachedBytes += uint64(m.largeSize)
			default:
				t.Large.LiveBlocks++
				t.Large.LiveBytes += uint64(m.largeSize)
			}
			continue
		}
		c := l.class()
		k, ct := &sizeclass.Classes[c], &t.Classes[c]
		ct.Slabs++
		if l.isLong() {
			t.Lanes.Slabs++
			t.Lanes.Bytes += uint64(slabBytes(c))
		}
		t.blocks[c] += uint64(k.Blocks)
		if m.slabState.Load() != slabFull { // a FULL slab owns no block, and a look at its bitmap costs as much as all of the above
			ct.Free += uint64(slabID(page + 1).freeBlocks(k))
		}
	}
	t.Stages.OwnLease += spent.ownHits
	for c := sizeclass.ID(1); c <= sizeclass.Num; c++ {
		ct := &t.Classes[c]
		ct.FrontHits += spent.hits[c]
		ct.Misses += spent.misses[c]
		ct.Refills += spent.refills[c]
		ct.Flushes += spent.flushes[c]
	}
	for f := range frontPool.withMemory {
		t.Stages.OwnLease += atomic.LoadUint64(&f.head().ownHits)
		for c := sizeclass.ID(1); c <= sizeclass.Num; c++ {
			ct := &t.Classes[c]
			n := f.held(c)
			ct.InMagazines += uint64(n) + uint64(atomic.LoadUint32(&f.head().waiting[c]))
			ct.FrontHits += atomic.LoadUint64(&f.head().hits[c])
			if seen := uintptr(f.head().seen[c]); seen > n {
				ct.FrontHits += uint64(seen - n)
			}
			ct.Misses += atomic.LoadUint64(f.misses(c))
			ct.Refills += atomic.LoadUint64(f.refills(c))
			ct.Flushes += atomic.LoadUint64(f.flushes(c))
		}
		t.InQuarantine += uint64(f.inQuarantine())
	}
	t.readCaches()
	held, limit := inCaches()
	t.Budget = BudgetTotals{Held: uint64(held), Limit: uint64(limit), Scarcity: scarcity()}
	scavenger.moving.Unlock()
	t.Counted = uint64(counted.Load())
	t.SoftLimit, t.HardLimit = uint64(memoryLimit.soft.Load()), uint64(memoryLimit.hard.Load())
	frontPool.mu.Lock()
	t.Fronts = int(frontPool.built.Load()) - len(frontPool.free) - len(frontPool.lost) - frontPool.out
	frontPool.mu.Unlock()
	t.addUp()
}

// addUp derives which blocks are live, and what all classes and the large blocks have together.
func (t *Totals) addUp() {
	t.Live, t.LiveBlocks = t.Large.LiveBytes, t.Large.LiveBlocks
	for c := 1; c <= sizeclass.Num; c++ {
		ct := &t.Classes[c]
		ct.Live = t.blocks[c] - min(t.blocks[c], ct.Free+ct.InMagazines) // blocks that move meanwhile count twice
		t.Live += ct.Live * ct.Size
		t.LiveBlocks += ct.Live
		t.InMagazines += ct.InMagazines * ct.Size
	}
}

// readCaches fills in the figures of the caches of large blocks and of the scavenger.
func (t *Totals) readCaches() {
	t.Shared, t.SiteCache = sharedCount.totals(), siteCacheCount.totals()
	for _, c := range []struct {
		totals *CacheTotals
		held   func() (blocks uintptr, bytes mem.Bytes)
	}{{&t.Shared, inShared}, {&t.SiteCache, inSiteCache}} {
		blocks, bytes := c.held()
		c.totals.Blocks, c.totals.Bytes = uint64(blocks), uint64(bytes)
	}
	region.mu.Lock()
	t.Reserved = uint64(region.blocks.reserved)
	t.Committed = uint64(mem.Bytes(region.committed.Load()) - region.first - mem.Bytes(chunksAway)<<superShift)
	hold := meanHold()
	t.HugeCache = hugeCache.count.totals()
	if k := hugeCache.kept; k.p != 0 {
		t.HugeCache.Blocks, t.HugeCache.Bytes = 1, uint64(k.size)
	}
	u, filled := pageUse, hugePages.filled
	t.Lanes.Samples, t.Lanes.LongSites = lifetimes.samples, lifetimes.long
	region.mu.Unlock()
	bytes := func(pages uint64) uint64 { return pages << pageShift }
	t.Scavenger = ScavengerTotals{
		Used: bytes(uint64(u.used)), Dirty: bytes(uint64(u.dirty)),
		KeptReused: bytes(u.reused), KeptInVain: bytes(u.vain),
		Returned: bytes(u.returned), FaultedAgain: bytes(u.again), ReturnedRightly: bytes(u.returned - u.again),
		Holes: punched.Load(), Refilled: filled,
		Ticks: scavenger.ticks.Load(), LimitRefused: limitHit.Load(),
		HoldTime: hold, Running: scavenger.armed.Load(),
		PressureRounds: scavenger.pressure.rounds.Load(), PressureReturned: scavenger.pressure.returned.Load(),
	}
}
