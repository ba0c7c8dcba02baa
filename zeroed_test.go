package hakmem_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"unsafe"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/testkit"
	"github.com/hakmem/hakmem/internal/testkit/workout"
)

// Tests of the functions that promise zeroes, except for Calloc itself: of memory that other blocks have filled.

func TestReallocZeroed(t *testing.T) {
	eachWay(t, "realloc zeroed")
}

var _ = testkit.Child("realloc zeroed", reallocZeroed)

// reallocZeroed resizes blocks of all kinds, in place and not, among other blocks that leave their bytes behind.
func reallocZeroed(string) error {
	r := rand.New(rand.NewPCG(5, 6))
	site := hakmem.RegisterSite("realloc zeroed")
	size := func() uintptr {
		switch r.IntN(4) {
		case 0:
			return uintptr(r.IntN(6 << 20))
		case 1:
			return 32<<10 + uintptr(r.IntN(2<<20))
		}
		return testkit.RandomSize(r)
	}
	litter := func() {
		p := hakmem.Malloc(size())
		testkit.Fill(p, hakmem.UsableSize(p), math.MaxUint64)
		hakmem.Free(p)
	}
	rounds := 12
	if detected {
		rounds = 4
	}
	for round := range rounds {
		var p unsafe.Pointer
		was := size()
		switch r.IntN(3) {
		case 0:
			p = hakmem.Malloc(was)
		case 1:
			p = hakmem.MallocAt(site, was)
		}
		for step := range 12 {
			litter()
			if r.IntN(4) == 0 {
				hakmem.Trim()
			}
			oldLen := uintptr(0)
			if p != nil {
				testkit.Fill(p, hakmem.UsableSize(p), math.MaxUint64)
				if oldLen = hakmem.UsableSize(p); r.IntN(2) == 0 {
					oldLen = uintptr(r.Uint64N(uint64(oldLen) + 1))
				}
				testkit.Fill(p, oldLen, uint64(step))
			}
			n := size()
			if r.IntN(3) == 0 { // a little larger: in place, perhaps
				n = oldLen + uintptr(r.IntN(300_000))
			}
			align, what, q := uintptr(1), "ReallocZeroed", unsafe.Pointer(nil)
			if r.IntN(3) == 0 {
				align, what = 1<<r.IntN(22), "AlignedReallocZeroed"
				q = hakmem.AlignedReallocZeroed(p, oldLen, n, align)
			} else {
				q = hakmem.ReallocZeroed(p, oldLen, n)
			}
			what = fmt.Sprintf("round %d, step %d: %s(%p, %d, %d) at a multiple of %d = %p", round, step, what, p, oldLen, n, align, q)
			switch keep := min(oldLen, n); {
			case q == nil || uintptr(q)%align != 0 || hakmem.UsableSize(q) < n:
				return fmt.Errorf("%s: no such block", what)
			case !testkit.Intact(q, keep&^7, uint64(step)):
				return fmt.Errorf("%s lost the contents", what)
			case !testkit.IsZero(unsafe.Add(q, keep), n-keep):
				return fmt.Errorf("%s: not all is zero behind byte %d", what, keep)
			}
			p = q
		}
		hakmem.Free(p)
	}
	return nothingLeft()
}

// TestZeroedAt: AlignedCalloc, CallocAt, MakeSliceAt and MakeSlice clear memory that was used before.
func TestZeroedAt(t *testing.T) {
	site := hakmem.RegisterSite("TestZeroedAt")
	for name, calloc := range map[string]func(n uintptr) unsafe.Pointer{
		"AlignedCalloc(1)":     func(n uintptr) unsafe.Pointer { return hakmem.AlignedCalloc(1, n) },
		"AlignedCalloc(64)":    func(n uintptr) unsafe.Pointer { return hakmem.AlignedCalloc(64, n) },
		"AlignedCalloc(2 MiB)": func(n uintptr) unsafe.Pointer { return hakmem.AlignedCalloc(2<<20, n) },
		"CallocAt":             func(n uintptr) unsafe.Pointer { return hakmem.CallocAt(site, 1, n) },
		"CallocAt(0)":          func(n uintptr) unsafe.Pointer { return hakmem.CallocAt(0, 1, n) },
		"MakeSliceAt": func(n uintptr) unsafe.Pointer {
			return unsafe.Pointer(unsafe.SliceData(hakmem.MakeSliceAt[byte](site, 0, int(n))))
		},
	} {
		for _, k := range workout.Kinds {
			for range 3 {
				p := hakmem.Malloc(k.Size)
				testkit.Fill(p, hakmem.UsableSize(p), math.MaxUint64)
				hakmem.Free(p)
				if p = calloc(k.Size); p == nil || !testkit.IsZero(p, k.Size) {
					t.Errorf("%s of %d bytes = %p is nil or not zero", name, k.Size, p)
				}
				testkit.Fill(p, k.Size, math.MaxUint64)
				hakmem.Free(p)
			}
		}
	}
	for _, c := range [][2]uintptr{{1 << 32, 1 << 32}, {math.MaxUint, 2}} {
		if p := hakmem.CallocAt(site, c[0], c[1]); p != nil {
			t.Errorf("CallocAt(%d, %d) = %p: the product overflows", c[0], c[1], p)
		}
	}
}

