package hakmem

import (
	"errors"
	"time"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/engine"
	"github.com/hakmem/hakmem/internal/policy"
	"github.com/hakmem/hakmem/internal/site"
	"github.com/hakmem/hakmem/internal/sizeclass"
	"github.com/hakmem/hakmem/internal/telemetry"
)

// The structs of this file are the one place that names the statistics. For each figure they have a
// field with a doc comment and a tag. The tag has the figure's name and its kind:
//
//	// Drains is the number of drains of a front.
//	Drains uint64 `stat:"drains_total,counter"`
//
// The name ends with the unit. A counter's name has _total behind the unit. The first sentence of
// the comment names the unit too, unless the field is a time.Duration. That sentence is the
// figure's help text: go generate writes it into figures_help.go. TestFiguresDeclared holds
// comment, tag and type against each other, and Stats.Figures reads the tags.
//
// A tag "key=value", of a field that holds a struct, is a label for the figures in it. A tag
// "key,label" is on the field that tells the elements of a slice apart. A field with the tag "-" is
// no figure.
//
// To add a figure, add a field here and to the struct of internal/engine/stats.go that is converted
// to this one (take), fill it there, and run go generate.

// Stats is a picture of the whole allocator, filled by ReadStats. It has one field for each figure;
// Figures lists them with their names and units.
//
// Figures in bytes of blocks count the whole size class of each block (see GoodSize), which may be
// more than was asked for. The tag of a field has the figure's name and its kind: a counter counts
// from the start of the program; a gauge is the value now. The figure of a time.Duration is in
// seconds.
type Stats struct {
	// GlobalStats has the figures of the allocator as a whole. Its fields are used as fields of
	// Stats: s.Live.
	GlobalStats
	// MemoryStats says how much memory hakmem has. Its fields are used as fields of Stats:
	// s.Resident.
	MemoryStats
	// ResidentBy says what the resident memory is used for.
	ResidentBy ResidentStats

	// Classes has one entry for each size class up to 32 KiB, in ascending order of size. A block size
	// that is added while the program runs (Options.Dyn) has one from then on.
	Classes []ClassStats
	// Large describes blocks above 32 KiB.
	Large LargeStats
	// Budget says what the caches of free blocks hold together, and how much they may.
	Budget BudgetStats
	// Scavenger says what became of freed memory.
	Scavenger ScavengerStats
	// PageFaults counts page faults by what the memory is used for.
	PageFaults PageFaultStats
	// Touch counts the blocks to which memory came before they were touched (HAKMEM_TOUCH).
	Touch TouchStats
	// Timing has one entry for each phase of the slow paths. It is empty unless HAKMEM_TIMING is
	// on.
	Timing []PhaseTiming
	// Lanes describes where blocks lie that live for long.
	Lanes LaneStats
	// Guard counts the guarded blocks of HAKMEM_GUARD.
	Guard GuardStats
	// Stages counts where slabs were found.
	Stages StageStats
	// SystemCalls counts memory system calls.
	SystemCalls SystemCallStats
	// Sites has one entry for each site, in the order of registration. With HAKMEM_SITES=pc callers are
	// registered when the first of their blocks is drawn.
	Sites []SiteStats
	// Abandoned counts the Heaps and Arenas that became unreachable without Close.
	Abandoned AbandonedStats

	// Errors lists what went wrong and was survived: malformed settings, a refused reservation or
	// commit, memory that the system refused to take back, a trace that could not be written, the
	// first abandoned Heap and the first abandoned Arena. Err joins these errors into one.
	Errors []error
}

