//go:build !(race && hakmem_racetrack)

package engine

import (
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/osmem"
)

// Builds in which no race detector watches blocks: see track_race.go.

const (
	tracked    = false
	maxTracked = maxRegion
)

func reserveBlocks(n mem.Bytes) (mem.Addr, error) { return osmem.Reserve(n, false) }
