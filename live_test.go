package hakmem_test

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/hakmem/hakmem/internal/testkit"
	"github.com/hakmem/hakmem/internal/testkit/workout"

	"github.com/hakmem/hakmem"
)

// liveNow returns all live blocks, keyed by address. The walk must yield them in ascending order.
func liveNow(t testing.TB) map[uintptr]hakmem.LiveBlock {
	t.Helper()
	blocks := map[uintptr]hakmem.LiveBlock{}
	last := uintptr(0)
	for b := range hakmem.LiveBlocks() {
		if b.Addr <= last {
			t.Fatalf("live block %#x after %#x", b.Addr, last)
		}
		last = b.Addr
		blocks[b.Addr] = b
	}
	return blocks
}

// mustAgree compares the live blocks with the statistics.
func mustAgree(t *testing.T) map[uintptr]hakmem.LiveBlock {
	t.Helper()
	live, s := liveNow(t), workout.ReadStats()
	bytes := uint64(0)
	for _, b := range live {
		bytes += uint64(b.Size)
	}
	if uint64(len(live)) != s.LiveBlocks || bytes != s.Live {
		t.Errorf("%d live blocks of %d bytes, the statistics have %d of %d", len(live), bytes, s.LiveBlocks, s.Live)
	}
	return live
}

func TestLiveBlocks(t *testing.T) {
	classSizes(t)
	quiet(t)
	site := hakmem.RegisterSite("TestLiveBlocks")
	h := hakmem.NewHeap()
	defer h.Close()
	mustAgree(t)
	ways := map[string]func(uintptr) unsafe.Pointer{
		"Malloc":       hakmem.Malloc,
		"MallocAt":     func(n uintptr) unsafe.Pointer { return hakmem.MallocAt(site, n) },
		"Heap.Malloc":  h.Malloc,
		"Heap.Calloc":  func(n uintptr) unsafe.Pointer { return h.Calloc(1, n) },
		"AlignedAlloc": func(n uintptr) unsafe.Pointer { return hakmem.AlignedAlloc(256, n) },
		"Realloc":      func(n uintptr) unsafe.Pointer { return hakmem.Realloc(hakmem.Malloc(n/3), n) },
		"AlignedRealloc": func(n uintptr) unsafe.Pointer {
			return hakmem.AlignedRealloc(hakmem.Malloc(n/3), n, 128)
		},
		"CallocAt":       func(n uintptr) unsafe.Pointer { return hakmem.CallocAt(site, 1, n) },
		"AlignedAllocAt": func(n uintptr) unsafe.Pointer { return hakmem.AlignedAllocAt(site, 256, n) },
		"AllocAt":        func(n uintptr) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(hakmem.AllocAt(site, int(n)))) },
		"MakeSliceAt": func(n uintptr) unsafe.Pointer {
			return unsafe.Pointer(unsafe.SliceData(hakmem.MakeSliceAt[byte](site, 0, int(n))))
		},
		"AppendAt": func(n uintptr) unsafe.Pointer { // what the slice had for n/3 bytes stays the site's
			return unsafe.Pointer(unsafe.SliceData(hakmem.Grow(hakmem.MakeSliceAt[byte](site, 0, int(n/3)), int(n))))
		},
		"ReallocZeroedAt": func(n uintptr) unsafe.Pointer { return hakmem.ReallocZeroed(hakmem.MallocAt(site, n/3), n/3, n) },
	}
	var all []unsafe.Pointer
	for way, malloc := range ways {
		for _, k := range workout.Kinds {
			var mine []unsafe.Pointer
			for range 3 {
				mine = append(mine, malloc(k.Size))
			}
			hakmem.Free(mine[1])
			live := liveNow(t)
			for i, p := range mine {
				b, ok := live[uintptr(p)]
				if ok != (i != 1) {
					t.Errorf("%s of %s, block %d of 3, of which 1 was freed: alive is %v", way, k.Name, i, ok)
				}
				if !ok {
					continue
				}
				want := hakmem.LiveBlock{Addr: uintptr(p), Size: hakmem.UsableSize(p)}
				if strings.HasSuffix(way, "At") {
					want.Site, want.SiteName = site, "TestLiveBlocks"
				}
				if fmt.Sprint(b) != fmt.Sprint(want) || b.Stack != nil {
					t.Errorf("%s of %s: %+v, want %+v", way, k.Name, b, want)
				}
			}
			all = append(all, mine[0], mine[2])
		}
	}
	mustAgree(t)
	a := hakmem.NewArena()
	p := a.Alloc(300_000, 1)
	if b := mustAgree(t)[uintptr(p)]; !b.Arena || b.Size < 300_000 {
		t.Errorf("the Arena's chunk: %+v", b)
	}
	a.Close()
	for _, p := range all {
		h.Free(p)
	}
	live := mustAgree(t)
	for _, p := range all {
		if b, ok := live[uintptr(p)]; ok {
			t.Errorf("%+v was freed", b)
		}
	}

	before := workout.ReadStats()
	liveNow(t)
	after := workout.ReadStats()
	if d := statsDiff(&before, &after); d != "" {
		t.Errorf("a walk changed %s", d)
	}
}

