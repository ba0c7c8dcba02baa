package cache

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/hakmemtest"
	"github.com/hakmem/hakmem/internal/asan"
	"github.com/hakmem/hakmem/internal/testkit"
)

func set(t *testing.T, c *Cache, key, value string) {
	t.Helper()
	if err := c.Set(key, []byte(value)); err != nil {
		t.Fatalf("Set(%q): %v", key, err)
	}
}

func expect(t *testing.T, c *Cache, key, want string, found bool) {
	t.Helper()
	if got, ok := c.Get(key); ok != found || string(got) != want {
		t.Errorf("Get(%q) = %q, %t; want %q, %t", key, got, ok, want, found)
	}
}

func TestBasics(t *testing.T) {
	c := newCache(t, Options{MaxBytes: 1 << 20, Shards: 4})
	expect(t, c, "a", "", false)
	set(t, c, "a", "one")
	set(t, c, "b", "two")
	set(t, c, "", "empty key")
	set(t, c, "empty value", "")
	expect(t, c, "a", "one", true)
	expect(t, c, "", "empty key", true)
	if v, found := c.Get("empty value"); !found || v == nil || len(v) != 0 {
		t.Errorf("an empty value is %v, %t", v, found)
	}
	set(t, c, "a", "another, which is longer")
	expect(t, c, "a", "another, which is longer", true)
	if got, found := c.GetInto([]byte("x:"), "b"); !found || string(got) != "x:two" {
		t.Errorf("GetInto appends %q, %t", got, found)
	}
	if got, found := c.GetInto([]byte("x:"), "c"); found || string(got) != "x:" {
		t.Errorf("GetInto of nothing returns %q, %t", got, found)
	}
	seen := ""
	if !c.View("b", func(v []byte) { seen = string(v) }) || seen != "two" || c.View("c", func([]byte) { t.Error("called") }) {
		t.Errorf("View shows %q", seen)
	}
	before := c.Stats()
	if !c.Contains("a") || c.Contains("c") || c.Stats() != before {
		t.Errorf("Contains: %t, %t", c.Contains("a"), c.Contains("c"))
	}
	if !c.Delete("a") || c.Delete("a") || c.Contains("a") {
		t.Error("Delete")
	}
	if s := c.Stats(); s.Entries != 3 || c.Len() != 3 || s.Sets != 5 || s.Replaced != 1 || s.Deleted != 1 || s.Hits != 6 || s.Misses != 3 ||
		s.ValueBytes != int64(len("empty keytwo")) || s.MaxBytes != 1<<20 || c.Bytes() != s.Bytes || s.HitRate() != 6.0/9 {
		t.Errorf("%+v", s)
	}
	c.check(t)
	c.Clear()
	if s := c.Stats(); s.Entries != 0 || s.Cleared != 3 {
		t.Errorf("after Clear: %+v", s)
	}
	expect(t, c, "b", "", false)
	if (Stats{}).HitRate() != 0 {
		t.Error("the hit rate of nothing")
	}
}

func TestOptions(t *testing.T) {
	for _, tc := range []struct {
		o    Options
		want string // in the error; "": none
	}{
		{Options{}, "Options.MaxBytes 0: use"},
		{Options{MaxBytes: -1}, "Options.MaxBytes -1: use"},
		{Options{MaxBytes: 4095, Shards: 1}, "use 4096 to"},
		{Options{MaxBytes: 8191, Shards: 2}, "use 8192 to"},
		{Options{MaxBytes: 1<<62 + 1}, "4611686018427387904"},
		{Options{MaxBytes: 1 << 20, Shards: 3}, "Options.Shards 3: use a power of two"},
		{Options{MaxBytes: 1 << 20, Shards: -1}, "Options.Shards -1"},
		{Options{MaxBytes: 1 << 40, Shards: 1 << 17}, "Options.Shards 131072"},
		{Options{MaxBytes: 1 << 20, TTL: -1}, "Options.TTL -1ns: use"},
		{Options{MaxBytes: 1 << 20, Site: 65_000}, "Options.Site 65000 was not registered"},
		{Options{MaxBytes: 4096, Shards: 1}, ""},
		{Options{MaxBytes: 4096}, ""},
		{Options{MaxBytes: 1 << 30, Site: hakmem.RegisterSite("cache test")}, ""},
	} {
		c, err := New(tc.o)
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: %v, want %q", tc.o, err, tc.want)
		}
		if c != nil {
			set(t, c, "k", "v")
			expect(t, c, "k", "v", true)
			c.Close()
		}
	}
}

