package heap

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hakmem/hakmem/internal/sizeclass"
)

// warmFront gives the test a front of its own, as a Heap has one.
func warmFront(t *testing.T) uintptr {
	t.Helper()
	f := front(t)
	t.Cleanup(func() {
		if bad := CloseHeapFront(f); bad.Kind != OK {
			t.Errorf("closing the front: %+v", bad)
		}
	})
	return f
}

// TestWarmSpan: a freed span comes back to the next allocation of its class,
// and not to one of another class.
func TestWarmSpan(t *testing.T) {
	f := warmFront(t)
	for c := uint8(sizeclass.Num + 1); c <= sizeclass.NumAll; c++ {
		size := sizeclass.SpanBytes(c)
		p := Malloc(f, size)
		if got, _, bad := Size(p); got != size || bad.Kind != OK {
			t.Fatalf("a span of %d bytes has %d, %+v", size, got, bad)
		}
		if bad := Free(f, p); bad.Kind != OK {
			t.Fatalf("free of %d bytes: %+v", size, bad)
		}
		if n := held(f, c); n != 1 {
			t.Errorf("%d spans of %d bytes in the magazine, want 1", n, size)
		}
		other := Malloc(f, size+1) // of the class above, or of none
		if other == p {
			t.Errorf("the span of %d bytes served %d", size, size+1)
		}
		if q := Malloc(f, size-100); q != p {
			t.Errorf("%d bytes: %#x came back after %#x", size, q, p)
		}
		Free(f, p)
		Free(f, other)
	}
}

// TestWarmBudget: a magazine holds spans up to its bytes, one at least; what
// overflows fills the shared slots, and the rest goes back to the page tree.
func TestWarmBudget(t *testing.T) {
	f := warmFront(t)
	for _, size := range []uintptr{40 << 10, 256 << 10, 2 << 20} {
		c := sizeclass.SpanOf(size)
		var all []uintptr
		for range 2 * maxMid {
			all = append(all, Malloc(f, size))
		}
		freed := spanStats.frees.Load()
		for _, p := range all {
			if bad := Free(f, p); bad.Kind != OK {
				t.Fatal(bad)
			}
		}
		most := max(2<<20/sizeclass.SpanBytes(c), 1)
		if n := held(f, c); n == 0 || n > most {
			t.Errorf("%d bytes: %d spans are warm, want 1 to %d", size, n, most)
		} else if back := spanStats.frees.Load() - freed; back != uint64(len(all))-uint64(n)-warmSlots {
			t.Errorf("%d bytes: %d spans went back, %d are warm, %d shared, of %d", size, back, n, warmSlots, len(all))
		}
		for range warmSlots {
			if p := takeShared(c); p == 0 || releaseSpans([]uintptr{p}) != 0 {
				t.Fatalf("%d bytes: shared slots are not full", size)
			}
		}
		if p := takeShared(c); p != 0 {
			t.Errorf("%d bytes: more than %d shared slots", size, warmSlots)
		}
	}
}

// TestWarmMisuse: every kind of invalid free of a span that is warm, was given
// back, or is in two magazines.
func TestWarmMisuse(t *testing.T) {
	f, g := warmFront(t), warmFront(t)
	const size = 100 << 10
	p := Malloc(f, size)
	if bad := Free(f, p+16); bad.Kind != Interior || bad.Block != p {
		t.Errorf("interior: %+v", bad)
	}
	if bad := Free(f, p+pageSize); bad.Kind != Interior || bad.Block != p {
		t.Errorf("interior, second page: %+v", bad)
	}
	Free(f, p)
	for _, front := range []uintptr{f, g} {
		if bad := Free(front, p); bad.Kind != Freed {
			t.Errorf("freed twice: %+v", bad)
		}
	}
	if _, _, bad := Size(p); bad.Kind != Freed {
		t.Errorf("size of a warm span: %+v", bad)
	}
	// Two frees that overlapped: the second copy is found at the page tree.
	q := Malloc(f, size)
	if q != p {
		t.Fatalf("%#x came back after %#x", q, p)
	}
	c := sizeclass.SpanOf(size)
	makeMagazine(g, c)
	push(g, c, q)
	setLive(q, c, 0)
	push(f, c, q)
	before := lateFrees.Load()
	if late := emptyFront(f); late != 0 {
		t.Errorf("the first copy was late: %#x", late)
	}
	if late := emptyFront(g); late != q || lateFrees.Load() != before+1 {
		t.Errorf("the second copy: late %#x, want %#x", late, q)
	}
	if bad := Free(f, q); bad.Kind != Freed {
		t.Errorf("free of a span that went back: %+v", bad)
	}
}

