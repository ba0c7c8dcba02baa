// Package lru is an in-memory cache on the Go heap, for comparison with package cache of hakmem: string keys, values
// of any size, least recently used eviction, a limit in bytes, safe for concurrent use.
//
// # Path of a Set
//
//  1. The block's real size in Go's heap is compared with the shard's limit.
//  2. A block is made and filled, with no lock held.
//  3. Under the shard's lock the key's old block is dropped, then the least
//     recently used entries, until the new one fits; it becomes the most recent.
//
// # Path of a read
//
//  1. The key's hash selects the shard (high bits) and the bucket (low bits).
//  2. Under the shard's lock the chain is searched, comparing whole keys; the
//     entry becomes the most recent, and its value is copied.
package lru

import (
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"math/bits"
	"runtime"
)

// ErrClosed says that the cache was used after Close.
var ErrClosed = errors.New("lru: the cache has been closed")

// TooLargeError is the error for a value that would not fit even into an empty shard. Nothing is
// evicted for it.
type TooLargeError struct {
	Size  int64 // bytes of memory that key and value would take
	Limit int64 // bytes that one shard may hold
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("lru: key and value take %d bytes, more than the shard limit of %d bytes; raise the cache's limit or use fewer shards", e.Size, e.Limit)
}

// Stats counts what a cache holds and what it has done.
type Stats struct {
	Len        int   // entries
	Bytes      int64 // memory of keys and values as the limit counts it: whole blocks
	ValueBytes int64 // lengths of the values alone

	Hits, Misses    uint64
	Sets, Evictions uint64
}

// Cache is an LRU cache. Its methods may be called from any goroutine. Build it with New.
type Cache struct {
	shards []shard
	shift  uint // hash >> shift selects the shard
	seed   maphash.Seed
	mask   uint64 // all ones; tests clear bits to make hashes collide
}

const (
	// A slot's number has 32 bits, and a block takes 8 bytes or more.
	maxShardLimit = 32 << 30
	maxShards     = 1 << 16
	// The default number of shards leaves each shard at least this many bytes, so that concurrency
	// does not make the cache refuse a large value.
	roomyShardLimit = 1 << 20
)

// New returns a cache of at most limit bytes, counted as the Go runtime rounds sizes up: the whole blocks that
// keys and values take. It is divided into shards, a power of two in number that
// suits GOMAXPROCS and the limit. Each shard has an equal part of the limit, a lock and an LRU
// order of its own.
//
// The block of a running Set is not part of the cache yet, so real use can exceed the limit by one
// block for each running Set.
func New(limit int64) (*Cache, error) {
	if limit <= 0 || uint64(limit) > math.MaxInt {
		return nil, fmt.Errorf("lru: limit of %d bytes; it must be between 1 and %d", limit, math.MaxInt)
	}
	shards := defaultShards(limit)
	shardLimit := limit / int64(shards)
	if shardLimit < 1 || shardLimit > maxShardLimit {
		return nil, fmt.Errorf("lru: a limit of %d bytes over %d shards is %d bytes each; a shard may hold between 1 and %d",
			limit, shards, shardLimit, int64(maxShardLimit))
	}
	c := &Cache{
		shards: make([]shard, shards),
		shift:  uint(64 - bits.TrailingZeros(uint(shards))),
		seed:   maphash.MakeSeed(),
		mask:   math.MaxUint64,
	}
	for i := range c.shards {
		c.shards[i].init(shardLimit)
	}
	return c, nil
}

// defaultShards is eight shards for each P, so that two goroutines seldom want the same lock; fewer
// if the shards would become too small, more if they would become too large.
func defaultShards(limit int64) int {
	n := 1 << bits.Len(uint(8*runtime.GOMAXPROCS(0)-1))
	for n > 1 && (n > 1024 || limit/int64(n) < roomyShardLimit) {
		n /= 2
	}
	for n < maxShards && limit/int64(n) > maxShardLimit {
		n *= 2
	}
	return n
}

func (c *Cache) locate(key string) (*shard, uint64) {
	hash := maphash.String(c.seed, key) & c.mask
	return &c.shards[hash>>c.shift], hash
}

// Set copies key and value into the cache, in place of the key's previous value, and evicts the
// least recently used entries of the shard that no longer fit. If it fails, the key's previous
// value stays. The error is a *TooLargeError or ErrClosed, except for a key of more than 4 GiB.
func (c *Cache) Set(key string, value []byte) error {
	s, hash := c.locate(key)
	size := uint64(len(key)) + uint64(len(value))
	if size > uint64(s.limit) {
		return &TooLargeError{Size: int64(size), Limit: s.limit}
	}
	if uint64(len(key)) > math.MaxUint32 {
		return fmt.Errorf("lru: key of %d bytes; the longest key is %d bytes", len(key), uint32(math.MaxUint32))
	}
	cost := int64(blockSize(int(size)))
	if cost > s.limit {
		return &TooLargeError{Size: cost, Limit: s.limit}
	}
	b := make([]byte, size)
	copy(b[copy(b, key):], value)

	s.mu.Lock()
	defer s.mu.Unlock()
	return s.put(hash, key, b, cost)
}

// GetInto appends the key's value to dst and returns the extended slice, as the built-in append does, or dst if
// the key has no value or the cache is closed.
func (c *Cache) GetInto(dst []byte, key string) (value []byte, found bool) {
	s, hash := c.locate(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	value, found = s.use(hash, key)
	if !found {
		return dst, false
	}
	return append(dst, value...), true
}

// Shards is the number of shards.
func (c *Cache) Shards() int { return len(c.shards) }

// ShardLimit is the number of bytes that one shard may hold. Nothing larger can be set.
func (c *Cache) ShardLimit() int64 { return c.shards[0].limit }

// Stats adds up the shards, one after another. While others use the cache, the part from each shard
// was true at some moment during the call.
func (c *Cache) Stats() Stats {
	var sum Stats
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		part := s.stats
		s.mu.Unlock()
		sum.Len += part.Len
		sum.Bytes += part.Bytes
		sum.ValueBytes += part.ValueBytes
		sum.Hits += part.Hits
		sum.Misses += part.Misses
		sum.Sets += part.Sets
		sum.Evictions += part.Evictions
	}
	return sum
}

// Close drops all memory of the cache. Later calls of Set return ErrClosed, as does a second Close, and nothing is
// found.
func (c *Cache) Close() error {
	first := true
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		first = s.close() && first
		s.mu.Unlock()
	}
	if !first {
		return ErrClosed
	}
	return nil
}