func TestBound(t *testing.T) {
	for _, tc := range []struct {
		shards, lengths int
		max             int64
	}{{1, 1, 4096}, {1, 100, 10_000}, {4, 3000, 1 << 17}, {1, 20_000, 1 << 16}, {8, 1, 1 << 20}} {
		t.Run(fmt.Sprint(tc), func(t *testing.T) {
			c := newCache(t, Options{MaxBytes: tc.max, Shards: tc.shards})
			r, top, sets := rand.New(rand.NewPCG(1, 2)), int64(0), 30_000
			if testing.Short() {
				sets = 10_000
			}
			for i := range sets {
				v := valueOf(i, r.IntN(tc.lengths))
				err := c.Set(fmt.Sprint(r.IntN(20_000)), v)
				if size := (*TooLargeError)(nil); err != nil && !errors.As(err, &size) {
					t.Fatal(err)
				}
				if i%64 == 0 {
					top = max(top, c.Bytes())
				}
			}
			if top > tc.max || top < tc.max/2 {
				t.Errorf("%d bytes at most, of %d", top, tc.max)
			}
		})
	}
}

func TestTooLarge(t *testing.T) {
	c := newCache(t, Options{MaxBytes: 1 << 16, Shards: 2})
	for i := range 2000 { // large indexes
		set(t, c, fmt.Sprint(i), "")
	}
	set(t, c, "k", "small")
	entries := c.Len()
	var large *TooLargeError
	err := c.Set("k", make([]byte, 1<<15))
	if !errors.As(err, &large) || large.Size < 1<<15 || large.Limit >= 1<<15 || !strings.Contains(err.Error(), "raise MaxBytes") {
		t.Errorf("%v", err)
	}
	if c.Contains("k") || c.Len() != entries-1 {
		t.Errorf("the old value is there: %t; %d entries", c.Contains("k"), c.Len())
	}
	// What fits into an empty shard fits.
	v := valueOf(1, int(large.Limit)-int(headerBytes)-1)
	v = v[:hakmem.GoodSize(uintptr(len(v)))/8*7-uintptr(headerBytes)]
	set(t, c, "k", string(v))
	expect(t, c, "k", string(v), true)
}

// TestCollisions: the cache distinguishes keys whose hashes are equal, or nearly, by their bytes.
func TestCollisions(t *testing.T) {
	for _, mask := range []uint64{0, 15, 1 << 63, 255 << 4} {
		c := newCache(t, Options{MaxBytes: 1 << 18, Shards: 2})
		c.core.hash.mask = mask
		for i := range c.core.shards {
			c.core.shards[i].hash.mask = mask
		}
		for i := range 500 {
			set(t, c, fmt.Sprint(i), fmt.Sprint("value ", i))
		}
		for i := 0; i < 500; i += 3 {
			c.Delete(fmt.Sprint(i))
		}
		for i := range 500 {
			if i%3 == 0 {
				expect(t, c, fmt.Sprint(i), "", false)
			} else {
				expect(t, c, fmt.Sprint(i), fmt.Sprint("value ", i), true)
			}
		}
		c.check(t)
	}
}

func TestTTL(t *testing.T) {
	clock := newClock()
	reasons := map[Reason]int{}
	c := newCache(t, Options{MaxBytes: 1 << 20, Shards: 1, TTL: time.Minute, Now: clock.Now, OnEvict: func(_, _ []byte, r Reason) { reasons[r]++ }})
	set(t, c, "default", "v")
	if err := c.SetTTL("short", []byte("v"), time.Second); err != nil {
		t.Error(err)
	}
	if err := c.SetTTL("forever", []byte("v"), 0); err != nil {
		t.Error(err)
	}
	if err := c.SetTTL("endless", []byte("v"), 1<<63-1); err != nil {
		t.Error(err)
	}
	if err := c.SetTTL("short", nil, -time.Second); err == nil || !strings.Contains(err.Error(), "SetTTL of -1s: use") {
		t.Errorf("%v", err)
	}
	clock.advance(time.Second - 1)
	expect(t, c, "short", "v", true)
	clock.advance(1)
	if c.Contains("short") {
		t.Error("Contains what has expired")
	}
	expect(t, c, "short", "", false)
	expect(t, c, "default", "v", true)
	clock.advance(time.Minute)
	if c.Len() != 3 {
		t.Errorf("%d entries", c.Len())
	}
	for i := range 3 { // three Sets see all 16 slots
		set(t, c, fmt.Sprint(i), "v")
	}
	if s := c.Stats(); s.Expired != 2 || s.Entries != 5 || reasons[Expired] != 2 {
		t.Errorf("%+v, %v", s, reasons)
	}
	expect(t, c, "forever", "v", true)
	expect(t, c, "endless", "v", true)
	clock.advance(time.Hour)
	c.Shrink(1 << 30)
	if s := c.Stats(); s.Expired != 5 || s.Shrunk != 2 || s.Entries != 0 {
		t.Errorf("%+v", s)
	}
}