// GlobalStats has the figures of the allocator as a whole. It is a part of Stats.
type GlobalStats struct {
	// Reserved is the address space reserved for blocks so far, in bytes.
	Reserved uint64 `stat:"reserved_bytes,gauge"`
	// Committed is the part of the reserved address space that may be touched, in bytes. Much of it may
	// not be resident.
	Committed uint64 `stat:"committed_bytes,gauge"`
	// Metadata is the address space committed for hakmem's own maps, in bytes. It is no part of Committed.
	// Less of it is resident.
	Metadata uint64 `stat:"metadata_bytes,gauge"`
	// Live is the memory of blocks handed out and not yet freed, in bytes. It is the sum over
	// Classes and Large. Guarded blocks are not in it (see GuardStats).
	Live uint64 `stat:"live_bytes,gauge"`
	// LiveBlocks is the number of blocks handed out and not yet freed. It counts the same blocks as
	// Live.
	LiveBlocks uint64 `stat:"live_blocks,gauge"`
	// InMagazines is the memory of free blocks up to 32 KiB in the magazines of all fronts, in
	// bytes. With HAKMEM_HARDEN it includes the blocks in the quarantine. Large.CachedBytes counts
	// larger blocks.
	InMagazines uint64 `stat:"magazine_bytes,gauge"`
	// InQuarantine is the memory of freed blocks that wait in the quarantine of HAKMEM_HARDEN, in bytes. It
	// leaves out blocks above 2 MiB. Those up to 32 KiB are in InMagazines too, larger ones in
	// Large.CachedBytes.
	InQuarantine uint64 `stat:"quarantine_bytes,gauge"`
	// Superslabs is the number of superslabs in use.
	Superslabs int `stat:"superslabs,gauge"`
	// Fronts is the number of fronts in use. Each open Heap has one, and each P that has allocated
	// since its last drain.
	Fronts int `stat:"fronts,gauge"`
	// Drains is the number of drains of a front. The scavenger drains fronts, Trim and a lack of
	// memory do, and so do the begin and the end of a trace.
	Drains uint64 `stat:"drains_total,counter"`
	// LateDoubleFrees is the number of double frees found only when a copy of the block left its
	// magazine. hakmem dropped the copy.
	LateDoubleFrees uint64 `stat:"late_double_frees_total,counter"`
	// OutOfMemory is the number of allocations that returned nil. A Calloc whose n·size overflows
	// is not counted.
	OutOfMemory uint64 `stat:"failed_allocations_total,counter"`
}

// MemoryStats says how much memory hakmem has from the operating system. It is a part of Stats.
type MemoryStats struct {
	// Resident is the memory that hakmem has resident now, in bytes: blocks, live or free, and its own
	// maps. With Go's heap, the code and the stacks it is what the process has resident, so it may be
	// held against the limit of a container. It is what the system says, which takes 0.1 to 25 ms for
	// each GiB (see ReadStats). It is right to 3 %: a page that was read and never written counts. Where the system does
	// not say, it is Counted.
	Resident uint64 `stat:"resident_bytes,gauge"`
	// Counted is the memory that the memory limits count, in bytes: all that may be resident. It is
	// above Resident where memory was handed out and not touched yet. The function Counted returns it alone,
	// which costs nothing.
	Counted uint64 `stat:"counted_bytes,gauge"`
	// SoftLimit is the soft memory limit in force, in bytes. It is 0 where there is none.
	SoftLimit uint64 `stat:"soft_limit_bytes,gauge"`
	// HardLimit is the hard memory limit in force, in bytes. It is 0 where there is none.
	HardLimit uint64 `stat:"hard_limit_bytes,gauge"`
}

// ResidentStats says what the resident memory is used for. Its fields together are MemoryStats.Resident.
// All are 0 where the system does not say what is resident.
type ResidentStats struct {
	// Slabs is the resident memory of slabs, in bytes: blocks up to 32 KiB, live or free.
	Slabs uint64 `stat:"resident_slab_bytes,gauge"`
	// LargeLive is the resident memory of live blocks above 32 KiB, in bytes.
	LargeLive uint64 `stat:"resident_large_live_bytes,gauge"`
	// LargeCached is the resident memory of freed blocks above 32 KiB in magazines, caches and the
	// quarantine, in bytes. With the tag hakmem_nolive such blocks are in LargeLive.
	LargeCached uint64 `stat:"resident_large_cached_bytes,gauge"`
	// Free is the resident memory of free pages, in bytes. The scavenger returns it when its hold time is
	// over.
	Free uint64 `stat:"resident_free_bytes,gauge"`
	// Guarded is the resident memory of guarded blocks, live or freed, in bytes.
	Guarded uint64 `stat:"resident_guarded_bytes,gauge"`
	// Tables is the resident memory of hakmem's own maps and of fronts, in bytes.
	Tables uint64 `stat:"resident_table_bytes,gauge"`
}

