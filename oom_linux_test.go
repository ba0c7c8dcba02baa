package hakmem_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/hakmem/hakmem"
)

// goNeeds is what the Go runtime wants for itself: it stops the program when it
// cannot map an arena of 64 MiB.
const goNeeds = 160 << 20

func init() { children["address space limit"] = addressSpaceLimit }

// addressSpaceLimit limits the process's address space to what it has now and
// arg bytes more, before the first allocation. The rule is that hakmem takes at
// most a quarter of what is left, wants 256 MiB at least, and for that much
// takes up to half.
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
	if more < 1<<20 { // an absolute limit in MiB, which may be less than Go's runtime has
		lim.Cur = max(more<<20, used+goNeeds)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_AS, &lim); err != nil {
		return err
	}
	left := lim.Cur - used
	if left/2 < 256<<20 {
		return without()
	}
	if n, err := work(1, 32<<20, 1); n != 0 || err != nil {
		return fmt.Errorf("%d failures: %w: %w", n, err, hakmem.Err())
	}
	if s := readStats(); s.Reserved < 256<<20 || s.Reserved > max(left/4, 256<<20) {
		return fmt.Errorf("reserved %d bytes, want at most a quarter of what is left, or the least region", s.Reserved)
	}
	if err := hakmem.Err(); err != nil {
		return err
	}
	// Fill what there is; then all must work again.
	for range 2 {
		if n, err := work(2, 4<<30, 500); n == 0 || err != nil {
			return fmt.Errorf("%d failures: %w", n, err)
		}
	}
	if s := readStats(); s.Live != 0 {
		return fmt.Errorf("live %d bytes", s.Live)
	}
	return nothingLost()
}

func TestAddressSpaceLimit(t *testing.T) {
	if raceEnabled {
		t.Skip("skipped: -race; its shadow memory alone is larger than the limits")
	}
	for _, mib := range []uint64{512, 2048} { // in all: the Go runtime has taken most of it
		inChild(t, "address space limit", strconv.FormatUint(mib, 10))
	}
	for _, more := range []uint64{goNeeds, 500 << 20, 640 << 20, 2 << 30, 8 << 30} {
		inChild(t, "address space limit", strconv.FormatUint(more, 10))
	}
}
