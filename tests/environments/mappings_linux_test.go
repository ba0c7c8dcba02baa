package environments_test

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/testkit"
	"github.com/hakmem/hakmem/internal/testkit/workout"
)

// Programs that have many mappings of their own. Linux allows a process vm.max_map_count of them,
// 65530 by default, and Go's runtime ends a process that cannot map more memory.

var _ = testkit.Child("many mappings", manyMappings)

// mappingsLeft returns how many more mappings the process may have.
func mappingsLeft() (int, error) {
	limit, err := os.ReadFile("/proc/sys/vm/max_map_count")
	if err != nil {
		return 0, err
	}
	most, err := strconv.Atoi(strings.TrimSpace(string(limit)))
	if err != nil {
		return 0, err
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return 0, err
	}
	return most - bytes.Count(maps, []byte{'\n'}), nil
}

// takeMappings makes mappings until the process may have only leave more.
func takeMappings(leave int) error {
	left, err := mappingsLeft()
	if err != nil {
		return err
	}
	n := left - leave - 1
	page := os.Getpagesize()
	b, err := unix.Mmap(-1, 0, n*page, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return err
	}
	for i := 1; i < n; i += 2 { // every second page differs, so each page is a mapping
		if err := unix.Mprotect(b[i*page:(i+1)*page], unix.PROT_READ); err != nil {
			return fmt.Errorf("page %d of %d: %w", i, n, err)
		}
	}
	return nil
}

// manyMappings allocates with every block guarded, in a process that may have some 15,000 mappings
// more. With arg "later" the program takes nearly all when there are guarded blocks. For a moment there
// is no mapping left then, in which Go's heap must not need one: it is grown before.
func manyMappings(arg string) error {
	var grown [16][]byte
	for i := range grown {
		grown[i] = make([]byte, 4<<20)
	}
	runtime.KeepAlive(grown)
	runtime.GC()
	debug.SetGCPercent(-1)
	if arg != "later" {
		if err := takeMappings(15_500); err != nil {
			return err
		}
	}
	free, err := mappingsLeft()
	if err != nil {
		return err
	}
	var blocks []unsafe.Pointer
	allocate := func(n int) error {
		for range n {
			p := hakmem.Malloc(100)
			if p == nil {
				return fmt.Errorf("nil after %d blocks: %w", len(blocks), hakmem.Err())
			}
			*(*byte)(p) = 1
			blocks = append(blocks, p)
		}
		return nil
	}
	if err := allocate(1000); err != nil {
		return err
	}
	if s := workout.ReadStats(); s.Guard.Live != 1000 || s.Guard.Skipped != 0 {
		return fmt.Errorf("of 1000 blocks %d are guarded, %d skipped", s.Guard.Live, s.Guard.Skipped)
	}
	if arg == "later" {
		if err := takeMappings(500); err != nil {
			return err
		}
		// What guards may still take by their last look is not there any more. They look again, or
		// they fail, give back the 128 that they have to spare, and rest. Of these the rest of the
		// process may take some meanwhile: 29 in a build with -asan, which maps more for a thread.
		if err := allocate(20_000); err != nil {
			return err
		}
		left, err := mappingsLeft()
		if err != nil {
			return err
		}
		if s := workout.ReadStats(); s.SystemCalls.Failed > 4 || s.Guard.Skipped < 19_000 || left < 64 {
			return fmt.Errorf("%d failed calls, %d blocks skipped, %d mappings left of 500", s.SystemCalls.Failed, s.Guard.Skipped, left)
		}
	} else {
		if err := allocate(40_000); err != nil {
			return err
		}
		left, err := mappingsLeft()
		if err != nil {
			return err
		}
		s := workout.ReadStats()
		if left < free/4 || s.Guard.Live <= 1000 || s.Guard.Skipped == 0 {
			return fmt.Errorf("%d mappings are left of %d, with %d guarded blocks; %d skipped", left, free, s.Guard.Live, s.Guard.Skipped)
		}
		if err := hakmem.Err(); err != nil || s.SystemCalls.Failed != 0 {
			return fmt.Errorf("%d failed calls: %w", s.SystemCalls.Failed, err)
		}
		// Go's heap can grow.
		for range 4 {
			sink := make([]byte, 100<<20)
			sink[0] = 1
		}
	}
	for _, p := range blocks {
		hakmem.Free(p)
	}
	if s := workout.ReadStats(); s.Guard.Live != 0 || s.Live != 0 {
		return fmt.Errorf("all freed: %d guarded blocks, %d bytes live", s.Guard.Live, s.Live)
	}
	return hakmem.CheckInvariants()
}

func TestManyMappings(t *testing.T) {
	left, err := mappingsLeft()
	if err != nil {
		t.Skipf("skipped: %v", err)
	}
	// With many more it would take long, and much of the kernel's memory.
	if left < 20_000 || left > 300_000 {
		t.Skipf("skipped: this process may have %d mappings more, which is too few or too many for this test", left)
	}
	for _, arg := range []string{"", "later"} {
		t.Run("take "+arg, func(t *testing.T) { testkit.InChild(t, "many mappings", arg, "HAKMEM_GUARD=1") })
	}
}
