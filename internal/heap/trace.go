package heap

import "sync/atomic"

// tracing is on while the public package records every call of its functions
// (its trace.go). It is owned here, where it decides who gets a front: while it
// is on no P has one, so that every call of the global functions comes to a slow
// path, and the slow paths work on the locked fronts (enter, installFront).
// SetTracing alone changes it. Fast paths do not know of it.
var tracing atomic.Bool

// Tracing reports whether calls are to be recorded. Any goroutine; slow paths
// only. A call that overlaps SetTracing may see either.
func Tracing() bool { return tracing.Load() }

// SetTracing turns tracing on or off. When it has returned from turning it on,
// every later call for a P comes to a slow path. The fronts that the old state
// used are drained, and each P or shard makes another when it needs one. Not
// entered; one caller at a time; it stops the world.
func SetTracing(on bool) {
	tracing.Store(on)
	// An installFront that read the old value is pinned: let it end, so that
	// drainAll sees what it installed.
	drainMu.Lock()
	grace()
	drainMu.Unlock()
	scavenger.moving.Lock()
	defer scavenger.moving.Unlock()
	if late := drainAll(); late != 0 {
		lateFound.Store(late)
	}
}

// MarkTraced makes the free of the block at p, which the caller holds, come to a
// slow path whoever frees it, also a Heap that has not met the trace yet.
// Without it that free would be missing, and the next allocation of the address
// would be recorded while the trace still has the block as live.
func MarkTraced(p uintptr) {
	if at, _, _, why := liveByte(p); checkLive && why == OK && *u8(at) != liveSited {
		*u8(at) = liveTraced
	}
}

// Survive records an error of the public package that did not stop hakmem.
func Survive(err error) { survive(err) }
