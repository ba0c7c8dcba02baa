//go:build darwin || freebsd || netbsd || openbsd || dragonfly

package bench

import "syscall"

func cpuModel() string { return sysctl("hw.model", "machdep.cpu.brand_string") }
func kernel() string   { return sysctl("kern.osrelease") }

func hugePages() string { return unknown }

// sysctl returns the last of the named values that exists.
func sysctl(names ...string) string {
	found := unknown
	for _, n := range names {
		if v, err := syscall.Sysctl(n); err == nil && v != "" {
			found = v
		}
	}
	return found
}
