package storm_test

import (
	"fmt"
	"strconv"
	"sync"
	"testing"
	"unsafe"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/asan"
	"github.com/hakmem/hakmem/internal/testkit"
	"github.com/hakmem/hakmem/internal/testkit/workout"
)

// Storms in a full region and at the memory limit.

var _ = testkit.Child("storm", storm)

// storm fills a small region with blocks of one size (0: of all sizes), goes on asking for more,
// frees everything, and then does normal work.
func storm(arg string) error {
	n, _ := strconv.ParseUint(arg, 10, 64)
	size := func(i int) uintptr {
		if n != 0 {
			return uintptr(n)
		}
		return workout.Kinds[i%len(workout.Kinds)].Size
	}
	var blocks []workout.Block
	failures := 0
	for i := 0; failures < 2*len(workout.Kinds); i++ {
		b := workout.Block{Size: size(i), Key: uint64(i)}
		if b.P = hakmem.Malloc(b.Size); b.P == nil {
			failures++
			continue
		}
		*(*uint64)(b.P) = b.Key // unique: two holders of one block would be noticed
		blocks = append(blocks, b)
	}
	full := workout.ReadStats()
	if full.Live < 170<<20 { // a large block of 100,000 bytes leaves a quarter of its pages unused
		return fmt.Errorf("full with %d bytes live of %d", full.Live, full.Reserved)
	}
	var wg sync.WaitGroup
	for g := range 2 {
		wg.Go(func() {
			h := hakmem.NewHeap()
			defer h.Close()
			for i := range 50_000 {
				p := []func(uintptr) unsafe.Pointer{hakmem.Malloc, h.Malloc}[i&1](max(size(i+g), 1<<20))
				if p != nil {
					panic("a full region granted a megabyte")
				}
			}
		})
	}
	wg.Wait()
	after := workout.ReadStats()
	if got := after.OutOfMemory - full.OutOfMemory; got != 100_000 {
		return fmt.Errorf("100000 failed allocations, %d counted", got)
	}
	// Each search for blocks that magazines still hold stops the world, so it must not happen at
	// every failure. This bound on the number of searches bounds the time that the storm takes.
	if got := after.Drains - full.Drains; got > 5000 {
		return fmt.Errorf("100000 failed allocations emptied %d fronts", got)
	}
	if after.Live != full.Live {
		return fmt.Errorf("live %d bytes, before the storm %d", after.Live, full.Live)
	}
	for _, b := range blocks {
		if *(*uint64)(b.P) != b.Key {
			return fmt.Errorf("%v is damaged", b)
		}
		hakmem.Free(b.P)
	}
	// Without a Trim, one block almost as large as the region can be allocated, although its pages
	// were slabs of other classes and the magazines hold blocks.
	p := hakmem.Malloc(200 << 20)
	if p == nil {
		return fmt.Errorf("all freed, and no block of 200 MiB: %+v", workout.ReadStats())
	}
	hakmem.Free(p)
	for _, k := range workout.Kinds {
		var ps []unsafe.Pointer
		for range min(50_000, 100<<20/k.Size) {
			p := hakmem.Malloc(k.Size)
			if p == nil {
				return fmt.Errorf("all freed: block %d of %d bytes = nil", len(ps), k.Size)
			}
			ps = append(ps, p)
		}
		for _, p := range ps {
			hakmem.Free(p)
		}
	}
	return workout.NothingLost()
}

func TestStormOfFailures(t *testing.T) {
	if asan.On {
		t.Skip("skipped: -asan; it writes a word to blocks of a byte, which have room for it elsewhere")
	}
	for _, size := range []int{0, 100, 20_000, 100_000, 3 << 20} {
		if testing.Short() && size != 0 {
			continue
		}
		testkit.InChild(t, "storm", strconv.Itoa(size), workout.SmallRegion)
	}
}

var _ = testkit.Child("limit storm", limitStorm)

// limitStorm makes 10^6 allocations fail at the memory limit, 10^5 under the race detector and with -asan,
// where each takes 90 µs, and then does normal work.
func limitStorm(string) error {
	most := 1_000_000
	if testkit.Race || asan.On {
		most = 100_000
	}
	if err := hakmem.SetMemoryLimit(0, 8<<20); err != nil {
		return err
	}
	var blocks []unsafe.Pointer
	for failures := 0; failures < most; {
		if p := hakmem.Malloc(3000); p != nil {
			blocks = append(blocks, p)
		} else {
			failures++
		}
	}
	if drains := workout.ReadStats().Drains; drains > 10_000 {
		return fmt.Errorf("%d drains in %d failures", drains, most)
	}
	for i, p := range blocks {
		hakmem.Free(p)
		if i%100 == 99 {
			p := hakmem.Malloc(3000)
			if p == nil {
				return fmt.Errorf("nil after %d blocks were freed", i)
			}
			hakmem.Free(p)
		}
	}
	if err := hakmem.SetMemoryLimit(0, 0); err != nil {
		return err
	}
	return workout.NothingLost()
}

func TestLimitStorm(t *testing.T) { testkit.InChild(t, "limit storm", "") }
