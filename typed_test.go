package hakmem_test

import (
	"fmt"
	"math"
	"testing"
	"unsafe"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/testkit"
	"github.com/hakmem/hakmem/internal/testkit/workout"
)

// Tests of Alloc, New, MakeSlice and the other functions that put Go values into hakmem's memory.

func TestAllocBytes(t *testing.T) {
	for name, alloc := range map[string]func(int) []byte{"Alloc": hakmem.Alloc, "AllocZeroed": hakmem.AllocZeroed} {
		base := workout.ReadStats()
		for _, size := range boundarySizes(1 << 20) {
			// Dirty a block first, because AllocZeroed gets the same one.
			b := hakmem.Alloc(int(size))
			testkit.Fill(unsafe.Pointer(unsafe.SliceData(b)), size, math.MaxUint64)
			hakmem.FreeBytes(b)
			b = alloc(int(size))
			if b == nil || len(b) != int(size) || cap(b) != int(size) {
				t.Fatalf("%s(%d): nil %v, len %d, cap %d", name, size, b == nil, len(b), cap(b))
			}
			if name == "AllocZeroed" && !testkit.IsZero(unsafe.Pointer(unsafe.SliceData(b)), size) {
				t.Errorf("AllocZeroed(%d) is not zero", size)
			}
			hakmem.FreeBytes(b[:size/2]) // only the slice's start matters, not its length
		}
		if now := workout.ReadStats(); now.Live != base.Live {
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
		hakmem.FreeBytes(alloc(1000)) // the program goes on
	}
	hakmem.FreeBytes(nil)
	hakmem.Free(nil)
	if n := hakmem.UsableSize(nil); n != 0 {
		t.Errorf("UsableSize(nil) = %d", n)
	}
}

// Types with which the typed functions are tested.
type (
	plainStruct struct {
		A int32
		B [3]float64
		C struct{ X, Y uint8 }
		D [0]*int // has no elements, so it never holds a pointer
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
	before := workout.ReadStats()
	for range 2 { // the second time it comes from the cache and must be the same
		mustPanicNaming(t, "New of "+what, func() { newT() }, words...)
		mustPanicNaming(t, "MakeSlice of "+what, func() { makeT(0, 1) }, words...)
		mustPanicNaming(t, "NewIn of "+what, func() { newIn(a) }, words...)
		mustPanicNaming(t, "MakeSliceIn of "+what, func() { makeIn(a, 1, 1) }, words...)
	}
	if after := workout.ReadStats(); after.Live != before.Live {
		t.Errorf("%s: a refused type cost %d bytes", what, after.Live-before.Live)
	}
}

func TestNewAndDelete(t *testing.T) {
	base := workout.ReadStats()
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
	if now := workout.ReadStats(); now.Live != base.Live || now.LiveBlocks != base.LiveBlocks {
		t.Errorf("live %d bytes in %d blocks, before %d in %d", now.Live, now.LiveBlocks, base.Live, base.LiveBlocks)
	}
}

// accepted checks New, Delete, MakeSlice and FreeSlice for a type that may live in hakmem's memory.
func accepted[T any](t *testing.T) {
	t.Helper()
	size := unsafe.Sizeof(*new(T))
	seen := map[*T]bool{}
	for range 20 {
		p := hakmem.New[T]()
		if p == nil || seen[p] {
			t.Fatalf("New[%T] = %p: nil or not unique", *p, p)
		}
		if !testkit.IsZero(unsafe.Pointer(p), size) || uintptr(unsafe.Pointer(p))%16 != 0 {
			t.Errorf("New[%T] = %p: not zero or not aligned", *p, p)
		}
		testkit.Fill(unsafe.Pointer(p), size, math.MaxUint64) // dirty for the next round
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
		for range 2 { // the second slice gets the first one's dirty block
			s := hakmem.MakeSlice[T](c[0], c[1])
			if s == nil || len(s) != c[0] || cap(s) != c[1] {
				t.Fatalf("MakeSlice[%T](%d, %d): nil %v, len %d, cap %d", *new(T), c[0], c[1], s == nil, len(s), cap(s))
			}
			p := unsafe.Pointer(unsafe.SliceData(s))
			if !testkit.IsZero(p, size*uintptr(c[1])) {
				t.Errorf("MakeSlice[%T](%d, %d) is not zero", *new(T), c[0], c[1])
			}
			testkit.Fill(p, size*uintptr(c[1]), math.MaxUint64)
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
	// Any number of elements of size 0 fits.
	s := hakmem.MakeSlice[struct{}](math.MaxInt, math.MaxInt)
	hakmem.FreeSlice(s)
	hakmem.FreeSlice(hakmem.MakeSlice[int64](5, 10)) // the program goes on
	*hakmem.NewIn[int](a) = 1
}
