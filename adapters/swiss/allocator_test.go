package hakmemswiss_test

import (
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/cockroachdb/swiss"

	"github.com/hakmem/hakmem"
	hakmemswiss "github.com/hakmem/hakmem/adapters/swiss"
	"github.com/hakmem/hakmem/hakmemtest"
)

// point is a key that is no integer.
type point struct{ x, y int32 }

type (
	group  = swiss.Group[uint64, uint64]
	points = swiss.Group[point, [3]byte]
)

var (
	_ swiss.Allocator[uint64, uint64]  = (*hakmemswiss.Allocator[group])(nil)
	_ swiss.Allocator[point, [3]byte]  = (*hakmemswiss.Allocator[points])(nil)
	_ swiss.Allocator[int32, struct{}] = (*hakmemswiss.Allocator[swiss.Group[int32, struct{}]])(nil)
)

var site = hakmem.RegisterSite("swiss")

// contents returns a map's entries.
func contents[K comparable, V any](m *swiss.Map[K, V]) map[K]V {
	all := map[K]V{}
	m.All(func(k K, v V) bool {
		all[k] = v
		return true
	})
	return all
}

// like does the same random steps with a map of hakmem's and with Go's, which must agree.
func like[K comparable, V comparable](t *testing.T, o hakmemswiss.Options, bucket uint32, key func(*rand.Rand) K, value func(*rand.Rand) V) {
	t.Helper()
	a := hakmemswiss.New[swiss.Group[K, V]](o)
	r := rand.New(rand.NewPCG(1, uint64(bucket)))
	steps := 30_000
	if testing.Short() {
		steps = 1500
	}
	for _, capacity := range []int{0, 1000} {
		m, want := swiss.New(capacity, swiss.WithAllocator[K, V](a), swiss.WithMaxBucketCapacity[K, V](bucket)), map[K]V{}
		for range steps {
			k := key(r)
			switch r.IntN(1000) {
			case 0:
				m.Clear()
				clear(want)
			case 1, 2, 3:
				if got := contents(m); !maps.Equal(got, want) {
					t.Fatalf("%d entries, want %d, or others", len(got), len(want))
				}
			case 4, 5, 6, 7:
				for k := range want { // most of them
					if r.IntN(8) != 0 {
						m.Delete(k)
						delete(want, k)
					}
				}
			default:
				v := value(r)
				m.Put(k, v)
				want[k] = v
			}
			if got, ok := m.Get(k); got != want[k] || m.Len() != len(want) {
				t.Fatalf("key %v has %v, %t, want %v; %d entries, want %d", k, got, ok, want[k], m.Len(), len(want))
			}
		}
		if a.AllocatedBytes() == 0 {
			t.Error("the map has no memory of the allocator")
		}
		m.Close()
		m.Close()
		if n := a.AllocatedBytes(); n != 0 {
			t.Errorf("%d bytes are left after Close", n)
		}
	}
}

// TestModel compares maps with Go's: one table and many, that is one or a few levels of groups.
func TestModel(t *testing.T) {
	hakmemtest.NoLeaks(t)
	for name, o := range map[string]hakmemswiss.Options{"plain": {}, "site": {Site: site}} {
		for _, bucket := range []uint32{8, 64, 1 << 31} {
			t.Run(name, func(t *testing.T) {
				like(t, o, bucket, func(r *rand.Rand) uint64 { return r.Uint64N(2000) }, func(r *rand.Rand) uint64 { return r.Uint64() })
				like(t, o, bucket, func(r *rand.Rand) point { return point{r.Int32N(40), r.Int32N(40)} }, func(r *rand.Rand) [3]byte { return [3]byte{byte(r.Int())} })
				like(t, o, bucket, func(r *rand.Rand) int32 { return r.Int32N(500) }, func(r *rand.Rand) struct{} { return struct{}{} })
			})
		}
	}
}

