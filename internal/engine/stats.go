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
		Live, LiveBlocks, InMagazines        uint64
		Superslabs, Fronts                   int
		Drains, LateDoubleFrees, OutOfMemory uint64
	}
	// MemoryTotals are the figures of memory from the operating system.
	MemoryTotals struct{ Resident, Counted uint64 }
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
	}
	// ScavengerTotals are the figures of memory kept and returned, in bytes.
	ScavengerTotals struct {
		Used, Dirty                             uint64
		KeptReused, KeptInVain                  uint64
		Returned, FaultedAgain, ReturnedRightly uint64
		Holes                                   uint64
		Window                                  time.Duration
		Ticks                                   uint64
		Running                                 bool
		LimitRefused                            uint64
		PressureRounds, PressureReturned        uint64
	}
	// PageFaultTotals are the OS pages faulted in, by bucket.
	PageFaultTotals struct{ Tiny, Mid, Large, Huge uint64 }
	// GuardedTotals are the figures of guarded blocks.
	GuardedTotals struct{ Live, Samples, Skipped uint64 }
	// StageTotals counts the searches for a slab by the stage in which they ended.
	StageTotals struct{ OwnLease, Partial, Empty, CrossClass, Superslab uint64 }
	// SystemCallTotals counts memory system calls.
	SystemCallTotals struct{ Reserve, Commit, Decommit, Advise, Failed uint64 }
)

// Totals is a picture of the engine. It is exact when nobody allocates or frees.
type Totals struct {
	GlobalTotals
	MemoryTotals
	Classes                      [sizeclass.Num + 1]ClassTotals // by class; 0 is none
	Large                        LargeTotals
	Shared, SiteCache, HugeCache CacheTotals
	Scavenger                    ScavengerTotals
	PageFaults                   PageFaultTotals
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
		Failed: osmem.Failed(),
	}
	if !region.ready.Load() {
		return
	}
	t.Reserved = uint64(region.size - region.first)
	t.Committed = uint64(mem.Bytes(region.committed.Load()) - region.first)
	t.Metadata = uint64(region.metaCommitted.Load())
	t.Superslabs = int(superslabs.Load())
	t.Drains, t.LateDoubleFrees = drains.Load(), lateFrees.Load()

	scavenger.moving.Lock()
	t.Large.Allocs, t.Large.Frees = largeStats.allocs.Load(), largeStats.frees.Load()
	for c := range classes {
		cs, stages := &classes[c], &t.Stages
		cs.mu.Lock()
		stages.Partial += cs.partial
		stages.Empty += cs.empty
		stages.CrossClass += cs.cross
		stages.Superslab += cs.fresh
		cs.mu.Unlock()
	}
	for page := region.firstPage(); page < region.endPage(); page++ {
		m := meta(page)
		c := m.slabClass.Load()
		if c == 0 {
			switch {
			case m.kind != kindLarge:
			case checkLive && m.live == 0 && m.flags&flagArena == 0:
				t.Large.CachedBlocks++ // freed, and in a magazine or a cache
				t.Large.CachedBytes += uint64(m.largeSize)
			default:
				t.Large.LiveBlocks++
				t.Large.LiveBytes += uint64(m.largeSize)
			}
			continue
		}
		k, ct := &sizeclass.Classes[c], &t.Classes[c]
		ct.Slabs++
		t.blocks[c] += uint64(k.Blocks)
		ct.Free += uint64(slabID(page + 1).freeBlocks(k))
	}
	for i := uintptr(0); i < frontPool.built.Load(); i++ {
		f := frontAt(i)
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
	}
	t.readCaches()
	scavenger.moving.Unlock()
	faults, now := readPageFaults()
	t.Counted = uint64(counted.Load())
	t.Resident = t.Counted
	if tables, known := residentTables(); known {
		guards, _ := residentGuards()
		t.Resident = now*uint64(osmem.PageSize()) + uint64(tables+guards)
	}
	t.PageFaults = PageFaultTotals{
		Tiny: faults[bucketTiny], Mid: faults[bucketMid], Large: faults[bucketLarge], Huge: faults[bucketHuge],
	}
	frontPool.mu.Lock()
	t.Fronts = int(frontPool.built.Load()) - len(frontPool.free) - len(frontPool.lost)
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
	window := scavenger.window
	t.HugeCache = hugeCache.count.totals()
	t.HugeCache.Blocks, t.HugeCache.Bytes = uint64(len(hugeCache.larges)), uint64(hugeCache.bytes)
	u := pageUse
	region.mu.Unlock()
	if window == 0 {
		window = decay()
	}
	bytes := func(pages uint64) uint64 { return pages << pageShift }
	t.Scavenger = ScavengerTotals{
		Used: bytes(uint64(u.used)), Dirty: bytes(uint64(u.dirty)),
		KeptReused: bytes(u.reused), KeptInVain: bytes(u.vain),
		Returned: bytes(u.returned), FaultedAgain: bytes(u.again), ReturnedRightly: bytes(u.returned - u.again),
		Holes: punched.Load(),
		Ticks: scavenger.ticks.Load(), LimitRefused: limitHit.Load(),
		Window: time.Duration(window) * time.Millisecond, Running: scavenger.armed.Load(),
		PressureRounds: scavenger.pressure.rounds.Load(), PressureReturned: scavenger.pressure.returned.Load(),
	}
}

// residentTables returns how many bytes of hakmem's tables and fronts are resident, or false where
// that is not known.
func residentTables() (n mem.Bytes, known bool) {
	r := &region
	_, fixed := r.fixedParts(pageCount(r.size >> pageShift))
	ranges := []osmem.Range{{Addr: r.supers, Size: fixed}, {Addr: frontPool.base, Size: mem.Bytes(frontPool.built.Load() * frontSize)}}
	r.mu.Lock()
	for _, a := range r.areas() {
		if from := a.of(pageCount(r.firstPage())).Down(osmem.PageSize()); !a.lazy && a.committed > from {
			ranges = append(ranges, osmem.Range{Addr: a.base.Add(from), Size: a.committed - from})
		}
	}
	r.mu.Unlock()
	for _, t := range ranges {
		m, ok := residentIn(t.Addr, t.Size)
		if !ok {
			return 0, false
		}
		n += m
	}
	return n, true
}