// TestOnEvict: each reason is given, with key and value, while no lock is held.
func TestOnEvict(t *testing.T) {
	var c *Cache
	got := map[string]Reason{}
	c = newCache(t, Options{MaxBytes: 1 << 14, Shards: 1, OnEvict: func(key, value []byte, reason Reason) {
		if string(value) != "value of "+string(key) {
			t.Errorf("%q has %q", key, value)
		}
		c.Contains("a") // would wait for ever
		got[string(key)] = reason
	}})
	put := func(key string) { set(t, c, key, "value of "+key) }
	put("a")
	put("a")
	if got["a"] != Replaced {
		t.Errorf("%v", got)
	}
	c.Delete("a")
	if got["a"] != Deleted {
		t.Errorf("%v", got)
	}
	for i := range 1000 {
		put(fmt.Sprint(i))
	}
	if r, ok := got["0"]; !ok || r != Evicted {
		t.Errorf("%v, %t", r, ok)
	}
	put("b")
	c.Shrink(1 << 20)
	if got["b"] != Shrunk {
		t.Errorf("%v", got["b"])
	}
	put("c")
	c.Clear()
	put("d")
	c.Close()
	if got["c"] != Cleared || got["d"] != Cleared || Cleared.String() != "cleared" || Reason(77).String() != "Reason(77)" {
		t.Errorf("%v, %v", got["c"], got["d"])
	}
}

// TestOnEvictPanics: the panic goes on, and nothing is lost or left locked.
func TestOnEvictPanics(t *testing.T) {
	c := newCache(t, Options{MaxBytes: 1 << 16, Shards: 1, OnEvict: func(key, _ []byte, _ Reason) {
		if string(key) == "5" {
			panic("no")
		}
	}})
	for i := range 10 {
		set(t, c, fmt.Sprint(i), "v")
	}
	if v := testkit.PanicOf(c.Clear); v != "no" {
		t.Errorf("%v", v)
	}
	set(t, c, "a", "v")
	expect(t, c, "a", "v", true)
	if v := testkit.PanicOf(func() { c.View("a", func([]byte) { panic("no") }) }); v != "no" {
		t.Errorf("%v", v)
	}
}

// TestLease: what is read stays as it is until the reader is done, whatever removes it.
func TestLease(t *testing.T) {
	for name, remove := range map[string]func(c *Cache){
		"Delete":  func(c *Cache) { c.Delete("k") },
		"Set":     func(c *Cache) { _ = c.Set("k", []byte("another")) },
		"Clear":   (*Cache).Clear,
		"Shrink":  func(c *Cache) { c.Shrink(1 << 30) },
		"Close":   func(c *Cache) { c.Close() },
		"evicted": func(c *Cache) { fill(c, 10_000) },
	} {
		t.Run(name, func(t *testing.T) {
			c := newCache(t, Options{MaxBytes: 1 << 16, Shards: 1})
			want := valueOf(1, 1000)
			set(t, c, "k", string(want))
			found := c.View("k", func(outer []byte) {
				c.View("k", func(inner []byte) {
					remove(c)
					fill(c, 100) // would take the memory
					if !bytes.Equal(inner, want) || !bytes.Equal(outer, want) {
						t.Error("the value has changed")
					}
				})
				if !bytes.Equal(outer, want) {
					t.Error("the value has changed")
				}
			})
			if !found {
				t.Error("not found")
			}
		})
	}
}

