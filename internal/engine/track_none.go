//go:build !(race && hakmem_racetrack)

package engine

// Builds in which no race detector watches blocks: see track_race.go.

const (
	tracked    = false
	maxTracked = maxRegion
)
