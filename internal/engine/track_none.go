//go:build !race

package engine

import (
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/osmem"
)

// See track_race.go.

const (
	tracked    = false
	maxTracked = maxRegion
)

func reserveBlocks(n mem.Bytes) (mem.Addr, error) { return osmem.Reserve(n, false) }

func raceAcquire(p Block, n mem.Bytes) {}
func raceRelease(p Block, n mem.Bytes) {}
