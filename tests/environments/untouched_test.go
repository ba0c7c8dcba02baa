package environments_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/asan"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/testkit"
	"github.com/hakmem/hakmem/internal/testkit/workout"
)

// Blocks much larger than what is used of them.

var _ = testkit.Child("untouched blocks", untouchedBlocks)

// untouchedBlocks makes 16 blocks of 64 GiB by the function that arg names, and touches none.
func untouchedBlocks(arg string) error {
	const n, size = 16, 64 * gib
	a := hakmem.NewArena()
	site := hakmem.RegisterSite("untouched")
	malloc := map[string]func() unsafe.Pointer{
		"Malloc":         func() unsafe.Pointer { return hakmem.Malloc(size) },
		"Calloc":         func() unsafe.Pointer { return hakmem.Calloc(1, size) },
		"MallocAt":       func() unsafe.Pointer { return hakmem.MallocAt(site, size) },
		"AlignedAlloc":   func() unsafe.Pointer { return hakmem.AlignedAlloc(2*mib, size) },
		"Arena":          func() unsafe.Pointer { return a.Alloc(size, 64<<10) },
		"Realloc":        func() unsafe.Pointer { return hakmem.Realloc(hakmem.Malloc(3*mib), size) },
		"Heap.Malloc":    func() unsafe.Pointer { h := hakmem.NewHeap(); defer h.Close(); return h.Malloc(size) },
		"AlignedRealloc": func() unsafe.Pointer { return hakmem.AlignedRealloc(hakmem.Malloc(5*mib), size, 2*mib) },
		"AlignedCalloc":  func() unsafe.Pointer { return hakmem.AlignedCalloc(2*mib, size) },
		"CallocAt":       func() unsafe.Pointer { return hakmem.CallocAt(site, 1, size) },
		"Grow": func() unsafe.Pointer {
			return unsafe.Pointer(unsafe.SliceData(hakmem.Grow(hakmem.MakeSlice[byte](0, 3*mib), size)))
		},
		"ReallocZeroed":        func() unsafe.Pointer { return hakmem.ReallocZeroed(hakmem.Malloc(3*mib), 3*mib, size) },
		"AlignedReallocZeroed": func() unsafe.Pointer { return hakmem.AlignedReallocZeroed(hakmem.Malloc(5*mib), 5*mib, size, 2*mib) },
	}[arg]
	hakmem.Free(hakmem.Malloc(1)) // the region and its fixed tables are there
	was, known := osmem.ResidentBytes()
	faults, _ := osmem.ProcessFaults()
	began := time.Now()
	var blocks []unsafe.Pointer
	for range n {
		var p unsafe.Pointer
		if v := testkit.PanicOf(func() { p = malloc() }); v != nil || p == nil {
			if len(blocks) < 2 {
				fmt.Println(testkit.NotReached) // address space is limited, or overcommitting it
				return nil
			}
			break // the last one may not fit behind what the others left
		}
		blocks = append(blocks, p)
	}
	took := time.Since(began)
	now, _ := osmem.ResidentBytes()
	after, _ := osmem.ProcessFaults()
	fmt.Printf("%s: %d blocks in %v, %d KiB, %d faults\n", arg, len(blocks), took, (int64(now)-int64(was))>>10, after-faults)
	if known && now > was+10*mib {
		return fmt.Errorf("%d blocks of 64 GiB: %d bytes resident before, %d after", len(blocks), was, now)
	}
	// 16 x 64 GiB are 524,288 pieces of 2 MiB; four bytes of each are 512 pages.
	if after-faults > 4000 && runtime.GOOS == "linux" {
		return fmt.Errorf("%d blocks of 64 GiB: %d page faults", len(blocks), after-faults)
	}
	arena := arg == "Arena"
	for i, p := range blocks {
		for _, off := range []uintptr{64 << 10, 2 * mib, size / 2, size - 16} {
			e, instead := workout.MisuseOf(func() { hakmem.Free(unsafe.Add(p, off)) })
			want := "interior pointer"
			if arena {
				want = "arena memory"
			}
			if e == nil || e.Kind != want || e.Block != uintptr(p) {
				return fmt.Errorf("byte %d of block %d: %s %+v", off, i, instead, e)
			}
		}
		*(*int)(unsafe.Add(p, size/2+8*uintptr(i))) = i + 1
	}
	if arg != "Malloc" && arg != "Arena" { // what follows takes a second, and is the same for the others
		return nil
	}
	check := func() error {
		if osmem.ReadsTakeMemory() { // it reads all tables of a TiB, which would count below
			return nil
		}
		return hakmem.CheckInvariants()
	}
	if err := check(); err != nil {
		return err
	}
	live := 0
	for b := range hakmem.LiveBlocks() {
		if b.Size >= size {
			live++
		}
	}
	if live != len(blocks) {
		return fmt.Errorf("%d of %d blocks are alive", live, len(blocks))
	}
	if arena {
		a.Close()
		return check()
	}
	for i := range blocks { // half of them become smaller; then there is room to grow
		if i%2 == 1 {
			continue
		}
		p := hakmem.Realloc(blocks[i], size/4+3*mib)
		if p != blocks[i] {
			return fmt.Errorf("block %d: Realloc to a quarter = %p, want %p", i, p, blocks[i])
		}
		if p = hakmem.Realloc(p, size*7/8); p != blocks[i] || *(*int)(p) != 0 {
			return fmt.Errorf("block %d: Realloc to seven eighths = %p, want %p", i, p, blocks[i])
		}
	}
	if err := check(); err != nil {
		return err
	}
	for i, p := range blocks {
		if at := (*int)(unsafe.Add(p, size/2+8*uintptr(i))); i%2 == 1 && *at != i+1 {
			return fmt.Errorf("block %d has %d", i, *at)
		}
		hakmem.Free(p)
	}
	if err := check(); err != nil {
		return err
	}
	began = time.Now()
	hakmem.Trim()
	fmt.Printf("Trim: %v\n", time.Since(began))
	z := hakmem.Calloc(1, size)
	for i := range uintptr(n) {
		if at := (*int)(unsafe.Add(z, size/2+8*i)); *at != 0 {
			return fmt.Errorf("Calloc after all: byte %d is %d", size/2+8*i, *at)
		}
	}
	hakmem.Free(z)
	tables := uint64(128 * mib) // of chunks that were free
	if osmem.ReadsTakeMemory() {
		tables = 192 * mib // and what a tick looks at
	}
	if now, _ = osmem.ResidentBytes(); known && now > was+tables {
		return fmt.Errorf("in the end %d bytes resident, %d before", now, was)
	}
	return hakmem.CheckInvariants()
}

// TestUntouchedBlocks: blocks cost what is used of them, not what they could hold.
func TestUntouchedBlocks(t *testing.T) {
	if testkit.Race || asan.On {
		t.Skip("skipped: the region is small with -race, and -asan has marks for every byte")
	}
	for _, function := range []string{"Malloc", "Calloc", "MallocAt", "AlignedAlloc", "Arena", "Realloc", "Heap.Malloc", "AlignedRealloc",
		"AlignedCalloc", "CallocAt", "Grow", "ReallocZeroed", "AlignedReallocZeroed"} {
		if !testkit.InChild(t, "untouched blocks", function, "HAKMEM_REGION_BYTES=1099511627776") {
			t.Skip("skipped: this system has no address space for two blocks of 64 GiB")
		}
	}
}
