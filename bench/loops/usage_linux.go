package loops

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// usage looks at this process.
func usage() (u processUsage) {
	var ru syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &ru) == nil {
		u.faults = uint64(ru.Minflt)
		u.cpu = time.Duration(ru.Utime.Nano() + ru.Stime.Nano()).Seconds()
	}
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return u
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		kib, _ := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		switch name {
		case "VmHWM":
			u.peak = kib << 10
		case "VmRSS":
			u.rss = kib << 10
		}
	}
	return u
}

// idleUsage looks at this process and resets its peak, so that memory that the harness used earlier
// does not count.
func idleUsage() processUsage {
	// 5: reset the peak of the resident memory (proc_pid_clear_refs(5))
	_ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0)
	return usage()
}

// mark returns the time on the clock that other processes see as well. It also makes a system call
// that a tracer of this process recognises: madvise of no bytes, at an address that spells which
// mark it is.
func mark(address uintptr) int64 {
	syscall.Syscall(syscall.SYS_MADVISE, address, 0, 0) // of no bytes: no effect
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) != nil {
		return 0
	}
	return t.Nano()
}
