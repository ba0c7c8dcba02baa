package fastcache

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/hakmemtest"
)

func key(i int) []byte   { return fmt.Appendf(nil, "key %d", i) }
func value(i int) []byte { return fmt.Appendf(nil, "value %d", i) }

func stats(c *Cache) Stats {
	var s Stats
	c.UpdateStats(&s)
	return s
}

// noise is n bytes that no other seed has.
func noise(n int, seed uint64) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(b)
	return b
}

// TestModel: a cache with room for everything is a map.
func TestModel(t *testing.T) {
	hakmemtest.NoLeaks(t)
	c := New(256 << 20)
	defer c.Close()
	model := map[string]string{}
	r := rand.New(rand.NewPCG(1, 1))
	steps := 100_000
	if testing.Short() {
		steps = 10_000
	}
	for range steps {
		k := key(r.IntN(2000))
		switch r.IntN(8) {
		case 0:
			c.Del(k)
			delete(model, string(k))
		case 1, 2, 3:
			v := bytes.Repeat([]byte{byte(r.Uint32())}, r.IntN(300))
			c.Set(k, v)
			model[string(k)] = string(v)
			clear(v) // the cache has its own copy
		default:
			want, there := model[string(k)]
			got, ok := c.HasGet([]byte("before "), k)
			if ok != there || string(got) != "before "+want || c.Has(k) != there || string(c.Get(nil, k)) != want {
				t.Fatalf("%s: %q, %t, want %q, %t", k, got, ok, want, there)
			}
		}
	}
	if s := stats(c); s.EntriesCount != uint64(len(model)) || s.Collisions+s.Corruptions+s.MemoryErrors != 0 {
		t.Errorf("%d entries, want %d; %+v", s.EntriesCount, len(model), s)
	}
}

// TestLimits: what is too long is not stored, what is just short enough is.
func TestLimits(t *testing.T) {
	hakmemtest.NoLeaks(t)
	c := New(1)
	defer c.Close()
	for _, x := range []struct {
		key, value int
		fits       bool
	}{
		{0, 0, true}, {0, 1, true}, {1, 0, true},
		{10, 65_521, true}, {65_531, 0, true}, {0, 65_531, true},
		{10, 65_522, false}, {65_532, 0, false}, {0, 65_532, false},
		{40_000, 40_000, false}, {90_000, 1, false}, {1, 100_000, false},
	} {
		k, v := noise(x.key, 1), noise(x.value, 2)
		c.Set(k, v)
		got, ok := c.HasGet(nil, k)
		if ok != x.fits || ok && !bytes.Equal(got, v) {
			t.Errorf("key of %d and value of %d bytes: stored %t, want %t", x.key, x.value, ok, x.fits)
		}
		c.Del(k)
	}
	for _, bytes := range []int{0, -1, 1 << 50} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("New(%d) does not panic", bytes)
				}
			}()
			New(bytes)
		}()
	}
}

// TestWrap: a full cache keeps its size and its newest entries, and its index forgets the others.
func TestWrap(t *testing.T) {
	hakmemtest.NoLeaks(t)
	c := New(2 * minBytes)
	defer c.Close()
	const length = 5000
	var values [100][]byte
	for i := range values {
		values[i] = noise(length, uint64(i))
	}
	total := 2 * 2 * minBytes / length // two passes over the ring
	for i := range total {
		c.Set(key(i), values[i%100])
	}
	kept := 0
	for i := range total {
		if got, ok := c.HasGet(nil, key(i)); ok {
			kept++
			if !bytes.Equal(got, values[i%100]) {
				t.Fatalf("%s has another value", key(i))
			}
		}
	}
	s := stats(c)
	if most := 2 * minBytes / length; kept < most/2 || kept > most {
		t.Errorf("%d entries of %d bytes are there, want %d to %d", kept, length, most/2, most)
	}
	if s.BytesSize > 2*minBytes || s.MaxBytesSize != 2*minBytes || s.EntriesCount > uint64(2*kept) || s.Collisions+s.Corruptions > 0 {
		t.Errorf("%+v", s)
	}
}

// TestGenerations: the number of passes over the ring may exceed its 24 bits.
func TestGenerations(t *testing.T) {
	hakmemtest.NoLeaks(t)
	c := New(1)
	defer c.Close()
	k := []byte("a key")
	b := c.bucketOf(hashOf(k))
	b.gen = maxPass - 2
	var others [2][]byte
	for i, n := 0, 0; n < len(others); i++ { // two keys of the same bucket, of which three entries fill the ring
		if o := []byte(strconv.Itoa(i)); c.bucketOf(hashOf(o)) == b {
			others[n] = o
			n++
		}
	}
	for i := range 20 {
		v := noise(30_000, uint64(i))
		for _, k := range [][]byte{k, others[0], others[1]} {
			c.Set(k, v)
			if got := c.Get(nil, k); !bytes.Equal(got, v) {
				t.Fatalf("gen %#x: a new entry is not there", b.gen)
			}
		}
		if got := c.Get(nil, others[0]); !bytes.Equal(got, v) {
			t.Fatalf("gen %#x: the entry before is not there", b.gen)
		}
	}
	if b.gen < maxPass+5 {
		t.Errorf("gen is %#x: it did not pass 2^24", b.gen)
	}
}

