package hakmem_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/engine"
	"github.com/hakmem/hakmem/internal/testkit"
	"github.com/hakmem/hakmem/internal/testkit/workout"
)

// Tests of Append, Grow and Clip. The model of the proof compares them with Go's own slices, too, among other
// calls.

func TestSlices(t *testing.T) {
	eachWay(t, "slices")
}

var _ = testkit.Child("slices", growSlices)

func growSlices(string) error {
	site := hakmem.RegisterSite("slices")
	if err := growLike(site, func(r *rand.Rand) uint64 { return r.Uint64() }); err != nil {
		return fmt.Errorf("uint64: %w", err)
	}
	if err := growLike(site, func(r *rand.Rand) byte { return byte(r.Uint32()) }); err != nil {
		return fmt.Errorf("byte: %w", err)
	}
	if err := growLike(site, func(r *rand.Rand) (x [7]byte) { x[r.IntN(7)] = byte(r.Uint32()); return x }); err != nil {
		return fmt.Errorf("[7]byte: %w", err)
	}
	if err := growLike(site, func(r *rand.Rand) (x [5000]uint32) { x[r.IntN(5000)] = r.Uint32(); return x }); err != nil {
		return fmt.Errorf("[5000]uint32: %w", err)
	}
	if err := growLike(site, func(*rand.Rand) struct{} { return struct{}{} }); err != nil {
		return fmt.Errorf("struct{}: %w", err)
	}
	return nothingLeft()
}

// growLike does the same things with a slice of hakmem's and one of Go's, and compares them after each.
func growLike[T comparable](site hakmem.Site, value func(*rand.Rand) T) error {
	r := rand.New(rand.NewPCG(4, uint64(unsafe.Sizeof(*new(T)))))
	limit := 1 << 20 / int(max(unsafe.Sizeof(*new(T)), 8))
	rounds := 4
	if detected {
		rounds, limit = 1, limit/4
	}
	for range rounds {
		var s, model []T
		if r.IntN(2) == 0 {
			s, model = hakmem.MakeSliceAt[T](site, 2, 5), make([]T, 2, 5)
		}
		for step := range 40 {
			what, held := "", cap(s)
			switch r.IntN(8) {
			case 0, 1, 2:
				n := r.IntN(1 + limit>>r.IntN(16))
				v := make([]T, n)
				for i := range v {
					v[i] = value(r)
				}
				what = fmt.Sprintf("Append of %d", n)
				s, model = hakmem.Append(s, v...), append(model, v...)
			case 3: // a part of itself
				if i := r.IntN(len(s) + 1); len(s)-i < limit {
					what = fmt.Sprintf("Append of itself from %d on", i)
					s, model = hakmem.Append(s, s[i:]...), append(model, model[i:]...)
				}
			case 4:
				n := r.IntN(1 + limit>>r.IntN(16))
				what = fmt.Sprintf("Grow by %d", n)
				s = hakmem.Grow(s, n)
				if cap(s)-len(s) < n {
					return fmt.Errorf("step %d, %s: room for %d", step, what, cap(s)-len(s))
				}
				for _, x := range s[len(s):cap(s)][min(max(held-len(s), 0), cap(s)-len(s)):] {
					if x != *new(T) {
						return fmt.Errorf("step %d, %s: an element behind the old capacity of %d is not zero", step, what, held)
					}
				}
			case 5:
				what = "Clip"
				if s = hakmem.Clip(s); cap(s) != len(s) {
					return fmt.Errorf("step %d: Clip: length %d, capacity %d", step, len(s), cap(s))
				}
			case 6:
				n := r.IntN(len(s) + 1)
				what = fmt.Sprintf("shorten to %d", n)
				if s, model = s[:n], model[:n]; r.IntN(3) == 0 { // less capacity than the block has room for
					what += ", capacity too"
					s = slices.Clip(s)
				}
			case 7: // what is behind the length may be anything
				for i := range s[len(s):cap(s)] {
					s[:cap(s)][len(s)+i] = value(r)
				}
				what = "write behind the length"
			}
			if len(s) > limit {
				s, model = s[:limit/2], model[:limit/2]
			}
			if !slices.Equal(s, model) {
				return fmt.Errorf("step %d, %s: %d elements are not those of Go's slice", step, what, len(s))
			}
			if p := unsafe.Pointer(unsafe.SliceData(s)); p != nil && (!hakmem.Owns(p) || hakmem.UsableSize(p) < uintptr(cap(s))*unsafe.Sizeof(*new(T))) {
				return fmt.Errorf("step %d, %s: capacity %d at %p: %s", step, what, cap(s), p, hakmem.ExplainAddress(uintptr(p)))
			}
		}
		hakmem.FreeSlice(s)
	}
	return nil
}

