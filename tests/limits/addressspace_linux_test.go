package limits_test

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/asan"
	"github.com/hakmem/hakmem/internal/testkit"
	"github.com/hakmem/hakmem/internal/testkit/workout"
)

// Tests under RLIMIT_AS, the limit that ulimit -v sets.

// goNeeds is the number of bytes of address space that the Go runtime needs for itself. It stops
// the program when it cannot map an arena of 64 MiB.
const goNeeds = 160 << 20

var _ = testkit.Child("address space limit", addressSpaceLimit)

// addressSpaceLimit limits the address space of the process, before the first allocation, to what
// it uses now and arg bytes more. hakmem's rule is to take what it needs when it needs it, and to
// leave a fifth, or 160 MiB, to the rest of the program.
func addressSpaceLimit(arg string) error {
	more, _ := strconv.ParseUint(arg, 10, 64)
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return err
	}
	first, _, _ := strings.Cut(string(b), " ")
	pages, err := strconv.ParseUint(first, 10, 64)
	if err != nil {
		return err
	}
	var lim syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_AS, &lim); err != nil {
		return err
	}
	used := pages * uint64(os.Getpagesize())
	lim.Cur = used + more
	if more < 1<<20 { // arg is an absolute limit in MiB, which may be less than Go's runtime already uses
		lim.Cur = max(more<<20, used+goNeeds)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_AS, &lim); err != nil {
		return err
	}
	left := lim.Cur - used
	if left < goNeeds+96<<20 { // a region of 64 MiB, its metadata, and fronts
		return workout.Without()
	}
	if n, err := workout.Work(1, 32<<20, 1); n != 0 || err != nil {
		return fmt.Errorf("%d failures: %w: %w", n, err, hakmem.Err())
	}
	if s := workout.ReadStats(); s.Reserved < 32<<20 || s.Reserved > left/5*4 {
		return fmt.Errorf("reserved %d bytes of %d, want at most four fifths", s.Reserved, left)
	}
	if err := hakmem.Err(); err != nil {
		return err
	}
	// Fill the memory that there is and free it. Afterwards everything must work again.
	for range 2 {
		if n, err := workout.Work(2, 4<<30, 500); n == 0 || err != nil {
			return fmt.Errorf("%d failures: %w", n, err)
		}
	}
	s := workout.ReadStats()
	if s.Live != 0 {
		return fmt.Errorf("live %d bytes", s.Live)
	}
	if s.Reserved < 128<<20 {
		return hakmem.CheckInvariants() // too little for every kind of block at once
	}
	return workout.NothingLost()
}

func TestAddressSpaceLimit(t *testing.T) {
	if testkit.Race {
		t.Skip("skipped: -race; its shadow memory alone is larger than the limits")
	}
	for _, mib := range []uint64{512, 2048} { // absolute: the Go runtime has already taken most of it
		testkit.InChild(t, "address space limit", strconv.FormatUint(mib, 10))
	}
	for _, more := range []uint64{goNeeds, 500 << 20, 640 << 20, 2 << 30, 3 << 30} {
		testkit.InChild(t, "address space limit", strconv.FormatUint(more, 10))
	}
}

var _ = testkit.Child("address space limit from outside", limitFromOutside)

// limitFromOutside is a program under a limit that was set before it started. Either all of hakmem
// works, or hakmem says why it does not. arg says whether it must work.
func limitFromOutside(arg string) error {
	if p := hakmem.Malloc(1); p == nil {
		if arg == "usable" {
			return fmt.Errorf("no region: %w", hakmem.Err())
		}
		if err := hakmem.Err(); err == nil || !strings.Contains(err.Error(), "RLIMIT_AS") {
			return fmt.Errorf("no region, and Err() = %v does not name the limit", err)
		}
		return workout.Without()
	} else {
		hakmem.Free(p)
	}
	// One number of bytes for which there is room, and one for which there is not.
	for _, bytes := range []uint64{32 << 20, 8 << 30} {
		if n, err := workout.Work(1, bytes, 300); err != nil || (n == 0) != (bytes < 1<<30) {
			return fmt.Errorf("%d bytes: %d failures: %w: %w", bytes, n, err, hakmem.Err())
		}
	}
	if workout.ReadStats().Reserved < 128<<20 {
		return hakmem.CheckInvariants() // too little for every kind of block at once
	}
	return workout.NothingLost()
}

var _ = testkit.Child("nothing", func(string) error { return nil })

// TestAddressSpaceLimitFromOutside sets the limit as a user would, with ulimit -v. Below some 700
// MiB Go's runtime itself does not start (Go 1.26), whatever the program. It reserves 1.2 GiB where
// it can, so at 1.5 GiB nothing is left for a region.
func TestAddressSpaceLimitFromOutside(t *testing.T) {
	if testkit.Race {
		t.Skip("skipped: -race; its shadow memory alone is larger than the limits")
	}
	if asan.On {
		t.Skip("skipped: -asan; its shadow memory alone is larger than the limits")
	}
	shell, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("skipped: no sh: ", err)
	}
	run := func(mib int, child, arg string) (string, error) {
		cmd := exec.Command(shell, "-c", fmt.Sprintf(`ulimit -v %d && exec "$0"`, mib<<10), os.Args[0])
		cmd.Env = append(os.Environ(), testkit.ChildEnv(child, arg))
		out, err := cmd.CombinedOutput()
		return string(out[:min(len(out), 2000)]), err
	}
	for _, c := range []struct {
		mib    int
		usable string
	}{{64, ""}, {256, ""}, {512, ""}, {640, ""}, {768, ""}, {1024, ""}, {1536, ""}, {2048, "usable"}, {4096, "usable"}, {8192, "usable"}} {
		if out, err := run(c.mib, "nothing", ""); err != nil {
			if c.usable != "" {
				t.Errorf("%d MiB: a program without hakmem does not start: %v\n%s", c.mib, err, out)
			}
			t.Logf("%d MiB: Go does not start", c.mib)
			continue
		}
		switch out, err := run(c.mib, "address space limit from outside", c.usable); {
		case err != nil && c.usable == "" && strings.Contains(out, "runtime: out of memory"):
			t.Logf("%d MiB: Go has no room for its own heap", c.mib) // Go's threads took it
		case err != nil:
			t.Errorf("%d MiB: %v\n%s", c.mib, err, out)
		}
	}
}
