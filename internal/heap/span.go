package heap

import (
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/sizeclass"
	"github.com/hakmem/hakmem/internal/telemetry"
)

// Spans up to 2 MiB have size classes too, above those of slabs, and a freed one
// stays warm in a magazine: its pages are still there, and the next allocation
// of the class takes it without a lock, through the same fast section as a mid
// block. For that the first page's metadata looks like a mid slab's with one
// block: live is the span's live state, and recip 1 makes every offset but
// 0 an interior pointer. A span that no magazine has room for goes back to the
// page tree; its pages keep their memory until they are discarded (purge.go).
//
// Two frees of such a span that overlap can both pass its live state, as with
// other blocks. The second copy is found when it comes to the page tree. Larger
// spans are freed under the region's lock, where the second free is found.

// spanStats counts the spans that came from the page tree and went back to it.
var spanStats struct {
	allocs, frees atomic.Uint64
}

// liveBig is the live state of a span without a class. Its magazine is a trap,
// like those of liveSited and liveWatched.
const liveBig = setClasses - 3

// mallocWarm returns a warm span for size bytes, more than MaxMid, of site (0:
// none), or 0 if neither the caches (spancache.go) nor the front have one.
func mallocWarm(own, size uintptr, site uint32) uintptr {
	if size > sizeclass.MaxWarm {
		return 0
	}
	c := sizeclass.SpanOf(size)
	v := c
	if site != 0 {
		v = liveSited
		if p := takeBig(site, c); p != 0 && isCached(p, c) {
			setLive(p, c, v)
			return p
		}
	}
	f, tok := enter(own)
	p := pop(f, c)
	if p == 0 && f != trapFront {
		*misses(f, c)++
	}
	leave(tok)
	if p == 0 {
		p = takeShared(c)
	}
	if p == 0 || !isCached(p, c) {
		return 0
	}
	setLive(p, c, v)
	return p
}

// isCached reports whether p, which came out of a cache, is a freed span of class
// c. If it is not, it was freed twice at the same moment, and the other copy has
// gone its way: this one is dropped, and reported by the next allocation.
func isCached(p uintptr, c uint8) bool {
	m := meta((p - region.base) >> pageShift)
	if m.kind == kindSpan && m.start == p && m.class == c && (!checkLive || m.live == 0) {
		return true
	}
	lateFrees.Add(1)
	postponeLate(p)
	return false
}

// freeWarm takes the freed span of class c at p into the magazine, where there
// is room; what must make room goes to the shared slots, and where they are full
// back to the page tree. Entered; leaves.
func freeWarm(f uintptr, tok token, c uint8, p uintptr) Fault {
	var buf [(maxMid + 1) / 2]uintptr
	n := 1
	switch {
	case f == trapFront:
		buf[0] = p
	case head(f).cap[c] == 0:
		makeMagazine(f, c)
		push(f, c, p)
		n = 0
	case push(f, c, p):
		n = 0
	default:
		n = takeOldest(f, c, buf[:])
		push(f, c, p)
	}
	leave(tok)
	for n > 0 && giveShared(c, buf[n-1]) {
		n--
	}
	late := releaseSpans(buf[:n])
	kick()
	return lateFault(late)
}

// mallocSpan returns a span of at least size bytes whose address is a multiple
// of alignPages pages, or 0. Its pages come from the page tree, lowest address
// first; the tail of the last page beyond the usable size is never touched.
func mallocSpan(size, alignPages uintptr, site uint32) uintptr {
	p, _ := newSpan(0, size, alignPages, site, 0)
	return p
}

// zeroes says how much of a new span still reads as zero.
type zeroes uint8

const (
	noZeroes   zeroes = iota // perhaps nothing
	someZeroes               // whole superslabs: their pages that are not in wasDirty
	allZeroes
)

