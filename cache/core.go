package cache

import (
	"fmt"
	"hash/maphash"
	"math"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hakmem/hakmem"
)

// core is all of a cache. A Cache has one, and it has no reference to the Cache, so that the collector notices
// when the Cache is dropped.
type core struct {
	hash    hasher
	shards  []shard
	shift   uint // the hash's high bits select the shard
	ttl     time.Duration
	site    hakmem.Site
	now     func() moment
	onEvict func(key, value []byte, reason Reason)

	resizing sync.Mutex   // held by Resize, before any shard's
	room     atomic.Int64 // the most that one entry may take
}

func newCore(o Options) (*core, error) {
	c := &core{
		hash:   hasher{maphash.MakeSeed(), math.MaxUint64},
		shards: make([]shard, o.Shards),
		shift:  uint(64 - bits.TrailingZeros(uint(o.Shards))),
		ttl:    o.TTL, site: o.Site, now: clock(o.Now), onEvict: o.OnEvict,
	}
	max := o.MaxBytes / int64(o.Shards)
	c.room.Store(room(max))
	for i := range c.shards {
		s := &c.shards[i]
		s.hash, s.site, s.now, s.max = c.hash, c.site, c.now, max
		s.index = newIndex(c.site, leastSlots)
		if s.index.slots == nil {
			for j := range i {
				c.shards[j].index.free()
			}
			return nil, noMemory(int64(o.Shards) * leastIndexBytes)
		}
	}
	return c, nil
}

func noMemory(bytes int64) error {
	return fmt.Errorf("%w: no %d bytes: raise hakmem's memory limit, or lower MaxBytes", ErrNoMemory, bytes)
}

func (c *core) shardOf(hash uint64) *shard { return &c.shards[hash>>c.shift] }

// with calls do for a shard while its lock is held, and disposes of what was removed. out is in Go's heap then, so
// that the calls for one key do without.
func (c *core) with(s *shard, do func(out *removed)) {
	var out removed
	func() {
		s.mu.Lock()
		defer s.mu.Unlock() // Options.Now may panic
		do(&out)
	}()
	c.dispose(out)
}

// dispose calls OnEvict for entries that were removed, and gives the cache's references back. No lock is held.
func (c *core) dispose(r removed) {
	if r.first == 0 {
		return
	}
	defer r.free()
	for c.onEvict != nil && r.first != 0 {
		e := r.first.entry()
		c.onEvict(e.key(), e.value(), e.reason)
		r.pop().release()
	}
}

// lease returns the entry of a key with a reference for the caller, or nil.
func (c *core) lease(key string) *entry {
	hash := c.hash.of(key)
	e, out := c.shardOf(hash).lockedLease(hash, key)
	c.dispose(out)
	return e
}

// walk calls do for each live entry, until that returns false.
func (c *core) walk(do func(key, value []byte) bool) {
	for i := range c.shards {
		if !c.shards[i].walk(do) {
			return
		}
	}
}

func (c *core) contains(key string) bool {
	hash := c.hash.of(key)
	return c.shardOf(hash).lockedContains(hash, key)
}

func (c *core) set(key string, value []byte, ttl time.Duration) error {
	hash := c.hash.of(key)
	s := c.shardOf(hash)
	e, err := c.newEntry(s, key, value, ttl)
	var out removed
	if err == nil {
		out, err = s.lockedPut(hash, e)
	} else { // the value that the key had is out of date
		var closed bool
		if closed, _, out = s.lockedTake(hash, key, Replaced); closed {
			err = ErrClosed
		}
	}
	if err != nil && e != nil {
		e.release()
	}
	c.dispose(out)
	return err
}

func (c *core) delete(key string) bool {
	hash := c.hash.of(key)
	_, found, out := c.shardOf(hash).lockedTake(hash, key, Deleted)
	c.dispose(out)
	return found
}

// reclaimRounds is how often Set removes entries when no memory is left, and tries again: 1, 2, 4 and 8 times as
// many bytes as it needs. Blocks of other sizes serve it only when whole pages of them are free, so more than
// its own size may be needed; 15 times are enough if the cache is what holds the memory.
const reclaimRounds = 4

func (c *core) newEntry(s *shard, key string, value []byte, ttl time.Duration) (*entry, error) {
	size := headerBytes + int64(len(key)) + int64(len(value))
	if room := c.room.Load(); size > room {
		return nil, &TooLargeError{size, room}
	}
	var expires moment
	if ttl > 0 {
		expires = c.now().after(ttl)
	}
	e := newEntry(c.site, key, value, expires)
	for round := 0; e == nil && round < reclaimRounds; round++ {
		c.shrink(uint64(size)<<round, s)
		e = newEntry(c.site, key, value, expires)
	}
	if e == nil {
		return nil, noMemory(size)
	}
	return e, nil
}

// shrink removes entries until so many bytes are given up: each shard its part, then as much as is missing
// of any. first, if there is one, comes before all others and gives all that it can.
func (c *core) shrink(want uint64, first *shard) {
	left := int64(min(want, mostMaxBytes))
	from := func(s *shard, bytes int64) {
		if bytes > 0 {
			c.with(s, func(out *removed) { left -= s.shrink(bytes, out) })
		}
	}
	if first != nil {
		from(first, left)
	}
	part := left/int64(len(c.shards)) + 1
	for i := range c.shards {
		from(&c.shards[i], min(part, left))
	}
	for i := range c.shards {
		from(&c.shards[i], left)
	}
}

func (c *core) resize(maxBytes int64) error {
	if err := checkMaxBytes("Resize to MaxBytes", maxBytes, len(c.shards)); err != nil {
		return err
	}
	c.resizing.Lock()
	defer c.resizing.Unlock()
	max := maxBytes / int64(len(c.shards))
	c.room.Store(room(max))
	var err error
	for i := range c.shards {
		s := &c.shards[i]
		c.with(s, func(out *removed) {
			if s.closed {
				err = ErrClosed
				return
			}
			s.max = max
			s.fit(max, Shrunk, out)
			s.compact()
		})
	}
	return err
}

func (c *core) clear() {
	for i := range c.shards {
		s := &c.shards[i]
		c.with(s, func(out *removed) {
			if !s.closed {
				s.clear(out)
				s.compact()
			}
		})
	}
}

func (c *core) close() error {
	var err error
	for i := range c.shards {
		s := &c.shards[i]
		c.with(s, func(out *removed) {
			if !s.close(out) {
				err = ErrClosed
			}
		})
	}
	return err
}

func (c *core) stats() (t Stats) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		t.add(s)
		s.mu.Unlock()
	}
	return t
}
