package lru

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
)

func newCache(t *testing.T, limit int64) *Cache {
	t.Helper()
	c, err := New(limit)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func set(t *testing.T, c *Cache, key, value string) {
	t.Helper()
	if err := c.Set(key, []byte(value)); err != nil {
		t.Fatalf("Set(%q): %v", key, err)
	}
}

func expect(t *testing.T, c *Cache, key, want string, found bool) {
	t.Helper()
	if got, ok := c.GetInto(nil, key); ok != found || string(got) != want {
		t.Errorf("GetInto(%q) = %q, %t; want %q, %t", key, got, ok, want, found)
	}
}

// TestOrder: the least recently used entries go, and replacing takes nothing else away.
func TestOrder(t *testing.T) {
	c := newCache(t, 64) // four blocks of 16 bytes, in one shard
	for _, key := range []string{"a", "b", "c", "d"} {
		set(t, c, key, "0123456789")
	}
	expect(t, c, "a", "0123456789", true)
	set(t, c, "b", "another")
	set(t, c, "e", "0123456789")
	for key, found := range map[string]bool{"a": true, "b": true, "c": false, "d": true, "e": true} {
		want := map[bool]string{true: "0123456789"}[found]
		if key == "b" {
			want = "another"
		}
		expect(t, c, key, want, found)
	}
	if s := c.Stats(); s.Evictions != 1 || s.Len != 4 || s.Sets != 6 || s.Bytes > 64 || s.ValueBytes != 37 {
		t.Errorf("%+v", s)
	}
}

// TestModel compares it with a map: a key has the value that was set last, or none.
func TestModel(t *testing.T) {
	for _, mask := range []uint64{^uint64(0), 3, 0} { // hashes that collide, too
		c, model, r := newCache(t, 1<<14), map[string]string{}, rand.New(rand.NewPCG(1, 2))
		c.mask = mask
		found := 0
		for range 20_000 {
			key := fmt.Sprint(r.IntN(300))
			if r.IntN(2) == 0 {
				model[key] = strings.Repeat(key, r.IntN(100))
				set(t, c, key, model[key])
			} else if got, ok := c.GetInto([]byte("x"), key); ok && string(got) != "x"+model[key] {
				t.Fatalf("%s has %q, want %q", key, got, model[key])
			} else if ok {
				found++
			}
			if s := c.Stats(); s.Bytes > 1<<14 {
				t.Fatalf("%+v", s)
			}
		}
		if found == 0 {
			t.Error("nothing was found")
		}
	}
}

func TestErrors(t *testing.T) {
	for _, limit := range []int64{0, -1, 1 << 62} {
		if c, err := New(limit); err == nil {
			t.Errorf("New(%d) has %d shards", limit, c.Shards())
		}
	}
	c := newCache(t, 100)
	set(t, c, "k", "old")
	var large *TooLargeError
	if err := c.Set("k", make([]byte, 100)); !errors.As(err, &large) || large.Limit != c.ShardLimit() {
		t.Errorf("%v", err)
	}
	expect(t, c, "k", "old", true)
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	expect(t, c, "k", "", false)
	if !errors.Is(c.Set("k", nil), ErrClosed) || !errors.Is(c.Close(), ErrClosed) {
		t.Error("a closed cache takes values")
	}
}

func TestStress(t *testing.T) {
	c := newCache(t, 4<<20)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 1))
			for range 10_000 {
				key := fmt.Sprint(r.IntN(10_000))
				if got, found := c.GetInto(nil, key); found && string(got) != strings.Repeat(key, 200) {
					t.Errorf("%s has %d bytes that are wrong", key, len(got))
				}
				_ = c.Set(key, []byte(strings.Repeat(key, 200)))
			}
		})
	}
	wg.Wait()
	if c.Stats().Evictions == 0 {
		t.Error("nothing was evicted")
	}
}

// TestBlockSize: a block is as large as the runtime makes it.
func TestBlockSize(t *testing.T) {
	for n, want := range map[int]int{1: 8, 8: 8, 9: 16, 33: 48, 1025: 1152, 32 << 10: 32 << 10, 32<<10 + 1: 40 << 10} {
		if got := blockSize(n); got != want {
			t.Errorf("a block of %d bytes takes %d, want %d", n, got, want)
		}
	}
}