// AbandonedStats counts what became unreachable without Close. The memory was given back.
type AbandonedStats struct {
	// Heaps is the number of abandoned Heaps.
	Heaps uint64 `stat:"abandoned_heaps_total,counter"`
	// Arenas is the number of abandoned Arenas. Arenas that never allocated have no memory and are
	// not counted.
	Arenas uint64 `stat:"abandoned_arenas_total,counter"`
}

// ClassStats describes one size class. Live, Free and InMagazines are together all blocks of the
// class's slabs.
type ClassStats struct {
	// Size is the size of a block of the class, in bytes.
	Size uint64 `stat:"class,label"`
	// Live is the number of the class's blocks handed out and not yet freed.
	Live uint64 `stat:"class_live_blocks,gauge"`
	// Free is the number of the class's blocks that are free in its slabs.
	Free uint64 `stat:"class_free_blocks,gauge"`
	// InMagazines is the number of the class's blocks that are free in magazines. With
	// HAKMEM_HARDEN it includes the blocks in the quarantine.
	InMagazines uint64 `stat:"class_magazine_blocks,gauge"`
	// Slabs is the number of slabs of the class.
	Slabs uint64 `stat:"class_slabs,gauge"`
	// FrontHits is the number of known hits: allocations that the class's magazines served. It is a
	// lower bound: the fast path keeps no counter, so hits are inferred from how many refilled
	// blocks are gone. A block freed into a magazine hides a hit until the next refill or flush, or
	// for good, so the figure can fall. FrontHits + Misses is the number of allocations while
	// nothing is freed, and at most that number otherwise; those in the long lane are in neither.
	FrontHits uint64 `stat:"class_front_hits,gauge"`
	// Misses is the number of misses: allocations that found the class's magazine empty.
	Misses uint64 `stat:"class_misses_total,counter"`
	// Refills is the number of refills of a magazine from a slab of the class.
	Refills uint64 `stat:"class_refills_total,counter"`
	// Flushes is the number of flushes of the class's magazines. A flush gives the oldest blocks of
	// a full magazine back to their slabs.
	Flushes uint64 `stat:"class_flushes_total,counter"`
}

// LargeStats describes blocks above 32 KiB. Each has a run of pages of its own.
type LargeStats struct {
	// LargeBlockStats has the figures of all large blocks. Its fields are used as fields of
	// LargeStats: s.Large.LiveBytes.
	LargeBlockStats

	// Shared is the cache behind the magazines that all Ps share.
	Shared CacheStats `stat:"cache=shared"`
	// SiteCache is the cache of blocks kept for the site that freed them.
	SiteCache CacheStats `stat:"cache=site"`
	// HugeCache is the cache of the huge block, one above 2 MiB, that was freed last.
	HugeCache CacheStats `stat:"cache=huge"`
}

// LargeBlockStats has the figures of all large blocks. It is a part of LargeStats.
//
// Allocs - Frees is LiveBlocks + CachedBlocks.
type LargeBlockStats struct {
	// LiveBlocks is the number of large blocks handed out and not yet freed.
	LiveBlocks uint64 `stat:"large_live_blocks,gauge"`
	// LiveBytes is the memory of large blocks handed out and not yet freed, in bytes.
	LiveBytes uint64 `stat:"large_live_bytes,gauge"`
	// CachedBlocks is the number of freed large blocks in magazines and caches. They keep their
	// memory.
	CachedBlocks uint64 `stat:"large_cached_blocks,gauge"`
	// CachedBytes is the memory of freed large blocks in magazines and caches, in bytes.
	CachedBytes uint64 `stat:"large_cached_bytes,gauge"`
	// Allocs is the number of large blocks made of free pages. An allocation that a magazine or a
	// cache serves makes none.
	Allocs uint64 `stat:"large_made_blocks_total,counter"`
	// Frees is the number of large blocks turned into free pages. A block freed into a magazine or
	// a cache keeps its pages.
	Frees uint64 `stat:"large_released_blocks_total,counter"`
	// Wider is the number of blocks from a cache that served an allocation of a smaller class
	// (HAKMEM_W_MAX).
	Wider uint64 `stat:"large_wider_blocks_total,counter"`
	// WiderBytes is what blocks that served an allocation of a smaller class had beyond what was asked
	// for, in bytes.
	WiderBytes uint64 `stat:"large_wider_bytes_total,counter"`
}

