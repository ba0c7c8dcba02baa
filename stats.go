package hakmem

import (
	"errors"
	"sync"
	"time"

	"github.com/hakmem/hakmem/internal/engine"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/policy"
	"github.com/hakmem/hakmem/internal/site"
	"github.com/hakmem/hakmem/internal/sizeclass"
	"github.com/hakmem/hakmem/internal/telemetry"
)

// Stats is a picture of the whole allocator, filled by ReadStats.
//
// It is exact when no goroutine is allocating or freeing; taken while others
// do, every count was true at some moment during the call, but not all at the
// same one: blocks that move meanwhile may be missing in Live and LiveBlocks. Byte
// figures of blocks count the block's whole size class (see GoodSize), not the size
// that was asked for.
type Stats struct {
	// Reserved is the address space for blocks, in bytes; Committed the
	// part of it that may be touched. Metadata counts the committed bytes of
	// hakmem's own maps, which are not part of Committed.
	Reserved, Committed, Metadata uint64
	// Live is the bytes of blocks handed out and not yet freed, LiveBlocks
	// their number. InMagazines is the bytes of free blocks up to 32 KiB that wait
	// in the magazines of all fronts, and with HAKMEM_HARDEN in its quarantine;
	// larger ones are in Large.
	Live, LiveBlocks, InMagazines uint64

	// Classes has one entry per size class up to 32 KiB, in ascending size.
	Classes []ClassStats
	// Large blocks describes blocks above 32 KiB.
	Large LargeStats
	// Scavenger says what became of freed memory.
	Scavenger ScavengerStats
	// Faults counts page faults by what the memory was used for.
	PageFaults PageFaultStats
	// Timing has the cycles of the slow paths, one entry for each phase; empty
	// unless HAKMEM_TIMING is on.
	Timing []PhaseTiming
	// Guard counts guarded blocks (HAKMEM_GUARD).
	Guard GuardStats
	// Stages counts where slabs were found.
	Stages StageStats
	// SystemCalls counts memory system calls.
	SystemCalls SystemCallStats
	// Sites has one entry per registered site, in order of registration.
	Sites []SiteStats

	// Superslabs is the number of superslabs now in use, Fronts the number of
	// fronts: of open Heaps, and of Ps that have allocated since theirs was drained.
	Superslabs, Fronts int
	// Drains counts the fronts emptied by the scavenger, by Trim, under memory
	// pressure, or because a trace began or ended.
	Drains uint64
	// LateDoubleFrees counts double frees found only when a copy of the block
	// left its magazine; each was dropped.
	LateDoubleFrees uint64
	// OutOfMemory counts allocations that returned nil, but for a Calloc whose n·size
	// overflows.
	OutOfMemory uint64
	// Abandoned counts Heaps and Arenas that became unreachable without Close.
	Abandoned AbandonedStats
	// Errors lists what went wrong and was survived: malformed settings, a
	// refused reservation or commit, a trace that could not be written, the first
	// abandoned Heap and Arena. It is what Err joins.
	Errors []error
}

// AbandonedStats counts what became unreachable without Close. Its memory was
// given back; that of Arenas which never allocated is none, and they do not count.
type AbandonedStats struct{ Heaps, Arenas uint64 }

// ClassStats describes one size class.
type ClassStats struct {
	Size uint64 // bytes of a block
	// Live is the number of blocks handed out, Free the number owned by slabs,
	// InMagazines the number that waits in magazines: together, every block of
	// the class's slabs.
	Live, Free, InMagazines uint64
	Slabs                   uint64 // slabs of the class now
	// Misses counts allocations that found the magazine empty, Refills how often
	// blocks were then moved into it from a slab, Flushes how often a full one
	// gave its oldest blocks back. FrontHits counts the allocations that the
	// magazines are known to have served: the fast path counts nothing, so it is
	// what the blocks brought by refills prove. A block that was freed into a
	// magazine and allocated again in between is not seen: FrontHits + Misses is
	// the number of allocations while nothing is freed, and at most that
	// otherwise.
	FrontHits, Misses, Refills, Flushes uint64
}

// LargeStats describes blocks above 32 KiB, each a run of pages of its own.
type LargeStats struct {
	LiveBlocks, LiveBytes uint64
	// CachedBlocks and CachedBytes are freed large blocks that wait in magazines and caches,
	// with their memory.
	CachedBlocks, CachedBytes uint64
	// Shared is the slots behind the magazines, SiteCache the large blocks kept for the
	// site that freed them, Whale the huge blocks.
	Shared, SiteCache, HugeCache CacheStats
	// Allocs and Frees count the large blocks that were made of free pages, and whose
	// pages became free again: Allocs - Frees = LiveBlocks + CachedBlocks. What the
	// magazines serve in between is not counted.
	Allocs, Frees uint64
}

