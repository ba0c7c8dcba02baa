//go:build unix

package main

import "golang.org/x/sys/unix"

// cpuSeconds returns the CPU time of this process, user and system.
func cpuSeconds() float64 {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil { // no documented reason for this exists
		return 0
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}
