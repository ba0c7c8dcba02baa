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

// MarkWatched makes the free of the block at p, which the caller holds, come to a slow path whoever
// frees it, even if that is a Heap that has not noticed the watching yet. Otherwise that free would
// be missing, and the next allocation of the address would be seen while the block still counts as
// live.
func MarkWatched(p Block) {
	if at, _, _, why := liveByte(p); checkLive && why == OK && state(at) != liveSited {
		putState(at, liveWatched)
	}
}
