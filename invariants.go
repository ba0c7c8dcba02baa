package hakmem

import "github.com/hakmem/hakmem/internal/engine"

// CheckInvariants looks at all of hakmem's own tables and reports what does not fit
// together, nil if everything does: that each block is in exactly one place (live,
// free in its slab, or waiting in one magazine, cache or quarantine), that bitmaps,
// live map, leases, partial sets, page tables and the page tree tell the same, and
// that all counts add up. An error has a line for each finding, which names the
// thing, its address and class, what was found and what was expected, up to 32 of
// them. A finding is a defect of hakmem's, or memory of its own that something wrote
// to; or two frees of one block overlapped, and the second is not found yet.
//
// It is for tests and for soak runs, and must be called when nothing else is going
// on: no other call of this package in progress on any goroutine, in a Heap or an
// Arena either, and what other goroutines did must have happened before it. It stops
// nobody and would report, or crash on, what it sees half done. Only the scavenger
// and the cleanups of unreachable Heaps may be at work: they wait for it. (Those of
// unreachable Arenas may show as a finding.) Nothing is changed.
//
// It reads every table of the region up to the committed bound: some 10 ns for each
// block of the slabs in use, 0.2 s for a gigabyte of 64 B blocks and 3 ms for one of
// 4000 B. It uses Go memory in proportion to the blocks in magazines and caches. It works in all builds and with all settings; with the build tag
// hakmem_nolive, for which a live block looks like a lost one, it knows less.
func CheckInvariants() error { return engine.CheckInvariants() }
