package hakmemarrow_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"unsafe"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/hakmem/hakmem"
	hakmemarrow "github.com/hakmem/hakmem/adapters/arrow"
	"github.com/hakmem/hakmem/hakmemtest"
)

var _ memory.Allocator = (*hakmemarrow.Allocator)(nil)

var site = hakmem.RegisterSite("arrow")

// variants are the allocators that the tests try.
var variants = map[string]hakmemarrow.Options{
	"plain":        {},
	"site":         {Site: site},
	"pages":        {Align: 4096},
	"site, pages":  {Site: site, Align: 4096},
	"huge pages":   {Align: 2 << 20},
	"with foreign": {IgnoreForeign: true},
}

// each runs a test with every variant, and looks for leaks.
func each(t *testing.T, f func(t *testing.T, o hakmemarrow.Options, a *hakmemarrow.Allocator)) {
	for name, o := range variants {
		t.Run(name, func(t *testing.T) {
			hakmemtest.NoLeaks(t)
			a := hakmemarrow.New(o)
			f(t, o, a)
			a.AssertSize(t, 0)
		})
	}
}

func addressOf(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }

// holds fails unless b is of a length, aligned, and has a value in every byte.
func holds(t *testing.T, o hakmemarrow.Options, b []byte, size int, value byte) {
	t.Helper()
	if len(b) != size || cap(b) != size || b == nil {
		t.Fatalf("len %d, cap %d, nil: %t, want %d bytes", len(b), cap(b), b == nil, size)
	}
	if align := uintptr(max(o.Align, 64)); size > 0 && addressOf(b)%align != 0 {
		t.Fatalf("%d bytes at %#x, want a multiple of %d", size, addressOf(b), align)
	}
	if i := slices.IndexFunc(b, func(x byte) bool { return x != value }); i >= 0 {
		t.Fatalf("byte %d of %d is %d, want %d", i, size, b[i], value)
	}
}

func fill(b []byte, value byte) {
	for i := range b {
		b[i] = value
	}
}

// sizes are around the boundaries of alignment, of classes, of pages and of large and huge blocks.
var sizes = []int{0, 1, 4, 33, 63, 64, 65, 80, 127, 129, 192, 320, 1000, 1088, 4095, 4096, 4097, 8193, 20000, 32 << 10, 32<<10 + 1, 64 << 10, 100_000, 1 << 20, 2<<20 + 1}

// TestAllocate: slices are aligned and zeroed, also where memory is used again.
func TestAllocate(t *testing.T) {
	each(t, func(t *testing.T, o hakmemarrow.Options, a *hakmemarrow.Allocator) {
		for range 3 {
			for _, size := range sizes {
				if size > 4096 && o.Align > 4096 { // as many bytes for one size as for another
					continue
				}
				b := a.Allocate(size)
				holds(t, o, b, size, 0)
				a.AssertSize(t, size)
				fill(b, 0xAA)
				a.Free(b[:size/2])
			}
		}
	})
}

// TestReallocate: contents stay, the new tail is zeroed, the result is aligned.
func TestReallocate(t *testing.T) {
	each(t, func(t *testing.T, o hakmemarrow.Options, a *hakmemarrow.Allocator) {
		sizes := sizes
		switch {
		case o.Align > 4096: // every block is 2 MiB
			sizes = []int{0, 1, 5000}
		case testing.Short():
			sizes = sizes[:slices.Index(sizes, 1<<20)]
		}
		for _, before := range sizes {
			for _, after := range sizes {
				b := a.Allocate(before)
				fill(b, 7)
				b = a.Reallocate(after, b)
				a.AssertSize(t, after)
				both := min(before, after)
				holds(t, o, b[:both:both], both, 7)
				if addressOf(b)%uintptr(max(o.Align, 64)) != 0 && after > 0 {
					t.Fatalf("%d → %d bytes: at %#x", before, after, addressOf(b))
				}
				if i := slices.IndexFunc(b[both:], func(x byte) bool { return x != 0 }); i >= 0 || len(b) != after || cap(b) != after {
					t.Fatalf("%d → %d bytes: byte %d of the tail is not 0; len %d, cap %d", before, after, i, len(b), cap(b))
				}
				a.Free(b)
			}
		}
	})
}

