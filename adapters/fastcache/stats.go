package fastcache

import (
	"runtime"
	"sync/atomic"
)

// Stats is what Cache.UpdateStats reports. Counters begin with the cache, its file or its last Reset.
type Stats struct {
	// GetCalls is the number of calls of Get, HasGet and Has, those by GetBig included.
	GetCalls uint64
	// SetCalls is the number of calls of Set, those by SetBig included.
	SetCalls uint64
	// Misses is the number of GetCalls that found nothing.
	Misses uint64
	// Collisions is the number of GetCalls that found another key with the same hash. They are Misses too.
	Collisions uint64
	// Corruptions is the number of GetCalls that found what is no entry, as a damaged file can leave. They are
	// Misses too.
	Corruptions uint64
	// EntriesCount is the number of entries. Some of them may be overwritten already.
	EntriesCount uint64
	// BytesSize is the memory of the chunks that hold entries, in bytes.
	BytesSize uint64
	// MaxBytesSize is the most that BytesSize can become.
	MaxBytesSize uint64

	BigStats

	// IndexBytesSize is the memory of the index, in bytes. The original has no such field, nor the next one.
	IndexBytesSize uint64
	// MemoryErrors is how often hakmem had no memory for the cache to grow, because of a memory limit for example.
	// The cache then overwrites its oldest entries sooner, or does not store an entry.
	MemoryErrors uint64
}

// Reset sets all figures to 0.
func (s *Stats) Reset() { *s = Stats{} }

// BigStats is what became of calls of SetBig and GetBig.
type BigStats struct {
	// GetBigCalls is the number of calls of GetBig.
	GetBigCalls uint64
	// SetBigCalls is the number of calls of SetBig.
	SetBigCalls uint64
	// TooBigKeyErrors is the number of calls of SetBig with a key that is too long. They store nothing.
	TooBigKeyErrors uint64
	// InvalidMetavalueErrors is the number of calls of GetBig whose key has a value that Set has stored.
	InvalidMetavalueErrors uint64
	// InvalidValueLenErrors is the number of calls of GetBig that found parts of another length.
	InvalidValueLenErrors uint64
	// InvalidValueHashErrors is the number of calls of GetBig that found parts with other contents.
	InvalidValueHashErrors uint64
}

// bigCalls counts what BigStats reports.
type bigCalls struct {
	gets, sets, longKeys, notBig, lengths, hashes atomic.Uint64
}

func (b *bigCalls) reset() {
	for _, n := range []*atomic.Uint64{&b.gets, &b.sets, &b.longKeys, &b.notBig, &b.lengths, &b.hashes} {
		n.Store(0)
	}
}

// UpdateStats adds the statistics of the cache to s: those of several caches can be added up. Reset sets s to 0
// before it is used again.
func (c *Cache) UpdateStats(s *Stats) {
	for i := range c.buckets {
		c.buckets[i].addStats(s)
	}
	s.GetBigCalls += c.big.gets.Load()
	s.SetBigCalls += c.big.sets.Load()
	s.TooBigKeyErrors += c.big.longKeys.Load()
	s.InvalidMetavalueErrors += c.big.notBig.Load()
	s.InvalidValueLenErrors += c.big.lengths.Load()
	s.InvalidValueHashErrors += c.big.hashes.Load()
	runtime.KeepAlive(c)
}
