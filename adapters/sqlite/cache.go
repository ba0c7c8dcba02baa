package hakmemsqlite

import (
	"math"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/hakmem/hakmem"
	"modernc.org/sqlite"
)

// padding is how many bytes behind a page SQLite may read, without using them: the comment in its function
// sqlite3VdbeFindCompare says 74. (Its own cache has the extra bytes there, which are more.)
const padding = 74

// noPage is the oldest time of a cache that has no page to give up.
const noPage = int64(math.MaxInt64)

// cache holds the pages of one database of one connection. SQLite calls its methods one after the other,
// but the lock is needed: other caches take pages from it, and with cache=shared several goroutines call it
// in turn.
type cache struct {
	pool                *Pool
	number              int
	site                hakmem.Site
	pageSize, extraSize uintptr
	pageBytes           int64 // that a page takes
	purgeable           bool

	oldest atomic.Int64 // when the page that goes first was last used, by the pool's clock; written under mu

	mu       sync.Mutex // after Pool.mu; only tried while another cache's is held
	limit    int        // pages, by PRAGMA cache_size
	pages    map[uint32]*page
	unpinned list
	closed   bool
	done     Stats // what only grows
}

// page is a page of a database. It is in Go memory so that its address is no other page's while SQLite's
// side knows it: that compares the addresses to see that a page was replaced.
type page struct {
	owner      *cache
	buf, extra unsafe.Pointer // in one block of hakmem, at its start and pageSize bytes behind
	key        uint32
	pinned     bool  // SQLite uses it
	used       int64 // when SQLite last did, by the pool's clock

	prev, next *page // in owner's unpinned
}

// Buf is for SQLite: where the page's contents are.
func (pg *page) Buf() unsafe.Pointer { return pg.buf }

// Extra is for SQLite: where it keeps what it knows of the page.
func (pg *page) Extra() unsafe.Pointer { return pg.extra }

// list is a ring of pages, the one first that was not used for the longest time.
type list struct{ root page }

func (l *list) init() { l.root.prev, l.root.next = &l.root, &l.root }

// first returns nil if there is none.
func (l *list) first() *page {
	if l.root.next == &l.root {
		return nil
	}
	return l.root.next
}

func (l *list) append(pg *page) {
	pg.prev, pg.next = l.root.prev, &l.root
	pg.prev.next, pg.next.prev = pg, pg
}

func (l *list) remove(pg *page) {
	pg.prev.next, pg.next.prev = pg.next, pg.prev
	pg.prev, pg.next = nil, nil
}

// SetSize is for SQLite: how many pages there should be at most. Pages in use may be more.
func (c *cache) SetSize(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n < 0 {
		n = math.MaxInt
	}
	c.limit = n
	c.keepTo(n)
}

// PageCount is for SQLite: how many pages there are, in use or not.
func (c *cache) PageCount() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.pages)
}

// Fetch is for SQLite: the page with a key, which is in use from now on, or nil.
//
// If it is not there, FetchLookup gives nil. The others make it, and another page that is not in use goes
// when there are as many as there may be. If all are in use, FetchCreateEasy gives nil, and SQLite writes
// some to make room; FetchCreateForce makes one more. (SQLite's own cache does the same.)
func (c *cache) Fetch(key uint32, mode sqlite.FetchMode) sqlite.Page {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	if pg := c.pages[key]; pg != nil {
		c.done.Hits++
		c.pin(pg)
		return pg
	}
	c.done.Misses++
	if mode == sqlite.FetchLookup {
		return nil
	}
	pg := c.room(mode)
	if pg == nil {
		return nil // not pg: that would be a Page
	}
	pg.key, pg.pinned = key, true
	c.pages[key] = pg
	return pg
}

// room returns a page that is in no list yet, with its extra bytes zero; nil if there is none.
func (c *cache) room(mode sqlite.FetchMode) *page {
	full := len(c.pages) >= c.limit
	oldest := c.unpinned.first()
	switch {
	case full && oldest != nil:
		return c.replace(oldest)
	case full && mode == sqlite.FetchCreateEasy:
		c.done.Refusals++
		return nil
	case !c.pool.evictFor(c, c.pageBytes) && mode == sqlite.FetchCreateEasy:
		c.done.Refusals++
		return nil
	}
	if pg := c.allocate(); pg != nil {
		return pg
	}
	// No memory is left. What this database does not use is all that can be had without waiting.
	if oldest := c.unpinned.first(); oldest != nil {
		return c.replace(oldest)
	}
	return nil
}

