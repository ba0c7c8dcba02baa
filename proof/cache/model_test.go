package cache

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/cache"
	"github.com/hakmem/hakmem/hakmemtest"
	"pgregory.net/rapid"
)

// TestModel: a key has the value that was set last, or none; it has none after its time to live, a Delete or a
// Clear. Bytes is within MaxBytes after each call, the counts add up, and OnEvict is called with what was in the
// cache.
func TestModel(t *testing.T) {
	hakmemtest.NoLeaks(t)
	reads, hits, left := uint64(0), uint64(0), map[cache.Reason]int{}
	rapid.Check(t, func(t *rapid.T) {
		m := newModel(t)
		defer m.c.Close() // where the test fails
		t.Repeat(map[string]func(*rapid.T){
			"Set":      m.set,
			"SetMany":  m.setMany,
			"Get":      m.get,
			"Delete":   m.delete,
			"Clear":    m.clear,
			"Shrink":   m.shrink,
			"Resize":   m.resize,
			"advance":  m.advance,
			"TooLarge": m.tooLarge,
			"Range":    m.rangeOver,
			"":         m.check,
		})
		reads += m.reads
		hits += m.c.Stats().Hits
		m.close(t)
		for r, n := range m.left {
			left[r] += n
		}
	})
	if reads >= 200 && (hits == 0 || len(left) != 6) { // -short has fewer
		t.Errorf("%d hits; entries left %v: want all six reasons", hits, left)
	}
	if err := hakmem.CheckInvariants(); err != nil {
		t.Error(err)
	}
}

// model is what is known of a cache.
type model struct {
	c     *cache.Cache
	now   time.Time
	has   map[string]entry // what may be in the cache: what Set has put there and OnEvict has not taken
	left  map[cache.Reason]int
	sets  uint64
	reads uint64
	wrong error // what OnEvict saw
	max   int64
}

type entry struct {
	value   []byte
	expires time.Time // zero: never
}

func newModel(t *rapid.T) *model {
	m := &model{now: time.Unix(1e9, 0), has: map[string]entry{}, left: map[cache.Reason]int{}}
	o := cache.Options{
		MaxBytes: m.drawMax(t),
		Shards:   shards,
		TTL:      m.drawTTL(t),
		Site:     rapid.SampledFrom([]hakmem.Site{0, hakmem.RegisterSite("proof/cache")}).Draw(t, "site"),
		Now:      func() time.Time { return m.now },
		OnEvict: func(key, value []byte, reason cache.Reason) {
			e, there := m.has[string(key)]
			if !there || !bytes.Equal(e.value, value) {
				m.wrong = fmt.Errorf("OnEvict(%q, %d bytes, %v): %t, the model has %d bytes", key, len(value), reason, there, len(e.value))
			}
			if expired := !e.expires.IsZero() && !m.now.Before(e.expires); reason == cache.Expired && !expired {
				m.wrong = fmt.Errorf("OnEvict(%q): not expired", key)
			}
			delete(m.has, string(key))
			m.left[reason]++
		},
	}
	c, err := cache.New(o)
	if err != nil {
		t.Fatal(err)
	}
	m.c, m.max = c, o.MaxBytes
	return m
}

const shards = 2

func (m *model) drawMax(t *rapid.T) int64 {
	// An odd one is divided among the shards, and one byte is not used.
	return rapid.Int64Range(shards*4096, 200_000).Draw(t, "max")
}

func (m *model) drawTTL(t *rapid.T) time.Duration {
	return rapid.SampledFrom([]time.Duration{0, 0, time.Second, time.Minute}).Draw(t, "ttl")
}

// drawKey draws one of few keys, so that they meet again.
func drawKey(t *rapid.T) string { return fmt.Sprint("key", rapid.IntRange(0, 7).Draw(t, "key")) }

func (m *model) set(t *rapid.T) {
	key, ttl := drawKey(t), m.drawTTL(t)
	value := bytes.Repeat([]byte{rapid.Byte().Draw(t, "byte")}, rapid.SampledFrom([]int{0, 1, 50, 300, 1500}).Draw(t, "length"))
	m.put(t, key, value, ttl)
}

func (m *model) put(t *rapid.T, key string, value []byte, ttl time.Duration) {
	if err := m.c.SetTTL(key, value, ttl); err != nil {
		t.Fatal(err)
	}
	if _, there := m.has[key]; there {
		t.Fatalf("%q is set again, and OnEvict was not called for what it had", key)
	}
	e := entry{value: value}
	if ttl > 0 {
		e.expires = m.now.Add(ttl)
	}
	m.has[key] = e
	m.sets++
	if !m.c.Contains(key) {
		t.Fatalf("%q was set and is not there", key)
	}
}

// setMany makes the index grow, and evicts.
func (m *model) setMany(t *rapid.T) {
	ttl, from := m.drawTTL(t), rapid.IntRange(0, 1000).Draw(t, "from")
	for i := range rapid.IntRange(1, 300).Draw(t, "n") {
		m.put(t, fmt.Sprint("many", from+i), []byte{byte(i)}, ttl)
	}
}

func (m *model) get(t *rapid.T) {
	key, how := drawKey(t), rapid.IntRange(0, 2).Draw(t, "how")
	var got []byte
	var found bool
	contains := m.c.Contains(key)
	before := m.c.Stats().Hits
	switch how {
	case 0:
		got, found = m.c.Get(key)
	case 1:
		got, found = m.c.GetInto([]byte("before"), key)
		if !bytes.HasPrefix(got, []byte("before")) {
			t.Fatalf("GetInto returns %q", got)
		}
		got = got[len("before"):]
	case 2:
		found = m.c.View(key, func(v []byte) { got = bytes.Clone(v) })
	}
	m.reads++
	e, there := m.has[key]
	expired := !e.expires.IsZero() && !m.now.Before(e.expires)
	if found != (there && !expired) || found != contains || found && !bytes.Equal(got, e.value) || !found && len(got) > 0 {
		t.Fatalf("%q: found %t, contained %t, %d bytes; the model has %t, expired %t, %d bytes", key, found, contains, len(got), there, expired, len(e.value))
	}
	if hits := m.c.Stats().Hits - before; (hits == 1) != found {
		t.Fatalf("found %t, %d hits", found, hits)
	}
}