// newSpan also says how much of the span still reads as zero.
func newSpan(own, size, alignPages uintptr, site uint32, flags uint8) (p uintptr, zero zeroes) {
	usable, ok := sizeclass.SpanSize(size)
	if !Ready() || !ok || usable > region.size-region.first {
		return noMemory(), noZeroes
	}
	if usable > sizeclass.MaxWarm && flags == 0 {
		region.mu.Lock()
		if p = takeWhale(usable, alignPages); p != 0 {
			page := (p - region.base) >> pageShift
			if tracked {
				raceAcquire(p, usable)
			}
			meta(page).live = liveBig
			region.mu.Unlock()
			if site != 0 {
				meta(page).live = liveSited
				labelSpan(p, site)
			}
			return p, noZeroes
		}
		region.mu.Unlock()
	}
	began := telemetry.Begin()
	defer telemetry.End(telemetry.SpanTake, began)
	n := roundUp(usable, pageSize) >> pageShift
	page, clean, ok := takeRun(n, alignPages, true)
	if !ok { // memory that is idle in caches comes before new memory
		trimIdleSpans(own)
		kick()
		page, clean, ok = takeRun(n, alignPages, false)
	}
	kickPressed()
	if !ok && reclaim(own) {
		if page, clean, ok = takeRun(n, alignPages, false); !ok {
			reclaimFailed()
		}
	}
	if !ok {
		return noMemory(), noZeroes
	}
	if zero = someZeroes; clean {
		zero = allZeroes
	}
	p = region.base + page<<pageShift
	if tracked {
		raceAcquire(p, n<<pageShift)
	}
	for i := range n {
		m := meta(page + i)
		m.start, m.recip, m.class, m.kind, m.bucket = p, 0, 0, kindSpanTail, bucketOf(usable)
	}
	m := meta(page)
	m.pages, m.spanSize, m.site, m.flags = uint32(n), usable, site, flags
	if flags&flagArena == 0 { // else it stays unknown to the fast section
		if usable <= sizeclass.MaxWarm {
			m.class = sizeclass.SpanOf(usable)
		}
		m.live0, m.recip = live0(page, liveOffset), 1
		switch {
		case site != 0:
			m.live = liveSited
		case m.class != 0:
			m.live = m.class
		default:
			m.live = liveBig
		}
	}
	m.kind = kindSpan
	spanStats.allocs.Add(1)
	if site != 0 {
		siteAdd(site, int64(usable), 1)
	}
	return p, zero
}

// takeRun takes n pages from the page tree, committing more if it must; if warm,
// only pages that all have memory already, if those are the ones found first.
func takeRun(n, alignPages uintptr, warm bool) (page uintptr, clean, ok bool) {
	r := &region
	r.mu.Lock()
	defer r.mu.Unlock()
	want := n + alignPages - 1 // a run this long holds an aligned one
	page, ok = r.tree.find(uint32(want))
	if !ok && alignPages > 1 && n <= superPages { // as a whole chunk does
		page, ok = r.tree.findWhole()
		page *= superPages
	}
	if warm && (!ok || r.tree.cleanPages(roundUp(page, alignPages), n) > 0) {
		return 0, false, false
	}
	if !ok {
		// What is free at the end of the committed pages need not be committed again.
		end := r.committed.Load()
		have := uintptr(0)
		for have < want && have < end>>pageShift {
			p := end>>pageShift - have - 1
			s := super(p / superPages)
			if s.isSlabs || s.free>>(p%superPages)&1 == 0 {
				break
			}
			have++
		}
		if !allowed(int(n-min(have, n))) || grow((want-have)<<pageShift) != nil {
			return 0, false, false
		}
		if page, ok = r.tree.find(uint32(want)); !ok {
			fatal("page tree lost the pages just committed", 0, 0)
		}
	}
	page = roundUp(page, alignPages)
	if memoryLimit.hard.Load() != 0 && !allowed(int(r.tree.cleanPages(page, n))) {
		return 0, false, false
	}
	return page, r.tree.take(page, n), true
}

// Resize makes the live span at p one of at least size bytes where it is, by
// giving back its last pages or taking the next ones if they are free, and
// reports whether it could. The caller holds the block; its class may change.
func Resize(p, size uintptr) bool {
	if Hardened() || isGuarded(p) {
		return false
	}
	ok, limited := resize(p, size)
	if limited && reclaim(0) {
		if ok, limited = resize(p, size); limited {
			reclaimFailed()
		}
	}
	kickPressed()
	kick()
	return ok
}

