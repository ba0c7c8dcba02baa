package hakmem_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unsafe"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/asan"
	"github.com/hakmem/hakmem/internal/testkit"
	"github.com/hakmem/hakmem/internal/testkit/workout"
)

// Tests of memory as a whole: Trim and the memory limits.

func TestTrimKeepsLiveBlocks(t *testing.T) {
	h := hakmem.NewHeap()
	defer h.Close()
	r := newRand(t, 17)
	var blocks []workout.Block
	for i := range uint64(3000) {
		malloc := hakmem.Malloc
		if i%2 == 0 {
			malloc = h.Malloc
		}
		blocks = append(blocks, workout.NewBlock(t, malloc, uintptr(r.UintN(1<<r.UintN(18))), i))
		if i%500 == 0 {
			hakmem.Trim()
		}
	}
	for len(blocks) > 0 {
		r.Shuffle(len(blocks), func(i, j int) { blocks[i], blocks[j] = blocks[j], blocks[i] })
		for _, b := range blocks[len(blocks)/2:] {
			b.Check(t)
			hakmem.Free(b.P)
		}
		blocks = blocks[:len(blocks)/2]
		hakmem.Trim()
		for _, b := range blocks {
			b.Check(t)
		}
	}
}

var _ = testkit.Child("memory limit", memoryLimit)

// memoryLimit checks that limits from the environment hold from the first allocation on, and that
// SetMemoryLimit changes them.
func memoryLimit(string) error {
	if soft, hard := hakmem.MemoryLimit(); soft != 16<<20 || hard != 32<<20 {
		return fmt.Errorf("limits of %d and %d before the first allocation", soft, hard)
	}
	fill := func() (blocks []unsafe.Pointer) {
		for len(blocks) < 10_000 {
			p := hakmem.Malloc(100_000)
			if p == nil {
				return blocks
			}
			blocks = append(blocks, p)
		}
		return blocks
	}
	blocks := fill()
	if soft, hard := hakmem.MemoryLimit(); soft != 16<<20 || hard != 32<<20 {
		return fmt.Errorf("limits of %d and %d from the settings", soft, hard)
	}
	if n := len(blocks); n < 240 || n > 323 { // 104 KiB each, or with huge pages 2 pages of 64 KiB
		return fmt.Errorf("%d blocks of 104 KiB in 32 MiB", n)
	}
	if v := testkit.PanicOf(func() { hakmem.Alloc(100_000) }); v == nil {
		return errors.New("Alloc beyond the limit did not panic")
	} else if oom, ok := v.(*hakmem.OutOfMemoryError); !ok || !strings.Contains(oom.Error(), "hard memory limit of 33554432 bytes") || strings.Contains(oom.Error(), "HAKMEM_THP") {
		return fmt.Errorf("Alloc beyond the limit: %v", v)
	}
	// A block that is to become smaller needs no memory.
	for _, size := range []uintptr{70_000, 9000} {
		if p := hakmem.Realloc(blocks[0], size); p != blocks[0] {
			return fmt.Errorf("Realloc to %d bytes at the limit moved the block, or failed: %p", size, p)
		}
	}
	if n := hakmem.UsableSize(blocks[0]); n > 64<<10 && !asan.On { // a hardened block keeps its size
		return fmt.Errorf("a span that became smaller at the limit still has %d bytes", n)
	}
	if s := workout.ReadStats(); s.Scavenger.LimitRefused == 0 || s.OutOfMemory == 0 {
		return fmt.Errorf("not counted: %d refused, %d out of memory", s.Scavenger.LimitRefused, s.OutOfMemory)
	}
	if soft, hard, err := hakmem.SwapMemoryLimit(0, 2<<20); err != nil || soft != 16<<20 || hard != 32<<20 {
		return fmt.Errorf("SwapMemoryLimit returned %d, %d, %w", soft, hard, err)
	}
	if soft, hard, err := hakmem.SwapMemoryLimit(0, 1<<20); err == nil || soft != 0 || hard != 2<<20 {
		return fmt.Errorf("SwapMemoryLimit to a hard limit of 1 MiB returned %d, %d, %w", soft, hard, err)
	}
	// What a P's front needs cannot be refused: a new magazine, or with -asan the quarantine.
	if n := hakmem.Counted(); n < 24<<20 || n > 33<<20 {
		return fmt.Errorf("%d bytes are counted", n)
	}
	if err := hakmem.SetMemoryLimit(0, 64<<20); err != nil {
		return err
	}
	more := fill()
	if n := len(more); n < 240 || n > 323 {
		return fmt.Errorf("%d blocks more with a limit of 64 MiB", n)
	}
	if err := hakmem.SetMemoryLimit(100<<20, 64<<20); err == nil {
		return errors.New("a soft limit above the hard one was taken")
	}
	for _, p := range append(blocks, more...) {
		hakmem.Free(p)
	}
	p := hakmem.Malloc(50 << 20)
	if p == nil {
		return errors.New("all freed, and no 50 MiB in 64")
	}
	hakmem.Free(p)
	if err := hakmem.SetMemoryLimit(0, 0); err != nil {
		return err
	}
	return workout.NothingLost()
}

func TestMemoryLimit(t *testing.T) {
	testkit.InChild(t, "memory limit", "", "HAKMEM_MEMORY_SOFT=16777216", "HAKMEM_MEMORY_HARD=33554432", "HAKMEM_THP=maybe")
}
