//go:build !linux && !darwin && !freebsd && !netbsd && !openbsd && !dragonfly

package bench

// usage knows nothing of this process here.
func usage() processUsage { return processUsage{} }

func cpuModel() string  { return unknown }
func kernel() string    { return unknown }
func hugePages() string { return unknown }

func mark(uintptr) int64 { return 0 }

func idleUsage() processUsage { return usage() }
