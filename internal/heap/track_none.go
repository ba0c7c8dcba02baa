//go:build !race

package heap

import "github.com/hakmem/hakmem/internal/osmem"

// See track_race.go.

const (
	tracked    = false
	maxTracked = maxRegion
)

func reserveBlocks(n uintptr) (uintptr, error) { return osmem.Reserve(n, false) }

func raceAcquire(p, n uintptr) {}
func raceRelease(p, n uintptr) {}
