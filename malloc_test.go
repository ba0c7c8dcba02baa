package hakmem_test

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"unsafe"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/testkit"
	"github.com/hakmem/hakmem/internal/testkit/workout"
)

// Tests of the allocation functions, one by one, against their doc comments.

// largestSize bounds the large blocks in those tests that hold blocks of all sizes at once.
func largestSize() uintptr {
	if testing.Short() {
		return 1 << 20
	}
	return 4 << 20
}

// allocators are the ways to get a plain block. All of them promise the same.
func allocators(t *testing.T) map[string]func(uintptr) unsafe.Pointer {
	h := hakmem.NewHeap()
	t.Cleanup(h.Close)
	site := hakmem.RegisterSite("malloc_test")
	return map[string]func(uintptr) unsafe.Pointer{
		"Malloc":       hakmem.Malloc,
		"Heap.Malloc":  h.Malloc,
		"MallocAt":     func(n uintptr) unsafe.Pointer { return hakmem.MallocAt(site, n) },
		"Calloc":       func(n uintptr) unsafe.Pointer { return hakmem.Calloc(1, n) },
		"Heap.Calloc":  func(n uintptr) unsafe.Pointer { return h.Calloc(n, 1) },
		"Realloc":      func(n uintptr) unsafe.Pointer { return hakmem.Realloc(nil, n) },
		"Heap.Realloc": func(n uintptr) unsafe.Pointer { return h.Realloc(nil, n) },
	}
}

func TestMallocEverySize(t *testing.T) {
	classSizes(t)
	for name, malloc := range allocators(t) {
		t.Run(name, func(t *testing.T) {
			base := workout.ReadStats()
			var blocks []workout.Block
			for i, size := range boundarySizes(largestSize()) {
				b := workout.NewBlock(t, malloc, size, uint64(i)<<32|uint64(size))
				if uintptr(b.P)%16 != 0 {
					t.Errorf("%v is not aligned to 16", b)
				}
				usable := hakmem.UsableSize(b.P)
				if usable < size || usable != hakmem.GoodSize(size) {
					t.Errorf("%v: usable %d, GoodSize %d", b, usable, hakmem.GoodSize(size))
				}
				// All of the block may be used. If it overlaps a neighbour, the neighbour's pattern
				// shows it.
				testkit.Fill(b.P, usable, b.Key)
				b.Size = usable
				blocks = append(blocks, b)
			}
			workout.MustNotOverlap(t, blocks)
			for _, b := range blocks {
				b.Check(t)
				hakmem.Free(b.P)
			}
			if now := workout.ReadStats(); now.Live != base.Live || now.LiveBlocks != base.LiveBlocks {
				t.Errorf("live %d bytes in %d blocks, before %d in %d", now.Live, now.LiveBlocks, base.Live, base.LiveBlocks)
			}
		})
	}
}

func TestSizeZeroIsUnique(t *testing.T) {
	for name, malloc := range allocators(t) {
		seen := map[unsafe.Pointer]bool{}
		for range 1000 {
			p := malloc(0)
			if p == nil || seen[p] {
				t.Fatalf("%s(0) = %p: nil or not unique", name, p)
			}
			seen[p] = true
		}
		for p := range seen {
			hakmem.Free(p)
		}
	}
}

func TestGoodSizeAndSizeClasses(t *testing.T) {
	classes := hakmem.SizeClasses()
	if len(classes) == 0 || classes[0] != 16 || classes[len(classes)-1] != 32<<10 {
		t.Fatalf("classes %v: want 16 .. 32768", classes)
	}
	for i, c := range classes {
		if c%16 != 0 || i > 0 && c <= classes[i-1] {
			t.Errorf("class %d after %v: not ascending in multiples of 16", c, classes[:i])
		}
		if g := hakmem.GoodSize(uintptr(c)); g != uintptr(c) {
			t.Errorf("GoodSize(%d) = %d: a class wastes nothing", c, g)
		}
	}
	classes[0] = -1 // the slice is the caller's own copy
	if hakmem.SizeClasses()[0] != 16 {
		t.Error("SizeClasses handed out its own table")
	}
	for size := uintptr(0); size < 9<<20; size += 1 + size/97 {
		g := hakmem.GoodSize(size)
		if g < size || g < 16 || hakmem.GoodSize(g) != g {
			t.Errorf("GoodSize(%d) = %d, of that %d", size, g, hakmem.GoodSize(g))
		}
		// The documented waste: 15 bytes below 128, an eighth above.
		if waste := g - size; size > 16 && waste > max(15, size/8) {
			t.Errorf("GoodSize(%d) = %d wastes %d", size, g, waste)
		}
		if size > 32<<10 && g%4096 != 0 {
			t.Errorf("GoodSize(%d) = %d: a span's size comes in steps of 4 KiB or more", size, g)
		}
	}
	for _, size := range []uintptr{math.MaxUint, math.MaxUint - 1, math.MaxUint - 4096} {
		if g := hakmem.GoodSize(size); g != size {
			t.Errorf("GoodSize(%#x) = %#x: a size no block can have is returned as it is", size, g)
		}
	}
}

