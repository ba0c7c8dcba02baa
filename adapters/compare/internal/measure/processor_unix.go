//go:build unix

package measure

import (
	"syscall"
	"time"
)

// processor returns the processor time that this process has taken, in all its threads, and whether the system says
// so.
func processor() (d time.Duration, known bool) {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0, false
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), true
}
