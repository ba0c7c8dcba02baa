//go:build race

package hakmem_test

import (
	"runtime"
	"sync"
	"testing"
	"unsafe"

	"github.com/hakmem/hakmem"
)

// In -race builds a free is ordered before the allocations after it. The race detector must report
// nothing where hakmem hands memory from one goroutine to another. (With the tag hakmem_racetrack
// it sees the bytes of blocks, too: track_race_test.go.)

func poke(p unsafe.Pointer, n uintptr) {
	for i := range n {
		*(*byte)(unsafe.Add(p, i))++
	}
}

// racySizes has one size of each kind of block.
var racySizes = []uintptr{24, 1000, 5000, 100_000, 3 << 20}

// TestNoFalseRaces lets goroutines get memory that others had, with no order between them except
// the one that hakmem makes.
func TestNoFalseRaces(t *testing.T) {
	var wg sync.WaitGroup
	rounds := 300
	if testing.Short() {
		rounds = 60
	}
	for g := range 4 {
		wg.Go(func() {
			h := hakmem.NewHeap()
			defer h.Close()
			for i := range rounds {
				for j, size := range racySizes {
					size = size*uintptr(i%7+1)/4 + 1
					n := min(size, 4096)
					switch (i + j + g) % 4 {
					case 0:
						p := hakmem.Malloc(size)
						poke(p, n)
						hakmem.Free(p)
					case 1:
						p := h.Malloc(size)
						poke(p, n)
						hakmem.Free(p)
					case 2:
						p := hakmem.Calloc(1, size)
						poke(p, n)
						q := hakmem.Realloc(p, size*2)
						poke(q, n)
						h.Free(q)
					default:
						b := hakmem.Alloc(int(size))
						poke(unsafe.Pointer(&b[0]), n)
						hakmem.FreeBytes(b)
					}
				}
				if i%50 == 0 {
					hakmem.Trim()
				}
			}
		})
	}
	wg.Wait()
}

// TestOrderOfHolders: goroutines have a Go variable for each block, and touch that of the block
// that they hold. Nothing but hakmem orders the holders of a block.
func TestOrderOfHolders(t *testing.T) {
	for _, size := range racySizes {
		// The variables of the blocks that a few goroutines get.
		var blocks [64]unsafe.Pointer
		held := map[unsafe.Pointer]*int{}
		for i := range blocks {
			blocks[i] = hakmem.Malloc(size)
			held[blocks[i]] = new(int)
		}
		for _, p := range blocks {
			hakmem.Free(p)
		}
		const goroutines, rounds = 4, 2000
		var again [goroutines]int
		var wg sync.WaitGroup
		for g := range goroutines {
			wg.Go(func() {
				for range rounds {
					p := hakmem.Malloc(size)
					if v := held[p]; v != nil {
						*v++
						again[g]++
					}
					runtime.Gosched()
					hakmem.Free(p)
					runtime.Gosched() // else it would get the same block again
				}
			})
		}
		wg.Wait()
		sum := 0
		for _, n := range again {
			sum += n
		}
		if sum == 0 {
			t.Errorf("no block of %d bytes came back", size)
		}
		for _, v := range held {
			sum -= *v
		}
		if sum != 0 {
			t.Errorf("blocks of %d bytes: %d turns were lost", size, sum)
		}
	}
}
