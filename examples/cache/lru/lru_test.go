package lru

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/asan"
)

// arena is a Memory for tests. It counts live blocks, rounds sizes up to 16 bytes, fails on demand,
// and overwrites freed blocks, so that a use after free reads wrong contents.
type arena struct{ *arenaState }

type arenaState struct {
	live, peak, blocks atomic.Int64
	failures           atomic.Int64 // how many of the next Allocs fail; negative: all
}

func newArena() arena { return arena{new(arenaState)} }

func (a arena) Cost(n int) int        { return max(16, (n+15)&^15) }
func (a arena) Bytes(b []byte) []byte { return b }

func (a arena) Alloc(n int) ([]byte, bool) {
	if f := a.failures.Load(); f != 0 {
		if f > 0 {
			a.failures.Add(-1)
		}
		return nil, false
	}
	a.blocks.Add(1)
	live := a.live.Add(int64(a.Cost(n)))
	for {
		peak := a.peak.Load()
		if live <= peak || a.peak.CompareAndSwap(peak, live) {
			break
		}
	}
	return make([]byte, n), true
}

func (a arena) Free(b []byte) {
	for i := range b {
		b[i] = 0xdd
	}
	a.blocks.Add(-1)
	a.live.Add(-int64(a.Cost(len(b))))
}

// store is what the behavioural tests use of a cache, whatever its memory.
type store interface {
	Set(key string, value []byte) error
	Get(key string) ([]byte, error)
	Append(dst []byte, key string) ([]byte, error)
	View(key string, f func([]byte)) error
	Delete(key string) (bool, error)
	Len() int
	Bytes() int64
	Stats() Stats
	ShardLimit() int64
	Close() error
	check(t *testing.T)
}

// check checks all invariants of a cache against its contents. Nothing else may use the cache
// meanwhile.
func (c *Cache[B, M]) check(t *testing.T) {
	t.Helper()
	for n := range c.shards {
		s := &c.shards[n]
		s.mu.Lock()
		if s.closed {
			if s.stats.Len != 0 || s.stats.Bytes != 0 || s.stats.ValueBytes != 0 {
				t.Errorf("shard %d is closed and still counts %+v", n, s.stats)
			}
			s.mu.Unlock()
			continue
		}
		var length int
		var size, values int64
		for i := s.slots[0].older; i != 0; i = s.slots[i].older {
			e := &s.slots[i]
			b := s.mem.Bytes(e.block)
			length++
			size += int64(s.mem.Cost(len(b)))
			values += int64(len(b)) - int64(e.keyLen)
			if s.slots[e.older].newer != i || s.slots[e.newer].older != i {
				t.Fatalf("shard %d: slot %d is linked one way only", n, i)
			}
			if got := s.find(e.hash, string(b[:e.keyLen])); got != i {
				t.Errorf("shard %d: slot %d of the ring is found as slot %d", n, i, got)
			}
		}
		for i := s.unused; i != 0; i = s.slots[i].next {
			length++
		}
		if got := len(s.slots) - 1; got != length {
			t.Errorf("shard %d: %d slots, but %d are in the ring or unused", n, got, length)
		}
		if s.stats.Bytes != size || s.stats.ValueBytes != values || size > s.limit {
			t.Errorf("shard %d: counts %d bytes, %d of values; it holds %d and %d; limit %d",
				n, s.stats.Bytes, s.stats.ValueBytes, size, values, s.limit)
		}
		s.mu.Unlock()
	}
}

// must unwraps a result that cannot fail.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// stores runs a test over each kind of memory, with one shard or more.
func stores(t *testing.T, limit int64, shards int, test func(t *testing.T, c store)) {
	t.Run("hakmem", func(t *testing.T) { test(t, must(New(Hakmem{}, limit, shards))) })
	t.Run("go", func(t *testing.T) { test(t, must(New(GoHeap{}, limit, shards))) })
	t.Run("arena", func(t *testing.T) {
		a := newArena()
		c := must(New(a, limit, shards))
		test(t, c)
		_ = c.Close()
		if a.live.Load() != 0 || a.blocks.Load() != 0 {
			t.Errorf("after Close %d bytes in %d blocks are alive", a.live.Load(), a.blocks.Load())
		}
	})
}

