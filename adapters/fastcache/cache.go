// Package fastcache has the interface of github.com/VictoriaMetrics/fastcache and keeps its memory in hakmem: a
// cache from byte slices to byte slices, bounded in bytes, that the garbage collector does not see. It stands in
// for that module where the main module's go.mod says
//
//	replace github.com/VictoriaMetrics/fastcache => github.com/hakmem/hakmem/adapters/fastcache v0.1.0
//
// Nothing else changes. What is different is what becomes of memory: Reset gives all of it back to hakmem, which
// returns it to the system, and so do Close, which is new, and a garbage collection that finds a cache that was
// dropped without either. The index lies outside the Go heap too, and becomes smaller with its entries. Files are those
// of fastcache v1.13.2, in both directions.
//
// # How it works
//
// Keys are spread by their hash over 512 buckets, each with a lock of its own. A bucket writes its entries one
// behind the other into a ring of chunks of 64 KiB; where the ring is full it begins again at its start and
// overwrites the oldest entries. The index of a bucket leads from the hash of a key to where its newest entry
// begins, and to the pass over the ring in which it was written, which tells entries that are overwritten. Two keys
// with the same hash of 64 bits displace each other. All methods copy: nothing that they return is the cache's memory.
package fastcache

import (
	"fmt"
	"runtime"
	"sync"

	"github.com/cespare/xxhash/v2"

	"github.com/hakmem/hakmem"
)

// bucketsCount is the number of buckets, which files depend on.
const bucketsCount = 512

// minBytes is what the smallest cache may hold: a chunk in each bucket.
const minBytes = bucketsCount * chunkSize

// hash is the xxHash of a key.
type hash uint64

func hashOf(k []byte) hash { return hash(xxhash.Sum64(k)) }

// theSite labels the memory of all caches in hakmem's statistics. It is registered by the first cache, so that a
// program that only imports the package may still configure hakmem, and may have set a rule for the site.
var theSite = sync.OnceValue(func() hakmem.Site {
	s := hakmem.RegisterSite("fastcache")
	setRule(s)
	return s
})

// setRule sets the rule of a site unless it has one.
func setRule(s hakmem.Site) {
	if set, _ := hakmem.ReadSiteRule(s); set == (hakmem.SiteRule{}) {
		hakmem.SetSiteRule(s, hakmem.SiteRule{HoldScale: holdScale})
	}
}

// holdScale is for how long free pages of a cache are kept, as a share of the time for others. Most become free
// when the cache is emptied, and are wanted again only as it fills. While it fills, its index frees tables, whose
// pages are soon taken. From these hakmem learns to keep pages for longer, so that after a Reset an eighth of the cache
// was kept for 5 s, and 4 % for 7 s.
const holdScale = 0.5

// Cache is a cache. Any goroutine may call its methods at any time. It must not be copied.
type Cache struct {
	buckets *[bucketsCount]bucket
	big     *bigCalls
}

// New returns an empty cache that holds up to maxBytes bytes of entries, and not less than 32 MiB. Memory is
// allocated as entries come. The index needs 21 to 43 bytes more for each entry. New panics unless maxBytes is above 0 and
// below 512 TiB.
func New(maxBytes int) *Cache {
	if maxBytes <= 0 {
		panic(fmt.Errorf("fastcache: New(%d): a cache needs room for some bytes; the smallest has %d", maxBytes, minBytes))
	}
	n := chunksFor(maxBytes)
	if n > maxChunks {
		panic(fmt.Errorf("fastcache: New(%d): a cache holds up to %d bytes", maxBytes, uint64(maxChunks)*minBytes))
	}
	c := &Cache{buckets: new([bucketsCount]bucket), big: new(bigCalls)}
	for i := range c.buckets {
		c.buckets[i].init(n)
	}
	runtime.AddCleanup(c, closeAll, c.buckets)
	return c
}

// chunksFor returns how many chunks a bucket has in a cache of maxBytes bytes.
func chunksFor(maxBytes int) uint64 { return (uint64(maxBytes)-1)/minBytes + 1 }

// bucketOf returns where entries with a hash are.
func (c *Cache) bucketOf(h hash) *bucket { return &c.buckets[h%bucketsCount] }

// Set stores v for the key k, in place of what was there. An entry stays until newer entries need its place, or
// another key has the same hash. Set does nothing for a k and v that are together above 65,531 bytes: SetBig stores
// longer values. The caller may change k and v afterwards.
func (c *Cache) Set(k, v []byte) {
	h := hashOf(k)
	c.bucketOf(h).set(k, v, h)
	runtime.KeepAlive(c) // or a collection could close the bucket before the entry is there
}

// Get appends the value of k, which Set has stored, to dst and returns the result: dst as it is where there is none.
func (c *Cache) Get(dst, k []byte) []byte {
	dst, _ = c.HasGet(dst, k)
	return dst
}

// HasGet is Get, and says whether there is a value, which may be empty.
func (c *Cache) HasGet(dst, k []byte) ([]byte, bool) {
	h := hashOf(k)
	dst, ok := c.bucketOf(h).get(dst, k, h, true)
	runtime.KeepAlive(c)
	return dst, ok
}

// Has says whether there is a value for k.
func (c *Cache) Has(k []byte) bool {
	h := hashOf(k)
	_, ok := c.bucketOf(h).get(nil, k, h, false)
	runtime.KeepAlive(c)
	return ok
}

// Del removes the value of k, if there is one. Its bytes stay in use until newer entries need their place.
func (c *Cache) Del(k []byte) {
	h := hashOf(k)
	c.bucketOf(h).del(h)
	runtime.KeepAlive(c)
}

// Reset removes all entries, sets the statistics to 0, and gives the memory of the cache back. It may be used
// afterwards as before. The system has most of the memory back 5 s later (see hakmem.Trim for at once).
func (c *Cache) Reset() {
	for i := range c.buckets {
		c.buckets[i].reset()
	}
	c.big.reset()
	runtime.KeepAlive(c)
}

// Close removes all entries and gives the memory of the cache back, for good: from then on Set does nothing and Get
// finds nothing. A second Close does nothing. The original has no such method; a cache that is dropped without it
// is closed after a garbage collection.
func (c *Cache) Close() {
	closeAll(c.buckets)
	runtime.KeepAlive(c)
}

func closeAll(buckets *[bucketsCount]bucket) {
	for i := range buckets {
		buckets[i].close()
	}
}