// TestAppendGrowsByFactors: a slice that grows by one element moves, or grows, so seldom that each element is
// copied a few times.
func TestAppendGrowsByFactors(t *testing.T) {
	var s []uint32
	moved, changes := 0, 0
	const n = 200_000
	for i := range uint32(n) {
		was := cap(s)
		if s = hakmem.Append(s, i); cap(s) != was {
			moved += len(s)
			changes++
		}
	}
	if moved > 8*n || changes > 60 {
		t.Errorf("%d elements: the capacity changed %d times, over %d elements in all", n, changes, moved)
	}
	for i, x := range s {
		if x != uint32(i) {
			t.Fatalf("element %d is %d", i, x)
		}
	}
	hakmem.FreeSlice(s)
}

// TestAppendToRoomOfTheBlock: a slice with less capacity than its block has room for stays in place, and what the
// block held is not in the new elements.
func TestAppendToRoomOfTheBlock(t *testing.T) {
	classSizes(t)
	s := hakmem.MakeSlice[byte](100, 112)
	testkit.Fill(unsafe.Pointer(unsafe.SliceData(s)), 112, math.MaxUint64)
	p := unsafe.SliceData(s)
	s = hakmem.Append(s[:10:10], 7)
	if unsafe.SliceData(s) != p || cap(s) != 112 || s[10] != 7 || !testkit.IsZero(unsafe.Pointer(&s[:112][11]), 101) {
		t.Errorf("at %p, was %p, capacity %d: %v", unsafe.SliceData(s), p, cap(s), s[:112])
	}
	hakmem.FreeSlice(s)
}

func TestAppendKeepsTheSite(t *testing.T) {
	site := hakmem.RegisterSite("TestAppendKeepsTheSite")
	s := hakmem.MakeSliceAt[int](site, 0, 1)
	for i := range 100_000 {
		s = hakmem.Append(s, i)
	}
	for b := range hakmem.LiveBlocks() {
		if b.Pointer() == unsafe.Pointer(unsafe.SliceData(s)) && b.Site != site {
			t.Errorf("the block has site %d, want %d", b.Site, site)
		}
	}
	hakmem.FreeSlice(s)
}