func TestImpossibleSizesGiveNil(t *testing.T) {
	h := hakmem.NewHeap()
	defer h.Close()
	site := hakmem.RegisterSite("malloc_test")
	p := hakmem.Malloc(100)
	defer hakmem.Free(p)
	for _, size := range []uintptr{absurd, 1 << 47, math.MaxUint, math.MaxUint - 15, math.MaxUint - 4095, math.MaxUint - 65535, 1 << 63, 1<<63 - 1} {
		for name, got := range map[string]unsafe.Pointer{
			"Malloc":               hakmem.Malloc(size),
			"MallocAt":             hakmem.MallocAt(site, size),
			"Calloc":               hakmem.Calloc(1, size),
			"Realloc(p)":           hakmem.Realloc(p, size),
			"Realloc(nil)":         hakmem.Realloc(nil, size),
			"AlignedAlloc(1)":      hakmem.AlignedAlloc(1, size),
			"AlignedAlloc(64)":     hakmem.AlignedAlloc(64, size),
			"AlignedAlloc(2 MiB)":  hakmem.AlignedAlloc(2<<20, size),
			"AlignedRealloc(p)":    hakmem.AlignedRealloc(p, size, 2<<20),
			"AlignedRealloc(nil)":  hakmem.AlignedRealloc(nil, size, 64),
			"ReallocZeroed":        hakmem.ReallocZeroed(p, 50, size),
			"ReallocZeroed(nil)":   hakmem.ReallocZeroed(nil, 0, size),
			"AlignedReallocZeroed": hakmem.AlignedReallocZeroed(p, 50, size, 64),
			"AlignedCalloc":        hakmem.AlignedCalloc(64, size),
			"CallocAt":             hakmem.CallocAt(site, 1, size),
			"AlignedAllocAt":       hakmem.AlignedAllocAt(site, 64, size),
			"Heap.Malloc":          h.Malloc(size),
			"Heap.Calloc":          h.Calloc(size, 1),
			"Heap.Realloc(p)":      h.Realloc(p, size),
		} {
			if got != nil {
				t.Errorf("%s of %#x bytes = %p, want nil", name, size, got)
			}
		}
	}
}

func TestCallocZeroes(t *testing.T) {
	classSizes(t)
	h := hakmem.NewHeap()
	defer h.Close()
	callocs := map[string]func(n, size uintptr) unsafe.Pointer{"Calloc": hakmem.Calloc, "Heap.Calloc": h.Calloc}
	for name, calloc := range callocs {
		for _, trim := range []bool{false, true} {
			for _, k := range workout.Kinds {
				// Dirty some blocks of this size, so that the next ones reuse their memory.
				var dirty []unsafe.Pointer
				for range 4 {
					p := hakmem.Malloc(k.Size)
					testkit.Fill(p, hakmem.UsableSize(p), math.MaxUint64)
					dirty = append(dirty, p)
				}
				for _, p := range dirty {
					h.Free(p)
				}
				if trim {
					hakmem.Trim()
				}
				var blocks []unsafe.Pointer
				for range 6 {
					p := calloc(1, k.Size)
					if p == nil || !testkit.IsZero(p, k.Size) {
						t.Fatalf("%s(1, %d) = %p is nil or not zero (trimmed before: %v)", name, k.Size, p, trim)
					}
					blocks = append(blocks, p)
				}
				for _, p := range blocks {
					hakmem.Free(p)
				}
			}
		}
		if p := calloc(7, 9); p == nil || hakmem.UsableSize(p) != hakmem.GoodSize(63) {
			t.Errorf("%s(7, 9) = %p is no block of 63 bytes", name, p)
		} else {
			hakmem.Free(p)
		}
		for _, c := range [][2]uintptr{{0, 0}, {0, 100}, {100, 0}} {
			p := calloc(c[0], c[1])
			if p == nil {
				t.Errorf("%s(%d, %d) = nil", name, c[0], c[1])
			}
			hakmem.Free(p)
		}
		for _, c := range [][2]uintptr{{1 << 32, 1 << 32}, {math.MaxUint, 2}, {2, 1 << 63}, {math.MaxUint, math.MaxUint}, {1<<32 + 1, 1 << 32}, {3, math.MaxUint/3 + 1}} {
			if p := calloc(c[0], c[1]); p != nil {
				t.Errorf("%s(%d, %d) = %p: the product overflows", name, c[0], c[1], p)
			}
		}
	}
}

