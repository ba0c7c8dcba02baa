package engine

import (
	"time"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/site"
	"github.com/hakmem/hakmem/internal/sizeclass"
	"github.com/hakmem/hakmem/internal/telemetry"
)

// Allocation, resizing and freeing of large blocks, on top of their caches (large_cache.go) and the
// page tree. The metadata of a live large block belongs to whoever holds the block; pages and huge
// blocks change hands under region.mu.

// mallocCached returns a cached large block for size bytes, more than MaxMid, of site (0: none). It
// returns 0 if neither the caches (large_cache.go) nor the front have one. The block may be of a class
// larger than that of size (wmax.go).
func mallocCached(own Front, size mem.Bytes, site site.ID) Block {
	if size > sizeclass.MaxLarge {
		return 0
	}
	c := sizeclass.LargeOf(size)
	if site != 0 {
		if p := takeSiteCached(site, c); p != 0 && isCached(p, c) {
			setLive(p, c, liveSited)
			labelLarge(p, site)
			return p
		}
	}
	began := missBegins()
	f, tok := enter(own)
	p, due := f.pop(c), false
	if p == 0 && f != trapFront {
		*f.misses(c)++
		f.head().wanted(c, 1)
		due = f.head().event()
	}
	leave(tok)
	if p == 0 {
		noteMiss()
		if p = takeShared(c); p == 0 {
			p, c = takeWider(own, c, size, site)
		}
		missEnds(began)
	}
	if due && stepCaches(own) {
		kick()
	}
	if p == 0 || !isCached(p, c) {
		return 0
	}
	if site == 0 {
		setLive(p, c, liveState(c))
		return p
	}
	setLive(p, c, liveSited)
	labelLarge(p, site)
	return p
}

// freeCached puts the freed large block of class c at p into the magazine. Where there is no room,
// the magazine's oldest blocks go to the shared slots, or back to the page tree where those are
// full. Entered; leaves.
func freeCached(f Front, tok token, c sizeclass.ID, p Block) {
	check.MustBeEntered("freeCached")
	if cacheLarge(f, tok, c, p) {
		stepCaches(tok.own())
	}
	kick()
}

// cacheLarge does the work of freeCached and reports whether a step of ACE is due. The two do not share
// their room on the stack, of which goroutines have little. Entered; leaves.
//
//go:noinline
func cacheLarge(f Front, tok token, c sizeclass.ID, p Block) (due bool) {
	var buf [(maxMid + 1) / 2]Block
	n := 1
	switch {
	case f == trapFront:
		buf[0] = p
	case f.head().closed[c], f.head().cap[c] == 0 && !f.makeMagazine(c):
		buf[0] = p
		f.head().movedOut(c, 1)
		due = f.head().event()
	case f.push(c, p):
		n = 0
	default:
		n = f.takeOldest(c, buf[:])
		f.push(c, p)
		due = f.head().event()
	}
	leave(tok)
	for n > 0 && giveShared(c, buf[n-1]) {
		n--
	}
	releaseAll(buf[:n])
	return due
}

// mallocPages returns a large block of at least size bytes whose address is a multiple of
// alignPages pages, or 0. Its pages come from the page tree, lowest address first. The tail of the
// last page beyond the usable size is never touched.
func mallocPages(size mem.Bytes, alignPages pageAlign, site site.ID) Block {
	p, _ := newLarge(0, size, alignPages, site, 0)
	return p
}

// zeroes says how much of a new large block still reads as zero.
type zeroes uint8

const (
	noZeroes   zeroes = iota // perhaps nothing
	someZeroes               // in chunks that the block has as a whole, the pages that are not in wasDirty
	allZeroes
)

