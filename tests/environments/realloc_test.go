package environments_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"unsafe"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/asan"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/testkit"
)

// Realloc of blocks that are large, sparse, near a limit, or that grow in small steps.

const (
	gib = 1 << 30
)

// mark writes the number of each step-th byte, counted from 1, into the first n bytes at p. marked
// reports the first that is not there.
func mark(p unsafe.Pointer, n, step uintptr) {
	for off := uintptr(0); off < n; off += step {
		*(*uint64)(unsafe.Add(p, off)) = uint64(off/step) + 1
	}
}

func marked(p unsafe.Pointer, n, step uintptr) error {
	for off := uintptr(0); off < n; off += step {
		if got := *(*uint64)(unsafe.Add(p, off)); got != uint64(off/step)+1 {
			return fmt.Errorf("byte %d of %p: %d, want %d", off, p, got, off/step+1)
		}
	}
	return nil
}

// cornered returns a block of size bytes with another one right behind it, so that the first cannot
// grow in place.
func cornered(size uintptr) (p, neighbour unsafe.Pointer, err error) {
	p, neighbour = hakmem.Malloc(size), hakmem.Malloc(3*mib)
	if p == nil || neighbour == nil {
		return nil, nil, hakmem.Err()
	}
	if uintptr(neighbour) < uintptr(p)+size || uintptr(neighbour) > uintptr(p)+size+size/8+64<<10 {
		return nil, nil, fmt.Errorf("%p is not behind the block of %d bytes at %p", neighbour, size, p)
	}
	return p, neighbour, nil
}

var _ = testkit.Child("realloc at the limit", reallocAtTheLimit)

// reallocAtTheLimit grows a block by an eighth under a hard limit of one and a half times its size,
// where another block lies behind it. It is written in full, or every 64 KiB, as arg says.
func reallocAtTheLimit(arg string) error {
	size := uintptr(gib)
	if testkit.Race {
		size = 256 * mib
	}
	if err := hakmem.SetMemoryLimit(0, uint64(size)*3/2); err != nil {
		return err
	}
	p, neighbour, err := cornered(size)
	if err != nil {
		return err
	}
	step := uintptr(4096)
	if arg == "sparse" {
		step = 1 << 16
	}
	mark(p, size, step)
	var s hakmem.Stats
	hakmem.ReadStats(&s)
	was, known := osmem.ResidentBytes()
	for i := range uintptr(4) { // it moves, and grows in place; then it moves again
		to := size + size/8*(i%2+1)
		q := hakmem.Realloc(p, to)
		if q == nil {
			return fmt.Errorf("Realloc of %d to %d bytes under a limit of %d: %v", size, to, size*3/2, hakmem.Err())
		}
		if i == 0 && q == p {
			return fmt.Errorf("the block of %d bytes at %p grew over the one at %p", size, p, neighbour)
		}
		p = q
		if err := marked(p, size, step); err != nil {
			return err
		}
		hakmem.ReadStats(&s)
		if n := s.Scavenger.Used + s.Scavenger.Dirty; n > uint64(size)*3/2 {
			return fmt.Errorf("%d bytes of memory beyond the limit of %d", n, size*3/2)
		}
	}
	if now, _ := osmem.ResidentBytes(); known && !testkit.Race && !asan.On && now > was+uint64(size)/8 { // they have marks of their own
		return fmt.Errorf("%d bytes resident before, %d after", was, now)
	}
	if err := hakmem.CheckInvariants(); err != nil {
		return err
	}
	hakmem.Free(p)
	hakmem.Free(neighbour)
	if z := hakmem.Calloc(1, size); z == nil || !testkit.IsZero(z, size) {
		return fmt.Errorf("Calloc where the block was: %p is not zero", z)
	} else {
		hakmem.Free(z)
	}
	hakmem.Trim()
	return hakmem.CheckInvariants()
}

func TestReallocAtTheLimit(t *testing.T) {
	testkit.InChild(t, "realloc at the limit", "full")
	testkit.InChild(t, "realloc at the limit", "sparse")
	testkit.InChild(t, "realloc at the limit", "full", "HAKMEM_HARDEN=1")
}

var _ = testkit.Child("realloc of a sparse block", reallocOfASparseBlock)

// reallocOfASparseBlock grows a block of 4 GiB, of which 64 MiB were written, to 4.5 GiB, with another
// block behind it. arg "copy" refuses the system call that moves memory.
func reallocOfASparseBlock(arg string) error {
	const size, pieces, piece = 4 * gib, 16, 4 * mib
	if arg == "copy" {
		testkit.RefuseOp(osmem.OpMove, func(int) bool { return true })
	}
	p, neighbour, err := cornered(size)
	if err != nil {
		return err
	}
	for i := range uintptr(pieces) {
		mark(unsafe.Add(p, i*(size/pieces)), piece, 4096)
	}
	q := hakmem.Realloc(p, size+size/8)
	if q == nil || q == p {
		return fmt.Errorf("Realloc of %p gives %p: %v", p, q, hakmem.Err())
	}
	if n, ok := osmem.ResidentBytes(); ok && n > 200*mib {
		return fmt.Errorf("%d bytes resident, want at most 200 MiB", n)
	}
	for i := range uintptr(pieces) {
		if err := marked(unsafe.Add(q, i*(size/pieces)), piece, 4096); err != nil {
			return err
		}
	}
	if err := hakmem.CheckInvariants(); err != nil {
		return err
	}
	hakmem.Free(q)
	hakmem.Free(neighbour)
	hakmem.Trim()
	return hakmem.CheckInvariants()
}

