package cache

import (
	"fmt"
	"runtime"
	"time"
)

// Cache is a cache, as the package comment says. [New] makes one. Any goroutine may call its methods at any
// time. No method keeps its arguments: a key that is a []byte can be passed as
// unsafe.String(unsafe.SliceData(b), len(b)).
type Cache struct {
	core    *core
	cleanup runtime.Cleanup
}

// New returns a cache. The owner calls [Cache.Close] when it is no longer needed. The error names an option
// that cannot be, or wraps [ErrNoMemory].
func New(o Options) (*Cache, error) {
	o, err := o.checked()
	if err != nil {
		return nil, err
	}
	core, err := newCore(o)
	if err != nil {
		return nil, err
	}
	c := &Cache{core: core}
	c.cleanup = runtime.AddCleanup(c, abandon, dropped{core, caller()})
	return c, nil
}

// Get returns a copy of the key's value, which is the caller's, in Go's memory. It is not nil if the key was
// found.
func (c *Cache) Get(key string) (value []byte, found bool) {
	value, found = c.GetInto(nil, key)
	if found && value == nil {
		value = []byte{}
	}
	return value, found
}

// GetInto appends the key's value to dst, as the built-in append does, and returns the result; dst itself if
// the key was not found. It allocates only if dst has not the room. dst is Go's memory: a slice of hakmem's may be
// passed if it has the room.
func (c *Cache) GetInto(dst []byte, key string) (value []byte, found bool) {
	defer runtime.KeepAlive(c)
	e := c.core.lease(key)
	if e == nil {
		return dst, false
	}
	dst = append(dst, e.value()...)
	e.release()
	return dst, true
}

// View calls do with the key's value in place, without a copy, and reports whether the key was found; if not,
// do was not called. The slice lies in hakmem's memory and is valid until do returns, also if the entry is
// removed meanwhile: do must not keep it, nor write to it. No lock is held: do may take its time, and may use
// the cache.
func (c *Cache) View(key string, do func(value []byte)) (found bool) {
	defer runtime.KeepAlive(c)
	e := c.core.lease(key)
	if e == nil {
		return false
	}
	defer e.release()
	do(e.value())
	return true
}

// Contains reports whether Get would find the key. It counts neither as a hit nor as a read.
func (c *Cache) Contains(key string) bool {
	defer runtime.KeepAlive(c)
	return c.core.contains(key)
}

// Range calls do for each entry that has not expired, with its key and value in place, without copies, until do returns
// false. It has the form of an iterator, so that a loop may stand for do:
//
//	for key, value := range c.Range {
//
// (for key := range c.Range leaves the values out, which costs nothing.)
//
// The order is not specified. While others, or do itself, use the cache, an entry that is there from the beginning
// to the end comes once. One that is set, removed or replaced meanwhile may come or not, once at most, with a value that it
// had during the call. Range counts neither hits nor reads.
//
// The slices lie in hakmem's memory and are valid until do returns, also if the entry is removed meanwhile: do must not
// keep them, nor write to them; string(key) and bytes.Clone(value) are copies. No lock is held while do runs: it may take
// its time. A cache is locked for some microseconds at a time, however large it is. If do panics, the panic goes on.
// In a closed cache there are no entries.
func (c *Cache) Range(do func(key, value []byte) bool) {
	defer runtime.KeepAlive(c)
	c.core.walk(do)
}

// Set copies key and value into the cache, in place of the key's previous value, for Options.TTL. It evicts
// what no longer fits.
//
// The error is [ErrClosed], a [*TooLargeError], or wraps [ErrNoMemory]. The key then has no value: the one
// that it had is out of date.
func (c *Cache) Set(key string, value []byte) error {
	defer runtime.KeepAlive(c)
	return c.core.set(key, value, c.core.ttl)
}

// SetTTL is [Cache.Set] with a time to live of its own; 0 is forever. It is an error, and nothing changes, if ttl
// is negative.
func (c *Cache) SetTTL(key string, value []byte, ttl time.Duration) error {
	defer runtime.KeepAlive(c)
	if ttl < 0 {
		return fmt.Errorf("cache: SetTTL of %v: use a time above 0, 0 for forever, or Delete", ttl)
	}
	return c.core.set(key, value, ttl)
}

// Delete removes the key and reports whether it had a value.
func (c *Cache) Delete(key string) (found bool) {
	defer runtime.KeepAlive(c)
	return c.core.delete(key)
}

// Clear removes all entries and gives their memory back, and most of the index's. Entries that others set
// meanwhile may stay.
func (c *Cache) Clear() {
	defer runtime.KeepAlive(c)
	c.core.clear()
}

// Resize sets MaxBytes, divided among the same number of shards, and evicts at once what no longer fits. The
// error names a value that cannot be, and nothing has changed then, or is [ErrClosed].
func (c *Cache) Resize(maxBytes int64) error {
	defer runtime.KeepAlive(c)
	return c.core.resize(maxBytes)
}

// Shrink evicts entries until at least want bytes of the cache are freed, or it is empty. MaxBytes stays, so
// the cache may grow again. The memory goes back to hakmem, which returns it to the system as its settings say. It is made
// for the governor:
//
//	stop := governor.OnPressure(c.Shrink)
//	defer stop()
func (c *Cache) Shrink(want uint64) {
	defer runtime.KeepAlive(c)
	c.core.shrink(want, nil)
}

// Len returns the number of entries, also of those that have expired and were not found yet.
func (c *Cache) Len() int { return c.Stats().Entries }

// Bytes returns what the blocks of the entries and the index take. It never exceeds MaxBytes.
func (c *Cache) Bytes() int64 { return c.Stats().Bytes }

// Stats adds up the shards, one after the other. While others use the cache, the part of each shard was true
// at some moment during the call.
func (c *Cache) Stats() Stats {
	defer runtime.KeepAlive(c)
	return c.core.stats()
}

// Close removes all entries and gives all memory back; what is being read now, when its last reader is done. Later
// Sets return [ErrClosed], as does a second Close, and nothing is found. Calls that run meanwhile finish or
// find the cache closed.
func (c *Cache) Close() error {
	c.cleanup.Stop()
	defer runtime.KeepAlive(c)
	return c.core.close()
}
