// Package hakmem is a memory allocator outside the Go heap, in pure Go: blocks
// of any size, freed one by one, from every goroutine, without cgo, linker flags
// or work for the garbage collector.
//
//	b := hakmem.Alloc(4096) // []byte, contents undefined
//	defer hakmem.FreeBytes(b)
//
// The memory is manual: a block lives until it is freed, it must not hold Go
// pointers, and using it after its free is an error that the garbage collector
// will not prevent. What hakmem does prevent is listed under Misuse.
//
// # The nouns
//
// The region is one range of address space, reserved by the first allocation
// (1 TiB, or what can be had) and never unmapped, so "pointer minus base" leads
// from a block to everything known of it. It is divided into pages of 64 KiB.
//
// One page allocator (internal/engine/pagetree.go) hands out runs of pages, lowest
// address first. A run is either a large block, the home of one block above 32 KiB, or
// a superslab: 2 MiB, 32 pages, from which slabs are cut. A slab (64 KiB, or a
// run of pages above 1 KiB) holds the blocks of one size class. Size classes are
// 16 bytes apart up to 128 bytes and then eight to a doubling.
//
// Everything hakmem knows of a block lies outside the block. Each slab has a
// bitmap: a set bit is a block that the slab owns. The live map has one byte for
// each 16 bytes of the region: the class of the live block that starts there, or
// 0. Blocks above 1 KiB have one byte each instead.
//
// A magazine is an array of free blocks of one class. A front is the set of
// magazines of one P, which is Go's name for a processor slot, or of one Heap.
// Each front has, for each class, a lease: the exclusive right to take blocks
// from one slab, so that two Ps do not share the cache lines of a slab.
//
// The policy has the values of all settings, from HAKMEM_* environment variables and
// Configure: those that are fixed by the first allocation, and the tuning, which slow
// paths read and which may be replaced as a whole at any time. A site is the label of an
// allocation's purpose.
//
// # The path of a malloc
//
//  1. Malloc (fast.go) calls the fast section (fast_amd64.h, fast_arm64.go): the
//     size gives the class by a table.
//  2. The current P's front is found without pinning, in code that the runtime
//     never preempts: on amd64 by the thread's guess, which the front confirms or
//     not (internal/engine/front.go, Guesses), else by the P's number.
//  3. Pop the class's magazine: one load; a 0 says that it is empty.
//  4. Write the class into the block's live byte. Done: the block was not
//     touched, no atomic was used.
//  5. mallocMid, in the same files, does the same for sizes above 1 KiB, up to
//     large blocks of 2 MiB, of which the magazines keep freed ones warm.
//  6. Empty: heap.Malloc (internal/engine/alloc.go) pins the P, tries again, and
//     refills the magazine from the leased slab: it clears bits of the bitmap,
//     one atomic for each word of 64 blocks (magazine.go).
//  7. Lease exhausted: unpin, retire it, and acquire another slab (slab.go): a
//     partly free slab of the class, lowest address first (stage 1); an EMPTY
//     one (0.5); unused pages of a superslab, or an EMPTY slab of another class
//     (2); a new superslab (3), which may commit more of the region.
//  8. Sizes above 32 KiB: where the magazine has no cached large block, one from the shared
//     caches (spancache.go), else from the page tree (large block.go).
//  9. Nothing left: what idle magazines and EMPTY slabs hold is brought together
//     and tried once more; then the result is nil.
//
// # The path of a free
//
//  1. Free (fast.go) calls the fast section: one rotation and one compare test
//     that the pointer is inside the region and aligned.
//  2. The page gives the class; where there is no tiny slab that is 0, the trap
//     class, whose magazine is always full.
//  3. The live byte must be the class: so it is a live block. Clear it and push
//     the block onto the magazine. Done.
//  4. freeMid does the same for blocks above 1 KiB.
//  5. Full, or trapped: heap.Free (internal/engine/alloc.go) looks at the page,
//     and either reports what is wrong with the pointer, or makes the magazine
//     larger (growMagazine), or moves its
//     oldest blocks back to their slabs: it gathers bits and sets them, as a rule
//     one atomic for each word (magazine.go). Large blocks go to the shared caches,
//     then to the page tree.
//  6. A slab that was out of blocks becomes PARTIAL and is listed; one whose
//     bits are all set is EMPTY, and its pages may serve another class.
//
// # Returning memory
//
// What is freed stays for a while, because a page that is faulted in again costs
// more than a hundred allocations. The scavenger (scavenger.go), a timer that is
// set only while there is something to return, keeps what the demand of the last
// seconds would need and gives the rest back: idle magazines, idle large blocks, EMPTY
// slabs, free pages (purge.go), and the free blocks' memory in sparse slabs
// (punch.go). Trim does all of it at once. SetMemoryLimit bounds what is held.
//
// # Misuse
//
// Every invalid free panics with a *MisuseError before anything is changed: of a
// block that was freed already (also long ago, also when its memory serves
// another size now), of a pointer into a block, of an unaligned pointer, of Go
// memory, of any other address. Realloc, UsableSize and the typed functions
// check likewise. The one exception in time: two frees of one block that overlap
// may both pass the check; the second is found at the latest when both copies
// have left their magazines towards the slab, and is then dropped, counted and
// reported as detected late. (If both copies were handed out again before, the
// free of the second is reported. docs/concurrency.md, section 7, has what is left:
// moments of some nanoseconds, which HAKMEM_HARDEN closes.) A free of a block that
// was freed and is now the start of a new live block cannot be told from a right
// one. On Windows, where reserved memory cannot be read, a pointer into the part of
// the region that has hakmem's own live map is a fault that ends the process.
//
// Two settings find more (docs/design.md section 11). HAKMEM_GUARD=1/N puts one in N
// blocks between pages that fault, and CatchFaults tells what block a fault
// belongs to. HAKMEM_HARDEN=1 finds writes behind a block and after its free, when
// the block is freed or leaves the quarantine. In programs built with -asan it is on
// by itself, and the sanitizer is told which bytes are the user's.
//
// # Traces
//
// StartTrace, or HAKMEM_TRACE=path, writes a line for each call of an allocation
// function (trace.go). The fast paths do not know of it: while calls are watched
// (watch.go) the front of every P and Heap is the trap front, whose magazines are
// empty and full at once, so that every call takes the slow path.
//
// # Leaks
//
// LiveBlocks walks over every live block (internal/engine/walk.go). Package
// hakmemtest makes a test fail that leaves blocks behind: while its NoLeaks is
// active calls are watched, and the stack of each allocation is recorded
// (internal/engine/record.go). A Heap or an Arena that becomes unreachable without
// Close is noticed by a cleanup of the collector's (abandon.go): its memory goes
// back, Stats.Abandoned counts it, and Err tells of the first.
//
// # Concurrency
//
// Every function may be called from any goroutine at any time, but for
// CheckInvariants, which must be alone; Configure works until the first allocation. A
// Heap and an Arena are for one goroutine at a time. GOMAXPROCS may change while the program
// runs. Which Go versions use the fast section, and what the others do, is in
// docs/design.md.
package hakmem
