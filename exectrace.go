package hakmem

import (
	"context"
	gotrace "runtime/trace"

	"github.com/hakmem/hakmem/internal/engine"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// What hakmem shows in an execution trace of Go (runtime/trace) while one is recorded; docs/observe.md has
// the list of names. A slow path asks once whether there is a trace, and the fast paths do not. Events
// are written by the goroutine whose call it is, before and after the engine's work and so without any of its locks.

func init() { engine.ShowAlarms(showAlarm) }

// shownBytes is from which size on an allocation is a region of the trace, in bytes: a page. Smaller ones
// take less time than the region would say.
const shownBytes = sizeclass.PageSize

// shownAlloc is an allocation that may be in an execution trace. nil: there is no trace.
type shownAlloc struct {
	size     uintptr
	refusals uint64          // those of the hard limit before the allocation
	region   *gotrace.Region // nil: the allocation is too small for one
}

// showAlloc begins the allocation of size bytes by the operation op, which is a name of a region.
func showAlloc(op string, size uintptr) *shownAlloc {
	if !gotrace.IsEnabled() {
		return nil
	}
	return beginAlloc(op, size)
}

func beginAlloc(op string, size uintptr) *shownAlloc {
	a := &shownAlloc{size: size, refusals: engine.LimitRefusals()}
	if size >= shownBytes {
		a.region = gotrace.StartRegion(context.Background(), op)
		gotrace.Logf(context.Background(), "hakmem.bytes", "%d", size)
	}
	return a
}

// end ends the allocation, which may have been refused: no memory was left.
func (a *shownAlloc) end(refused bool) {
	if a != nil {
		a.log(refused)
	}
}

func (a *shownAlloc) log(refused bool) {
	if n := engine.LimitRefusals() - a.refusals; n > 0 {
		gotrace.Logf(context.Background(), "hakmem.limit", "the hard limit has refused memory %d times during an allocation of %d bytes", n, a.size)
	}
	if refused {
		gotrace.Log(context.Background(), "hakmem.refused", outOfMemory(a.size).Error())
	}
	if a.region != nil {
		a.region.End()
	}
}

// shownWork is work on all of the memory that may be in an execution trace. nil: there is no trace.
type shownWork struct {
	counted mem.Bytes // before the work
	region  *gotrace.Region
}

// showWork begins the work; op is the part of its region's name behind "hakmem.".
func showWork(op string) *shownWork {
	if !gotrace.IsEnabled() {
		return nil
	}
	return &shownWork{counted: engine.Counted(), region: gotrace.StartRegion(context.Background(), "hakmem."+op)}
}

// end ends the work.
func (w *shownWork) end() {
	if w != nil {
		gotrace.Logf(context.Background(), "hakmem.counted", "from %d to %d bytes", w.counted, engine.Counted())
		w.region.End()
	}
}

// showAlarm does what one of the scavenger's timers is for.
func showAlarm(name string, do func()) {
	w := showWork(name)
	do()
	w.end()
}
