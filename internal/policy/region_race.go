//go:build race

package policy

// defaultRegion is smaller in race builds. There the range is memory of the Go heap, so that the
// race detector watches it.
const defaultRegion = 2 << 30
