package osmem

import (
	"sync/atomic"
	"unsafe"

	"github.com/hakmem/hakmem/internal/mem"
	"golang.org/x/sys/unix"
)

// pidfdSelf stands for this process where a system call expects a pidfd, since Linux 6.14.
const pidfdSelf = -10000

// noBatch is set once the system has refused process_madvise for this process. Linux allows
// MADV_DONTNEED in that call since 6.13, and flushes translations once for all ranges since 6.16.
var noBatch atomic.Bool

// discardMany is discard for the first ranges of r, as many as the system takes at once. A Range
// has the layout of the system's iovec.
func discardMany(r []Range) (n int, err error) {
	if !noBatch.Load() && len(r) > 1 {
		self := pidfdSelf
		done, _, errno := unix.Syscall6(unix.SYS_PROCESS_MADVISE, uintptr(self),
			uintptr(unsafe.Pointer(unsafe.SliceData(r))), uintptr(len(r)), unix.MADV_DONTNEED, 0, 0)
		if errno == 0 {
			for n < len(r) && mem.Bytes(done) >= r[n].Size {
				done -= uintptr(r[n].Size)
				n++
			}
			if n > 0 {
				return n, nil
			}
		} else if errno == unix.ENOSYS || errno == unix.EPERM || errno == unix.EBADF || errno == unix.EINVAL {
			noBatch.Store(true)
		}
	}
	return 1, discard(r[0].Addr, r[0].Size)
}