// siteBytes returns the memory of all caches.
func siteBytes() uint64 {
	var s hakmem.Stats
	hakmem.ReadStats(&s)
	for _, site := range s.Sites {
		if site.Name == "fastcache" {
			return uint64(site.LiveBytes)
		}
	}
	return 0
}

// TestReset: Reset gives all memory back and leaves a cache to use, Close one that stores nothing.
func TestReset(t *testing.T) {
	hakmemtest.NoLeaks(t)
	c := New(1)
	before := siteBytes()
	for range 3 {
		for i := range 5000 {
			c.Set(key(i), value(i))
		}
		c.SetBig(key(1), noise(100_000, 1))
		s := stats(c)
		if got := siteBytes() - before; got < s.BytesSize+s.IndexBytesSize || s.BytesSize < 10<<20 || s.IndexBytesSize < 5000*uint64(slotSize) {
			t.Errorf("the site has %d bytes: %+v", got, s)
		}
		c.Reset()
		if got := siteBytes(); got > before {
			t.Errorf("%d bytes are left after Reset", got-before)
		}
		if s := stats(c); s != (Stats{MaxBytesSize: minBytes}) {
			t.Errorf("after Reset: %+v", s)
		}
		if got, ok := c.HasGet(nil, key(1)); ok || got != nil {
			t.Errorf("after Reset there is %q", got)
		}
	}
	c.Set(key(1), value(1))
	c.Close()
	c.Close()
	c.Set(key(1), value(1))
	c.SetBig(key(2), value(2))
	c.Del(key(1))
	if c.Has(key(1)) || c.GetBig(nil, key(2)) != nil || siteBytes() > before {
		t.Error("a closed cache has an entry")
	}
	c.Reset()
	c.Set(key(1), value(1))
	if c.Has(key(1)) {
		t.Error("Reset has opened a closed cache")
	}
}

// TestResetLeavesNothing: what is resident after Reset, once the free pages are returned, does not grow with the cache.
func TestResetLeavesNothing(t *testing.T) {
	hakmemtest.NoLeaks(t)
	var s hakmem.Stats
	resident := func() int64 {
		hakmem.ReadStats(&s)
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(s.Resident + m.HeapAlloc)
	}
	c := New(2 * minBytes)
	defer c.Close()
	v := noise(1000, 1)
	fill := func() {
		for i := range 2 * minBytes / len(v) {
			c.Set(key(i), v)
		}
	}
	fill() // hakmem's tables for it are there then
	c.Reset()
	hakmem.Trim()
	before := resident()
	if s.ResidentBy.Tables == 0 {
		t.Skip("skipped: the system does not say what is resident")
	}
	fill()
	full := resident() - before
	c.Reset()
	hakmem.Trim()
	left := resident() - before
	if full < minBytes || left > full/50 {
		t.Errorf("%d bytes are left of %d", left, full)
	}
}

// TestHoldScale: the pages of a cache are kept for a shorter time than others, unless the site has a rule already.
func TestHoldScale(t *testing.T) {
	New(1).Close()
	c := New(1)
	defer c.Close()
	c.Set(key(1), value(1))
	if set, _ := hakmem.ReadSiteRule(theSite()); set != (hakmem.SiteRule{HoldScale: holdScale}) {
		t.Errorf("the rule is %+v", set)
	}
	other, want := hakmem.RegisterSite("another cache"), hakmem.SiteRule{HoldScale: 3}
	hakmem.SetSiteRule(other, want)
	setRule(other)
	if set, _ := hakmem.ReadSiteRule(other); set != want {
		t.Errorf("the rule %+v became %+v", want, set)
	}
}

// TestDropped: a cache without Reset or Close is closed after a collection.
func TestDropped(t *testing.T) {
	hakmemtest.NoLeaks(t)
	before := siteBytes()
	func() {
		c := New(1)
		for i := range 1000 {
			c.Set(key(i), value(i))
		}
	}()
	if siteBytes() == before {
		t.Error("the cache has no memory")
	}
	for deadline := time.Now().Add(time.Minute); siteBytes() > before; runtime.Gosched() { // cleanups have a goroutine of their own
		runtime.GC()
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes are left", siteBytes()-before)
		}
	}
}