// replace returns a new page that has the memory of one that goes.
func (c *cache) replace(old *page) *page {
	c.done.Evictions++
	c.forget(old)
	clear(unsafe.Slice((*byte)(old.extra), c.extraSize))
	pg := &page{owner: c, buf: old.buf, extra: old.extra}
	c.pool.clock.Add(1)
	return pg
}

// allocate returns a page with memory of its own, nil if no memory is left.
func (c *cache) allocate() *page {
	buf := hakmem.MallocAt(c.site, c.pageSize+c.extraSize)
	if buf == nil {
		return nil
	}
	extra := unsafe.Add(buf, c.pageSize)
	clear(unsafe.Slice((*byte)(extra), c.extraSize))
	c.pool.used.Add(c.pageBytes)
	c.pool.clock.Add(1)
	return &page{owner: c, buf: buf, extra: extra}
}

// Unpin is for SQLite: it uses the page no more. The page stays if there may be so many and it may be asked
// for again.
func (c *cache) Unpin(p sqlite.Page, discard bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	pg, ok := p.(*page)
	if !ok || pg.owner != c || !pg.pinned || c.closed {
		return // SQLite does no such thing
	}
	if discard || !c.purgeable {
		c.free(pg)
		return
	}
	pg.pinned, pg.used = false, c.pool.clock.Load()
	c.unpinned.append(pg)
	c.noteOldest()
	c.keepTo(c.limit)
	c.pool.evictFor(c, 0)
}

// Rekey is for SQLite: the page's key changes. Another page that has the new key goes.
func (c *cache) Rekey(p sqlite.Page, oldKey, newKey uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	pg, ok := p.(*page)
	if !ok || pg.owner != c || c.pages[oldKey] != pg || oldKey == newKey {
		return // SQLite does no such thing
	}
	if other := c.pages[newKey]; other != nil {
		c.free(other)
	}
	delete(c.pages, oldKey)
	pg.key = newKey
	c.pages[newKey] = pg
}

// Truncate is for SQLite: every page from a key on goes, in use or not.
func (c *cache) Truncate(limit uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, pg := range c.pages {
		if key >= limit {
			c.free(pg)
		}
	}
}

// Shrink is for SQLite: every page goes that is not in use.
func (c *cache) Shrink() { c.shrink() }

// shrink returns how many bytes the pages had.
func (c *cache) shrink() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := len(c.pages)
	c.keepTo(0)
	return int64(before-len(c.pages)) * c.pageBytes
}

// Destroy is for SQLite: the database is closed. Every page goes. Later calls do nothing.
func (c *cache) Destroy() {
	if c.empty() {
		c.pool.remove(c)
	}
}

// empty gives up every page, in use or not, and closes the cache. It reports whether that was not done before.
func (c *cache) empty() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.closed = true
	for _, pg := range c.pages {
		c.free(pg)
	}
	return true
}

// keepTo gives up pages that are not in use while there are more than n.
func (c *cache) keepTo(n int) {
	for len(c.pages) > n && c.unpinned.first() != nil {
		c.evictOne()
	}
}

// evictOne gives up the page that was not used for the longest time, if any is not in use.
func (c *cache) evictOne() {
	if pg := c.unpinned.first(); pg != nil {
		c.done.Evictions++
		c.free(pg)
	}
}

// pin takes a page into use.
func (c *cache) pin(pg *page) {
	if !pg.pinned {
		pg.pinned = true
		c.unpinned.remove(pg)
		c.noteOldest()
	}
}

// forget takes a page out of the cache. Its memory stays.
func (c *cache) forget(pg *page) {
	if !pg.pinned {
		c.unpinned.remove(pg)
		c.noteOldest()
	}
	delete(c.pages, pg.key)
	pg.owner = nil // a call with it does nothing
}

// free gives a page up, with its memory.
func (c *cache) free(pg *page) {
	c.forget(pg)
	hakmem.Free(pg.buf)
	c.pool.used.Add(-c.pageBytes)
}

// noteOldest says to other caches which page would go first.
func (c *cache) noteOldest() {
	t := noPage
	if pg := c.unpinned.first(); pg != nil {
		t = pg.used
	}
	if c.oldest.Load() != t {
		c.oldest.Store(t)
	}
}

var (
	_ sqlite.PageCache = (*Pool)(nil)
	_ sqlite.Cache     = (*cache)(nil)
	_ sqlite.Page      = (*page)(nil)
)
