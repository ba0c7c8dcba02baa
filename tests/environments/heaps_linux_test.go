package environments_test

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"testing"
	"time"
	"unsafe"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/asan"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/testkit"
	"github.com/hakmem/hakmem/internal/testkit/workout"
)

// Programs with many Heaps: one for each worker, of which most have nothing to do.

// residentNow returns the bytes of the process that are resident.
func residentNow() (uint64, error) {
	n, ok := osmem.ResidentBytes()
	if !ok {
		return 0, errors.New("/proc does not tell what is resident")
	}
	return n, nil
}

// heapBlocks are the sizes that each Heap allocates, and frees, manyBlocks of.
var heapBlocks = []uintptr{512, 1 << 10, 3 << 10, 10 << 10, 32 << 10, 60 << 10, 200 << 10, 900 << 10}

const (
	manyHeaps  = 100
	manyBlocks = 64
)

// use allocates, writes and frees blocks through a Heap.
func use(h *hakmem.Heap) error {
	page := uintptr(os.Getpagesize())
	for _, size := range heapBlocks {
		var blocks [manyBlocks]unsafe.Pointer
		for i := range blocks {
			p := h.Malloc(size)
			if p == nil {
				return fmt.Errorf("no memory for %d bytes: %w", size, hakmem.Err())
			}
			for at := uintptr(0); at < size; at += page {
				*(*byte)(unsafe.Add(p, at)) = 1
			}
			blocks[i] = p
		}
		for _, p := range blocks {
			h.Free(p)
		}
	}
	return nil
}

// parked is a Heap whose goroutine waits.
type parked chan func(h *hakmem.Heap) error

// park starts goroutines with a Heap each. They do what they are sent, in turns, and nothing
// between.
func park(n int) (heaps []parked) {
	for range n {
		do := make(parked)
		go func() {
			h := hakmem.NewHeap()
			for f := range do {
				if err := f(h); err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				do <- nil
			}
		}()
		heaps = append(heaps, do)
	}
	return heaps
}

func (p parked) do(f func(h *hakmem.Heap) error) {
	p <- f
	<-p
}

var _ = testkit.Child("idle Heaps", idleHeaps)

// idleHeaps leaves Heaps idle and wants their memory back: "wait" by itself, "Trim" by Trim, "owner"
// by each Heap's Trim, "limit" for an allocation under a hard limit.
func idleHeaps(how string) error {
	hakmem.Free(hakmem.Malloc(1))
	runtime.GC()
	before, err := residentNow()
	if err != nil {
		return err
	}
	heaps := park(manyHeaps)
	for _, h := range heaps {
		h.do(use)
	}
	parkedAt := time.Now()
	used, err := residentNow()
	if err != nil {
		return err
	}
	// In the end a Heap works as it did before.
	defer func() {
		for _, h := range heaps[:3] {
			h.do(use)
		}
	}()
	switch how {
	case "Trim":
		hakmem.Trim()
	case "owner":
		for _, h := range heaps {
			h.do(func(h *hakmem.Heap) error { h.Trim(); return nil })
		}
		hakmem.Trim()
	case "limit":
		const limit = 64 << 20 // less than what they hold
		if err := hakmem.SetMemoryLimit(0, limit); err != nil {
			return err
		}
		var blocks []unsafe.Pointer
		for range limit / 2 / (64 << 10) {
			p := hakmem.Malloc(60 << 10)
			if p == nil {
				return fmt.Errorf("no memory for block %d of 60 KiB under a limit of %d bytes, while nothing else is alive: %w; resident %d", len(blocks), limit, hakmem.Err(), used)
			}
			blocks = append(blocks, p)
		}
		for _, p := range blocks {
			hakmem.Free(p)
		}
		return hakmem.SetMemoryLimit(0, 0)
	}
	const most = 1 << 20 // bytes that an idle Heap may keep
	for {
		now, err := residentNow()
		if err != nil {
			return err
		}
		// The scavenger returns memory after a window, which may be 3 s, and holes after that.
		if kept := int64(now) - int64(before); kept < manyHeaps*most {
			fmt.Printf("%s: %d bytes resident before, %d with idle Heaps, %d for each of them after %v\n", how, before, used, kept/manyHeaps, time.Since(parkedAt).Round(100*time.Millisecond))
			break
		} else if time.Since(parkedAt) > 30*time.Second { // on a busy machine, where several such cases run
			s := workout.ReadStats()
			return fmt.Errorf("%d idle Heaps keep %d bytes each, want less than %d: %d resident, before %d; %d in magazines, %d cached, %d dirty", manyHeaps, kept/manyHeaps, most, now, before, s.InMagazines, s.Large.CachedBytes, s.Scavenger.Dirty)
		}
		time.Sleep(100 * time.Millisecond)
	}
	return nil
}

func TestIdleHeaps(t *testing.T) {
	if testkit.Race || asan.On {
		t.Skip("skipped: -race or -asan; it keeps shadows of memory, which stay")
	}
	for _, how := range []string{"wait", "Trim", "owner", "limit"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			testkit.InChild(t, "idle Heaps", how)
		})
	}
	for _, setting := range []string{"HAKMEM_HARDEN=1", "HAKMEM_GUARD=1/50"} {
		t.Run(setting, func(t *testing.T) {
			t.Parallel()
			testkit.InChild(t, "idle Heaps", "wait", setting)
		})
	}
}

var _ = testkit.Child("closed Heaps", closedHeaps)

// closedHeaps opens many Heaps at once, uses them, and closes them. They free blocks that the global
// functions allocated, and before that as many blocks are freed without Heaps: the region's tables
// grow with what was in use, and are not the Heaps'.
func closedHeaps(string) error {
	const n = 2000
	measure := func() (uint64, error) {
		hakmem.Trim()
		debug.FreeOSMemory()
		return residentNow()
	}
	round := func(open func() (free func(unsafe.Pointer), end func())) {
		var blocks []unsafe.Pointer
		var ends []func()
		sizes := []uintptr{16, 100, 1000, 5000, 40_000}
		for range 2 * n {
			for _, size := range sizes {
				blocks = append(blocks, hakmem.Malloc(size))
			}
		}
		for range n {
			free, end := open()
			for _, p := range blocks[:2*len(sizes)] {
				free(p)
			}
			blocks, ends = blocks[2*len(sizes):], append(ends, end)
		}
		for _, end := range ends {
			end()
		}
	}
	hakmem.NewHeap().Close()
	round(func() (func(unsafe.Pointer), func()) { return hakmem.Free, func() {} })
	before, err := measure()
	if err != nil {
		return err
	}
	round(func() (func(unsafe.Pointer), func()) { h := hakmem.NewHeap(); return h.Free, h.Close })
	after, err := measure()
	if err != nil {
		return err
	}
	kept := int64(after) - int64(before)
	fmt.Printf("%d bytes for each of %d closed Heaps\n", kept/n, n)
	if kept >= n<<10 {
		return fmt.Errorf("%d closed Heaps keep %d bytes each, want less than 1024", n, kept/n)
	}
	return nil
}

func TestClosedHeaps(t *testing.T) {
	if testkit.Race || asan.On {
		t.Skip("skipped: -race or -asan; it keeps shadows of memory, which stay")
	}
	testkit.InChild(t, "closed Heaps", "")
	testkit.InChild(t, "closed Heaps", "", "HAKMEM_HARDEN=1")
}
