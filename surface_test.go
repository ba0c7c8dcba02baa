package hakmem_test

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"unsafe"

	"github.com/hakmem/hakmem"
)

// The public surface, function by function, as its doc comments promise it.

// largestSize bounds the spans of the tests that hold all sizes at once.
func largestSize() uintptr {
	if testing.Short() {
		return 1 << 20
	}
	return 4 << 20
}

// allocators are the ways to get a plain block; all promise the same.
func allocators(t *testing.T) map[string]func(uintptr) unsafe.Pointer {
	h := hakmem.NewHeap()
	t.Cleanup(h.Close)
	site := hakmem.RegisterSite("surface_test")
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
			base := readStats()
			var blocks []block
			for i, size := range boundarySizes(largestSize()) {
				b := newBlock(t, malloc, size, uint64(i)<<32|uint64(size))
				if uintptr(b.p)%16 != 0 {
					t.Errorf("%v is not aligned to 16", b)
				}
				usable := hakmem.UsableSize(b.p)
				if usable < size || usable != hakmem.GoodSize(size) {
					t.Errorf("%v: usable %d, GoodSize %d", b, usable, hakmem.GoodSize(size))
				}
				// All of it may be used: the neighbours' patterns tell if not.
				fill(b.p, usable, b.key)
				b.size = usable
				blocks = append(blocks, b)
			}
			mustNotOverlap(t, blocks)
			for _, b := range blocks {
				b.check(t)
				hakmem.Free(b.p)
			}
			if now := readStats(); now.Live != base.Live || now.LiveBlocks != base.LiveBlocks {
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
	classes[0] = -1 // the caller's own copy
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
	site := hakmem.RegisterSite("surface_test")
	p := hakmem.Malloc(100)
	defer hakmem.Free(p)
	for _, size := range []uintptr{absurd, 1 << 47, math.MaxUint, math.MaxUint - 15, math.MaxUint - 4095, math.MaxUint - 65535, 1 << 63, 1<<63 - 1} {
		for name, got := range map[string]unsafe.Pointer{
			"Malloc":              hakmem.Malloc(size),
			"MallocAt":            hakmem.MallocAt(site, size),
			"Calloc":              hakmem.Calloc(1, size),
			"Realloc(p)":          hakmem.Realloc(p, size),
			"Realloc(nil)":        hakmem.Realloc(nil, size),
			"AlignedAlloc(1)":     hakmem.AlignedAlloc(1, size),
			"AlignedAlloc(64)":    hakmem.AlignedAlloc(64, size),
			"AlignedAlloc(2 MiB)": hakmem.AlignedAlloc(2<<20, size),
			"Heap.Malloc":         h.Malloc(size),
			"Heap.Calloc":         h.Calloc(size, 1),
			"Heap.Realloc(p)":     h.Realloc(p, size),
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
			for _, k := range kindSizes {
				// Dirty some blocks of the size, so that they are used again.
				var dirty []unsafe.Pointer
				for range 4 {
					p := hakmem.Malloc(k.size)
					fill(p, hakmem.UsableSize(p), math.MaxUint64)
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
					p := calloc(1, k.size)
					if p == nil || !isZero(p, k.size) {
						t.Fatalf("%s(1, %d) = %p is nil or not zero (trimmed before: %v)", name, k.size, p, trim)
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

// TestFreshSpansAreZeroOnlyWhenSaid: Calloc skips clearing pages that the system
// just gave. Pages that went through a slab, a span or an Arena are not among them.
func TestCallocAfterOtherUses(t *testing.T) {
	const size = 300_000
	uses := map[string]func(){
		"tiny slabs": func() {
			var ps []unsafe.Pointer
			for range 20 << 20 / 512 {
				p := hakmem.Malloc(512)
				fill(p, 512, math.MaxUint64)
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
				fill(p, 16384, math.MaxUint64)
				ps = append(ps, p)
			}
			for _, p := range ps {
				hakmem.Free(p)
			}
		},
		"an Arena": func() {
			a := hakmem.NewArena()
			for range 20 {
				fill(a.Alloc(1<<20, 16), 1<<20, math.MaxUint64)
			}
			a.Close()
		},
		"a span": func() {
			p := hakmem.Malloc(20 << 20)
			fill(p, 20<<20, math.MaxUint64)
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
				if !isZero(p, size) {
					t.Fatalf("after %s (trimmed: %v): Calloc's block at %p is not zero", name, trim, p)
				}
				fill(p, size, math.MaxUint64)
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
		base := readStats()
		for _, from := range sizes {
			for _, to := range sizes {
				b := newBlock(t, hakmem.Malloc, from, uint64(from)<<20^uint64(to))
				q := realloc(b.p, to)
				if q == nil {
					t.Fatalf("%s(%d -> %d) = nil", name, from, to)
				}
				if u := hakmem.UsableSize(q); u < to {
					t.Errorf("%s(%d -> %d): usable %d", name, from, to, u)
				}
				// What both sizes have is kept; compare word by word, as filled.
				if both := min(from, to) &^ 7; !intact(q, both, b.key) {
					t.Errorf("%s(%d -> %d): contents lost", name, from, to)
				}
				if to == 0 && hakmem.UsableSize(q) != hakmem.GoodSize(0) {
					t.Errorf("%s(%d -> 0): usable %d, want the smallest block", name, from, hakmem.UsableSize(q))
				}
				// A shrink must not keep a block far too large.
				if u := hakmem.UsableSize(q); u > 2*hakmem.GoodSize(to) {
					t.Errorf("%s(%d -> %d) stayed in %d bytes", name, from, to, u)
				}
				fill(q, hakmem.UsableSize(q), 1)
				if q != b.p {
					if m, instead := misuseOf(func() { hakmem.Free(b.p) }); m == nil {
						t.Errorf("%s(%d -> %d): the old block was not freed: %s", name, from, to, instead)
					}
				}
				hakmem.Free(q)
			}
		}
		if now := readStats(); now.Live != base.Live || now.LiveBlocks != base.LiveBlocks {
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
	for _, k := range kindSizes {
		b := newBlock(t, hakmem.Malloc, k.size, 7)
		if q := hakmem.Realloc(b.p, absurd); q != nil {
			t.Fatalf("Realloc to %d bytes = %p", absurd, q)
		}
		if q := h.Realloc(b.p, absurd); q != nil {
			t.Fatalf("Heap.Realloc to %d bytes = %p", absurd, q)
		}
		b.check(t)
		if u := hakmem.UsableSize(b.p); u != hakmem.GoodSize(k.size) {
			t.Errorf("%v: usable %d after the failure", b, u)
		}
		hakmem.Free(b.p)
	}
}

// TestReallocWalk grows and shrinks one block at random and keeps its contents.
func TestReallocWalk(t *testing.T) {
	r := newRand(t, 11)
	p, size := hakmem.Malloc(1), uintptr(1)
	fill(p, size, 0)
	for i := range uint64(2000) {
		next := uintptr(r.Uint64N(1 << r.UintN(20)))
		p = hakmem.Realloc(p, next)
		if both := min(size, next) &^ 7; !intact(p, both, i) {
			t.Fatalf("step %d: %d -> %d bytes: contents lost", i, size, next)
		}
		size = next
		fill(p, size, i+1)
	}
	hakmem.Free(p)
}

func TestAlignedAlloc(t *testing.T) {
	base := readStats()
	sizes := []uintptr{0, 1, 15, 16, 17, 48, 100, 1000, 1024, 1025, 3000, 4096, 20000, 32 << 10, 32<<10 + 1, 65536, 100_000, 1<<20 + 1}
	var blocks []block
	for align := uintptr(1); align <= 2<<20; align *= 2 {
		for _, size := range sizes {
			for i := range uint64(3) {
				b := newBlock(t, func(n uintptr) unsafe.Pointer { return hakmem.AlignedAlloc(align, n) }, size, uint64(align)^uint64(size)<<30^i)
				if uintptr(b.p)%max(align, 16) != 0 {
					t.Errorf("AlignedAlloc(%d, %d) = %p", align, size, b.p)
				}
				if u := hakmem.UsableSize(b.p); u < size {
					t.Errorf("AlignedAlloc(%d, %d): usable %d", align, size, u)
				} else if size < 1<<20 {
					b.size = u
					fill(b.p, u, b.key)
				}
				blocks = append(blocks, b)
			}
		}
	}
	mustNotOverlap(t, blocks)
	for _, b := range blocks {
		b.check(t)
	}
	for i, b := range blocks { // half of them through Realloc
		if i%2 == 0 {
			b.p = hakmem.Realloc(b.p, b.size+10)
			if !intact(b.p, b.size&^7, b.key) {
				t.Errorf("%v, aligned: Realloc lost the contents", b)
			}
		}
		hakmem.Free(b.p)
	}
	if now := readStats(); now.Live != base.Live || now.LiveBlocks != base.LiveBlocks {
		t.Errorf("live %d bytes in %d blocks, before %d in %d", now.Live, now.LiveBlocks, base.Live, base.LiveBlocks)
	}
	for _, align := range []uintptr{0, 3, 24, 48, 1000, 4 << 20, 1 << 63, math.MaxUint} {
		mustPanicNaming(t, "bad alignment", func() { hakmem.AlignedAlloc(align, 10) }, "AlignedAlloc", fmt.Sprint(align))
	}
}

func TestAllocBytes(t *testing.T) {
	for name, alloc := range map[string]func(int) []byte{"Alloc": hakmem.Alloc, "AllocZeroed": hakmem.AllocZeroed} {
		base := readStats()
		for _, size := range boundarySizes(1 << 20) {
			// Dirty a block first: AllocZeroed gets it again.
			b := hakmem.Alloc(int(size))
			fill(unsafe.Pointer(unsafe.SliceData(b)), size, math.MaxUint64)
			hakmem.FreeBytes(b)
			b = alloc(int(size))
			if b == nil || len(b) != int(size) || cap(b) != int(size) {
				t.Fatalf("%s(%d): nil %v, len %d, cap %d", name, size, b == nil, len(b), cap(b))
			}
			if name == "AllocZeroed" && !isZero(unsafe.Pointer(unsafe.SliceData(b)), size) {
				t.Errorf("AllocZeroed(%d) is not zero", size)
			}
			hakmem.FreeBytes(b[:size/2]) // the length does not matter, the start does
		}
		if now := readStats(); now.Live != base.Live {
			t.Errorf("%s: live %d, before %d", name, now.Live, base.Live)
		}
		for _, n := range []int{-1, math.MinInt} {
			mustPanicNaming(t, name+" of a negative length", func() { alloc(n) }, name, fmt.Sprint(n))
		}
		for _, n := range []int{1 << 60, math.MaxInt, 1 << 47} {
			oom := mustRunOut(t, fmt.Sprintf("%s(%d)", name, n), func() { alloc(n) })
			if oom.Size != uintptr(n) || oom.Error() == "" {
				t.Errorf("%s(%d): OutOfMemoryError of %d bytes: %v", name, n, oom.Size, oom)
			}
		}
		hakmem.FreeBytes(alloc(1000)) // and the program goes on
	}
	hakmem.FreeBytes(nil)
	hakmem.Free(nil)
	if n := hakmem.UsableSize(nil); n != 0 {
		t.Errorf("UsableSize(nil) = %d", n)
	}
}

// Types for the typed functions.
type (
	plainStruct struct {
		A int32
		B [3]float64
		C struct{ X, Y uint8 }
		D [0]*int // no pointer is ever in it
		E complex128
		F uintptr
	}
	nested struct {
		In struct{ Deep []struct{ Z int } }
	}
	inArray     struct{ Grid [2][3]struct{ Name string } }
	withIface   struct{ Any any }
	withFunc    struct{ Call func() }
	withMap     struct{ M map[int]int }
	withChan    struct{ C chan int }
	withUnsafe  struct{ P unsafe.Pointer }
	embedsPlain struct{ plainStruct }
	embedsPtr   struct {
		plainStruct
		*nested
	}
)

func TestPointerfulTypesAreRefused(t *testing.T) {
	a := hakmem.NewArena()
	defer a.Close()
	refused(t, a, "*int", hakmem.New[*int], hakmem.MakeSlice[*int], hakmem.NewIn[*int], hakmem.MakeSliceIn[*int], "*int", "ptr")
	refused(t, a, "string", hakmem.New[string], hakmem.MakeSlice[string], hakmem.NewIn[string], hakmem.MakeSliceIn[string], "string")
	refused(t, a, "[]byte", hakmem.New[[]byte], hakmem.MakeSlice[[]byte], hakmem.NewIn[[]byte], hakmem.MakeSliceIn[[]byte], "[]uint8", "slice")
	refused(t, a, "error", hakmem.New[error], hakmem.MakeSlice[error], hakmem.NewIn[error], hakmem.MakeSliceIn[error], "error", "interface")
	refused(t, a, "nested", hakmem.New[nested], hakmem.MakeSlice[nested], hakmem.NewIn[nested], hakmem.MakeSliceIn[nested], "nested", "In.Deep", "slice")
	refused(t, a, "array", hakmem.New[inArray], hakmem.MakeSlice[inArray], hakmem.NewIn[inArray], hakmem.MakeSliceIn[inArray], "inArray", "Grid", "Name", "string")
	refused(t, a, "[4]any", hakmem.New[[4]any], hakmem.MakeSlice[[4]any], hakmem.NewIn[[4]any], hakmem.MakeSliceIn[[4]any], "interface")
	refused(t, a, "interface", hakmem.New[withIface], hakmem.MakeSlice[withIface], hakmem.NewIn[withIface], hakmem.MakeSliceIn[withIface], "withIface", "Any", "interface")
	refused(t, a, "func", hakmem.New[withFunc], hakmem.MakeSlice[withFunc], hakmem.NewIn[withFunc], hakmem.MakeSliceIn[withFunc], "withFunc", "Call", "func")
	refused(t, a, "map", hakmem.New[withMap], hakmem.MakeSlice[withMap], hakmem.NewIn[withMap], hakmem.MakeSliceIn[withMap], "withMap", "M", "map")
	refused(t, a, "chan", hakmem.New[withChan], hakmem.MakeSlice[withChan], hakmem.NewIn[withChan], hakmem.MakeSliceIn[withChan], "withChan", "C", "chan")
	refused(t, a, "unsafe.Pointer", hakmem.New[withUnsafe], hakmem.MakeSlice[withUnsafe], hakmem.NewIn[withUnsafe], hakmem.MakeSliceIn[withUnsafe], "withUnsafe", "P", "unsafe.Pointer")
	refused(t, a, "embedded pointer", hakmem.New[embedsPtr], hakmem.MakeSlice[embedsPtr], hakmem.NewIn[embedsPtr], hakmem.MakeSliceIn[embedsPtr], "embedsPtr", "nested", "ptr")
}

func refused[T any](t *testing.T, a *hakmem.Arena, what string, newT func() *T, makeT func(len, cap int) []T, newIn func(*hakmem.Arena) *T, makeIn func(a *hakmem.Arena, len, cap int) []T, words ...string) {
	t.Helper()
	before := readStats()
	for range 2 { // a verdict remembered must be the same verdict
		mustPanicNaming(t, "New of "+what, func() { newT() }, words...)
		mustPanicNaming(t, "MakeSlice of "+what, func() { makeT(0, 1) }, words...)
		mustPanicNaming(t, "NewIn of "+what, func() { newIn(a) }, words...)
		mustPanicNaming(t, "MakeSliceIn of "+what, func() { makeIn(a, 1, 1) }, words...)
	}
	if after := readStats(); after.Live != before.Live {
		t.Errorf("%s: a refused type cost %d bytes", what, after.Live-before.Live)
	}
}

func TestNewAndDelete(t *testing.T) {
	base := readStats()
	accepted[int](t)
	accepted[byte](t)
	accepted[plainStruct](t)
	accepted[embedsPlain](t)
	accepted[[0]*int](t)
	accepted[[0][]string](t)
	accepted[struct{}](t)
	accepted[[1000]uint64](t)
	accepted[[100_000]uint32](t)
	accepted[uintptr](t)
	hakmem.Delete[int](nil)
	hakmem.FreeSlice[int](nil)
	if now := readStats(); now.Live != base.Live || now.LiveBlocks != base.LiveBlocks {
		t.Errorf("live %d bytes in %d blocks, before %d in %d", now.Live, now.LiveBlocks, base.Live, base.LiveBlocks)
	}
}

// accepted checks New, Delete, MakeSlice and FreeSlice for a type that may live
// in hakmem's memory.
func accepted[T any](t *testing.T) {
	t.Helper()
	size := unsafe.Sizeof(*new(T))
	seen := map[*T]bool{}
	for range 20 {
		p := hakmem.New[T]()
		if p == nil || seen[p] {
			t.Fatalf("New[%T] = %p: nil or not unique", *p, p)
		}
		if !isZero(unsafe.Pointer(p), size) || uintptr(unsafe.Pointer(p))%16 != 0 {
			t.Errorf("New[%T] = %p: not zero or not aligned", *p, p)
		}
		fill(unsafe.Pointer(p), size, math.MaxUint64) // dirty for the next round
		seen[p] = true
		if len(seen)%2 == 0 {
			delete(seen, p)
			hakmem.Delete(p)
		}
	}
	for p := range seen {
		hakmem.Delete(p)
	}
	for _, c := range [][2]int{{0, 0}, {0, 1}, {1, 1}, {3, 7}, {100, 100}} {
		for range 2 { // the second one gets the first one's dirty block
			s := hakmem.MakeSlice[T](c[0], c[1])
			if s == nil || len(s) != c[0] || cap(s) != c[1] {
				t.Fatalf("MakeSlice[%T](%d, %d): nil %v, len %d, cap %d", *new(T), c[0], c[1], s == nil, len(s), cap(s))
			}
			p := unsafe.Pointer(unsafe.SliceData(s))
			if !isZero(p, size*uintptr(c[1])) {
				t.Errorf("MakeSlice[%T](%d, %d) is not zero", *new(T), c[0], c[1])
			}
			fill(p, size*uintptr(c[1]), math.MaxUint64)
			hakmem.FreeSlice(s)
		}
	}
}

func TestMakeSliceBounds(t *testing.T) {
	a := hakmem.NewArena()
	defer a.Close()
	for _, c := range [][2]int{{-1, 0}, {0, -1}, {2, 1}, {-1, -1}, {math.MinInt, 0}} {
		mustPanicNaming(t, "MakeSlice", func() { hakmem.MakeSlice[int](c[0], c[1]) }, "MakeSlice", fmt.Sprint(c[0]), fmt.Sprint(c[1]))
		mustPanicNaming(t, "MakeSliceIn", func() { hakmem.MakeSliceIn[int](a, c[0], c[1]) }, "MakeSliceIn", fmt.Sprint(c[0]), fmt.Sprint(c[1]))
	}
	for _, n := range []int{math.MaxInt, math.MaxInt / 8, 1 << 60} {
		mustRunOut(t, "MakeSlice", func() { hakmem.MakeSlice[int64](0, n) })
		mustRunOut(t, "MakeSlice", func() { hakmem.MakeSlice[int64](n, n) })
		mustRunOut(t, "MakeSliceIn", func() { hakmem.MakeSliceIn[int64](a, n, n) })
	}
	type huge [1 << 44]byte
	mustRunOut(t, "New of 16 TiB", func() { hakmem.New[huge]() })
	mustRunOut(t, "MakeSlice of 16 TiB elements", func() { hakmem.MakeSlice[huge](1<<20, 1<<20) })
	// Elements of no size fit any number of times.
	s := hakmem.MakeSlice[struct{}](math.MaxInt, math.MaxInt)
	hakmem.FreeSlice(s)
	hakmem.FreeSlice(hakmem.MakeSlice[int64](5, 10)) // and the program goes on
	*hakmem.NewIn[int](a) = 1
}

// TestArenaKeepsWhatItNeeds: an Arena whose use grows, or that was refused once,
// does not hold more than a few times the most it had in use.
func TestArenaKeepsWhatItNeeds(t *testing.T) {
	a := hakmem.NewArena()
	defer a.Close()
	base := readStats().Live
	for k := uintptr(1); k <= 60; k++ {
		a.Alloc(100, 1)
		a.Alloc(k<<20, 1)
		a.Alloc(100_000, 1)
		a.Reset()
	}
	if held := readStats().Live - base; held > 2*60<<20 {
		t.Errorf("the Arena holds %d bytes, and never had more than 61 MiB in use", held)
	}
	held := readStats().Live
	for range 3 {
		a.Alloc(60<<20, 1)
		mustRunOut(t, "Arena.Alloc", func() { a.Alloc(1<<45, 1) })
		for range 100 {
			a.Alloc(2000, 1)
		}
		a.Reset()
	}
	if now := readStats().Live; now > held+4<<20 {
		t.Errorf("the same work again after a refusal: %d bytes, %d before", now, held)
	}
}

// TestZeroArena: a variable serves without NewArena, whatever is called first.
func TestZeroArena(t *testing.T) {
	for name, first := range map[string]func(*hakmem.Arena){
		"Alloc": func(a *hakmem.Arena) { *(*byte)(a.Alloc(100, 8)) = 1 },
		"NewIn": func(a *hakmem.Arena) { *hakmem.NewIn[int](a) = 1 },
		"Reset": func(a *hakmem.Arena) { a.Reset() },
		"Close": func(*hakmem.Arena) {},
	} {
		before := readStats()
		var a hakmem.Arena
		first(&a)
		if name != "Close" {
			p := a.Alloc(100_000, 64)
			fill(p, 100_000, 7)
			if !intact(p, 100_000, 7) {
				t.Errorf("%s first: the memory does not hold what was written", name)
			}
		}
		a.Close()
		if m, instead := misuseOf(func() { a.Alloc(1, 1) }); m == nil || m.Kind != "closed arena" {
			t.Errorf("%s first: after Close: %s %v", name, instead, m)
		}
		if after := readStats(); after.Live != before.Live {
			t.Errorf("%s first: %d bytes are left", name, after.Live-before.Live)
		}
	}
}

func TestArena(t *testing.T) {
	base := readStats()
	a := hakmem.NewArena()
	first := map[uintptr]bool{}
	for round := range 4 {
		var blocks []block
		i := uint64(0)
		for align := uintptr(1); align <= 64<<10; align *= 2 {
			for _, n := range []uintptr{0, 1, 3, 16, 100, 1000, 5000, 70_000, 150_000} {
				i++
				p := a.Alloc(n, align)
				if p == nil || uintptr(p)%align != 0 {
					t.Fatalf("Arena.Alloc(%d, %d) = %p", n, align, p)
				}
				if n == 0 {
					continue // need not be unique
				}
				fill(p, n, i)
				blocks = append(blocks, block{p, n, i})
				if round == 0 {
					first[uintptr(p)>>21] = true
				}
			}
		}
		mustNotOverlap(t, blocks)
		for _, b := range blocks {
			b.check(t)
		}
		live := readStats().Live
		a.Reset()
		if now := readStats().Live; now != live {
			t.Errorf("Reset changed the live bytes from %d to %d: it keeps the memory", live, now)
		}
		// The same work again fits into the memory that Reset kept.
		if round > 0 {
			for _, b := range blocks {
				if !first[uintptr(b.p)>>21] {
					t.Errorf("round %d: %v is in memory that round 0 did not have", round, b)
				}
			}
		}
	}

	big := a.Alloc(5<<20, 4096) // more than any chunk
	fill(big, 5<<20, 1)
	x := hakmem.NewIn[plainStruct](a)
	if *x != (plainStruct{}) {
		t.Error("NewIn is not zero")
	}
	s := hakmem.MakeSliceIn[uint64](a, 3, 1000)
	if len(s) != 3 || cap(s) != 1000 || !isZero(unsafe.Pointer(unsafe.SliceData(s)), 8000) {
		t.Errorf("MakeSliceIn: len %d, cap %d, or not zero", len(s), cap(s))
	}
	if !intact(big, 5<<20, 1) {
		t.Error("NewIn or MakeSliceIn wrote into another block")
	}
	fill(unsafe.Pointer(unsafe.SliceData(s)), 8000, 1)
	a.Reset()
	fill(a.Alloc(60_000, 1), 60_000, math.MaxUint64) // dirty what the next one gets
	a.Reset()
	if y := hakmem.NewIn[plainStruct](a); *y != (plainStruct{}) {
		t.Error("NewIn is not zero in memory used before")
	}
	if s := hakmem.MakeSliceIn[uint32](a, 500, 500); !isZero(unsafe.Pointer(unsafe.SliceData(s)), 2000) {
		t.Error("MakeSliceIn is not zero in memory used before")
	}
	hakmem.NewIn[struct{}](a)
	for _, align := range []uintptr{0, 3, 24, 128 << 10, 1 << 63} {
		mustPanicNaming(t, "bad alignment", func() { a.Alloc(1, align) }, "Arena.Alloc", fmt.Sprint(align))
	}
	for _, n := range []uintptr{absurd, math.MaxUint, math.MaxUint - 4096, 1 << 63} {
		if oom := mustRunOut(t, "Arena.Alloc", func() { a.Alloc(n, 16) }); oom.Size != n {
			t.Errorf("Arena.Alloc(%d): OutOfMemoryError of %d bytes", n, oom.Size)
		}
	}
	fill(a.Alloc(100, 1), 100, 1) // and the Arena goes on

	a.Close()
	if now := readStats(); now.Live != base.Live || now.LiveBlocks != base.LiveBlocks {
		t.Errorf("after Close: live %d bytes in %d blocks, before %d in %d", now.Live, now.LiveBlocks, base.Live, base.LiveBlocks)
	}
	for op, do := range map[string]func(){
		"Arena.Alloc": func() { a.Alloc(1, 1) },
		"Arena.Reset": a.Reset,
		"Arena.Close": a.Close,
	} {
		mustBeClosed(t, op, "closed arena", do)
	}
	if m, instead := misuseOf(func() { hakmem.NewIn[int](a) }); m == nil {
		t.Errorf("NewIn after Close: %s", instead)
	}
	if m, instead := misuseOf(func() { hakmem.MakeSliceIn[int](a, 0, 0) }); m == nil {
		t.Errorf("MakeSliceIn after Close: %s", instead)
	}
	hakmem.NewArena().Close() // one that never held memory
}

func mustBeClosed(t *testing.T, op, kind string, do func()) {
	t.Helper()
	m, instead := misuseOf(do)
	if m == nil {
		t.Errorf("%s after Close: %s, want *MisuseError", op, instead)
		return
	}
	if m.Op != op || m.Kind != kind || m.Late {
		t.Errorf("%s after Close: %+v, want Kind %q", op, *m, kind)
	}
}

func TestHeap(t *testing.T) {
	quiet(t)
	if err := collected(func(*hakmem.Stats) bool { hakmem.Trim(); return readStats().Fronts == 0 }); err != nil { // Heaps that other tests dropped
		t.Fatal(err)
	}
	base := readStats()
	g, h := hakmem.NewHeap(), hakmem.NewHeap()
	r := newRand(t, 5)
	var blocks []block
	for i := range uint64(6000) {
		size := uintptr(r.UintN(1 << r.UintN(17)))
		malloc := []func(uintptr) unsafe.Pointer{g.Malloc, h.Malloc, hakmem.Malloc}[i%3]
		blocks = append(blocks, newBlock(t, malloc, size, i))
	}
	mustNotOverlap(t, blocks)
	frees := []func(unsafe.Pointer){h.Free, hakmem.Free, g.Free} // none by who allocated it
	for i, b := range blocks[:5000] {
		b.check(t)
		frees[i%3](b.p)
	}
	blocks = blocks[5000:]
	g.Free(nil)

	g.Close()
	for _, b := range blocks { // blocks outlive their Heap
		b.check(t)
	}
	for op, do := range map[string]func(){
		"Heap.Malloc":  func() { g.Malloc(10) },
		"Heap.Calloc":  func() { g.Calloc(10, 10) },
		"Heap.Realloc": func() { g.Realloc(blocks[0].p, 100_000) },
		"Heap.Free":    func() { g.Free(blocks[0].p) },
		"Heap.Close":   g.Close,
	} {
		mustBeClosed(t, op, "closed heap", do)
	}
	for _, size := range []uintptr{1, 2000, 100_000} {
		mustBeClosed(t, "Heap.Malloc", "closed heap", func() { g.Malloc(size) })
	}
	blocks[0].check(t)

	// A Heap made after a Close gets the closed one's front, and must not share
	// blocks with it.
	k := hakmem.NewHeap()
	for i := range uint64(1000) {
		blocks = append(blocks, newBlock(t, k.Malloc, uintptr(r.UintN(3000)), i))
	}
	mustNotOverlap(t, blocks)
	mustBeClosed(t, "Heap.Malloc", "closed heap", func() { g.Malloc(10) })
	for i, b := range blocks {
		b.check(t)
		if i%2 == 0 {
			k.Free(b.p)
		} else {
			h.Free(b.p)
		}
	}
	k.Close()
	h.Close()
	hakmem.Trim() // the Ps' fronts
	if now := readStats(); now.Live != base.Live || now.LiveBlocks != base.LiveBlocks || now.Fronts != 0 {
		t.Errorf("live %d bytes in %d blocks, %d fronts, before %d in %d, %d", now.Live, now.LiveBlocks, now.Fronts, base.Live, base.LiveBlocks, base.Fronts)
	}
}

// TestManyHeaps opens and closes Heaps: fronts are used again, so that their
// memory is bounded by the number open at once.
func TestManyHeaps(t *testing.T) {
	hakmem.NewHeap().Close()
	before := readStats()
	for range 1000 {
		h := hakmem.NewHeap()
		h.Free(h.Malloc(64))
		h.Close()
	}
	if after := readStats(); after.Metadata != before.Metadata || after.Fronts != before.Fronts {
		t.Errorf("1000 Heaps one after the other left %d bytes of metadata and %d fronts", after.Metadata-before.Metadata, after.Fronts-before.Fronts)
	}
}

func siteStats(t *testing.T, s hakmem.Site) hakmem.SiteStats {
	t.Helper()
	for _, x := range readStats().Sites {
		if x.Site == s {
			return x
		}
	}
	t.Fatalf("site %d is not in Stats.Sites", s)
	return hakmem.SiteStats{}
}

func TestSites(t *testing.T) {
	classSizes(t)
	a, b := hakmem.RegisterSite("TestSites: a"), hakmem.RegisterSite("TestSites: b")
	if a == 0 || b == 0 || a == b {
		t.Fatalf("sites %d and %d", a, b)
	}
	if again := hakmem.RegisterSite("TestSites: a"); again != a {
		t.Errorf("the same name gave sites %d and %d", a, again)
	}
	if x := siteStats(t, a); x.Name != "TestSites: a" || x.LiveBlocks != 0 || x.LiveBytes != 0 {
		t.Errorf("a fresh site: %+v", x)
	}
	mustPanicNaming(t, "an unregistered site", func() { hakmem.MallocAt(65_535, 10) }, "MallocAt", "65535")

	h := hakmem.NewHeap()
	defer h.Close()
	var bytes, blocks uint64
	want := func(when string) {
		t.Helper()
		if x := siteStats(t, a); x.LiveBytes != bytes || x.LiveBlocks != blocks {
			t.Fatalf("%s: site has %d bytes in %d blocks, want %d in %d", when, x.LiveBytes, x.LiveBlocks, bytes, blocks)
		}
		if x := siteStats(t, b); x.LiveBytes != 0 || x.LiveBlocks != 0 {
			t.Fatalf("%s: the other site has %+v", when, x)
		}
	}
	add := func(p unsafe.Pointer, sign uint64) {
		bytes += sign * uint64(hakmem.UsableSize(p))
		blocks += sign
	}
	const down = math.MaxUint64 // −1
	var held []unsafe.Pointer
	for _, size := range boundarySizes(1 << 20) {
		p := hakmem.MallocAt(a, size)
		add(p, 1)
		held = append(held, p)
		hakmem.Free(hakmem.MallocAt(0, size)) // site 0 is no site
	}
	want("allocated")
	// Through Realloc the site is kept, whether the block moves or not, and
	// whichever front does it.
	for i, p := range held {
		add(p, down)
		switch i % 4 {
		case 0:
			p = hakmem.Realloc(p, hakmem.UsableSize(p)*3+1)
		case 1:
			p = h.Realloc(p, hakmem.UsableSize(p)/3)
		case 2:
			p = hakmem.Realloc(p, hakmem.UsableSize(p))
		case 3:
			p = h.Realloc(p, 0)
		}
		add(p, 1)
		held[i] = p
	}
	want("reallocated")
	if q := hakmem.Realloc(held[0], absurd); q != nil {
		t.Error("Realloc of an absurd size")
	}
	want("after a Realloc that failed")
	for i, p := range held {
		add(p, down)
		if i%2 == 0 {
			hakmem.Free(p)
		} else {
			h.Free(p)
		}
		if m, instead := misuseOf(func() { hakmem.Free(p) }); m == nil {
			t.Fatalf("double free of a block with a site: %s", instead)
		}
		if i%50 == 0 {
			want("while freeing")
		}
	}
	want("freed")
	// Blocks used again without a site do not count.
	var plain []unsafe.Pointer
	for _, size := range boundarySizes(1 << 17) {
		plain = append(plain, hakmem.Malloc(size))
	}
	want("memory used again without a site")
	for _, p := range plain {
		hakmem.Free(p)
	}
	want("and freed again")
}

func TestSiteNamesAreInOrderOfRegistration(t *testing.T) {
	first := hakmem.RegisterSite("TestSiteNames: 1")
	second := hakmem.RegisterSite("TestSiteNames: 2")
	sites := readStats().Sites
	i := slices.IndexFunc(sites, func(s hakmem.SiteStats) bool { return s.Site == first })
	j := slices.IndexFunc(sites, func(s hakmem.SiteStats) bool { return s.Site == second })
	if i < 0 || j <= i {
		t.Errorf("sites %d and %d are at %d and %d", first, second, i, j)
	}
}

func TestTrimKeepsLiveBlocks(t *testing.T) {
	h := hakmem.NewHeap()
	defer h.Close()
	r := newRand(t, 17)
	var blocks []block
	for i := range uint64(3000) {
		malloc := hakmem.Malloc
		if i%2 == 0 {
			malloc = h.Malloc
		}
		blocks = append(blocks, newBlock(t, malloc, uintptr(r.UintN(1<<r.UintN(18))), i))
		if i%500 == 0 {
			hakmem.Trim()
		}
	}
	for len(blocks) > 0 {
		r.Shuffle(len(blocks), func(i, j int) { blocks[i], blocks[j] = blocks[j], blocks[i] })
		for _, b := range blocks[len(blocks)/2:] {
			b.check(t)
			hakmem.Free(b.p)
		}
		blocks = blocks[:len(blocks)/2]
		hakmem.Trim()
		for _, b := range blocks {
			b.check(t)
		}
	}
}

// TestReallocInPlace: a block above 32 KiB grows into free pages behind it, and
// gives its last pages back, without moving; over a live block it moves.
func TestReallocInPlace(t *testing.T) {
	classSizes(t)
	quiet(t)
	hakmem.Trim()
	p := hakmem.Malloc(3 << 20)
	fill(p, 3<<20, 1)
	for _, size := range []uintptr{4 << 20, 40 << 20, 100 << 10, 64 << 10, 200 << 10} {
		q := hakmem.Realloc(p, size)
		if q != p {
			t.Fatalf("Realloc to %d moved a block with nothing behind it", size)
		}
		if !intact(p, 64<<10-64, 1) {
			t.Errorf("Realloc to %d lost contents", size)
		}
		if n := hakmem.UsableSize(p); n < size || n > 2*size { // over half is kept as it is
			t.Errorf("UsableSize after Realloc to %d: %d", size, n)
		}
	}
	next := hakmem.Malloc(1 << 20) // lowest address first: right behind it
	q := hakmem.Realloc(p, 3<<20)
	if q == p && uintptr(next) > uintptr(p) && uintptr(next) < uintptr(p)+3<<20 {
		t.Error("grew over a live block")
	}
	if !intact(q, 64<<10-64, 1) {
		t.Error("a move lost contents")
	}
	hakmem.Free(next)
	hakmem.Free(q)
}
