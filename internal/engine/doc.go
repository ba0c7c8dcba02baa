// Package engine is the allocator: it hands out blocks of memory outside the Go heap and
// takes them back. The public package hakmem is a thin face over it: pointers in place of
// addresses, panics in place of findings, traces, and the paths that inline into a caller.
//
// # The nouns
//
// The region is one range of address space, reserved by the first allocation and never
// unmapped. It is divided into pages of 64 KiB and chunks of 32 pages, 2 MiB. (A page of the
// operating system is always called an OS page.)
//
// A block is what the program holds. Up to 32 KiB it is cut from a slab: one page, or a run
// of 2, 4 or 8 pages, that holds blocks of one size class. Above 32 KiB it is a large block, a
// run of pages of its own; above 2 MiB, where there are no size classes, a huge block. A chunk
// from which slabs are cut is a superslab.
//
// Blocks up to 4 KiB of which it is known that they live for long have slabs of their own, the long lane.
// The slabs of one class and lane are a list.
//
// A magazine is an array of free blocks of one class. A front is the set of magazines of one
// P, which is Go's name for a processor slot, or of one Heap. For each class a front may have a
// lease: the right to take blocks from one slab.
//
// The live map has a byte for each granule of 16 bytes (above 1 KiB, for each KiB) that says
// whether a live block begins there. A finding is a misuse that was found, such as a double
// free.
//
// The scavenger returns memory to the operating system. It is a timer that is set only while
// there is something to return.
//
// # The floors
//
// The files of the package lie on floors. A file uses only what files of lower floors, or
// earlier files of its own floor, declare. TestLayers holds the order and lists the files;
// these are the floors from the ground up:
//
//   - ground: units (types for addresses, pages, chunks, times), unsafe loads and stores,
//     pinning, lists of slabs, the clock, errors that were survived;
//   - region: the reserved range, its metadata, a page's entry in it, the site map, modes;
//   - pages: what is learnt of pages and of sites, chunks, the page tree, the memory limit, growth of
//     the committed part;
//   - blocks: findings, live state, partial sets, superslabs, return of free pages, slabs, sizes that
//     were added to the fixed classes;
//   - fronts: magazines, large blocks and their caches, the quarantine, the pool of fronts,
//     reservation, how a goroutine gets a front (enter), and long lanes;
//   - scavenger: draining fronts, sweeping EMPTY slabs, punching holes, the timer, and what a
//     failed allocation tries before it gives up;
//   - calls: allocation and free of every kind, guarded and hardened ones too;
//   - whole: what looks at everything: limits, Trim, traces, walks, statistics, invariants.
//
// Exported functions are called by the public package and by tests of this module. What may be
// called where is said in one word at each function and checked in builds with the tag
// hakmem_check (internal/check): "Entered" means between enter and leave, pinned or with a
// shard's lock, where nothing may block, allocate Go memory, panic or call the system; "Not
// entered" is its opposite; "Under X" means with the lock X held. The order of locks is in
// docs/concurrency.md, section 2.
//
// # The path of a malloc, and of a free
//
// A malloc that the front's magazine can serve ends in the fast section, which neither pins nor
// uses an atomic. Otherwise Malloc (alloc.go) enters the front and refills the magazine from its
// leased slab (magazine.go); without a lease it acquires a slab (slab.go), for which a superslab
// may give pages (superslab.go) and the region may grow (grow.go). A large block comes from its
// magazine, the shared caches (large_cache.go), the caches of a larger class (wmax.go) or the page tree
// (large.go); one of pages without memory may get it before the program touches it (touch.go).
//
// A block of the long lane is cut from the slab that the lane leases (lane.go), and its free sets its bit.
//
// A free looks at the block's live byte, clears it and pushes the block onto the magazine. A full
// magazine grows or spills its oldest blocks (spill.go) back to their slabs (flush, in
// magazine.go), large ones to the shared caches and the page tree.
package engine
