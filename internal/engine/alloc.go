package engine

import (
	"time"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/site"
	"github.com/hakmem/hakmem/internal/sizeclass"
	"github.com/hakmem/hakmem/internal/telemetry"
)

// The slow paths of allocation and free, for blocks of every kind. They work on the front that they
// enter with, and take the locks of lists, of lanes and of the region through the files below.

// Malloc is the slow path of every allocation: blocks of any size, for the current P (own = 0) or
// for a Heap. It returns 0 when memory is out. Not entered. It takes locks and makes system calls
// where the fast path could not serve.
func Malloc(own Front, size mem.Bytes) Block {
	check.MustNotBeEntered("Malloc")
	// The P's fast path counts all of its calls, a Heap's counts the blocks that refills bring.
	return inProfile(own, mallocDrawn(own, draw(own, 0, own == 0 || size <= sizeclass.MaxMid), size))
}

// inProfile returns p, a block that an allocation is about to return, or 0, and counts it for the profile.
func inProfile(own Front, p Block) Block {
	if p != 0 && profiling() {
		n, s := accounted(p)
		drawProfile(own, p, n, s)
	}
	return p
}

// accounted returns the bytes of the live block at p, those that hardening takes for itself too, and its site. The
// caller holds the block. A guarded block may have no bytes, and counts as one of one byte: none could not be drawn.
func accounted(p Block) (mem.Bytes, site.ID) {
	if isGuarded(p) {
		n, s, _ := guardSize(p)
		return max(n, 1), s
	}
	at, m, large, why := liveByte(p)
	switch {
	case why != OK:
		return 0, 0
	case large:
		return m.largeSize, m.site()
	}
	return m.class.Bytes(), siteOf(p, state(at))
}

// mallocDrawn is Malloc for an allocation that was drawn for x.
func mallocDrawn(own Front, x sample, size mem.Bytes) Block {
	if p := guarded(x, size, 1); p != 0 {
		return p
	}
	for {
		if p := mallocSite(own, x.site, size); !x.forgo(p) {
			return p
		}
	}
}

// mallocSite is Malloc with a site (0: none) for a block that is not guarded.
func mallocSite(own Front, site site.ID, size mem.Bytes) Block {
	if Hardened() {
		return sealed(mallocAt(own, site, hardSize(size)), size)
	}
	return mallocAt(own, site, size)
}

func malloc(own Front, size mem.Bytes) Block {
	if size > sizeclass.MaxMid {
		pollHeap(own)
		if p := mallocCached(own, size, 0); p != 0 {
			return p
		}
		p, _ := newLarge(own, size, 1, 0, 0)
		return p
	}
	c := sizeclass.Of(size)
	return mallocClass(own, size, c, liveState(c))
}

