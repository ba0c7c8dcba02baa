package engine

import (
	"fmt"
	"math/bits"
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/learn"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/site"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// The part of CheckInvariants that looks at the region: what each page is, and the tables that say
// the same in another form. Called by checker.check, under its locks.

// checkRegion looks at the bounds of what is committed.
func (k *checker) checkRegion() {
	r := &region
	of := subject{noun: "region", addr: r.base}
	end := r.committed.Load()
	if mem.Bytes(end) < r.first || mem.Bytes(end) > r.size || end%superSize != 0 {
		k.bad(of, "whole superslabs of the region are committed", hex(end), fmt.Sprintf("a multiple of %#x from %#x to %#x", superSize, r.first, r.size))
	}
	_, metadata := r.fixedParts(pageCount(r.size >> pageShift))
	metadata += tree.bytes()
	metadata += mem.Bytes(frontPool.built.Load() * frontSize)
	for i, a := range r.areas() {
		least := mem.Bytes(end>>pageShift) * a.unit
		if a.lazy || mem.Bytes(end) == r.first { // nothing of the region needs any yet
			least = 0
		}
		if a.committed < least {
			k.bad(subject{noun: "metadata", addr: a.base}, "metadata is committed with the pages it is of", a.committed, fmt.Sprintf("at least %d (area %d)", least, i))
		}
		metadata += a.committed - a.of(pageCount(region.firstPage())).Down(pageSize)
	}
	if n := r.metaCommitted.Load(); mem.Bytes(n) != metadata {
		k.bad(of, "committed metadata adds up", n, metadata)
	}
	boundaries := 0
	for c := range chunkNo(end>>superShift) + 1 {
		if hasSmallPages(c) != hasSmallPages(c-1) {
			boundaries++
		}
	}
	if hugePages.boundaries != boundaries {
		k.bad(of, "boundaries of advice on huge pages are counted", hugePages.boundaries, boundaries)
	}
	if r.sites.lazy == sitesOn.Load() {
		k.bad(of, "the site map is committed when there are sites", r.sites.lazy, !r.sites.lazy)
	}
	granules := mem.Bytes(end >> granuleShift)
	if mem.Bytes(end) == r.first {
		granules = 0 // before the first commit
	}
	if mem.Addr(Base) != r.base || mem.Addr(Live) != r.base-r.base>>granuleShift || mem.Addr(Pages) != r.pages.base || mem.Bytes(Granules) != granules {
		k.bad(of, "fast paths know the region", fmt.Sprintf("Base %#x, Live %#x, Pages %#x, Granules %#x", Base, Live, Pages, Granules),
			fmt.Sprintf("%#x, %#x, %#x, %#x", r.base, r.base-r.base>>granuleShift, r.pages.base, granules))
	}
}

// checkPages looks at each page as a part of its slab or large block, or as free, and at each
// superslab.
func (k *checker) checkPages() {
	end := region.endPage()
	for c := region.firstChunk(); c < end.chunk(); c++ {
		k.checkSuper(c)
	}
	// Looking at all of them would touch 24 MB for a TiB that nobody has touched.
	for c := end.chunk(); c < min(end.chunk()+64, chunkNo(region.size>>superShift), chunkNo(tree.leaves)); c++ {
		if s := super(c); s.free|s.lost != 0 || s.isSlabs {
			k.bad(subject{noun: "superslab", addr: c.addr()}, "no page beyond the committed ones is free",
				fmt.Sprintf("%#x, lost %#x, superslab %t", s.free, s.lost, s.isSlabs), "0, 0, false")
		}
	}
	for page := region.firstPage(); page < end; {
		m := meta(page)
		n := uintptr(1)
		switch {
		case m.slabList.Load() != 0:
			n = uintptr(k.checkSlab(slabID(page + 1)))
		case m.kind == kindLarge:
			n = uintptr(k.checkLarge(page))
		default:
			k.checkFree(page)
		}
		page += pageNo(max(n, 1))
	}
}

// checkSuper looks at what is known of the pages of chunk c together.
func (k *checker) checkSuper(c chunkNo) {
	s := super(c)
	of := subject{noun: "superslab", addr: c.addr()}
	k.counted += s.tables.bytes() + liveBytes(s.tiny) + mapBytes(pageSet(s.sited.Load()), region.sites.unit)
	if block := ownerOf(c); block != 0 {
		k.counted += superSize
		k.checkOwned(c, block)
		return
	}
	out := s.free | s.lost // pages that nobody uses
	k.used += superPages - out.count()
	k.dirty += (out & s.dirty).count()
	if s.away {
		k.away++
	}
	if s.rounds > ripeRounds || s.collapsed && s.rounds != ripeRounds {
		k.bad(of, "a collapsed chunk is ripe", fmt.Sprintf("%d rounds, collapsed %t", s.rounds, s.collapsed), ripeRounds)
	}
	if s.away && (s.lost != ^pageSet(0) || s.dirty|s.tiny != 0 || s.isSlabs) {
		k.bad(of, "a chunk that is away has no memory", fmt.Sprintf("lost %#x, dirty %#x, tiny %#x, superslab %t", s.lost, s.dirty, s.tiny, s.isSlabs), "lost 0xffffffff, 0, 0, false")
	}
	k.counted += s.residentBytes(c, s.dirty)
	if x := s.unused &^ (s.free & s.dirty); x != 0 {
		k.bad(of, "a page that got memory with another one is free, and dirty", hex(x), 0)
	}
	if x := s.partly &^ s.dirty; x != 0 {
		k.bad(of, "a page of which some units are resident is dirty", hex(x), 0)
	}
	if x := s.short&out | s.torn&^s.short; x != 0 {
		k.bad(of, "a page that is used in part is in use", hex(x), 0)
	}
	if want := s.tablesWanted(); ^out != 0 && s.tables&want != want {
		k.bad(of, "the tables of a chunk that is in use are counted", s.tables, want)
	}
	if s.free&s.lost != 0 {
		k.bad(of, "a lost page is not free", hex(s.free&s.lost), 0)
	}
	k.refused += (s.free & s.refused).count()
	if x := s.refused &^ (s.dirty &^ s.lost); x != 0 {
		k.bad(of, "a refused page is dirty, and may be touched", hex(x), 0)
	}
	if s.refused != 0 && s.refusals == 0 || s.refusals > maxRefusals {
		k.bad(of, "the refusals of a chunk are counted", s.refusals, fmt.Sprintf("1 to %d", maxRefusals))
	}
	if scaled := holdScales[c]; scaled != nil && (scaled.pages == 0 || scaled.pages&^out != 0) {
		k.bad(of, "a page with a factor of its hold time is free", hex(scaled.pages), hex(out))
	}
	if x := ^out &^ s.dirty; x != 0 {
		k.bad(of, "a page in use is dirty", hex(x), 0)
	}
	if x := s.purged &^ out; x != 0 {
		k.bad(of, "a page in use is not one that was returned", hex(x), 0)
	}
	if s.isSlabs {
		k.supers++
		if s.free == pageSet(^uint32(0)) {
			k.bad(of, "a superslab has slabs", "none", "at least one")
		}
	}
	for o := range poolHints {
		want := s.isSlabs && alignedRuns(s.free, slabOrder(o)) != 0
		got := c/64 < chunkNo(len(poolHints[o])) && poolHints[o][c/64]>>(c%64)&1 != 0
		if got != want {
			k.bad(of, "pool hints tell where a slab fits", fmt.Sprintf("%t (order %d)", got, o), want)
		}
	}
	if s.emptyMask.Load() != 0 && atomic.LoadUint64(hintWord(c))>>(c%64)&1 == 0 {
		k.bad(of, "a superslab with EMPTY slabs has a hint", "none", hex(s.emptyMask.Load()))
	}
}

// checkTouches looks at the fresh blocks that are samples.
func (k *checker) checkTouches() {
	waiting := touches.waiting
	for i := range touchSamples {
		s := &touchSamples[i]
		p := Block(s.at.Load())
		if p == 0 {
			continue
		}
		waiting[s.group()]--
		if !isPage(p.page()) {
			k.bad(subject{noun: "sample", addr: mem.Addr(p)}, "a fresh block that is a sample lies in the region", hex(p), "a page of it")
			continue
		}
		if m := meta(p.page()); touchAt(p) != s || m.kind != kindLarge || m.start != mem.Addr(p) || m.live == 0 || m.live == liveState(m.class) {
			k.bad(subject{noun: "sample", addr: mem.Addr(p)}, "a fresh block that is a sample is live and freed on a slow path", fmt.Sprintf("entry %d, live state %d", i, m.live), "its own, and one that says so")
		}
	}
	if waiting != [learn.TouchGroups]int{} {
		k.bad(subject{noun: "samples"}, "fresh blocks that are samples are counted", fmt.Sprint(waiting, " too many"), "none")
	}
}

// checkOwned looks at a chunk that the huge block at page block has as a whole.
func (k *checker) checkOwned(c chunkNo, block pageNo) {
	k.used += superPages
	s := super(c)
	if s.free|s.lost|s.purged != 0 || s.isSlabs || s.emptyMask.Load() != 0 {
		k.bad(subject{noun: "superslab", addr: c.addr()}, "a chunk that a huge block has as a whole is in use, and no superslab",
			fmt.Sprintf("free %#x, lost %#x, returned %#x, superslab %t, EMPTY %#x", s.free, s.lost, s.purged, s.isSlabs, s.emptyMask.Load()), "0, 0, 0, false, 0")
	}
	if m := meta(block); !isPage(block) || m.kind != kindLarge || c <= block.chunk() || (c+1).page() > block+pageNo(m.pages) {
		k.bad(subject{noun: "superslab", addr: c.addr()}, "a chunk that a huge block has as a whole lies in it", block, "the first page of the huge block around it")
	}
}

// inUse reports whether the chunk counts the page as one in use, and whether it counts it as a page
// of a superslab.
func inUse(page pageNo) (used, slabs bool) {
	s := super(page.chunk())
	return (s.free|s.lost)>>(page.inChunk())&1 == 0, s.isSlabs
}

// checkSlab returns how many pages the caller must skip to pass the slab.
func (k *checker) checkSlab(s slabID) (pages pageCount) {
	m := s.meta()
	l := m.list()
	c := l.class()
	of := subject{noun: "slab", addr: s.addr(), class: c}
	if m.slabList.Load() >= numLists {
		k.bad(of, "a slab has a list", m.slabList.Load(), fmt.Sprintf("1 to %d", numLists-1))
		k.wild = true
		return 1
	}
	cl := &sizeclass.Classes[c]
	pages = 1 << cl.Order
	k.slabs[l]++
	if s.page()%pageNo(pages) != 0 {
		k.bad(of, "a slab begins at a multiple of its length", s.page(), fmt.Sprintf("a multiple of %d", pages))
		return 1
	}
	if pageCount(m.pages) != pages {
		k.bad(of, "a slab has its class's pages", m.pages, pages)
	}
	k.checkSlabPages(s, c, pages)
	k.checkSlabState(s, l)
	k.checkBlocks(s, c)
	return pages
}

func (k *checker) checkSlabPages(s slabID, c sizeclass.ID, pages pageCount) {
	cl := &sizeclass.Classes[c]
	kind, bucket, recip, pageClass := kindMid, bucketMid, cl.Recip, uint8(0)
	if c <= sizeclass.NumTiny {
		kind, bucket, recip, pageClass = kindTiny, bucketTiny, 0, uint8(c)
	}
	for page := s.page(); page < s.page()+pageNo(pages); page++ {
		m := meta(page)
		of := subject{"page", page.addr(), c, s.addr()}
		if m.start != s.addr() {
			k.bad(of, "a slab's page knows its start", hex(m.start), hex(s.addr()))
		}
		if m.kind != kind || m.class != c || m.bucket != bucket || m.flags != 0 {
			k.bad(of, "a slab's page has its kind and class", fmt.Sprintf("kind %d, class %d, bucket %d, flags %d", m.kind, m.class, m.bucket, m.flags),
				fmt.Sprintf("%d, %d, %d, 0", kind, c, bucket))
		}
		at := uintptr(0)
		if kind == kindMid {
			at = uintptr(live0(page, 0))
		}
		if m.recip != recip || m.live0 != mem.Addr(at) || PageClass[page] != pageClass {
			k.bad(of, "fast paths know a slab's page", fmt.Sprintf("recip %#x, live0 %#x, PageClass %d", m.recip, m.live0, PageClass[page]),
				fmt.Sprintf("%#x, %#x, %d", recip, at, pageClass))
		}
		if page != s.page() && (m.slabList.Load() != 0 || m.slabState.Load() != slabNone) {
			k.bad(of, "a slab's later pages begin no slab", fmt.Sprintf("class %d, state %d", m.slabList.Load(), m.slabState.Load()), "0, 0")
		}
		if m.live != 0 {
			k.bad(of, "a slab's page has no large block's live state", m.live, 0)
		}
		if used, slabs := inUse(page); !used || !slabs {
			k.bad(of, "a slab's page is a superslab's, and in use", fmt.Sprintf("superslab %t, in use %t", slabs, used), "both")
		}
		k.usedUnits(page, of, pageSize/residentUnit)
		if c <= sizeclass.NumTiny && super(page.chunk()).tiny>>(page.inChunk())&1 == 0 {
			k.bad(of, "the live map of a tiny slab may have memory", "no", "yes")
		}
	}
}

func (k *checker) checkSlabState(s slabID, l listID) {
	m, c := s.meta(), l.class()
	cl := &sizeclass.Classes[c]
	of := subject{noun: "slab", addr: s.addr(), class: c}
	if m.lowWord() >= cl.Words {
		k.bad(of, "a slab's mark is a word of its bitmap", m.lowWord(), fmt.Sprintf("below %d", cl.Words))
	}
	state := m.slabState.Load()
	if f, leased := k.leases[s]; leased != (state == slabLeased) {
		k.bad(of, "a slab is LEASED if a front or a lane leases it", fmt.Sprintf("state %d, leased %t by %#x", state, leased, f), fmt.Sprintf("state %d, or no lease", slabLeased))
	}
	if k.lost[s] != (state == slabClaimed) {
		k.bad(of, "a slab stays CLAIMED if its memory is lost", fmt.Sprintf("state %d, lost %t", state, k.lost[s]), fmt.Sprintf("state %d and lost, or neither", slabClaimed))
	}
	k.counted -= s.bytesOf(m.holes())
	listed := *setWord(0, l, uintptr(s.page()>>6))>>(s.page()&63)&1 != 0
	if listed != (state == slabPartial) {
		k.bad(of, "a slab is PARTIAL if and only if listed", fmt.Sprintf("state %d, listed %t", state, listed), fmt.Sprintf("state %d and listed, or neither", slabPartial))
	}
	switch state {
	case slabLeased, slabClaimed:
	case slabFull:
		if s.anyFree(cl) {
			k.bad(of, "a FULL slab owns no block", s.freeBlocks(cl), 0)
		}
	case slabPartial:
		k.listed[l]++
		if s.allFree(cl) && !isMarkedEmpty(s.page()) {
			k.bad(of, "a PARTIAL slab that owns all its blocks is marked EMPTY", "no mark", "a mark")
		}
	default:
		k.bad(of, "a slab has a state", state, "LEASED, FULL, PARTIAL or CLAIMED")
	}
	if units := s.units(); units >= 1 && uintptr(m.pages) == 1<<cl.Order && m.holes()&^s.holes(c) != 0 {
		k.bad(of, "holes are the memory of free blocks", hex(m.holes()), fmt.Sprintf("some of %#x", s.holes(c)))
	}
}

// checkBlocks compares a slab's bitmap, the live states of its blocks and the blocks that wait
// elsewhere with each other, one word of the bitmap at a time.
func (k *checker) checkBlocks(s slabID, c sizeclass.ID) {
	cl := &sizeclass.Classes[c]
	held := k.held[s]
	if held == nil {
		held = new(slabWords)
	}
	count := 0
	for w := range uint32(maxWords) {
		owned := atomic.LoadUint64(s.bits(w))
		all := uint64(0)
		if w < cl.Words {
			all = fullWord(cl, w)
		}
		if owned&^all != 0 {
			k.bad(subject{noun: "slab", addr: s.addr(), class: c}, "a bitmap has bits of blocks only", fmt.Sprintf("%#x in word %d", owned, w), hex(all))
		}
		if all == 0 {
			continue
		}
		live := uint64(0)
		for m := all; m != 0; m &= m - 1 {
			j := uintptr(w)*64 + uintptr(bits.TrailingZeros64(m))
			if v := state(slabLive(s.block(c, blockIndex(j)), c)); v != 0 {
				live |= m & -m
				k.liveBlock(s, c, blockIndex(j), v)
			}
		}
		count += bits.OnesCount64(live)
		wrong := owned&live | owned&held[w] | live&held[w]
		if checkLive {
			wrong |= all &^ (owned | live | held[w])
		}
		for wrong &= all; wrong != 0; wrong &= wrong - 1 {
			k.misplaced(s, c, blockIndex(uintptr(w)*64+uintptr(bits.TrailingZeros64(wrong))), live, owned)
		}
	}
	n := 0 // all bytes that may hold a live state
	if c <= sizeclass.NumTiny {
		n = nonZero(mem.Addr(Live)+s.addr()>>granuleShift, pageSize>>granuleShift)
	} else {
		for page := range uintptr(1) << cl.Order {
			n += nonZero(midLive(Block(s.addr()+mem.Addr(page<<pageShift))), mem.Bytes(len(pageMeta{}.mid)))
		}
	}
	if n != count {
		k.bad(subject{noun: "slab", addr: s.addr(), class: c}, "live states lie where blocks begin", n, count)
	}
	k.live[c] += uint64(count)
}

// liveBlock looks at the live state v of block j.
func (k *checker) liveBlock(s slabID, c sizeclass.ID, j blockIndex, v liveState) {
	p := s.block(c, j)
	of := subject{"block", p.addr(), c, s.addr()}
	if v != liveSited && s.meta().list().isLong() {
		k.bad(of, "a block of the long lane has a site", v, liveSited)
	}
	switch v {
	case liveState(c), liveWatched:
	case liveSited:
		owner := site.ID(0)
		if page := p.page(); super(page.chunk()).sited.Load()>>page.inChunk()&1 == 0 {
			k.bad(of, "the site map of a block with a site is counted", "not", "counted")
		}
		if sitesOn.Load() {
			owner = site.ID(*siteWord(p))
		}
		if !owner.Known() {
			k.bad(of, "a live block's site is registered", owner, "a site")
			return
		}
		k.alive(owner, c.Bytes())
	default:
		k.bad(of, "a live state is the class, or says more", v, fmt.Sprintf("%d, %d or %d", c, liveSited, liveWatched))
	}
}

// misplaced reports where block j is; it is in more than one place or in none. live and owned are
// the words with its bit.
func (k *checker) misplaced(s slabID, c sizeclass.ID, j blockIndex, live, owned uint64) {
	p := s.block(c, j)
	found := ""
	add := func(is bool, where string) {
		if is && found != "" {
			found += " and "
		}
		if is {
			found += where
		}
	}
	add(live>>(j%64)&1 != 0, "live")
	add(owned>>(j%64)&1 != 0, "owned by its slab")
	at, waiting := k.places[p]
	add(waiting, "in "+at.String())
	if found == "" {
		found = "nowhere"
	}
	k.bad(subject{"block", mem.Addr(p), c, s.addr()}, "a block is in exactly one place", found, "live, owned by its slab, or waiting")
}

// checkLarge returns how many pages the caller must skip to pass the large block.
func (k *checker) checkLarge(page pageNo) (pages pageCount) {
	m := meta(page)
	p := page.addr()
	of := subject{noun: "large block", addr: p, class: m.class}
	k.larges++
	pages = pagesOf(m.largeSize)
	size, ok := sizeclass.LargeSize(max(m.largeSize, sizeclass.MaxMid+1))
	if m.largeSize <= sizeclass.MaxMid || !ok || size != m.largeSize || pageCount(m.pages) != pages || !isPage(page+pageNo(pages)-1) {
		k.bad(of, "a large block has a large block's size and its pages", fmt.Sprintf("%d bytes, %d pages", m.largeSize, m.pages), fmt.Sprintf("%d bytes, %d pages", size, pages))
		return 1
	}
	arena := m.flags&flagArena != 0
	class, at, recip := sizeclass.ID(0), live0(page, mem.Bytes(liveOffset)), uint64(1)
	switch {
	case arena:
		at, recip = m.live0, 0 // unknown to the fast paths
	case size <= sizeclass.MaxLarge:
		class = sizeclass.LargeOf(size)
	}
	if m.start != p || m.class != class || m.recip != recip || m.live0 != at {
		k.bad(of, "fast paths know a large block", fmt.Sprintf("start %#x, class %d, recip %d, live0 %#x", m.start, m.class, m.recip, m.live0),
			fmt.Sprintf("%#x, %d, %d, %#x", p, class, recip, at))
	}
	for i := page; i < page+pageNo(pages); i++ {
		if c := i.chunk(); ownerOf(c) == page { // checkOwned has looked at it
			i = (c + 1).page() - 1
			continue
		}
		t := meta(i)
		of := subject{noun: "page", addr: i.addr(), slab: p}
		if i > page && (t.kind != kindLargeTail || t.start != p || t.class != 0 || t.recip != 0 || t.live != 0) {
			k.bad(of, "a large block's later pages are its tail", fmt.Sprintf("kind %d, start %#x, class %d, recip %d, live %d", t.kind, t.start, t.class, t.recip, t.live),
				fmt.Sprintf("%d, %#x, 0, 0, 0", kindLargeTail, p))
		}
		units := uint8(pageSize / residentUnit)
		if i == page+pageNo(pages)-1 {
			units = lastUnits(m.largeSize)
		}
		k.usedUnits(i, of, units)
		if used, slabs := inUse(i); !used || slabs {
			k.bad(of, "a large block's page is in use, and no superslab's", fmt.Sprintf("in use %t, superslab %t", used, slabs), "true, false")
		}
		k.noSlab(i, of)
	}
	if arena {
		if m.live != 0 {
			k.bad(of, "a chunk of an Arena has no live state", m.live, 0)
		}
		k.alive(m.site(), m.largeSize)
		k.liveLarge++
		return pages
	}
	k.checkLargeState(of, m)
	return pages
}

// usedUnits looks at what is known of the memory of a page, of which the first units are used.
func (k *checker) usedUnits(page pageNo, of subject, units uint8) {
	s := super(page.chunk())
	short := s.short>>page.inChunk()&1 != 0
	if short != (units < pageSize/residentUnit) || short && meta(page).units() != units {
		k.bad(of, "it is known how much of a page is used", fmt.Sprintf("in part %t, units %d", short, meta(page).units()), units)
	}
	if x := firstUnits(units) &^ s.resident(page); x != 0 {
		k.bad(of, "what is used of a page may be resident", hex(s.resident(page)), hex(firstUnits(units)))
	}
}

// checkLargeState looks at whether a large block is live or waits somewhere.
func (k *checker) checkLargeState(of subject, m *pageMeta) {
	at, waiting := k.places[Block(of.addr)]
	found := "nowhere"
	switch {
	case m.live != 0 && waiting:
		found = fmt.Sprintf("live and in %v", at)
	case m.live != 0 || waiting || !checkLive:
		found = ""
	}
	if found != "" {
		k.bad(of, "a large block is live or waits in one place", found, "one of them")
	}
	if !checkLive {
		return
	}
	want := m.classLive()
	switch {
	case m.live != 0 && m.live != want && m.live != liveSited && m.live != liveWatched:
		k.bad(of, "a large block's live state is its class, or says more", m.live, fmt.Sprintf("0, %d, %d or %d", want, liveSited, liveWatched))
	case (m.live == liveSited) != (m.site() != 0) || m.site() != 0 && !m.site().Known():
		k.bad(of, "a large block has a site while its live state says so", fmt.Sprintf("site %d, live state %d", m.site(), m.live), "both, or neither")
	case m.live == liveSited:
		k.alive(m.site(), m.largeSize)
	}
	if m.live != 0 {
		k.liveLarge++
	}
}

// checkFree looks at a page that begins neither a slab nor a large block.
func (k *checker) checkFree(page pageNo) {
	m := meta(page)
	of := subject{noun: "page", addr: page.addr()}
	used, _ := inUse(page)
	switch m.kind {
	case kindFree, kindLargeFreed, kindSlabFreed:
		if used {
			k.bad(of, "a page in use is a slab's or a large block's", fmt.Sprintf("kind %d", m.kind), "one of theirs")
		}
	default:
		k.bad(of, "a page that is no slab's or large block's is free", fmt.Sprintf("kind %d", m.kind), fmt.Sprintf("%d, %d or %d", kindFree, kindLargeFreed, kindSlabFreed))
	}
	if m.recip != 0 || m.live != 0 {
		k.bad(of, "fast paths find no block in a free page", fmt.Sprintf("recip %#x, live state %d", m.recip, m.live), "0, 0")
	}
	if m.kind == kindSlabFreed {
		for w := range uint32(maxWords) {
			if v := atomic.LoadUint64(slabID(page + 1).bits(w)); v != 0 {
				k.bad(of, "a slab that was given back left no bits", fmt.Sprintf("%#x in word %d", v, w), 0)
				break
			}
		}
	}
	k.noSlab(page, of)
}

// noSlab looks for things that only slabs have, in a page that belongs to no slab.
func (k *checker) noSlab(page pageNo, of subject) {
	m := meta(page)
	if m.slabState.Load() != slabNone || m.slabList.Load() != 0 || PageClass[page] != 0 {
		k.bad(of, "a page without a slab says so", fmt.Sprintf("state %d, class %d, PageClass %d", m.slabState.Load(), m.slabList.Load(), PageClass[page]), "0, 0, 0")
	}
	n := nonZero(region.pages.base+mem.Addr(page)<<pageMetaShift, mem.Bytes(len(m.mid)))
	// Elsewhere the live map was never written, or was returned: it reads as zero and should stay
	// untouched.
	if s := super(page.chunk()); (s.tiny&^s.lost)>>(page.inChunk())&1 != 0 {
		n += nonZero(mem.Addr(Live)+(page.addr())>>granuleShift, pageSize>>granuleShift)
	}
	if n != 0 {
		k.bad(of, "no live state is left where no slab is", n, 0)
	}
}

// checkSets looks at all words of the partial sets: only PARTIAL slabs are in them, and each
// summary is true.
func (k *checker) checkSets() {
	first := region.firstPage()
	if region.endPage() == first {
		return // no word of level 0 need be readable yet
	}
	for l := range setLevels {
		shift := 6 * uint(l+1) // pages for each word of this level
		for i := uintptr(first >> shift); i < setWords(l); i++ {
			for list := range listID(setClasses) {
				w := *setWord(l, list, i)
				if l == 0 {
					for m := w; m != 0; m &= m - 1 {
						page := pageNo(i<<6 + uintptr(bits.TrailingZeros64(m)))
						if !isPage(page) || meta(page).list() != list || meta(page).slabState.Load() != slabPartial {
							k.bad(subject{noun: "partial set", addr: page.addr(), class: list.class()}, "only PARTIAL slabs are in a partial set", "a member", "none")
						}
					}
				}
				if l+1 < len(setLevels) && (w != 0) != (*setWord(l+1, list, i>>6)>>(i&63)&1 != 0) {
					k.bad(subject{noun: "partial set", addr: pageNo(i << shift).addr(), class: list.class()}, "a summary says whether the word below is 0",
						fmt.Sprintf("%#x below", w), fmt.Sprintf("as level %d says", l+1))
				}
			}
		}
	}
}

// checkTree looks at each node of the page tree above the committed chunks. A leaf must describe
// the free pages of its chunk, and each node above must agree with its children. (Nothing in the
// tree can be out of order or overlap: a node's place is its range.)
func (k *checker) checkTree() {
	t := &tree
	lo, hi := uintptr(region.firstChunk()), uintptr(region.endChunk())
	if lo == hi {
		return
	}
	size := uint32(superPages) // pages below one child
	lo, hi = t.leaves+lo, t.leaves+hi-1
	for i := lo; i <= hi; i++ {
		c := chunkNo(i - t.leaves)
		m := super(c).free
		if super(c).isSlabs {
			m = 0
		}
		n := longestRun(m)
		want := treeNode{uint32(bits.TrailingZeros32(uint32(^m))), uint32(bits.LeadingZeros32(uint32(^m))), n, n / superPages}
		if got := *t.node(i); got != want {
			k.bad(subject{noun: "chunk", addr: c.addr()}, "the page tree has the free pages", got, want)
		}
	}
	for lo, hi = lo/2, hi/2; lo > 0; lo, hi, size = lo/2, hi/2, size*2 {
		for i := lo; i <= hi; i++ {
			l, r := *t.node(2 * i), *t.node(2*i + 1)
			want := treeNode{l.pre, r.suf, max(l.max, r.max, l.suf+r.pre), l.whole | r.whole}
			if l.pre == size {
				want.pre += r.pre
			}
			if r.suf == size {
				want.suf += l.suf
			}
			if got := *t.node(i); got != want {
				k.bad(subject{noun: "tree node", addr: mem.Addr(i)}, "a node of the page tree sums up its children", got, want)
			}
		}
	}
}

// checkCounts compares the counts of this check with those that hakmem keeps.
func (k *checker) checkCounts() {
	for l := listID(1); l < numLists; l++ {
		ls := &lists[l]
		ls.mu.Lock()
		slabs, listed := ls.slabs, ls.listed
		ls.mu.Unlock()
		if slabs != k.slabs[l] || listed != k.listed[l] {
			k.bad(subject{noun: "list", addr: mem.Addr(l), class: l.class()}, "a list counts its slabs", fmt.Sprintf("%d slabs, %d listed", slabs, listed), fmt.Sprintf("%d, %d", k.slabs[l], k.listed[l]))
		}
	}
	u := &pageUse
	of := subject{noun: "page use"}
	if chunksAway != k.away {
		k.bad(of, "chunks that are away are counted", chunksAway, k.away)
	}
	if u.used != k.used || u.dirty != k.dirty { // the memory limits are compared with these
		k.bad(of, "pages in use and dirty pages are counted", fmt.Sprintf("%d, %d", u.used, u.dirty), fmt.Sprintf("%d, %d", k.used, k.dirty))
	}
	if u.refused != k.refused { // with it the scavenger's timer is stopped
		k.bad(of, "refused pages are counted", u.refused, k.refused)
	}
	k.counted += region.hugeRest
	if n := mem.Bytes(counted.Load()); n != k.counted {
		k.bad(of, "memory is counted as the limits count it", n, k.counted)
	}
	if u.again > u.vain || u.vain > u.returned {
		k.bad(of, "pages faulted again were kept in vain and returned before", fmt.Sprintf("%d, %d, %d", u.again, u.vain, u.returned), "ascending")
	}
	if n := superslabs.Load(); n != k.supers {
		k.bad(subject{noun: "superslabs"}, "superslabs are counted", n, k.supers)
	}
	if n := largeStats.allocs.Load() - largeStats.frees.Load(); n != uint64(k.larges) {
		k.bad(subject{noun: "large blocks"}, "large blocks made less large blocks given back are those there are", n, k.larges)
	}
	if b := &punching; b.n != 0 || b.r != 0 {
		k.bad(subject{noun: "punch"}, "no slab waits for its holes", fmt.Sprintf("%d slabs, %d ranges", b.n, b.r), "0, 0")
	}
	if soft, hard := memoryLimit.soft.Load(), memoryLimit.hard.Load(); limitSet && hard != 0 && soft > hard {
		k.bad(subject{noun: "memory limit"}, "the soft limit is not above the hard one", soft, hard)
	}
	for s := site.ID(1); s <= site.Num() && checkLive; s++ {
		name, bytes, blocks := site.Read(s)
		if want := k.sites[s]; bytes != want.bytes || blocks != want.blocks {
			k.bad(subject{noun: fmt.Sprintf("site %q", name), addr: mem.Addr(s)}, "a site counts its live blocks", fmt.Sprintf("%d bytes, %d blocks", bytes, blocks), fmt.Sprintf("%d, %d", want.bytes, want.blocks))
		}
	}
}
