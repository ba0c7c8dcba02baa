package engine

import (
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/policy"
	"github.com/hakmem/hakmem/internal/site"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// Freed large blocks with their memory, kept where the next allocation finds them. The
// first are in the magazines (large block.go). Behind those are, in the order in which
// an allocation looks (one of a site looks into the SiteCache before its magazine):
//
//   - the SiteCache: one large block for a (site, class), so that a site gets back the
//     memory it had, whatever else frees large blocks of that class in between;
//   - the shared slots of each class, where the magazines' overflow goes: taken
//     and given by one atomic swap, for all Ps;
//   - the huge-block cache: huge blocks, first in first out, of at most so many
//     bytes.
//
// A cached large block is one that was freed: kindLarge with live state 0. What stays
// in a cache for the scavenger's window goes back to the page tree.

// cacheCount counts what one cache did. Atomic: caches are shared.
type cacheCount struct{ hits, misses, evictions atomic.Uint64 }

// CacheTotals is what Totals says of one cache.
type CacheTotals struct{ Hits, Misses, Evictions, Blocks, Bytes uint64 }

func (n *cacheCount) totals() CacheTotals {
	return CacheTotals{Hits: n.hits.Load(), Misses: n.misses.Load(), Evictions: n.evictions.Load()}
}

// Shared slots.

// sharedSlots is the number of shared slots of a class: two lines of eight words,
// and as many blocks as the workloads json16 to vm16 keep alive.
const sharedSlots = 16

const _ = uint(sharedSlots - policy.MaxSharedSlots) // the policy must not ask for more

type slotLine struct {
	slot [sharedSlots]atomic.Uintptr // addresses of freed large blocks, or 0
	used atomic.Uint32               // slots given to since trimCaches last looked
	_    [60]byte                    // keep neighbours off this line
}

var (
	shared      [sizeclass.NumLarge]slotLine
	sharedCount cacheCount
)

// takeShared returns a large block of class c from the shared slots, or 0.
func takeShared(c sizeclass.ID) Block {
	line := &shared[c-sizeclass.Num-1]
	for i := range line.slot {
		if s := &line.slot[i]; s.Load() != 0 {
			if p := s.Swap(0); p != 0 {
				sharedCount.hits.Add(1)
				return Block(p)
			}
		}
	}
	sharedCount.misses.Add(1)
	return 0
}

// giveShared puts the freed large block of class c at p into a shared slot, or reports
// that none is empty.
func giveShared(c sizeclass.ID, p Block) bool {
	line := &shared[c-sizeclass.Num-1]
	for i := range policy.Now().SharedSlots {
		if s := &line.slot[i]; s.Load() == 0 && s.CompareAndSwap(0, uintptr(p)) {
			line.used.Or(1 << i)
			return true
		}
	}
	sharedCount.evictions.Add(1)
	return false
}

// inShared returns how many large blocks lie in shared slots, and their bytes.
func inShared() (blocks uintptr, bytes mem.Bytes) {
	for i := range shared {
		for j := range shared[i].slot {
			if shared[i].slot[j].Load() != 0 {
				blocks++
				bytes += sizeclass.LargeBytes(sizeclass.ID(sizeclass.Num + 1 + i))
			}
		}
	}
	return blocks, bytes
}

// sharedSeen is what dropShared last saw. Owned by region.mu.
var sharedSeen [sizeclass.NumLarge][sharedSlots]uintptr

// dropShared gives back the large blocks in shared slots that nobody took since it last
// looked. Under region.mu.
func dropShared() {
	check.MustHold(&region.mu, "dropShared")
	for i := range shared {
		for j := range shared[i].slot {
			s, seen := &shared[i].slot[j], &sharedSeen[i][j]
			p := s.Load()
			if p != 0 && p == *seen && s.CompareAndSwap(p, 0) {
				releaseIdle([]Block{Block(p)}, times.now)
				p = 0
			}
			*seen = p
		}
	}
}

// The SiteCache.

// siteEntries is the number of its entries: 64 sites with four classes each, as
// in the C hakmem. Two keys that meet in an entry evict each other.
const siteEntries = 256

// An entry is turn<<49 | page<<24 | site<<8 | class: a page's number has 25 bits at
// most. The turn counts large blocks given, so that one that was used is not taken for
// one that was not.
var (
	siteTurn       atomic.Uint64
	siteCache      [siteEntries]atomic.Uint64
	siteCacheCount cacheCount
)

func siteEntry(site site.ID, c sizeclass.ID) (e *atomic.Uint64, key uint64) {
	key = uint64(site)<<8 | uint64(c)
	return &siteCache[key*0x9E3779B97F4A7C15>>56], key // Knuth's multiplier, as in lockShard
}

// takeSiteCached returns the large block that the SiteCache has for (site, c), or 0.
func takeSiteCached(site site.ID, c sizeclass.ID) Block {
	e, key := siteEntry(site, c)
	if v := e.Load(); v != 0 && v&(1<<24-1) == key && e.CompareAndSwap(v, 0) {
		siteCacheCount.hits.Add(1)
		return siteEntryAddr(v)
	}
	siteCacheCount.misses.Add(1)
	return 0
}

// giveSiteCached puts the freed large block at p into the entry of (site, c) and returns the
// large block that was there with its class, or 0.
func giveSiteCached(site site.ID, c sizeclass.ID, p Block) (evicted Block, class sizeclass.ID) {
	e, key := siteEntry(site, c)
	old := e.Swap(siteTurn.Add(1)<<49 | uint64(p.page())<<24 | key)
	if old == 0 {
		return 0, 0
	}
	siteCacheCount.evictions.Add(1)
	return siteEntryAddr(old), sizeclass.ID(old)
}

// siteEntryAddr is the address of the large block in entry v.
func siteEntryAddr(v uint64) Block {
	return Block(region.base + mem.Addr(uintptr(v>>24&(1<<25-1))<<pageShift))
}

// inBig returns how many large blocks lie in the SiteCache, and their bytes.
func inSiteCache() (blocks uintptr, bytes mem.Bytes) {
	for i := range siteCache {
		if v := siteCache[i].Load(); v != 0 {
			blocks++
			bytes += sizeclass.LargeBytes(sizeclass.ID(v))
		}
	}
	return blocks, bytes
}

// The huge-block cache.

// hugeShare: memory that nobody has does not grow while huge blocks are more than a
// 16th of what is in use (trimIdleLarge).
const hugeShare = 16

// maxHuge bounds the list that an allocation above 2 MiB walks.
const maxHuge = 64

// huge blocks is the cache, oldest first. Owned by region.mu.
var hugeCache struct {
	larges []hugeBlock // capacity maxHuge, made by tryReserve
	bytes  mem.Bytes
	count  cacheCount
}

type hugeBlock struct {
	p     Block
	size  mem.Bytes
	since stamp // milliseconds
}

// takeHuge returns a cached large block of exactly size usable bytes at a multiple of
// alignPages pages, the one freed last, or 0. Under region.mu.
func takeHuge(size mem.Bytes, alignPages pageAlign) Block {
	check.MustHold(&region.mu, "takeHuge")
	w := &hugeCache
	for i := len(w.larges) - 1; i >= 0; i-- {
		if s := w.larges[i]; s.size == size && s.p.page()%pageNo(alignPages) == 0 {
			w.larges = append(w.larges[:i], w.larges[i+1:]...)
			w.bytes -= size
			w.count.hits.Add(1)
			return s.p
		}
	}
	w.count.misses.Add(1)
	return 0
}

// cacheHuge caches the freed large block at p, or reports that it is larger than the
// cache; the oldest make room. Under region.mu.
func cacheHuge(p Block, size mem.Bytes) bool {
	check.MustHold(&region.mu, "cacheHuge")
	limit := uintptr(policy.Now().HugeCacheBytes)
	if size > mem.Bytes(limit) || pressedBy(pageUse.used+pageUse.dirty) {
		return false
	}
	w := &hugeCache
	for len(w.larges) == maxHuge || w.bytes+size > mem.Bytes(limit) {
		w.count.evictions.Add(1)
		dropHuge()
	}
	w.larges = append(w.larges, hugeBlock{p, size, milliseconds()})
	w.bytes += size
	return true
}

// dropHuge gives the oldest cached large block's pages back. Under region.mu.
func dropHuge() {
	check.MustHold(&region.mu, "dropHuge")
	w := &hugeCache
	s := w.larges[0]
	w.larges = append(w.larges[:0], w.larges[1:]...)
	w.bytes -= s.size
	page := s.p.page()
	releaseLarge(page, meta(page), s.since)
}

// cachesSeen is a look at the caches that are shared: what the scavenger saw in each
// slot, to find those that nobody has used since.
var cachesSeen struct {
	shared [sizeclass.NumLarge][sharedSlots]seenSlot
	big    [siteEntries]seenSlot
}

type seenSlot struct {
	word  uint64
	since stamp
}

// stale reports whether the slot has had the same content since before age
// milliseconds ago.
func (s *seenSlot) stale(word uint64, now stamp, age millis) bool {
	if s.word != word {
		s.word, s.since = word, now
	}
	return word != 0 && now.since(s.since) >= age
}

// trimCaches gives back what has been in the shared caches for age milliseconds.
// That is no demand: it returns how many pages went back, for the peaks to forget
// (forgetPeaks), and whether something is left. By the scavenger's lock; not entered.
func trimCaches(now stamp, age millis) (left bool, pages int) {
	check.MustNotBeEntered("trimCaches")
	var buf [maxMid]Block
	n := 0
	flush := func() {
		region.mu.Lock()
		defer region.mu.Unlock()
		was := pageUse.used
		releaseIdle(buf[:n], now-stamp(age))
		n = 0
		pages += was - pageUse.used
	}
	put := func(p uintptr) {
		if n == len(buf) {
			flush()
		}
		buf[n] = Block(p)
		n++
	}
	for i := range shared {
		used := shared[i].used.Swap(0)
		for j := range shared[i].slot {
			s, seen := &shared[i].slot[j], &cachesSeen.shared[i][j]
			if used>>j&1 != 0 {
				seen.word = 0 // not the same, whatever it is
			}
			switch p := s.Load(); {
			case seen.stale(uint64(p), now, age) && s.CompareAndSwap(p, 0):
				put(p)
			case p != 0:
				left = true
			}
		}
	}
	for i := range siteCache {
		e := &siteCache[i]
		switch v := e.Load(); {
		case cachesSeen.big[i].stale(v, now, age) && e.CompareAndSwap(v, 0):
			put(uintptr(siteEntryAddr(v)))
		case v != 0:
			left = true
		}
	}
	flush()
	region.mu.Lock()
	defer region.mu.Unlock()
	was := pageUse.used
	for len(hugeCache.larges) > 0 && (age == 0 || int32(now-hugeCache.larges[0].since) >= int32(age)) { // since may be later than now
		dropHuge()
	}
	return left || len(hugeCache.larges) > 0, pages + was - pageUse.used
}

// giveHuge caches the freed large block without a class at p, or gives its pages back.
// Under region.mu.
func giveHuge(p Block, m *pageMeta) {
	check.MustHold(&region.mu, "giveHuge")
	if !cacheHuge(p, m.largeSize) {
		releaseLarge(p.page(), m, times.now)
	}
}

// isCached reports whether p, which came out of a cache, is a freed large block of class
// c. If it is not, it was freed twice at the same moment, and the other copy has
// gone its way: this one is dropped, and reported by the next allocation.
func isCached(p Block, c sizeclass.ID) bool {
	m := meta(p.page())
	if m.kind == kindLarge && m.start == mem.Addr(p) && m.class == c && (!checkLive || m.live == 0) {
		return true
	}
	foundLate(p)
	return false
}
