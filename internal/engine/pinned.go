package engine

import (
	"math/bits"
	"sync/atomic"
	"unsafe"

	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// The fast paths of builds without the fast section: they do the same work with the P pinned. What
// they cannot serve goes to Malloc and Free (alloc.go). Where pinning is not available either,
// Malloc and Free do all of the work. There is no state here; a front belongs to the goroutine that
// has pinned its P.
//
// Why norace is right: the program passed the block itself on, and that orders the writes of its
// page's metadata before these reads. The order goes through memory that the race detector does not
// see.

// tryMallocPinned returns a tiny block if the P's magazine has one, else nil.
//
//go:norace
func tryMallocPinned(size mem.Bytes) unsafe.Pointer {
	if size > sizeclass.MaxTiny && sampled() {
		countSample()
	}
	if canPin && size <= sizeclass.MaxTiny {
		c := sizeclass.Small[(size+15)>>4]
		if pid := procPin(); uint(pid) < MaxP {
			f := atomic.LoadUintptr(&pFronts[pid])
			if w := Front(f).sampleWord(); sampled() && Front(f) != trapFront {
				if *w--; *w <= 0 {
					procUnpin()
					return nil
				}
			}
			left := Front(f).profileWord()
			if profiling() && *left < int64(c.Bytes()) { // a sample of the profile: the slow path counts it
				procUnpin()
				return nil
			}
			if p := Front(f).pop(c); p != 0 {
				if profiling() {
					*left -= int64(c.Bytes())
				}
				if checkLive {
					*u8(liveOf(p)) = uint8(c)
				}
				procUnpin()
				if raced {
					raceAcquire(p, c.Bytes())
				}
				return Pointer(p)
			}
		}
		procUnpin()
	}
	return nil
}

// countSample subtracts one from the P's sample word for an allocation that has no fast path here;
// the slow path only looks at the word.
func countSample() {
	if !canPin {
		return // the slow path counts, as the front is locked
	}
	if pid := procPin(); uint(pid) < MaxP {
		if f := atomic.LoadUintptr(&pFronts[pid]); Front(f) != trapFront {
			*Front(f).sampleWord()--
		}
	}
	procUnpin()
}

// tryFreePinned gives the block at p back if it is a live tiny block and its magazine has room, and
// reports whether it did.
//
//go:norace
func tryFreePinned(p unsafe.Pointer) bool {
	g := bits.RotateLeft64(uint64(uintptr(p)-Base), -4)
	page := g >> (pageShift - granuleShift)
	if !canPin || page >= MaxPages || PageClass[page] == 0 {
		return false
	}
	c, live := PageClass[page], u8(mem.Addr(Base+uintptr(g)))
	done := false
	if raced {
		raceRelease(Block(p), sizeclass.ID(c).Bytes())
	}
	if pid := procPin(); uint(pid) < MaxP && (!checkLive || *live == c) {
		if done = Front(atomic.LoadUintptr(&pFronts[pid])).push(sizeclass.ID(c), Block(p)); done && checkLive {
			*live = 0
		}
	}
	procUnpin()
	return done
}

// Pin and Unpin pin the goroutine to its P and end that; Pin returns the P's number.
func Pin() int { return procPin() }
func Unpin()   { procUnpin() }

// OnTrap reports whether the current P has no front, so that its next call comes to a slow path.
func OnTrap() bool {
	pid := procPin()
	defer procUnpin()
	return uint(pid) >= MaxP || Front(atomic.LoadUintptr(&pFronts[pid])) == trapFront
}