func (m *model) delete(t *rapid.T) {
	key := drawKey(t)
	contains := m.c.Contains(key)
	if found := m.c.Delete(key); found != contains || m.c.Contains(key) {
		t.Fatalf("Delete(%q) = %t; it was there: %t", key, found, contains)
	}
}

func (m *model) clear(t *rapid.T) {
	if rapid.IntRange(0, 5).Draw(t, "really") > 0 {
		return
	}
	m.c.Clear()
	if len(m.has) > 0 || m.c.Len() > 0 {
		t.Fatalf("after Clear there are %d entries, and the model has %d", m.c.Len(), len(m.has))
	}
}

func (m *model) shrink(t *rapid.T) {
	want, before := rapid.Uint64Range(0, 100_000).Draw(t, "want"), m.c.Bytes()
	m.c.Shrink(want)
	if gave := before - m.c.Bytes(); gave < int64(want) && m.c.Len() > 0 {
		t.Fatalf("Shrink(%d) gave %d", want, gave)
	}
}

func (m *model) resize(t *rapid.T) {
	m.max = m.drawMax(t)
	if err := m.c.Resize(m.max); err != nil {
		t.Fatal(err)
	}
}

func (m *model) advance(t *rapid.T) {
	m.now = m.now.Add(rapid.SampledFrom([]time.Duration{1, time.Second, time.Minute}).Draw(t, "by"))
}

func (m *model) tooLarge(t *rapid.T) {
	key := drawKey(t)
	var large *cache.TooLargeError
	if err := m.c.Set(key, make([]byte, m.max)); !errors.As(err, &large) || large.Size <= large.Limit {
		t.Fatal(err)
	}
	if _, there := m.has[key]; there || m.c.Contains(key) {
		t.Fatalf("%q has its old value", key)
	}
}

// rangeOver compares what a Range shows with the model; its body may remove entries, which do not come later.
func (m *model) rangeOver(t *rapid.T) {
	stopAt := rapid.IntRange(0, 400).Draw(t, "stop at")
	deletes := rapid.Bool().Draw(t, "deletes")
	want := 0
	for _, e := range m.has {
		if e.expires.IsZero() || m.now.Before(e.expires) {
			want++
		}
	}
	seen := map[string]bool{}
	for key, value := range m.c.Range {
		k := string(key)
		e, there := m.has[k]
		if seen[k] || !there || !bytes.Equal(e.value, value) || !e.expires.IsZero() && !m.now.Before(e.expires) {
			t.Fatalf("Range shows %q: %d bytes, before: %t; the model has %t, %d bytes", k, len(value), seen[k], there, len(e.value))
		}
		seen[k] = true
		if deletes && len(seen)%2 == 1 && !m.c.Delete(k) {
			t.Fatalf("%q was shown and is not there", k)
		}
		if len(seen) == stopAt {
			break
		}
	}
	if n := len(seen); n != want && (n != stopAt || n > want) {
		t.Fatalf("Range shows %d entries, stop at %d, want %d", n, stopAt, want)
	}
}

// check is what holds after each call.
func (m *model) check(t *rapid.T) {
	s := m.c.Stats()
	values := int64(0)
	for _, e := range m.has {
		values += int64(len(e.value))
	}
	left := s.Evicted + s.Shrunk + s.Expired + s.Replaced + s.Deleted + s.Cleared
	switch {
	case m.wrong != nil:
		t.Fatal(m.wrong)
	case s.Bytes > s.MaxBytes || s.MaxBytes != m.max/shards*shards || s.Bytes != m.c.Bytes():
		t.Fatalf("%d bytes of %d, set %d", s.Bytes, s.MaxBytes, m.max)
	case s.Entries != len(m.has) || s.Entries != m.c.Len() || s.ValueBytes != values:
		t.Fatalf("%d entries with %d bytes of values; the model has %d with %d", s.Entries, s.ValueBytes, len(m.has), values)
	case s.Sets != m.sets || s.Hits+s.Misses != m.reads || s.Sets != uint64(s.Entries)+left:
		t.Fatalf("%+v; the model has %d sets and %d reads", s, m.sets, m.reads)
	}
	want := map[cache.Reason]int{}
	for r, n := range map[cache.Reason]uint64{cache.Evicted: s.Evicted, cache.Shrunk: s.Shrunk, cache.Expired: s.Expired,
		cache.Replaced: s.Replaced, cache.Deleted: s.Deleted, cache.Cleared: s.Cleared} {
		if n > 0 {
			want[r] = int(n)
		}
	}
	if !maps.Equal(m.left, want) {
		t.Fatalf("OnEvict was called %v times, the counts are %v", m.left, want)
	}
}

func (m *model) close(t *rapid.T) {
	if err := m.c.Close(); err != nil || len(m.has) > 0 || m.wrong != nil || m.c.Len() > 0 || m.c.Bytes() > 0 {
		t.Fatalf("Close: %v, %v; %d entries are left", err, m.wrong, len(m.has))
	}
	if err := m.c.Set("k", nil); !errors.Is(err, cache.ErrClosed) {
		t.Fatalf("Set after Close: %v", err)
	}
}