func fill(c *Cache, n int) {
	for i := range n {
		_ = c.Set(fmt.Sprint(i), valueOf(2, 1000))
	}
}

func TestResize(t *testing.T) {
	c := newCache(t, Options{MaxBytes: 1 << 20, Shards: 4})
	fill(c, 5000)
	if err := c.Resize(1 << 16); err != nil || c.Bytes() > 1<<16 || c.Len() == 0 || c.Stats().MaxBytes != 1<<16 {
		t.Errorf("%v: %+v", err, c.Stats())
	}
	c.check(t)
	var large *TooLargeError
	if err := c.Set("k", make([]byte, 1<<15)); !errors.As(err, &large) {
		t.Errorf("%v", err)
	}
	if err := c.Resize(1 << 21); err != nil {
		t.Error(err)
	}
	fill(c, 5000)
	if c.Bytes() < 1<<20 {
		t.Errorf("%+v", c.Stats())
	}
	if err := c.Resize(100); err == nil || !strings.Contains(err.Error(), "100: use 16384 to") {
		t.Errorf("%v", err)
	}
}

// TestResizeIndex: an index that is larger than what is left becomes smaller, so that entries stay.
func TestResizeIndex(t *testing.T) {
	c := newCache(t, Options{MaxBytes: 4 << 20, Shards: 1})
	for i := range 20_000 {
		set(t, c, fmt.Sprint(i), "")
	}
	index := c.core.shards[0].index.bytes
	if err := c.Resize(index / 2); err != nil {
		t.Fatal(err)
	}
	if s := c.Stats(); s.Bytes > index/2 || s.Bytes < index/4 || s.Entries < 1000 {
		t.Errorf("the index had %d bytes: %+v", index, s)
	}
	for i := range 20_000 {
		set(t, c, fmt.Sprint(i), "")
	}
}

// TestShrink: it gives up what is asked for, not much more, and the index becomes smaller.
func TestShrink(t *testing.T) {
	c := newCache(t, Options{MaxBytes: 1 << 22, Shards: 4})
	fill(c, 10_000)
	before := c.Bytes()
	c.Shrink(1 << 20)
	if gave := before - c.Bytes(); gave < 1<<20 || gave > 1<<20+1<<18 {
		t.Errorf("%d given up", gave)
	}
	c.check(t)
	c.Shrink(1 << 63)
	if s := c.Stats(); s.Entries != 0 || s.Bytes != 4*leastIndexBytes {
		t.Errorf("%+v", s)
	}
}

// TestClock: no time that a clock says is the moment 0, which is never.
func TestClock(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	now := start
	moments := clock(func() time.Time { return now })
	for _, test := range []struct {
		now  time.Time
		want moment
	}{
		{start, 1},
		{start.Add(5), 6},
		{start.Add(-1), 1},
		{start.Add(-time.Hour), 1},
		{start.AddDate(-1000, 0, 0), 1},
		{start.AddDate(1000, 0, 0), math.MaxInt64}, // more than the longest Duration
	} {
		if now = test.now; moments() != test.want {
			t.Errorf("at %v: %d, want %d", now, moments(), test.want)
		}
	}
}

func TestClosed(t *testing.T) {
	c := newCache(t, Options{MaxBytes: 1 << 20})
	set(t, c, "k", "v")
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	expect(t, c, "k", "", false)
	c.Clear()
	c.Shrink(1)
	for _, n := range []int{0, 100, 2 << 20} { // the last is too large for the cache
		if err := c.Set("k", make([]byte, n)); !errors.Is(err, ErrClosed) {
			t.Errorf("Set of %d bytes: %v", n, err)
		}
	}
	if c.Contains("k") || c.Delete("k") || c.View("k", nil) || !errors.Is(c.Resize(1<<20), ErrClosed) || !errors.Is(c.Close(), ErrClosed) {
		t.Error("found in a closed cache")
	}
	if s := c.Stats(); s.Entries != 0 || s.Bytes != 0 || s.Cleared != 1 || s.Hits+s.Misses != 0 {
		t.Errorf("%+v", s)
	}
}

var _ = testkit.Child("no memory", withoutMemory)

// TestNoMemory: a cache that may have more than hakmem gives it goes on with what there is.
func TestNoMemory(t *testing.T) { testkit.InChild(t, "no memory", "") }

