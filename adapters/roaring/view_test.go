package hakmemroaring_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/hakmem/hakmem"
	hakmemroaring "github.com/hakmem/hakmem/adapters/roaring"
	"github.com/hakmem/hakmem/hakmemtest"
)

var site = hakmem.RegisterSite("roaring")

// samples are bitmaps with containers of each kind: few values, many, and runs.
func samples() map[string]*roaring.Bitmap {
	r := rand.New(rand.NewPCG(1, 2))
	sparse, dense, runs := roaring.New(), roaring.New(), roaring.New()
	for range 3000 {
		sparse.Add(r.Uint32N(100 << 16))
	}
	for range 50_000 {
		dense.Add(r.Uint32N(3 << 16))
	}
	for i := range uint64(20) {
		runs.AddRange(i*100_000, i*100_000+r.Uint64N(90_000))
	}
	runs.RunOptimize()
	mixed := roaring.Or(dense, runs)
	mixed.Or(roaring.AddOffset(sparse, 1<<30))
	return map[string]*roaring.Bitmap{
		"empty": roaring.New(), "one": roaring.BitmapOf(7), "last": roaring.BitmapOf(1<<32 - 1),
		"sparse": sparse, "dense": dense, "runs": runs, "mixed": mixed,
	}
}

// ways are the ways to make a View of a bitmap.
var ways = map[string]func(*roaring.Bitmap) (*hakmemroaring.View, error){
	"Freeze": func(b *roaring.Bitmap) (*hakmemroaring.View, error) {
		return hakmemroaring.Freeze(b, hakmemroaring.Options{})
	},
	"Freeze at a site": func(b *roaring.Bitmap) (*hakmemroaring.View, error) {
		return hakmemroaring.Freeze(b, hakmemroaring.Options{Site: site})
	},
	"Load": func(b *roaring.Bitmap) (*hakmemroaring.View, error) {
		data, err := b.ToBytes()
		if err != nil {
			return nil, err
		}
		return hakmemroaring.Load(bytes.NewReader(data), len(data), hakmemroaring.Options{})
	},
}

