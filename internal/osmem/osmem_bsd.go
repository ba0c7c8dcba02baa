//go:build darwin || freebsd

package osmem

import (
	"fmt"
	"math"

	"github.com/hakmem/hakmem/internal/mem"
	"golang.org/x/sys/unix"
)

// noReserve: these systems do not account for memory before it is touched.
const noReserve = 0

// discard maps fresh memory over the range: madvise promises neither zeroes nor a smaller resident
// set on these systems. MAP_FIXED replaces only pages of our own reservation. POSIX allows a failed
// call to have unmapped them, so a failure is reported as if it had.
func discard(addr mem.Addr, size mem.Bytes) error {
	_, err := unix.MmapPtr(-1, 0, pointer(addr), uintptr(size), unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_FIXED)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDecommitted, err)
	}
	return nil
}

// addressSpaceLeft is RLIMIT_AS. How much the process already uses is not known here, so package
// engine takes only a quarter of the answer.
func addressSpaceLeft() mem.Bytes {
	var lim unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_AS, &lim) != nil || uint64(lim.Cur) >= math.MaxInt64 {
		return math.MaxUint
	}
	return mem.Bytes(lim.Cur)
}

func reserveAt(addr mem.Addr, size mem.Bytes) error { return ErrNoChoice }

func unlock(addr mem.Addr, size mem.Bytes)      {}
func lockTouched(addr mem.Addr, size mem.Bytes) {}

// LockRefused is nil: locked mappings are not looked for on these systems.
func LockRefused() error { return nil }

func leaveOutOfDumps(addr mem.Addr, size mem.Bytes) {} // their dumps leave out what was never touched

func uncommit(addr mem.Addr, size mem.Bytes, readable bool) error { return withdraw(addr, size) }

func strictCommit() bool { return false }

func commitPinned(addr mem.Addr, size mem.Bytes) error { return commit(addr, size) }

func setName(addr mem.Addr, size mem.Bytes, name string) {} // these systems have no such listing
