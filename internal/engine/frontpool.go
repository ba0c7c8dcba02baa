package engine

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// This file holds the memory of fronts: where they lie, and which of them are spare. frontPool.mu
// owns it.

// frontPool owns the memory of fronts: a range of its own, committed one front at a time, upwards.
// Fronts are used again and never freed. Their counters stay with their memory, so sums over all
// fronts ever built never lose a count.
var frontPool struct {
	mu    check.Mutex[check.FrontPool]
	base  mem.Addr
	max   uintptr // the number of fronts that there is address space for
	built atomic.Uintptr
	// free has the spare fronts; the one used last is last. The first clean of them have no memory
	// for magazines. low is the fewest spare fronts that there were since returnSpare last ran.
	free       []Front
	clean, low int
	// lost has the fronts whose magazines may not be touched: see discard.
	lost []Front
}

// maxFronts bounds the fronts alive at once: 64 Ki Heaps and Ps, 24 GiB of address space.
const maxFronts = 64 << 10

// frontsWanted returns the number of fronts to reserve address space for.
func frontsWanted() uintptr {
	n := uintptr(maxFronts)
	// Fronts take at most an eighth of the address space that is left, for the reason in
	// reserveRegion.
	if left := osmem.AddressSpaceLeft() / 8; mem.Bytes(n) > left/frontSize {
		n = uintptr(max(left/frontSize, NumShards))
	}
	return n
}

// frontAt returns the address of front n. Both the base and frontSize are multiples of TinyMag, so
// that the last slots of magazines are at the addresses that mean "full".
func frontAt(n uintptr) Front { return Front(frontPool.base + mem.Addr(n*frontSize) + frontSkew) }

// takeFront returns an empty front: a spare one, or else a new one. private says that it is for a
// Heap.
func takeFront(private bool) (f Front, err error) {
	fp := &frontPool
	fp.mu.Lock()
	defer fp.mu.Unlock()
	// Heaps leave a front for each P and shard, because all calls of a P or shard without a front
	// fail. Where address space is limited, Heaps may still take half of all fronts.
	leave := uintptr(0)
	if private {
		leave = min(uintptr(max(runtime.GOMAXPROCS(0), NumShards)), fp.max/2)
	}
	n, spare := fp.built.Load(), len(fp.free)
	if used := n - uintptr(spare); used+leave >= fp.max {
		return 0, fmt.Errorf("hakmem: %d fronts are in use, of %d: Close Heaps", used, fp.max)
	}
	if spare > 0 {
		f = fp.free[spare-1]
		fp.free = fp.free[:spare-1]
		fp.clean, fp.low = min(fp.clean, spare-1), min(fp.low, spare-1)
		initFront(f)
		return f, nil
	}
	// The front of a P is counted and not refused: there are few, and no call of the P works without.
	switch {
	case !private:
		count(frontHeadBytes())
	case !reserve(frontHeadBytes()):
		return 0, errFrontLimit
	}
	f = frontAt(n)
	if err := osmem.Commit(mem.Addr(f-frontSkew), frontSize); err != nil {
		uncount(frontHeadBytes())
		return 0, fmt.Errorf("hakmem: commit of a front of %d bytes: %w", uint64(frontSize), err)
	}
	region.metaCommitted.Add(frontSize)
	if Hardened() {
		f.touch(mem.Addr(f+quarantineOffset), quarantineRoom)
	}
	initFront(f)
	fp.built.Store(n + 1) // now ReadTotals may look at the front
	return f, nil
}

// errFrontLimit says that the hard memory limit has no room for a Heap's front.
var errFrontLimit = errors.New("hakmem: no front within the hard memory limit")

// initFront makes all magazines of an empty front traps.
func initFront(f Front) {
	h := f.head()
	h.epoch = times.epoch.Load()
	*f.sampleWord() = sampleInterval()
	for c := range sizeclass.ID(frontTypes) {
		h.cap[c], h.seen[c], h.mark[c], h.idle[c] = 0, 0, 0, 0
		f.storeTop(c, *trapFront.top(0))
	}
}

// recycle puts a drained front back into the pool.
func recycle(f Front) {
	frontPool.mu.Lock()
	frontPool.free = append(frontPool.free, f)
	frontPool.mu.Unlock()
}

// returnSpare returns the memory of the magazines of spare fronts, some 60 KiB for each front that
// was a Heap's. It does so for the fronts that were not wanted since it last ran, or for all. It
// reports whether there is something left for the next time.
func returnSpare(all bool) (left bool) {
	fp := &frontPool
	fp.mu.Lock()
	defer fp.mu.Unlock()
	if all {
		fp.low = len(fp.free)
	}
	for i := len(fp.lost) - 1; i >= 0; i-- {
		if f := fp.lost[i]; recommit(magazines(f)) {
			fp.lost = slices.Delete(fp.lost, i, i+1)
			fp.free = slices.Insert(fp.free, 0, f)
			fp.clean, fp.low = fp.clean+1, fp.low+1
		}
	}
	for fp.clean < fp.low {
		f := fp.free[fp.clean]
		ok, usable := discard(magazines(f))
		if ok {
			f.untouch(magazines(f))
		}
		if usable {
			fp.clean++ // if the memory is not gone, it is tried again when the front has been used
		} else {
			initFront(f) // nobody looks at the magazines of a trap
			fp.free = slices.Delete(fp.free, fp.clean, fp.clean+1)
			fp.low--
			fp.lost = append(fp.lost, f)
		}
		// A goroutine that waits for a front need not wait for all of them.
		fp.mu.Unlock()
		fp.mu.Lock()
	}
	fp.low = len(fp.free)
	return fp.clean < fp.low || len(fp.lost) > 0
}

// magazines returns the OS pages of f that hold only magazines.
func magazines(f Front) (addr mem.Addr, size mem.Bytes) {
	system := osmem.PageSize()
	addr = mem.Addr(mem.Bytes(f + tinyOffset).Up(system))
	return addr, mem.Bytes(mem.Addr((f+quarantineOffset)&^Front(system-1)) - addr)
}

// spareMemory reports whether returnSpare would find something to return.
func spareMemory() bool {
	frontPool.mu.Lock()
	defer frontPool.mu.Unlock()
	return frontPool.clean < len(frontPool.free) || len(frontPool.lost) > 0
}