// mallocClass returns a block of class c, for a request of size bytes, whose live state is v, through the
// front. Before it gives up it brings together what the caches of all Ps hold.
func mallocClass(own Front, size mem.Bytes, c sizeclass.ID, v liveState) Block {
	pollHeap(own)
	missed, due, reclaimed, leased := false, false, false, false
	var timed time.Duration // see beginLatency
	for {
		f, tok := enter(own)
		if p := f.pop(c); p != 0 {
			setLive(p, c, v)
			leave(tok)
			endLatency(timed)
			return p
		}
		if f == trapFront {
			leave(tok)
			if !installFront(tok) {
				return noMemory()
			}
			continue
		}
		if f.head().cap[c] == 0 && !f.makeMagazine(c) {
			leave(tok)
			refuseFront()
			return noMemory()
		}
		if !missed {
			missed = true
			*f.misses(c)++
			timed = beginLatency(*f.misses(c))
			noteSize(size, c)
			due = f.head().event()
		}
		if s := *f.lease(c); s != 0 {
			began := telemetry.Begin()
			n := f.refill(c, s)
			telemetry.End(telemetry.Refill, began)
			if n > 0 {
				if Hardened() {
					f.shuffle(c, n)
				}
				if own != 0 && !AlwaysSlow() { // its pops do not count
					*f.sampleWord() -= int64(n)
				}
				p := f.pop(c)
				setLive(p, c, v)
				*f.refills(c)++
				f.look(c, 0)
				if !leased {
					f.head().ownHits++ // the stage own lease; acquire counts the others
				}
				unkept := f.head().unkept[c] || slabBytes(c) > leaseShare()
				if unkept {
					f.takeLease(c)
				}
				leave(tok)
				if unkept {
					retire(s)
				}
				if due {
					stepCaches(own)
				}
				kick()
				endLatency(timed)
				return p
			}
			f.takeLease(c)
			leave(tok)
			began = telemetry.Begin()
			retire(s)
			telemetry.End(telemetry.Retire, began)
		} else {
			leave(tok)
		}
		began := telemetry.Begin()
		s, unused := acquire(commonList(c))
		telemetry.End(telemetry.Acquire, began)
		kickGrown()
		kickPressed()
		if s == 0 {
			if !reclaimed && reclaim(own, slabBytes(c)) {
				reclaimed = true
				continue
			}
			if reclaimed {
				reclaimEnded(false)
			}
			return noMemory()
		}
		if reclaimed {
			reclaimEnded(true)
		}
		f, tok = enter(own)
		if f == trapFront || *f.lease(c) != 0 {
			leave(tok)
			retire(s) // another goroutine of this P was first; s becomes PARTIAL
			continue
		}
		f.setLease(c, s)
		leased = true
		ebbs := unused > 0 && f.ebbDue(unused)
		over := f.head().leases > leaseShare() && slabBytes(c) <= leaseShare() // otherwise it ends itself
		leave(tok)
		if over {
			endLeases(own, c)
		}
		if ebbs {
			ebb(own, c)
		}
	}
}

// Free is the slow path of every free. It checks p again, under enter, and either gives the block
// back or returns what is wrong with p, with nothing changed. Not entered.
func Free(own Front, p Block) Finding {
	check.MustNotBeEntered("Free")
	bad := free(own, p)
	if bad.Kind == OK { // only now: an invalid free must not change a Heap's magazines
		pollHeap(own)
	}
	return bad
}

func free(own Front, p Block) Finding {
	if !region.ready.Load() {
		return Finding{Kind: Foreign, Addr: mem.Addr(p)}
	}
	if isGuarded(p) {
		return guardFree(p)
	}
	if Hardened() {
		return hardFree(own, p)
	}
	for noFront := false; ; {
		f, tok := enter(own)
		at, m, large, why := liveByte(p)
		if why != OK {
			leave(tok)
			return finding(p, m, why)
		}
		c, v := m.class, state(at)
		if checkLive && v == 0 {
			leave(tok)
			return finding(p, m, Freed)
		}
		if large && c == 0 {
			leave(tok)
			return freeHuge(p)
		}
		if f == trapFront && !noFront {
			leave(tok)
			noFront = !installFront(tok) // without one the block goes straight to its slab
			continue
		}
		if raced {
			raceRelease(p, usableBytes(m, large))
		}
		putState(at, 0)
		if large {
			if isTouchSample(p) || mayBeDrawn(p) { // nobody else has the block, or frees it again, meanwhile
				leave(tok)
				endTouch(p)
				endDrawn(p)
				f, tok = enter(own)
			}
			if s := m.site(); s != 0 {
				unlabelLarge(m)
				if p, c, s = giveSiteCached(s, c, p); p == 0 || s != 0 {
					leave(tok)
					if s != 0 {
						releaseSited(p, s)
					}
					kick()
					return TakeFinding()
				}
			}
			freeCached(f, tok, c, p)
			return TakeFinding()
		}
		unsite(p, c, v)
		drawn := (v == liveWatched || v == liveSited) && mayBeDrawn(p)
		if drawn || v == liveSited && (inLongLane(m) || learning && mayBeSample(p)) {
			leave(tok)
			endDrawn(p)
			if learning && v == liveSited {
				takeSample(p)
			}
			flushOne(p, c)
			return TakeFinding()
		}
		if f.push(c, p) {
			leave(tok)
			return Finding{}
		}
		if noFront && f == trapFront {
			leave(tok)
			flushOne(p, c)
			return TakeFinding()
		}
		if f.head().cap[c] == 0 {
			// This is the front's first block of the class. If the block is another front's (its
			// slab is not leased here), it would share cache lines with that front's blocks. Then
			// it goes back to its slab, and a malloc here will take blocks from a slab of this
			// front's own.
			if !f.makeMagazine(c) || *f.lease(c) != owner(p) {
				leave(tok)
				flushOne(p, c)
				return TakeFinding()
			}
			f.push(c, p)
			leave(tok)
			return Finding{}
		}
		overflow(f, tok, c, p)
		return TakeFinding()
	}
}