func set(t *testing.T, c store, key, value string) {
	t.Helper()
	if err := c.Set(key, []byte(value)); err != nil {
		t.Fatalf("Set(%q): %v", key, err)
	}
}

// expect checks that the key has the value, or, for the value "", that the key is missing.
func expect(t *testing.T, c store, key, value string) {
	t.Helper()
	got, err := c.Get(key)
	switch {
	case value == "" && !errors.Is(err, ErrMissing):
		t.Errorf("Get(%q) = %q, %v; want it missing", key, got, err)
	case value != "" && (err != nil || string(got) != value):
		t.Errorf("Get(%q) = %q, %v; want %q", key, got, err, value)
	}
}

func TestBasics(t *testing.T) {
	stores(t, 1<<20, 4, func(t *testing.T, c store) {
		defer c.Close()
		expect(t, c, "a", "")
		set(t, c, "a", "one")
		set(t, c, "b", "two")
		expect(t, c, "a", "one")
		set(t, c, "a", "a longer value than before")
		expect(t, c, "a", "a longer value than before")
		if c.Len() != 2 {
			t.Errorf("Len = %d, want 2", c.Len())
		}

		got, err := c.Append([]byte("dst "), "b")
		if string(got) != "dst two" || err != nil {
			t.Errorf("Append = %q, %v", got, err)
		}
		if got, err := c.Append([]byte("dst"), "none"); string(got) != "dst" || err != ErrMissing {
			t.Errorf("Append of a missing key = %q, %v", got, err)
		}
		called := false
		err = c.View("b", func(v []byte) {
			called = string(v) == "two" && cap(v) == 3
		})
		if !called || err != nil {
			t.Errorf("View: called properly: %v, %v", called, err)
		}
		if err := c.View("none", func([]byte) { t.Error("View calls f for a missing key") }); err != ErrMissing {
			t.Errorf("View of a missing key: %v", err)
		}

		if ok, err := c.Delete("a"); !ok || err != nil {
			t.Errorf("Delete = %v, %v", ok, err)
		}
		if ok, err := c.Delete("a"); ok || err != nil {
			t.Errorf("second Delete = %v, %v", ok, err)
		}
		expect(t, c, "a", "")
		if s := c.Stats(); s.Hits != 4 || s.Misses != 4 || s.Sets != 3 || s.Evictions != 0 || s.Len != 1 || s.ValueBytes != 3 {
			t.Errorf("Stats = %+v", s)
		}
		c.check(t)
	})
}

func TestEmptyKeysAndValues(t *testing.T) {
	stores(t, 1<<20, 1, func(t *testing.T, c store) {
		defer c.Close()
		for _, key := range []string{"", "k"} {
			if err := c.Set(key, nil); err != nil {
				t.Fatal(err)
			}
			v, err := c.Get(key)
			if v == nil || len(v) != 0 || err != nil {
				t.Errorf("Get(%q) = %#v, %v; want an empty value", key, v, err)
			}
		}
		set(t, c, "", "value of the empty key")
		expect(t, c, "", "value of the empty key")
		c.check(t)
	})
}

func TestValuesAreCopies(t *testing.T) {
	stores(t, 1<<20, 1, func(t *testing.T, c store) {
		defer c.Close()
		v := []byte("original")
		if err := c.Set("k", v); err != nil {
			t.Fatal(err)
		}
		copy(v, "XXXXXXXX")
		expect(t, c, "k", "original")
		got := must(c.Get("k"))
		copy(got, "YYYYYYYY")
		expect(t, c, "k", "original")
		_, _ = c.Delete("k")
		if string(got) != "YYYYYYYY" {
			t.Errorf("the caller's copy became %q when the key was deleted", got)
		}
	})
}

