// Package work is what each program of the build modes does: it uses hakmem from several
// goroutines and finds out whether everything is in order.
package work

import (
	"fmt"
	"sync"
	"unsafe"

	"github.com/hakmem/hakmem"
)

// sizes are of every kind of block: tiny, mid, large and huge.
var sizes = []int{1, 48, 1000, 3000, 20_000, 100_000, 3 << 20}

// Run allocates, checks and frees blocks from several goroutines, by every way to do so. Then
// nothing may be live, every invariant must hold, and nothing may have gone wrong. No other
// goroutine may use hakmem meanwhile.
func Run() error {
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for g := range errs {
		wg.Go(func() { errs[g] = churn(byte(g + 1)) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	hakmem.Trim()
	var s hakmem.Stats
	hakmem.ReadStats(&s)
	if s.LiveBlocks != 0 || s.InMagazines != 0 {
		return fmt.Errorf("all freed, and %d blocks are live, %d bytes in magazines", s.LiveBlocks, s.InMagazines)
	}
	if err := hakmem.CheckInvariants(); err != nil {
		return err
	}
	if refused(func() { hakmem.Free(unsafe.Pointer(&s)) }) == nil {
		return fmt.Errorf("the free of a Go pointer was accepted")
	}
	return hakmem.Err()
}

func churn(key byte) error {
	h := hakmem.NewHeap()
	defer h.Close()
	for round := range 20 {
		var blocks [][]byte
		var mine []unsafe.Pointer
		for i := range 40 * len(sizes) {
			size := sizes[i%len(sizes)]
			if size > 1<<20 && i > 3*len(sizes) {
				continue
			}
			b := hakmem.Alloc(size)
			for j := 0; j < len(b); j += 512 {
				b[j] = key
			}
			blocks = append(blocks, b)
			p := h.Malloc(uintptr(min(size, 4000)))
			*(*byte)(p) = key
			mine = append(mine, p)
		}
		for i, b := range blocks {
			for j := 0; j < len(b); j += 512 {
				if b[j] != key {
					return fmt.Errorf("goroutine %d, round %d: byte %d of a block of %d is %d", key, round, j, len(b), b[j])
				}
			}
			if *(*byte)(mine[i]) != key {
				return fmt.Errorf("goroutine %d, round %d: a block of its Heap was changed", key, round)
			}
			hakmem.Free(unsafe.Pointer(unsafe.SliceData(b)))
			h.Free(mine[i])
		}
	}
	return nil
}

// refused calls do and returns the misuse that it panicked with.
func refused(do func()) (misuse *hakmem.MisuseError) {
	defer func() { misuse, _ = recover().(*hakmem.MisuseError) }()
	do()
	return nil
}