// TestWarmSite: a span's site ends with its free, warm or not.
func TestWarmSite(t *testing.T) {
	s := RegisterSite("TestWarmSite")
	for range 3 {
		p := MallocAt(s, 300<<10)
		if _, site, bad := Size(p); site != s || bad.Kind != OK {
			t.Errorf("site %d, %+v", site, bad)
		}
		if _, bytes, blocks := Site(s); bytes != 320<<10 || blocks != 1 {
			t.Errorf("%d bytes in %d blocks", bytes, blocks)
		}
		Free(0, p)
		if _, bytes, blocks := Site(s); bytes != 0 || blocks != 0 {
			t.Errorf("%d bytes in %d blocks after the free", bytes, blocks)
		}
		q := Malloc(0, 300<<10)
		if _, site, _ := Size(q); site != 0 {
			t.Errorf("a span without site has site %d", site)
		}
		Free(0, q)
	}
}

// TestWarmZero: a zeroed span is zero whether it is warm or fresh.
func TestWarmZero(t *testing.T) {
	f := warmFront(t)
	for range 3 {
		const n = 130_000
		p := MallocZero(f, n)
		for i := range uintptr(n) {
			if *u8(p + i) != 0 {
				t.Fatalf("byte %d is %d", i, *u8(p + i))
			}
			*u8(p + i) = 1
		}
		Free(f, p)
	}
}

// TestMisuseWhilePageChanges: a free of a block that is long gone may look at its
// page while that becomes a span's, and find the kind of before with the class of
// after. It must not panic: it is pinned.
func TestMisuseWhilePageChanges(t *testing.T) {
	p := Malloc(0, 100<<10)
	m := meta((p - region.base) >> pageShift)
	kind, recip := m.kind, m.recip
	for _, old := range []uint8{kindTiny, kindMid, kindSlabFreed} {
		m.kind, m.recip = old, 0
		for _, q := range []uintptr{p, p + 16, p + 8} {
			if _, _, _, why := liveByte(q); why == OK {
				t.Errorf("kind %d: %#x is a block", old, q-p)
			}
			if bad := fault(q, m, Freed); bad.Block != 0 {
				t.Errorf("kind %d: %#x is in a block: %+v", old, q-p, bad)
			}
		}
	}
	m.kind, m.recip = kind, recip
	if bad := Free(0, p); bad.Kind != OK {
		t.Errorf("%+v", bad)
	}
}

// TestLateSpanInSlot: a span that two overlapping frees put into the magazine and
// into a shared slot is handed out once; the other copy is dropped when it leaves
// the slot.
func TestLateSpanInSlot(t *testing.T) {
	f := front(t)
	defer CloseHeapFront(f)
	const size = 300 << 10
	c := sizeclass.SpanOf(size)
	TakeLateFree()
	p := Malloc(f, size)
	Free(f, p)
	if !giveShared(c, p) { // the other copy
		t.Fatal("no shared slot is empty")
	}
	was := lateFrees.Load()
	first, second := Malloc(f, size), Malloc(f, size)
	if first != p || second == p || second == 0 {
		t.Errorf("the span %#x is handed out as %#x and %#x", p, first, second)
	}
	if bad := TakeLateFree(); lateFrees.Load() != was+1 || bad.Kind != LateFreed || bad.Addr != p {
		t.Errorf("%d late double frees, want 1; told: %+v", lateFrees.Load()-was, bad)
	}
	Free(f, first)
	Free(f, second)
}

// TestSlotsAtOnce: goroutines take spans from the shared slots and put them back; no
// span is with two of them, and none is lost.
func TestSlotsAtOnce(t *testing.T) {
	const size, spans, goroutines = 300 << 10, 2, 4
	turns := 200_000
	if testing.Short() {
		turns = 20_000
	}
	c := sizeclass.SpanOf(size)
	Trim()
	var all [spans]uintptr
	for i := range all {
		if all[i] = Malloc(0, size); all[i] == 0 {
			t.Fatal(Survived())
		}
	}
	for _, p := range all {
		setLive(p, c, 0)
		if !giveShared(c, p) {
			t.Fatal("no shared slot is empty")
		}
	}
	var taken [spans]atomic.Bool
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for i := range turns {
				p := takeShared(c)
				if p == 0 {
					continue
				}
				is := &taken[slices.Index(all[:], p)]
				if is.Swap(true) {
					t.Errorf("turn %d: the span %#x is taken twice", i, p)
					return
				}
				is.Store(false)
				if !giveShared(c, p) {
					t.Errorf("turn %d: no slot is empty", i)
					return
				}
			}
		})
	}
	wg.Wait()
	for range all {
		p := takeShared(c)
		i := slices.Index(all[:], p)
		if i < 0 {
			t.Fatalf("a slot has %#x, which is none of %#x", p, all)
		}
		all[i] = 1 // seen
		releaseSpans([]uintptr{p})
	}
}
