package heap

import (
	"math"
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/sizeclass"
	"github.com/hakmem/hakmem/internal/telemetry"
)

// outOfMemory counts allocations that returned nil.
var outOfMemory atomic.Uint64

// Malloc is the slow path of every allocation: blocks of any size, for the
// current P (own = 0) or for a Heap. It returns 0 when memory is out. Not
// entered; takes locks and makes system calls where the fast path could not
// serve.
func Malloc(own, size uintptr) uintptr {
	// The P's fast path counts all of its calls, a Heap's what refills bring.
	if p := guarded(own, size, 1, 0, own == 0 || size <= sizeclass.MaxMid); p != 0 {
		return p
	}
	if Hardened() {
		return sealed(malloc(own, hardSize(size)), size)
	}
	return malloc(own, size)
}

func malloc(own, size uintptr) uintptr {
	if size > sizeclass.MaxMid {
		pollHeap(own)
		if p := mallocWarm(own, size, 0); p != 0 {
			return p
		}
		p, _ := newSpan(own, size, 1, 0, 0)
		return p
	}
	c := sizeclass.Of(size)
	return mallocClass(own, c, c)
}

// mallocClass returns a block of class c whose live state is v, through the
// front. Before it gives up it brings together what the caches of all Ps hold.
func mallocClass(own uintptr, c, v uint8) uintptr {
	pollHeap(own)
	missed, reclaimed, leased := false, false, false
	for {
		f, tok := enter(own)
		if p := pop(f, c); p != 0 {
			setLive(p, c, v)
			leave(tok)
			return p
		}
		if f == trapFront {
			leave(tok)
			if !installFront(tok) {
				return noMemory()
			}
			continue
		}
		if head(f).cap[c] == 0 {
			makeMagazine(f, c)
		}
		if !missed {
			missed = true
			*misses(f, c)++
		}
		if s := *lease(f, c); s != 0 {
			began := telemetry.Begin()
			n := refill(f, c, s)
			telemetry.End(telemetry.Refill, began)
			if n > 0 {
				if Hardened() {
					shuffle(f, c, n)
				}
				if own != 0 && !AlwaysSlow() { // its pops do not count
					*sampleWord(f) -= int64(n)
				}
				p := pop(f, c)
				setLive(p, c, v)
				*refills(f, c)++
				look(f, c, 0)
				if !leased {
					head(f).ownHits++ // stage 0; the others are counted by acquire
				}
				leave(tok)
				kick()
				return p
			}
			*lease(f, c) = 0
			leave(tok)
			began = telemetry.Begin()
			retire(s)
			telemetry.End(telemetry.Retire, began)
		} else {
			leave(tok)
		}
		began := telemetry.Begin()
		s := acquire(c)
		telemetry.End(telemetry.Acquire, began)
		kickPressed()
		if s == 0 {
			if !reclaimed && reclaim(own) {
				reclaimed = true
				continue
			}
			if reclaimed {
				reclaimFailed()
			}
			return noMemory()
		}
		f, tok = enter(own)
		if f == trapFront || *lease(f, c) != 0 {
			leave(tok)
			retire(s) // another goroutine of this P was first; s becomes PARTIAL
			continue
		}
		*lease(f, c) = s
		leased = true
		leave(tok)
	}
}

func noMemory() uintptr {
	outOfMemory.Add(1)
	return 0
}

// DidWithout says that an allocation which returned 0 does not make its caller fail.
func DidWithout() { outOfMemory.Add(^uint64(0)) }

// A failed allocation first tries to bring together what magazines, leases,
// caches and EMPTY slabs hold. That stops the world, so in a storm of failures
// each try that did not help doubles, up to maxReclaimSkip, the number of
// failures that do without one. A slab that becomes EMPTY ends the wait, and so
// does what is freed into the shared caches; blocks in magazines, which those of
// others fill all the time, at most once in a millisecond.
var (
	reclaimSkip, reclaimPenalty atomic.Int64
	reclaimedAt                 atomic.Uint32 // milliseconds
)

// maxReclaimSkip keeps a storm of 10^6 failures under 4000 stops of the world; under
// 8000 where they are Reallocs of spans, which ask twice.
const maxReclaimSkip = 255

// reclaim reports whether it did something that makes another try of the front
// own (0: the P's) worth while. Not entered.
func reclaim(own uintptr) bool {
	if !region.ready.Load() || reclaimSkip.Add(-1) >= 0 && !worthReclaim(own) {
		return false
	}
	defer kick() // what is not taken now is warm
	s := &scavenger
	s.mu.Lock()
	defer s.mu.Unlock()
	region.mu.Lock()
	now := milliseconds()
	region.mu.Unlock()
	reclaimedAt.Store(now)
	findLost()
	s.moving.Lock()
	late := drainAll()
	if own != 0 { // a Heap's, by its goroutine
		emptyQuarantine(own)
		for c := uint8(1); c <= sizeclass.NumAll; c++ {
			late = max(late, emptyMagazine(own, c))
		}
	}
	_, l := trimCaches(now, 0)
	sweepEmpty()
	s.moving.Unlock()
	if memoryLimit.hard.Load() != 0 { // then warm pages count as well
		purgePages(math.MaxInt, now, 0, false)
	}
	postponeLate(max(late, l))
	return true
}

