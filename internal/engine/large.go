package engine

import (
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/site"
	"github.com/hakmem/hakmem/internal/telemetry"
)

// This file takes the pages of large blocks from the page tree and gives them back. region.mu owns
// the tree, and a large block's metadata while nobody holds the block.
//
// Large blocks up to 2 MiB have size classes too, above those of slabs. A freed one is cached in a
// magazine. Its memory is still there, and the next allocation of the class takes it without a
// lock, through the same fast section as a mid block. For that reason the first page's metadata
// looks like a mid slab's with one block: live is the large block's live state, and with 1 as recip
// every offset except 0 is an interior pointer. A large block that no magazine has room for goes to
// the caches (large_cache.go), and from there back to the page tree. Its pages keep their memory
// until they are discarded (purge.go).
//
// If two frees of such a large block overlap, both can pass its live state, as with other blocks.
// The second copy is found when it comes to the page tree. Huge blocks are freed under the region's
// lock, where the second free is found.

// largeStats counts the large blocks that came from the page tree and those that went back to it.
var largeStats struct {
	allocs, frees atomic.Uint64
}

// takeRun takes the pages of a large block of usable bytes from the page tree, at a multiple of
// alignPages. It commits more if it must. With used set it succeeds only if the pages that it finds
// first were all used before.
func takeRun(usable mem.Bytes, alignPages pageAlign, used bool) (page pageNo, clean, ok bool) {
	region.mu.Lock()
	defer region.mu.Unlock()
	return takeRunAt(usable, spot{align: alignPages}, used)
}

// takeRunAt is takeRun for any spot. Under region.mu.
func takeRunAt(usable mem.Bytes, at spot, used bool) (page pageNo, clean, ok bool) {
	r := &region
	check.MustHold(&r.mu, "takeRunAt")
	n, units := pagesOf(usable), lastUnits(usable)
	want := n + pageCount(at.align) - 1 // a run of this length holds one at such a spot
	page, ok = tree.find(want)
	if !ok && at.align > 1 && at.shift == 0 && n <= superPages { // a whole chunk does, too
		var c chunkNo
		c, ok = tree.findWhole()
		page = c.page()
	}
	if !ok && !used && within(usable) && bringBack(want.bytes()) {
		page, ok = tree.find(want)
	}
	if used && (!ok || tree.anyNew(at.from(page), n)) {
		return 0, false, false
	}
	if !ok {
		// Pages that are free at the end of the committed part need not be committed again.
		end := r.endPage()
		have := pageCount(0)
		for have < want && have < pageCount(end) && tree.isFree(end-pageNo(have)-1, 1) {
			have++
		}
		page = at.from(end - pageNo(have))
		p := Block(page.addr())
		more := tree.growthBeyond(page, n, units, p)
		if !reserve(more) {
			refuseByLimit()
			return 0, false, false
		}
		clean, err := takeBeyond(page, n, units, p, (want - have).bytes())
		if err != nil {
			uncount(more)
		}
		return page, clean, err == nil
	}
	page = at.from(page)
	if !reserve(tree.growth(page, n, units)) {
		refuseByLimit()
		return 0, false, false
	}
	return page, tree.takeLarge(page, n, units, Block(page.addr())), true
}

// releaseAll gives freed large blocks back to the page tree. A block that is live, or that was
// given back before, is a double free that raced past the live state: it is dropped (foundLate).
// Not entered; the caller holds the large blocks.
func releaseAll(larges []Block) {
	check.MustNotBeEntered("releaseAll")
	if len(larges) == 0 {
		return
	}
	began := telemetry.Begin()
	defer telemetry.End(telemetry.LargeGive, began)
	region.mu.Lock()
	defer region.mu.Unlock()
	releaseIdle(larges, times.now)
}

// releaseIdle is releaseAll for large blocks that were last used at the given time. Under
// region.mu.
func releaseIdle(larges []Block, at stamp) {
	check.MustHold(&region.mu, "releaseIdle")
	for _, p := range larges {
		releaseOne(p, at, 0)
	}
}

// releaseSited is releaseAll for one block that was a site's. Not entered.
func releaseSited(p Block, s site.ID) {
	check.MustNotBeEntered("releaseSited")
	region.mu.Lock()
	defer region.mu.Unlock()
	releaseOne(p, times.now, s)
}

// releaseOne is releaseIdle for one block, which was a site's (0: none). Under region.mu.
func releaseOne(p Block, at stamp, s site.ID) {
	page := p.page()
	m := meta(page)
	if m.kind != kindLarge || m.start != mem.Addr(p) || m.live != 0 {
		foundLate(p)
		return
	}
	releaseLarge(page, m, at, s)
}

// releaseLarge returns the pages of a large block that was last used by a site (0: none) at the given time to
// the tree. Under region.mu.
func releaseLarge(page pageNo, m *pageMeta, at stamp, s site.ID) {
	check.MustHold(&region.mu, "releaseLarge")
	forgetLarge(page, m)
	giveSited(page, pageCount(m.pages), at, s)
}

// giveSited gives n pages of a site's large block from page on back to the tree. They are kept for as long as
// the rule of the site says. Under region.mu.
func giveSited(page pageNo, n pageCount, at stamp, s site.ID) {
	check.MustHold(&region.mu, "giveSited")
	tree.give(page, n, at)
	if f, set := holdFactor(s); set {
		chunksOf(page, n, func(c chunkNo, m pageSet) { scalePages(c, m&super(c).free, f) })
	}
}

// forgetLarge makes the pages of a large block pages without one. Under region.mu.
func forgetLarge(page pageNo, m *pageMeta) {
	check.MustHold(&region.mu, "forgetLarge")
	largeStats.frees.Add(1)
	dropTouch(Block(page.addr()))
	m.kind, m.class, m.recip = kindLargeFreed, 0, 0
	tails(Block(page.addr()), page+1, pageCount(m.pages)-1, func(t *pageMeta) { t.kind = kindFree })
}

// tails calls f with the metadata of n pages from page on, which are the large block's at p, except in
// chunks that the block has as a whole.
func tails(p Block, page pageNo, n pageCount, f func(*pageMeta)) {
	for end := page + pageNo(n); page < end; page++ {
		if c := page.chunk(); ownerOf(c) == p.page() {
			page = (c + 1).page() - 1
			continue
		}
		f(meta(page))
	}
}

// splitOwned makes the chunk of page, which the large block of so many usable bytes at p has, one whose
// pages have records, if page is not the chunk's first. So the block can give a part of it back. Under
// region.mu.
func splitOwned(p Block, usable mem.Bytes, page pageNo) {
	check.MustHold(&region.mu, "splitOwned")
	c := page.chunk()
	if page == c.page() || ownerOf(c) == 0 {
		return
	}
	disown(c)
	tails(p, c.page(), superPages, func(t *pageMeta) { t.setTail(p, usable) })
}

// setTail makes m the record of a page of the large block at p, other than the first.
func (m *pageMeta) setTail(p Block, usable mem.Bytes) {
	m.start, m.recip, m.class, m.kind, m.bucket = mem.Addr(p), 0, 0, kindLargeTail, bucketOf(usable)
}
