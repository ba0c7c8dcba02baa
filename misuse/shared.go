package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/hakmem/hakmem"
)

// sharedHeap lets two goroutines allocate from one Heap and free into it at the same time. The
// outcome is chance: both may get the same block, which the second free of it reports; or a free is
// lost, which nothing reports.
func sharedHeap(t *trial) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(max(2, runtime.GOMAXPROCS(0))))
	h := hakmem.NewHeap()
	var mu sync.Mutex
	var found, twice atomic.Bool
	rounds := 200_000
	if guarded() || hardened() {
		rounds = 3000 // each takes about 10 µs
	}
	var wg sync.WaitGroup
	for g := range byte(2) {
		wg.Go(func() {
			debug.SetPanicOnFault(true)
			kind, text, at := report(func() {
				var held [8]unsafe.Pointer
				for i := range rounds {
					if found.Load() {
						return
					}
					slot := &held[i%len(held)]
					if *slot != nil {
						if read(addr(*slot)) != g {
							twice.Store(true)
						}
						h.Free(*slot)
					}
					if *slot = h.Malloc(t.size); *slot != nil {
						write(addr(*slot), g)
					}
				}
			})
			if kind != "" {
				mu.Lock()
				defer mu.Unlock()
				if found.Swap(true) {
					return
				}
				t.out.Outcome, t.out.Call, t.out.Kind, t.out.Message = later, "Heap.Free", kind, text
				if at != 0 {
					t.out.Outcome, t.out.Address = fault, fmt.Sprintf("%#x", at)
				}
			}
		})
	}
	wg.Wait()
	if !found.Load() && twice.Load() {
		t.effect("both had one block")
	}
}