func view(t *testing.T, way string, b *roaring.Bitmap) *hakmemroaring.View {
	t.Helper()
	v, err := ways[way](b)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestSame compares a View with the bitmap on the Go heap, in everything that reads.
func TestSame(t *testing.T) {
	hakmemtest.NoLeaks(t)
	all := samples()
	for way := range ways {
		for name, b := range all {
			v := view(t, way, b)
			got := v.Bitmap()
			runtime.GC() // what is not reachable goes
			if !got.Equals(b) || got.GetCardinality() != b.GetCardinality() || !slices.Equal(got.ToArray(), b.ToArray()) {
				t.Fatalf("%s, %s: %d values, want %d, or others", way, name, got.GetCardinality(), b.GetCardinality())
			}
			if v.Bytes() == 0 || v.Bytes() > int(b.GetSerializedSizeInBytes())+100 {
				t.Errorf("%s, %s: a block of %d bytes, portable %d", way, name, v.Bytes(), b.GetSerializedSizeInBytes())
			}
			r := rand.New(rand.NewPCG(3, 4))
			for range 1000 {
				x := r.Uint32()
				if i := r.Uint64N(b.GetCardinality() + 1); i < b.GetCardinality() {
					var err error
					if x, err = b.Select(uint32(i)); err != nil {
						t.Fatal(err)
					}
					if y, err := got.Select(uint32(i)); err != nil || y != x {
						t.Fatalf("%s, %s: value %d is %d, %v, want %d", way, name, i, y, err, x)
					}
				}
				if got.Contains(x) != b.Contains(x) || got.Rank(x) != b.Rank(x) {
					t.Fatalf("%s, %s: %d: %t, rank %d, want %t, rank %d", way, name, x, got.Contains(x), got.Rank(x), b.Contains(x), b.Rank(x))
				}
			}
			v.Close()
			v.Close()
			if v.Bytes() != 0 || !v.Bitmap().IsEmpty() {
				t.Errorf("%s, %s: after Close there are %d bytes, %d values", way, name, v.Bytes(), v.Bitmap().GetCardinality())
			}
		}
	}
}

// operations compute a bitmap from two.
var operations = map[string]func(a, b *roaring.Bitmap) *roaring.Bitmap{
	"Or": roaring.Or, "And": roaring.And, "Xor": roaring.Xor, "AndNot": roaring.AndNot,
	"FastOr":  func(a, b *roaring.Bitmap) *roaring.Bitmap { return roaring.FastOr(a, b) },
	"FastAnd": func(a, b *roaring.Bitmap) *roaring.Bitmap { return roaring.FastAnd(a, b) },
	"HeapOr":  func(a, b *roaring.Bitmap) *roaring.Bitmap { return roaring.HeapOr(a, b) },
	"ParOr":   func(a, b *roaring.Bitmap) *roaring.Bitmap { return roaring.ParOr(2, a, b) },
	"Or into": func(a, b *roaring.Bitmap) *roaring.Bitmap {
		c := roaring.BitmapOf(12345)
		c.Or(a)
		c.Or(b)
		return c
	},
	"And into": func(a, b *roaring.Bitmap) *roaring.Bitmap {
		c := roaring.New()
		c.AddRange(0, 1<<32)
		c.And(a)
		c.And(b)
		return c
	},
	"Flip":      func(a, b *roaring.Bitmap) *roaring.Bitmap { return roaring.Flip(a, 10, 1_000_000) },
	"AddOffset": func(a, b *roaring.Bitmap) *roaring.Bitmap { return roaring.AddOffset(b, 65_536) },
	"Clone":     func(a, b *roaring.Bitmap) *roaring.Bitmap { return a.Clone() },
}

// wipe overwrites memory that was just freed, so that what still points there is noticed.
func wipe(sizes ...int) {
	for range 20 {
		for _, n := range sizes {
			b := hakmem.Alloc(n)
			for i := range b {
				b[i] = 0x55
			}
			defer hakmem.FreeBytes(b)
		}
	}
}

// TestOperations: results of operations on Views are those of the bitmaps on the Go heap; those that were made
// independent outlive the Views and may be changed; and the Views are as before.
func TestOperations(t *testing.T) {
	hakmemtest.NoLeaks(t)
	all := samples()
	pairs := [][2]string{{"mixed", "runs"}, {"empty", "one"}, {"sparse", "dense"}, {"dense", "mixed"}, {"last", "mixed"}}
	if testing.Short() {
		pairs = pairs[:1]
	}
	for way := range ways {
		for _, names := range pairs {
			a, b := all[names[0]], all[names[1]]
			for name, f := range operations {
				va, vb := view(t, way, a), view(t, way, b)
				want, got := f(a, b), f(va.Bitmap(), vb.Bitmap())
				if !got.Equals(want) {
					t.Fatalf("%s: %s of %v: %d values, want %d, or others", way, name, names, got.GetCardinality(), want.GetCardinality())
				}
				got.CloneCopyOnWriteContainers()
				got.Add(99)
				got.Remove(70_000)
				got.AddRange(1<<31, 1<<31+100)
				if !va.Bitmap().Equals(a) || !vb.Bitmap().Equals(b) {
					t.Fatalf("%s: %s of %v changed an operand", way, name, names)
				}
				copied := va.Copy()
				sizes := []int{va.Bytes(), vb.Bytes()}
				va.Close()
				vb.Close()
				wipe(sizes...)
				want.Add(99)
				want.Remove(70_000)
				want.AddRange(1<<31, 1<<31+100)
				if !got.Equals(want) {
					t.Fatalf("%s: %s of %v became another after Close", way, name, names)
				}
				if !copied.Equals(a) {
					t.Fatalf("%s: the copy of %s became another after Close", way, names[0])
				}
				copied.AddRange(5, 1<<20)
			}
		}
	}
}

// TestRefused: what is no bitmap gives an error, and leaves no memory behind.
func TestRefused(t *testing.T) {
	hakmemtest.NoLeaks(t)
	data, err := samples()["mixed"].ToBytes()
	if err != nil {
		t.Fatal(err)
	}
	load := func(data []byte, size int) error {
		v, err := hakmemroaring.Load(bytes.NewReader(data), size, hakmemroaring.Options{})
		if v != nil {
			v.Close()
		}
		return err
	}
	for name, c := range map[string]struct {
		data []byte
		size int
		want error
	}{
		"nothing":        {nil, 0, nil},
		"short":          {data[:100], len(data), io.ErrUnexpectedEOF},
		"half":           {data, len(data) / 2, nil},
		"with a rest":    {append(slices.Clone(data), 1, 2, 3), len(data) + 3, nil},
		"no bitmap":      {bytes.Repeat([]byte{0xA5}, 100), 100, nil},
		"a negative one": {data, -1, nil},
	} {
		if err := load(c.data, c.size); err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if v, err := hakmemroaring.Freeze(nil, hakmemroaring.Options{}); v != nil || err == nil {
		t.Errorf("a nil bitmap: %v", err)
	}
	hakmem.Trim() // what others have freed is no room for it
	soft, hard, err := hakmem.SwapMemoryLimit(0, hakmem.Counted()+(4<<20))
	if err != nil {
		t.Fatal(err)
	}
	_, err = hakmemroaring.Load(bytes.NewReader(nil), 1<<30, hakmemroaring.Options{})
	var e *hakmem.OutOfMemoryError
	if !errors.As(err, &e) || e.Size != 1<<30 {
		t.Errorf("1 GiB of 4 MiB: %v", err)
	}
	if _, _, err := hakmem.SwapMemoryLimit(soft, hard); err != nil {
		t.Fatal(err)
	}
}

// FuzzLoad: no input takes the process with it, and what is accepted is what it says.
func FuzzLoad(f *testing.F) {
	for _, b := range samples() {
		data, err := b.ToBytes()
		if err != nil {
			f.Fatal(err)
		}
		if len(data) < 1000 {
			f.Add(data)
		}
	}
	small := roaring.BitmapOf(1, 2, 3, 1<<20, 1<<31)
	small.AddRange(1<<24, 1<<24+1000)
	small.RunOptimize()
	data, err := small.ToBytes()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := hakmemroaring.Load(bytes.NewReader(data), len(data), hakmemroaring.Options{})
		if err != nil {
			return
		}
		defer v.Close()
		if c := v.Copy(); !c.Equals(v.Bitmap()) || uint64(len(c.ToArray())) != v.Bitmap().GetCardinality() {
			t.Errorf("%d values, %d in the copy", v.Bitmap().GetCardinality(), c.GetCardinality())
		}
	})
}