// TestOrder compares one shard with a list of keys, most recent first.
func TestOrder(t *testing.T) {
	const room = 8
	value := bytes.Repeat([]byte("v"), 500) // so that the cost is the same for all keys
	a := newArena()
	c := must(New(a, int64(room*a.Cost(len(value)+2)), 1))
	var model []string
	rng := rand.New(rand.NewPCG(1, 2))
	for step := range 20_000 {
		key := fmt.Sprintf("%02d", rng.IntN(2*room))
		i := slices.Index(model, key)
		switch op := rng.IntN(10); {
		case op < 5: // read
			_, err := c.Get(key)
			if (err == nil) != (i >= 0) {
				t.Fatalf("step %d: Get(%s): %v; the model has %v", step, key, err, model)
			}
			if i >= 0 {
				model = slices.Insert(slices.Delete(model, i, i+1), 0, key)
			}
		case op < 9: // write
			if err := c.Set(key, value); err != nil {
				t.Fatal(err)
			}
			if i >= 0 {
				model = slices.Delete(model, i, i+1)
			}
			model = slices.Insert(model, 0, key)
			model = model[:min(len(model), room)]
		default:
			if ok, _ := c.Delete(key); ok != (i >= 0) {
				t.Fatalf("step %d: Delete(%s) = %v; the model has %v", step, key, ok, model)
			}
			if i >= 0 {
				model = slices.Delete(model, i, i+1)
			}
		}
		if c.Len() != len(model) {
			t.Fatalf("step %d: Len = %d; the model has %v", step, c.Len(), model)
		}
	}
	c.check(t)
	var order []string
	s := &c.shards[0]
	for i := s.slots[0].older; i != 0; i = s.slots[i].older {
		order = append(order, string(s.slots[i].block[:s.slots[i].keyLen]))
	}
	if !slices.Equal(order, model) {
		t.Errorf("order of use is %v, want %v", order, model)
	}
}

func TestByteLimit(t *testing.T) {
	const limit = 256 << 10
	stores(t, limit, 4, func(t *testing.T, c store) {
		defer c.Close()
		rng := rand.New(rand.NewPCG(3, 4))
		value := make([]byte, 40<<10)
		for range 5_000 {
			n := rng.IntN(len(value))
			if rng.IntN(4) > 0 {
				n %= 500
			}
			if err := c.Set(fmt.Sprint("key ", rng.IntN(1000)), value[:n]); err != nil {
				t.Fatal(err)
			}
			if got := c.Bytes(); got > limit {
				t.Fatalf("Bytes = %d, above the limit of %d", got, limit)
			}
		}
		if c.Stats().Evictions == 0 {
			t.Error("nothing was evicted")
		}
		c.check(t)
	})
}

func TestReplacingEvictsNothingElse(t *testing.T) {
	a := newArena()
	c := must(New(a, 64, 1))
	for range 10 {
		for _, key := range []string{"a", "b", "c", "d"} {
			set(t, c, key, "value") // 16 bytes each: all four fit exactly
		}
	}
	if s := c.Stats(); s.Len != 4 || s.Evictions != 0 || s.Bytes != 64 {
		t.Errorf("Stats = %+v", s)
	}
}

func TestTooLarge(t *testing.T) {
	stores(t, 64<<10, 2, func(t *testing.T, c store) {
		defer c.Close()
		set(t, c, "k", "stays")
		for _, n := range []int{32 << 10, 1 << 20} { // the key makes the first one too large
			err := c.Set("k", make([]byte, n))
			var large *TooLargeError
			if !errors.As(err, &large) || large.Limit != 32<<10 || large.Size <= int64(n) {
				t.Fatalf("Set of %d bytes: %v", n, err)
			}
			for _, part := range []string{fmt.Sprint(large.Size), "32768 bytes", "raise"} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error %q does not say %q", err, part)
				}
			}
		}
		expect(t, c, "k", "stays")
		if got := c.Stats().Evictions; got != 0 {
			t.Errorf("%d entries were evicted for values that cannot fit", got)
		}
		// A value that fits exactly takes the whole shard.
		if err := c.Set("k", make([]byte, 32<<10-1)); err != nil {
			t.Errorf("a value of exactly the shard limit: %v", err)
		}
		c.check(t)
	})
}