// TestCallocAfterOtherUses: Calloc does not clear pages that are fresh from the system. Pages that
// were part of a slab, a large block or an Arena are not fresh.
func TestCallocAfterOtherUses(t *testing.T) {
	const size = 300_000
	uses := map[string]func(){
		"tiny slabs": func() {
			var ps []unsafe.Pointer
			for range 20 << 20 / 512 {
				p := hakmem.Malloc(512)
				testkit.Fill(p, 512, math.MaxUint64)
				ps = append(ps, p)
			}
			for _, p := range ps {
				hakmem.Free(p)
			}
		},
		"mid slabs": func() {
			var ps []unsafe.Pointer
			for range 20 << 20 / 16384 {
				p := hakmem.Malloc(16384)
				testkit.Fill(p, 16384, math.MaxUint64)
				ps = append(ps, p)
			}
			for _, p := range ps {
				hakmem.Free(p)
			}
		},
		"an Arena": func() {
			a := hakmem.NewArena()
			for range 20 {
				testkit.Fill(a.Alloc(1<<20, 16), 1<<20, math.MaxUint64)
			}
			a.Close()
		},
		"a span": func() {
			p := hakmem.Malloc(20 << 20)
			testkit.Fill(p, 20<<20, math.MaxUint64)
			hakmem.Free(p)
		},
	}
	for name, use := range uses {
		for _, trim := range []bool{false, true} {
			use()
			if trim {
				hakmem.Trim()
			}
			var ps []unsafe.Pointer
			for range 70 {
				p := hakmem.Calloc(1, size)
				if !testkit.IsZero(p, size) {
					t.Fatalf("after %s (trimmed: %v): Calloc's block at %p is not zero", name, trim, p)
				}
				testkit.Fill(p, size, math.MaxUint64)
				ps = append(ps, p)
			}
			for _, p := range ps {
				hakmem.Free(p)
			}
		}
	}
}

func TestRealloc(t *testing.T) {
	classSizes(t)
	h := hakmem.NewHeap()
	defer h.Close()
	sizes := []uintptr{0, 1, 16, 17, 100, 128, 129, 1000, 1024, 1025, 5000, 32 << 10, 32<<10 + 1, 65536, 65537, 300_000, 2<<20 + 5}
	for name, realloc := range map[string]func(unsafe.Pointer, uintptr) unsafe.Pointer{"Realloc": hakmem.Realloc, "Heap.Realloc": h.Realloc} {
		base := workout.ReadStats()
		for _, from := range sizes {
			for _, to := range sizes {
				b := workout.NewBlock(t, hakmem.Malloc, from, uint64(from)<<20^uint64(to))
				q := realloc(b.P, to)
				if q == nil {
					t.Fatalf("%s(%d -> %d) = nil", name, from, to)
				}
				if u := hakmem.UsableSize(q); u < to {
					t.Errorf("%s(%d -> %d): usable %d", name, from, to, u)
				}
				// The bytes that both sizes have are kept. Compare whole words, as Fill wrote them.
				if both := min(from, to) &^ 7; !testkit.Intact(q, both, b.Key) {
					t.Errorf("%s(%d -> %d): contents lost", name, from, to)
				}
				if to == 0 && hakmem.UsableSize(q) != hakmem.GoodSize(0) {
					t.Errorf("%s(%d -> 0): usable %d, want the smallest block", name, from, hakmem.UsableSize(q))
				}
				// After a shrink the block must not be far too large.
				if u := hakmem.UsableSize(q); u > 2*hakmem.GoodSize(to) {
					t.Errorf("%s(%d -> %d) stayed in %d bytes", name, from, to, u)
				}
				testkit.Fill(q, hakmem.UsableSize(q), 1)
				if q != b.P {
					if m, instead := workout.MisuseOf(func() { hakmem.Free(b.P) }); m == nil {
						t.Errorf("%s(%d -> %d): the old block was not freed: %s", name, from, to, instead)
					}
				}
				hakmem.Free(q)
			}
		}
		if now := workout.ReadStats(); now.Live != base.Live || now.LiveBlocks != base.LiveBlocks {
			t.Errorf("%s: live %d bytes in %d blocks, before %d in %d", name, now.Live, now.LiveBlocks, base.Live, base.LiveBlocks)
		}
		p := realloc(nil, 50)
		if p == nil || hakmem.UsableSize(p) != hakmem.GoodSize(50) {
			t.Errorf("%s(nil, 50) = %p", name, p)
		}
		hakmem.Free(p)
	}
}

