package osmem

import (
	"time"

	"golang.org/x/sys/unix"
)

func nap(d time.Duration) {
	left := unix.NsecToTimespec(d.Nanoseconds())
	for unix.Nanosleep(&left, &left) == unix.EINTR {
	}
}