// TestMemoryLimit: where hakmem has no memory, the cache works with what it has.
func TestMemoryLimit(t *testing.T) {
	hakmemtest.NoLeaks(t)
	c := New(64 * minBytes)
	defer c.Close()
	for i := range 2000 { // most buckets have a chunk
		c.Set(key(i), value(i))
	}
	hakmem.Trim()
	soft, hard, err := hakmem.SwapMemoryLimit(0, hakmem.Counted()+4<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer hakmem.SetMemoryLimit(soft, hard)
	v := noise(3000, 1)
	stored := 0
	for i := range 12_000 { // 36 MB, where hakmem has room for 4 more
		c.Set(key(i), v)
		if got := c.Get(nil, key(i)); bytes.Equal(got, v) {
			stored++
		} else if len(got) > 0 {
			t.Fatalf("%s has %d other bytes", key(i), len(got))
		}
	}
	if s := stats(c); s.MemoryErrors == 0 || stored < 6000 {
		t.Errorf("of 12000 entries %d were stored: %+v", stored, s)
	}
}

// TestConcurrent: all methods at once. Values are right or not there.
func TestConcurrent(t *testing.T) {
	hakmemtest.NoLeaks(t)
	c := New(1)
	dir := t.TempDir()
	var workers sync.WaitGroup
	for seed := range uint64(4) {
		workers.Go(func() {
			r := rand.New(rand.NewPCG(seed, 3))
			for n := range 3000 {
				i := r.IntN(500)
				v := bytes.Repeat(value(i), 100)
				c.Set(key(i), v)
				if got := c.Get(nil, key(i)); len(got) > 0 && !bytes.Equal(got, v) {
					t.Errorf("%s has %d other bytes", key(i), len(got))
				}
				switch {
				case n%1000 == 500 && seed == 1:
					c.Reset()
				case n%500 == 250 && seed == 2:
					stats(c)
				case n%10 == 0:
					c.Del(key(r.IntN(500)))
				}
			}
		})
	}
	workers.Go(func() {
		for range 2 {
			if err := c.SaveToFileConcurrent(dir+"/cache", 2); err != nil {
				t.Error(err)
			}
			loaded, err := LoadFromFile(dir + "/cache")
			if err != nil {
				t.Error(err)
				continue
			}
			loaded.Close()
		}
	})
	workers.Wait()
	c.Close()
}

// TestBig: values of all lengths, and what is none.
func TestBig(t *testing.T) {
	hakmemtest.NoLeaks(t)
	c := New(128 << 20)
	defer c.Close()
	lengths := []int{0, 1, 100, partSize - 1, partSize, partSize + 1, 2 * partSize, 200_000, 1 << 20}
	for i, n := range lengths {
		c.SetBig(key(i), noise(n, uint64(i)))
	}
	for i, n := range lengths {
		if got := c.GetBig([]byte("before"), key(i)); !bytes.Equal(got, append([]byte("before"), noise(n, uint64(i))...)) {
			t.Errorf("%d bytes: got %d others", n, len(got))
		}
	}
	if got := c.GetBig(nil, key(100)); got != nil {
		t.Errorf("a key that is not there has %d bytes", len(got))
	}
	c.SetBig(noise(maxBigKey+1, 1), value(1))
	c.Set(key(101), value(1))                                 // not of SetBig
	c.Set(key(102), append(noise(8, 1), noise(8, 2)...))      // as if it had a length beyond everything
	c.Set(key(103), append(noise(8, 1), 0, 0, 0, 0, 0, 0, 9)) // too short
	var pair [bigHead]byte
	c.Set(key(104), bigPair(&pair, 77, 9)) // parts that are not there
	c.Set(key(105), bigPair(&pair, 78, 9))
	c.Set(bigPair(&pair, 78, 0), []byte("123456789")) // with another hash
	c.Set(key(106), bigPair(&pair, 79, 9))
	c.Set(bigPair(&pair, 79, 0), []byte("1234567890")) // too long
	for i := 101; i <= 106; i++ {
		if got := c.GetBig([]byte("before"), key(i)); string(got) != "before" {
			t.Errorf("%s: %q", key(i), got)
		}
	}
	want := BigStats{GetBigCalls: uint64(len(lengths)) + 7, SetBigCalls: uint64(len(lengths)) + 1, TooBigKeyErrors: 1, InvalidMetavalueErrors: 2, InvalidValueLenErrors: 2, InvalidValueHashErrors: 1}
	if got := stats(c).BigStats; got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// TestAllocations: nothing is allocated on the Go heap where dst is long enough.
func TestAllocations(t *testing.T) {
	c := New(1)
	defer c.Close()
	k, v := key(1), noise(1000, 1)
	big := noise(100_000, 1)
	dst := make([]byte, 0, 200_000)
	c.Set(k, v)
	c.SetBig(v, big)
	for name, f := range map[string]func(){
		"Set":    func() { c.Set(k, v) },
		"Get":    func() { dst = c.Get(dst[:0], k) },
		"Has":    func() { c.Has(k) },
		"SetBig": func() { c.SetBig(v, big) },
		"GetBig": func() { dst = c.GetBig(dst[:0], v) },
	} {
		if n := testing.AllocsPerRun(100, f); n >= 1 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}
