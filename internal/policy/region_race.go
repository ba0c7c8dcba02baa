//go:build race && hakmem_racetrack

package policy

// DefaultRegion is smaller where the race detector watches blocks. There the range is memory of the Go heap, so that the
// race detector watches it.
const DefaultRegion = 2 << 30
