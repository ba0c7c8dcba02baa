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
// Fronts are used again and never freed. Their counters stay with their memory, and go to spent
// before the memory is returned. So sums over all fronts ever built never lose a count.
var frontPool frontPoolState

type frontPoolState struct {
	mu    check.Mutex[check.FrontPool]
	space space
	max   uintptr // the most fronts
	built atomic.Uintptr
	// free has the spare fronts; the one used last is last. The first clean of them have no memory
	// for magazines. low is the fewest spare fronts that there were since returnSpare last ran.
	free       []Front
	clean, low int
	// lost has the fronts whose magazines may not be touched: see returnMemory.
	lost []Front
	// out is the number of fronts that returnSpare has taken out of the pool.
	out int
	// returned has a bit for each front whose head was returned, too. Nobody needs to look at these, and
	// where a read of untouched memory takes memory (osmem.ReadsTakeMemory), it would bring them back. Set
	// under scavenger.moving, cleared before the front is used again.
	returned [maxFronts / 64]atomic.Uint64
}

// withMemory yields the fronts that were ever built, except those whose heads were returned: their counters
// are in spent.
func (fp *frontPoolState) withMemory(yield func(Front) bool) {
	for i := range fp.built.Load() {
		if !fp.isReturned(i) && !yield(frontAt(i)) {
			return
		}
	}
}

// isReturned reports whether the head of front n was returned, and setReturned notes it.
func (fp *frontPoolState) isReturned(n uintptr) bool {
	return fp.returned[n/64].Load()>>(n%64)&1 != 0
}

func (fp *frontPoolState) setReturned(n uintptr, returned bool) {
	if w := &fp.returned[n/64]; returned {
		w.Or(1 << (n % 64))
	} else {
		w.And(^uint64(1 << (n % 64)))
	}
}

// maxFronts bounds the fronts alive at once: 64 Ki Heaps and Ps, 24 GiB of address space.
const maxFronts = 64 << 10

// frontsFor returns the number of fronts for a region that is reserved as a whole. Their address
// space is at most an eighth of the left bytes.
func frontsFor(left mem.Bytes) uintptr {
	return min(maxFronts, max(uintptr(left/8/frontSize), NumShards))
}

// frontsLeft is how many fronts of so many Heaps leave to Ps and shards, because all calls of a P or
// shard without a front fail. Heaps may still take half of all fronts.
func frontsLeft(most uintptr) uintptr {
	return min(uintptr(max(runtime.GOMAXPROCS(0), NumShards)), most/2)
}

// frontAt returns the address of front n. Both the base and frontSize are multiples of TinyMag, so
// that the last slots of magazines are at the addresses that mean "full".
func frontAt(n uintptr) Front {
	return Front(frontPool.space.base + mem.Addr(n*frontSize) + frontSkew)
}

// number is the n of frontAt.
func (f Front) number() uintptr { return uintptr((f - frontAt(0)) / frontSize) }

// takeFront returns an empty front: a spare one, or else a new one. private says that it is for a
// Heap.
func takeFront(private bool) (f Front, err error) {
	fp := &frontPool
	fp.mu.Lock()
	defer fp.mu.Unlock()
	leave := uintptr(0)
	if private {
		leave = frontsLeft(fp.max)
	}
	n, spare := fp.built.Load(), len(fp.free)
	if used := n - uintptr(spare+fp.out); used+leave >= fp.max {
		return 0, fmt.Errorf("hakmem: %d fronts are in use, of %d: Close Heaps", used, fp.max)
	}
	if spare > 0 {
		f = fp.free[spare-1]
		if fp.isReturned(f.number()) {
			if err := f.makeHead(private, !frontsInParts); err != nil {
				return 0, err
			}
			fp.setReturned(f.number(), false)
		}
		if !f.commitQuarantine() {
			return 0, errFrontCommit
		}
		fp.free = fp.free[:spare-1]
		fp.clean, fp.low = min(fp.clean, spare-1), min(fp.low, spare-1)
		initFront(f)
		frontsChange(1)
		return f, nil
	}
	if err := fp.space.ensure(mem.Bytes(min(n+1+leave, fp.max)) * frontSize); err != nil {
		return 0, fmt.Errorf("hakmem: a front of %d bytes: %w", uint64(frontSize), err)
	}
	f = frontAt(n)
	if err := f.makeHead(private, false); err != nil {
		return 0, err
	}
	if !f.commitQuarantine() {
		uncount(f.head().touched.bytes())
		f.head().touched = frontPages{}
		return 0, errFrontCommit
	}
	region.metaCommitted.Add(frontSize)
	initFront(f)
	frontsChange(1)
	fp.built.Store(n + 1) // now ReadTotals may look at the front
	return f, nil
}