// CacheStats describes a cache of freed large blocks.
type CacheStats struct {
	// Hits is the number of hits: allocations that found a block in the cache.
	Hits uint64 `stat:"large_cache_hits_total,counter"`
	// Misses is the number of misses: allocations that found no block in the cache.
	Misses uint64 `stat:"large_cache_misses_total,counter"`
	// Evictions is the number of evictions: blocks for which the cache had no room, or which made
	// room in it for others.
	Evictions uint64 `stat:"large_cache_evictions_total,counter"`
	// Blocks is the number of blocks in the cache.
	Blocks uint64 `stat:"large_cache_blocks,gauge"`
	// Bytes is the memory of the blocks in the cache, in bytes.
	Bytes uint64 `stat:"large_cache_bytes,gauge"`
}

// BudgetStats describes the budget that magazines, leases and shared slots have together
// (HAKMEM_CACHE_BUDGET). The caches of sites and of huge blocks are not part of it.
type BudgetStats struct {
	// Held is the memory of free blocks in magazines, leased slabs and shared slots, in bytes. Of a
	// leased slab it counts a half.
	Held uint64 `stat:"budget_held_bytes,gauge"`
	// Limit is the memory that these caches should hold at most, in bytes. With the tag
	// hakmem_nolearn nothing keeps them to it.
	Limit uint64 `stat:"budget_limit_bytes,gauge"`
	// Scarcity is the ratio of the price of memory in these caches to the price of other memory
	// (HAKMEM_MEMORY_PRICE). It is 0 while they keep within the budget by themselves. The higher it
	// is, the less room caches get.
	Scarcity float64 `stat:"budget_scarcity_ratio,gauge"`
}

// ScavengerStats says what became of freed memory. Memory is counted in pages of 64 KiB, except for
// Holes.
//
// SetMemoryLimit does not limit Used + Dirty, which include holes and pages used in part, but
// MemoryStats.Counted.
type ScavengerStats struct {
	// Used is the memory of slabs and of large blocks, live or cached, in bytes.
	Used uint64 `stat:"used_bytes,gauge"`
	// Dirty is the memory that free pages still have, in bytes.
	Dirty uint64 `stat:"dirty_bytes,gauge"`
	// KeptReused is the memory of free pages that was kept and used again, in bytes.
	KeptReused uint64 `stat:"kept_reused_bytes_total,counter"`
	// KeptInVain is the memory kept for its hold time and then returned, in bytes.
	KeptInVain uint64 `stat:"kept_in_vain_bytes_total,counter"`
	// Returned is the memory of free pages returned to the operating system, in bytes. It includes
	// KeptInVain.
	Returned uint64 `stat:"returned_bytes_total,counter"`
	// FaultedAgain is the memory returned and used again so soon that it should have been kept, in
	// bytes.
	FaultedAgain uint64 `stat:"faulted_again_bytes_total,counter"`
	// ReturnedRightly is the memory returned and not soon used again, in bytes. It is Returned -
	// FaultedAgain, and falls when FaultedAgain grows.
	ReturnedRightly uint64 `stat:"returned_rightly_bytes,gauge"`
	// Holes is the memory of free blocks returned from slabs with live blocks, in bytes. It is no
	// part of Returned.
	Holes uint64 `stat:"holes_returned_bytes_total,counter"`
	// Refilled is the memory that was found resident although it had been returned, or was never
	// used, in bytes. Huge pages of the system bring such memory. It is returned again. hakmem looks
	// for it when Trim is called and when the system begins to make huge pages.
	Refilled uint64 `stat:"refilled_bytes_total,counter"`
	// HoldTime is the mean time for which free memory is kept now before it is returned. With
	// HAKMEM_KEEP=always, where nothing is returned by itself, it says what auto would do.
	HoldTime time.Duration `stat:"scavenger_hold_seconds,gauge"`
	// Ticks is the number of ticks of the scavenger. At each tick it looks for memory to return.
	Ticks uint64 `stat:"scavenger_ticks_total,counter"`
	// Running is whether the scavenger's timer is set. It is set while there may be memory to
	// return. Figures yields 1 or 0.
	Running bool `stat:"scavenger_running,gauge"`
	// LimitRefused is the number of refusals of memory by the hard memory limit. One allocation may
	// be refused several times.
	LimitRefused uint64 `stat:"limit_refusals_total,counter"`
	// PressureRounds is the number of rounds that the soft memory limit asked for. A round empties all
	// fronts and caches, for which it stops the world. They become rare while they do not help.
	PressureRounds uint64 `stat:"pressure_rounds_total,counter"`
	// PressureReturned is the memory by which those rounds made Counted smaller, in bytes.
	PressureReturned uint64 `stat:"pressure_returned_bytes_total,counter"`
}