func withoutMemory(string) error {
	const limit = 32 << 20
	if err := hakmem.SetMemoryLimit(0, limit); err != nil {
		return err
	}
	c, err := New(Options{MaxBytes: 1 << 30, Shards: 8})
	if err != nil {
		return err
	}
	refused := 0
	for i := range 6_000 {
		key, length := fmt.Sprint(i), i*37%10_000
		if i%100 == 0 {
			length = 2 << 20
		}
		err := c.Set(key, valueOf(i, length))
		switch got, found := c.Get(key); {
		case errors.Is(err, ErrNoMemory):
			refused++
			if found {
				return fmt.Errorf("%s was refused and found", key)
			}
		case err != nil:
			return err
		case !found || !bytes.Equal(got, valueOf(i, length)):
			return fmt.Errorf("%s was set: found %t", key, found)
		}
	}
	s := c.Stats()
	if s.Shrunk == 0 || s.Entries == 0 || s.Bytes > limit || refused > 600 {
		return fmt.Errorf("%d refused, %+v", refused, s)
	}
	// The cache gives all that it has, and says that it is not enough.
	if err := c.Set("large", make([]byte, limit)); !errors.Is(err, ErrNoMemory) || !strings.Contains(err.Error(), "raise hakmem's memory limit") {
		return fmt.Errorf("a value as large as all memory: %v", err)
	}
	for n := 1 << 20; n >= 16; { // now others have it
		if hakmem.Malloc(uintptr(n)) == nil {
			n /= 2
		}
	}
	if _, err := New(Options{MaxBytes: 1 << 40, Shards: 1 << 16}); !errors.Is(err, ErrNoMemory) {
		return fmt.Errorf("New: %v", err)
	}
	if err := c.Close(); err != nil {
		return err
	}
	return hakmem.CheckInvariants()
}

// entriesOf returns what a Range shows. A key that comes twice fails the test.
func entriesOf(t *testing.T, c *Cache) map[string]string {
	t.Helper()
	all := map[string]string{}
	for key, value := range c.Range {
		if _, twice := all[string(key)]; twice {
			t.Errorf("%q comes twice", key)
		}
		all[string(key)] = string(value)
	}
	return all
}

func TestRange(t *testing.T) {
	clock := newClock()
	c := newCache(t, Options{MaxBytes: 1 << 20, Shards: 4, Now: clock.Now})
	if got := entriesOf(t, c); len(got) != 0 {
		t.Errorf("an empty cache has %v", got)
	}
	want := map[string]string{"": "empty key", "empty value": ""}
	for i := range 1000 {
		want[fmt.Sprint(i)] = fmt.Sprint("value ", i)
	}
	for k, v := range want {
		set(t, c, k, v)
	}
	if err := c.SetTTL("expires", nil, time.Second); err != nil {
		t.Error(err)
	}
	clock.advance(time.Second)
	before := c.Stats()
	if got := entriesOf(t, c); !maps.Equal(got, want) {
		t.Errorf("%d entries, want %d", len(got), len(want))
	}
	if c.Stats() != before {
		t.Errorf("Range has changed the counts: %+v, before %+v", c.Stats(), before)
	}
	n := 0
	for range c.Range {
		if n++; n == 5 {
			break
		}
	}
	if n != 5 {
		t.Errorf("%d entries came", n)
	}
	if v := testkit.PanicOf(func() { c.Range(func(_, _ []byte) bool { panic("no") }) }); v != "no" {
		t.Errorf("%v", v)
	}
	for key := range c.Range { // the body may remove what it is shown, and anything else
		if found := c.Delete(string(key)); !found {
			t.Errorf("%q is not there", key)
		}
	}
	if n := len(entriesOf(t, c)); n != 0 {
		t.Errorf("all were deleted, and %d come", n)
	}
	set(t, c, "k", "v")
	for key, value := range c.Range {
		c.Close()
		if string(key) != "k" || string(value) != "v" {
			t.Errorf("after Close the body sees %q, %q", key, value)
		}
	}
	if n := len(entriesOf(t, c)); n != 0 {
		t.Errorf("a closed cache shows %d entries", n)
	}
}

