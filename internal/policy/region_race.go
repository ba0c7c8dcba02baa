//go:build race

package policy

// DefaultRegion is smaller in race builds. There the range is memory of the Go heap, so that the
// race detector watches it.
const DefaultRegion = 2 << 30
