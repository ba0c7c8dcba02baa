//go:build !race

package engine

import (
	"github.com/hakmem/hakmem/internal/mem"
)

// Builds without the race detector: blocks are not tracked, and the functions of track_race.go do
// nothing here.

const (
	tracked    = false
	maxTracked = maxRegion
)

func raceAcquire(p Block, n mem.Bytes) {}
func raceRelease(p Block, n mem.Bytes) {}
