package engine

import (
	"testing"

	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/policy"
	"github.com/hakmem/hakmem/internal/site"
	"github.com/hakmem/hakmem/internal/sizeclass"
	"github.com/hakmem/hakmem/internal/testkit"
)

// TestCachedLarge: a freed large block comes back to the next allocation of its class, and not to one
// of another class.
func TestCachedLarge(t *testing.T) {
	tune(t, func(p *policy.Tuning) { p.CacheBudget = maxRegion }) // a share has no room for one of each class
	f := heapFront(t)
	for c := sizeclass.ID(sizeclass.Num + 1); c <= sizeclass.NumAll; c++ {
		size := sizeclass.LargeBytes(c)
		p := Malloc(f, size)
		if got, _, bad := Size(p); got != size || bad.Kind != OK {
			t.Fatalf("a large block of %d bytes has %d, %+v", size, got, bad)
		}
		if bad := Free(f, p); bad.Kind != OK {
			t.Fatalf("free of %d bytes: %+v", size, bad)
		}
		if n := f.held(c); n != 1 {
			t.Errorf("%d large blocks of %d bytes in the magazine, want 1", n, size)
		}
		other := Malloc(f, size+1) // of the class above, or of none
		if other == p {
			t.Errorf("the large block of %d bytes served %d", size, size+1)
		}
		if q := Malloc(f, size-100); q != p {
			t.Errorf("%d bytes: %#x came back after %#x", size, q, p)
		}
		Free(f, p)
		Free(f, other)
	}
}

// TestCachedLargeBudget: a magazine holds large blocks up to its bytes, and at least one. The overflow
// fills the shared slots that are open, and the rest goes back to the page tree.
func TestCachedLargeBudget(t *testing.T) {
	f := heapFront(t)
	openSlots()
	for _, size := range []mem.Bytes{40 << 10, 256 << 10, 2 << 20} {
		c := sizeclass.LargeOf(size)
		var all []Block
		for range 2 * maxMid {
			all = append(all, Malloc(f, size))
		}
		freed := largeStats.frees.Load()
		for _, p := range all {
			if bad := Free(f, p); bad.Kind != OK {
				t.Fatal(bad)
			}
		}
		most := max(2<<20/sizeclass.LargeBytes(c), 1)
		if n := f.held(c); n == 0 || mem.Bytes(n) > most {
			t.Errorf("%d bytes: %d large blocks are cached, want 1 to %d", size, n, most)
		} else if back := largeStats.frees.Load() - freed; back != uint64(len(all))-uint64(n)-sharedSlots {
			t.Errorf("%d bytes: %d large blocks went back, %d are cached, %d shared, of %d", size, back, n, sharedSlots, len(all))
		}
		for range sharedSlots {
			if p := takeShared(c); p == 0 || lateIn(func() { releaseAll([]Block{p}) }) != 0 {
				t.Fatalf("%d bytes: shared slots are not full", size)
			}
		}
		if p := takeShared(c); p != 0 {
			t.Errorf("%d bytes: more than %d shared slots", size, sharedSlots)
		}
	}
}

// TestCachedLargeMisuse: every kind of invalid free of a large block that is cached, was given back, or is
// in two magazines.
func TestCachedLargeMisuse(t *testing.T) {
	f, g := heapFront(t), heapFront(t)
	const size = 100 << 10
	p := Malloc(f, size)
	if bad := Free(f, p+16); bad.Kind != Interior || bad.Block != p {
		t.Errorf("interior: %+v", bad)
	}
	if bad := Free(f, p+pageSize); bad.Kind != Interior || bad.Block != p {
		t.Errorf("interior, second page: %+v", bad)
	}
	Free(f, p)
	for _, front := range []Front{f, g} {
		if bad := Free(front, p); bad.Kind != Freed {
			t.Errorf("freed twice: %+v", bad)
		}
	}
	if _, _, bad := Size(p); bad.Kind != Freed {
		t.Errorf("size of a cached large block: %+v", bad)
	}
	// Two frees that overlapped: the second copy is found at the page tree.
	q := Malloc(f, size)
	if q != p {
		t.Fatalf("%#x came back after %#x", q, p)
	}
	c := sizeclass.LargeOf(size)
	entered(func() { g.makeMagazine(c) })
	g.push(c, q)
	setLive(q, c, 0)
	f.push(c, q)
	before := lateFrees.Load()
	if late := lateIn(func() { emptyFront(f) }); late != 0 {
		t.Errorf("the first copy was late: %#x", late)
	}
	if late := lateIn(func() { emptyFront(g) }); late != q || lateFrees.Load() != before+1 {
		t.Errorf("the second copy: late %#x, want %#x", late, q)
	}
	if bad := Free(f, q); bad.Kind != Freed {
		t.Errorf("free of a large block that went back: %+v", bad)
	}
}

// TestCachedLargeZero: a zeroed large block is zero whether it was cached or is fresh.
func TestCachedLargeZero(t *testing.T) {
	f := heapFront(t)
	for range 3 {
		const n = 130_000
		p := MallocZero(f, n)
		for i := range mem.Bytes(n) {
			if *u8(p.addr().Add(i)) != 0 {
				t.Fatalf("byte %d is %d", i, *u8(p.addr().Add(i)))
			}
			*u8(p.addr().Add(i)) = 1
		}
		Free(f, p)
	}
}