// makeHead counts the head of a front and commits the front or, if fronts are committed in parts, its
// head, unless that is committed. The front of a P is counted and not refused by the hard limit: there
// are few, and no call of the P works without.
func (f Front) makeHead(private, committed bool) error {
	if !private {
		count(frontHeadBytes())
	} else if !reserve(frontHeadBytes()) {
		return errFrontLimit
	}
	size := mem.Bytes(frontSize)
	if frontsInParts {
		size = frontHeadBytes()
	}
	if !committed {
		if err := osmem.Commit(mem.Addr(f-frontSkew), size); err != nil {
			uncount(frontHeadBytes())
			return fmt.Errorf("hakmem: commit of a front of %d bytes: %w", uint64(size), err)
		}
	}
	f.touchHead()
	return nil
}

// errFrontLimit says that the hard memory limit has no room for a Heap's front.
var errFrontLimit = errors.New("hakmem: no front within the hard memory limit")

// errFrontCommit says that the system has no memory for a part of a front (commitPages).
var errFrontCommit = errors.New("hakmem: commit of a part of a front: the system refused it; free blocks, or raise what the system allows the process")

// refuseFront notes that a part of a front could not be committed. Takes region.mu.
func refuseFront() {
	region.mu.Lock()
	defer region.mu.Unlock()
	_ = region.refuse(errFrontCommit)
}

// commitQuarantine makes the front's quarantine usable where there is one, and reports whether it
// could.
func (f Front) commitQuarantine() bool {
	at := mem.Addr(f + quarantineOffset)
	switch {
	case !Hardened():
		return true
	case !f.commitPages(at, quarantineRoom):
		return false
	}
	f.touch(at, quarantineRoom)
	return true
}

// initFront makes all magazines of an empty front traps.
func initFront(f Front) {
	h := f.head()
	h.epoch = times.epoch.Load()
	h.busy, h.woken = 0, wokenByNobody
	h.duty.Store(calm)
	*f.sampleWord() = sampleInterval()
	*f.profileWord() = profileGap()
	clear(h.cap[:])
	clear(h.uncut[:])
	clear(h.seen[:])
	clear(h.mark[:])
	clear(h.idle[:])
	h.adaptive = adaptive{}
	for c := range sizeclass.ID(frontTypes) {
		f.storeTop(c, *trapFront.top(0))
		h.refilled[c] = *f.refills(c)
	}
}

// recycle puts a drained front back into the pool.
func recycle(f Front) {
	frontPool.mu.Lock()
	frontPool.free = append(frontPool.free, f)
	frontsChange(-1)
	frontPool.mu.Unlock()
}

// spent has what was counted in fronts whose memory was returned. Owned by scavenger.moving.
var spent struct {
	ownHits                        uint64
	hits, misses, refills, flushes [frontTypes]uint64
}

// spend moves a spare front's counters to spent. Under scavenger.moving.
func (f Front) spend() {
	h := f.head()
	move := func(to, from *uint64) { *to, *from = *to+*from, 0 }
	move(&spent.ownHits, &h.ownHits)
	for c := range sizeclass.ID(frontTypes) {
		move(&spent.hits[c], &h.hits[c])
		move(&spent.misses[c], f.misses(c))
		move(&spent.refills[c], f.refills(c))
		move(&spent.flushes[c], f.flushes(c))
	}
}

// returnSpare returns the memory of spare fronts, some 80 KiB for each front that was a Heap's. It
// does so for the fronts that were not wanted since it last ran, or for all. It reports whether there
// is something left for the next time. moving is scavenger.moving, which it takes for the counters.
// Under scavenger.mu.
//
// While the system call runs, the front is out of the pool and no lock is held except scavenger.mu.
func returnSpare(all bool, moving *check.Mutex[check.Moving]) (left bool) {
	fp := &frontPool
	fp.mu.Lock()
	defer fp.mu.Unlock()
	if all {
		fp.low = len(fp.free)
	}
	for i := len(fp.lost) - 1; i >= 0; i-- {
		f := fp.lost[i]
		fp.lost = slices.Delete(fp.lost, i, i+1)
		if fp.whileOut(func() bool { return recommit(magazines(f)) }) { // of a front in parts, all of it
			fp.putClean(f)
		} else {
			fp.lost = slices.Insert(fp.lost, i, f)
		}
	}
	for fp.clean < fp.low {
		f := fp.free[fp.clean]
		fp.free = slices.Delete(fp.free, fp.clean, fp.clean+1)
		fp.low--
		// What is refused is tried again when the front has been used.
		if fp.whileOut(func() bool {
			whole := true
			usable := returnMagazines(f, func(osmem.Range) { whole = false })
			if whole && usable {
				f.untouch(magazines(f))
				f.returnRest(moving)
			}
			return usable
		}) {
			fp.putClean(f)
		} else {
			initFront(f) // nobody looks at the magazines of a trap
			fp.lost = append(fp.lost, f)
		}
	}
	fp.low = len(fp.free)
	return fp.clean < fp.low || len(fp.lost) > 0
}