// worthReclaim reports whether enough was freed since the last reclaim, which
// left none of it.
func worthReclaim(own uintptr) bool {
	_, n := inShared()
	_, big := inBig()
	n += big
	if own != 0 {
		n += heldBytes(own)
	}
	region.mu.Lock()
	n += whales.bytes
	if memoryLimit.hard.Load() != 0 {
		n += uintptr(pageUse.warm) << pageShift
	}
	now := milliseconds()
	region.mu.Unlock()
	if n < pageSize && now != reclaimedAt.Load() {
		n += inMagazines()
	}
	return n >= pageSize
}

// heldBytes returns the bytes of free blocks in the magazines and the quarantine
// of a front.
func heldBytes(f uintptr) (n uintptr) {
	for c := uint8(1); c <= sizeclass.NumAll; c++ {
		n += (held(f, c) + uintptr(atomic.LoadUint32(&head(f).waiting[c]))) * blockBytes(c)
	}
	return n
}

// inMagazines returns the bytes of free blocks in the magazines of all fronts but
// Heaps'.
func inMagazines() (n uintptr) {
	fronts := frontTable.Load()
	for i := range fronts {
		if f := atomic.LoadUintptr(&fronts[i]); f != trapFront {
			n += heldBytes(f)
		}
	}
	for i := range shards {
		s := &shards[i]
		s.mu.Lock()
		if s.front != trapFront {
			n += heldBytes(s.front)
		}
		s.mu.Unlock()
	}
	return n
}

func reclaimFailed() {
	n := min(reclaimPenalty.Load()*2+1, maxReclaimSkip)
	reclaimPenalty.Store(n)
	reclaimSkip.Store(n)
}

// moreToReclaim notes that a slab became EMPTY.
func moreToReclaim() {
	if reclaimPenalty.Load() != 0 {
		reclaimPenalty.Store(0)
		reclaimSkip.Store(0)
	}
}

// Free is the slow path of every free. It checks p again, under enter, and
// either gives the block back or returns what is wrong with it, with nothing
// changed. Not entered.
func Free(own, p uintptr) Fault {
	bad := free(own, p)
	if bad.Kind == OK { // afterwards: an invalid free is not to change a Heap's magazines
		pollHeap(own)
	}
	return bad
}

func free(own, p uintptr) Fault {
	if !region.ready.Load() {
		return Fault{Kind: Foreign, Addr: p}
	}
	if isGuarded(p) {
		return guardFree(p)
	}
	if Hardened() {
		return hardFree(own, p)
	}
	for noFront := false; ; {
		f, tok := enter(own)
		at, m, span, why := liveByte(p)
		if why != OK {
			leave(tok)
			return fault(p, m, why)
		}
		c, v := m.class, state(at)
		if checkLive && v == 0 {
			leave(tok)
			return fault(p, m, Freed)
		}
		if span && c == 0 {
			leave(tok)
			return freeBig(p)
		}
		if f == trapFront && !noFront {
			leave(tok)
			noFront = !installFront(tok) // then the block goes straight to its slab
			continue
		}
		if tracked {
			raceRelease(p, usableBytes(m, span))
		}
		putState(at, 0)
		if span {
			if site := m.site; site != 0 {
				unlabelSpan(m)
				if p, c = giveBig(site, c, p); p == 0 {
					leave(tok)
					kick()
					return Fault{}
				}
			}
			return freeWarm(f, tok, c, p)
		}
		unsite(p, c, v)
		if push(f, c, p) {
			leave(tok)
			return Fault{}
		}
		if noFront && f == trapFront {
			leave(tok)
			return flushOne(p, c)
		}
		if head(f).cap[c] == 0 {
			// The front's first block of the class. If it is another front's (its
			// slab is not leased here), it would share cache lines with that one's:
			// it goes back, and a malloc here will take from a slab of its own.
			makeMagazine(f, c)
			if *lease(f, c) != owner(p) {
				leave(tok)
				return flushOne(p, c)
			}
			push(f, c, p)
			leave(tok)
			return Fault{}
		}
		return overflow(f, tok, c, p)
	}
}

// overflow makes room in a full magazine for p: it grows, or gives the oldest blocks
// back to their slabs. Entered; leaves.
func overflow(f uintptr, tok token, c uint8, p uintptr) Fault {
	full := uintptr(head(f).cap[c])
	if growMagazine(f, c) {
		push(f, c, p)
		look(f, c, full)
		leave(tok)
		return Fault{}
	}
	if full <= firstCap {
		return spillFirst(f, tok, c, p)
	}
	return spillGrown(f, tok, c, p)
}

// spillFirst and spillGrown have room for what takeOldest takes of a magazine before it
// has grown, and after. A function each: goroutines begin with 2 KiB of stack, and the
// larger room would make every one that frees much copy it.
//
//go:noinline
func spillFirst(f uintptr, tok token, c uint8, p uintptr) Fault {
	var buf [(firstCap + 1) / 2]uintptr
	return spill(f, tok, c, p, buf[:])
}