func TestCollisions(t *testing.T) {
	for _, mask := range []uint64{0, 1, 3 << 62, 7} {
		c := must(New(newArena(), 1<<20, 4))
		c.mask = mask
		model := map[string]string{}
		rng := rand.New(rand.NewPCG(5, mask))
		for step := range 10_000 {
			key := fmt.Sprintf("key %d", rng.IntN(60))
			switch rng.IntN(4) {
			case 0:
				_, held := model[key]
				if ok := must(c.Delete(key)); ok != held {
					t.Fatalf("mask %#x: Delete(%q) = %v, want %v", mask, key, ok, held)
				}
				delete(model, key)
			case 1:
				model[key] = fmt.Sprintf("%s at step %d", key, step)
				set(t, c, key, model[key])
			default:
				expect(t, c, key, model[key])
			}
		}
		if c.Len() != len(model) {
			t.Errorf("mask %#x: Len = %d, want %d", mask, c.Len(), len(model))
		}
		c.check(t)
		_ = c.Close()
	}
}

func TestOutOfMemory(t *testing.T) {
	a := newArena()
	c := must(New(a, 1600, 1))
	fill := func() {
		for i := range 100 {
			set(t, c, fmt.Sprintf("%02d", i), "0123456789") // 16 bytes each
		}
	}
	fill()

	a.failures.Store(2) // the first try and the one after the first eviction
	set(t, c, "new", "value")
	if s := c.Stats(); s.Evictions != 3 || s.Len != 98 {
		t.Errorf("two failures: %+v; want 1 + 2 evictions and one entry more", s)
	}
	expect(t, c, "new", "value")
	c.check(t)

	fill()
	a.failures.Store(-1)
	err := c.Set("99", []byte("another"))
	if !errors.Is(err, ErrNoMemory) || !strings.Contains(err.Error(), "9 bytes") || !strings.Contains(err.Error(), "240 bytes") {
		t.Errorf("Set without memory: %v", err)
	}
	if c.Len() != 85 {
		t.Errorf("Len = %d; want 85 of 100 left after 1+2+4+8 evictions", c.Len())
	}
	expect(t, c, "99", "0123456789")
	c.check(t)

	a.failures.Store(0)
	set(t, c, "99", "another")
	expect(t, c, "99", "another")
	c.check(t)

	// With an empty cache there is nothing to evict, and no endless loop.
	empty := must(New(a, 1600, 1))
	a.failures.Store(-1)
	if err := empty.Set("k", nil); !errors.Is(err, ErrNoMemory) {
		t.Errorf("Set without memory in an empty cache: %v", err)
	}
	a.failures.Store(0)

	_ = c.Close()
	if a.live.Load() != 0 || a.blocks.Load() != 0 {
		t.Errorf("after Close %d bytes in %d blocks are alive", a.live.Load(), a.blocks.Load())
	}
}

// TestHakmemOutOfMemory asks hakmem for more memory than any machine has.
func TestHakmemOutOfMemory(t *testing.T) {
	for _, n := range []int{math.MaxInt, math.MaxInt - 1<<20} {
		if _, ok := (Hakmem{}).Alloc(n); ok {
			t.Errorf("hakmem has given a block of %d bytes", n)
		}
	}
}

