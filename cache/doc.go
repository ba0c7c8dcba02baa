// Package cache is an in-memory cache whose keys, values and index lie in hakmem's memory, so that gigabytes of
// them cost the garbage collector nothing.
//
//	c, err := cache.New(cache.Options{MaxBytes: 2 << 30, TTL: time.Hour})
//	if err != nil {
//		log.Fatal(err)
//	}
//	defer c.Close() // frees all of it
//
//	err = c.Set("key", value)                        // copies in
//	buf, found := c.GetInto(buf[:0], "key")          // copies out, without an allocation
//	found = c.View("key", func(value []byte) { … }) // no copy
//
// # What is bounded
//
// MaxBytes bounds the blocks of all entries, as [hakmem.UsableSize] gives them, together with the index. It is
// divided among the shards equally; each has a lock, and the keys whose hash selects it. Two things come on top:
// the block of a Set that runs, and blocks that were removed while a View or a Get reads them.
//
// # Which entries go
//
// Each shard follows S3-FIFO (Yang, Zhang, Qiu, Yue, Rashmi: "FIFO queues are all you need for cache
// eviction", SOSP 2023). A new entry enters a small queue, a tenth of the bytes. If it was read at least twice
// when it gets to the end of that queue, it moves to the main queue. Otherwise it goes, and only its hash is
// remembered. A key that is set while its hash is remembered enters the main queue at once. An entry at the end
// of the main queue goes around again if it was read since. So a scan, keys that are read once, passes through
// the tenth and leaves the rest alone.
//
// # Who owns what
//
// Set copies key and value in; Get and GetInto copy the value out. View shows the value in place: the reader has
// a lease, a count in the entry, and if the entry is removed meanwhile, the last reader frees it. [Cache.Range] shows
// all entries in this way, one after the other. No lock is held while View's or Range's function or OnEvict runs.
//
// # Expiry
//
// An entry with a time to live is never returned after it. Its memory is freed when it is read, when it is
// evicted, or when a Set finds it: each Set looks at eight places of its shard's index in turn. There is no goroutine
// and no timer, so in a cache without calls expired entries stay.
//
// # Memory that others need
//
// [Cache.Shrink] is made for governor.OnPressure, [Cache.Resize] sets another bound. If hakmem has no memory
// left, Set removes entries and tries again, and then returns [ErrNoMemory].
//
// A Cache that becomes unreachable without Close is freed after a garbage collection, and the first one is
// reported by [hakmem.Err]. If its OnEvict refers to the Cache, it never becomes unreachable.
package cache
