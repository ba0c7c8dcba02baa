package hakmem

import (
	"iter"
	"unsafe"

	"github.com/hakmem/hakmem/internal/engine"
	"github.com/hakmem/hakmem/internal/site"
)

// LiveBlock is an allocated block, as [LiveBlocks] yields it.
type LiveBlock struct {
	// Addr is the block's address, which the allocation returned. Size is the size in bytes of the
	// block's class (see [GoodSize]), the number that Stats.Live counts; with HAKMEM_HARDEN it is
	// more than UsableSize returns. For a guarded block (HAKMEM_GUARD) it is the size that was
	// asked for.
	Addr, Size uintptr
	// Site is the site of a block from [MallocAt], or of a chunk of an Arena from [NewArenaAt], and
	// SiteName the site's name. They are 0 and "" for all other blocks.
	Site     Site
	SiteName string
	// Arena says that the block is a chunk of an open Arena, which Free does not accept.
	Arena bool
	// Stack holds the program counters of the allocation for runtime.CallersFrames, innermost
	// first, beginning with the caller of this package. It is nil where the stack was not recorded.
	// Stacks are recorded for guarded blocks, for the samples of the profile (Options.ProfileRate; at
	// 1 these are all blocks), and for all blocks while a hakmemtest.NoLeaks is active. The slice is
	// shared: do not change it.
	Stack []uintptr
}

// Pointer returns Addr as a pointer, for reading the block or freeing it.
func (b LiveBlock) Pointer() unsafe.Pointer { return engine.Pointer(engine.Block(b.Addr)) }

// LiveBlocks returns an iterator over every block that is allocated and not yet freed. It yields
// Stats.LiveBlocks blocks in ascending order of address, chunks of Arenas among them, and then the
// Stats.Guard.Live guarded ones. Free blocks that wait in a magazine, in a cache or in the
// quarantine of HAKMEM_HARDEN are not alive.
//
// The result is exact when no goroutine allocates or frees meanwhile. When others do, the walk is
// still safe. It then yields every block that lives from its beginning to its end, and no block
// that was not alive at some moment of it.
//
// The body of the loop may use this package and may free the block it is given, unless that is a
// chunk of an Arena; no lock is held while the body runs. Blocks that the body frees before their
// turn are not yielded.
//
// The walk reads the state of every page in use, as [ReadStats] does, and of every block in each
// slab: some 10 ms for a gigabyte of small blocks. It uses Go memory for the blocks of one slab at
// a time. Any goroutine may call it. Programs built with the tag hakmem_nolive, which exists for
// measurements, do not record which blocks are alive, and the iterator yields nothing.
func LiveBlocks() iter.Seq[LiveBlock] {
	return func(yield func(LiveBlock) bool) {
		var found []engine.LiveBlock
		at, more := engine.WalkAt(0), true
		for more {
			found, at, more = engine.LiveFrom(at, found[:0])
			for i := range found {
				b := &found[i]
				if i > 0 && !b.StillLive() { // the body may have freed it
					continue
				}
				l := LiveBlock{Addr: uintptr(b.Addr), Size: uintptr(b.Size), Site: Site(b.Site), Arena: b.Arena, Stack: b.Stack}
				if b.Site != 0 {
					l.SiteName, _, _ = site.Read(b.Site)
				}
				if !yield(l) {
					return
				}
			}
		}
	}
}
