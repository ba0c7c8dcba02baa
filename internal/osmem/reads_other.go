//go:build !linux

package osmem

// readTakesMemory: Windows, macOS and FreeBSD fill a page at its first use, also if that is a read.
func readTakesMemory() (takes, known bool) { return true, true }