func TestAppendMisuse(t *testing.T) {
	var onStack [4]byte
	a := hakmem.NewArena()
	defer a.Close()
	b := hakmem.MakeSlice[byte](50, 100)
	gone := hakmem.MakeSlice[byte](10, 10_000)
	hakmem.FreeSlice(gone)
	smaller := hakmem.Malloc(200)
	for what, c := range map[string]struct {
		s    []byte
		kind string
	}{
		"Go's heap":            {make([]byte, 2, 10), foreign},
		"the stack":            {onStack[:2], foreign},
		"the middle":           {b[16:], interior},
		"the middle, odd":      {b[1:], unalign},
		"an Arena":             {hakmem.MakeSliceIn[byte](a, 1, 10), arena},
		"freed":                {gone, "use after free"},
		"of a block now small": {unsafe.Slice((*byte)(smaller), 300), "use after free"},
	} {
		for op, call := range map[string]func(){
			"Append": func() { hakmem.Append(c.s, 1) },
			"Grow":   func() { hakmem.Grow(c.s, 200) },
			"Clip":   func() { hakmem.Clip(c.s) },
		} {
			m, instead := workout.MisuseOf(call)
			if m == nil || m.Op != op || m.Kind != c.kind && m.Kind != never || m.Addr != uintptr(unsafe.Pointer(unsafe.SliceData(c.s))) {
				t.Errorf("%s of a slice %s: %s %+v, want %q", op, what, instead, m, c.kind)
			}
		}
	}
	hakmem.Free(smaller)
	for _, n := range []int{-1, math.MinInt} {
		mustPanicNaming(t, "Grow by a negative number", func() { hakmem.Grow(b, n) }, "Grow", fmt.Sprint(n))
	}
	mustPanicNaming(t, "Append of strings", func() { hakmem.Append(nil, "") }, "string")
	mustPanicNaming(t, "Grow of strings", func() { hakmem.Grow[string](nil, 1) }, "string")
	wide := hakmem.MakeSlice[int64](5, 5)
	for _, n := range []int{math.MaxInt, math.MaxInt - 4, math.MaxInt / 8, 1 << 57} {
		mustRunOut(t, "Grow", func() { hakmem.Grow(wide, n) })
		mustRunOut(t, "Grow", func() { hakmem.Grow([]int64(nil), n) })
	}
	if len(wide) != 5 || hakmem.UsableSize(unsafe.Pointer(&wide[0])) < 40 {
		t.Error("a Grow that fails changed the slice")
	}
	none := hakmem.MakeSlice[struct{}](3, 3)
	none = hakmem.Append(hakmem.Grow(none, math.MaxInt-3), struct{}{})
	if len(none) != 4 || cap(none) != math.MaxInt {
		t.Errorf("elements without bytes: length %d, capacity %d", len(none), cap(none))
	}
	hakmem.FreeSlice(none)
	hakmem.FreeSlice(wide)
	hakmem.FreeSlice(b)
	if s := hakmem.Append([]int(nil)); s != nil {
		t.Error("Append of nothing to nil made a slice")
	}
	if s := hakmem.Grow([]int(nil), 0); s != nil {
		t.Error("Grow of nil by 0 made a slice")
	}
	if s := hakmem.Clip([]int(nil)); s != nil {
		t.Error("Clip of nil made a slice")
	}
}

// TestAppendAtTheLimit: where memory for twice as much is not left, Append takes what is needed, and fails only
// when that is not there, with the slice as it was.
func TestAppendAtTheLimit(t *testing.T) {
	testkit.InChild(t, "append at the limit", "")
}

var _ = testkit.Child("append at the limit", appendAtTheLimit)

func appendAtTheLimit(string) error {
	if err := hakmem.SetMemoryLimit(0, 24<<20); err != nil {
		return err
	}
	engine.SetClock(testkit.Stopped{})
	var s []byte
	piece := make([]byte, 256<<10)
	for i := range piece {
		piece[i] = byte(i)
	}
	for {
		v := testkit.PanicOf(func() { s = hakmem.Append(s, piece...) })
		if v == nil {
			continue
		}
		if _, ok := v.(*hakmem.OutOfMemoryError); !ok {
			return fmt.Errorf("after %d bytes: %v", len(s), v)
		}
		break
	}
	if len(s) < 8<<20 || hakmem.Counted() > 24<<20 {
		return fmt.Errorf("%d bytes with a limit of 24 MiB, %d counted", len(s), hakmem.Counted())
	}
	for i, x := range s {
		if x != byte(i) {
			return fmt.Errorf("byte %d is %d", i, x)
		}
	}
	if n := workout.ReadStats().OutOfMemory; n != 1 {
		return fmt.Errorf("%d allocations failed, want the one that was reported", n)
	}
	hakmem.FreeSlice(s)
	return nil
}