// TestRangeExpires: an entry that expires while the body takes its time for another one is not shown.
func TestRangeExpires(t *testing.T) {
	clock := newClock()
	c := newCache(t, Options{MaxBytes: 1 << 20, Shards: 1, TTL: time.Minute, Now: clock.Now})
	c.core.hash.mask, c.core.shards[0].hash.mask = 0, 0 // all have one home, and are leased together
	for i := range 10 {
		set(t, c, fmt.Sprint(i), "v")
	}
	n := 0
	for range c.Range {
		n++
		clock.advance(time.Minute)
	}
	if n != 1 {
		t.Errorf("%d entries come", n)
	}
}

// TestRangeWhileTheIndexChanges: whatever becomes of the index, entries that stay come once, and no entry comes twice.
func TestRangeWhileTheIndexChanges(t *testing.T) {
	seeds := uint64(8)
	if testing.Short() {
		seeds = 2
	}
	for _, mask := range []uint64{math.MaxUint64, 0, 15, 255 << 4} {
		for seed := range seeds {
			t.Run(fmt.Sprintf("%#x, seed %d", mask, seed), func(t *testing.T) { rangeWhileTheIndexChanges(t, mask, seed) })
		}
	}
}

func rangeWhileTheIndexChanges(t *testing.T, mask, seed uint64) {
	stay, many := 300, 500
	if mask != math.MaxUint64 {
		stay, many = 60, 50 // searches are long
	}
	c := newCache(t, Options{MaxBytes: 1 << 22, Shards: 2})
	c.core.hash.mask = mask
	for i := range c.core.shards {
		c.core.shards[i].hash.mask = mask
	}
	r := rand.New(rand.NewPCG(seed, mask))
	others := 0
	change := func(n int) { // makes the index grow by new entries, or shrink
		if r.IntN(2) == 0 {
			for range n {
				set(t, c, fmt.Sprint("other ", others), "v")
				others++
			}
			return
		}
		for range min(n, others) {
			others--
			c.Delete(fmt.Sprint("other ", others))
		}
	}
	resize := func() { // as compact and grow do, and further
		s := &c.core.shards[r.IntN(len(c.core.shards))]
		s.mu.Lock()
		defer s.mu.Unlock()
		if slots := leastSlots << r.IntN(9); (s.index.used+1)*4 <= slots*3 && !s.index.resize(0, slots) {
			t.Error("no memory")
		}
	}
	for i := range stay {
		set(t, c, fmt.Sprint(i), fmt.Sprint("value ", i))
	}
	change(many)
	seen := map[string]bool{}
	for key, value := range c.Range {
		k := string(key)
		if seen[k] {
			t.Errorf("%q comes twice", k)
		}
		seen[k] = true
		var n int
		if _, err := fmt.Sscan(k, &n); err == nil && string(value) != fmt.Sprint("value ", n) {
			t.Errorf("%q has %q", k, value)
		}
		resize()
		if r.IntN(20) == 0 {
			change(r.IntN(many))
		}
	}
	for i := range stay {
		if !seen[fmt.Sprint(i)] {
			t.Errorf("%d does not come", i)
		}
	}
}

// TestStress: many goroutines use all methods at once; each value read is one that was set for its key.
func TestStress(t *testing.T) {
	var evicted atomic.Uint64
	c := newCache(t, Options{MaxBytes: 1 << 18, Shards: 2, OnEvict: func(key, value []byte, _ Reason) {
		evicted.Add(1)
		verify(t, string(key), value)
	}})
	ops := 30_000
	if testing.Short() {
		ops = 6_000
	}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 0))
			var buf []byte
			for range ops {
				n := int(r.ExpFloat64() * 100)
				key := fmt.Sprint(n)
				switch r.IntN(20) {
				case 0:
					c.Delete(key)
				case 1, 2, 3, 4, 5:
					if err := c.SetTTL(key, valueOf(n, n%7*r.IntN(500)), time.Duration(r.IntN(3)*1000)); err != nil {
						t.Error(err)
					}
				case 6:
					if r.IntN(200) == 0 {
						c.Clear()
					}
					c.Shrink(uint64(r.IntN(1000)))
				case 7:
					if err := c.Resize(int64(1<<17 + r.IntN(1<<17))); err != nil {
						t.Error(err)
					}
				case 8:
					if s := c.Stats(); s.Bytes > s.MaxBytes {
						t.Errorf("%+v", s)
					}
					if r.IntN(50) == 0 {
						left := r.IntN(200)
						c.Range(func(key, value []byte) bool {
							verify(t, string(key), value)
							left--
							return left > 0
						})
					}
				case 9, 10, 11, 12, 13:
					c.View(key, func(v []byte) { verify(t, key, v) })
				default:
					var found bool
					if buf, found = c.GetInto(buf[:0], key); found {
						verify(t, key, buf)
					}
				}
			}
		})
	}
	wg.Wait()
	if s := c.Stats(); evicted.Load() != s.Sets-uint64(s.Entries) {
		t.Errorf("OnEvict was called %d times: %+v", evicted.Load(), s)
	}
}