// CacheStats describes a cache of freed large blocks.
type CacheStats struct {
	// Hits and Misses count the allocations that looked there. Evictions counts
	// the large blocks that it had no room for, or that made room for others.
	Hits, Misses, Evictions uint64
	Blocks, Bytes           uint64 // what it holds
}

// ScavengerStats says what became of freed memory, in bytes, by pages of 64 KiB.
type ScavengerStats struct {
	// Used is the memory of slabs and of large blocks, live or cached; Warm is free pages
	// that still have their memory. The two are what SetMemoryLimit limits.
	Used, Dirty uint64
	// KeptReused counts free memory that was kept and taken again; KeptInVain
	// that which was kept for the whole window and then returned. Returned counts
	// all that went back to the operating system, FaultedAgain that part of it
	// which was taken again so soon that it should have been kept, the rest,
	// ReturnedRightly, was not.
	KeptReused, KeptInVain, Returned, FaultedAgain, ReturnedRightly uint64
	// Holes is the memory of free blocks that was returned from slabs with live
	// blocks, so far.
	Holes uint64
	// Window is the time whose peak of demand decides how much is kept, and for
	// which more is kept; it adapts to the counts above.
	Window time.Duration
	// Ticks counts the scavenger's looks. Running says that its timer is set: there
	// is something that it may return.
	Ticks   uint64
	Running bool
	// LimitRefused counts the times that the hard memory limit refused memory.
	LimitRefused uint64
}

// PageFaultStats counts OS pages that were faulted in, by what they were used
// for. It is measured where the system tells which pages are resident (Linux),
// else 0: what is resident now, and what was each time memory was returned. A
// huge page counts as all of its pages.
type PageFaultStats struct {
	Tiny, Mid, Large, Huge uint64 // blocks up to 1 KiB, 32 KiB, 2 MiB, and above
}

// PhaseTiming is the time of one phase of the slow paths. Phases contain each
// other: a commit is part of an acquire.
type PhaseTiming struct {
	Phase string
	// Count is how often it ran; Cycles and MaxCycles are in ticks of the
	// processor's counter, Total is Cycles as time.
	Count, Cycles, MaxCycles uint64
	Total                    time.Duration
}

// GuardStats counts the blocks of HAKMEM_GUARD. But for their site's figures they
// are counted nowhere else.
type GuardStats struct {
	Live    uint64 // now
	Samples uint64 // so far
	Skipped uint64 // due, but the last was less than 5 ms ago, or there was no place
}

// StageStats counts where an empty magazine found its slab, in the order of
// the search.
type StageStats struct {
	OwnLease   uint64 // 0: the front's leased slab still had free blocks
	Empty      uint64 // 0.5: an EMPTY slab of the class
	Partial    uint64 // 1: a partly free slab of the class, lowest address first
	CrossClass uint64 // 2: free pages of a superslab, or an EMPTY slab of another class
	Superslab  uint64 // 3: a new superslab
}

// SystemCallStats counts the memory system calls made, and those of them that
// failed.
type SystemCallStats struct {
	Reserve, Commit, Decommit uint64 // mmap, mprotect, madvise on Linux
	Advise                    uint64 // madvise for huge pages
	Failed                    uint64
}

// SiteStats describes what is alive of one site.
type SiteStats struct {
	Site       Site
	Name       string
	LiveBytes  uint64
	LiveBlocks uint64
}

// totals is where ReadStats collects; it is large, and one at a time is enough.
var totals struct {
	sync.Mutex
	engine.Totals
}

var timing [telemetry.NumPhases]telemetry.Timing // under totals' lock