// newLarge makes a large block, and also says how much of it still reads as zero.
func newLarge(own Front, size mem.Bytes, alignPages pageAlign, site site.ID, flags largeFlags) (p Block, zero zeroes) {
	usable, ok := sizeclass.LargeSize(size)
	if !Ready() || !ok || usable > region.size-region.first {
		return noMemory(), noZeroes
	}
	if usable > sizeclass.MaxLarge && flags == 0 {
		region.mu.Lock()
		if p = takeHuge(usable, alignPages); p != 0 {
			page := p.page()
			if raced {
				raceAcquire(p, usable)
			}
			meta(page).live = liveHuge
			region.mu.Unlock()
			if site != 0 {
				meta(page).live = liveSited
				labelLarge(p, site)
			}
			return p, noZeroes
		}
		region.mu.Unlock()
	}
	began := telemetry.Begin()
	defer telemetry.End(telemetry.LargeTake, began)
	missed := time.Duration(0)
	if usable <= sizeclass.MaxLarge && flags == 0 {
		missed = missBegins()
	}
	n := pagesOf(usable)
	page, clean, ok := takeRun(usable, alignPages, true)
	if !ok { // memory that is idle in caches comes before new memory
		trimIdleLarge(own)
		kick()
		page, clean, ok = takeRun(usable, alignPages, false)
	}
	kickGrown()
	kickPressed()
	if !ok && reclaim(own, usable) {
		page, clean, ok = takeRun(usable, alignPages, false)
		reclaimEnded(ok)
	}
	if !ok {
		return noMemory(), noZeroes
	}
	if zero = someZeroes; clean {
		zero = allZeroes
	}
	p = makeLarge(page, n, usable, site, flags)
	if site != 0 {
		site.Allocated(usable)
	}
	freshEnds(missed, usable, clean)
	if clean && flags&flagArena == 0 { // an Arena uses its chunks bit by bit
		if touchFresh(p, usable, site) {
			kick()
		}
	}
	return p, zero
}

// makeLarge makes a large block of n pages from page on, which the caller has taken.
func makeLarge(page pageNo, n pageCount, usable mem.Bytes, site site.ID, flags largeFlags) Block {
	p := Block(page.addr())
	if raced {
		raceAcquire(p, n.bytes())
	}
	tails(p, page, n, func(t *pageMeta) { t.setTail(p, usable) })
	m := meta(page)
	m.pages, m.largeSize, m.flags = uint32(n), usable, flags
	m.setSite(site)
	if flags&flagArena == 0 { // otherwise it stays unknown to the fast section
		m.class = largeClass(usable)
		m.live0, m.recip = live0(page, mem.Bytes(liveOffset)), 1
		if m.live = m.classLive(); site != 0 {
			m.live = liveSited
		}
	}
	m.kind = kindLarge
	largeStats.allocs.Add(1)
	return p
}

// wasClean reports whether a page of the large block at p is known to have had no memory when the block got
// it, together with the other pages of run. That is known only of chunks that lie in run as a whole.
func wasClean(p Block, run pageRun, page pageNo) bool {
	c := page.chunk()
	s := super(c)
	was := s.wasDirty
	if ownerOf(c) == p.page() {
		was = s.dirty
	}
	return c.page() >= run.first && (c+1).page() <= run.first+pageNo(run.n) && was>>page.inChunk()&1 == 0
}

// zeroDirty clears the bytes of the large block at p from number keep to the one before end, which lie in the
// pages of run, except for pages that are known to still read as zero: see wasClean.
func zeroDirty(p Block, keep Keep, end mem.Bytes, run pageRun) {
	for at := mem.Bytes(keep); at < end; {
		next := min((at + 1).Up(pageSize), end)
		if wasClean(p, run, pageAt(p.addr().Add(at))) {
			ZeroFrom(p, keep, at)
			keep = Keep(next)
		}
		at = next
	}
	ZeroFrom(p, keep, end)
}

// resized says what came of a resize.
type resized struct {
	ok    bool
	got   pageRun // the pages that the block has got
	clean bool    // all of them read as zero
}

// zero clears the bytes of the block at p from number keep to the one before size, except for those pages that it
// has got that are known to read as zero.
func (r *resized) zero(p Block, keep Keep, size mem.Bytes) {
	if r.got.n == 0 {
		ZeroFrom(p, keep, size)
		return
	}
	had := r.got.first.addr().From(p.addr())
	ZeroFrom(p, keep, min(had, size))
	if !r.clean {
		zeroDirty(p, max(keep, Keep(had)), size, r.got)
	}
}

