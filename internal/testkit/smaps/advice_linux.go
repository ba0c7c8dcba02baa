package smaps

import (
	"os"

	"golang.org/x/sys/unix"
)

// unknownAdvice is no kind of advice of any Linux, so that a kernel refuses it.
const unknownAdvice = 1 << 20

// TakesAdvice reports whether madvise has an effect. qemu's user emulation does nothing with most
// kinds of advice, and says that all went well.
func TakesAdvice() bool {
	page, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return false
	}
	defer unix.Munmap(page)
	return unix.Madvise(page, unknownAdvice) != nil
}
