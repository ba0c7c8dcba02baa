//go:build race && hakmem_racetrack

package policy

// defaultRegion is smaller where the race detector watches blocks. There the range is memory of the Go heap, so that the
// race detector watches it.
const defaultRegion = 2 << 30