// PlainSize returns the usable bytes of the live block at p, or 0 where there is more to it: the block is hardened
// or guarded, or there is none. Then Size says what there is, and why not; that takes longer. Any goroutine; the
// caller holds the block.
func PlainSize(p Block) mem.Bytes {
	if !region.ready.Load() || guard.on.Load() || Hardened() {
		return 0
	}
	at, m, large, why := liveByte(p)
	if why != OK || checkLive && state(at) == 0 {
		return 0
	}
	return usableBytes(m, large)
}

// Size returns the usable bytes of the live block at p and its site, or what is wrong with p. Any
// goroutine; the caller holds the block.
func Size(p Block) (size mem.Bytes, site site.ID, bad Finding) {
	if !region.ready.Load() {
		return 0, 0, Finding{Kind: Foreign, Addr: mem.Addr(p)}
	}
	if isGuarded(p) {
		return guardSize(p)
	}
	at, m, large, why := liveByte(p)
	if why != OK {
		return 0, 0, finding(p, m, why)
	}
	v := state(at)
	if checkLive && v == 0 {
		return 0, 0, finding(p, m, Freed)
	}
	if Hardened() {
		n, damage, ok := unseal(p, m, large)
		if !ok && isBroken(p, m, large) { // its free is under way
			return 0, 0, finding(p, m, Freed)
		}
		if !ok {
			return 0, 0, overflowed(p, n, damage, m, large)
		}
		if large {
			return n, m.site(), Finding{}
		}
		return n, siteOf(p, v), Finding{}
	}
	if large {
		return m.largeSize, m.site(), Finding{}
	}
	return mem.Bytes(sizeclass.Classes[m.class].Size), siteOf(p, v), Finding{}
}

// MallocAt is Malloc for the current P with a site.
func MallocAt(site site.ID, size mem.Bytes) Block {
	return inProfile(0, mallocDrawn(0, draw(0, site, false), size))
}

func mallocAt(own Front, site site.ID, size mem.Bytes) Block {
	if site == 0 || !checkLive {
		return malloc(own, size)
	}
	size = AtLeast(site, size)
	if size > sizeclass.MaxMid {
		pollHeap(own)
		if p := mallocCached(own, size, site); p != 0 {
			return p
		}
		p, _ := newLarge(own, size, 1, site, 0)
		return p
	}
	return mallocClassAt(own, size, sizeclass.Of(size), site)
}

// mallocClassAt is mallocClass for a block of a slab with a site.
func mallocClassAt(own Front, size mem.Bytes, c sizeclass.ID, site site.ID) Block {
	if !siteMap() {
		return noMemory()
	}
	laned := c.Bytes() <= maxLaned && !Hardened()
	var p Block
	if laned && isLong(site) {
		c = lanedClass(c)
		p = mallocLong(own, c)
	} else {
		p = mallocClass(own, size, c, liveSited)
	}
	if p == 0 {
		return 0
	}
	ok := countSite(p)
	if !ok && reclaim(0, region.sites.unit) {
		ok = countSite(p)
		reclaimEnded(ok)
	}
	if !ok {
		setLive(p, c, 0)
		flushOne(p, c)
		return noMemory()
	}
	if n := setSite(p, c, site); learning && laned && isSample(n) {
		addSample(p, site)
	}
	return p
}