// whileOut calls do, which makes a system call, for a front that is out of the pool. Under mu, which
// it gives up meanwhile.
func (fp *frontPoolState) whileOut(do func() bool) bool {
	fp.out++
	fp.mu.Unlock()
	ok := do()
	fp.mu.Lock()
	fp.out--
	return ok
}

// putClean puts a front without memory into the pool. Under mu.
func (fp *frontPoolState) putClean(f Front) {
	fp.free = slices.Insert(fp.free, 0, f)
	fp.clean, fp.low = fp.clean+1, fp.low+1
}

// magazines returns the OS pages of f that hold only magazines.
func magazines(f Front) (addr mem.Addr, size mem.Bytes) {
	system := osmem.PageSize()
	addr = mem.Addr(mem.Bytes(f + tinyOffset).Up(system))
	return addr, mem.Bytes(mem.Addr((f+quarantineOffset)&^Front(system-1)) - addr)
}

// returnMagazines returns the memory of the front's magazines. If fronts are committed in parts, so is
// the right to it. The rest is as for returnMemory.
func returnMagazines(f Front, refused func(osmem.Range)) (usable bool) {
	addr, size := magazines(f)
	if !frontsInParts {
		return returnMemory(addr, size, refused)
	}
	initFront(f) // nobody looks at the magazines of a trap
	if err := f.uncommit(addr, size, false); err != nil {
		survive(fmt.Errorf("hakmem: uncommit of a front that nobody uses: %w", err))
		return false
	}
	return true
}

// uncommit gives back n bytes of the front from at on, whole OS pages, and the right to them. Whether it
// can or not, they are committed anew before they are used.
func (f Front) uncommit(at mem.Addr, n mem.Bytes, readable bool) error {
	first, last := f.pagesAt(at, n)
	for i := first; i <= last; i++ {
		f.head().committed.remove(i)
	}
	return osmem.Uncommit(at, n, readable)
}

// returnRest returns the memory of a front before and behind its magazines. The front is out of the
// pool. Others may read these pages at any time: statistics the heads of all fronts, and the fast
// section the owner word of any. So it does nothing where pages cannot be read meanwhile.
func (f Front) returnRest(moving *check.Mutex[check.Moving]) {
	if !osmem.KeepsReadable {
		return
	}
	moving.Lock()
	f.spend()
	frontPool.setReturned(f.number(), true) // from here on nobody looks at it
	moving.Unlock()
	system := osmem.PageSize()
	from, size := magazines(f)
	begin := mem.Addr(mem.Bytes(f - frontSkew).Up(system))
	behind := from.Add(size)
	end := mem.Addr((f - frontSkew + frontSize) &^ Front(system-1))
	for _, r := range []osmem.Range{{Addr: behind, Size: mem.Bytes(end - behind)}, {Addr: begin, Size: mem.Bytes(from - begin)}} {
		touched := f.head().touched // in the second range, which forgets it
		if err := f.returnReadable(r); err != nil {
			survive(fmt.Errorf("hakmem: return of free pages: %w", err))
			frontPool.setReturned(f.number(), false)
			return
		}
		if r.Addr == behind {
			f.untouch(behind, r.Size)
		} else {
			uncount(touched.bytes())
		}
	}
}

// returnReadable returns the memory of a part of a front, and if fronts are committed in parts, the
// right to it. Meanwhile and afterwards it reads as what it holds, or zero.
func (f Front) returnReadable(r osmem.Range) error {
	if frontsInParts {
		return f.uncommit(r.Addr, r.Size, true)
	}
	return osmem.DiscardReadable(r.Addr, r.Size)
}

// spareMemory reports whether returnSpare would find something to return.
func spareMemory() bool {
	frontPool.mu.Lock()
	defer frontPool.mu.Unlock()
	return frontPool.clean < len(frontPool.free) || len(frontPool.lost) > 0
}
