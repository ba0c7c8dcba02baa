package hakmem

import "github.com/hakmem/hakmem/internal/engine"

// CheckInvariants reads all of hakmem's own tables and returns an error if they contradict each
// other, else nil. It checks these:
//
//   - Each block is in exactly one place: live, free in its slab, or waiting in one magazine, cache
//     or quarantine.
//   - Bitmaps, live map, leases, partial sets, page tables and the page tree agree with each other.
//   - All counts add up.
//
// The error has one line for each finding, up to 32. A line names the thing, its address and class,
// what was found and what was expected. A finding means one of three things: hakmem has a defect,
// something wrote to hakmem's own memory, or two frees of one block overlapped and the second has
// not been found yet.
//
// CheckInvariants is for tests and for soak runs, and must be called when nothing else is going on.
// No other call of this package may be in progress on any goroutine, not in a Heap or an Arena
// either, and what other goroutines did must have happened before it. CheckInvariants does not stop
// other goroutines: it would report, or crash on, anything it sees half done. Only the scavenger
// and the cleanups of unreachable Heaps may be at work, because they wait for it. (The cleanup of
// an unreachable Arena may show up as a finding.) CheckInvariants changes nothing.
//
// It reads every table of the region up to the committed bound. That takes some 10 ns for each
// block of the slabs in use: 0.2 s for a gigabyte of 64 B blocks, 3 ms for one of 4000 B blocks. It
// uses Go memory in proportion to the number of blocks in magazines and caches. It works in all
// builds and with all settings. With the build tag hakmem_nolive, where a live block looks like a lost
// one, it can check less. On systems without a page of zeroes for reads it brings memory to tables that
// were never written: 2.3 MiB for each GiB of the region that was ever in use.
func CheckInvariants() error { return engine.CheckInvariants() }
