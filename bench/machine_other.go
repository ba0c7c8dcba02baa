//go:build !linux && !darwin && !freebsd && !netbsd && !openbsd && !dragonfly

package bench

func cpuModel() string  { return unknown }
func kernel() string    { return unknown }
func hugePages() string { return unknown }
