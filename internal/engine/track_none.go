//go:build !race

package engine

import (
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/osmem"
)

// Builds without the race detector: blocks are not tracked, and the functions of track_race.go do
// nothing here.

const (
	tracked    = false
	maxTracked = maxRegion
)

func reserveBlocks(n mem.Bytes) (mem.Addr, error) { return osmem.Reserve(n, false) }

func raceAcquire(p Block, n mem.Bytes) {}
func raceRelease(p Block, n mem.Bytes) {}