//go:noinline
func spillGrown(f uintptr, tok token, c uint8, p uintptr) Fault {
	var buf [maxFlush]uintptr
	return spill(f, tok, c, p, buf[:])
}

// spill is overflow of a magazine that does not grow. Entered; leaves.
func spill(f uintptr, tok token, c uint8, p uintptr, buf []uintptr) Fault {
	n := takeOldest(f, c, buf)
	push(f, c, p)
	look(f, c, uintptr(head(f).cap[c]))
	leave(tok)
	late := timedFlush(buf[:n], c)
	kick()
	return lateFault(late)
}

func flushOne(p uintptr, c uint8) Fault {
	late := timedFlush([]uintptr{p}, c)
	kick()
	return lateFault(late)
}

func timedFlush(blocks []uintptr, c uint8) (late uintptr) {
	began := telemetry.Begin()
	late = flush(blocks, c)
	telemetry.End(telemetry.Flush, began)
	return late
}

func lateFault(late uintptr) Fault {
	if late == 0 {
		return Fault{}
	}
	return Fault{Kind: LateFreed, Addr: late, Block: late, Class: fault(late, meta((late-region.base)>>pageShift), LateFreed).Class}
}

// fault describes the invalid pointer p, which liveByte refused with why.
func fault(p uintptr, m *pageMeta, why Kind) Fault {
	x := Fault{Kind: why, Addr: p}
	if m == nil {
		return x
	}
	switch m.kind {
	case kindTiny, kindMid, kindSlabFreed:
		k := m.slabClassNow()
		i, _ := k.Index(p - m.start)
		x.Class = uintptr(k.Size)
		if i < k.Blocks {
			x.Block = m.start + uintptr(i)*uintptr(k.Size)
		}
	case kindSpan, kindSpanTail, kindSpanFreed:
		x.Block = m.start
		x.Class = meta((m.start - region.base) >> pageShift).spanSize
	}
	return x
}

// Size returns the usable bytes of the live block at p and its site, or what is
// wrong with p. Any goroutine; the caller holds the block.
func Size(p uintptr) (size uintptr, site uint32, bad Fault) {
	if !region.ready.Load() {
		return 0, 0, Fault{Kind: Foreign, Addr: p}
	}
	if isGuarded(p) {
		return guardSize(p)
	}
	at, m, span, why := liveByte(p)
	if why != OK {
		return 0, 0, fault(p, m, why)
	}
	v := state(at)
	if checkLive && v == 0 {
		return 0, 0, fault(p, m, Freed)
	}
	if Hardened() {
		n, damage, ok := unseal(p, m, span)
		if !ok && isBroken(p, m, span) { // its free is under way
			return 0, 0, fault(p, m, Freed)
		}
		if !ok {
			return 0, 0, overflowed(p, n, damage, m, span)
		}
		if span {
			return n, m.site, Fault{}
		}
		return n, siteOf(p, v), Fault{}
	}
	if span {
		return m.spanSize, m.site, Fault{}
	}
	return uintptr(sizeclass.Classes[m.class].Size), siteOf(p, v), Fault{}
}

// MallocAt is Malloc for the current P with a site.
func MallocAt(site uint32, size uintptr) uintptr {
	if p := guarded(0, size, 1, site, false); p != 0 {
		return p
	}
	if Hardened() {
		return sealed(mallocAt(site, hardSize(size)), size)
	}
	return mallocAt(site, size)
}

func mallocAt(site uint32, size uintptr) uintptr {
	if site == 0 || !checkLive {
		return malloc(0, size)
	}
	if size > sizeclass.MaxMid {
		if p := mallocWarm(0, size, site); p != 0 {
			labelSpan(p, site)
			return p
		}
		return mallocSpan(size, 1, site)
	}
	if !siteMap() {
		return noMemory()
	}
	c := sizeclass.Of(size)
	p := mallocClass(0, c, liveSited)
	if p != 0 {
		setSite(p, c, site)
	}
	return p
}

// MallocAligned is Malloc for the current P with an alignment, a power of two.
func MallocAligned(align, size uintptr) uintptr {
	if p := guarded(0, size, align, 0, false); p != 0 {
		return p
	}
	if Hardened() {
		return sealed(mallocAligned(align, hardSize(size)), size)
	}
	return mallocAligned(align, size)
}

func mallocAligned(align, size uintptr) uintptr {
	if size <= sizeclass.MaxMid && align <= sizeclass.MaxMid {
		// Slabs start on a page and every class is m·2^k: the next class whose
		// size the alignment divides serves.
		for c := sizeclass.Of(size); c <= sizeclass.Num; c++ {
			if uintptr(sizeclass.Classes[c].Size)&(align-1) == 0 {
				return mallocClass(0, c, c)
			}
		}
	}
	size = max(size, sizeclass.MaxMid+1)
	if align <= pageSize { // every span is aligned to a page
		return malloc(0, size)
	}
	return mallocSpan(size, align>>pageShift, 0)
}