// mallocLong returns a block of class c with a site from the long lane. As mallocClass, it brings together
// what the caches of all Ps hold before it gives up. Not for hardened blocks, which leave their quarantine
// through magazines.
func mallocLong(own Front, c sizeclass.ID) Block {
	pollHeap(own)
	l := &lanes[c]
	for reclaimed := false; ; {
		p, spent := l.cut(c)
		if p != 0 {
			setLive(p, c, liveSited)
			return p
		}
		if spent != 0 {
			retire(spent)
		}
		s, _ := acquire(longList(c))
		kickGrown()
		kickPressed()
		if s == 0 {
			if !reclaimed && reclaim(own, slabBytes(c)) {
				reclaimed = true
				continue
			}
			if reclaimed {
				reclaimEnded(false)
			}
			return noMemory()
		}
		if reclaimed {
			reclaimEnded(true)
		}
		if !l.lease(s) {
			retire(s) // another goroutine was first; s becomes PARTIAL
		}
		kick()
	}
}

// MallocAligned is Malloc for the current P with an alignment, a power of two, and a site (0: none).
func MallocAligned(align mem.Align, size mem.Bytes, site site.ID) Block {
	x := draw(0, site, false)
	if p := guarded(x, size, align); p != 0 {
		return inProfile(0, p)
	}
	for {
		if p := mallocAlignedSite(0, align, size, x.site); !x.forgo(p) {
			return inProfile(0, p)
		}
	}
}

// mallocAlignedSite is MallocAligned with a site (0: none), also for a Heap, for a block that is not guarded.
func mallocAlignedSite(own Front, align mem.Align, size mem.Bytes, site site.ID) Block {
	if Hardened() {
		return sealed(mallocAligned(own, align, hardSize(size), site), size)
	}
	return mallocAligned(own, align, size, site)
}

// MallocMoved is Malloc for a Realloc that gives a block another place, for the current P or a Heap,
// with an alignment and a site (0: none). grown says that the block becomes larger. It clears the bytes
// behind the first keep; those are the caller's to fill.
func MallocMoved(own Front, align mem.Align, size mem.Bytes, site site.ID, grown bool, keep Keep) Block {
	x := draw(own, site, false)
	if mem.Bytes(keep) < size && size > sizeclass.MaxMid && !Hardened() {
		x.site = site // its caller's, if it was drawn for that
		return inProfile(own, mallocZeroLarge(own, x, align, size, grown, keep))
	}
	p := mallocMoved(own, x, align, size, site, grown)
	if p != 0 {
		ZeroFrom(p, keep, size)
	}
	return p
}

// mallocMoved does the work of MallocMoved, except for clearing, for an allocation that was drawn for x.
func mallocMoved(own Front, x sample, align mem.Align, size mem.Bytes, site site.ID, grown bool) Block {
	if p := guardedGrown(x, size, align, grown); p != 0 {
		return inProfile(own, p)
	}
	if room := hardRoom(size); Hardened() && grown && room > 0 {
		align := max(align, sizeclass.AlignOf(size))
		if p := mallocAligned(own, align, hardSize(size+room), site); p != 0 {
			return inProfile(own, sealed(p, size))
		}
		DidWithout()
	}
	return inProfile(own, mallocAlignedSite(own, align, size, site))
}

// mallocAligned is mallocAlignedSite for a block that is not sealed.
func mallocAligned(own Front, align mem.Align, size mem.Bytes, site site.ID) Block {
	if !checkLive {
		site = 0
	}
	size = AtLeast(site, size)
	if size <= sizeclass.MaxMid && align <= sizeclass.MaxMid {
		switch c := sizeclass.Aligned(size, align); {
		case c == 0: // a large block
		case site != 0:
			return mallocClassAt(own, size, c, site)
		default:
			return mallocClass(own, size, c, liveState(c))
		}
	}
	size = max(size, sizeclass.MaxMid+1)
	switch {
	case align > pageSize:
		return mallocPages(size, pageAlign(align>>pageShift), site)
	case site != 0: // every large block is aligned to a page
		return mallocAt(own, site, size)
	}
	return malloc(own, size)
}

// MallocZero is Malloc for the current P or a Heap, with n bytes cleared. Memory that is known to
// read as zero is not cleared again.
func MallocZero(own Front, n mem.Bytes) Block {
	if n > sizeclass.MaxMid && !Hardened() {
		return inProfile(own, mallocZeroLarge(own, draw(own, 0, false), 1, n, false, 0))
	}
	p := Malloc(own, n)
	if p != 0 {
		ZeroFrom(p, 0, n)
	}
	return p
}