// PageFaultStats counts the OS pages that were faulted in, by what they are used for, or came before they
// were touched (TouchStats). They are the
// pages resident now, and those that were resident each time memory was returned. A huge page
// counts as all of its OS pages. A page that serves other blocks now has moved to their figure, so
// each figure can fall. All are 0 where the system does not tell which pages are resident. Linux does,
// unless the process can use neither mincore nor /proc/self/pagemap.
type PageFaultStats struct {
	// Tiny is the number of OS pages faulted in for blocks up to 1 KiB.
	Tiny uint64 `stat:"faulted_tiny_pages,gauge"`
	// Mid is the number of OS pages faulted in for blocks above 1 KiB and up to 32 KiB.
	Mid uint64 `stat:"faulted_mid_pages,gauge"`
	// Large is the number of OS pages faulted in for blocks above 32 KiB and up to 2 MiB.
	Large uint64 `stat:"faulted_large_pages,gauge"`
	// Huge is the number of OS pages faulted in for blocks above 2 MiB.
	Huge uint64 `stat:"faulted_huge_pages,gauge"`
}

// TouchStats counts blocks to which memory came before they were touched, because HAKMEM_TOUCH says so or
// because that costs less by what was learnt.
type TouchStats struct {
	// Blocks is the number of blocks to which memory came with one call.
	Blocks uint64 `stat:"populated_blocks_total,counter"`
	// Bytes is the memory of those blocks, in bytes.
	Bytes uint64 `stat:"populated_bytes_total,counter"`
	// HugeBlocks is the number of those blocks for which huge pages were asked.
	HugeBlocks uint64 `stat:"populated_huge_blocks_total,counter"`
	// HugeBytes is the memory for which huge pages were asked, in bytes. Where the system has no huge page
	// at hand, it gives small ones.
	HugeBytes uint64 `stat:"populated_huge_bytes_total,counter"`
	// Collapsed is the memory of slabs of which huge pages were made later, in bytes (HAKMEM_THP=canary).
	Collapsed uint64 `stat:"collapsed_bytes_total,counter"`
}

// PhaseTiming is the time of one phase of the slow paths. A phase may contain others: a commit is a
// part of an acquire.
type PhaseTiming struct {
	// Phase is the name of the phase.
	Phase string `stat:"phase,label"`
	// Count is the number of runs of the phase.
	Count uint64 `stat:"phase_runs_total,counter"`
	// Cycles is the time of all runs of the phase, in cycles of the processor's counter.
	Cycles uint64 `stat:"phase_cycles_total,counter"`
	// MaxCycles is the time of the longest run of the phase, in cycles of the processor's counter.
	MaxCycles uint64 `stat:"phase_longest_cycles,gauge"`
	// Total is the time of all runs of the phase. It is Cycles by a measured rate, and can fall a
	// little when that measurement becomes better. It is 0 where the rate is unknown.
	Total time.Duration `stat:"phase_seconds,gauge"`
}

// LaneStats describes the long lane: the slabs of blocks up to 4 KiB that live for long (see Lane). They
// are in ClassStats too.
type LaneStats struct {
	// Slabs is the number of slabs in the long lane.
	Slabs uint64 `stat:"lane_long_slabs,gauge"`
	// Bytes is the memory of the slabs in the long lane, in bytes. Some of it may have been returned.
	Bytes uint64 `stat:"lane_long_bytes,gauge"`
	// Samples is the number of blocks whose lifetimes were watched. From them hakmem learns which sites'
	// blocks live for long.
	Samples uint64 `stat:"lane_sampled_blocks_total,counter"`
	// LongSites is the number of sites whose blocks go to the long lane now, because that was learnt or
	// set.
	LongSites uint64 `stat:"lane_long_sites,gauge"`
}

