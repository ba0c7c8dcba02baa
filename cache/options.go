package cache

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"runtime"
	"time"

	"github.com/hakmem/hakmem"
)

// Options says what a cache is like. MaxBytes must be set.
type Options struct {
	// MaxBytes is the most bytes that the entries and the index take together, as the package comment says:
	// from 4 KiB for each shard to 2^62.
	MaxBytes int64

	// TTL is for how long an entry of [Cache.Set] is returned. 0 is forever.
	TTL time.Duration

	// Shards is the number of parts with a lock each, a power of two from 1 to 65,536. An entry cannot be
	// larger than a shard. 0 chooses eight for each P, with at least 1 MiB each, or one.
	Shards int

	// Site is the site of the cache's blocks, from hakmem.RegisterSite: hakmem's statistics then show the
	// cache by its name. 0 is none; Sets are some tens of nanoseconds faster then.
	Site hakmem.Site

	// OnEvict is called for each entry that leaves the cache, after it left, by the goroutine whose call
	// removed it. key and value are valid until it returns, and must not be written to. No lock is held: it may
	// use the cache. If it panics, the panic goes on in that call, and the other entries that the call removed
	// are freed without OnEvict. It is not called for a Cache that was dropped without Close.
	OnEvict func(key, value []byte, reason Reason)

	// Now is the clock for times to live, for tests. It is called while a lock is held and must not use the
	// cache. nil is the monotonic clock.
	Now func() time.Time
}

const (
	// leastShardBytes holds the smallest index and some dozens of small entries.
	leastShardBytes = 4 << 10
	mostMaxBytes    = 1 << 62 // sums of two fit an int64
	mostShards      = 1 << 16 // 16 bits of the hash select one
	// shardsPerP: two goroutines of two Ps want the same lock once in sixteen times at most.
	shardsPerP = 8
	// roomyShardBytes is the least of a shard by default, so that values of some 100 KiB fit.
	roomyShardBytes = 1 << 20
)

// checked returns o with a number of shards, or an error that names the field, its value and the remedy.
func (o Options) checked() (Options, error) {
	if o.Shards == 0 {
		o.Shards = 1 << bits.Len(uint(shardsPerP*runtime.GOMAXPROCS(0)-1))
		for o.Shards > 1 && (o.Shards > mostShards || o.MaxBytes/int64(o.Shards) < roomyShardBytes) {
			o.Shards /= 2
		}
	}
	switch {
	case o.Shards < 1 || o.Shards > mostShards || o.Shards&(o.Shards-1) != 0:
		return o, fmt.Errorf("cache: Options.Shards %d: use a power of two from 1 to %d, or 0", o.Shards, mostShards)
	case o.TTL < 0:
		return o, fmt.Errorf("cache: Options.TTL %v: use a time above 0, or 0 for entries that do not expire", o.TTL)
	case !registered(o.Site):
		return o, fmt.Errorf("cache: Options.Site %d was not registered: use the result of hakmem.RegisterSite, or 0", o.Site)
	}
	return o, checkMaxBytes("Options.MaxBytes", o.MaxBytes, o.Shards)
}

func checkMaxBytes(name string, n int64, shards int) error {
	if n > mostMaxBytes || n/int64(shards) < leastShardBytes {
		return fmt.Errorf("cache: %s %d: use %d to %d for %d shards", name, n, int64(shards)*leastShardBytes, int64(mostMaxBytes), shards)
	}
	return nil
}

// registered reports whether the site is one, which hakmem checks by a panic.
func registered(s hakmem.Site) (ok bool) {
	if s == 0 {
		return true
	}
	defer func() { ok = recover() == nil }()
	hakmem.ReadSiteRule(s)
	return true
}

// moment is a time in nanoseconds since the cache was made. 0 is never.
type moment int64

// clock returns the function that reads now, or the monotonic clock if now is nil.
func clock(now func() time.Time) func() moment {
	if now == nil {
		now = time.Now
	}
	start := now()
	// Moment 0 is never, and Sub stops at the longest Duration.
	return func() moment { return moment(min(max(now().Sub(start), 0), math.MaxInt64-1)) + 1 }
}

// after returns the moment ttl later, or never if ttl is 0.
func (m moment) after(ttl time.Duration) moment {
	if ttl > 0 && m > math.MaxInt64-moment(ttl) {
		return math.MaxInt64
	}
	return m + moment(ttl)
}

var (
	// ErrClosed says that the cache was used after Close.
	ErrClosed = errors.New("cache: it was closed: make another with New")
	// ErrNoMemory says that hakmem had no memory for an entry, although others were removed. It comes wrapped.
	ErrNoMemory = errors.New("cache: out of memory")
)

// TooLargeError says that an entry does not fit into an empty shard. Nothing was evicted for it.
type TooLargeError struct {
	Size  int64 // bytes that the entry takes
	Limit int64 // the most that an entry may take
}

// Error names the size, the limit and the remedy.
func (e *TooLargeError) Error() string {
	return fmt.Sprintf("cache: key and value take %d bytes, and %d is the most for an entry: raise MaxBytes, use fewer Shards, or do not cache the value", e.Size, e.Limit)
}
