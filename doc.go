// Package hakmem allocates memory outside the Go heap, in pure Go: blocks of any
// size, freed one by one, from any goroutine, without cgo, linker flags or work
// for the garbage collector.
//
//	b := hakmem.Alloc(4096) // []byte, contents undefined
//	defer hakmem.FreeBytes(b)
//
// The memory is manual. A block lives until it is freed, must not hold Go
// pointers, and must not be used after its free: the garbage collector does not
// prevent that, and hakmem does not find it by default. What hakmem does find is
// listed under Misuse.
//
// # Choosing a function
//
// [Malloc], [Calloc], [Realloc], [AlignedAlloc] and [Free] are C's functions with
// unsafe.Pointer. [AlignedRealloc] and [AlignedCalloc] are for aligned blocks, and
// [ReallocZeroed] and [AlignedReallocZeroed] put zeroes behind what a block held.
// They return nil when memory runs out.
//
// [Alloc], [New] and [MakeSlice] return slices and typed pointers, zeroed except
// for Alloc. They panic with an [*OutOfMemoryError] when memory runs out, and
// refuse types that hold Go pointers; [PointerFree] says beforehand which types
// these are. [Append], [Grow] and [Clip] make a slice longer and shorter without
// moving it to the Go heap.
//
// A [Heap] serves one goroutine and is faster. An [Arena] hands out pieces that
// are all freed at once. [MallocAt], [CallocAt], [AlignedAllocAt], [AllocAt],
// [MakeSliceAt] and [NewArenaAt] label a block with a [Site], for statistics and so that hakmem
// learns which blocks live for long.
//
// [Owns] says of any pointer whether it is in a live block, [Foreign] whether it is
// outside of all memory of hakmem's, and [ExplainAddress] what is at an address.
//
// # Addresses as numbers
//
// Blocks must not hold Go pointers, so a structure of blocks that refer to each
// other keeps addresses, as uintptr. [Pointer] turns such an address into a
// pointer again, and checks that a live block is there:
//
//	type node struct{ next uintptr }
//	n := (*node)(hakmem.Pointer(first.next))
//
// The expression unsafe.Pointer(first.next) is not for that: go vet reports it, and
// programs built with -race and the tag hakmem_racetrack stop there. A block never
// moves, except in a Realloc or an Append, so its address stays valid until its free.
//
// # Strings and slices of blocks
//
// A string or a slice that was made from a block without a copy, for example with
// unsafe.String, is a pointer into the block. It ends with the block: after the
// free it shows what other blocks hold, as does every substring of it, and every map
// key or struct field to which it was assigned. strings.Clone makes a string
// of Go's that stays.
//
// # The Go heap next to it
//
// What is in hakmem's memory is not in the Go heap. The Go heap is small then, and
// the garbage collector starts when the heap has doubled (with GOGC at its
// default of 100, and not below 4 MiB). So a program that has moved nearly all of
// its data to hakmem collects its little heap several times as often, which costs
// time if it makes much garbage. Then raise GOGC, to 400 or 1000: a small heap with
// ten times the garbage is still small. Package governor does that by itself, within
// a limit for the whole process.
//
// # Misuse
//
// Every invalid free panics with a [*MisuseError] before anything is changed: of
// a block that was freed already (however long ago, and also if its memory serves
// another size now), of a pointer into a block, of an unaligned pointer, of Go
// memory, of any other address. Realloc, UsableSize and the typed functions check
// their pointers in the same way.
//
// Two limits. If a block was freed and its address is the start of a new live
// block, freeing the old pointer frees the new block; the new owner's free is the
// one that panics. And two frees of one block that run at the same moment may
// both pass the check; the section "Frees that overlap" of
// https://github.com/hakmem/hakmem/blob/main/docs/security.md says when the second
// is found. On Windows, a wild pointer into the part of the region that holds
// hakmem's own live map ends the process with a fault.
//
// Two settings find more. HAKMEM_GUARD=1/N puts one in N blocks between pages that
// fault, and [CatchFaults] says which block a fault belongs to. HAKMEM_HARDEN=1
// finds writes just behind a block and after its free, when the block is freed or
// leaves the quarantine. It does not find reads: a program that reads a block after
// its free goes on, with poison (bytes 0xDB) or another block's contents, and only
// HAKMEM_GUARD or -asan stops it. Programs built with -race and the tag hakmem_racetrack
// report races on blocks; programs built with -asan report every access to a byte
// that is not the block's.
//
// # Memory that is returned
//
// Freed memory stays for a while, because a page that is faulted in again costs
// more than a hundred allocations. The scavenger, a timer that is set only while
// there is something to return, keeps a free page for as long as that pays, which it
// learns from how long pages wait until they are used again. Then it returns the
// memory to the operating system, that of free blocks between live ones too. [SetMemoryLimit] bounds what is held.
//
// [Trim] returns all of it at once. It is for the moment when a program knows that
// much was freed for good, as at the Close of a database or a cache: without it,
// that memory goes back within seconds, and a part of it is kept for some time.
//
// # Leaks
//
// Two packages report where a program allocated what it forgets to free: in a test package
// hakmemtest, which makes a test fail that leaves blocks behind; in any program by
// WriteLeaks of package hakmempprof, with HAKMEM_PROFILE_RATE=1. [LiveBlocks] iterates
// over every live block. The memory of a
// Heap or an Arena that becomes unreachable without Close is given back after a
// garbage collection; Stats.Abandoned counts it and [Err] reports the first.
//
// # Execution traces
//
// While an execution trace of Go is recorded (runtime/trace), large allocations, Trim,
// the scavenger's work and refusals are in it, as regions and log events whose names
// begin with "hakmem.".
//
// # Concurrency
//
// Any goroutine may call any function at any time, and may free any block. The
// exceptions: a Heap and an Arena are for one goroutine at a time; [Configure] works
// only before the first allocation; while [CheckInvariants] runs, nothing else may
// use the package. GOMAXPROCS may change while the program runs.
//
// # How it works
//
// The region is one range of address space, 1 TiB or what can be had, reserved by
// the first allocation and never unmapped; so a pointer minus the region's base
// leads to everything known of a block. It is divided into pages of 64 KiB. (A page
// of the operating system is called an OS page.)
//
// Blocks up to 32 KiB have size classes: 16 bytes apart up to 128 bytes, then eight
// to a doubling, and up to two more that are added while the program runs. They are
// cut from slabs, runs of pages that hold blocks of one class. A large block, above 32 KiB, is a run of pages of its own.
//
// A magazine is an array of free blocks of one class. A front is the set of
// magazines of one P (Go's name for a processor slot) or of one Heap. A malloc that
// its magazine can serve takes the top block and writes the block's class into the
// live map, which has a byte for each 16 bytes of the region. A free compares that
// byte with the class, clears it, and pushes the block onto the magazine. Neither
// pins the goroutine nor uses an atomic operation, because the code between the two
// loads that find the P and the last store is never preempted.
//
// Everything else is on slow paths: magazines are refilled from slabs and flushed to
// them by bitmap, one atomic operation for up to 64 blocks; slabs and large blocks get
// their pages from a page tree, lowest address first. The design and its reasons are in
// https://github.com/hakmem/hakmem/blob/main/docs/design.md.
package hakmem
