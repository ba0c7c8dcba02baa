package engine

import (
	"math/bits"
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// This file cuts blocks of the long lane (list.go). Such blocks are in no magazine: a magazine would mix
// them with blocks that are freed soon. They are cut one at a time from the slab that the lane of their
// class leases, and are freed straight to their slab.

// lane is the long lane of one class. mu owns its fields and, with the lease, the carve right of the
// slab. No system call is made under it and no other lock taken.
type lane struct {
	mu      check.Mutex[check.Lane]
	current slabID // LEASED by the lane; 0: none
	used    bool   // a block was cut since the scavenger last looked
	_       [40]byte
}

// lanes has the long lane of each class that has one.
var lanes [numLaned + 1]lane

// cut takes a free block out of the slab that the lane of class c leases. If that has none which may be
// used, the lease ends: cut returns 0 and the slab, which the caller retires, or 0 if there was no lease.
// Not entered. The caller holds the block, which is not live yet.
func (l *lane) cut(c sizeclass.ID) (p Block, spent slabID) {
	check.MustNotBeEntered("cut")
	for {
		l.mu.Lock()
		if l.current != 0 {
			if p = l.current.cut(c); p == 0 {
				spent, l.current = l.current, 0
			}
		}
		l.used = l.used || p != 0
		l.mu.Unlock()
		if p == 0 || !checkLive || !isLive(p, c) {
			return p, spent
		}
		foundLate(p) // a late double free put it into the slab; it is its holder's
	}
}

// cut takes the next free block out of the slab, of class c, and returns it, or 0 if there is none or the
// hard limit has no room for its memory. For the holder of the carve right.
func (s slabID) cut(c sizeclass.ID) Block {
	w, ok := s.nextFree(&sizeclass.Classes[c])
	if !ok || s.meta().holes() != 0 && s.fill(c, 1) == 0 {
		return 0
	}
	s.meta().setLowWord(w)
	at := bits.TrailingZeros64(atomic.LoadUint64(s.bits(w)))
	atomic.AndUint64(s.bits(w), ^(1 << at))
	return s.block(c, blockIndex(w)*64+blockIndex(at))
}

// lease gives the LEASED slab s to the lane, and reports whether it took it: not if it has one already.
func (l *lane) lease(s slabID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.current != 0 {
		return false
	}
	l.current = s
	return true
}

// endLanes ends the leases of the lanes that no block was cut from since the last call, or of all. It
// reports whether leases are left, and whether it ended any. The scavenger calls it.
func endLanes(all bool) (left, some bool) {
	for c := range lanes {
		l := &lanes[c]
		l.mu.Lock()
		s := l.current
		if idle := all || !l.used; idle {
			l.current = 0
		} else if s != 0 {
			left, s = true, 0
		}
		l.used = false
		l.mu.Unlock()
		if s != 0 {
			retire(s)
			some = true
		}
	}
	return left, some
}

// anyLeasedByLane reports whether a lane leases a slab.
func anyLeasedByLane() (any bool) {
	for c := range lanes {
		l := &lanes[c]
		l.mu.Lock()
		any = any || l.current != 0
		l.mu.Unlock()
	}
	return any
}

// inLongLane reports whether the block of whose page m is the metadata lies in a slab of the long lane.
// The caller holds the block.
func inLongLane(m *pageMeta) bool { return slabAt(m.start).meta().list().isLong() }
