//go:build !linux

package main

// watchMemory returns no samples, because other systems have no /proc.
func watchMemory(int) (stop func() []sample) { return func() []sample { return nil } }
