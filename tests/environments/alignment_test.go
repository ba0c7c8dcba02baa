package environments_test

import (
	"fmt"
	"testing"
	"unsafe"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/testkit"
)

// The alignment of blocks, which no gate may weaken.

// natural is the alignment that Malloc promises for a size.
func natural(size uintptr) uintptr {
	n := hakmem.GoodSize(size)
	if n > 32<<10 {
		return 64 << 10
	}
	return n & -n
}

var _ = testkit.Child("natural alignment", naturalAlignment)

func naturalAlignment(string) error {
	h := hakmem.NewHeap()
	defer h.Close()
	site := hakmem.RegisterSite("alignment")
	ways := map[string]func(uintptr) unsafe.Pointer{
		"Malloc":       hakmem.Malloc,
		"Calloc":       func(n uintptr) unsafe.Pointer { return hakmem.Calloc(1, n) },
		"MallocAt":     func(n uintptr) unsafe.Pointer { return hakmem.MallocAt(site, n) },
		"AlignedAlloc": func(n uintptr) unsafe.Pointer { return hakmem.AlignedAlloc(16, n) },
		"Alloc":        func(n uintptr) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(hakmem.Alloc(int(n)))) },
		"MakeSlice": func(n uintptr) unsafe.Pointer {
			return unsafe.Pointer(unsafe.SliceData(hakmem.MakeSlice[byte](int(n), int(n))))
		},
		"Heap.Malloc":   h.Malloc,
		"Heap.Calloc":   func(n uintptr) unsafe.Pointer { return h.Calloc(1, n) },
		"Realloc":       func(n uintptr) unsafe.Pointer { return hakmem.Realloc(nil, n) },
		"Realloc moves": func(n uintptr) unsafe.Pointer { return hakmem.Realloc(hakmem.Malloc(n/3), n) },
	}
	sizes := []uintptr{0, 1}
	for _, c := range hakmem.SizeClasses() {
		sizes = append(sizes, uintptr(c)-1, uintptr(c), uintptr(c)+1)
	}
	sizes = append(sizes, 40_000, 64<<10, 100_000, mib, 3*mib)
	var held []unsafe.Pointer
	for _, size := range sizes {
		for way, malloc := range ways {
			for range 3 {
				p := malloc(size)
				if p == nil {
					return fmt.Errorf("%s(%d): %v", way, size, hakmem.Err())
				}
				if a := natural(size); uintptr(p)&(a-1) != 0 && way != "Realloc moves" {
					return fmt.Errorf("%s(%d) = %p, want a multiple of %d", way, size, p, a)
				}
				held = append(held, p)
			}
		}
		if len(held) > 500 {
			for _, p := range held {
				hakmem.Free(p)
			}
			held = held[:0]
		}
	}
	return nil
}

var _ = testkit.Child("aligned realloc", alignedRealloc)

// alignedRealloc grows and shrinks blocks of every alignment.
func alignedRealloc(string) error {
	site := hakmem.RegisterSite("aligned realloc")
	sizes := []uintptr{1, 40, 48, 64, 65, 80, 100, 200, 520, 600, 1000, 1024, 1500, 5000, 20_000, 32 << 10, 33 << 10, 70_000, 300_000, 100, 3 * mib, 5 * mib, 2*mib + 1, 70_000, 64, 1}
	for align := uintptr(1); align <= 2*mib; align *= 2 {
		for _, first := range []unsafe.Pointer{nil, hakmem.Malloc(80), hakmem.MallocAt(site, 3*mib)} {
			p, was := first, uintptr(0)
			if p != nil {
				was = hakmem.UsableSize(p)
				testkit.Fill(p, was, 1)
			}
			for i, size := range sizes {
				q := hakmem.AlignedRealloc(p, size, align)
				if q == nil || uintptr(q)&(max(align, 16)-1) != 0 {
					return fmt.Errorf("AlignedRealloc(%p of %d, %d, %d) = %p", p, was, size, align, q)
				}
				if n := min(was, size) &^ 7; !testkit.Intact(q, n, uint64(i)+1) && was > 0 {
					return fmt.Errorf("AlignedRealloc(%p of %d, %d, %d) = %p lost the contents", p, was, size, align, q)
				}
				p, was = q, hakmem.UsableSize(q)
				testkit.Fill(p, was, uint64(i)+2)
			}
			hakmem.Free(p)
		}
	}
	return hakmem.CheckInvariants()
}

// TestAlignment: what Malloc promises of a block's address holds with every gate, and AlignedRealloc
// keeps the alignment that it is asked for.
func TestAlignment(t *testing.T) {
	for _, gates := range [][]string{nil, {"HAKMEM_GUARD=1"}, {"HAKMEM_GUARD=1/2"}, {"HAKMEM_HARDEN=1"}, {"HAKMEM_HARDEN=1", "HAKMEM_GUARD=1/3"}, {"HAKMEM_FAST_SECTION=0"}} {
		testkit.InChild(t, "natural alignment", "", gates...)
		testkit.InChild(t, "aligned realloc", "", gates...)
	}
}
