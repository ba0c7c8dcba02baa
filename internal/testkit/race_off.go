//go:build !race

package testkit

// Race says whether this build has the race detector.
const Race = false
