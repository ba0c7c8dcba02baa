package hakmem

import (
	"fmt"
	"runtime"
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/engine"
)

// This file is about Heaps and Arenas that were dropped without Close. The collector finds them
// unreachable and runs a cleanup on a goroutine of the runtime.

// abandoned counts the Heaps and Arenas that were dropped.
var abandoned struct{ heaps, arenas atomic.Uint64 }

// stack holds the innermost callers of a function; up to three of the five are in this package.
// Recording it takes half a microsecond, most of the cost of noticing a dropped Heap or Arena.
type stack [5]uintptr

func callers() (s stack) {
	runtime.Callers(2, s[:])
	return s
}

// String names the function that called this package.
func (s stack) String() string {
	frames := runtime.CallersFrames(s[:])
	for {
		f, more := frames.Next()
		if f.Function != "" && !engine.Own(f.Function) {
			return fmt.Sprintf("%s (%s:%d)", f.Function, f.File, f.Line)
		}
		if !more {
			return "a function that is not known"
		}
	}
}

// abandonedHeap is what the cleanup of a Heap needs to know. It has no reference to the Heap.
type abandonedHeap struct {
	front engine.Front
	heap  uintptr
	by    stack
}

func abandonHeap(h abandonedHeap) {
	if abandoned.heaps.Add(1) == 1 {
		engine.Survive(fmt.Errorf("hakmem: the Heap at %#x, made by %v, was dropped without Close: its magazines were given back; Close each Heap (Stats.Abandoned counts such Heaps, this is the first)", h.heap, h.by))
	}
	engine.AbandonHeapFront(h.front)
}

func abandonArena(c *chunks) {
	if len(c.list) == 0 { // the Arena's only allocation found no memory
		return
	}
	if abandoned.arenas.Add(1) == 1 {
		engine.Survive(fmt.Errorf("hakmem: the Arena at %#x, first used by %v, was dropped without Close: its memory was freed, %d chunks, the first at %#x; Close each Arena (Stats.Abandoned counts such Arenas, this is the first)", c.arena, c.by, len(c.list), c.list[0].start))
	}
	c.free()
}
