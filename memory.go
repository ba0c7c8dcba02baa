package hakmem

import "github.com/hakmem/hakmem/internal/engine"

// Trim returns to the operating system, at once, all memory that no live block needs. It empties
// the magazines of every P and every [Heap] and all caches, and then returns the memory of all free
// pages. A Heap keeps one or two blocks of each size class up to 1 KiB, and one that is in the middle
// of a call gives its blocks back with its next call. Without Trim the scavenger does the same work
// gradually.
//
// Any goroutine may call Trim while others allocate; it stops the world for some tens of
// microseconds.
//
// What the system refuses to take back stays as it is (see [Err]). Trim has no effect while a system
// call that returns memory hangs, on whatever goroutine: it gives up 2 s after it has last seen
// progress, and Err reports that.
//
// When all is done, Trim panics with a [*MisuseError] whose Late is true if it found a block that
// two overlapping frees had freed twice or, with HAKMEM_HARDEN, a block that was written to after
// its free. It also does so if the scavenger found one that no call has reported yet.
func Trim() {
	if bad := engine.Trim(); bad.Kind != engine.OK {
		panic(misuse("Trim", bad))
	}
}

// SetMemoryLimit sets two limits, in bytes, to the memory behind blocks: behind live ones and
// behind free ones that are kept for later. It is counted in pages of 64 KiB. 0 means no limit. The
// limits are rounded up to whole pages, and [MemoryLimit] returns the rounded values.
//
// Near the soft limit the scavenger keeps nothing: it empties the caches and returns free memory,
// at once and at each of its ticks. At the hard limit an allocation that needs more memory first
// tries to make room by emptying caches, and then returns nil. Once blocks are freed, allocations
// work again.
//
// Not counted are hakmem's own tables (Stats.Metadata) and the blocks that HAKMEM_GUARD puts
// between guard pages. The blocks in the magazines of a [Heap] are counted, although only the
// Heap's own goroutine can give them back. A limit below the memory in use takes nothing away from
// live blocks.
//
// SetMemoryLimit returns an error and changes nothing if hard is not 0 and is below soft or below 2
// MiB. Any goroutine may call it at any time. HAKMEM_MEMORY_SOFT and HAKMEM_MEMORY_HARD set the
// limits at start.
func SetMemoryLimit(soft, hard uint64) error { return engine.SetMemoryLimit(soft, hard) }

// MemoryLimit returns the two limits in force, in bytes; 0 means no limit. Any goroutine may call
// it.
func MemoryLimit() (soft, hard uint64) { return engine.MemoryLimit() }