// GuardStats counts the guarded blocks of HAKMEM_GUARD. Those of a site count for the site too, in
// SiteStats. Of the other figures, Resident and Counted include the memory of guarded blocks.
type GuardStats struct {
	// Live is the number of guarded blocks handed out and not yet freed.
	Live uint64 `stat:"guard_live_blocks,gauge"`
	// Samples is the number of blocks guarded.
	Samples uint64 `stat:"guard_sampled_blocks_total,counter"`
	// Skipped is the number of blocks due to be guarded and not guarded. The last guarded one was
	// less than 5 ms old, there was no place, or the process needs the mappings that are left.
	Skipped uint64 `stat:"guard_skipped_blocks_total,counter"`
}

// StageStats counts the searches for a slab with free blocks by the stage in which they ended. A
// miss begins a search. The fields are in the order of the search.
type StageStats struct {
	// OwnLease is the number of searches that ended at the slab leased by the front.
	OwnLease uint64 `stat:"stage_own_lease_searches_total,counter"`
	// Partial is the number of searches that ended at a partly free slab of the class. The one with
	// the lowest address is taken.
	Partial uint64 `stat:"stage_partial_searches_total,counter"`
	// Empty is the number of searches that ended at an EMPTY slab of the class. With
	// HAKMEM_EMPTY_FIRST this stage comes before Partial.
	Empty uint64 `stat:"stage_empty_searches_total,counter"`
	// CrossClass is the number of searches that ended at free pages of a superslab in use, or at an
	// EMPTY slab of another class.
	CrossClass uint64 `stat:"stage_cross_class_searches_total,counter"`
	// Superslab is the number of searches that ended at a fresh superslab.
	Superslab uint64 `stat:"stage_superslab_searches_total,counter"`
}

// SystemCallStats counts the memory system calls made. The names in parentheses are those of Linux.
type SystemCallStats struct {
	// Reserve is the number of system calls that reserve address space (mmap).
	Reserve uint64 `stat:"reserve_calls_total,counter"`
	// Commit is the number of system calls that commit memory (mprotect).
	Commit uint64 `stat:"commit_calls_total,counter"`
	// Decommit is the number of system calls that return memory (madvise).
	Decommit uint64 `stat:"decommit_calls_total,counter"`
	// Advise is the number of system calls that ask for huge pages, make or refuse them (madvise).
	Advise uint64 `stat:"advise_calls_total,counter"`
	// Populate is the number of system calls that bring memory before it is touched (madvise).
	Populate uint64 `stat:"populate_calls_total,counter"`
	// Failed is the number of memory system calls of any kind that failed. Those that ask which pages
	// are resident are not counted: where the system does not tell, PageFaults are 0.
	Failed uint64 `stat:"failed_calls_total,counter"`
}

// SiteStats describes the live blocks of one site.
type SiteStats struct {
	// Site is the site as RegisterSite returned it.
	Site Site `stat:"-"`
	// Name is the name of the site.
	Name string `stat:"site,label"`
	// LiveBytes is the memory of the site's blocks handed out and not yet freed, in bytes.
	LiveBytes uint64 `stat:"site_live_bytes,gauge"`
	// LiveBlocks is the number of the site's blocks handed out and not yet freed.
	LiveBlocks uint64 `stat:"site_live_blocks,gauge"`
	// OneIn is the number of blocks of which one counts for the site, drawn at random. It is N with
	// HAKMEM_SITES=pc/N for sites that are callers; else it is 1, so that every block counts.
	OneIn uint64 `stat:"site_live_one_in_blocks,gauge"`
}

// totals is where ReadStats collects; it is large, and one at a time is enough.
var totals struct {
	check.Mutex[check.Totals]
	engine.Totals
}

var timing [telemetry.NumPhases]telemetry.Timing // under totals' lock

