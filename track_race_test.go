//go:build race

package hakmem_test

import (
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"github.com/hakmem/hakmem"
)

// In -race builds the race detector sees what goroutines do with blocks. It must report nothing
// where hakmem hands memory from one goroutine to another.

const racyVar = "HAKMEM_TEST_RACY"

func poke(p unsafe.Pointer, n uintptr) {
	for i := range n {
		*(*byte)(unsafe.Add(p, i))++
	}
}

// racySizes has one size of each kind of block.
var racySizes = []uintptr{24, 1000, 5000, 100_000, 3 << 20}

// TestRacy is the program that TestRaceIsSeen runs.
func TestRacy(t *testing.T) {
	which := os.Getenv(racyVar)
	if which == "" {
		t.Skip("for TestRaceIsSeen")
	}
	var wg sync.WaitGroup
	for i, size := range racySizes {
		if which != string(rune('0'+i)) {
			continue
		}
		p := hakmem.Malloc(size)
		for range 2 {
			wg.Go(func() { poke(unsafe.Add(p, size/2), 8) })
		}
		wg.Wait()
		hakmem.Free(p)
	}
}

func TestRaceIsSeen(t *testing.T) {
	for i, size := range racySizes {
		cmd := exec.Command(os.Args[0], "-test.run=^TestRacy$")
		cmd.Env = append(os.Environ(), racyVar+"="+string(rune('0'+i)))
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "DATA RACE") || !strings.Contains(string(out), "hakmem_test.poke") {
			t.Errorf("two goroutines write a block of %d bytes, and the race detector says: %v\n%s", size, err, out)
		}
	}
}

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