func TestReallocOfASparseBlock(t *testing.T) {
	if testkit.Race || asan.On {
		t.Skip("skipped: -race has no region for 4 GiB twice, -asan no memory for so many marks of its own")
	}
	testkit.InChild(t, "realloc of a sparse block", "")
	testkit.InChild(t, "realloc of a sparse block", "copy")
	testkit.InChild(t, "realloc of a sparse block", "", "HAKMEM_HARDEN=1")
}

var _ = testkit.Child("moved mappings", movedMappings)

// movedMappings lets more blocks move than the system should get mappings for.
func movedMappings(string) error {
	maps := func() int {
		b, err := os.ReadFile("/proc/self/maps")
		if err != nil {
			return 0
		}
		return strings.Count(string(b), "\n")
	}
	const n, size = 1200, 3 * mib
	was := maps()
	var blocks []unsafe.Pointer
	for i := range n {
		p := hakmem.Malloc(size)
		if p == nil {
			return hakmem.Err()
		}
		*(*int)(p) = i
		blocks = append(blocks, p)
	}
	for i := range blocks {
		q := hakmem.Realloc(blocks[i], 4*mib)
		if q == nil || *(*int)(q) != i {
			return fmt.Errorf("block %d: Realloc gives %p", i, q)
		}
		blocks[i] = q
	}
	if now := maps(); was > 0 && now > was+1100 { // maxSeams, and what Go made
		return fmt.Errorf("%d mappings before, %d after %d moves", was, now, n)
	}
	if err := hakmem.CheckInvariants(); err != nil {
		return err
	}
	for i, p := range blocks {
		if *(*int)(p) != i {
			return fmt.Errorf("block %d has %d", i, *(*int)(p))
		}
		hakmem.Free(p)
	}
	hakmem.Trim()
	return hakmem.CheckInvariants()
}

// TestMovedMappings: a program whose blocks move gets a bounded number of mappings from it.
func TestMovedMappings(t *testing.T) {
	if testkit.Race {
		t.Skip("skipped: -race; the system moves nothing of Go's memory, and the region is too small")
	}
	testkit.InChild(t, "moved mappings", "")
}

var _ = testkit.Child("growth in small steps", growthInSmallSteps)

// growthInSmallSteps lets a block grow to 64 MiB, by a 500th or 16 bytes, whichever is more, and counts
// the bytes of the block whenever its address has changed and the system did not move it.
func growthInSmallSteps(string) error {
	const last = 64 * mib
	p := hakmem.Malloc(16)
	*(*byte)(p) = 7
	copied, calls := uintptr(0), 0
	for size := uintptr(16); size < last; calls++ {
		next := size + max(size/500, 16)
		moves := osmem.Calls(osmem.OpMove)
		q := hakmem.Realloc(p, next)
		if q == nil {
			return hakmem.Err()
		}
		if q != p && osmem.Calls(osmem.OpMove) == moves {
			copied += size
		}
		if hakmem.UsableSize(q) < next || *(*byte)(q) != 7 || size > 16 && *(*byte)(unsafe.Add(q, size-1)) != 8 {
			return fmt.Errorf("%d bytes at %p: usable %d, contents %d and %d", next, q, hakmem.UsableSize(q), *(*byte)(q), *(*byte)(unsafe.Add(q, size-1)))
		}
		*(*byte)(unsafe.Add(q, next-1)) = 8
		p, size = q, next
	}
	if copied > 6*last {
		return fmt.Errorf("%d bytes were moved in %d calls, %d times the last size", copied, calls, copied/last)
	}
	fmt.Printf("%d calls, %.2f times the last size moved\n", calls, float64(copied)/last)
	hakmem.Free(p)
	return hakmem.CheckInvariants()
}

// TestGrowthInSmallSteps: whatever gate is on, a block that grows in small steps is not copied each
// time.
func TestGrowthInSmallSteps(t *testing.T) {
	for _, gate := range []string{"HAKMEM_MODE=fast", "HAKMEM_HARDEN=1", "HAKMEM_GUARD=1", "HAKMEM_GUARD=1/100"} {
		testkit.InChild(t, "growth in small steps", "", gate)
	}
	testkit.InChild(t, "growth in small steps", "", "HAKMEM_HARDEN=1", "HAKMEM_GUARD=1")
}