// ReadStats fills s with the state of the allocator. It reuses the slices that s has, so that a
// Stats read again and again costs no Go memory. Any goroutine; one read at a time, others wait.
//
// The picture is exact when no goroutine allocates or frees during the call. The scavenger may run:
// it waits. While others allocate or free, each figure that is counted was true at some moment of
// the call, but not all were at the same moment. Sums need not come out then, and blocks that move
// from one place to another during the call may be missing in Live and LiveBlocks. Some figures are
// not exact even when all is quiet, as their comments say: FrontHits, Resident, and those of
// PageFaults.
//
// The fast paths count nothing, so ReadStats does the counting: it looks at every page in use and
// at every front, and on Linux it asks the operating system which pages are resident. Others allocate
// and free meanwhile; they wait at most for the few moments in which ReadStats holds a lock of theirs.
//
// It takes about 1 ms for each GiB in use, so 0.1 s at 100 GiB. For each GiB the system looks up 262,144 OS
// pages of 4 KiB: by mincore at 2 ns, which Linux is asked by where no filter of system calls is in force and nothing
// is swapped out; else by PAGEMAP_SCAN (Linux 6.7) at 12 to 20 ns; else by /proc/self/pagemap at 60 to 100 ns.
// Huge pages take a tenth of these times. And 16,384 pages have an entry of 128 bytes each, some 10 ns, or 45 ns for
// pages of slabs with free blocks. (Blocks above 2 MiB have entries only at their ends.)
func ReadStats(s *Stats) {
	faults, resident, by := engine.ReadResident() // it asks the system, so no lock is held
	totals.Lock()
	defer totals.Unlock()
	engine.ReadTotals(&totals.Totals)
	totals.PageFaults, totals.Resident, totals.ResidentBy = faults, resident, by
	s.take(&totals.Totals)
	s.Abandoned = AbandonedStats{Heaps: abandoned.heaps.Load(), Arenas: abandoned.arenas.Load()}
	s.Timing = s.Timing[:0]
	if policy.AtStart().Timing {
		telemetry.ReadTiming(&timing)
		hz := telemetry.Hz()
		for p, n := range timing {
			var total time.Duration
			if hz > 0 {
				total = time.Duration(float64(n.Cycles) / hz * 1e9)
			}
			s.Timing = append(s.Timing, PhaseTiming{telemetry.Phase(p).String(), n.Count, n.Cycles, n.MaxCycles, total})
		}
	}
	s.Sites = s.Sites[:0]
	for i, n := site.ID(1), site.Num(); i <= n; i++ {
		name, bytes, blocks := site.Read(i)
		oneIn := uint64(1)
		if engine.IsCaller(i) {
			oneIn = uint64(engine.CallerRate())
		}
		s.Sites = append(s.Sites, SiteStats{Site(i), name, uint64(bytes), uint64(blocks), oneIn})
	}
	s.Errors = append(append(s.Errors[:0], policy.Errors()...), engine.Survived()...)
}

// take copies the engine's figures. Each struct is converted as a whole, which compiles only while
// the engine's has the same fields; TestStatsTakesAll fails when a struct is left out.
func (s *Stats) take(t *engine.Totals) {
	s.GlobalStats = GlobalStats(t.GlobalTotals)
	s.MemoryStats = MemoryStats(t.MemoryTotals)
	s.ResidentBy = ResidentStats(t.ResidentBy)
	s.Classes = s.Classes[:0]
	for c := sizeclass.ID(0).Next(); c != 0; c = c.Next() {
		if t.Classes[c].Size > 0 { // otherwise it was added since the figures were read
			s.Classes = append(s.Classes, ClassStats(t.Classes[c]))
		}
	}
	s.Large = LargeStats{LargeBlockStats(t.Large), CacheStats(t.Shared), CacheStats(t.SiteCache), CacheStats(t.HugeCache)}
	s.Budget = BudgetStats(t.Budget)
	s.Scavenger = ScavengerStats(t.Scavenger)
	s.PageFaults = PageFaultStats(t.PageFaults)
	s.Touch = TouchStats(t.Touch)
	s.Lanes = LaneStats(t.Lanes)
	s.Guard = GuardStats(t.Guard)
	s.Stages = StageStats(t.Stages)
	s.SystemCalls = SystemCallStats(t.SystemCalls)
}

// Err returns what went wrong so far and was survived, joined into one error: malformed settings, a
// refused reservation or commit, memory that the system refused to take back (of each kind of refusal
// the first, with its address), a trace that could not be written, the first Heap and the first Arena
// dropped without Close. It returns nil when nothing went wrong. An allocation that a memory
// limit refuses is not among it, and neither is a size that no machine has: the Reason of an
// *OutOfMemoryError says so. Any goroutine.
func Err() error { return errors.Join(append(policy.Errors(), engine.Survived()...)...) }
