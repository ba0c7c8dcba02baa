// Package site is the registry of sites. A site is a name for what blocks are allocated for, with
// the count of its live blocks. The registry knows numbers and names only. The engine knows which
// block belongs to which site.
//
// registry.mu owns the names; the counts are atomic.
package site

import (
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/mem"
)

// ID is a site's number, from 1 on; 0 is no site.
type ID uint32

// Max is the most sites that there can be: the engine's site map has two bytes for a block.
const Max = 1<<16 - 1

// count is the live figures of one site. It has a cache line of its own, so that frees of two sites
// do not slow each other down.
type count struct {
	bytes, blocks atomic.Int64
	_             [48]byte
}

var registry struct {
	mu     check.Mutex[check.Sites]
	names  []string
	byName map[string]ID
	// counts[i] belongs to site i+1. It grows by a copy of the slice of pointers.
	counts atomic.Pointer[[]*count]
}

// Register returns the site with the given name, and makes it if there is none. It returns 0 when
// there are Max sites already. Any goroutine.
func Register(name string) ID {
	r := &registry
	r.mu.Lock()
	defer r.mu.Unlock()
	if s, ok := r.byName[name]; ok {
		return s
	}
	if len(r.names) == Max {
		return 0
	}
	if r.byName == nil {
		r.byName = map[string]ID{}
	}
	r.names = append(r.names, name)
	s := ID(len(r.names))
	r.byName[name] = s
	var counts []*count
	if old := r.counts.Load(); old != nil {
		counts = append(counts, *old...)
	}
	counts = append(counts, new(count))
	r.counts.Store(&counts)
	return s
}

// Num returns the number of sites. Their IDs are 1..Num. Any goroutine.
func Num() ID {
	registry.mu.Lock()
	defer registry.mu.Unlock()
	return ID(len(registry.names))
}

// Read returns the name and the live figures of site s, which must be registered. The two figures
// may be from different moments. Any goroutine.
func Read(s ID) (name string, bytes, blocks int64) {
	registry.mu.Lock()
	defer registry.mu.Unlock()
	n := (*registry.counts.Load())[s-1]
	return registry.names[s-1], n.bytes.Load(), n.blocks.Load()
}

// Known reports whether there is such a site. Any goroutine, without a lock.
func (s ID) Known() bool {
	counts := registry.counts.Load()
	return counts != nil && s > 0 && s <= ID(len(*counts))
}

// Allocated counts a block of size bytes of the site, which must be registered. Any goroutine,
// without a lock. The same holds for Freed and Resized.
func (s ID) Allocated(size mem.Bytes) { s.add(int64(size), 1) }

// Freed takes back what Allocated counted.
func (s ID) Freed(size mem.Bytes) { s.add(-int64(size), -1) }

// Resized counts that a block of the site has grown by more bytes, or has shrunk if more is
// negative.
func (s ID) Resized(more int64) { s.add(more, 0) }

func (s ID) add(bytes, blocks int64) {
	n := (*registry.counts.Load())[s-1]
	n.bytes.Add(bytes)
	n.blocks.Add(blocks)
}
