//go:build darwin || freebsd || netbsd || openbsd || dragonfly

package loops

import (
	"runtime"
	"syscall"
	"time"
)

// usage looks at this process. Its current resident memory is not known here.
func usage() (u processUsage) {
	var ru syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &ru) == nil {
		u.faults, u.peak = uint64(ru.Minflt), uint64(ru.Maxrss)
		u.cpu = time.Duration(ru.Utime.Nano() + ru.Stime.Nano()).Seconds()
		if runtime.GOOS != "darwin" { // macOS counts bytes, the others KiB
			u.peak <<= 10
		}
	}
	return u
}

func mark(uintptr) int64 { return 0 }

func idleUsage() processUsage { return usage() }