func TestClose(t *testing.T) {
	stores(t, 1<<20, 4, func(t *testing.T, c store) {
		for i := range 100 {
			set(t, c, fmt.Sprint(i), strings.Repeat("v", i*10))
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if c.Len() != 0 || c.Bytes() != 0 {
			t.Errorf("after Close: %+v", c.Stats())
		}
		_, getErr := c.Get("1")
		_, delErr := c.Delete("1")
		for name, err := range map[string]error{
			"Set":    c.Set("1", nil),
			"Get":    getErr,
			"View":   c.View("1", func([]byte) { t.Error("View calls f after Close") }),
			"Delete": delErr,
			"Close":  c.Close(),
		} {
			if !errors.Is(err, ErrClosed) {
				t.Errorf("%s after Close: %v", name, err)
			}
		}
		c.check(t)
	})
}

// TestHakmemAccounting compares the cache's count of bytes with the allocator's. They are equal at
// all times, and Close brings the allocator's count back to where it was.
func TestHakmemAccounting(t *testing.T) {
	if asan.On {
		t.Skip("skipped: -asan; there each block is larger than its bytes, by 16 or more")
	}
	live := func() int64 {
		var s hakmem.Stats
		hakmem.ReadStats(&s)
		return int64(s.Live)
	}
	before := live()
	c := must(New(Hakmem{}, 1<<20, 2))
	rng := rand.New(rand.NewPCG(7, 8))
	value := make([]byte, 200<<10)
	for step := range 3_000 {
		n := rng.IntN(1 << rng.IntN(18))
		key := fmt.Sprint("key ", rng.IntN(500))
		if rng.IntN(5) == 0 {
			_ = must(c.Delete(key))
		} else if err := c.Set(key, value[:n]); err != nil {
			t.Fatal(err)
		}
		if step%100 == 0 {
			if got, want := live()-before, c.Bytes(); got != want {
				t.Fatalf("step %d: hakmem says %d bytes are live, the cache %d", step, got, want)
			}
		}
	}
	if c.Stats().Evictions == 0 {
		t.Error("nothing was evicted")
	}
	_ = c.Close()
	if got := live(); got != before {
		t.Errorf("hakmem has %d live bytes after Close, %d before the cache", got, before)
	}
}

// pattern fills value with contents that follow from key and length.
func pattern(key uint64, value []byte) []byte {
	x := key*0x9e3779b97f4a7c15 ^ uint64(len(value))
	for i := range value {
		x = x*6364136223846793005 + 1442695040888963407
		value[i] = byte(x >> 56)
	}
	return value
}

// TestStress has goroutines compete for few keys, with values of many lengths. At the end one of
// them closes the cache while the others still use it.
func TestStress(t *testing.T) {
	for _, procs := range []int{1, 2, 7} {
		t.Run(fmt.Sprint("procs=", procs), func(t *testing.T) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
			stores(t, 512<<10, 4, stress)
		})
	}
}

func stress(t *testing.T, c store) {
	const goroutines, keys, longest = 8, 300, 20 << 10
	steps := 4_000
	if testing.Short() {
		steps = 1_000
	}
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(9, uint64(g)))
			value, want, got := make([]byte, longest), make([]byte, longest), []byte(nil)
			for step := range steps {
				if g == 0 && step == steps*3/4 {
					if err := c.Close(); err != nil {
						t.Errorf("Close: %v", err)
					}
				}
				id := rng.Uint64N(keys)
				key := fmt.Sprint("key ", id)
				var err error
				switch op := rng.IntN(16); {
				case op == 0:
					_, err = c.Delete(key)
				case op < 8:
					err = c.Set(key, pattern(id, value[:rng.IntN(1<<rng.IntN(15))]))
				case op == 8:
					err = c.View(key, func(v []byte) {
						if !bytes.Equal(v, pattern(id, want[:len(v)])) {
							t.Errorf("View(%q): %d wrong bytes", key, len(v))
						}
					})
				default:
					got, err = c.Append(got[:0], key)
					if err == nil && !bytes.Equal(got, pattern(id, want[:len(got)])) {
						t.Errorf("Append(%q): %d wrong bytes", key, len(got))
					}
				}
				if err == ErrClosed {
					return
				}
				if err != nil && err != ErrMissing {
					t.Errorf("%v", err)
					return
				}
				if bytes := c.Bytes(); bytes > 512<<10 {
					t.Errorf("Bytes = %d, above the limit", bytes)
				}
			}
		})
	}
	wg.Wait()
	c.check(t)
	if c.Len() != 0 || c.Bytes() != 0 {
		t.Errorf("after Close: %+v", c.Stats())
	}
}

// TestRealUse checks that the memory really allocated never exceeds the limit by more than one
// block for each running Set.
func TestRealUse(t *testing.T) {
	const goroutines, limit, longest = 4, 256 << 10, 8 << 10
	a := newArena()
	c := must(New(a, limit, 2))
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(11, uint64(g)))
			value := make([]byte, longest-16)
			for range 3_000 {
				if err := c.Set(fmt.Sprint(rng.IntN(1000)), value[:rng.IntN(len(value))]); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	c.check(t)
	if a.live.Load() != c.Bytes() {
		t.Errorf("%d bytes are allocated, the cache counts %d", a.live.Load(), c.Bytes())
	}
	if peak := a.peak.Load(); peak > limit+goroutines*longest {
		t.Errorf("%d bytes were allocated at a time; limit %d", peak, limit)
	}
	_ = c.Close()
}