func TestReallocZeroedArguments(t *testing.T) {
	p := hakmem.Malloc(100)
	defer hakmem.Free(p)
	for _, oldLen := range []uintptr{hakmem.UsableSize(p) + 1, 1 << 40, math.MaxUint} {
		for _, n := range []uintptr{10, 1000, 1 << 20} {
			mustPanicNaming(t, "ReallocZeroed", func() { hakmem.ReallocZeroed(p, oldLen, n) }, "ReallocZeroed", fmt.Sprint(oldLen), fmt.Sprint(hakmem.UsableSize(p)))
			mustPanicNaming(t, "AlignedReallocZeroed", func() { hakmem.AlignedReallocZeroed(p, oldLen, n, 64) }, "AlignedReallocZeroed", fmt.Sprint(oldLen))
		}
	}
	q := hakmem.ReallocZeroed(nil, 1<<40, 50) // of no block nothing is kept
	if !testkit.IsZero(q, 50) {
		t.Error("ReallocZeroed of nil is not zero")
	}
	hakmem.Free(q)
	mustPanicNaming(t, "AlignedReallocZeroed", func() { hakmem.AlignedReallocZeroed(p, 0, 1, 48) }, "AlignedReallocZeroed", "48")
	mustPanicNaming(t, "AlignedCalloc", func() { hakmem.AlignedCalloc(0, 1) }, "AlignedCalloc", "0")
	mustPanicNaming(t, "AlignedAllocAt", func() { hakmem.AlignedAllocAt(0, 3, 1) }, "AlignedAllocAt", "3")
	for op, call := range map[string]func(hakmem.Site){
		"AlignedAllocAt": func(s hakmem.Site) { hakmem.AlignedAllocAt(s, 8, 1) },
		"CallocAt":       func(s hakmem.Site) { hakmem.CallocAt(s, 8, 1) },
		"AllocAt":        func(s hakmem.Site) { hakmem.AllocAt(s, 1) },
		"MakeSliceAt":    func(s hakmem.Site) { hakmem.MakeSliceAt[int](s, 1, 1) },
	} {
		mustPanicNaming(t, op, func() { call(1 << 31) }, "site 2147483648")
	}
	mustPanicNaming(t, "AllocAt", func() { hakmem.AllocAt(0, -1) }, "AllocAt", "-1")
	mustPanicNaming(t, "MakeSliceAt", func() { hakmem.MakeSliceAt[int](0, 2, 1) }, "MakeSliceAt", "2", "1")
	mustPanicNaming(t, "MakeSliceAt", func() { hakmem.MakeSliceAt[string](0, 1, 1) }, "string")
}

func TestPointerFree(t *testing.T) {
	for range 2 { // the second time it comes from the cache
		for what, err := range map[string]error{"int": hakmem.PointerFree[int](), "plainStruct": hakmem.PointerFree[plainStruct](), "[0]string": hakmem.PointerFree[[0]string]()} {
			if err != nil {
				t.Errorf("PointerFree of %s: %v", what, err)
			}
		}
		err := hakmem.PointerFree[nested]()
		if v := testkit.PanicOf(func() { hakmem.New[nested]() }); err == nil || v != err.Error() {
			t.Errorf("PointerFree: %v; New panics with %v", err, v)
		}
	}
}