// TestLiveBlocksFreedByTheLoop lets the loop's body free the block it is given, or blocks whose
// turn would come later.
func TestLiveBlocksFreedByTheLoop(t *testing.T) {
	mine := map[unsafe.Pointer]bool{}
	fresh := func() {
		clear(mine)
		for range 200 {
			for _, k := range workout.Kinds[:len(workout.Kinds)-3] {
				mine[hakmem.Malloc(k.Size)] = true
			}
		}
	}
	fresh()
	all := len(mine)
	n := 0
	for b := range hakmem.LiveBlocks() {
		if mine[b.Pointer()] {
			n++
			hakmem.Free(b.Pointer())
		}
	}
	if n != all {
		t.Errorf("%d of %d blocks were found", n, all)
	}
	fresh()
	n = 0
	for b := range hakmem.LiveBlocks() {
		if mine[b.Pointer()] {
			n++
			for p := range mine {
				hakmem.Free(p)
			}
		}
	}
	if n != 1 {
		t.Errorf("%d blocks were found, though the first one's turn freed all", n)
	}
	// A loop that ends early, and a walk within a walk.
	p, q := hakmem.Malloc(10), hakmem.Malloc(100_000)
	defer hakmem.Free(p)
	defer hakmem.Free(q)
	n = 0
	for range hakmem.LiveBlocks() {
		for range hakmem.LiveBlocks() {
			n++
			break
		}
		break
	}
	if n != 1 {
		t.Errorf("the walk within the walk found %d", n)
	}
}

// TestLiveBlocksWhileOthersAllocate checks that blocks which live all the time are in every walk,
// and that a walk yields nothing impossible.
func TestLiveBlocksWhileOthersAllocate(t *testing.T) {
	classSizes(t)
	var kept []unsafe.Pointer
	for _, k := range workout.Kinds {
		kept = append(kept, hakmem.Malloc(k.Size))
	}
	site := hakmem.RegisterSite("TestLiveBlocksWhileOthersAllocate")
	var stop atomic.Bool
	var wg sync.WaitGroup
	for g := range 3 {
		wg.Go(func() {
			h := hakmem.NewHeap()
			defer h.Close()
			for i := 0; !stop.Load(); i++ {
				k := workout.Kinds[(i+g)%len(workout.Kinds)]
				if k.Size > 1<<20 && i%64 != 0 {
					continue
				}
				p, q := h.Malloc(k.Size), hakmem.MallocAt(site, k.Size)
				hakmem.Free(p)
				h.Free(q)
				if i%3000 == 0 {
					hakmem.Trim() // lets pages change class
				}
			}
		})
	}
	walks := 300
	if testing.Short() {
		walks = 60
	}
	for range walks {
		live := liveNow(t)
		for i, p := range kept {
			b, ok := live[uintptr(p)]
			if !ok || b.Size != hakmem.GoodSize(workout.Kinds[i].Size) || b.Site != 0 || b.Arena {
				t.Errorf("%s at %p: %+v, alive is %v", workout.Kinds[i].Name, p, b, ok)
			}
		}
		for _, b := range live {
			if hakmem.GoodSize(b.Size) != b.Size || b.SiteName == "" != (b.Site == 0) {
				t.Errorf("impossible block %+v", b)
			}
		}
		runtime.Gosched()
	}
	stop.Store(true)
	wg.Wait()
	for _, p := range kept {
		hakmem.Free(p)
	}
}

var _ = testkit.Child("hardened live blocks", hardenedLive)

// hardenedLive checks that blocks in the quarantine are not alive.
func hardenedLive(string) error {
	count := func() (n int) {
		for range hakmem.LiveBlocks() {
			n++
		}
		return n
	}
	for range 2 {
		var blocks []unsafe.Pointer
		for _, size := range hardSizes {
			blocks = append(blocks, hakmem.Malloc(size))
		}
		if n := count(); n != len(blocks) {
			return fmt.Errorf("%d blocks are alive of %d", n, len(blocks))
		}
		for _, p := range blocks {
			hakmem.Free(p)
		}
		if n := count(); n != 0 {
			return fmt.Errorf("%d blocks are alive, and all were freed", n)
		}
	}
	return errors.Join(hakmem.Err())
}

var _ = testkit.Child("guarded live blocks", guardedLive)

// guardedLive checks the walk where every block is guarded, except an Arena's chunks.
func guardedLive(string) error {
	site := hakmem.RegisterSite("guarded")
	var blocks []unsafe.Pointer
	for range 1500 {
		blocks = append(blocks, hakmem.MallocAt(site, 100))
	}
	for i := range 2 { // all of them are alive, then every second one
		found := map[uintptr]hakmem.LiveBlock{}
		for b := range hakmem.LiveBlocks() {
			found[b.Addr] = b
		}
		for j, p := range blocks {
			b, ok := found[uintptr(p)]
			if ok != (i == 0 || j%2 == 1) {
				return fmt.Errorf("walk %d, block %d: alive is %v", i, j, ok)
			}
			if ok && (b.Size != 100 || b.Site != site || b.SiteName != "guarded" || len(b.Stack) == 0) {
				return fmt.Errorf("walk %d, block %d: %+v", i, j, b)
			}
			if ok {
				if f, _ := runtime.CallersFrames(b.Stack).Next(); !strings.HasSuffix(f.Function, "guardedLive") {
					return fmt.Errorf("walk %d, block %d: its stack begins in %s", i, j, f.Function)
				}
			}
			if i == 0 && j%2 == 0 {
				hakmem.Free(p)
			}
		}
	}
	for b := range hakmem.LiveBlocks() {
		hakmem.Free(b.Pointer())
	}
	for b := range hakmem.LiveBlocks() {
		return fmt.Errorf("after all were freed: %+v", b)
	}
	return hakmem.Err()
}

func TestLiveBlocksGuarded(t *testing.T) {
	testkit.InChild(t, "guarded live blocks", "", "HAKMEM_GUARD=1/1")
}

func TestLiveBlocksHardened(t *testing.T) {
	testkit.InChild(t, "hardened live blocks", "", "HAKMEM_HARDEN=1")
}