// TestModes runs the test above, and TestMisuse, with the settings under which blocks lie elsewhere.
func TestModes(t *testing.T) {
	if os.Getenv("HAKMEM_HARDEN") != "" || os.Getenv("HAKMEM_GUARD") != "" {
		t.Skip("skipped: the settings of this process are such settings already")
	}
	for _, setting := range []string{"HAKMEM_HARDEN=1", "HAKMEM_GUARD=1", "HAKMEM_FAST_SECTION=0"} {
		c := exec.Command(os.Args[0], "-test.short", "-test.run=^(TestModel|TestMisuse|TestZeroed)$")
		c.Env = append(os.Environ(), setting)
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", setting, err, out)
		}
	}
}

// TestZeroed: groups are zero, also in memory that was used before, and lie in hakmem.
func TestZeroed(t *testing.T) {
	hakmemtest.NoLeaks(t)
	a := hakmemswiss.New[group](hakmemswiss.Options{Site: site})
	for range 3 {
		for _, n := range []int{1, 2, 64, 512, 20_000} {
			groups := a.Alloc(n)
			raw := unsafe.Slice((*byte)(unsafe.Pointer(&groups[0])), n*int(unsafe.Sizeof(groups[0])))
			if len(groups) != n || !hakmem.Owns(unsafe.Pointer(&groups[0])) || a.AllocatedBytes() < int64(len(raw)) {
				t.Fatalf("%d groups, want %d; hakmem's: %t; %d bytes", len(groups), n, hakmem.Owns(unsafe.Pointer(&groups[0])), a.AllocatedBytes())
			}
			if i := slices.IndexFunc(raw, func(b byte) bool { return b != 0 }); i >= 0 {
				t.Fatalf("byte %d of %d groups is %d, want 0", i, n, raw[i])
			}
			for i := range raw {
				raw[i] = 0xAA
			}
			a.Free(groups)
		}
	}
	a.Free(nil)
	if n := a.AllocatedBytes(); n != 0 {
		t.Errorf("%d bytes are left", n)
	}
}

// panicOf returns what f panics with, as a text, and as an error if it is one.
func panicOf(f func()) (text string, err error) {
	defer func() {
		switch v := recover().(type) {
		case nil:
		case error:
			text, err = v.Error(), v
		case string:
			text = v
		}
	}()
	f()
	return "", nil
}

// TestMisuse: what is not a slice of Alloc is refused, and the counts stay.
func TestMisuse(t *testing.T) {
	hakmemtest.NoLeaks(t)
	a := hakmemswiss.New[group](hakmemswiss.Options{})
	groups, freed := a.Alloc(8), a.Alloc(8)
	a.Free(freed)
	before := a.AllocatedBytes()
	for kind, bad := range map[string][]group{
		"not hakmem's":     make([]group, 8),
		"interior pointer": groups[2:],
		"double free":      freed,
	} {
		var e *hakmem.MisuseError
		if text, err := panicOf(func() { a.Free(bad) }); !errors.As(err, &e) || e.Kind != kind {
			t.Errorf("%s: panic %q", kind, text)
		}
	}
	var e *hakmem.OutOfMemoryError
	if text, err := panicOf(func() { a.Alloc(1 << 50) }); !errors.As(err, &e) {
		t.Errorf("2^50 groups: panic %q", text)
	}
	if text, _ := panicOf(func() { a.Alloc(-1) }); text == "" {
		t.Error("-1 groups: no panic")
	}
	if after := a.AllocatedBytes(); after != before {
		t.Errorf("%d bytes after the refused calls, %d before", after, before)
	}
	a.Free(groups)
	if err := hakmem.CheckInvariants(); err != nil {
		t.Error(err)
	}
}

