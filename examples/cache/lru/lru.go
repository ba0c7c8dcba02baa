// Package lru is an in-memory cache: string keys, values of any size, least
// recently used eviction, a limit in bytes, safe for concurrent use.
//
// Its values live outside the Go heap, in hakmem's memory ([NewHakmem]), so that gigabytes of them
// cost the garbage collector nothing. The same cache runs on the Go heap ([NewGoHeap]) for
// comparison; the two differ only in the [Memory] that they allocate from.
//
// # Ownership
//
// The cache owns its memory and never lends it beyond a call: Set copies the key and the value in,
// Get and Append copy the value out, and View shows the value in place only while its callback
// runs. So no slice of cache memory is in use when an eviction frees the block. Close frees
// everything; a cache that is dropped without Close keeps its hakmem memory for the life of the
// process.
//
// # Path of a Set
//
//  1. The block's real size (Memory.Cost) is compared with the shard's limit.
//  2. A block is allocated and filled, with no lock held.
//  3. Under the shard's lock the key's old block is freed, then the least
//     recently used entries, until the new one fits; it becomes the most recent.
//
// # Path of a Get
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

var (
	// ErrMissing says that the cache has no value for the key.
	ErrMissing = errors.New("lru: no value for this key")
	// ErrClosed says that the cache was used after Close.
	ErrClosed = errors.New("lru: the cache has been closed")
	// ErrNoMemory says that no memory was left, even after evictions.
	ErrNoMemory = errors.New("lru: out of memory")
)

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

// Cache is an LRU cache over blocks of a Memory. Its methods may be called from
// any goroutine. Build it with NewHakmem, NewGoHeap or New.
type Cache[B any, M Memory[B]] struct {
	mem    M
	shards []shard[B, M]
	shift  uint // hash >> shift selects the shard
	seed   maphash.Seed
	mask   uint64 // all ones; tests clear bits to make hashes collide
}

// OnHakmem is a cache whose values live in hakmem's memory.
type OnHakmem = Cache[HakmemBlock, Hakmem]

// OnGoHeap is a cache whose values live in the Go heap.
type OnGoHeap = Cache[[]byte, GoHeap]

// NewHakmem returns a cache of at most limit bytes in hakmem's memory.
func NewHakmem(limit int64) (*OnHakmem, error) { return New(Hakmem{}, limit, 0) }

// NewGoHeap returns a cache of at most limit bytes in the Go heap.
func NewGoHeap(limit int64) (*OnGoHeap, error) { return New(GoHeap{}, limit, 0) }

const (
	// A slot's number has 32 bits, and a block takes 8 bytes or more.
	maxShardLimit = 32 << 30
	maxShards     = 1 << 16
	// The default number of shards leaves each shard at least this many bytes, so that concurrency
	// does not make the cache refuse a large value.
	roomyShardLimit = 1 << 20
)

