package hakmem

import (
	"iter"
	"unsafe"

	"github.com/hakmem/hakmem/internal/engine"
	"github.com/hakmem/hakmem/internal/site"
)

// LiveBlock is a block that is allocated, as LiveBlocks finds it.
type LiveBlock struct {
	// Addr is the block's address, what the allocation returned. Size is the bytes
	// of its size class (see GoodSize), what Stats.Live counts; with HAKMEM_HARDEN
	// that is more than UsableSize. A guarded block (HAKMEM_GUARD) has the size that
	// was asked for.
	Addr, Size uintptr
	// Site is the site of a block from MallocAt and SiteName its name; 0 and "" for
	// others.
	Site     Site
	SiteName string
	// Arena says that it is a chunk of an open Arena, which Free refuses.
	Arena bool
	// Stack has the program counters of the allocation, innermost first, from the
	// caller of this package outwards, for runtime.CallersFrames; nil where the
	// stack was not recorded. Stacks are recorded while a hakmemtest.NoLeaks is
	// active, and those of guarded blocks always. The slice is shared: do not
	// change it.
	Stack []uintptr
}

// Pointer returns Addr as a pointer, to look at the block or to free it.
func (b LiveBlock) Pointer() unsafe.Pointer { return engine.Pointer(engine.Block(b.Addr)) }

// LiveBlocks returns an iterator over every block that is allocated and not yet
// freed: Stats.LiveBlocks of them in ascending order of address, chunks of Arenas
// among them, and then the Stats.Guard.Live guarded ones. Free blocks that wait in magazines, caches or the
// quarantine of HAKMEM_HARDEN are not alive.
//
// It is exact when no goroutine allocates or frees meanwhile. While others do, it
// is safe, and yields every block that lives throughout and none that does not
// live at any moment of the walk.
//
// The loop's body may use this package, and may free the block it is given (but
// for an Arena's); no lock is held while it runs. Blocks that it frees before
// their turn are not yielded. The walk looks at every page in use, as ReadStats
// does, and at every block of each slab, some 10 ms for a gigabyte of small
// blocks; it uses Go memory for the blocks of one slab. Any goroutine. With the
// build tag hakmem_nolive, which is for measurements, there is nothing to tell
// live blocks by and it yields none.
func LiveBlocks() iter.Seq[LiveBlock] {
	return func(yield func(LiveBlock) bool) {
		var found []engine.LiveBlock
		var names []string // of sites, as they are needed
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
					for int(b.Site) > len(names) {
						name, _, _ := site.Read(site.ID(len(names) + 1))
						names = append(names, name)
					}
					l.SiteName = names[b.Site-1]
				}
				if !yield(l) {
					return
				}
			}
		}
	}
}
