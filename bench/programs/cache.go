package main

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/hakmem/hakmem/cache"
)

// The load of runCache is that of `adapters/compare cache` at a size at which the cache is full after a third of it, and the
// recording has some 100,000 calls.
const (
	cacheBytes    = 16 << 20
	cacheSteps    = 200_000
	cacheThreads  = 2
	cacheTurn     = 500 // steps of one thread in a row: an entry is evicted ten turns after it was set, or later
	cacheKeys     = 30_000
	cacheExponent = 1.01
	cacheSetEvery = 20
	cacheLeast    = 64 // bytes of a value
	cacheMost     = 4096
)

// runCache has two threads that use one cache. Keys are drawn by popularity: the k-th has the weight
// 1/(k+1)^1.01. A read that misses sets the key, and one step in twenty sets it in any case. The threads have
// keys of their own, but each evicts the other's entries: so their calls need each other, though not at once.
func runCache(r *recorder) error {
	var c *cache.Cache
	err := r.turn(0, func() (err error) {
		// One shard: with several, which entries go would depend on hashes, whose seed is random.
		c, err = cache.New(cache.Options{MaxBytes: cacheBytes, Shards: 1})
		return err
	})
	if err != nil {
		return err
	}
	var clients [cacheThreads]*client
	for i := range clients {
		rng := rand.New(rand.NewPCG(uint64(i), 0))
		clients[i] = &client{
			thread: i, cache: c, rng: rng, zipf: rand.NewZipf(rng, cacheExponent, 1, cacheKeys-1),
			value: make([]byte, cacheMost), got: make([]byte, 0, cacheMost),
		}
	}
	for turn := range cacheSteps / cacheTurn {
		one := clients[turn%cacheThreads]
		err := r.turn(uint32(one.thread), func() error {
			for range cacheTurn {
				if err := one.step(); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return r.turn(0, c.Close)
}

// client is a thread of runCache.
type client struct {
	thread     int
	cache      *cache.Cache
	rng        *rand.Rand
	zipf       *rand.Zipf
	value, got []byte
}

// hashStep is 2^64 over the golden ratio: it spreads numbers that follow each other.
const hashStep uint64 = 0x9e3779b97f4a7c15

// step reads a key, and sets it if it is not there, or now and then.
func (c *client) step() error {
	n := c.zipf.Uint64()*cacheThreads + uint64(c.thread)
	key := fmt.Sprintf("key %d", n)
	// The length follows from the key, evenly over the logarithm.
	share := float64(n*hashStep>>11) / (1 << 53)
	v := c.value[:int(cacheLeast*math.Pow(cacheMost/cacheLeast, share))]
	binary.LittleEndian.PutUint64(v, n)
	if c.rng.IntN(cacheSetEvery) > 0 {
		var found bool
		if c.got, found = c.cache.GetInto(c.got[:0], key); found {
			if len(c.got) != len(v) || binary.LittleEndian.Uint64(c.got) != n {
				return fmt.Errorf("the value of %q is that of another key", key)
			}
			return nil
		}
	}
	return c.cache.Set(key, v)
}
