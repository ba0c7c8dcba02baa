package engine

import (
	"runtime"
	"testing"

	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// usedWith allocates n blocks of size bytes, frees them, and returns how many bytes of pages were in use before
// the frees.
func usedWith(t *testing.T, own Front, size mem.Bytes, n int) mem.Bytes {
	t.Helper()
	blocks := make([]Block, n)
	for i := range blocks {
		if blocks[i] = Malloc(own, size); blocks[i] == 0 {
			t.Fatal(Survived())
		}
	}
	region.mu.Lock()
	used := pageCount(pageUse.used).bytes()
	region.mu.Unlock()
	for _, p := range blocks {
		if bad := Free(own, p); bad.Kind != OK {
			t.Fatal(bad)
		}
	}
	return used
}

// TestEbb: a program that goes from one block size to the next, and needs more memory for each, uses the memory of
// the sizes before: those slabs that are free as a whole, and those that are once idle magazines were given back.
func TestEbb(t *testing.T) {
	for _, heap := range []bool{false, true} {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
		withClock(t)
		withPolicy(t, nil)
		own := Front(0)
		if heap {
			h := newTestHeap(t)
			defer h.close(t)
			own = h.own
		}
		region.mu.Lock()
		began := pageCount(pageUse.used).bytes()
		region.mu.Unlock()
		const blocks = 3200
		for size := mem.Bytes(64); size <= 4096; size *= 2 {
			used := mem.Bytes(0)
			for range 10 { // and the magazine grows
				used = usedWith(t, own, size, blocks)
			}
			// Without ebb 1.7 MiB are in the magazines of the other sizes, or in their slabs.
			if more := int(used) - int(began) - int(blocks*size); size == 4096 && more > ebbBytes {
				t.Errorf("heap %t: %d bytes more are in use than the blocks need", heap, more)
			}
		}
	}
}

// TestEbbLeavesWhatIsUsed: a magazine that is used between two looks keeps its blocks, and one that is not gives
// back all of them and its lease.
func TestEbbLeavesWhatIsUsed(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	withClock(t)
	idle, busy := sizeclass.Of(512), sizeclass.Of(1024)
	for _, size := range []mem.Bytes{512, 1024} {
		usedWith(t, 0, size, 100)
	}
	ebb(0, busy)
	q := Malloc(0, 1024)
	ebb(0, 0)
	f, tok := enter(0)
	heldIdle, heldBusy, lease := f.held(idle), f.held(busy), *f.lease(idle)
	leave(tok)
	if heldIdle != 0 || lease != 0 {
		t.Errorf("the idle magazine holds %d blocks, its lease is %d", heldIdle, lease)
	}
	if heldBusy == 0 {
		t.Error("the magazine that was used is empty")
	}
	ebb(0, 0)
	f, tok = enter(0)
	heldBusy = f.held(busy)
	leave(tok)
	if heldBusy != 0 {
		t.Errorf("after another look the magazine holds %d blocks", heldBusy)
	}
	Free(0, q)
	if err := CheckInvariants(); err != nil {
		t.Fatal(err)
	}
}
