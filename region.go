package hakmem

import "github.com/hakmem/hakmem/internal/engine"

// RegionPartBytes is the length of a part of the region, in bytes: 2 MiB, as much as a huge page has on most
// processors.
const RegionPartBytes = engine.PartBytes

// RegionPart says what a part of the region is used for, RegionPartBytes of address space. The four numbers are
// in bytes, and together they are RegionPartBytes.
type RegionPart struct {
	// Used is the memory of slabs and of large blocks, live or in a cache. Memory that was handed out and
	// that nobody has touched yet counts.
	Used uint64
	// Holes is what slabs and large blocks use without memory: the memory of free blocks between live ones
	// was returned, or nobody has used these blocks yet.
	Holes uint64
	// Warm is the memory that free pages still have.
	Warm uint64
	// Returned is free address space without memory: it was returned, or never used.
	Returned uint64
}

// ReadRegion returns what each part of the region is used for: a map of hakmem's memory. The parts are in
// ascending order of address. The first one is where the memory for blocks begins, and the last one is the last
// that is committed. hakmem takes the lowest free address first, so what is used lies at the beginning, unless
// blocks that live for long keep the rest in use.
//
// Like append, it adds the parts to those that there are in parts, so that a slice read again and again
// (parts[:0]) costs no Go memory. Of all parts together, Used and Holes are what Stats.Scavenger.Used says, and
// Warm is not more than Stats.Scavenger.Dirty, which counts whole pages. The numbers come from hakmem's own
// books, so no operating system is asked: what is resident, Stats.ResidentBy says. Guarded blocks and hakmem's
// tables are elsewhere.
//
// It costs some 0.1 µs for each part that large blocks use or nobody, and 1 µs for each one of slabs. Any
// goroutine. While others allocate and free, each part is as it was at some moment of the call.
func ReadRegion(parts []RegionPart) []RegionPart {
	var batch engine.RegionParts
	for at := 0; ; {
		n := engine.ReadRegion(at, &batch)
		if n == 0 {
			return parts
		}
		for _, part := range batch[:n] {
			parts = append(parts, RegionPart(part))
		}
		at += n
	}
}