// TestShrinkAndGrow: what a shrunk slice had is not seen when it grows again.
func TestShrinkAndGrow(t *testing.T) {
	each(t, func(t *testing.T, o hakmemarrow.Options, a *hakmemarrow.Allocator) {
		b := a.Allocate(200)
		fill(b, 9)
		b = a.Reallocate(200, a.Reallocate(10, b))
		holds(t, o, b[:10:10], 10, 9)
		if i := slices.IndexFunc(b[10:], func(x byte) bool { return x != 0 }); i >= 0 {
			t.Errorf("byte %d of the tail is %d, want 0", i, b[10+i])
		}
		// Of a slice cut short, what is beyond its length is not kept when it grows.
		fill(b, 9)
		b = a.Reallocate(300, b[:20])
		if i := slices.IndexFunc(b[20:], func(x byte) bool { return x != 0 }); i >= 0 || b[19] != 9 {
			t.Errorf("byte %d after the old length is not 0, or the last one before it is %d", i, b[19])
		}
		b = a.Reallocate(0, b)
		holds(t, o, b, 0, 0)
		a.Free(b)
		a.Free(nil)
		holds(t, o, a.Reallocate(0, nil), 0, 0)
	})
}

// TestModes runs the tests above with the settings under which blocks lie elsewhere.
func TestModes(t *testing.T) {
	if os.Getenv("HAKMEM_HARDEN") != "" || os.Getenv("HAKMEM_GUARD") != "" {
		t.Skip("skipped: the settings of this process are such settings already")
	}
	for _, setting := range []string{"HAKMEM_HARDEN=1", "HAKMEM_GUARD=1", "HAKMEM_FAST_SECTION=0"} {
		c := exec.Command(os.Args[0], "-test.short", "-test.run=^(TestAllocate|TestReallocate|TestShrinkAndGrow|TestForeign)$")
		c.Env = append(os.Environ(), setting)
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", setting, err, out)
		}
	}
}

// panicOf returns what f panics with.
func panicOf(f func()) (v any) {
	defer func() { v = recover() }()
	f()
	return nil
}

// TestForeign: slices of the Go heap are refused, or left alone where the options say so; misuse of hakmem's own
// is found in both cases.
func TestForeign(t *testing.T) {
	hakmemtest.NoLeaks(t)
	strict, mild := hakmemarrow.New(hakmemarrow.Options{}), hakmemarrow.New(hakmemarrow.Options{IgnoreForeign: true})
	whole := make([]byte, 1000)
	for at, ours := range map[string][]byte{"a block": whole, "unaligned": whole[1:], "a constant's": unsafe.Slice(unsafe.StringData("constant"), 8)} {
		for op, f := range map[string]func(){
			"Free":       func() { strict.Free(ours) },
			"Reallocate": func() { strict.Reallocate(2000, ours) },
		} {
			var e *hakmemarrow.ForeignError
			if err, ok := panicOf(f).(error); !ok || !errors.As(err, &e) || e.Op != op || e.Addr != addressOf(ours) || e.Cap != cap(ours) {
				t.Errorf("%s of %s: panic %v", op, at, err)
			}
		}
		mild.Free(ours)
	}
	fill(whole, 5)
	if b := mild.Reallocate(500, whole); addressOf(b) != addressOf(whole) || len(b) != 500 {
		t.Errorf("a foreign slice that is long enough moved: len %d", len(b))
	}
	b := mild.Reallocate(2000, whole)
	holds(t, hakmemarrow.Options{}, b[:1000:1000], 1000, 5)
	mild.AssertSize(t, 2000)
	mild.Free(b)
	for _, a := range []*hakmemarrow.Allocator{strict, mild} {
		b := a.Allocate(1000)
		var e *hakmem.MisuseError
		if err, ok := panicOf(func() { a.Free(b[64:]) }).(error); !ok || !errors.As(err, &e) || e.Kind != "interior pointer" {
			t.Errorf("Free of a slice's middle: %v", err)
		}
		a.Free(b)
		if err, ok := panicOf(func() { a.Free(b) }).(error); !ok || !errors.As(err, &e) {
			t.Errorf("second Free: %v", err)
		}
		a.AssertSize(t, 0)
	}
}

// TestRefused: sizes and options that cannot be, and memory that is not there.
func TestRefused(t *testing.T) {
	a := hakmemarrow.New(hakmemarrow.Options{})
	for name, f := range map[string]func(){
		"Allocate":         func() { a.Allocate(-1) },
		"Reallocate":       func() { a.Reallocate(-1, nil) },
		"align 32":         func() { hakmemarrow.New(hakmemarrow.Options{Align: 32}) },
		"align 96":         func() { hakmemarrow.New(hakmemarrow.Options{Align: 96}) },
		"align -64":        func() { hakmemarrow.New(hakmemarrow.Options{Align: -64}) },
		"align 4 MiB":      func() { hakmemarrow.New(hakmemarrow.Options{Align: 4 << 20}) },
		"site not there":   func() { hakmemarrow.New(hakmemarrow.Options{Site: 1 << 15}) },
		"more than memory": func() { a.Allocate(1 << 60) },
	} {
		if panicOf(f) == nil {
			t.Errorf("%s: no panic", name)
		}
	}
	b := a.Allocate(100)
	var e *hakmem.OutOfMemoryError
	if err, ok := panicOf(func() { a.Reallocate(1<<60, b) }).(error); !ok || !errors.As(err, &e) || e.Size < 1<<60 {
		t.Errorf("Reallocate to 2^60: %v", err)
	}
	a.AssertSize(t, 100)
	a.Free(b)
}

