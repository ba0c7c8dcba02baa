package engine

import (
	"math/bits"

	"github.com/hakmem/hakmem/internal/learn"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// This file says what a window had of large blocks, for learn.Thresholds. All of it is known already: the
// misses of magazines, and what lies in caches.

// largeSeen is what hugeCache.asked was when the last window ended. Owned by scavenger.mu.
var largeSeen struct{ asked, bytes uint64 }

// largeUse returns what a window of so many milliseconds had of large blocks, from how many allocations of
// each class found their magazine empty. Under scavenger.moving; it takes region.mu.
func largeUse(missed *[frontTypes]uint64, since millis) (use [learn.LargeBins]learn.LargeUse) {
	const gib = 1 << 30
	seconds := float64(since) / 1000
	held := heldLarge()
	for i := range sizeclass.ID(sizeclass.NumLarge) {
		c := sizeclass.Num + 1 + i
		n, u := float64(missed[c]), &use[largeBin(c.Bytes())]
		u.Allocs += n
		u.Memory += n * float64(c.Bytes()) / gib
		u.CPU += n * largeSeconds
		u.Held += float64(held[i]) / gib * seconds
	}
	region.mu.Lock()
	asked, bytes, kept := hugeCache.asked, hugeCache.askedBytes, hugeCache.kept.size
	region.mu.Unlock()
	n, u := float64(asked-largeSeen.asked), &use[learn.LargeBins-1]
	u.Allocs += n
	u.Memory += float64(bytes-largeSeen.bytes) / gib
	u.CPU += n * pagesSeconds
	u.Held += float64(kept) / gib * seconds
	largeSeen.asked, largeSeen.bytes = asked, bytes
	return use
}

// largeBin returns the place of a size above MaxMid among learn.LargeBins.
func largeBin(size mem.Bytes) int {
	return min(max(bits.Len64(uint64(size-1))-16, 0), learn.LargeBins-1) // up to 64 KiB is the first
}

// heldLarge returns the bytes of each class of large blocks in magazines, shared slots and the site cache.
// Under scavenger.moving.
func heldLarge() (held [sizeclass.NumLarge]mem.Bytes) {
	for f := range frontPool.withMemory {
		for j := range held {
			c := sizeclass.ID(sizeclass.Num + 1 + j)
			held[j] += mem.Bytes(f.held(c)) * c.Bytes()
		}
	}
	add := func(c sizeclass.ID) { held[c-sizeclass.Num-1] += c.Bytes() }
	eachShared(add)
	eachSiteCached(add)
	return held
}
