package engine

import "github.com/hakmem/hakmem/internal/check"

// How the public package gets to see every call. The state, watched, is in modes.go, under watchMu.

// Watch begins or ends the watching of who (WatchCalls or WatchStacks). When it has returned from
// beginning, every later call for a P comes to a slow path. The fronts that the old state used are
// drained, and each P or shard makes another when it needs one. Not entered; it stops the world.
func Watch(who uint32, on bool) {
	check.MustNotBeEntered("Watch")
	watchMu.Lock()
	defer watchMu.Unlock()
	old := watched.Load()
	now := old | who
	if !on {
		now = old &^ who
	}
	watched.Store(now)
	if (old != 0) == (now != 0) {
		return // the fronts are the right ones already
	}
	// An installFront that read the old value is pinned. Let it end, so that drainAll sees what it
	// installed.
	drainMu.Lock()
	grace()
	drainMu.Unlock()
	scavenger.moving.Lock()
	drainAll()
	scavenger.moving.Unlock()
	if region.ready.Load() { // the window comes from the policy, which may still be set
		kick()
	}
}
