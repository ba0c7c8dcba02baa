package engine

import (
	"sync/atomic"
	"time"

	"github.com/hakmem/hakmem/internal/learn"
	"github.com/hakmem/hakmem/internal/policy"
)

// This file measures how long allocations take that find a magazine empty, for the 99th percentile that
// learn.Evolution judges by. With HAKMEM_EVO=auto one in latencyEvery of them is timed, otherwise none.

const (
	// latencyEvery: to read the clock twice takes some 60 ns and an allocation that finds a magazine empty
	// 300 ns or more. So the measurement costs 3 % of these, which are one in 30 of all.
	latencyEvery = 8
	// latencyRoom is how many times of a window are remembered: below a thousand a 99th percentile says
	// little (learn.Window). The last ones count.
	latencyRoom = 1024
)

// latencies are the last times that were measured, in ns. times[i%latencyRoom] is the i-th one. All of it
// is atomic, since goroutines on all Ps write it.
var latencies struct {
	n     atomic.Uint32
	times [latencyRoom]atomic.Uint32
}

// beginLatency returns the time if the miss of this number is one of those that are measured, else 0. Any
// goroutine, also entered.
func beginLatency(miss uint64) time.Duration {
	if !learning || miss%latencyEvery != 0 || policy.Now().Evo != learn.EvolutionAuto {
		return 0
	}
	return startTime()
}

// endLatency notes that what beginLatency began has ended. Not entered, so that it is measured as the
// program sees it.
func endLatency(began time.Duration) {
	if began == 0 {
		return
	}
	d := min(max(elapsed()-began, 1), 1<<32-1) // 4 s
	i := latencies.n.Add(1) - 1
	latencies.times[i%latencyRoom].Store(uint32(d))
}

// takeP99 returns the 99th percentile of the times that were measured since the last call, in ns, or 0 if
// they are too few to say. Under scavenger.mu.
func takeP99() float64 {
	n := latencies.n.Swap(0)
	if n < latencyRoom {
		return 0
	}
	var p learn.P2
	for i := range latencies.times {
		p.Add(float64(latencies.times[i].Load()))
	}
	return p.Value()
}