// TestResizeInPlace: a large block grows into the free pages behind it and shrinks where it is. Its
// contents and its class are right, and a double free of it is found.
func TestResizeInPlace(t *testing.T) {
	withClock(t)
	p := Malloc(0, 100<<10)
	*u8(p.addr()), *u8((p + 100<<10 - 1).addr()) = 1, 2
	used, _ := use()
	for _, size := range []mem.Bytes{128 << 10, 190 << 10, 3 * mebibyte, 70 << 10, 33 << 10, 40 << 10, 10 * mebibyte, 500 << 10} {
		if !Resize(p, size, KeepAll) {
			t.Fatalf("no %d bytes in place, with nothing behind", size)
		}
		n, _, bad := Size(p)
		if want, _ := sizeclass.LargeSize(size); bad.Kind != OK || n != want {
			t.Errorf("%d bytes: size %d, %+v; want %d", size, n, bad, want)
		}
		if *u8(p.addr()) != 1 || size > 100<<10 && size < 3*mebibyte && *u8((p + 100<<10 - 1).addr()) != 2 && size < 200<<10 {
			t.Errorf("%d bytes: contents changed", size)
		}
		now, _ := use()
		pages := int(n.Up(pageSize) >> pageShift)
		if now-used != pages-2 {
			t.Errorf("%d bytes: %d pages more in use, want %d", size, now-used, pages-2)
		}
		if bad := Free(0, p+Block(n.Up(pageSize))); bad.Kind == OK || bad.Block == p {
			t.Errorf("%d bytes: the page behind the block: %+v", size, bad)
		}
		if bad := Free(0, p+Block(n.Up(pageSize))-16); bad.Kind != Interior || bad.Block != p {
			t.Errorf("%d bytes: the block's last page: %+v", size, bad)
		}
	}
	q := Malloc(0, 64<<10)
	if q > p && Resize(p, q.addr().From(p.addr())+1, KeepAll) {
		t.Error("grew over a live block")
	}
	if Resize(p, 1<<60, KeepAll) || Resize(p, 1000, KeepAll) {
		t.Error("an impossible size, or one that is no large block's, was granted")
	}
	if bad := Free(0, p); bad.Kind != OK {
		t.Error(bad)
	}
	if bad := Free(0, p); bad.Kind != Freed {
		t.Errorf("a second free: %+v", bad)
	}
	if Resize(p, 600<<10, KeepAll) {
		t.Error("a freed block was resized")
	}
	Free(0, q)

	label := site.Register("resize")
	p = MallocAt(label, 100<<10)
	if Resize(p, 5*mebibyte, KeepAll) {
		if _, bytes, blocks := site.Read(label); bytes != 5*mebibyte || blocks != 1 {
			t.Errorf("the label has %d bytes in %d blocks", bytes, blocks)
		}
	}
	Free(0, p)
	if _, bytes, blocks := site.Read(label); bytes != 0 || blocks != 0 {
		t.Errorf("the label has %d bytes in %d blocks", bytes, blocks)
	}
}

// TestResizeRefused: a large block that cannot grow because a commit fails stays what it is. It can
// grow when there is memory again.
func TestResizeRefused(t *testing.T) {
	withClock(t)
	defer osmem.Inject(nil)
	p := Malloc(0, 100<<10)
	*u8((p + 100<<10 - 1).addr()) = 7
	usable, _, _ := Size(p)
	more := region.endPage().addr().From(p.addr()) + 64*mebibyte // beyond what is committed
	testkit.RefuseOp(osmem.OpCommit, func(int) bool { return true })
	used, _ := use()
	if Resize(p, more, KeepAll) {
		t.Error("a large block grew without a commit")
	}
	if n, _, bad := Size(p); n != usable || bad.Kind != OK || *u8((p + 100<<10 - 1).addr()) != 7 {
		t.Errorf("after a Resize that failed: %d bytes, %+v, want %d", n, bad, usable)
	}
	if now, _ := use(); now != used {
		t.Errorf("after a Resize that failed: %d pages in use, before %d", now, used)
	}
	osmem.Inject(nil)
	if !Resize(p, more, KeepAll) || *u8((p + 100<<10 - 1).addr()) != 7 {
		t.Error("the large block cannot grow, with memory again")
	}
	freeBlocks(t, []Block{p})
}

// TestResizeAtTheLimit: a large block cannot grow beyond the hard limit, and can when cached memory
// makes room for it.
func TestResizeAtTheLimit(t *testing.T) {
	withClock(t)
	other := Malloc(0, 4*mebibyte)
	p := Malloc(0, 100<<10) // behind it the region is free
	*u8((p + 100<<10 - 1).addr()) = 7
	usable, _, _ := Size(p)
	used, _ := use()
	withLimit(t, 0, uint64(counted.Load()))
	for range 3 {
		was := limitHit.Load()
		if Resize(p, mebibyte, KeepAll) || limitHit.Load() == was {
			t.Error("a large block grew beyond the limit")
		}
		if n, _, bad := Size(p); n != usable || bad.Kind != OK {
			t.Errorf("after a Resize that failed: %d bytes, %+v, want %d", n, bad, usable)
		}
	}
	freeBlocks(t, []Block{other}) // into a cache
	if n, _ := use(); n != used {
		t.Fatalf("%d pages in use, want %d: nothing to reclaim", n, used)
	}
	was := limitHit.Load()
	if !Resize(p, mebibyte, KeepAll) || limitHit.Load() == was || *u8((p + 100<<10 - 1).addr()) != 7 {
		t.Error("the large block cannot grow, with memory for it in a cache")
	}
	freeBlocks(t, []Block{p})
}

// TestLargeGrowsTheHeap: the scavenger sees that a heap grows by a large block.
func TestLargeGrowsTheHeap(t *testing.T) {
	withClock(t)
	var p Block
	sawGrowth(t, func() { p = Malloc(0, (longestFree() + 1).bytes()) })
	if p == 0 {
		t.Fatal(Survived())
	}
	freeBlocks(t, []Block{p})
}
