//go:build !without_hakmem

package main

import (
	"fmt"
	"os"
	"time"
	"unsafe"

	"github.com/hakmem/hakmem"
)

// work takes every path of the table in docs/environments.md that its settings allow.
func work() {
	for range 2 {
		var blocks []unsafe.Pointer
		for i := range 100_000 {
			blocks = append(blocks, hakmem.Malloc(uintptr(16+i%600)))
		}
		for range 20 {
			blocks = append(blocks, hakmem.Malloc(5000), hakmem.Malloc(200_000), hakmem.Malloc(3<<20))
		}
		for i, p := range blocks {
			if i%50 != 0 {
				hakmem.Free(p)
			}
		}
		time.Sleep(200 * time.Millisecond) // ticks, with HAKMEM_DECAY_MS
		p := hakmem.Malloc(64 << 20)
		hakmem.Free(hakmem.Realloc(p, 80<<20))
		hakmem.Trim()
		var s hakmem.Stats
		hakmem.ReadStats(&s)
		for i, p := range blocks {
			if i%50 == 0 {
				hakmem.Free(p)
			}
		}
	}
	hakmem.Free(hakmem.MallocAt(hakmem.RegisterSite("calls"), 100))
	h := hakmem.NewHeap()
	h.Free(h.Malloc(100))
	h.Close()
	hakmem.Trim()
	if err := hakmem.StopTrace(); err != nil && os.Getenv("HAKMEM_TRACE") != "" {
		fmt.Println(err)
	}
	if err := hakmem.Err(); err != nil {
		fmt.Println(err)
	}
}