// TestConcurrent: many goroutines read one View.
func TestConcurrent(t *testing.T) {
	hakmemtest.NoLeaks(t)
	b := samples()["mixed"]
	for way := range ways {
		v := view(t, way, b)
		var readers sync.WaitGroup
		for range 4 {
			readers.Go(func() {
				for range 5 {
					if !roaring.And(v.Bitmap(), b).Equals(b) || !v.Copy().Equals(b) {
						t.Error("a reader sees other values")
					}
				}
			})
		}
		readers.Wait()
		v.Close()
	}
}

// TestModes runs the tests with the settings under which blocks lie elsewhere.
func TestModes(t *testing.T) {
	if os.Getenv("HAKMEM_HARDEN") != "" || os.Getenv("HAKMEM_GUARD") != "" {
		t.Skip("skipped: the settings of this process are such settings already")
	}
	for _, setting := range []string{"HAKMEM_HARDEN=1", "HAKMEM_GUARD=1"} {
		c := exec.Command(os.Args[0], "-test.short", "-test.run=^(TestSame|TestOperations|TestRefused|TestConcurrent)$")
		c.Env = append(os.Environ(), setting)
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", setting, err, out)
		}
	}
}

// leave makes a View, and closes it or drops it.
//
//go:noinline
func leave(t *testing.T, close bool) {
	v, err := hakmemroaring.Freeze(roaring.BitmapOf(1, 2, 3), hakmemroaring.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if close {
		v.Close()
	}
}

// TestDropped: a View that was dropped is counted with the place that made it; one that was closed is not.
func TestDropped(t *testing.T) {
	leave(t, true)
	runtime.GC()
	leave(t, false)
	for deadline := time.Now().Add(time.Minute); hakmemroaring.ReadDropped().Views == 0; {
		if time.Now().After(deadline) {
			t.Fatal("the dropped View was not noticed")
		}
		runtime.GC()
	}
	if d := hakmemroaring.ReadDropped(); d.Views != 1 || d.Bytes == 0 || !strings.Contains(d.First, "leave") || !strings.Contains(d.First, "view_test.go:") {
		t.Errorf("%+v, want 1, made by leave", d)
	}
}