// New returns a cache of at most limit bytes, counted as Memory.Cost does: the whole blocks that
// keys and values take. It is divided into shards, a power of two in number; 0 chooses a number
// that suits GOMAXPROCS and the limit. Each shard has an equal part of the limit, a lock and an LRU
// order of its own.
//
// The block of a running Set is not part of the cache yet, so real use can exceed the limit by one
// block for each running Set.
func New[B any, M Memory[B]](mem M, limit int64, shards int) (*Cache[B, M], error) {
	if limit <= 0 || uint64(limit) > math.MaxInt {
		return nil, fmt.Errorf("lru: limit of %d bytes; it must be between 1 and %d", limit, math.MaxInt)
	}
	if shards == 0 {
		shards = defaultShards(limit)
	}
	if shards < 1 || shards > maxShards || shards&(shards-1) != 0 {
		return nil, fmt.Errorf("lru: %d shards; their number must be a power of two between 1 and %d", shards, maxShards)
	}
	shardLimit := limit / int64(shards)
	if shardLimit < 1 || shardLimit > maxShardLimit {
		return nil, fmt.Errorf("lru: a limit of %d bytes over %d shards is %d bytes each; a shard may hold between 1 and %d",
			limit, shards, shardLimit, int64(maxShardLimit))
	}
	c := &Cache[B, M]{
		mem:    mem,
		shards: make([]shard[B, M], shards),
		shift:  uint(64 - bits.TrailingZeros(uint(shards))),
		seed:   maphash.MakeSeed(),
		mask:   math.MaxUint64,
	}
	for i := range c.shards {
		c.shards[i].mem = mem
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

func (c *Cache[B, M]) locate(key string) (*shard[B, M], uint64) {
	hash := maphash.String(c.seed, key) & c.mask
	return &c.shards[hash>>c.shift], hash
}

// Set copies key and value into the cache, in place of the key's previous value, and evicts the
// least recently used entries of the shard that no longer fit. If it fails, the key's previous
// value stays, unless it was evicted to find memory. The error is a *TooLargeError, or it wraps
// ErrNoMemory or ErrClosed, except for a key of more than 4 GiB.
func (c *Cache[B, M]) Set(key string, value []byte) error {
	s, hash := c.locate(key)
	size := uint64(len(key)) + uint64(len(value))
	if size > uint64(s.limit) {
		return &TooLargeError{Size: int64(size), Limit: s.limit}
	}
	if uint64(len(key)) > math.MaxUint32 {
		return fmt.Errorf("lru: key of %d bytes; the longest key is %d bytes", len(key), uint32(math.MaxUint32))
	}
	n := int(size)
	cost := int64(c.mem.Cost(n))
	if cost > s.limit {
		return &TooLargeError{Size: cost, Limit: s.limit}
	}
	block, err := c.alloc(s, n, cost)
	if err != nil {
		return err
	}
	b := c.mem.Bytes(block)
	copy(b[copy(b, key):], value)

	s.mu.Lock()
	defer s.mu.Unlock()
	return s.put(hash, key, block, cost)
}

// reclaimRounds is how often alloc evicts entries and tries again when no memory is left: after
// freeing 1, 2, 4 and 8 times the block's size. So most of the cache survives if eviction does not
// help.
const reclaimRounds = 4

func (c *Cache[B, M]) alloc(s *shard[B, M], n int, cost int64) (B, error) {
	block, ok := c.mem.Alloc(n)
	freed := int64(0)
	for round := 0; !ok && round < reclaimRounds; round++ {
		freed += s.reclaim(cost << round)
		block, ok = c.mem.Alloc(n)
	}
	if !ok {
		return block, fmt.Errorf("%w: no block of %d bytes, even after evicting %d bytes", ErrNoMemory, n, freed)
	}
	return block, nil
}

// Get returns a copy of the key's value, which belongs to the caller. The error is ErrMissing or
// ErrClosed.
func (c *Cache[B, M]) Get(key string) ([]byte, error) {
	return c.Append(nil, key)
}

// Append appends the key's value to dst and returns the extended slice, as the
// built-in append does. On an error, ErrMissing or ErrClosed, it returns dst.
func (c *Cache[B, M]) Append(dst []byte, key string) ([]byte, error) {
	s, hash := c.locate(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	value, err := s.use(hash, key)
	if err != nil {
		return dst, err
	}
	if dst == nil && len(value) == 0 {
		return []byte{}, nil
	}
	return append(dst, value...), nil
}

// View calls f with the key's value in place, without a copy, under the shard's lock. The slice is
// valid only until f returns: f must not keep it or any part of it, and must not write to it. f
// must be short and must not use the cache. If the error is ErrMissing or ErrClosed, f was not
// called.
func (c *Cache[B, M]) View(key string, f func(value []byte)) error {
	s, hash := c.locate(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	value, err := s.use(hash, key)
	if err != nil {
		return err
	}
	f(value)
	return nil
}

// Delete removes the key and frees its memory. It reports whether there was a
// value; the error is ErrClosed.
func (c *Cache[B, M]) Delete(key string) (bool, error) {
	s, hash := c.locate(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false, ErrClosed
	}
	i := s.find(hash, key)
	if i == 0 {
		return false, nil
	}
	s.remove(i)
	return true, nil
}

// Len is the number of entries, 0 after Close.
func (c *Cache[B, M]) Len() int { return c.Stats().Len }

// Bytes is the memory of all entries as the limit counts it, 0 after Close. It
// never exceeds the limit.
func (c *Cache[B, M]) Bytes() int64 { return c.Stats().Bytes }

// ShardLimit is the number of bytes that one shard may hold. Nothing larger can be set.
func (c *Cache[B, M]) ShardLimit() int64 { return c.shards[0].limit }

// Stats adds up the shards, one after another. While others use the cache, the part from each shard
// was true at some moment during the call.
func (c *Cache[B, M]) Stats() Stats {
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

// Close frees all memory of the cache. Running calls finish first or return ErrClosed, and all
// later calls return ErrClosed, except Len, Bytes and Stats, which still work. A second Close
// returns ErrClosed.
func (c *Cache[B, M]) Close() error {
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
