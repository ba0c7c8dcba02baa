package engine

import (
	"sync/atomic"
	"time"

	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// ClassTotals is what Totals says of one class.
type ClassTotals struct {
	Size                           uint64
	Free, InMagazines              uint64 // blocks
	Blocks                         uint64 // all blocks of the class's slabs
	Slabs                          uint64
	Hits, Misses, Refills, Flushes uint64
	Empty, Partial, Cross          uint64 // acquisitions by stage
	Fresh                          uint64
}

// Totals is a picture of the engine: exact when nobody allocates or frees.
type Totals struct {
	Reserved, Committed, Metadata  uint64
	OwnHits                        uint64
	Classes                        [sizeclass.Num + 1]ClassTotals
	LargeBlocks, LargeBytes        uint64 // live
	CachedBlocks, CachedBytes      uint64 // freed, with their memory
	Shared, SiteCache, HugeCache   CacheTotals
	Scavenger                      ScavengerTotals
	PageFaults                     [numBuckets]uint64 // tiny, mid, large, big
	LargeAllocs, LargeFrees        uint64
	Superslabs, Fronts             int
	Drains, LateFrees, OutOfMemory uint64
}

// ReadTotals fills t. Any goroutine. It walks the page table up to the
// committed bound and every front: 20 µs for an idle heap, 1 ms for a gigabyte.
func ReadTotals(t *Totals) {
	*t = Totals{}
	for c := range t.Classes {
		t.Classes[c].Size = uint64(classSize(sizeclass.ID(c)))
	}
	t.OutOfMemory = outOfMemory.Load()
	if !region.ready.Load() {
		return
	}
	t.Reserved = uint64(region.size - region.first)
	t.Committed = uint64(mem.Bytes(region.committed.Load()) - region.first)
	t.Metadata = uint64(region.metaCommitted.Load())
	t.Superslabs = int(superslabs.Load())
	t.Drains, t.LateFrees = drains.Load(), lateFrees.Load()

	scavenger.moving.Lock()
	t.LargeAllocs, t.LargeFrees = largeStats.allocs.Load(), largeStats.frees.Load()
	for c := range classes {
		cs, ct := &classes[c], &t.Classes[c]
		cs.mu.Lock()
		ct.Empty, ct.Partial, ct.Cross, ct.Fresh = cs.empty, cs.partial, cs.cross, cs.fresh
		cs.mu.Unlock()
	}
	for page := region.firstPage(); page < region.endPage(); page++ {
		m := meta(page)
		c := m.slabClass.Load()
		if c == 0 {
			switch {
			case m.kind != kindLarge:
			case checkLive && m.live == 0 && m.flags&flagArena == 0:
				t.CachedBlocks++ // freed, and in a magazine or a cache
				t.CachedBytes += uint64(m.largeSize)
			default:
				t.LargeBlocks++
				t.LargeBytes += uint64(m.largeSize)
			}
			continue
		}
		k, ct := &sizeclass.Classes[c], &t.Classes[c]
		ct.Slabs++
		ct.Blocks += uint64(k.Blocks)
		ct.Free += uint64(slabID(page + 1).freeBlocks(k))
	}
	for i := uintptr(0); i < frontPool.built.Load(); i++ {
		f := frontAt(i)
		t.OwnHits += atomic.LoadUint64(&f.head().ownHits)
		for c := uint8(1); c <= sizeclass.Num; c++ {
			ct := &t.Classes[c]
			n := f.held(sizeclass.ID(c))
			ct.InMagazines += uint64(n) + uint64(atomic.LoadUint32(&f.head().waiting[c]))
			ct.Hits += atomic.LoadUint64(&f.head().hits[c])
			if seen := uintptr(f.head().seen[c]); seen > n {
				ct.Hits += uint64(seen - n)
			}
			ct.Misses += atomic.LoadUint64(f.misses(sizeclass.ID(c)))
			ct.Refills += atomic.LoadUint64(f.refills(sizeclass.ID(c)))
			ct.Flushes += atomic.LoadUint64(f.flushes(sizeclass.ID(c)))
		}
	}
	t.readCaches()
	scavenger.moving.Unlock()
	t.PageFaults = readPageFaults()
	frontPool.mu.Lock()
	t.Fronts = int(frontPool.built.Load()) - len(frontPool.free) - len(frontPool.lost)
	frontPool.mu.Unlock()
}

// ScavengerTotals is what Totals says of memory kept and returned, in bytes.
type ScavengerTotals struct {
	Used, Dirty                   uint64
	KeptReused, KeptInVain        uint64
	Returned, FaultedAgain, Holes uint64
	Ticks, LimitRefused           uint64
	Window                        time.Duration
	Armed                         bool
}

// readCaches fills what is known of the large block caches and the scavenger.
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
		Returned: bytes(u.returned), FaultedAgain: bytes(u.again), Holes: punched.Load(),
		Ticks: scavenger.ticks.Load(), LimitRefused: limitHit.Load(),
		Window: time.Duration(window) * time.Millisecond, Armed: scavenger.armed.Load(),
	}
}