func TestReallocFailureKeepsTheBlock(t *testing.T) {
	classSizes(t)
	h := hakmem.NewHeap()
	defer h.Close()
	for _, k := range workout.Kinds {
		b := workout.NewBlock(t, hakmem.Malloc, k.Size, 7)
		if q := hakmem.Realloc(b.P, absurd); q != nil {
			t.Fatalf("Realloc to %d bytes = %p", absurd, q)
		}
		if q := h.Realloc(b.P, absurd); q != nil {
			t.Fatalf("Heap.Realloc to %d bytes = %p", absurd, q)
		}
		b.Check(t)
		if u := hakmem.UsableSize(b.P); u != hakmem.GoodSize(k.Size) {
			t.Errorf("%v: usable %d after the failure", b, u)
		}
		hakmem.Free(b.P)
	}
}

// TestReallocWalk grows and shrinks one block at random; its contents must be kept.
func TestReallocWalk(t *testing.T) {
	r := newRand(t, 11)
	p, size := hakmem.Malloc(1), uintptr(1)
	testkit.Fill(p, size, 0)
	for i := range uint64(2000) {
		next := uintptr(r.Uint64N(1 << r.UintN(20)))
		p = hakmem.Realloc(p, next)
		if both := min(size, next) &^ 7; !testkit.Intact(p, both, i) {
			t.Fatalf("step %d: %d -> %d bytes: contents lost", i, size, next)
		}
		size = next
		testkit.Fill(p, size, i+1)
	}
	hakmem.Free(p)
}

// TestReallocInPlace checks a block above 32 KiB: it grows into free pages behind it and gives back
// its last pages without moving. If the pages behind it are a live block, it moves.
func TestReallocInPlace(t *testing.T) {
	classSizes(t)
	quiet(t)
	hakmem.Trim()
	p := hakmem.Malloc(3 << 20)
	testkit.Fill(p, 3<<20, 1)
	for _, size := range []uintptr{4 << 20, 40 << 20, 100 << 10, 64 << 10, 200 << 10} {
		q := hakmem.Realloc(p, size)
		if q != p {
			t.Fatalf("Realloc to %d moved a block with nothing behind it", size)
		}
		if !testkit.Intact(p, 64<<10-64, 1) {
			t.Errorf("Realloc to %d lost contents", size)
		}
		// Shrinking to more than half leaves the block as it is.
		if n := hakmem.UsableSize(p); n < size || n > 2*size {
			t.Errorf("UsableSize after Realloc to %d: %d", size, n)
		}
	}
	next := hakmem.Malloc(1 << 20) // lowest address first, so this is right behind p
	q := hakmem.Realloc(p, 3<<20)
	if q == p && uintptr(next) > uintptr(p) && uintptr(next) < uintptr(p)+3<<20 {
		t.Error("grew over a live block")
	}
	if !testkit.Intact(q, 64<<10-64, 1) {
		t.Error("a move lost contents")
	}
	hakmem.Free(next)
	hakmem.Free(q)
}

var _ = testkit.Child("realloc in full region", reallocInFullRegion)

// reallocInFullRegion checks that a Realloc that finds no room leaves the block alone.
func reallocInFullRegion(string) error {
	var blocks []workout.Block
	for i := uint64(0); ; i++ {
		b := workout.Block{P: hakmem.Malloc(50_000), Size: 50_000, Key: i}
		if b.P == nil {
			break
		}
		testkit.Fill(b.P, b.Size, b.Key)
		blocks = append(blocks, b)
	}
	live := workout.ReadStats().Live
	h := hakmem.NewHeap()
	defer h.Close()
	for _, b := range blocks {
		if hakmem.Realloc(b.P, 100<<20) != nil || h.Realloc(b.P, 100<<20) != nil {
			return errors.New("a full region granted 100 MiB")
		}
		if !testkit.Intact(b.P, b.Size, b.Key) || hakmem.UsableSize(b.P) < b.Size {
			return fmt.Errorf("%v: damaged by a Realloc that failed", b)
		}
	}
	if now := workout.ReadStats().Live; now != live {
		return fmt.Errorf("live %d bytes, before %d", now, live)
	}
	for _, b := range blocks {
		hakmem.Free(b.P)
	}
	return workout.NothingLost()
}

