//go:build !unix

package main

// cpuSeconds is not known here. Nor is resident memory, which is asked for first.
func cpuSeconds() float64 { return 0 }
