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

// Tests of Arenas: what they hand out, reuse and keep, and what they refuse after Close.

func TestArena(t *testing.T) {
	base := workout.ReadStats()
	a := hakmem.NewArena()
	first := map[uintptr]bool{}
	for round := range 4 {
		var blocks []workout.Block
		i := uint64(0)
		for align := uintptr(1); align <= 64<<10; align *= 2 {
			for _, n := range []uintptr{0, 1, 3, 16, 100, 1000, 5000, 70_000, 150_000} {
				i++
				p := a.Alloc(n, align)
				if p == nil || uintptr(p)%align != 0 {
					t.Fatalf("Arena.Alloc(%d, %d) = %p", n, align, p)
				}
				if n == 0 {
					continue // its address need not be unique
				}
				testkit.Fill(p, n, i)
				blocks = append(blocks, workout.Block{P: p, Size: n, Key: i})
				if round == 0 {
					first[uintptr(p)>>21] = true
				}
			}
		}
		workout.MustNotOverlap(t, blocks)
		for _, b := range blocks {
			b.Check(t)
		}
		live := workout.ReadStats().Live
		a.Reset()
		if now := workout.ReadStats().Live; now != live {
			t.Errorf("Reset changed the live bytes from %d to %d: it keeps the memory", live, now)
		}
		// In later rounds the same work fits into the memory that Reset kept.
		if round > 0 {
			for _, b := range blocks {
				if !first[uintptr(b.P)>>21] {
					t.Errorf("round %d: %v is in memory that round 0 did not have", round, b)
				}
			}
		}
	}

	big := a.Alloc(5<<20, 4096) // larger than any ordinary chunk
	testkit.Fill(big, 5<<20, 1)
	x := hakmem.NewIn[plainStruct](a)
	if *x != (plainStruct{}) {
		t.Error("NewIn is not zero")
	}
	s := hakmem.MakeSliceIn[uint64](a, 3, 1000)
	if len(s) != 3 || cap(s) != 1000 || !testkit.IsZero(unsafe.Pointer(unsafe.SliceData(s)), 8000) {
		t.Errorf("MakeSliceIn: len %d, cap %d, or not zero", len(s), cap(s))
	}
	if !testkit.Intact(big, 5<<20, 1) {
		t.Error("NewIn or MakeSliceIn wrote into another block")
	}
	testkit.Fill(unsafe.Pointer(unsafe.SliceData(s)), 8000, 1)
	a.Reset()
	testkit.Fill(a.Alloc(60_000, 1), 60_000, math.MaxUint64) // dirty the memory that the next allocation gets
	a.Reset()
	if y := hakmem.NewIn[plainStruct](a); *y != (plainStruct{}) {
		t.Error("NewIn is not zero in memory used before")
	}
	if s := hakmem.MakeSliceIn[uint32](a, 500, 500); !testkit.IsZero(unsafe.Pointer(unsafe.SliceData(s)), 2000) {
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
	testkit.Fill(a.Alloc(100, 1), 100, 1) // the Arena still works

	a.Close()
	if now := workout.ReadStats(); now.Live != base.Live || now.LiveBlocks != base.LiveBlocks {
		t.Errorf("after Close: live %d bytes in %d blocks, before %d in %d", now.Live, now.LiveBlocks, base.Live, base.LiveBlocks)
	}
	for op, do := range map[string]func(){
		"Arena.Alloc": func() { a.Alloc(1, 1) },
		"Arena.Reset": a.Reset,
		"Arena.Close": a.Close,
	} {
		mustBeClosed(t, op, "closed arena", do)
	}
	if m, instead := workout.MisuseOf(func() { hakmem.NewIn[int](a) }); m == nil {
		t.Errorf("NewIn after Close: %s", instead)
	}
	if m, instead := workout.MisuseOf(func() { hakmem.MakeSliceIn[int](a, 0, 0) }); m == nil {
		t.Errorf("MakeSliceIn after Close: %s", instead)
	}
	hakmem.NewArena().Close() // an Arena that never held memory
}

// TestZeroArena checks that an Arena variable needs no NewArena, whichever function is called
// first.
func TestZeroArena(t *testing.T) {
	for name, first := range map[string]func(*hakmem.Arena){
		"Alloc": func(a *hakmem.Arena) { *(*byte)(a.Alloc(100, 8)) = 1 },
		"NewIn": func(a *hakmem.Arena) { *hakmem.NewIn[int](a) = 1 },
		"Reset": func(a *hakmem.Arena) { a.Reset() },
		"Close": func(*hakmem.Arena) {},
	} {
		before := workout.ReadStats()
		var a hakmem.Arena
		first(&a)
		if name != "Close" {
			p := a.Alloc(100_000, 64)
			testkit.Fill(p, 100_000, 7)
			if !testkit.Intact(p, 100_000, 7) {
				t.Errorf("%s first: the memory does not hold what was written", name)
			}
		}
		a.Close()
		if m, instead := workout.MisuseOf(func() { a.Alloc(1, 1) }); m == nil || m.Kind != "closed arena" {
			t.Errorf("%s first: after Close: %s %v", name, instead, m)
		}
		if after := workout.ReadStats(); after.Live != before.Live {
			t.Errorf("%s first: %d bytes are left", name, after.Live-before.Live)
		}
	}
}

// TestArenaKeepsWhatItNeeds checks that an Arena holds at most a few times the most memory it had
// in use, even if its use grows or an allocation was refused.
func TestArenaKeepsWhatItNeeds(t *testing.T) {
	a := hakmem.NewArena()
	defer a.Close()
	base := workout.ReadStats().Live
	for k := uintptr(1); k <= 60; k++ {
		a.Alloc(100, 1)
		a.Alloc(k<<20, 1)
		a.Alloc(100_000, 1)
		a.Reset()
	}
	if held := workout.ReadStats().Live - base; held > 2*60<<20 {
		t.Errorf("the Arena holds %d bytes, and never had more than 61 MiB in use", held)
	}
	held := workout.ReadStats().Live
	for range 3 {
		a.Alloc(60<<20, 1)
		mustRunOut(t, "Arena.Alloc", func() { a.Alloc(1<<45, 1) })
		for range 100 {
			a.Alloc(2000, 1)
		}
		a.Reset()
	}
	if now := workout.ReadStats().Live; now > held+4<<20 {
		t.Errorf("the same work again after a refusal: %d bytes, %d before", now, held)
	}
}
