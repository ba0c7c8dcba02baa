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
	shown := showWork("Trim")
	bad := engine.Trim()
	shown.end()
	if bad.Kind != engine.OK {
		panic(misuse("Trim", bad))
	}
}

// SetMemoryLimit sets two limits, in bytes, to hakmem's memory: to blocks, live ones and free ones
// that are kept for later, and to the tables that grow with them. 0 means no limit. The limits are
// rounded up to whole pages of 64 KiB, and [MemoryLimit] returns the rounded values.
//
// What is counted is the memory that may be resident: memory that was returned to the operating
// system does not count, free blocks in the middle of live ones included, and neither does the rest
// of a large block's last page. So the resident memory that is hakmem's stays below a hard limit;
// small tables that are not counted add less than 1 %. Where the system makes huge pages by itself, 2
// MiB count as soon as a part of them is used. [Counted] returns the number that is compared with the
// limits. [ContainerLimit] is a limit to derive them from.
//
// Near the soft limit the scavenger keeps nothing: it empties the caches and returns free memory, at
// once and then at its ticks. Emptying all caches stops the world, so it is done less and less often,
// down to once in 14 s, while it does not help because the memory is in use. At the hard limit an
// allocation that needs more memory first tries to make room by emptying caches and returning the
// memory of free blocks, and then returns nil. Once blocks are freed, allocations work again.
//
// The blocks in the magazines of a [Heap] are counted until they are given back, and so is the memory
// of each open Heap itself: [NewHeap] panics at the hard limit. Blocks
// that HAKMEM_GUARD puts between guard pages are counted; at the hard limit none are made. A limit
// below the memory in use takes nothing away from live blocks.
//
// SetMemoryLimit returns an error and changes nothing if hard is not 0 and is below soft or below 2
// MiB. Any goroutine may call it at any time. HAKMEM_MEMORY_SOFT and HAKMEM_MEMORY_HARD set the
// limits at start.
func SetMemoryLimit(soft, hard uint64) error {
	_, _, err := engine.SwapMemoryLimit(soft, hard)
	return err
}

// SwapMemoryLimit is [SetMemoryLimit], and returns the two limits that were in force until then, in bytes, as
// [MemoryLimit] would have returned them; 0 means no limit. So a part of a program that moves the limits learns
// whether something else has set them since, and can put them back. With an error nothing has changed, and the
// limits that it returns are still in force. Any goroutine may call it at any time.
func SwapMemoryLimit(soft, hard uint64) (oldSoft, oldHard uint64, err error) {
	return engine.SwapMemoryLimit(soft, hard)
}

// MemoryLimit returns the two limits in force, in bytes; 0 means no limit. Any goroutine may call
// it.
func MemoryLimit() (soft, hard uint64) { return engine.MemoryLimit() }

// Counted returns the memory that the memory limits count, in bytes: all of hakmem's that may be resident. It is
// Stats.Counted; reading it alone is one atomic load, where [ReadStats] looks at all of the memory. It is 0 before
// the first allocation. Any goroutine may call it.
func Counted() uint64 { return uint64(engine.Counted()) }
