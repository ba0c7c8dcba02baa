package hakmem_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/asan"
	"github.com/hakmem/hakmem/internal/engine"
	"github.com/hakmem/hakmem/internal/sizeclass"
	"github.com/hakmem/hakmem/internal/testkit"
	"github.com/hakmem/hakmem/internal/testkit/workout"
)

// This file is what the tests of this package share. Cases that need a process of their own are
// registered with testkit.Child, next to the tests that run them.

func TestMain(m *testing.M) { testkit.Main(m) }

// newRand returns a generator with the given seed and writes the seed to the test's log.
func newRand(t testing.TB, seed uint64) *rand.Rand {
	t.Helper()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, seed^0x5DEECE66D))
}

// boundarySizes returns, in ascending order, the sizes around every boundary between size classes
// (tiny, mid and large) up to most bytes.
func boundarySizes(most uintptr) []uintptr {
	set := map[uintptr]bool{0: true, 1: true}
	around := func(n uintptr) {
		for _, s := range []uintptr{n - 1, n, n + 1} {
			if s <= most {
				set[s] = true
			}
		}
	}
	for _, c := range hakmem.SizeClasses() {
		around(uintptr(c))
	}
	for d := uintptr(sizeclass.MaxMid); d < most; d *= 2 {
		for i := range uintptr(8) {
			around(d + i*d/8)
		}
	}
	around(most)
	var sizes []uintptr
	for s := range set {
		sizes = append(sizes, s)
	}
	slices.Sort(sizes)
	return sizes
}

// absurd is a size in bytes that is larger than any region.
const absurd = uintptr(1) << 60

// quiet stops the scavenger's clock, so that it does not change what the test looks at.
func quiet(t testing.TB) {
	engine.SetClock(testkit.Stopped{})
	t.Cleanup(func() { engine.SetClock(nil) })
}

// statsDiff names the fields in which two results of ReadStats differ; "" means none. Page faults and
// resident memory are ignored, because the tests themselves touch memory. So is the budget of caches, which
// is of the Heaps that were used since they were harvested: a call that is refused uses one, too.
func statsDiff(a, b *hakmem.Stats) string {
	var d []string
	same := *b
	same.Resident, same.ResidentBy = a.Resident, a.ResidentBy
	x, y := reflect.ValueOf(*a), reflect.ValueOf(same)
	for i := range x.NumField() {
		name, u, v := x.Type().Field(i).Name, x.Field(i).Interface(), y.Field(i).Interface()
		if reflect.DeepEqual(u, v) || name == "PageFaults" || name == "Budget" {
			continue
		}
		if name == "Classes" && len(a.Classes) == len(b.Classes) {
			for j := range a.Classes {
				if a.Classes[j] != b.Classes[j] {
					d = append(d, fmt.Sprintf("Classes[%d]: %+v -> %+v", j, a.Classes[j], b.Classes[j]))
				}
			}
			continue
		}
		d = append(d, fmt.Sprintf("%s: %+v -> %+v", name, u, v))
	}
	return strings.Join(d, "; ")
}

// classSizes skips a test which takes a block's usable bytes for those of a size
// class, or counts what its front does, in programs built with -asan.
func classSizes(t testing.TB) {
	t.Helper()
	if asan.On {
		t.Skip("skipped: -asan; each block is hardened: it ends with the bytes asked for, is 16 larger, and waits in the quarantine")
	}
}

// mustRunOut calls do, which must panic with *OutOfMemoryError.
func mustRunOut(t testing.TB, what string, do func()) *hakmem.OutOfMemoryError {
	t.Helper()
	oom, instead := testkit.PanicAs[*hakmem.OutOfMemoryError](do)
	if oom == nil {
		t.Errorf("%s: %s, want *OutOfMemoryError", what, instead)
		return &hakmem.OutOfMemoryError{}
	}
	return oom
}

// mustPanicNaming calls do, which must panic with a text that contains all of the words.
func mustPanicNaming(t testing.TB, what string, do func(), words ...string) {
	t.Helper()
	v := testkit.PanicOf(do)
	if v == nil {
		t.Errorf("%s: no panic", what)
		return
	}
	text := fmt.Sprint(v)
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%s: panic %q does not name %q", what, text, w)
		}
	}
}

func mustBeClosed(t *testing.T, op, kind string, do func()) {
	t.Helper()
	m, instead := workout.MisuseOf(do)
	if m == nil {
		t.Errorf("%s after Close: %s, want *MisuseError", op, instead)
		return
	}
	if m.Op != op || m.Kind != kind || m.Late {
		t.Errorf("%s after Close: %+v, want Kind %q", op, *m, kind)
	}
}