// ReadStats fills s with the state of the allocator. It reuses the slices that s
// has, so that a Stats read again and again costs no Go memory. Any goroutine;
// it looks at every page in use, some milliseconds for each gigabyte.
func ReadStats(s *Stats) {
	totals.Lock()
	defer totals.Unlock()
	t := &totals.Totals
	engine.ReadTotals(t)
	*s = Stats{
		Reserved: t.Reserved, Committed: t.Committed, Metadata: t.Metadata,
		Classes: s.Classes[:0], Sites: s.Sites[:0], Errors: s.Errors[:0], Timing: s.Timing[:0],
		Large: LargeStats{
			LiveBlocks: t.LargeBlocks, LiveBytes: t.LargeBytes,
			CachedBlocks: t.CachedBlocks, CachedBytes: t.CachedBytes,
			Allocs: t.LargeAllocs, Frees: t.LargeFrees,
			Shared: CacheStats(t.Shared), SiteCache: CacheStats(t.SiteCache), HugeCache: CacheStats(t.HugeCache),
		},
		Scavenger: ScavengerStats{
			Used: t.Scavenger.Used, Dirty: t.Scavenger.Dirty,
			KeptReused: t.Scavenger.KeptReused, KeptInVain: t.Scavenger.KeptInVain,
			Returned: t.Scavenger.Returned, FaultedAgain: t.Scavenger.FaultedAgain,
			Holes:           t.Scavenger.Holes,
			ReturnedRightly: t.Scavenger.Returned - t.Scavenger.FaultedAgain,
			Window:          t.Scavenger.Window, Ticks: t.Scavenger.Ticks, Running: t.Scavenger.Armed,
			LimitRefused: t.Scavenger.LimitRefused,
		},
		PageFaults: PageFaultStats{Tiny: t.PageFaults[0], Mid: t.PageFaults[1], Large: t.PageFaults[2], Huge: t.PageFaults[3]},
		Stages:     StageStats{OwnLease: t.OwnHits},
		SystemCalls: SystemCallStats{
			Reserve: osmem.Calls(osmem.OpReserve), Commit: osmem.Calls(osmem.OpCommit),
			Decommit: osmem.Calls(osmem.OpDiscard), Advise: osmem.Calls(osmem.OpAdvise),
			Failed: osmem.Failed(),
		},
		Superslabs: t.Superslabs, Fronts: t.Fronts, Drains: t.Drains,
		LateDoubleFrees: t.LateFrees, OutOfMemory: t.OutOfMemory,
		Abandoned: AbandonedStats{abandoned.heaps.Load(), abandoned.arenas.Load()},
	}
	if policy.AtStart().Timing {
		telemetry.ReadTiming(&timing)
		hz := telemetry.Hz()
		for p, n := range timing {
			s.Timing = append(s.Timing, PhaseTiming{Phase: telemetry.Phase(p).String(), Count: n.Count, Cycles: n.Cycles, MaxCycles: n.MaxCycles})
			if hz > 0 {
				s.Timing[p].Total = time.Duration(float64(n.Cycles) / hz * 1e9)
			}
		}
	}
	live, samples, skipped := engine.GuardTotals()
	s.Guard = GuardStats{uint64(live), samples, skipped}
	s.Live, s.LiveBlocks = s.Large.LiveBytes, s.Large.LiveBlocks
	for c := 1; c <= sizeclass.Num; c++ {
		ct := &t.Classes[c]
		live := ct.Blocks - min(ct.Blocks, ct.Free+ct.InMagazines) // blocks that move meanwhile count twice
		s.Classes = append(s.Classes, ClassStats{
			Size: ct.Size, Live: live, Free: ct.Free, InMagazines: ct.InMagazines, Slabs: ct.Slabs,
			FrontHits: ct.Hits, Misses: ct.Misses, Refills: ct.Refills, Flushes: ct.Flushes,
		})
		s.Live += live * ct.Size
		s.LiveBlocks += live
		s.InMagazines += ct.InMagazines * ct.Size
		s.Stages.Empty += ct.Empty
		s.Stages.Partial += ct.Partial
		s.Stages.CrossClass += ct.Cross
		s.Stages.Superslab += ct.Fresh
	}
	for i := site.ID(1); i <= site.Num(); i++ {
		name, bytes, blocks := site.Read(i)
		s.Sites = append(s.Sites, SiteStats{Site(i), name, uint64(bytes), uint64(blocks)})
	}
	s.Errors = append(append(s.Errors, policy.Errors()...), engine.Survived()...)
}

// Err returns what went wrong so far and was survived, joined into one error:
// malformed settings, a refused reservation or commit, a trace that could not be
// written, the first Heap and the first Arena dropped without Close. nil when
// nothing did. What a memory limit refuses is not among it, nor a size that no
// machine has: the Reason of an *OutOfMemoryError tells of these. Any goroutine.
func Err() error { return errors.Join(append(policy.Errors(), engine.Survived()...)...) }
