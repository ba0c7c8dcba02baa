package engine

import (
	"sync/atomic"
	"time"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/policy"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// ACE, the adaptive cache engine, shares one budget of memory among all caches of free blocks: the
// magazines and leases of all fronts, and the shared slots. What a byte costs is the same everywhere
// (learn.Budget). The scavenger's tick sets the price, and each front asks by itself how much room each
// of its magazines is worth (learn.RoomCosts).
//
// A front does that in its slow paths, after every aceEvents misses and overflows. No lock is taken for
// it and the world is not stopped. For each class it knows how many blocks were moved out of the magazine
// and were wanted back: these are the GHOST hits, which more room would have served. The fast paths count
// nothing.

const (
	// aceLeast is the least time between two steps of a front. A step takes some 2 µs.
	aceLeast = 10 * time.Millisecond

	// What it costs to do without room (docs/ledger.md, "What a cache saves"). A block of a slab that is
	// moved out of a magazine and in again takes slabSeconds and its part of turnSeconds, which a flush and
	// a refill take whatever they move: half of the room. A large block takes largeSeconds by way of the
	// shared slots, or of the page tree where those are full, and pagesSeconds by way of the page tree. A
	// lease that is given up and one that is taken for it take leaseSeconds.
	slabSeconds  = 8e-9
	turnSeconds  = 125e-9
	largeSeconds = 200e-9
	pagesSeconds = 360e-9
	leaseSeconds = 100e-9
)

// movedNanos is the CPU time that it took, by ACE's reckoning, to move blocks out of caches and in again
// that more room would have kept, in nanoseconds.
var movedNanos atomic.Int64

// moveSeconds returns what it takes to move a block of class c out of a magazine with so much room and in
// again.
func moveSeconds(c sizeclass.ID, room int) float64 {
	if c > sizeclass.Num {
		return largeSeconds
	}
	return slabSeconds + turnSeconds/max(float64(room)/2, 1)
}

// stepRoom is how many blocks one turn of a step can give back. The room is on the stack of whoever frees
// or allocates, and goroutines begin with 2 KiB of stack.
const stepRoom = 64

// stepCaches fits the room of the front's magazines, and its leases, to what they are worth, if it is
// time. It reports whether it gave anything back. Not entered.
//
//go:noinline
func stepCaches(own Front) (gave bool) {
	check.MustNotBeEntered("stepCaches")
	now := elapsed()
	f, tok := enter(own)
	since, due := f.stepDue(now)
	leave(tok)
	if !due {
		return false
	}
	var buf [stepRoom]Block
	for c := sizeclass.ID(1); c <= sizeclass.NumAll; c++ {
		g, tok := enter(own)
		n, lease := 0, slabID(0)
		for ; g == f && c <= sizeclass.NumAll; c++ {
			n = f.fit(c, since.Seconds(), buf[:])
			lease = f.fitLease(c, since.Seconds())
			if n > 0 || lease != 0 {
				break
			}
		}
		leave(tok)
		if g != f { // the goroutine is on another P now, whose front has steps of its own
			return gave
		}
		switch {
		case n == 0:
		case c > sizeclass.Num:
			releaseAll(buf[:n])
		default:
			timedFlush(buf[:n], c)
		}
		if lease != 0 {
			retire(lease)
		}
		gave = gave || n > 0 || lease != 0
	}
	return gave
}

// stepDue reports whether a step is due now, and the time since the last one. If so, the step counts as
// taken. Entered.
func (f Front) stepDue(now time.Duration) (since time.Duration, due bool) {
	check.MustBeEntered("stepDue")
	if f == trapFront {
		return 0, false
	}
	a := &f.head().adaptive
	if a.events < aceEvents { // another goroutine of this P was first
		return 0, false
	}
	a.events = 0
	since, due = now-a.stepped, a.stepped != 0 && now-a.stepped >= aceLeast
	if due || a.stepped == 0 {
		a.stepped = now
	}
	if due {
		a.setPrice()
	}
	return since, due
}

// fit gives class c's magazine more room or less, or leaves it. It moves blocks that have no room any
// more to buf, and returns how many. Entered.
func (f Front) fit(c sizeclass.ID, seconds float64, buf []Block) (n int) {
	check.MustBeEntered("fit")
	h := f.head()
	a := &h.adaptive
	room := int(h.cap[c])
	if room == 0 && !a.closed[c] {
		return 0
	}
	moved := float64(a.moved[c]) / seconds
	nanos := int64(float64(a.moved[c]) * moveSeconds(c, room) * 1e9)
	if movedNanos.Add(nanos); c > sizeclass.Num {
		wider.moved.Add(nanos)
	}
	a.moved[c] = 0
	scarce := a.scarce()
	if !scarce {
		a.most[c], a.closed[c] = 0, false // as large as the policy allows, if it helps
		if room == 0 {
			return 0
		}
	}
	least, most := roomRange(c)
	costs := a.costs(moveSeconds(c, room))
	if c > sizeclass.Num { // without a price they grow only where it pays
		costs.Hold = max(costs.Hold, bytePrice())
	}
	best := costs.Fit(max(room, 1), float64(c.Bytes()), moved)
	if best < 0 && (!scarce || room <= least) {
		return 0
	}
	switch a.dwells[c].turn(best) {
	case +1:
		if to := room + a.grant(c, min(2*room, most)-room); room == 0 {
			a.closed[c], a.most[c] = false, 1 // it is made when it is needed
		} else if to > room && f.setRoom(c, to) && a.most[c] != 0 {
			a.most[c] = uint16(to)
		}
	case -1:
		n = f.shrink(c, max(room/2, least), buf)
		a.most[c], a.closed[c] = h.cap[c], h.cap[c] == 0
	}
	return n
}

// roomRange returns the least and the most blocks that a magazine of class c may have room for.
func roomRange(c sizeclass.ID) (least, most int) {
	first, pol := firstRoom(c), policy.Now()
	least = min(first, leastRoom(c))
	switch {
	case c <= sizeclass.NumTiny:
		return least, max(first, min(pol.MagBlocks, pol.MagGrowBytes/int(c.Bytes())))
	case c <= sizeclass.Num:
		return least, max(first, min(pol.MagMidBlocks, pol.MagGrowBytes/int(c.Bytes())))
	}
	return least, max(first, min(maxMid, pol.MagLargeBytes/int(c.Bytes())))
}

// fitLease returns the slab that the front has leased of class c if the lease is not worth what is free
// in the slab, and ends the lease. Entered; the caller retires the slab.
func (f Front) fitLease(c sizeclass.ID, seconds float64) (s slabID) {
	check.MustBeEntered("fitLease")
	if c > sizeclass.Num {
		return 0
	}
	a, k := &f.head().adaptive, &sizeclass.Classes[c]
	refills := *f.refills(c)
	saved := float64(refills-a.refilled[c]) / seconds * leaseSeconds
	a.refilled[c] = refills
	hold := cacheCosts(leaseSeconds).Hold
	if !scarce() {
		a.unkept[c] = false
		return 0
	}
	if s = *f.lease(c); s == 0 {
		if a.unkept[c] && saved > hold*float64(slabBytes(c)) { // half of a slab, and twice that
			a.unkept[c] = false
		}
		return 0
	}
	free := mem.Bytes(s.freeBlocks(k)) * c.Bytes()
	if saved >= hold*float64(free-min(s.bytesOf(s.meta().holes()), free))/2 {
		return 0
	}
	a.unkept[c] = true
	return f.takeLease(c)
}

// endLeases ends leases of the front, except that of class c, until they are within the front's share. Not
// entered.
//
//go:noinline
func endLeases(own Front, c sizeclass.ID) {
	check.MustNotBeEntered("endLeases")
	for {
		f, tok := enter(own)
		s := slabID(0)
		if f != trapFront && f.head().leases > leaseShare() {
			s = f.nextLease(c)
		}
		leave(tok)
		if s == 0 {
			return
		}
		retire(s)
	}
}

// nextLease ends the lease of the next class that has one, in turn, except class c, and returns the slab. Entered.
func (f Front) nextLease(c sizeclass.ID) slabID {
	h := f.head()
	for range sizeclass.Num {
		if h.hand++; h.hand > sizeclass.Num {
			h.hand = 1
		}
		if h.hand == c {
			continue
		}
		if s := f.takeLease(h.hand); s != 0 {
			return s
		}
	}
	return 0
}

// leased returns an estimate of the free bytes in the slabs that the front has leased: half of each.
func (f Front) leased() (n mem.Bytes) {
	for c := sizeclass.ID(1); c <= sizeclass.Num; c++ {
		if *f.lease(c) != 0 {
			n += slabBytes(c) / 2
		}
	}
	return n
}
