package hakmem

import "github.com/hakmem/hakmem/internal/engine"

// Trim gives back to the operating system, now, what no live block needs: it
// empties the magazines of every P and all caches, and returns the memory of all
// free pages. Heaps keep their magazines: they belong to their goroutines. Any
// goroutine may call it while others allocate; it stops the world for some tens
// of microseconds. Without it the scavenger does the same by and by. It panics with
// a late *MisuseError, when all is done, if it came upon a block that was freed twice
// at once or, with HAKMEM_HARDEN, written to after it was freed, or if the scavenger
// did and nobody has been told yet.
func Trim() {
	if bad := engine.Trim(); bad.Kind != engine.OK {
		panic(misuse("Trim", bad))
	}
}

// SetMemoryLimit limits the memory behind blocks, that of live ones and that
// which is kept for later ones, counted in pages of 64 KiB, with hakmem's own
// tables (Stats.Metadata) left out. Both limits are in bytes, rounded up to whole
// pages, as MemoryLimit then tells, and 0 is none.
//
// Near the soft limit the scavenger keeps nothing: it empties caches and returns
// what is free, at once and at each of its ticks. Beyond the hard limit an
// allocation that needs more memory returns nil, after it has tried to make room
// by emptying caches; freeing blocks makes allocations work again. Memory above
// a limit that is set later is not taken away from live blocks. Blocks that
// HAKMEM_GUARD puts between guard pages are not counted. What waits in the magazines
// of Heaps is, and only their own goroutines can give it back.
//
// It is an error, and nothing changes, if hard is not 0 and either below soft or
// below 2 MiB. Any goroutine, at any time; HAKMEM_MEMORY_SOFT and
// HAKMEM_MEMORY_HARD set the limits at start.
func SetMemoryLimit(soft, hard uint64) error { return engine.SetMemoryLimit(soft, hard) }

// MemoryLimit returns the limits in force, in bytes; 0 is none. Any goroutine.
func MemoryLimit() (soft, hard uint64) { return engine.MemoryLimit() }