func verify(t *testing.T, key string, v []byte) {
	var n int
	if _, err := fmt.Sscan(key, &n); err != nil || !bytes.Equal(v, valueOf(n, len(v))) {
		t.Errorf("%s has a wrong value of %d bytes", key, len(v))
	}
}

// TestNoGoAllocations: nothing is allocated in Go's heap for a read, nor for a Set.
func TestNoGoAllocations(t *testing.T) {
	if testkit.Race || asan.On {
		t.Skip("skipped: the detectors allocate")
	}
	c, err := New(Options{MaxBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	keys, value, buf, i := make([]string, 5000), valueOf(1, 300), make([]byte, 0, 400), 0
	for i := range keys {
		keys[i] = fmt.Sprint("key ", i)
		set(t, c, keys[i], string(value))
	}
	sum := 0
	for name, do := range map[string]func(key string){
		"GetInto":  func(key string) { buf, _ = c.GetInto(buf[:0], key) },
		"View":     func(key string) { c.View(key, func(v []byte) { sum += len(v) }) },
		"Contains": func(key string) { c.Contains(key) },
		"Set":      func(key string) { _ = c.Set(key, value) },
		"SetTTL":   func(key string) { _ = c.SetTTL(key, value, time.Hour) },
		"Delete":   func(key string) { c.Delete(key) },
	} {
		if n := testing.AllocsPerRun(2000, func() { i++; do(keys[i%len(keys)]) }); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
	if s := c.Stats(); s.Evicted == 0 || s.Hits == 0 {
		t.Errorf("not what is meant: %+v", s)
	}
}

// TestSite: the blocks are those of the site.
func TestSite(t *testing.T) {
	hakmemtest.NoLeaks(t)
	site := hakmem.RegisterSite("cache of TestSite")
	c, err := New(Options{MaxBytes: 1 << 20, Shards: 1, Site: site})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	set(t, c, "k", "v")
	blocks, bytes := 0, int64(0)
	for b := range hakmem.LiveBlocks() {
		if b.Site == site {
			blocks++
			bytes += int64(hakmem.UsableSize(b.Pointer()))
		}
	}
	if blocks != 2 || bytes != c.Bytes() {
		t.Errorf("%d blocks of %d bytes; the cache says %d", blocks, bytes, c.Bytes())
	}
}

func BenchmarkGetInto(b *testing.B) {
	c, keys := filled(b)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		buf, i := make([]byte, 0, 1000), rand.IntN(len(keys))
		for pb.Next() {
			buf, _ = c.GetInto(buf[:0], keys[i%len(keys)])
			i++
		}
	})
}

func BenchmarkView(b *testing.B) {
	c, keys := filled(b)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		i := rand.IntN(len(keys))
		for pb.Next() {
			c.View(keys[i%len(keys)], func([]byte) {})
			i++
		}
	})
}

func BenchmarkSet(b *testing.B) {
	c, keys := filled(b)
	value := valueOf(1, 500)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		i := rand.IntN(len(keys))
		for pb.Next() {
			if err := c.Set(keys[i%len(keys)], value); err != nil {
				b.Error(err)
			}
			i++
		}
	})
}

// filled returns a cache of 16 MiB with as many values of 500 bytes as fit, and twice as many keys.
func filled(b *testing.B) (*Cache, []string) {
	c, err := New(Options{MaxBytes: 16 << 20})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	keys := make([]string, 60_000)
	for i := range keys {
		keys[i] = fmt.Sprint("key ", i)
		if err := c.Set(keys[i], valueOf(i, 500)); err != nil {
			b.Fatal(err)
		}
	}
	return c, keys
}
