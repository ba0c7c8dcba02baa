package heap

import (
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/policy"
	"github.com/hakmem/hakmem/internal/site"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// Freed spans with their memory, kept where the next allocation finds them. The
// first are in the magazines (span.go). Behind those are, in the order in which
// an allocation looks (one of a site looks into the BigCache before its magazine):
//
//   - the BigCache: one span for a (site, class), so that a site gets back the
//     memory it had, whatever else frees spans of that class in between;
//   - the shared slots of each class, where the magazines' overflow goes: taken
//     and given by one atomic swap, for all Ps;
//   - the whale cache: spans above 2 MiB, first in first out, of at most so many
//     bytes.
//
// A cached span is one that was freed: kindSpan with live state 0. What stays
// in a cache for the scavenger's window goes back to the page tree.

// cacheCount counts what one cache did. Atomic: caches are shared.
type cacheCount struct{ hits, misses, evictions atomic.Uint64 }

// CacheTotals is what Totals says of one cache.
type CacheTotals struct{ Hits, Misses, Evictions, Blocks, Bytes uint64 }

func (n *cacheCount) totals() CacheTotals {
	return CacheTotals{Hits: n.hits.Load(), Misses: n.misses.Load(), Evictions: n.evictions.Load()}
}

// Shared slots.

// warmSlots is the number of shared slots of a class: two lines of eight words,
// and as many blocks as the workloads json16 to vm16 keep alive.
const warmSlots = 16

type slotLine struct {
	slot [warmSlots]atomic.Uintptr // addresses of freed spans, or 0
	used atomic.Uint32             // slots given to since trimCaches last looked
	_    [60]byte                  // keep neighbours off this line
}

var (
	shared      [sizeclass.NumWarm]slotLine
	sharedCount cacheCount
)

// takeShared returns a span of class c from the shared slots, or 0.
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

// giveShared puts the freed span of class c at p into a shared slot, or reports
// that none is empty.
func giveShared(c sizeclass.ID, p Block) bool {
	line := &shared[c-sizeclass.Num-1]
	for i := range policy.Current().WarmSlots {
		if s := &line.slot[i]; s.Load() == 0 && s.CompareAndSwap(0, uintptr(p)) {
			line.used.Or(1 << i)
			return true
		}
	}
	sharedCount.evictions.Add(1)
	return false
}

// inShared returns how many spans lie in shared slots, and their bytes.
func inShared() (blocks uintptr, bytes mem.Bytes) {
	for i := range shared {
		for j := range shared[i].slot {
			if shared[i].slot[j].Load() != 0 {
				blocks++
				bytes += sizeclass.SpanBytes(sizeclass.ID(sizeclass.Num + 1 + i))
			}
		}
	}
	return blocks, bytes
}

// sharedSeen is what dropShared last saw. Owned by region.mu.
var sharedSeen [sizeclass.NumWarm][warmSlots]uintptr

// dropShared gives back the spans in shared slots that nobody took since it last
// looked. Under region.mu.
func dropShared() {
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

// The BigCache.

// bigEntries is the number of its entries: 64 sites with four classes each, as
// in the C hakmem. Two keys that meet in an entry evict each other.
const bigEntries = 256

// An entry is turn<<49 | page<<24 | site<<8 | class: a page's number has 25 bits at
// most. The turn counts spans given, so that one that was used is not taken for
// one that was not.
var (
	bigTurn  atomic.Uint64
	bigCache [bigEntries]atomic.Uint64
	bigCount cacheCount
)

func bigEntry(site site.ID, c sizeclass.ID) (e *atomic.Uint64, key uint64) {
	key = uint64(site)<<8 | uint64(c)
	return &bigCache[key*0x9E3779B97F4A7C15>>56], key // Knuth's multiplier, as in lockShard
}

// takeBig returns the span that the BigCache has for (site, c), or 0.
func takeBig(site site.ID, c sizeclass.ID) Block {
	e, key := bigEntry(site, c)
	if v := e.Load(); v != 0 && v&(1<<24-1) == key && e.CompareAndSwap(v, 0) {
		bigCount.hits.Add(1)
		return bigAddr(v)
	}
	bigCount.misses.Add(1)
	return 0
}

// giveBig puts the freed span at p into the entry of (site, c) and returns the
// span that was there with its class, or 0.
func giveBig(site site.ID, c sizeclass.ID, p Block) (evicted Block, class sizeclass.ID) {
	e, key := bigEntry(site, c)
	old := e.Swap(bigTurn.Add(1)<<49 | uint64(p.page())<<24 | key)
	if old == 0 {
		return 0, 0
	}
	bigCount.evictions.Add(1)
	return bigAddr(old), sizeclass.ID(old)
}

// bigAddr is the address of the span in entry v.
func bigAddr(v uint64) Block {
	return Block(region.base + mem.Addr(uintptr(v>>24&(1<<25-1))<<pageShift))
}

// inBig returns how many spans lie in the BigCache, and their bytes.
func inBig() (blocks uintptr, bytes mem.Bytes) {
	for i := range bigCache {
		if v := bigCache[i].Load(); v != 0 {
			blocks++
			bytes += sizeclass.SpanBytes(sizeclass.ID(v))
		}
	}
	return blocks, bytes
}

// The whale cache.

// whaleShare: memory that nobody has does not grow while whales are more than a
// 16th of what is in use (trimIdleSpans).
const whaleShare = 16

// maxWhales bounds the list that an allocation above 2 MiB walks.
const maxWhales = 64

// whales is the cache, oldest first. Owned by region.mu.
var whales struct {
	spans []whale // capacity maxWhales, made by tryReserve
	bytes mem.Bytes
	count cacheCount
}

type whale struct {
	p     Block
	size  mem.Bytes
	since stamp // milliseconds
}

// takeWhale returns a cached span of exactly size usable bytes at a multiple of
// alignPages pages, the one freed last, or 0. Under region.mu.
func takeWhale(size mem.Bytes, alignPages pageAlign) Block {
	w := &whales
	for i := len(w.spans) - 1; i >= 0; i-- {
		if s := w.spans[i]; s.size == size && s.p.page()%pageNo(alignPages) == 0 {
			w.spans = append(w.spans[:i], w.spans[i+1:]...)
			w.bytes -= size
			w.count.hits.Add(1)
			return s.p
		}
	}
	w.count.misses.Add(1)
	return 0
}

// giveWhale caches the freed span at p, or reports that it is larger than the
// cache; the oldest make room. Under region.mu.
func giveWhale(p Block, size mem.Bytes) bool {
	limit := uintptr(policy.Current().WhaleBytes)
	if size > mem.Bytes(limit) || pressedBy(pageUse.used+pageUse.warm) {
		return false
	}
	w := &whales
	for len(w.spans) == maxWhales || w.bytes+size > mem.Bytes(limit) {
		w.count.evictions.Add(1)
		dropWhale()
	}
	w.spans = append(w.spans, whale{p, size, milliseconds()})
	w.bytes += size
	return true
}

// dropWhale gives the oldest cached span's pages back. Under region.mu.
func dropWhale() {
	w := &whales
	s := w.spans[0]
	w.spans = append(w.spans[:0], w.spans[1:]...)
	w.bytes -= s.size
	page := s.p.page()
	releaseSpan(page, meta(page), s.since)
}

// cachesSeen is a look at the caches that are shared: what the scavenger saw in each
// slot, to find those that nobody has used since.
var cachesSeen struct {
	shared [sizeclass.NumWarm][warmSlots]seenSlot
	big    [bigEntries]seenSlot
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
	for i := range bigCache {
		e := &bigCache[i]
		switch v := e.Load(); {
		case cachesSeen.big[i].stale(v, now, age) && e.CompareAndSwap(v, 0):
			put(uintptr(bigAddr(v)))
		case v != 0:
			left = true
		}
	}
	flush()
	region.mu.Lock()
	defer region.mu.Unlock()
	was := pageUse.used
	for len(whales.spans) > 0 && (age == 0 || int32(now-whales.spans[0].since) >= int32(age)) { // since may be later than now
		dropWhale()
	}
	return left || len(whales.spans) > 0, pages + was - pageUse.used
}

// giveBigSpan caches the freed span without a class at p, or gives its pages back.
// Under region.mu.
func giveBigSpan(p Block, m *pageMeta) {
	if !giveWhale(p, m.spanSize) {
		releaseSpan(p.page(), m, times.now)
	}
}
