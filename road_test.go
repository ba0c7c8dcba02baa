package hakmem_test

import (
	"flag"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/asan"
	"github.com/hakmem/hakmem/internal/engine"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// The tests of the road that Malloc and Free take (internal/engine/road.go), whichever it is
// in this build. What it relies on is tested there, in road_test.go.

// TestRoadInForce: the program's road is the fast section where there is one.
func TestRoadInForce(t *testing.T) {
	for _, name := range []string{"HAKMEM_MODE", "HAKMEM_FAST_SECTION", "HAKMEM_FRONT_FASTLANE", "HAKMEM_GUARD", "HAKMEM_HARDEN"} {
		if os.Getenv(name) != "" {
			t.Skipf("skipped: %s is set, and may want another road", name)
		}
	}
	if engine.Road.Fast != engine.HaveFast {
		t.Errorf("on the fast section: %v; built: %v, on %s", engine.Road.Fast, engine.HaveFast, runtime.Version())
	}
}

// stw is for soaks: an hour of it is what a new Go version should stand once.
var stw = flag.Duration("stw", 0, "for how long the road is to stand a world that stops all the time (default: a number of operations)")

// soaked returns when a soak that begins now has to end, and whether there is one.
func soaked() (end time.Time, soak bool) { return time.Now().Add(*stw), *stw > 0 }

// TestRoadUnderStopTheWorld writes each block's own address into it and
// finds it there at the free: a section torn by a preemption would hand one
// block to two holders.
func TestRoadUnderStopTheWorld(t *testing.T) {
	// So many stops at least: without them a run would show nothing. They take a
	// second or two on two busy cores.
	rounds, stops := 300_000, int64(200)
	if testing.Short() {
		rounds, stops = 30_000, 50
	}
	end, soak := soaked()
	var done atomic.Bool
	var stopper, workers sync.WaitGroup
	var stopped, ops atomic.Int64
	stopper.Go(func() {
		var m runtime.MemStats
		for !done.Load() {
			runtime.ReadMemStats(&m)
			stopped.Add(1)
		}
	})
	for g := range 8 {
		workers.Go(func() {
			var held [64]unsafe.Pointer
			r := uint32(g + 1)
			n := 0
			defer func() { ops.Add(int64(n)) }()
			for ; n < rounds || stopped.Load() < stops || soak && (n%4096 != 0 || time.Now().Before(end)); n++ {
				r ^= r << 13
				r ^= r >> 17
				r ^= r << 5
				i := r % 64
				if p := held[i]; p != nil {
					if *(*uintptr)(p) != uintptr(p)^uintptr(g) {
						t.Errorf("block %p of worker %d holds %#x", p, g, *(*uintptr)(p))
						return
					}
					hakmem.Free(p)
					held[i] = nil
					continue
				}
				p := hakmem.Malloc(uintptr(16 + r>>8%2000))
				*(*uintptr)(p) = uintptr(p) ^ uintptr(g)
				held[i] = p
			}
			for _, p := range held {
				hakmem.Free(p)
			}
		})
	}
	workers.Wait()
	done.Store(true)
	stopper.Wait()
	t.Logf("%d operations, %d stops of the world", ops.Load(), stopped.Load())
}

// TestMidSizes has the road find the class of every size above 1 KiB
// that has one: a block that was freed just now comes back for its own size, and
// for none that needs a larger block.
func TestMidSizes(t *testing.T) {
	for size := uintptr(sizeclass.MaxTiny - 2); size <= sizeclass.MaxLarge+2; size++ {
		p := hakmem.Malloc(size)
		hakmem.Free(p)
		q := hakmem.Malloc(size) // this one from the magazine
		want := hakmem.GoodSize(size)
		if asan.On { // there a block ends with the bytes asked for
			want = size
		}
		if n := hakmem.UsableSize(q); n != want {
			t.Fatalf("size %d: a block of %d bytes, want %d", size, n, want)
		}
		hakmem.Free(q)
		// On to the next boundary, give or take 1.
		if good := hakmem.GoodSize(size); size+1 < good {
			if size++; size < good-2 && size > sizeclass.MaxMid {
				size = good - 2
			}
		}
	}
}
