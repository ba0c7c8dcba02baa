// Package hakmemsqlite is a page cache for SQLite, as modernc.org/sqlite translates it, with its pages in
// memory of hakmem:
//
//	func init() {
//		sqlite.MustRegisterPageCache(hakmemsqlite.New(hakmemsqlite.Options{Bytes: 256 << 20}))
//	}
//
// All connections share one budget of bytes, and the page that was not used for the longest time goes
// first, whichever connection has it. What is in a page is never shared between connections.
//
// It is for programs with parallel readers. Without a registered cache, all connections wait for one lock at
// every page; here each has a lock of its own. With one connection SQLite's own cache is faster.
//
// A page cache can be registered once in a process, before the first connection, and not together with
// modernc.org/sqlite/vec. So only main, or an init of main's package, should do it.
package hakmemsqlite

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/hakmem/hakmem"
	"modernc.org/sqlite"
)

// Options says how large the cache may become. The zero Options are the defaults.
type Options struct {
	// Bytes is what the pages of all connections may take together, with what SQLite keeps of each page.
	// 0 means no such limit; below 0 panics. Pages that SQLite is using, and those of in-memory databases,
	// cannot be given up: the budget is exceeded when they alone take more.
	//
	// Each connection's own limit holds as well, that of PRAGMA cache_size, which is 2 MB by default. To
	// leave it to the budget who gets how much, set cache_size high.
	Bytes int64
}

// Pool is a page cache for every connection of the process. [New] makes one, and
// [sqlite.RegisterPageCache] registers it. Any goroutine may call its methods.
type Pool struct {
	budget int64

	used  atomic.Int64 // bytes of all pages
	clock atomic.Int64 // how many pages were allocated: the time by which connections are compared

	caches atomic.Pointer[[]*cache] // the open ones; never changed in place

	mu      sync.Mutex // before the caches' locks; held to change what follows, and caches
	numbers []bool     // which numbers the names of open caches have, from 1
	past    Stats      // of the caches that were closed
}

// New returns a Pool without pages.
func New(o Options) *Pool {
	if o.Bytes < 0 {
		panic(fmt.Sprintf("hakmemsqlite: Options.Bytes is %d: use the number of bytes, or 0 for no limit", o.Bytes))
	}
	p := &Pool{budget: cmp.Or(o.Bytes, math.MaxInt64)}
	p.caches.Store(&[]*cache{})
	return p
}

// Stats says what a Pool did. All but Databases, Pages and Bytes only grow.
type Stats struct {
	Databases int   // the open ones: SQLite counts a connection's temporary database too
	Pages     int64 // held now, in use or not
	Bytes     int64 // that they take

	Hits   int64 // pages that were asked for and found
	Misses int64 // and not found

	Evictions int64 // pages that were given up to make room for others, of the same connection or another
	Refusals  int64 // pages that SQLite may have by making room in another way, by writing pages first
}

// Stats adds up what all connections did. It waits for each in turn, for the time of a call.
func (p *Pool) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.past
	for _, c := range *p.caches.Load() {
		c.mu.Lock()
		s.Databases++
		s.Pages += int64(len(c.pages))
		s.Bytes += int64(len(c.pages)) * c.pageBytes
		s.add(&c.done)
		c.mu.Unlock()
	}
	return s
}

// add adds what only grows.
func (s *Stats) add(t *Stats) {
	s.Hits += t.Hits
	s.Misses += t.Misses
	s.Evictions += t.Evictions
	s.Refusals += t.Refusals
}

// Shrink gives up every page that SQLite is not using, and returns the memory to the system
// ([hakmem.Trim]). Pages of in-memory databases stay. It returns how many bytes the pages had.
func (p *Pool) Shrink() (bytes int64) {
	for _, c := range *p.caches.Load() {
		bytes += c.shrink()
	}
	hakmem.Trim()
	return bytes
}

// Close returns the memory of free pages to the system ([hakmem.Trim]), when every database is closed.
// Before that it returns an error and does nothing. SQLite cannot do without a page cache that was
// registered, so the Pool may be used again.
func (p *Pool) Close() error {
	if n := len(*p.caches.Load()); n > 0 {
		return fmt.Errorf("hakmemsqlite: Close: %d databases are open: close them first, or use Shrink", n)
	}
	hakmem.Trim()
	return nil
}

// Create is for SQLite, which calls it for each database of a connection.
//
// The blocks of the pages have a [hakmem.Site], whose name is "sqlite database 1" and so on, and "sqlite
// memory 1" for databases in memory. The numbers are those of the databases that are open; a number is used
// again when its database is closed. SQLite does not say which database it is.
func (p *Pool) Create(pageSize, extraSize int, purgeable bool) (sqlite.Cache, error) {
	if pageSize <= 0 || pageSize%8 != 0 || extraSize < 0 {
		return nil, fmt.Errorf("hakmemsqlite: pages of %d and %d bytes: SQLite has no such pages", pageSize, extraSize)
	}
	c := &cache{
		pool:      p,
		pageSize:  uintptr(pageSize),
		extraSize: uintptr(max(extraSize, padding)),
		purgeable: purgeable,
		limit:     math.MaxInt,
		pages:     map[uint32]*page{},
	}
	c.pageBytes = int64(hakmem.GoodSize(c.pageSize + c.extraSize))
	c.unpinned.init()
	c.oldest.Store(noPage)
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.Index(p.numbers, false)
	if i < 0 {
		i = len(p.numbers)
		p.numbers = append(p.numbers, false)
	}
	p.numbers[i] = true
	c.number = i + 1
	kind := "database"
	if !purgeable {
		kind = "memory"
	}
	c.site = hakmem.RegisterSite(fmt.Sprintf("sqlite %s %d", kind, c.number))
	open := append(slices.Clone(*p.caches.Load()), c)
	p.caches.Store(&open)
	return c, nil
}

// remove takes a closed cache out of the pool.
func (p *Pool) remove(c *cache) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.numbers[c.number-1] = false
	p.past.add(&c.done) // of a closed cache it does not change
	open := slices.DeleteFunc(slices.Clone(*p.caches.Load()), func(o *cache) bool { return o == c })
	p.caches.Store(&open)
}

// evictFor gives up pages until bytes more are within the budget, the one first that was not used for the
// longest time. The caller holds own's lock. It reports whether it could; a cache that is at work just now
// keeps its pages.
func (p *Pool) evictFor(own *cache, bytes int64) bool {
	var busy []*cache // rarely any
	for p.used.Load()+bytes > p.budget {
		var victim *cache
		oldest := noPage
		for _, c := range *p.caches.Load() {
			if t := c.oldest.Load(); t < oldest && !slices.Contains(busy, c) {
				victim, oldest = c, t
			}
		}
		switch {
		case victim == nil:
			return false
		case victim == own:
			own.evictOne()
		case victim.mu.TryLock(): // to wait while own's lock is held could be for ever
			victim.evictOne()
			victim.mu.Unlock()
		default:
			busy = append(busy, victim)
		}
	}
	return true
}