// resize does the work of Resize, except for clearing, and also reports whether it was the memory limit that
// refused.
func resize(p Block, size mem.Bytes) (done resized, limited bool) {
	at, m, large, why := liveByte(p)
	if why != OK || !large || size <= sizeclass.MaxMid || checkLive && state(at) == 0 {
		return done, false
	}
	usable, fits := sizeclass.LargeSize(size)
	if !fits || usable > region.size-region.first {
		return done, false
	}
	r := &region
	page := p.page()
	r.mu.Lock()
	defer r.mu.Unlock()
	dropTouch(p)
	have, want := pageCount(m.pages), pagesOf(usable)
	next, end := page+pageNo(have), r.endPage()
	last, units := next-1, lastUnits(usable)
	if want >= have && super(last.chunk()).torn>>last.inChunk()&1 != 0 {
		return done, false // what is behind the block may not be touched
	}
	switch {
	case want > have:
		behind := pageCount(min(page+pageNo(want), end) - next) // of the pages wanted, those committed
		if !tree.isFree(next, behind) {
			return done, false
		}
		more := want - have - behind
		need := (allUnits &^ usedOfLast(last)).bytes() // it is the last one no more
		if more == 0 {
			need += tree.growth(next, want-have, units)
		} else {
			need += tree.growthBeyond(next, want-have, units, p)
		}
		if !reserve(need) {
			refuseByLimit()
			return done, true
		}
		done.got = pageRun{next, want - have}
		if more == 0 {
			done.clean = tree.takeLarge(next, want-have, units, p)
		} else {
			clean, err := takeBeyond(next, want-have, units, p, more.bytes())
			if err != nil {
				uncount(need)
				return resized{}, false
			}
			done.clean = clean
		}
		useLast(last, allUnits, pageSize/residentUnit)
		if raced {
			raceAcquire(p+Block(have.bytes()), (want - have).bytes())
		}
		tails(p, next, want-have, func(t *pageMeta) { t.setTail(p, usable) })
	case want < have:
		splitOwned(p, usable, page+pageNo(want))
		tails(p, page+pageNo(want), have-want, func(t *pageMeta) { t.kind = kindFree })
		giveSited(page+pageNo(want), have-want, times.now, m.site())
		useLast(page+pageNo(want)-1, allUnits, units)
	default:
		was := usedOfLast(last)
		if !reserve((firstUnits(units) &^ was).bytes()) {
			refuseByLimit()
			return done, true
		}
		useLast(last, was, units)
	}
	if m.site() != 0 {
		m.site().Resized(int64(usable) - int64(m.largeSize))
	}
	old := m.class
	m.pages, m.largeSize, m.class = uint32(want), usable, largeClass(usable)
	// The live state is the class, or one that says more than the class (liveSited).
	if was := *u8(at); was == uint8(old) || was == liveHuge {
		*u8(at) = uint8(m.classLive())
	}
	done.ok = true
	return done, false
}

// trimIdleLarge gives back cached large blocks that nobody needs. In the magazines of the front
// that the caller uses, those are the blocks of each class of which there are as many as at its
// last call: nobody touched them, or nobody needed one more. It also gives back a huge block beyond
// the share of the cache. Not entered.
func trimIdleLarge(own Front) {
	check.MustNotBeEntered("trimIdleLarge")
	var buf [maxMid]Block
	n := 0
	f, tok := enter(own)
	if f != trapFront {
		h := f.head()
		for c := sizeclass.ID(sizeclass.Num + 1); c <= sizeclass.NumAll; c++ {
			k := f.held(c)
			if k > 0 && uint16(k) == h.idle[c] && n+int(k) <= len(buf) {
				for ; k > 0; k-- {
					buf[n] = f.pop(c)
					n++
				}
			}
			h.idle[c] = uint16(k)
		}
	}
	leave(tok)
	releaseAll(buf[:n])
	region.mu.Lock()
	dropShared()
	if hugeCache.kept.size > mem.Bytes(uintptr(pageUse.used)<<pageShift/hugeShare) {
		evictHuge()
	}
	region.mu.Unlock()
}

// freeHuge frees the large block without a class at p. The block's state is decided under the
// region's lock: of two frees at the same time one comes second.
func freeHuge(p Block) Finding {
	page := p.page()
	m := meta(page)
	region.mu.Lock()
	if m.kind != kindLarge || m.start != mem.Addr(p) || checkLive && m.live == 0 {
		region.mu.Unlock()
		return finding(p, m, Freed)
	}
	if raced {
		raceRelease(p, m.largeSize)
	}
	m.live = 0
	s := m.site()
	unlabelLarge(m)
	if isTouchSample(p) || mayBeDrawn(p) { // nobody else has the block, or frees it again, meanwhile
		region.mu.Unlock()
		endTouch(p)
		endDrawn(p)
		region.mu.Lock()
	}
	giveHuge(p, m, s)
	region.mu.Unlock()
	kick()
	return Finding{}
}
