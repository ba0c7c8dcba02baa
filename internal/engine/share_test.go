package engine

import (
	"testing"

	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/policy"
)

// TestCacheLimit: the budget by the number of fronts and the memory in use, and the one that is set.
func TestCacheLimit(t *testing.T) {
	for _, test := range []struct {
		fronts     int
		used, want mem.Bytes
	}{
		{1, 0, 4 << 20},
		{2, 0, 8 << 20},
		{3, 0, 12 << 20},
		{4, 0, 12<<20 + 512<<10},
		{16, 200 << 20, 14 << 20},
		{64, 0, 20 << 20},
		{64, 1 << 30, 64 << 20},
	} {
		if got := cacheLimit(test.fronts, test.used); got != test.want {
			t.Errorf("%d fronts, %d MiB in use: %d bytes, want %d", test.fronts, test.used>>20, got, test.want)
		}
	}
	tune(t, func(p *policy.Tuning) { p.CacheBudget = 12345 })
	if got := cacheLimit(64, 1<<30); got != 12345 {
		t.Errorf("with a budget that is set: %d bytes, want 12345", got)
	}
}

// TestShareOfFronts: a front that comes makes the share of each smaller at once, and one that goes makes it
// larger. A look of the scavenger counts those that are in use.
func TestShareOfFronts(t *testing.T) {
	needsACE(t)
	clock := withClock(t)
	for range 3 { // fewer have four MiB each
		h := newTestHeap(t)
		defer h.close(t)
	}
	setFronts(3, 0)
	var all []*testHeap
	before := roomShare()
	for range 20 {
		all = append(all, newTestHeap(t))
		if now := roomShare(); now >= before {
			t.Fatalf("with %d Heaps more the share is %d bytes, and was %d with one less", len(all), now, before)
		} else {
			before = now
		}
	}
	for _, h := range all {
		h.free(t, h.malloc(64)) // so that the scavenger runs
	}
	for range 4 {
		clock.Advance(tick())
	}
	scavenger.moving.Lock()
	look := lookAtCaches()
	scavenger.moving.Unlock()
	if want := cacheLimit(look.fronts, look.used) * shareRoom / mem.Bytes(look.fronts); look.fronts < len(all) || roomShare() != want {
		t.Errorf("after a look at %d fronts the share is %d bytes, want %d", look.fronts, roomShare(), want)
	}
	for _, h := range all {
		before = roomShare()
		if h.close(t); roomShare() <= before {
			t.Fatalf("a Heap less, and the share is %d bytes as before", roomShare())
		}
	}
}

// withShare makes the room of all magazines of a front that the test makes so many bytes.
func withShare(t *testing.T, room mem.Bytes) Front {
	t.Helper()
	tune(t, func(p *policy.Tuning) { p.CacheBudget = 1 << 20 })
	f := heapFront(t)
	was := sharing.room.Swap(uint64(room)) // the clock does not move, so nobody looks
	t.Cleanup(func() { sharing.room.Store(was) })
	return f
}

// TestRoomWithinShare: the magazines of all classes together keep within the share of their front, except that
// each of a slab's blocks has the least room. Large blocks have none where nothing is left.
func TestRoomWithinShare(t *testing.T) {
	needsACE(t)
	withClock(t)
	const share = 2 << 20
	f := withShare(t, share)
	h, least := f.head(), mem.Bytes(0)
	for _, sizes := range [][]mem.Bytes{{16, 64, 512, 1024}, {5000, 20000}, {48 << 10, 600 << 10}, {200, 1500, 30000, 300 << 10}} {
		for range 4 {
			for _, size := range sizes {
				turn(t, f, 300, size)
			}
		}
		for _, size := range sizes {
			c := classOf(size)
			least += mem.Bytes(min(firstRoom(c), leastRoom(c))) * c.Bytes()
		}
		if h.room > share+least {
			t.Errorf("after blocks of %d bytes there is room for %d bytes, want at most %d and %d", sizes, h.room, share, least)
		}
		mustHold(t)
	}
	if h.room < share*3/4 {
		t.Errorf("there is room for %d bytes, want nearly the share of %d", h.room, share)
	}
	if c := classOf(600 << 10); !h.closed[c] || h.cap[c] != 0 {
		t.Errorf("a large block of 600 KiB has room for %d, closed %t", h.cap[c], h.closed[c])
	}
}

// TestRoomMoves: where the share of a front has no room left, the classes that miss get that of those that do not.
func TestRoomMoves(t *testing.T) {
	needsACE(t)
	clock := withClock(t)
	const share = 1 << 20
	f := withShare(t, share)
	h := f.head()
	idle := []mem.Bytes{300, 600, 1000, 1500, 2500, 3500, 5000, 8000, 12000, 20000, 30000}
	for range 4 {
		for _, size := range idle {
			turn(t, f, 300, size)
		}
	}
	c := classOf(256)
	turn(t, f, 300, 256)
	first := h.cap[c]
	for range 60 {
		turn(t, f, 900, 256)
		sharing.room.Store(share) // a look of the scavenger has set it anew
		steps(clock, f, 1)
		sharing.room.Store(share)
	}
	if h.cap[c] < 2*first {
		t.Errorf("room for %d blocks that are missed all the time, and %d at first", h.cap[c], first)
	}
	if h.room > 2*share {
		t.Errorf("there is room for %d bytes, want at most the share of %d and the least of each", h.room, share)
	}
	mustHold(t)
}

// TestLeasesWithinShare: the slabs that a front leases keep within its share: the lease of another class ends when
// one begins. A slab that is larger is not leased beyond a refill.
func TestLeasesWithinShare(t *testing.T) {
	needsACE(t)
	withClock(t)
	f := withShare(t, leaseFree) // so that two slabs of 64 KiB may be leased
	h := f.head()
	if leaseShare() != leaseLeast {
		t.Fatalf("leases may have %d bytes, want %d", leaseShare(), leaseLeast)
	}
	var blocks []Block
	for _, size := range []mem.Bytes{16, 64, 200, 500, 1000, 20000, 48, 96, 30000} {
		c := classOf(size)
		blocks = append(blocks, Malloc(f, size))
		kept := *f.lease(c) != 0
		if fits := slabBytes(c) <= leaseLeast; kept != fits {
			t.Errorf("%d bytes: the slab is leased: %t, want %t", size, kept, fits)
		}
		if h.leases > leaseLeast {
			t.Errorf("%d bytes: slabs of %d bytes are leased, want at most %d", size, h.leases, leaseLeast)
		}
		mustHold(t)
	}
	if h.leases != leaseLeast {
		t.Errorf("slabs of %d bytes are leased, want %d", h.leases, leaseLeast)
	}
	for _, p := range blocks {
		freeThrough(t, f, p)
	}
	mustHold(t)
}
