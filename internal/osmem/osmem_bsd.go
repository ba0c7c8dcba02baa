//go:build darwin || freebsd

package osmem

import (
	"fmt"
	"math"

	"golang.org/x/sys/unix"
)

// noReserve: these systems do not account for memory before it is touched.
const noReserve = 0

// discard maps fresh memory over the range: madvise promises neither zeroes
// nor a smaller resident set on these systems. MAP_FIXED replaces only pages of
// our own reservation. POSIX lets a failure have unmapped them, so it is
// reported as if it had.
func discard(addr, size uintptr) error {
	_, err := unix.MmapPtr(-1, 0, pointer(addr), size, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_FIXED)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDecommitted, err)
	}
	return nil
}

// addressSpaceLeft is RLIMIT_AS; what the process already uses is not known
// here, and heap takes only a quarter of the answer.
func addressSpaceLeft() uintptr {
	var lim unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_AS, &lim) != nil || uint64(lim.Cur) >= math.MaxInt64 {
		return math.MaxUint
	}
	return uintptr(lim.Cur)
}

func setName(addr, size uintptr, name string) {} // no such listing here
