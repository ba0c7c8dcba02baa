package environments_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/asan"
	"github.com/hakmem/hakmem/internal/testkit"
	"github.com/hakmem/hakmem/internal/testkit/smaps"
	"github.com/hakmem/hakmem/internal/testkit/workout"
)

// Systems that charge a process for what it may touch.

const overcommit = "/proc/sys/vm/overcommit_memory"

// charged returns what the system charges this process for: all mappings that are accounted.
func charged() (bytes int, err error) {
	list, err := smaps.Read()
	for _, m := range list {
		if m.Has("ac") {
			bytes += int(m.Size())
		}
	}
	return bytes, err
}

var _ = testkit.Child("strict commit", strictCommit)

func strictCommit(string) error {
	if mode, err := os.ReadFile(overcommit); err != nil || mode[0] != '2' {
		return fmt.Errorf("%s is %q: %w", overcommit, mode, err)
	}
	hakmem.Free(hakmem.Malloc(16))
	before, err := charged()
	if err != nil {
		return err
	}
	for round := range 3 {
		var blocks []unsafe.Pointer
		for len(blocks) < 1<<30/(256<<10) {
			p := hakmem.Malloc(256 << 10)
			if p == nil {
				return hakmem.Err()
			}
			*(*byte)(p) = 1
			blocks = append(blocks, p)
		}
		peak, err := charged()
		if err != nil {
			return err
		}
		if peak-before < 1<<30 {
			return fmt.Errorf("with a gigabyte alive %d bytes more are charged", peak-before)
		}
		for _, p := range blocks {
			hakmem.Free(p)
		}
		hakmem.Trim()
		after, err := charged()
		if err != nil {
			return err
		}
		if after-before > before/10+8*mib { // page table entries stay: 0.2 % of the peak
			return fmt.Errorf("round %d: %d MiB are charged before, %d MiB at the peak, %d MiB after Trim", round, before/mib, peak/mib, after/mib)
		}
		if err := hakmem.CheckInvariants(); err != nil {
			return err
		}
	}
	if n, err := workout.Work(1, 128<<20, 1); n != 0 || err != nil {
		return fmt.Errorf("%d failures: %w: %w", n, err, hakmem.Err())
	}
	if err := hakmem.Err(); err != nil {
		return err
	}
	return workout.NothingLost()
}

var _ = testkit.Child("strict fronts", strictFronts)

// strictFronts: what the caches of Heaps are charged is near what they use, and goes when they are
// closed.
func strictFronts(string) error {
	hakmem.Free(hakmem.Malloc(16))
	hakmem.Trim()
	before, err := charged()
	if err != nil {
		return err
	}
	for round := range 2 {
		for _, c := range []struct {
			sizes []uintptr
			heaps int
			most  int // KiB that a Heap's caches are charged
		}{{[]uintptr{64}, 300, 64}, {[]uintptr{64, 100, 1000, 3000}, 300, 90}, {spread, 30, 384 + 16}} {
			hakmem.Free(hakmem.Malloc(512 * mib)) // room for the blocks, which is charged from here on
			ready, err := charged()
			if err != nil {
				return err
			}
			var open []*hakmem.Heap
			for range c.heaps {
				h := hakmem.NewHeap()
				for _, size := range c.sizes {
					p := h.Malloc(size)
					if p == nil {
						return hakmem.Err()
					}
					*(*byte)(p) = 1
					h.Free(p)
				}
				open = append(open, h)
			}
			peak, err := charged()
			if err != nil {
				return err
			}
			if err := hakmem.CheckInvariants(); err != nil {
				return err
			}
			for _, h := range open {
				h.Close()
			}
			hakmem.Trim()
			after, err := charged()
			if err != nil {
				return err
			}
			fmt.Printf("round %d: %d sizes: a Heap is charged %d KiB; after Close and Trim %d KiB more than before are charged for all\n", round, len(c.sizes), (peak-ready)/c.heaps>>10, (after-before)>>10)
			if n := (peak - ready) / c.heaps >> 10; n > c.most {
				return fmt.Errorf("round %d: %d sizes: a Heap is charged %d KiB, at most %d wanted", round, len(c.sizes), n, c.most)
			}
			if after-before > before/10+8*mib { // as above
				return fmt.Errorf("round %d: %d sizes: %d KiB are charged before, %d KiB after", round, len(c.sizes), before>>10, after>>10)
			}
			if err := hakmem.CheckInvariants(); err != nil {
				return err
			}
		}
	}
	if err := hakmem.Err(); err != nil {
		return err
	}
	return workout.NothingLost()
}

// spread has a size of most classes of slabs.
var spread = func() (list []uintptr) {
	for size := uintptr(16); size <= 32<<10; size += size / 8 {
		list = append(list, size&^15)
	}
	return list
}()

// commitLeft returns how much the system may still commit.
func commitLeft(t *testing.T) (bytes int) {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		t.Skip("skipped: ", err)
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		n, _ := strconv.Atoi(f[1])
		switch f[0] {
		case "CommitLimit:":
			bytes += n << 10
		case "Committed_AS:":
			bytes -= n << 10
		}
	}
	return bytes
}

// TestStrictCommit: with vm.overcommit_memory = 2, Trim gives back the right to the memory, too.
func TestStrictCommit(t *testing.T) {
	if testkit.Race || asan.On {
		t.Skip("skipped: -race and -asan map shadow memory, which would be charged")
	}
	if free := commitLeft(t); free < 3<<30 {
		t.Skipf("skipped: the system may commit only %d MiB more", free/mib)
	}
	was, err := os.ReadFile(overcommit)
	if err != nil {
		t.Skip("skipped: ", err)
	}
	if err := os.WriteFile(overcommit, []byte("2"), 0); err != nil {
		t.Skip("skipped: the system's setting cannot be changed: ", err)
	}
	defer func() {
		if err := os.WriteFile(overcommit, was, 0); err != nil {
			t.Error(err)
		}
	}()
	testkit.InChild(t, "strict commit", "")
	testkit.InChild(t, "strict fronts", "")
	testkit.InChild(t, "strict fronts", "", "HAKMEM_HARDEN=1")
}
