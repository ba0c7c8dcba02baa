package osmem

import (
	"fmt"

	"github.com/hakmem/hakmem/internal/mem"
	"golang.org/x/sys/unix"
)

// renew maps fresh memory over the range, since no madvise takes an advice back. (MADV_HUGEPAGE ends
// MADV_NOHUGEPAGE, but is not the default.)
func renew(addr mem.Addr, size mem.Bytes) error {
	_, err := mapAt(addr, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_FIXED)
	if err == nil {
		// After mlockall(MCL_FUTURE) the new mapping is locked and has all of its memory. Both calls
		// do nothing otherwise.
		if unix.Munlock(bytes(addr, size)) == nil {
			_ = discard(addr, size)
		}
		return nil
	}
	// Kernels before 6.12 may have unmapped the range. Then this fails, too.
	if discard(addr, size) == nil {
		return err
	}
	// A mapping without access needs no room in the system's accounts. It is taken first, so that
	// nobody else takes the addresses.
	_, e := mapAt(addr, size, unix.PROT_NONE, unix.MAP_FIXED)
	if e == nil {
		e = commit(addr, size)
	}
	if e != nil {
		return fmt.Errorf("%w: %w: %w", ErrDecommitted, err, e)
	}
	return nil
}
