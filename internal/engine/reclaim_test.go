package engine

import (
	"testing"

	"github.com/hakmem/hakmem/internal/mem"
)

// TestFreeingHelpsAtTheLimit: after a storm of failures, freed memory can be had in another size at
// once, wherever it went: page tree, huge-block cache, a Heap's magazines.
func TestFreeingHelpsAtTheLimit(t *testing.T) {
	limit := func() {
		withLimit(t, 0, uint64(counted.Load())+64*mebibyte)
	}
	storm := func(own Front, size mem.Bytes) (blocks []Block) {
		for failures := 0; failures < 1000; {
			if p := Malloc(own, size); p != 0 {
				blocks = append(blocks, p)
			} else {
				failures++
			}
		}
		return blocks
	}
	for _, hugeBytes := range []string{"0", "268435456"} {
		withClock(t)
		withPolicy(t, map[string]string{"HAKMEM_HUGE_CACHE_BYTES": hugeBytes})
		limit()
		blocks := storm(0, 3*mebibyte)
		for i := 3; i < 13; i += 4 { // no two are neighbours
			freeBlocks(t, []Block{blocks[i], blocks[i+2]})
			p := Malloc(0, 5*mebibyte)
			if p == 0 {
				t.Fatalf("huge-block cache %s: 6 MiB were freed, and no 5 MiB", hugeBytes)
			}
			freeBlocks(t, []Block{p})
			blocks[i], blocks[i+2] = 0, 0
		}
		for _, p := range blocks {
			if p != 0 {
				freeBlocks(t, []Block{p})
			}
		}
		noLimit(t)
	}

	withClock(t)
	f := heapFront(t)
	limit()
	blocks := storm(f, 500<<10)
	for _, p := range blocks[:4] {
		if bad := Free(f, p); bad.Kind != OK {
			t.Fatal(bad)
		}
	}
	if p := Malloc(f, 100<<10); p == 0 {
		t.Error("a Heap gets nothing while its own magazines hold 2 MiB")
	} else {
		Free(f, p)
	}
	for _, p := range blocks[4:] {
		Free(f, p)
	}
}