// TestRefused: types with Go pointers, and a site that is not there, are refused when the Allocator is made.
func TestRefused(t *testing.T) {
	type deep struct{ Inner struct{ P [2]*int } }
	for want, f := range map[string]func(){
		"key is a Go string":       func() { hakmemswiss.New[swiss.Group[string, int]](hakmemswiss.Options{}) },
		"value is a Go slice":      func() { hakmemswiss.New[swiss.Group[int, []byte]](hakmemswiss.Options{}) },
		"Inner.P[0] is a Go ptr":   func() { hakmemswiss.New[swiss.Group[int, deep]](hakmemswiss.Options{}) },
		"key is a Go interface":    func() { hakmemswiss.New[swiss.Group[any, int]](hakmemswiss.Options{}) },
		"site":                     func() { hakmemswiss.New[group](hakmemswiss.Options{Site: 1 << 15}) },
		"swiss.Group[string,int]":  func() { hakmemswiss.New[swiss.Group[string, int]](hakmemswiss.Options{}) },
		"hakmemswiss: keys and va": func() { hakmemswiss.New[swiss.Group[string, int]](hakmemswiss.Options{}) },
	} {
		if text, _ := panicOf(f); !strings.Contains(text, want) {
			t.Errorf("panic %q, want %q in it", text, want)
		}
	}
}

// TestExhausted: a map that gets no memory panics with hakmem's error, and can be closed.
func TestExhausted(t *testing.T) {
	hakmemtest.NoLeaks(t)
	a := hakmemswiss.New[group](hakmemswiss.Options{})
	m := swiss.New(0, swiss.WithAllocator[uint64, uint64](a), swiss.WithMaxBucketCapacity[uint64, uint64](1<<31))
	hakmem.Trim() // what others have freed is no room for it
	soft, hard, err := hakmem.SwapMemoryLimit(0, hakmem.Counted()+(8<<20))
	if err != nil {
		t.Fatal(err)
	}
	put := uint64(0)
	text, err := panicOf(func() {
		for ; put < 10_000_000; put++ {
			m.Put(put, put)
		}
	})
	if _, _, err := hakmem.SwapMemoryLimit(soft, hard); err != nil {
		t.Fatal(err)
	}
	var e *hakmem.OutOfMemoryError
	if !errors.As(err, &e) || put == 0 {
		t.Errorf("panic %q after %d entries", text, put)
	}
	m.Close()
	if n := a.AllocatedBytes(); n != 0 {
		t.Errorf("%d bytes are left after Close", n)
	}
}

// leave makes a map and drops it.
//
//go:noinline
func leave(close bool) {
	m := swiss.New(100, swiss.WithAllocator[uint64, uint64](hakmemswiss.New[group](hakmemswiss.Options{})))
	m.Put(1, 1)
	if close {
		m.Close()
	}
}

// TestDropped: a map that was dropped without Close is counted with the place that made it; one that was closed is not.
func TestDropped(t *testing.T) {
	leave(true)
	runtime.GC()
	leave(false)
	for deadline := time.Now().Add(time.Minute); hakmemswiss.ReadDropped().Allocators == 0; {
		if time.Now().After(deadline) {
			t.Fatal("the dropped map was not noticed")
		}
		runtime.GC()
	}
	d := hakmemswiss.ReadDropped()
	if want := int64(16 * unsafe.Sizeof(group{})); d.Allocators != 1 || d.Bytes < want || !strings.Contains(d.First, "leave") || !strings.Contains(d.First, "allocator_test.go:") {
		t.Errorf("%+v, want 1 with at least %d bytes, made by leave", d, want)
	}
}

// TestSite: the groups count for the site.
func TestSite(t *testing.T) {
	m := swiss.New(1000, swiss.WithAllocator[uint64, uint64](hakmemswiss.New[group](hakmemswiss.Options{Site: site})))
	defer m.Close()
	var s hakmem.Stats
	hakmem.ReadStats(&s)
	if !slices.ContainsFunc(s.Sites, func(s hakmem.SiteStats) bool { return s.Name == "swiss" && s.LiveBlocks > 0 }) {
		t.Errorf("the site has no live blocks: %+v", s.Sites)
	}
}
