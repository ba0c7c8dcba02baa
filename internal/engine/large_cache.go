package engine

import (
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/policy"
	"github.com/hakmem/hakmem/internal/site"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// This file holds the caches of freed large blocks, which keep their memory where the next
// allocation finds them. The shared slots and the site cache are atomic; the huge-block cache is
// owned by region.mu.
//
// The first place for a freed large block is a magazine (large.go). Behind the magazines are three
// caches, in the order in which an allocation looks. (Only an allocation with a site looks into the
// site cache, and it does so before it looks into its magazine.)
//
//   - the site cache: one large block for each pair of site and class. So a site gets back the
//     memory that it had, whatever else frees large blocks of that class in between. A block of a site with
//     a HoldScale is in no other cache, where it would be forgotten whose pages it has; with one below 1 it
//     is in none, because a cache keeps it for cacheTime;
//   - the shared slots of each class, which take what overflows the magazines. All Ps use them,
//     with one atomic swap to take a block or give one;
//   - the huge-block cache: the huge block that was freed last.
//
// A cached large block is one that was freed: kindLarge with live state 0. A block that stays in a
// cache for cacheTime goes back to the page tree.

// cacheCount counts what one cache did. It is atomic because the caches are shared.
type cacheCount struct{ hits, misses, evictions atomic.Uint64 }

// CacheTotals is what Totals reports of one cache.
type CacheTotals struct{ Hits, Misses, Evictions, Blocks, Bytes uint64 }

func (n *cacheCount) totals() CacheTotals {
	return CacheTotals{Hits: n.hits.Load(), Misses: n.misses.Load(), Evictions: n.evictions.Load()}
}

// The shared slots.

// sharedSlots is the number of shared slots of a class: two cache lines of eight words, and as many
// blocks as the workloads json16 to vm16 keep alive.
const sharedSlots = 16

const _ = uint(sharedSlots - policy.MaxSharedSlots) // the policy must not ask for more

// slotLine has the shared slots of one class.
type slotLine struct {
	slot [sharedSlots]atomic.Uintptr // addresses of freed large blocks, or 0
	used atomic.Uint32               // slots that were given a block since trimCaches last looked
	shut atomic.Uint32               // slots that ACE gives no block (budget.go)
	// missed and evicted count since ACE last looked: blocks that were wanted and not there, and blocks
	// for which no slot was free.
	missed, evicted atomic.Uint32
	// won is what the slots' blocks were worth: see win.
	won atomic.Int32
	_   [44]byte // keep neighbours off this line
}

// A class has one slot, and one more for each slotWorth that its slots have won: 1 for a block that was
// taken again, less lossWorth for one that went back to the page tree. So they become more where three of four
// blocks are taken again. Where fewer are, blocks in slots cost more than they save: their pages are missing in
// the page tree, and others are touched in their place (docs/ledger.md, "Caches of large blocks and random
// sizes"). What is won lies between 0 and mostWon. Two goroutines at the same time may count as one.
const (
	slotWorth = 4
	lossWorth = 3
	mostWon   = slotWorth * (sharedSlots - 1)
)

func (l *slotLine) win(n int32) {
	was := l.won.Load()
	if now := min(max(was+n, 0), mostWon); now != was {
		l.won.Store(now)
	}
}

// open is how many slots take blocks.
func (l *slotLine) open() int { return min(l.room(), 1+int(l.won.Load())/slotWorth) }

// room is how many slots are in use, and setRoom changes it, within the policy's number.
func (l *slotLine) room() int {
	return max(policy.Now().SharedSlots-int(l.shut.Load()), 0)
}

func (l *slotLine) setRoom(n int) {
	most := policy.Now().SharedSlots
	l.shut.Store(uint32(most - min(n, most)))
}

var (
	shared      [sizeclass.NumLarge]slotLine
	sharedCount cacheCount
)

// takeShared returns a large block of class c from the shared slots, or 0.
func takeShared(c sizeclass.ID) Block {
	line := &shared[c-sizeclass.Num-1]
	if p := line.take(); p != 0 {
		return p
	}
	sharedCount.misses.Add(1)
	line.missed.Add(1)
	return 0
}

// take returns a block from the slots, or 0, which does not count as a miss.
func (l *slotLine) take() Block {
	for i := range l.slot {
		if s := &l.slot[i]; s.Load() != 0 {
			if p := s.Swap(0); p != 0 {
				sharedCount.hits.Add(1)
				l.win(1)
				return Block(p)
			}
		}
	}
	return 0
}

// giveShared puts the freed large block of class c at p into a shared slot, and reports whether one
// that is open was empty.
func giveShared(c sizeclass.ID, p Block) bool {
	line := &shared[c-sizeclass.Num-1]
	for i := range line.open() {
		if s := &line.slot[i]; s.Load() == 0 && s.CompareAndSwap(0, uintptr(p)) {
			line.used.Or(1 << i)
			return true
		}
	}
	sharedCount.evictions.Add(1)
	line.evicted.Add(1)
	return false
}

// inShared returns how many large blocks lie in shared slots, and their bytes.
func inShared() (blocks uintptr, bytes mem.Bytes) {
	eachShared(func(c sizeclass.ID) {
		blocks++
		bytes += c.Bytes()
	})
	return blocks, bytes
}

// eachShared calls f for the class of each block in a shared slot.
func eachShared(f func(c sizeclass.ID)) {
	for i := range shared {
		for j := range shared[i].slot {
			if shared[i].slot[j].Load() != 0 {
				f(sizeclass.ID(sizeclass.Num + 1 + i))
			}
		}
	}
}

// sharedSeen is what dropShared last saw. Owned by region.mu.
var sharedSeen [sizeclass.NumLarge][sharedSlots]uintptr

// dropShared gives back those large blocks in shared slots that nobody has taken since it last
// looked. Under region.mu.
func dropShared() {
	check.MustHold(&region.mu, "dropShared")
	for i := range shared {
		for j := range shared[i].slot {
			s, seen := &shared[i].slot[j], &sharedSeen[i][j]
			p := s.Load()
			if p != 0 && p == *seen && s.CompareAndSwap(p, 0) {
				shared[i].win(-lossWorth)
				releaseIdle([]Block{Block(p)}, times.now)
				p = 0
			}
			*seen = p
		}
	}
}

// The site cache.

// siteEntries is the number of entries of the site cache: 64 sites with four classes each, as in
// the C hakmem. Two keys that meet in an entry evict each other.
const siteEntries = 256

// An entry is turn<<49 | page<<24 | site<<8 | class: a page's number has at most 25 bits. The turn
// counts the large blocks given to the cache, so that an entry that was used in the meantime is not
// mistaken for one that was not.
var (
	siteTurn       atomic.Uint64
	siteCache      [siteEntries]atomic.Uint64
	siteCacheCount cacheCount
)

// siteEntry returns the entry for a pair of site and class, and the pair as it is in an entry.
func siteEntry(site site.ID, c sizeclass.ID) (e *atomic.Uint64, key uint64) {
	key = uint64(site)<<8 | uint64(c)
	// Knuth's multiplier, as in lockShard.
	return &siteCache[key*0x9E3779B97F4A7C15>>56], key
}

// takeSiteCached returns the large block that the site cache has for the site and class c, or 0.
func takeSiteCached(site site.ID, c sizeclass.ID) Block {
	e, key := siteEntry(site, c)
	if v := e.Load(); v != 0 && v&(1<<24-1) == key && e.CompareAndSwap(v, 0) {
		siteCacheCount.hits.Add(1)
		return siteEntryAddr(v)
	}
	siteCacheCount.misses.Add(1)
	return 0
}

// giveSiteCached puts the freed large block at p into the entry for the site and class c. It
// returns the large block that was in the entry, with its class, or 0; or the block at p, if it may be in no
// cache. held is the site of the returned block if its pages are to be given back now, else 0.
func giveSiteCached(site site.ID, c sizeclass.ID, p Block) (evicted Block, class sizeclass.ID, held site.ID) {
	if f, _ := holdFactor(site); f < 1 {
		return p, c, site
	}
	e, key := siteEntry(site, c)
	old := e.Swap(siteTurn.Add(1)<<49 | uint64(p.page())<<24 | key)
	if old == 0 {
		return 0, 0, 0
	}
	siteCacheCount.evictions.Add(1)
	if s := siteEntrySite(old); isHeld(s) {
		held = s
	}
	return siteEntryAddr(old), sizeclass.ID(old), held
}

// isHeld reports whether a HoldScale is set for a site, so that the pages of its blocks must be given back as
// the site's.
func isHeld(s site.ID) bool {
	_, set := holdFactor(s)
	return set
}

// siteEntrySite returns the site of the large block in entry v.
func siteEntrySite(v uint64) site.ID { return site.ID(v >> 8 & site.Max) }

// siteEntryAddr returns the address of the large block in entry v.
func siteEntryAddr(v uint64) Block {
	return Block(pageNo(v >> 24 & (1<<25 - 1)).addr())
}

// inSiteCache returns how many large blocks lie in the site cache, and their bytes.
func inSiteCache() (blocks uintptr, bytes mem.Bytes) {
	eachSiteCached(func(c sizeclass.ID) {
		blocks++
		bytes += c.Bytes()
	})
	return blocks, bytes
}

// eachSiteCached calls f for the class of each block in the site cache.
func eachSiteCached(f func(c sizeclass.ID)) {
	for i := range siteCache {
		if v := siteCache[i].Load(); v != 0 {
			f(sizeclass.ID(v))
		}
	}
}

// The huge-block cache.

// hugeShare limits the huge-block cache when an allocation needs new memory: trimIdleLarge first
// gives back a block of more than a 16th of what is in use.
const hugeShare = 16

// hugeCache keeps the huge block that was freed last, for an allocation of exactly its size: a program that
// frees and allocates one block in turns gets it back in a tenth of the time. An allocation of another size
// gives it back first, because its pages may serve. More blocks would be more pages that are missing in the
// page tree while others are touched in their place (docs/ledger.md, "Caches of large blocks and random sizes").
// Owned by region.mu.
var hugeCache struct {
	kept  hugeBlock // all zero if there is none
	count cacheCount
	// asked is how many blocks were asked for, and askedBytes what they have together.
	asked, askedBytes uint64
}

// hugeBlock is a block of a site (0: none) that was freed at since.
type hugeBlock struct {
	p     Block
	size  mem.Bytes
	since stamp // milliseconds
	site  site.ID
}

// takeHuge returns the cached huge block if it has exactly size usable bytes and lies at a multiple of
// alignPages pages, else 0. Under region.mu.
func takeHuge(size mem.Bytes, alignPages pageAlign) Block {
	check.MustHold(&region.mu, "takeHuge")
	w := &hugeCache
	w.asked++
	w.askedBytes += uint64(size)
	if p := w.kept.p; p != 0 && w.kept.size == size && p.page()%pageNo(alignPages) == 0 {
		w.kept = hugeBlock{}
		w.count.hits.Add(1)
		return p
	}
	w.count.misses.Add(1)
	evictHuge()
	return 0
}

// cacheHuge caches the freed huge block at p, of a site, in the place of another. It reports false if the block
// is larger than the cache or to be kept for a shorter time, or if memory is near the soft limit. Under
// region.mu.
func cacheHuge(p Block, size mem.Bytes, s site.ID) bool {
	check.MustHold(&region.mu, "cacheHuge")
	limit := uintptr(policy.Now().HugeCacheBytes)
	if f, _ := holdFactor(s); f < 1 || size > mem.Bytes(limit) || pressed() {
		return false
	}
	evictHuge()
	hugeCache.kept = hugeBlock{p, size, milliseconds(), s}
	return true
}

// evictHuge gives back the cached huge block, if there is one, because another is wanted or freed. Under
// region.mu.
func evictHuge() {
	check.MustHold(&region.mu, "evictHuge")
	if hugeCache.kept.p != 0 {
		hugeCache.count.evictions.Add(1)
		dropHuge()
	}
}

// dropHuge gives back the pages of the cached huge block. Under region.mu.
func dropHuge() {
	check.MustHold(&region.mu, "dropHuge")
	s := hugeCache.kept
	hugeCache.kept = hugeBlock{}
	page := s.p.page()
	releaseLarge(page, meta(page), s.since, s.site)
}

// cachesSeen is what the scavenger saw in each slot of the shared caches, so that it finds the
// slots that nobody has used since. Owned by scavenger.mu.
var cachesSeen struct {
	shared [sizeclass.NumLarge][sharedSlots]seenSlot
	big    [siteEntries]seenSlot
}

// seenSlot is the content of a slot, and since when the slot has had it.
type seenSlot struct {
	word  uint64
	since stamp
}

// stale reports whether the slot has had the same content for at least age milliseconds.
func (s *seenSlot) stale(word uint64, now stamp, age millis) bool {
	if s.word != word {
		s.word, s.since = word, now
	}
	return word != 0 && now.since(s.since) >= age
}

// trimCaches gives back what has been in the shared caches for age milliseconds. It reports whether
// something is left in a cache. By the scavenger's lock; not entered.
func trimCaches(now stamp, age millis) (left bool) {
	check.MustNotBeEntered("trimCaches")
	var buf [maxMid]Block
	n := 0
	flush := func() {
		region.mu.Lock()
		defer region.mu.Unlock()
		releaseIdle(buf[:n], now-stamp(age))
		n = 0
	}
	putSited := func(p Block, s site.ID) {
		region.mu.Lock()
		defer region.mu.Unlock()
		releaseOne(p, now-stamp(age), s)
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
				seen.word = 0 // not the same block, whatever it is
			}
			switch p := s.Load(); {
			case seen.stale(uint64(p), now, age) && s.CompareAndSwap(p, 0):
				shared[i].win(-lossWorth)
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
			if s := siteEntrySite(v); isHeld(s) {
				putSited(siteEntryAddr(v), s)
			} else {
				put(uintptr(siteEntryAddr(v)))
			}
		case v != 0:
			left = true
		}
	}
	flush()
	region.mu.Lock()
	defer region.mu.Unlock()
	// since may be later than now.
	if k := hugeCache.kept; k.p != 0 && (age == 0 || int32(now-k.since) >= int32(age)) {
		dropHuge()
	}
	return left || hugeCache.kept.p != 0
}

// giveHuge caches the freed huge block at p, of a site (0: none), or gives its pages back. Under region.mu.
func giveHuge(p Block, m *pageMeta, s site.ID) {
	check.MustHold(&region.mu, "giveHuge")
	if !cacheHuge(p, m.largeSize, s) {
		releaseLarge(p.page(), m, times.now, s)
	}
}

// isCached reports whether p, which came out of a cache, is a freed large block of class c. If it
// is not, it was freed twice at the same moment, and the other copy has left the cache already.
// This copy is dropped, and reported (foundLate).
func isCached(p Block, c sizeclass.ID) bool {
	m := meta(p.page())
	if m.kind == kindLarge && m.start == mem.Addr(p) && m.class == c && (!checkLive || m.live == 0) {
		return true
	}
	foundLate(p)
	return false
}