// TestConcurrent: goroutines hand buffers to each other.
func TestConcurrent(t *testing.T) {
	each(t, func(t *testing.T, o hakmemarrow.Options, a *hakmemarrow.Allocator) {
		steps := 2000
		if o.Align > 4096 {
			steps = 50 // buffers of 2 MiB and more
		}
		handed := make(chan []byte, 8)
		var workers sync.WaitGroup
		for seed := range uint64(4) {
			workers.Go(func() {
				r := rand.New(rand.NewPCG(seed, 1))
				for range steps {
					b := a.Allocate(1 + r.IntN(5000))
					fill(b, byte(len(b)))
					select {
					case handed <- b:
					case got := <-handed:
						if got[0] != byte(len(got)) || got[len(got)-1] != byte(len(got)) {
							t.Errorf("a buffer of %d bytes has %d and %d at its ends", len(got), got[0], got[len(got)-1])
						}
						a.Free(a.Reallocate(1+r.IntN(5000), got))
						a.Free(b)
					}
				}
			})
		}
		workers.Wait()
		close(handed)
		for b := range handed {
			a.Free(b)
		}
	})
}

// TestArrays: Arrow's builders and arrays leave nothing behind, and a buffer that they leave is reported.
func TestArrays(t *testing.T) {
	each(t, func(t *testing.T, o hakmemarrow.Options, a *hakmemarrow.Allocator) {
		checked := memory.NewCheckedAllocator(a)
		defer checked.AssertSize(t, 0)
		b := array.NewStringBuilder(checked)
		defer b.Release()
		n := 20_000
		if testing.Short() {
			n = 2000
		}
		for i := range n {
			b.Append(fmt.Sprint("string ", i))
		}
		s := b.NewStringArray()
		defer s.Release()
		for i := range n {
			if got, want := s.Value(i), fmt.Sprint("string ", i); got != want {
				t.Fatalf("value %d is %q, want %q", i, got, want)
			}
		}
		for _, buffer := range s.Data().Buffers() {
			if buffer.Len() > 0 && addressOf(buffer.Bytes())%64 != 0 {
				t.Errorf("a buffer lies at %#x", addressOf(buffer.Bytes()))
			}
		}
	})
	a := hakmemarrow.New(hakmemarrow.Options{Site: site})
	left := array.NewInt64Builder(a)
	left.AppendValues([]int64{1, 2, 3}, nil)
	var told tester
	a.AssertSize(&told, 0)
	if told == 0 {
		t.Error("AssertSize does not report a builder that was not released")
	}
	var s hakmem.Stats
	hakmem.ReadStats(&s)
	if i := slices.IndexFunc(s.Sites, func(s hakmem.SiteStats) bool { return s.Name == "arrow" && s.LiveBlocks > 0 }); i < 0 {
		t.Errorf("the site has no live blocks: %+v", s.Sites)
	}
	left.Release()
	a.AssertSize(t, 0)
}

// tester counts the errors that it is given.
type tester int

func (e *tester) Errorf(string, ...any) { *e++ }
func (e *tester) Helper()               {}

// TestReallocateKeepsCapacity: as with Arrow's own allocator, bytes behind the length stay where the capacity is
// enough, and are zero where it is not.
func TestReallocateKeepsCapacity(t *testing.T) {
	for _, options := range []hakmemarrow.Options{{}, {Align: 4096}} {
		a := hakmemarrow.New(options)
		b := a.Allocate(1000)
		for i := range b {
			b[i] = 7
		}
		b = a.Reallocate(900, b[:100])
		if len(b) != 900 || b[99] != 7 || b[100] != 7 || b[899] != 7 {
			t.Errorf("align %d, within the capacity: length %d, bytes %v", options.Align, len(b), b[98:102])
		}
		b = a.Reallocate(5000, b[:100])
		if len(b) != 5000 || b[99] != 7 || b[100] != 0 || b[899] != 0 || b[4999] != 0 {
			t.Errorf("align %d, beyond the capacity: length %d, bytes %v", options.Align, len(b), b[98:102])
		}
		a.Free(b)
		a.AssertSize(t, 0)
	}
}
