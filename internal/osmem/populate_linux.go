package osmem

import (
	"errors"

	"github.com/hakmem/hakmem/internal/mem"
	"golang.org/x/sys/unix"
)

func populate(addr mem.Addr, size mem.Bytes) error {
	return do(OpPopulate, func() error { return unix.Madvise(bytes(addr, size), unix.MADV_POPULATE_WRITE) })
}

// cannotPopulate: kernels before 5.14 and emulators answer EINVAL, filters of system calls ENOSYS, EPERM
// or EACCES. ENOMEM, EFAULT and EHWPOISON are about the range, or about this moment.
func cannotPopulate(err error) bool {
	for _, refusal := range []error{unix.EINVAL, unix.ENOSYS, unix.EPERM, unix.EACCES, ErrNotSupported} {
		if errors.Is(err, refusal) {
			return true
		}
	}
	return false
}