// resize also reports whether it was the memory limit that refused.
func resize(p, size uintptr) (ok, limited bool) {
	at, m, span, why := liveByte(p)
	if why != OK || !span || size <= sizeclass.MaxMid || checkLive && state(at) == 0 {
		return false, false
	}
	usable, fits := sizeclass.SpanSize(size)
	if !fits || usable > region.size-region.first {
		return false, false
	}
	r := &region
	page := (p - r.base) >> pageShift
	r.mu.Lock()
	defer r.mu.Unlock()
	have, want := uintptr(m.pages), roundUp(usable, pageSize)>>pageShift
	switch {
	case want > have:
		next, end := page+have, r.committed.Load()>>pageShift
		behind := min(page+want, end) - next // of the pages wanted, those committed
		if !r.tree.isFree(next, behind) {
			return false, false
		}
		if !allowed(r.tree.cleanPages(next, behind) + int(want-have-behind)) {
			return false, true
		}
		if page+want > end && grow((page+want-end)<<pageShift) != nil {
			return false, false
		}
		r.tree.take(page+have, want-have)
		if tracked {
			raceAcquire(p+have<<pageShift, (want-have)<<pageShift)
		}
		for i := have; i < want; i++ {
			t := meta(page + i)
			t.start, t.recip, t.class, t.kind, t.bucket = p, 0, 0, kindSpanTail, bucketOf(usable)
		}
	case want < have:
		for i := want; i < have; i++ {
			meta(page + i).kind = kindFree
		}
		r.tree.give(page+want, have-want, scavenger.now)
	}
	if m.site != 0 {
		siteAdd(m.site, int64(usable)-int64(m.spanSize), 0)
	}
	old := m.class
	m.pages, m.spanSize, m.class = uint32(want), usable, 0
	if usable <= sizeclass.MaxWarm {
		m.class = sizeclass.SpanOf(usable)
	}
	// The live state is the class, or one that says more than it (liveSited).
	switch {
	case *u8(at) != old && *u8(at) != liveBig:
	case m.class != 0:
		*u8(at) = m.class
	default:
		*u8(at) = liveBig
	}
	return true, false
}

// trimIdleSpans gives back the spans in the magazines of the front that the caller
// uses of which there are as many as when it last did so (nobody touched them, or
// nobody needed one more), and whales beyond their share.
// Not entered.
func trimIdleSpans(own uintptr) {
	var buf [maxMid]uintptr
	n := 0
	f, tok := enter(own)
	if f != trapFront {
		h := head(f)
		for c := uint8(sizeclass.Num + 1); c <= sizeclass.NumAll; c++ {
			k := held(f, c)
			if k > 0 && uint16(k) == h.idle[c] && n+int(k) <= len(buf) {
				for ; k > 0; k-- {
					buf[n] = pop(f, c)
					n++
				}
			}
			h.idle[c] = uint16(k)
		}
	}
	leave(tok)
	postponeLate(releaseSpans(buf[:n]))
	region.mu.Lock()
	postponeLate(dropShared())
	for len(whales.spans) > 0 && whales.bytes > uintptr(pageUse.used)<<pageShift/whaleShare {
		whales.count.evictions.Add(1)
		dropWhale()
	}
	region.mu.Unlock()
}

// releaseSpans gives freed spans back to the page tree. It returns the address
// of one that is live, or was given back before: a double free that raced past
// the live state; or 0. Not entered; the caller holds the spans.
func releaseSpans(spans []uintptr) (late uintptr) {
	if len(spans) == 0 {
		return 0
	}
	began := telemetry.Begin()
	defer telemetry.End(telemetry.SpanGive, began)
	region.mu.Lock()
	defer region.mu.Unlock()
	return releaseIdle(spans, scavenger.now)
}

// releaseIdle is releaseSpans for spans last used at the given time. Under
// region.mu.
func releaseIdle(spans []uintptr, at uint32) (late uintptr) {
	for _, p := range spans {
		page := (p - region.base) >> pageShift
		m := meta(page)
		if m.kind != kindSpan || m.start != p || m.live != 0 {
			late = p
			lateFrees.Add(1)
			continue
		}
		releaseSpan(page, m, at)
	}
	return late
}

