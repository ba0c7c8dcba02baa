package osmem

import (
	"runtime"
	"sync/atomic"
	"unsafe"

	"github.com/hakmem/hakmem/internal/mem"
	"golang.org/x/sys/unix"
)

// discard uses MADV_DONTNEED, not MADV_FREE: the memory leaves the resident set at once, so that
// monitoring shows the truth.
//
// MADV_DONTNEED refuses locked memory (mlock, mlockall). MADV_DONTNEED_LOCKED, since Linux 5.18,
// does not. A lock promises its owner that what he holds stays in memory; he has freed this. The
// addresses stay locked, so what is stored there next is locked as before.
func discard(addr mem.Addr, size mem.Bytes) error {
	err := unix.Madvise(bytes(addr, size), unix.MADV_DONTNEED)
	if err == unix.EINVAL && unix.Madvise(bytes(addr, size), unix.MADV_DONTNEED_LOCKED) == nil {
		return nil
	}
	return err
}

func likelyReason(err error) string {
	switch err {
	case unix.EINVAL:
		return "the memory may be locked (mlock, mlockall), and Linux before 5.18 does not return locked memory: munlock it before Free"
	case unix.EPERM:
		return "the memory may be sealed (mseal), or a filter of system calls (seccomp) refuses madvise"
	}
	return ""
}

// pidfdSelf stands for this process where a system call expects a pidfd, since Linux 6.14.
const pidfdSelf = -10000

// batches says whether the system returns many ranges in one call: process_madvise allows
// MADV_DONTNEED since Linux 6.13, takes pidfdSelf since 6.14, and flushes translations once for all
// ranges since 6.16.
var batches atomic.Uint32

const (
	batchUnknown = iota
	batchYes
	batchNo
)

// leastBatch is for how many ranges process_madvise is called: fewer take no less time than one by one
// (docs/ledger.md, "Sandboxes").
const leastBatch = 4

// discardMany is discard for the first ranges of r, as many as the system takes at once.
func discardMany(r []Range) (n int, err error) {
	if len(r) >= leastBatch && batches.Load() != batchNo {
		if n := discardBatch(r); n > 0 {
			return n, nil
		}
	}
	return 1, discard(r[0].Addr, r[0].Size)
}

// discardBatch returns how many ranges, from the first on, one call of process_madvise has returned:
// 0 where it is not to be used, or refuses the first range. A Range has the layout of the system's
// iovec.
//
// process_madvise only saves time, and a filter of system calls that does not know it may kill the
// thread or the process. systemd's @system-service does not have it. So it is not called under any
// filter. Whether there is one is asked anew before each call, since a program may set a filter at
// any time, and on the thread that makes the call, since a filter may be a thread's own. prctl is in
// @system-service, and Go's runtime itself calls it.
func discardBatch(r []Range) (n int) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if filtered() {
		return 0
	}
	if batches.Load() == batchUnknown {
		// A call for no ranges: its failure is the system's, not that of a range.
		if _, errno := processMadvise(r[:0]); errno != 0 {
			batches.Store(batchNo)
			return 0
		}
		batches.Store(batchYes)
	}
	done, _ := processMadvise(r)
	for n < len(r) && done >= r[n].Size {
		done -= r[n].Size
		n++
	}
	return n
}

// processMadvise returns how many bytes were returned, from the first range on.
func processMadvise(r []Range) (done mem.Bytes, errno unix.Errno) {
	self := pidfdSelf // a variable: the constant is negative
	n, _, errno := unix.Syscall6(unix.SYS_PROCESS_MADVISE, uintptr(self),
		uintptr(unsafe.Pointer(unsafe.SliceData(r))), uintptr(len(r)), unix.MADV_DONTNEED_LOCKED, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return mem.Bytes(n), 0
}
