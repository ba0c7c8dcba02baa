//go:build !(race && hakmem_racetrack)

package testkit

// Tracked says whether the race detector watches the bytes of blocks.
const Tracked = false
