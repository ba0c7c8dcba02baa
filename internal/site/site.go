// Package site is the registry of sites. A site is a name for what blocks are allocated for, with
// the count of its live blocks. The registry knows numbers and names only. The engine knows which
// block belongs to which site.
//
// sites.mu owns the map from names to sites. Whoever has a site reads its name and counts without a
// lock.
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

// entry is the name and the live figures of one site. It has a cache line of its own, so that frees
// of two sites do not slow each other down.
type entry struct {
	bytes atomic.Int64
	// blocks has the number of live blocks in its lower liveBits, and above them how many blocks were
	// ever allocated, which wraps. One addition counts both.
	blocks atomic.Uint64
	name   string
	_      [32]byte
}

// liveBits is enough for the smallest blocks in a region of a TiB, of which there are 2^36.
const liveBits = 40

var sites struct {
	mu     check.Mutex[check.Sites]
	byName map[string]ID
	// entries[i] belongs to site i+1. Registration appends to it under mu. Whoever has loaded the
	// shorter slice before does not look beyond its length.
	entries atomic.Pointer[[]*entry]
}

// all returns the entries of all sites.
func all() []*entry {
	if e := sites.entries.Load(); e != nil {
		return *e
	}
	return nil
}

// Register returns the site with the given name, and makes it if there is none. It returns 0 when
// there are Max sites already. Any goroutine.
func Register(name string) ID {
	sites.mu.Lock()
	defer sites.mu.Unlock()
	if s, ok := sites.byName[name]; ok {
		return s
	}
	entries := all()
	if len(entries) == Max {
		return 0
	}
	if sites.byName == nil {
		sites.byName = map[string]ID{}
	}
	entries = append(entries, &entry{name: name})
	s := ID(len(entries))
	sites.byName[name] = s
	sites.entries.Store(&entries)
	return s
}

// Find returns the site with the given name, or 0 if there is none. Any goroutine.
func Find(name string) ID {
	sites.mu.Lock()
	defer sites.mu.Unlock()
	return sites.byName[name]
}

// Num returns the number of sites. Their IDs are 1..Num. Any goroutine, without a lock.
func Num() ID { return ID(len(all())) }

// Read returns the name and the live figures of site s, which must be registered. The two figures
// may be from different moments. Any goroutine, without a lock.
func Read(s ID) (name string, bytes, blocks int64) {
	e := all()[s-1]
	return e.name, e.bytes.Load(), int64(e.blocks.Load() & (1<<liveBits - 1))
}

// Known reports whether there is such a site. Any goroutine, without a lock.
func (s ID) Known() bool {
	return s > 0 && s <= Num()
}

// Allocated counts a block of size bytes of the site, which must be registered, and returns how many
// blocks of the site were allocated so far, modulo 2^24. Any goroutine, without a lock. The same holds
// for Freed and Resized.
func (s ID) Allocated(size mem.Bytes) (n uint32) {
	e := s.entry()
	e.bytes.Add(int64(size))
	return uint32(e.blocks.Add(1<<liveBits+1) >> liveBits)
}

// Freed takes back what Allocated counted as live.
func (s ID) Freed(size mem.Bytes) {
	e := s.entry()
	e.bytes.Add(-int64(size))
	e.blocks.Add(^uint64(0))
}

// Resized counts that a block of the site has grown by more bytes, or has shrunk if more is
// negative.
func (s ID) Resized(more int64) { s.entry().bytes.Add(more) }

func (s ID) entry() *entry { return (*sites.entries.Load())[s-1] }
