package loops

import (
	"time"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/bench/result"
)

// Laps: the parts of a loop that has several, each with its time, faults and memory. The first worker
// notes them while the others wait at the barrier.

// The laps of growth.
const (
	LapStart    = "start" // before the first block
	LapFill     = "fill"
	LapReplace  = "replace"
	LapTrimFull = "trim full" // a trim with all blocks alive
	LapThin     = "thin"      // nine tenths of the blocks are freed
	LapRest     = "rest"
	LapTrim     = "trim" // a trim of what is left of the nine tenths
)

// growthKept is how many of n blocks are alive after growth has freed nine tenths of them.
func growthKept(n uint64) uint64 { return n / 10 }

// laps are what was noted so far. Owned by the first worker.
type laps struct {
	list  []result.Lap
	start time.Time    // when the current lap began
	then  processUsage // and what the process had used by then
	own   func() *result.Own
}

// note ends the current lap and begins the next one. What note itself does is in neither.
func (l *laps) note(name string) {
	now, took := usage(), time.Since(l.start)
	lap := result.Lap{Name: name, RSS: now.rss}
	if len(l.list) > 0 {
		lap.Seconds, lap.CPU, lap.MinorFaults = took.Seconds(), now.cpu-l.then.cpu, now.faults-l.then.faults
	}
	if l.own != nil {
		lap.Own = l.own()
	}
	l.list = append(l.list, lap)
	l.then = usage()
	l.start = time.Now()
}

// lap ends a part of the loop when all workers have come to its end.
func (w *worker) lap(name string) {
	w.shared.barrier.wait()
	if w.id == 0 {
		w.shared.laps.note(name)
	}
	w.shared.barrier.wait()
}

// rest leaves the process idle for Spec.Linger. The other workers wait at the end of the lap.
func (w *worker) rest() {
	if w.id == 0 {
		time.Sleep(w.shared.linger)
	}
}

// trim has the allocator return what it can to the system. The other workers wait at the end of the lap.
func (w *worker) trim() {
	if w.id == 0 && w.shared.trim != nil {
		w.shared.trim()
	}
}

// hakmemOwn is what hakmem says of itself, and how long it takes to.
func hakmemOwn() *result.Own {
	var s hakmem.Stats
	start := time.Now()
	hakmem.ReadStats(&s)
	return &result.Own{
		Seconds: time.Since(start).Seconds(), Live: s.Live, Committed: s.Committed,
		Metadata: s.Metadata, Tables: s.ResidentBy.Tables, Ticks: s.Scavenger.Ticks,
	}
}
