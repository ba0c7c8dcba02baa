package hakmem_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/asan"
	"github.com/hakmem/hakmem/internal/heap"
	"github.com/hakmem/hakmem/internal/sizeclass"
	"github.com/hakmem/hakmem/internal/testkit"
)

// What the tests of this directory share: patterns that tell whose block it is,
// panics as values, and sizes that matter.

// fill writes a pattern that depends on key over the n bytes at p.
//
// It and its kin are norace: hakmem's memory is outside what the race detector
// watches, so that instrumenting these loops would cost time and find nothing.
//
//go:norace
func fill(p unsafe.Pointer, n uintptr, key uint64) {
	words := unsafe.Slice((*uint64)(p), n/8)
	for i := range words {
		words[i] = key + uint64(i)*0x9E3779B97F4A7C15
	}
	tail := unsafe.Slice((*byte)(p), n)[n&^7:]
	for i := range tail {
		tail[i] = byte(key>>8) + byte(i)
	}
}

// intact reports whether fill's pattern is still there.
//
//go:norace
func intact(p unsafe.Pointer, n uintptr, key uint64) bool {
	for i, w := range unsafe.Slice((*uint64)(p), n/8) {
		if w != key+uint64(i)*0x9E3779B97F4A7C15 {
			return false
		}
	}
	for i, b := range unsafe.Slice((*byte)(p), n)[n&^7:] {
		if b != byte(key>>8)+byte(i) {
			return false
		}
	}
	return true
}

// isZero reports whether the n bytes at p are zero.
//
//go:norace
func isZero(p unsafe.Pointer, n uintptr) bool {
	for _, b := range unsafe.Slice((*byte)(p), n) {
		if b != 0 {
			return false
		}
	}
	return true
}

// block is one allocation in a test's own books.
type block struct {
	p    unsafe.Pointer
	size uintptr // bytes asked for, all of them filled with key
	key  uint64
}

func (b block) String() string { return fmt.Sprintf("block %p of %d bytes", b.p, b.size) }

// newBlock allocates through malloc and fills the block.
func newBlock(t testing.TB, malloc func(uintptr) unsafe.Pointer, size uintptr, key uint64) block {
	t.Helper()
	p := malloc(size)
	if p == nil {
		t.Fatalf("no block of %d bytes: %v", size, hakmem.Err())
	}
	fill(p, size, key)
	return block{p, size, key}
}

func (b block) check(t testing.TB) {
	t.Helper()
	if !intact(b.p, b.size, b.key) {
		t.Fatalf("%v: its contents were changed", b)
	}
}

// overlapping returns two of the blocks that share memory, or ok = false. Size-0
// blocks count as one byte: they are unique.
func overlapping(blocks []block) (a, b block, ok bool) {
	s := slices.Clone(blocks)
	slices.SortFunc(s, func(a, b block) int {
		switch {
		case uintptr(a.p) < uintptr(b.p):
			return -1
		case uintptr(a.p) > uintptr(b.p):
			return 1
		}
		return 0
	})
	for i := 1; i < len(s); i++ {
		if uintptr(s[i-1].p)+max(s[i-1].size, 1) > uintptr(s[i].p) {
			return s[i-1], s[i], true
		}
	}
	return block{}, block{}, false
}

func mustNotOverlap(t testing.TB, blocks []block) {
	t.Helper()
	if a, b, bad := overlapping(blocks); bad {
		t.Fatalf("%v overlaps %v", a, b)
	}
}

// classSizes skips a test which takes a block's usable bytes for those of a size
// class, or counts what its front does, in programs built with -asan.
func classSizes(t testing.TB) {
	t.Helper()
	if asan.On {
		t.Skip("skipped: -asan; each block is hardened: it ends with the bytes asked for, is 16 larger, and waits in the quarantine")
	}
}

// misuseOf calls do and returns the *MisuseError it panicked with, or nil and
// what happened instead.
func misuseOf(do func()) (*hakmem.MisuseError, string) {
	return testkit.PanicAs[*hakmem.MisuseError](do)
}

// mustRunOut calls do and wants a panic with *OutOfMemoryError.
func mustRunOut(t testing.TB, what string, do func()) *hakmem.OutOfMemoryError {
	t.Helper()
	v := testkit.PanicOf(do)
	var oom *hakmem.OutOfMemoryError
	if err, ok := v.(error); !ok || !errors.As(err, &oom) {
		t.Errorf("%s: panic value %v (%T), want *OutOfMemoryError", what, v, v)
		return &hakmem.OutOfMemoryError{}
	}
	return oom
}

// mustPanicNaming calls do and wants a panic whose text has all of the words.
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

func readStats() (s hakmem.Stats) {
	hakmem.ReadStats(&s)
	return s
}

// stopped is a clock for the scavenger at which nothing ever happens.
type stopped struct{}

func (stopped) Now() time.Duration              { return 0 }
func (stopped) AfterFunc(time.Duration, func()) {}

// quiet keeps the scavenger from changing what the test looks at.
func quiet(t testing.TB) {
	heap.SetClock(stopped{})
	t.Cleanup(func() { heap.SetClock(nil) })
}

// statsDiff tells in which fields two pictures differ, "" when in none. Page
// faults are left out: the tests themselves touch memory.
func statsDiff(a, b *hakmem.Stats) string {
	var d []string
	x, y := reflect.ValueOf(*a), reflect.ValueOf(*b)
	for i := range x.NumField() {
		name, u, v := x.Type().Field(i).Name, x.Field(i).Interface(), y.Field(i).Interface()
		if reflect.DeepEqual(u, v) || name == "Faults" {
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

// newRand returns a generator whose seed the test's log shows.
func newRand(t testing.TB, seed uint64) *rand.Rand {
	t.Helper()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, seed^0x5DEECE66D))
}

// boundarySizes returns the sizes around every class boundary, tiny, mid and
// span, up to most bytes, ascending.
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

// kindSizes has a size of every kind of block that the engine knows.
var kindSizes = []struct {
	kind string
	size uintptr
}{
	{"least tiny", 1},
	{"tiny 48", 48}, // 64 KiB is no multiple of 48: its slabs have a tail
	{"tiny 128", 128},
	{"tiny 720", 720},
	{"largest tiny", 1024},
	{"mid of 1 page", 1025},
	{"mid of 2 pages", 3000},
	{"mid of 4 pages", 7000},
	{"mid of 8 pages", 14000},
	{"largest mid", 32 << 10},
	{"span of 1 page", 40000},
	{"span of several pages", 200_000},
	{"span of a superslab", 2 << 20},
	{"big span", 3 << 20},
}

// absurd is a size that no region has.
const absurd = uintptr(1) << 60

// wild is unsafe.Add without the checks that -race puts on it: for pointers that
// are wrong on purpose.
//
//go:nocheckptr
func wild[I int | uint | uintptr | int64 | uint64](p unsafe.Pointer, n I) unsafe.Pointer {
	return unsafe.Add(p, n)
}
