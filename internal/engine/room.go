package engine

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/hakmem/hakmem/internal/learn"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/policy"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// This file holds what a front notes for ACE, the adaptive cache engine (ace.go): how much more room in
// its magazines would have saved. The fast paths note nothing.

const (
	// aceEvents is how many misses and overflows of a front lie between two steps of ACE.
	aceEvents = 256
	// firstLarge is the room in bytes with which a magazine of large blocks begins.
	firstLarge = 256 << 10
	// maxGhosts bounds the blocks that are remembered as moved out. It is the room of the largest magazine
	// (asserted in front.go).
	maxGhosts = 1024
)

// cachePrice is the price at which caches fit into the budget, in CPU seconds for a byte and a second, as
// the bits of a float64. It is 0 where they do so by themselves. budget.go sets it. Without it no cache is
// made smaller: what is idle in caches goes back after a time of its own.
var cachePrice atomic.Uint64

// scarce reports whether the caches have to do with less.
func scarce() bool { return cachePrice.Load() != 0 }

// bytePrice returns what a byte costs that is held for a second and not in a cache.
func bytePrice() float64 { return float64(policy.Now().MemoryPrice) / 1000 / (1 << 30) }

// cacheCosts returns the costs of a cache that saves so many seconds for each block.
func cacheCosts(seconds float64) learn.RoomCosts {
	if price := math.Float64frombits(cachePrice.Load()); price > 0 {
		return learn.RoomCosts{Move: seconds, Hold: price}
	}
	return learn.RoomCosts{Move: seconds, Hold: bytePrice()}
}

// A magazine of blocks of slabs keeps room for so many: a refill moves several at a time.
const leastTiny, leastMid = 32, 2

// leastRoom returns the least blocks that a magazine of class c has room for, if it may have more.
func leastRoom(c sizeclass.ID) int {
	switch {
	case c <= sizeclass.NumTiny:
		return leastTiny
	case c <= sizeclass.Num:
		return leastMid
	}
	return 0
}

// adaptive is the part of a front that ACE uses. It is owned as the front is.
type adaptive struct {
	// room is the bytes of the blocks that all magazines of the front have room for, and leases those of the slabs
	// that it leases.
	room, leases mem.Bytes
	// refused is the most that a magazine was refused since the last step, because the front's share had no room.
	// price is what a byte of room costs in this front, as cachePrice; 0: the share suffices.
	refused mem.Bytes
	price   float64
	hand    sizeclass.ID  // the class whose lease ended last because the share had no room for it
	events  uint32        // misses and overflows since the last step
	stepped time.Duration // when that was
	// most is the bound that ACE has set to the room of each magazine, in blocks; 0: it has set none.
	// closed says that a magazine of large blocks has no room at all.
	most   [setClasses]uint16
	closed [setClasses]bool
	// ghosts has how many blocks were moved out of the magazine and not wanted back yet, and moved how
	// many were wanted back, since the last step: the GHOST hits.
	ghosts [setClasses]uint16
	moved  [setClasses]uint32
	dwells [setClasses]dwell
	// refilled is what the class's count of refills was at the last step; the counts are older than the
	// front's present user. unkept says that a lease is not worth what its slab has free.
	refilled [setClasses]uint64
	unkept   [setClasses]bool
}

// grant returns for how many more blocks class c's magazine may have room, of more that it could use: all magazines
// together stay within the front's share.
func (a *adaptive) grant(c sizeclass.ID, more int) int {
	share := roomShare()
	n := min(more, int((share-min(share, a.room))/c.Bytes()))
	a.refused = max(a.refused, mem.Bytes(more-n)*c.Bytes())
	return n
}

// setPrice sets the front's own price by what its magazines have and were refused since the last step.
func (a *adaptive) setPrice() {
	wanted, share := a.room+a.refused, roomShare()
	b := learn.Budget{Base: bytePrice(), Price: a.price}
	if b.Adjust(float64(wanted), float64(share)); wanted < share/2 {
		b.Price = 0 // the share has become larger
	}
	a.price, a.refused = b.Price, 0
}

// scarce reports whether the front's magazines have to do with less.
func (a *adaptive) scarce() bool { return a.price != 0 || scarce() }

// costs returns the costs of a magazine that saves so many seconds for each block.
func (a *adaptive) costs(seconds float64) learn.RoomCosts {
	if a.price > math.Float64frombits(cachePrice.Load()) {
		return learn.RoomCosts{Move: seconds, Hold: a.price}
	}
	return cacheCosts(seconds)
}

// event notes a miss or an overflow, and reports whether a step is due.
func (a *adaptive) event() bool {
	if !learning {
		return false
	}
	a.events++
	return a.events >= aceEvents
}

// movedOut notes that n blocks of class c were moved out of the magazine because it was full. wanted notes
// that n blocks were wanted that were not there.
func (a *adaptive) movedOut(c sizeclass.ID, n int) {
	a.ghosts[c] = uint16(min(int(a.ghosts[c])+n, maxGhosts))
}

func (a *adaptive) wanted(c sizeclass.ID, n int) {
	n = min(n, int(a.ghosts[c]))
	a.ghosts[c] -= uint16(n)
	a.moved[c] += uint32(n)
}

// bound returns the most blocks that class c's magazine may have room for, if it may have most by the
// policy.
func (a *adaptive) bound(c sizeclass.ID, most int) int {
	if b := int(a.most[c]); b != 0 {
		return min(b, most)
	}
	return most
}

// A dwell keeps room from being taken and given back again and again: a program whose turns fit into a
// room moves nothing, so that less room seems to do. Each time that room had to be given back, the next
// try is put off for twice as many turns. Room that was taken and is not missed when more is taken halves
// that number.
type dwell struct {
	left  uint8 // turns to wait before room is taken
	again uint8 // 2^again turns are waited after room was given
	taken bool  // the last change took room
}

// maxAgain: at most 2^maxAgain turns are waited, 128. At the least time between two turns those are 1.3 s,
// about as long as it takes the price to rise to its bound and to fall again.
const maxAgain = 7

// turn returns what is to be done, with what seems best now: more room, less or the same. The caller does
// it.
func (d *dwell) turn(best int) int {
	switch {
	case best > 0:
		if d.taken {
			d.again = min(d.again+1, maxAgain)
		}
		d.left, d.taken = 1<<d.again, false
	case best < 0 && d.left > 0:
		d.left--
		return 0
	case best < 0:
		if d.taken && d.again > 0 {
			d.again--
		}
		d.taken = true
	}
	return best
}
