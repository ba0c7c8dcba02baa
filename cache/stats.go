package cache

import "fmt"

// Reason says why an entry left the cache.
type Reason uint8

const (
	Evicted  Reason = iota // to make room for others within MaxBytes
	Shrunk                 // for memory: by Shrink, Resize, or a Set that found none
	Expired                // its time to live was over
	Replaced               // by a Set of its key, also by one that failed
	Deleted                // by Delete
	Cleared                // by Clear or Close

	numReasons
)

// String returns the name in lower case, such as "evicted".
func (r Reason) String() string {
	if r < numReasons {
		return [numReasons]string{"evicted", "shrunk", "expired", "replaced", "deleted", "cleared"}[r]
	}
	return fmt.Sprintf("Reason(%d)", uint8(r))
}

// Stats says what a cache holds and what it has done since it was made. Sets is Entries and the six counts of
// entries that left, added up.
type Stats struct {
	Entries    int   // also those that have expired and were not found yet
	Bytes      int64 // the blocks of the entries, and the index
	MaxBytes   int64 // what Bytes does not exceed
	ValueBytes int64 // lengths of the values

	Hits, Misses uint64 // of Get, GetInto and View
	Sets         uint64 // that succeeded

	Evicted, Shrunk, Expired, Replaced, Deleted, Cleared uint64 // entries that left, by Reason
}

// HitRate returns the share of the reads that found a value, from 0 to 1; 0 if there were none.
func (s Stats) HitRate() float64 {
	if s.Hits == 0 {
		return 0
	}
	return float64(s.Hits) / float64(s.Hits+s.Misses)
}

// add adds what a shard holds and has done. Its lock is held.
func (t *Stats) add(s *shard) {
	t.Entries += s.index.used
	t.Bytes += s.bytes()
	t.MaxBytes += s.max
	t.ValueBytes += s.counts.valueBytes
	t.Hits += s.counts.hits
	t.Misses += s.counts.misses
	t.Sets += s.counts.sets
	r := &s.counts.removed
	t.Evicted += r[Evicted]
	t.Shrunk += r[Shrunk]
	t.Expired += r[Expired]
	t.Replaced += r[Replaced]
	t.Deleted += r[Deleted]
	t.Cleared += r[Cleared]
}