func TestViewPanicReleasesLock(t *testing.T) {
	c := must(New(newArena(), 1<<20, 1))
	set(t, c, "k", "v")
	func() {
		defer func() { _ = recover() }()
		_ = c.View("k", func([]byte) { panic("callback") })
	}()
	expect(t, c, "k", "v")
}

func TestNew(t *testing.T) {
	for _, tc := range []struct {
		limit  int64
		shards int
		err    string
	}{
		{1 << 20, 1, ""},
		{1 << 20, 64, ""},
		{1, 0, ""},
		{1 << 30, 0, ""},
		{0, 0, "limit of 0 bytes"},
		{-5, 1, "limit of -5 bytes"},
		{1 << 20, 3, "3 shards"},
		{1 << 20, -1, "-1 shards"},
		{1 << 20, 1 << 17, "131072 shards"},
		{8, 16, "8 bytes over 16 shards"},
	} {
		c, err := New(newArena(), tc.limit, tc.shards)
		if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
			t.Errorf("New(%d, %d): %v; want %q", tc.limit, tc.shards, err, tc.err)
		}
		if err == nil {
			_ = c.Close()
		}
	}
	for _, limit := range []int64{1, 1 << 20, 5 << 20, 1 << 30, 1 << 40} {
		n := int64(defaultShards(limit))
		if n < 1 || n&(n-1) != 0 || n > 1 && limit/n < roomyShardLimit || limit/n > maxShardLimit {
			t.Errorf("limit %d has %d shards by default", limit, n)
		}
	}
}

// TestGoHeapCost compares Cost with append, which rounds capacities up to what the runtime
// allocates.
func TestGoHeapCost(t *testing.T) {
	for n := 1; n < 200_000; n += 1 + n/50 {
		if got, want := (GoHeap{}).Cost(n), cap(slices.Grow([]byte(nil), n)); got != want {
			t.Errorf("Cost(%d) = %d, want %d", n, got, want)
		}
	}
}

// TestNoGoAllocations checks that a warm cache in hakmem's memory gives the garbage collector
// nothing to do.
func TestNoGoAllocations(t *testing.T) {
	if asan.On {
		t.Skip("skipped: -asan; there instrumented code allocates from Go's heap")
	}
	c := must(New(Hakmem{}, 1<<20, 2))
	defer c.Close()
	value, key, n := make([]byte, 4096), []byte("key 000"), 0
	step := func() {
		n++
		key[4], key[5], key[6] = byte('0'+n/100%10), byte('0'+n/10%10), byte('0'+n%10)
		if err := c.Set(string(key), value[:n*37%len(value)]); err != nil {
			t.Fatal(err)
		}
		value, _ = c.Append(value[:0], string(key))
		value = value[:cap(value)]
		if n%7 == 0 {
			_, _ = c.Delete(string(key))
		}
	}
	for range 5_000 {
		step()
	}
	if got := testing.AllocsPerRun(2_000, step); got != 0 {
		t.Errorf("%v Go allocations per step", got)
	}
}

func Example() {
	cache, err := NewHakmem(64 << 20) // 64 MiB of keys and values
	if err != nil {
		panic(err)
	}
	defer cache.Close()

	if err := cache.Set("greeting", []byte("hello")); err != nil {
		panic(err)
	}
	value, err := cache.Get("greeting")
	fmt.Printf("%s %v\n", value, err)
	_, err = cache.Get("nothing")
	fmt.Println(err)
	// Output:
	// hello <nil>
	// lru: no value for this key
}

func BenchmarkSet(b *testing.B) {
	value := make([]byte, 1000)
	b.Run("hakmem", func(b *testing.B) { benchmarkSet(b, must(NewHakmem(16<<20)), value) })
	b.Run("go", func(b *testing.B) { benchmarkSet(b, must(NewGoHeap(16<<20)), value) })
}

func benchmarkSet(b *testing.B, c store, value []byte) {
	defer c.Close()
	keys := make([]string, 1<<15)
	for i := range keys {
		keys[i] = fmt.Sprint("key ", i)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := c.Set(keys[i%len(keys)], value[:500+i%500]); err != nil {
			b.Fatal(err)
		}
	}
}
