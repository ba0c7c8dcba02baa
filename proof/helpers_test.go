package proof

import (
	"fmt"
	"testing"
	"unsafe"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/engine"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// tb is what the model needs of a test: *testing.T and *rapid.T have it.
type tb interface {
	Helper()
	Fatalf(format string, args ...any)
}

// block is a test's own record of one allocation.
type block struct {
	p      unsafe.Pointer
	size   uintptr // bytes asked for
	usable uintptr // bytes that the block has, all of them written
	key    uint64
	site   hakmem.Site
	arena  *arena // a piece of an Arena, not a block to free
}

func (b *block) String() string { return fmt.Sprintf("block %p of %d bytes", b.p, b.usable) }

func (b *block) end() uintptr { return uintptr(b.p) + max(b.usable, 1) }

// keyOf returns the key of a block's pattern. Blocks with another address, owner or time have
// another key.
func keyOf(p unsafe.Pointer, seed uint64) uint64 {
	return uint64(uintptr(p))*0x9E3779B97F4A7C15 ^ seed
}

// wordAt is the pattern's word at an offset.
func wordAt(key uint64, off uintptr) uint64 { return (key + uint64(off)) * 0xD6E8FEB86659FD93 }

// step is the distance between the words that are written in a block of n bytes. Blocks that are
// copied by a loop are written as a whole. In large blocks enough words of every OS page are
// written; more would make the test's time that of the writes instead of the allocator's.
func step(n uintptr) uintptr {
	if n <= 4096 {
		return 8
	}
	return 504 // not a divisor of a page, so that the places within a page differ
}

// write writes the pattern of key over the n bytes at p.
func write(p unsafe.Pointer, n uintptr, key uint64) {
	off := uintptr(0)
	for s := step(n); off+8 <= n; off += s {
		*(*uint64)(unsafe.Add(p, off)) = wordAt(key, off)
	}
	for off = n &^ 7; off < n; off++ {
		*(*byte)(unsafe.Add(p, off)) = byte(wordAt(key, off))
	}
	if n >= 8 {
		*(*uint64)(unsafe.Add(p, n&^7-8)) = wordAt(key, n&^7-8)
	}
}

// intact reports whether, of the n bytes that write wrote at p, the first upto still have the
// pattern. The bytes may have been moved.
func intact(p unsafe.Pointer, n, upto uintptr, key uint64) bool {
	off := uintptr(0)
	for s := step(n); off+8 <= upto; off += s {
		if *(*uint64)(unsafe.Add(p, off)) != wordAt(key, off) {
			return false
		}
	}
	if upto < n {
		return true
	}
	for off = n &^ 7; off < n; off++ {
		if *(*byte)(unsafe.Add(p, off)) != byte(wordAt(key, off)) {
			return false
		}
	}
	return n < 8 || *(*uint64)(unsafe.Add(p, n&^7-8)) == wordAt(key, n&^7-8)
}

// isZero reports whether the n bytes at p are zero. With -race the detector sees it read
// them, as it does not testkit.IsZero.
func isZero(p unsafe.Pointer, n uintptr) bool {
	words := unsafe.Slice((*uint64)(p), n/8)
	for _, w := range words {
		if w != 0 {
			return false
		}
	}
	for off := n &^ 7; off < n; off++ {
		if *(*byte)(unsafe.Add(p, off)) != 0 {
			return false
		}
	}
	return true
}

// walked returns what LiveBlocks yields, in its order.
func walked() (blocks []hakmem.LiveBlock) {
	for b := range hakmem.LiveBlocks() {
		blocks = append(blocks, b)
	}
	return blocks
}

// addUp compares the statistics with the live blocks that a walk found, and with themselves. No
// goroutine allocates or frees meanwhile.
func addUp(s *hakmem.Stats, live []hakmem.LiveBlock) error {
	if n := s.LiveBlocks + s.Guard.Live; uint64(len(live)) != n {
		return fmt.Errorf("LiveBlocks yields %d blocks; the statistics have %d and %d guarded ones", len(live), s.LiveBlocks, s.Guard.Live)
	}
	if engine.ProfileRate() == 1 { // each block is a sample
		samples := int64(0)
		for _, x := range engine.ReadProfile(false) {
			samples += x.Live()
		}
		if samples != int64(len(live)) {
			return fmt.Errorf("LiveBlocks yields %d blocks; the profile has %d", len(live), samples)
		}
	}
	classes := map[uint64]uint64{}
	sites := map[hakmem.Site]hakmem.SiteStats{}
	var bytes, spans, spanBytes, spanPages, slabBytes, magazines uint64
	for i, b := range live {
		if b.Site != 0 {
			x := sites[b.Site]
			sites[b.Site] = hakmem.SiteStats{Site: b.Site, Name: b.SiteName, LiveBytes: x.LiveBytes + uint64(b.Size), LiveBlocks: x.LiveBlocks + 1}
		}
		if i >= int(s.LiveBlocks) { // a guarded one
			continue
		}
		if i > 0 && live[i-1].Addr+live[i-1].Size > b.Addr {
			return fmt.Errorf("LiveBlocks yields %#x of %d bytes after %#x of %d: not in ascending order, or they overlap", b.Addr, b.Size, live[i-1].Addr, live[i-1].Size)
		}
		bytes += uint64(b.Size)
		if b.Size <= sizeclass.MaxMid {
			classes[uint64(b.Size)]++
			continue
		}
		spans++
		spanBytes += uint64(b.Size)
		spanPages += (uint64(b.Size) + sizeclass.PageSize - 1) / sizeclass.PageSize
	}
	for _, c := range s.Classes {
		k := &sizeclass.Classes[sizeclass.Of(mem.Bytes(c.Size))]
		if c.Live != classes[c.Size] {
			return fmt.Errorf("class %d: %d live blocks, LiveBlocks yields %d", c.Size, c.Live, classes[c.Size])
		}
		if c.Size != uint64(k.Size) || c.Live+c.Free+c.InMagazines != c.Slabs*uint64(k.Blocks) {
			return fmt.Errorf("class %d: %d live + %d free + %d in magazines is not %d slabs of %d", c.Size, c.Live, c.Free, c.InMagazines, c.Slabs, k.Blocks)
		}
		magazines += c.InMagazines * c.Size
		slabBytes += c.Slabs * sizeclass.PageSize << k.Order
	}
	x := s.Large
	switch {
	case s.Live != bytes:
		return fmt.Errorf("%d live bytes, LiveBlocks yields %d", s.Live, bytes)
	case x.LiveBlocks != spans || x.LiveBytes != spanBytes:
		return fmt.Errorf("%d live spans of %d bytes, LiveBlocks yields %d of %d", x.LiveBlocks, x.LiveBytes, spans, spanBytes)
	case x.Allocs-x.Frees != x.LiveBlocks+x.CachedBlocks:
		return fmt.Errorf("%d spans made and %d given back, %d live and %d warm", x.Allocs, x.Frees, x.LiveBlocks, x.CachedBlocks)
	case x.CachedBlocks < x.Shared.Blocks+x.SiteCache.Blocks+x.HugeCache.Blocks || x.CachedBytes < x.Shared.Bytes+x.SiteCache.Bytes+x.HugeCache.Bytes:
		return fmt.Errorf("%d warm spans of %d bytes, and in caches %+v, %+v, %+v", x.CachedBlocks, x.CachedBytes, x.Shared, x.SiteCache, x.HugeCache)
	case s.InMagazines != magazines:
		return fmt.Errorf("%d bytes in magazines, the classes have %d", s.InMagazines, magazines)
	case s.Scavenger.Used < slabBytes+spanPages*sizeclass.PageSize+x.CachedBytes:
		return fmt.Errorf("%d bytes used, slabs have %d, live spans %d pages, warm ones %d bytes", s.Scavenger.Used, slabBytes, spanPages, x.CachedBytes)
	case s.Scavenger.Used+s.Scavenger.Dirty > s.Committed || s.Committed > s.Reserved:
		return fmt.Errorf("%d bytes used, %d warm, %d committed, %d reserved", s.Scavenger.Used, s.Scavenger.Dirty, s.Committed, s.Reserved)
	case slabBytes > uint64(s.Superslabs)<<21 || uint64(s.Superslabs)<<21 > s.Committed:
		return fmt.Errorf("%d bytes of slabs in %d superslabs, %d committed", slabBytes, s.Superslabs, s.Committed)
	}
	for _, x := range s.Sites {
		if y := sites[x.Site]; x.LiveBlocks != y.LiveBlocks || x.LiveBytes != y.LiveBytes || y.Name != "" && x.Name != y.Name {
			return fmt.Errorf("site %+v, LiveBlocks yields %+v", x, y)
		}
	}
	return nil
}

// checkQuiescent checks an allocator that has no live blocks: nothing is alive, no site counts
// anything, no late double free was found, and every block of every slab is accounted for. No
// goroutine uses hakmem meanwhile.
func checkQuiescent(t testing.TB) {
	t.Helper()
	if err := quiescent(); err != nil {
		t.Fatalf("all was freed, and yet: %v", err)
	}
}

func quiescent() error {
	if err := hakmem.CheckInvariants(); err != nil {
		return err
	}
	var s hakmem.Stats
	hakmem.ReadStats(&s)
	live := walked()
	if len(live) > 0 {
		return fmt.Errorf("%d blocks live, the first at %#x of %d bytes, site %q, arena %v", len(live), live[0].Addr, live[0].Size, live[0].SiteName, live[0].Arena)
	}
	if n := droppedHeaps.Load(); s.LateDoubleFrees != 0 || s.Abandoned != (hakmem.AbandonedStats{Heaps: n}) {
		return fmt.Errorf("%d late double frees, abandoned %+v, %d Heaps were dropped", s.LateDoubleFrees, s.Abandoned, n)
	}
	return addUp(&s, live)
}