// freeBig frees the span without a class at p. Its state is decided under the
// region's lock: of two frees at the same time one is the second.
func freeBig(p uintptr) Fault {
	page := (p - region.base) >> pageShift
	m := meta(page)
	region.mu.Lock()
	if m.kind != kindSpan || m.start != p || checkLive && m.live == 0 {
		region.mu.Unlock()
		return fault(p, m, Freed)
	}
	if tracked {
		raceRelease(p, m.spanSize)
	}
	m.live = 0
	unlabelSpan(m)
	giveBigSpan(p, m)
	region.mu.Unlock()
	kick()
	return Fault{}
}

// giveBigSpan caches the freed span without a class at p, or gives its pages back.
// Under region.mu.
func giveBigSpan(p uintptr, m *pageMeta) {
	if !giveWhale(p, m.spanSize) {
		releaseSpan((p-region.base)>>pageShift, m, scavenger.now)
	}
}

// labelSpan gives the span at p, which the caller holds, a site.
func labelSpan(p uintptr, site uint32) {
	m := meta((p - region.base) >> pageShift)
	m.site = site
	siteAdd(site, int64(m.spanSize), 1)
}

// unlabelSpan takes a freed span's site away.
func unlabelSpan(m *pageMeta) {
	if m.site != 0 {
		siteAdd(m.site, -int64(m.spanSize), -1)
		m.site = 0
	}
}

// releaseSpan returns the pages of a span that was last used at the given time to
// the tree. Under region.mu.
func releaseSpan(page uintptr, m *pageMeta, at uint32) {
	n := uintptr(m.pages)
	spanStats.frees.Add(1)
	m.kind, m.class, m.recip = kindSpanFreed, 0, 0
	for i := uintptr(1); i < n; i++ {
		meta(page + i).kind = kindFree
	}
	region.tree.give(page, n, at)
}

// MallocZero is Malloc for the current P or a Heap, with n bytes cleared; what
// is known to read as zero is not cleared again.
func MallocZero(own, n uintptr) uintptr {
	if n > sizeclass.MaxMid && !Hardened() {
		if p := guarded(own, n, 1, 0, false); p != 0 {
			Zero(ptr(p), n)
			return p
		}
		if p := mallocWarm(own, n, 0); p != 0 {
			Zero(ptr(p), n)
			return p
		}
		p, zero := newSpan(own, n, 1, 0, 0)
		switch {
		case p == 0 || zero == allZeroes:
		case zero == someZeroes:
			zeroDirty(p, n)
		default:
			Zero(ptr(p), n)
		}
		return p
	}
	p := Malloc(own, n)
	if p != 0 {
		Zero(ptr(p), n)
	}
	return p
}

// zeroDirty clears the first n bytes of the new span at p, but for pages that still
// read as zero, as far as that is known: of superslabs that are all the span's.
func zeroDirty(p, n uintptr) {
	first := (p - region.base) >> pageShift
	last := first + uintptr(meta(first).pages) // behind the span
	from := uintptr(0)                         // what comes before is zero
	for off := uintptr(0); off < n; off += pageSize {
		page := first + off>>pageShift
		c := page / superPages
		if c*superPages >= first && (c+1)*superPages <= last && super(c).wasDirty>>(page%superPages)&1 == 0 {
			Zero(ptr(p+from), off-from)
			from = off + pageSize
		}
	}
	if from < n {
		Zero(ptr(p+from), n-from)
	}
}

// Chunk returns a span for an Arena's use: Free and its kin refuse it.
func Chunk(size uintptr) (p, usable uintptr) {
	p, _ = newSpan(0, max(size, sizeclass.MaxMid+1), 1, 0, flagArena)
	if p == 0 {
		return 0, 0
	}
	return p, meta((p - region.base) >> pageShift).spanSize
}

// FreeChunk gives an Arena's span back.
func FreeChunk(p uintptr) {
	page := (p - region.base) >> pageShift
	region.mu.Lock()
	m := meta(page)
	if m.kind != kindSpan || m.start != p || m.flags&flagArena == 0 {
		fatal("an Arena's chunk is not one", p, 0)
	}
	if tracked {
		raceRelease(p, m.spanSize)
	}
	releaseSpan(page, m, scavenger.now)
	region.mu.Unlock()
	kick()
}