func TestReallocInFullRegion(t *testing.T) {
	testkit.InChild(t, "realloc in full region", "", workout.SmallRegion)
}

func TestAlignedAlloc(t *testing.T) {
	base := workout.ReadStats()
	sizes := []uintptr{0, 1, 15, 16, 17, 48, 100, 1000, 1024, 1025, 3000, 4096, 20000, 32 << 10, 32<<10 + 1, 65536, 100_000, 1<<20 + 1}
	var blocks []workout.Block
	for align := uintptr(1); align <= 2<<20; align *= 2 {
		for _, size := range sizes {
			for i := range uint64(3) {
				b := workout.NewBlock(t, func(n uintptr) unsafe.Pointer { return hakmem.AlignedAlloc(align, n) }, size, uint64(align)^uint64(size)<<30^i)
				if uintptr(b.P)%max(align, 16) != 0 {
					t.Errorf("AlignedAlloc(%d, %d) = %p", align, size, b.P)
				}
				if u := hakmem.UsableSize(b.P); u < size {
					t.Errorf("AlignedAlloc(%d, %d): usable %d", align, size, u)
				} else if size < 1<<20 {
					b.Size = u
					testkit.Fill(b.P, u, b.Key)
				}
				blocks = append(blocks, b)
			}
		}
	}
	workout.MustNotOverlap(t, blocks)
	for _, b := range blocks {
		b.Check(t)
	}
	for i, b := range blocks { // half of the blocks through Realloc
		if i%2 == 0 {
			b.P = hakmem.Realloc(b.P, b.Size+10)
			if !testkit.Intact(b.P, b.Size&^7, b.Key) {
				t.Errorf("%v, aligned: Realloc lost the contents", b)
			}
		}
		hakmem.Free(b.P)
	}
	if now := workout.ReadStats(); now.Live != base.Live || now.LiveBlocks != base.LiveBlocks {
		t.Errorf("live %d bytes in %d blocks, before %d in %d", now.Live, now.LiveBlocks, base.Live, base.LiveBlocks)
	}
	for _, align := range []uintptr{0, 3, 24, 48, 1000, 4 << 20, 1 << 63, math.MaxUint} {
		mustPanicNaming(t, "bad alignment", func() { hakmem.AlignedAlloc(align, 10) }, "AlignedAlloc", fmt.Sprint(align))
	}
}

var _ = testkit.Child("aligned in full region", alignedInFullRegion)

// alignedInFullRegion checks that a block aligned to a superslab finds a free superslab, even if no
// run of pages is longer than one. In a region that is too small it must fail and say so.
func alignedInFullRegion(string) error {
	const size = 2 << 20
	var blocks []unsafe.Pointer
	for p := hakmem.Malloc(size); p != nil; p = hakmem.Malloc(size) {
		blocks = append(blocks, p)
	}
	if v, ok := testkit.PanicOf(func() { hakmem.Alloc(size) }).(error); !ok || !strings.Contains(v.Error(), "is full: raise HAKMEM_REGION_BYTES") {
		return fmt.Errorf("the region is full: %v", v)
	}
	if v, ok := testkit.PanicOf(func() { hakmem.Alloc(1 << 33) }).(error); !ok || !strings.Contains(v.Error(), "raise HAKMEM_REGION_BYTES") {
		return fmt.Errorf("larger than the region: %v", v)
	}
	if v, ok := testkit.PanicOf(func() { hakmem.Alloc(1 << 50) }).(error); !ok || !strings.Contains(v.Error(), "no machine has as much") {
		return fmt.Errorf("larger than any: %v", v)
	}
	freed := 0
	for i, p := range blocks {
		if i%2 == 0 {
			hakmem.Free(p)
			freed++
		}
	}
	hakmem.Trim()
	for i := range freed {
		p := hakmem.AlignedAlloc(size, size)
		if p == nil || uintptr(p)%size != 0 {
			return fmt.Errorf("%d of %d superslabs are free, and AlignedAlloc gives %p", freed-i, freed, p)
		}
		blocks[2*i] = p
	}
	for _, p := range blocks {
		hakmem.Free(p)
	}
	return workout.NothingLost()
}

func TestAlignedInFullRegion(t *testing.T) {
	classSizes(t) // the test relies on a superslab's size
	testkit.InChild(t, "aligned in full region", "", workout.SmallRegion)
}
