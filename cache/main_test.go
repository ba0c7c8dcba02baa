package cache

import (
	"bytes"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hakmem/hakmem/hakmemtest"
	"github.com/hakmem/hakmem/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// newCache returns a cache that the test closes, and in which it looks for leaks and broken rules.
func newCache(t *testing.T, o Options) *Cache {
	t.Helper()
	hakmemtest.NoLeaks(t)
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.check(t)
		c.Close()
	})
	return c
}

// fakeClock is a clock that stands still.
type fakeClock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *fakeClock { return &fakeClock{now: time.Unix(1_000_000, 0)} }

func (c *fakeClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *fakeClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// check compares the index, the queues and the counts of every shard.
func (c *Cache) check(t testing.TB) {
	t.Helper()
	for i := range c.core.shards {
		s := &c.core.shards[i]
		s.mu.Lock()
		if err := s.broken(); err != nil {
			t.Errorf("shard %d: %v", i, err)
		}
		s.mu.Unlock()
	}
}

// broken returns the first rule that does not hold. mu is held.
func (s *shard) broken() error {
	if s.closed {
		if s.index.slots != nil || s.bytes() != 0 {
			return fmt.Errorf("closed, and %d bytes", s.bytes())
		}
		return nil
	}
	entries, expiring, values := 0, 0, int64(0)
	for _, q := range []*queue{&s.small, &s.main} {
		bytes, newer := int64(0), ref(0)
		for r := q.newest; r != 0; r = r.entry().older {
			e := r.entry()
			if e.newer != newer || s.queue(e) != q || e.refs.Load() < 1 {
				return fmt.Errorf("%q: newer %#x, want %#x; in queue %d, %d references", e.key(), e.newer, newer, e.at, e.refs.Load())
			}
			if i := s.index.find(s.hash.of(e.keyString()), e.keyString()); i < 0 || s.index.slots[i].at != r {
				return fmt.Errorf("%q is not in the index", e.key())
			}
			entries++
			bytes += e.cost()
			values += int64(e.valueLen)
			if e.expires != 0 {
				expiring++
			}
			newer = r
		}
		if q.oldest != newer || q.bytes != bytes {
			return fmt.Errorf("oldest %#x, want %#x; %d bytes, want %d", q.oldest, newer, q.bytes, bytes)
		}
	}
	used := 0
	for _, slot := range s.index.slots {
		if slot.at != 0 {
			used++
		}
	}
	left := uint64(0)
	for _, n := range s.counts.removed {
		left += n
	}
	switch {
	case used != entries || s.index.used != entries || s.expiring != expiring || s.counts.valueBytes != values:
		return fmt.Errorf("%d entries, %d slots in use, %d counted; %d expire, %d counted; %d bytes of values, %d counted",
			entries, used, s.index.used, expiring, s.expiring, values, s.counts.valueBytes)
	case s.bytes() > s.max:
		return fmt.Errorf("%d bytes, more than %d", s.bytes(), s.max)
	case s.counts.sets != uint64(entries)+left:
		return fmt.Errorf("%d sets, %d entries, %d left", s.counts.sets, entries, left)
	}
	return nil
}

// valueOf is a value that follows from a number and a length.
func valueOf(n, length int) []byte {
	return bytes.Repeat([]byte{byte(n), byte(n >> 8), byte(length)}, length/3+1)[:length]
}