// MallocAlignedZero is MallocZero for the current P with an alignment and a site (0: none).
func MallocAlignedZero(align mem.Align, n mem.Bytes, site site.ID) Block {
	if n > sizeclass.MaxMid && !Hardened() {
		return inProfile(0, mallocZeroLarge(0, draw(0, site, false), align, n, false, 0))
	}
	p := MallocAligned(align, n, site)
	if p != 0 {
		ZeroFrom(p, 0, n)
	}
	return p
}

// mallocZeroLarge is MallocAlignedZero, and MallocMoved, for an allocation above MaxMid that was drawn
// for x, for a block that is not hardened. It clears n bytes, except for the first keep of them.
func mallocZeroLarge(own Front, x sample, align mem.Align, n mem.Bytes, grown bool, keep Keep) Block {
	if p := guardedGrown(x, n, align, grown); p != 0 {
		ZeroFrom(p, keep, n)
		return p
	}
	if !checkLive {
		x.site = 0
	}
	if align <= pageSize { // as every large block is aligned
		if p := mallocCached(own, n, x.site); p != 0 {
			ZeroFrom(p, keep, n)
			return p
		}
	}
	p, zero := newLarge(own, n, max(1, pageAlign(align>>pageShift)), x.site, 0)
	switch {
	case p == 0 || zero == allZeroes:
	case zero == someZeroes:
		zeroDirty(p, keep, n, pageRun{p.page(), pageCount(meta(p.page()).pages)})
	default:
		ZeroFrom(p, keep, n)
	}
	return p
}

// Chunk returns a large block for the use of an Arena with a site (0: none). Free and the other functions for
// blocks refuse it.
func Chunk(size mem.Bytes, s site.ID) (p Block, usable mem.Bytes) {
	p, _ = newLarge(0, max(size, sizeclass.MaxMid+1), 1, s, flagArena)
	if p == 0 {
		return 0, 0
	}
	usable = meta(p.page()).largeSize
	if profiling() {
		drawProfile(0, p, usable, s)
	}
	return p, usable
}

// FreeChunk gives an Arena's large block back.
func FreeChunk(p Block) {
	endDrawn(p)
	page := p.page()
	region.mu.Lock()
	m := meta(page)
	if m.kind != kindLarge || m.start != mem.Addr(p) || m.flags&flagArena == 0 {
		fatal("an Arena's chunk is not one", mem.Addr(p), 0)
	}
	if raced {
		raceRelease(p, m.largeSize)
	}
	s := m.site()
	unlabelLarge(m)
	releaseLarge(page, m, times.now, s)
	region.mu.Unlock()
	kick()
}

// Gated reports whether every block is to be hardened or guarded. Then Resize serves small ones, too.
func Gated() bool { return Hardened() || GuardRate() == 1 }

// Resize gives the live block at p at least size bytes without moving it, and reports whether it
// could. Of a large block it gives back the last pages, or takes the pages behind it if they are free;
// the block's class may change. A hardened or guarded block can only grow, within the room that it
// has. If it could, it clears the bytes behind the first keep. The caller holds the block.
func Resize(p Block, size mem.Bytes, keep Keep) bool {
	if !profiling() {
		return resizeInPlace(p, size, keep)
	}
	was, _ := accounted(p)
	ok := resizeInPlace(p, size, keep)
	if n, s := accounted(p); ok && n != was {
		endDrawn(p)
		drawProfile(0, p, n, s)
	}
	return ok
}

// resizeInPlace does the work of Resize.
func resizeInPlace(p Block, size mem.Bytes, keep Keep) bool {
	var done resized
	switch {
	case isGuarded(p):
		done.ok = guardGrow(p, size)
	case Hardened():
		done.ok = hardGrow(p, size)
	default:
		var limited bool
		done, limited = resize(p, size)
		if limited && reclaim(0, size) {
			done, limited = resize(p, size)
			reclaimEnded(!limited)
		}
		kickGrown()
		kickPressed()
		kick()
	}
	if done.ok {
		done.zero(p, keep, size)
	}
	return done.ok
}
