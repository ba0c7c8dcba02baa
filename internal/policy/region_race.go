//go:build race

package policy

// defaultRegion is smaller in race builds, whose shadow memory takes most of
// the address space.
const defaultRegion = 1 << 36
