package loops

import (
	"strings"
	"testing"
	"unsafe"

	"github.com/hakmem/hakmem"
)

// TestVerifyFinds gives the checker allocators with one fault each.
func TestVerifyFinds(t *testing.T) {
	sound := func() calls {
		for _, a := range allocators {
			if a.name == "hakmem" {
				return a.calls()
			}
		}
		panic("no hakmem")
	}
	for _, c := range []struct {
		want  string // "": there is no fault
		spoil func(*calls)
	}{
		{"", func(*calls) {}},
		{"byte 0 of the block", func(a *calls) {
			a.realloc = func(p unsafe.Pointer, _, more uintptr) unsafe.Pointer { // a new block
				hakmem.Free(p)
				q := hakmem.Malloc(more)
				clear(unsafe.Slice((*byte)(q), more))
				return q
			}
		}},
		{"was lost when", func(a *calls) {
			a.realloc = func(p unsafe.Pointer, size, more uintptr) unsafe.Pointer { // forgets the last byte
				q := hakmem.Realloc(p, more)
				*(*byte)(unsafe.Add(q, min(size, more)-1)) ^= 1
				return q
			}
		}},
		{"is not aligned to 2097152", func(a *calls) {
			a.memalign = func(align, size uintptr) unsafe.Pointer { // of two blocks of 48 bytes, returns one that is not aligned
				p, q := hakmem.Malloc(size), hakmem.Malloc(size)
				if uintptr(p)%align == 0 {
					p, q = q, p
				}
				hakmem.Free(q)
				return p
			}
		}},
	} {
		a := sound()
		c.spoil(&a)
		check := newChecker()
		o := newObserver(a, ObserveVerify, 1, check)
		for _, sizes := range [][2]uintptr{{13, 100_000}, {100_000, 21}, {8, 8}, {5, 3}} {
			p := o.malloc(sizes[0], 0)
			o.free(o.realloc(p, sizes[0], sizes[1], 0), 0)
		}
		o.free(o.memalign(2*mib, 48, 0), 0)
		switch err := check.failed; {
		case c.want == "" && err != nil:
			t.Errorf("found %v where nothing is wrong", err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("found %v, want %q", err, c.want)
		}
	}
}

func TestBucket(t *testing.T) {
	for ns := uint64(0); ns < 1<<20; ns += 1 + ns/500 {
		if b := bucket(ns); b > ns || ns < 2048 && b != ns || float64(ns-b) > float64(ns)/1000 {
			t.Errorf("%d ns is counted as %d", ns, b)
		}
	}
}
