package hakmemsqlite_test

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"github.com/hakmem/hakmem"
	hakmemsqlite "github.com/hakmem/hakmem/adapters/sqlite"
	"github.com/hakmem/hakmem/hakmemtest"
	"modernc.org/sqlite"
)

const (
	pageSize  = 4096 // SQLite's default
	extraSize = 200  // about what SQLite asks for
)

// pageBytes is what the pool counts for such a page: its block.
var pageBytes = int64(hakmemsqlite.PageBytes(pageSize, extraSize))

func create(t testing.TB, p *hakmemsqlite.Pool, purgeable bool) sqlite.Cache {
	t.Helper()
	c, err := p.Create(pageSize, extraSize, purgeable)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Destroy)
	return c
}

// put makes pages with these keys, which nobody uses afterwards.
func put(t testing.TB, c sqlite.Cache, keys ...uint32) {
	t.Helper()
	for _, k := range keys {
		c.Unpin(take(t, c, k), false)
	}
}

// take returns a page, which stays in use.
func take(t testing.TB, c sqlite.Cache, key uint32) sqlite.Page {
	t.Helper()
	p := c.Fetch(key, sqlite.FetchCreateForce)
	if p == nil {
		t.Fatalf("no page for key %d", key)
	}
	return p
}

// keys returns which of the keys below 10 are in a cache.
func keys(c sqlite.Cache) (found []uint32) {
	for k := range uint32(10) {
		if p := c.Fetch(k, sqlite.FetchLookup); p != nil {
			found = append(found, k)
		}
	}
	return found
}

// TestRules goes through what SQLite asks of a page cache. In each case the cache has what is left at the end.
func TestRules(t *testing.T) {
	for _, c := range []struct {
		name   string
		memory bool // the database is
		do     func(t *testing.T, c sqlite.Cache)
		left   []uint32
	}{
		{"nothing", false, func(t *testing.T, c sqlite.Cache) {}, nil},
		{"a page stays when it is used no more", false, func(t *testing.T, c sqlite.Cache) {
			p := take(t, c, 7)
			c.Unpin(p, false)
			if q := c.Fetch(7, sqlite.FetchLookup); q != p {
				t.Errorf("the page has become another: %v, %v", p, q)
			}
		}, []uint32{7}},
		{"a page in use is found again, and one end of use is enough", false, func(t *testing.T, c sqlite.Cache) {
			p := take(t, c, 7)
			if q := take(t, c, 7); q != p {
				t.Errorf("the page in use has become another: %v, %v", p, q)
			}
			c.Unpin(p, false)
			c.Shrink()
		}, nil},
		{"a page that is discarded goes", false, func(t *testing.T, c sqlite.Cache) {
			c.Unpin(take(t, c, 1), true)
		}, nil},
		{"in memory, a page goes in any case", true, func(t *testing.T, c sqlite.Cache) {
			c.Unpin(take(t, c, 1), false)
		}, nil},
		{"an easy page is refused when all are in use", false, func(t *testing.T, c sqlite.Cache) {
			c.SetSize(2)
			take(t, c, 1)
			take(t, c, 2)
			for range 2 {
				if p := c.Fetch(3, sqlite.FetchCreateEasy); p != nil {
					t.Error("it was not refused")
				}
			}
		}, []uint32{1, 2}},
		{"an easy page takes the place of one that is not in use", false, func(t *testing.T, c sqlite.Cache) {
			c.SetSize(2)
			put(t, c, 1)
			take(t, c, 2)
			if p := c.Fetch(3, sqlite.FetchCreateEasy); p == nil {
				t.Error("it was refused")
			}
		}, []uint32{2, 3}},
		{"a page by force is one more when all are in use", false, func(t *testing.T, c sqlite.Cache) {
			c.SetSize(2)
			take(t, c, 1)
			take(t, c, 2)
			take(t, c, 3)
		}, []uint32{1, 2, 3}},
		{"the page one more goes when it is used no more", false, func(t *testing.T, c sqlite.Cache) {
			c.SetSize(1)
			take(t, c, 1)
			c.Unpin(take(t, c, 2), false)
		}, []uint32{1}},
		{"the page that was not used for the longest time goes", false, func(t *testing.T, c sqlite.Cache) {
			c.SetSize(3)
			put(t, c, 1, 2, 3)
			put(t, c, 1) // used again
			put(t, c, 4)
		}, []uint32{1, 3, 4}},
		{"a smaller size takes effect at once", false, func(t *testing.T, c sqlite.Cache) {
			put(t, c, 0, 1, 2, 3, 4)
			c.SetSize(2)
		}, []uint32{3, 4}},
		{"size 0 keeps nothing that is not in use", false, func(t *testing.T, c sqlite.Cache) {
			put(t, c, 0, 1)
			take(t, c, 2)
			c.SetSize(0)
		}, []uint32{2}},
		{"a size below 0 is none", false, func(t *testing.T, c sqlite.Cache) {
			c.SetSize(2)
			c.SetSize(-1)
			put(t, c, 0, 1, 2, 3)
		}, []uint32{0, 1, 2, 3}},
		{"pages in use are more than the size", false, func(t *testing.T, c sqlite.Cache) {
			take(t, c, 1)
			take(t, c, 2)
			c.SetSize(1)
		}, []uint32{1, 2}},
		{"a page gets another key", false, func(t *testing.T, c sqlite.Cache) {
			p := take(t, c, 1)
			c.Rekey(p, 1, 5)
			if q := c.Fetch(5, sqlite.FetchLookup); q != p {
				t.Errorf("key 5 has %v, want %v", q, p)
			}
		}, []uint32{5}},
		{"the page that had the key goes", false, func(t *testing.T, c sqlite.Cache) {
			p := take(t, c, 1)
			put(t, c, 5)
			c.Rekey(p, 1, 5)
			if q := c.Fetch(5, sqlite.FetchLookup); q != p {
				t.Errorf("key 5 has %v, want %v", q, p)
			}
		}, []uint32{5}},
		{"pages from a key on go, in use or not", false, func(t *testing.T, c sqlite.Cache) {
			put(t, c, 0, 1, 2, 3)
			take(t, c, 4)
			c.Truncate(3)
		}, []uint32{0, 1, 2}},
		{"key 0 and all others go", false, func(t *testing.T, c sqlite.Cache) {
			take(t, c, 0)
			put(t, c, 1)
			c.Truncate(0)
		}, nil},
		{"Shrink leaves what is in use", false, func(t *testing.T, c sqlite.Cache) {
			put(t, c, 1)
			take(t, c, 2)
			c.Shrink()
		}, []uint32{2}},
		{"a closed cache does nothing", false, func(t *testing.T, c sqlite.Cache) {
			p := take(t, c, 1)
			c.Destroy()
			c.Destroy()
			if q := c.Fetch(2, sqlite.FetchCreateForce); q != nil {
				t.Errorf("it has a page: %v", q)
			}
			c.Unpin(p, false)
			c.Rekey(p, 1, 2)
			c.SetSize(1)
			c.Shrink()
			c.Truncate(0)
		}, nil},
		{"a page of another cache is left alone", false, func(t *testing.T, c sqlite.Cache) {
			other := create(t, hakmemsqlite.New(hakmemsqlite.Options{}), true)
			p := take(t, other, 1)
			put(t, c, 1)
			c.Unpin(p, true)
			c.Rekey(p, 1, 2)
			if q := other.Fetch(1, sqlite.FetchLookup); q != p {
				t.Error("the other cache lost its page")
			}
		}, []uint32{1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			hakmemtest.NoLeaks(t)
			p := hakmemsqlite.New(hakmemsqlite.Options{})
			cache := create(t, p, !c.memory)
			c.do(t, cache)
			if n := cache.PageCount(); n != len(c.left) {
				t.Errorf("there are %d pages, want %v", n, c.left)
			}
			if got := keys(cache); !slices.Equal(got, c.left) {
				t.Errorf("the keys are %v, want %v", got, c.left)
			}
			cache.Destroy()
			if s := p.Stats(); s.Databases != 0 || s.Pages != 0 || s.Bytes != 0 {
				t.Errorf("after Destroy: %+v", s)
			}
		})
	}
}

// TestFreshPages: the extra bytes of a page are zero when it is new, also in memory that a page had before.
func TestFreshPages(t *testing.T) {
	hakmemtest.NoLeaks(t)
	c := create(t, hakmemsqlite.New(hakmemsqlite.Options{}), true)
	c.SetSize(3)
	for k := range uint32(30) {
		p := take(t, c, k)
		extra := unsafe.Slice((*byte)(p.Extra()), extraSize)
		if slices.ContainsFunc(extra, func(b byte) bool { return b != 0 }) {
			t.Fatalf("page %d: %v", k, extra)
		}
		for i := range extra {
			extra[i] = 0xAA
		}
		for i := range unsafe.Slice((*byte)(p.Buf()), pageSize) {
			*(*byte)(unsafe.Add(p.Buf(), i)) = 0x55
		}
		c.Unpin(p, k%5 == 0)
	}
}

// TestPadding: SQLite may read 74 bytes behind a page. They are the page's own.
func TestPadding(t *testing.T) {
	for _, size := range []struct{ page, extra int }{{512, 0}, {4096, 1}, {4096, 200}, {32 << 10, 200}, {64 << 10, 200}} {
		c, err := hakmemsqlite.New(hakmemsqlite.Options{}).Create(size.page, size.extra, true)
		if err != nil {
			t.Fatal(err)
		}
		p := take(t, c, 1)
		if got := uintptr(p.Extra()) - uintptr(p.Buf()); got != uintptr(size.page) {
			t.Errorf("%v: the extra bytes are %d bytes from the page", size, got)
		}
		if n := hakmem.UsableSize(p.Buf()); n < uintptr(size.page+max(size.extra, 74)) {
			t.Errorf("%v: the block has %d bytes", size, n)
		}
		c.Destroy()
	}
}

// TestBudget: the page goes that was not used for the longest time, whichever database has it, and the
// budget is exceeded only by what cannot be given up.
func TestBudget(t *testing.T) {
	hakmemtest.NoLeaks(t)
	p := hakmemsqlite.New(hakmemsqlite.Options{Bytes: 6 * pageBytes})
	a, b := create(t, p, true), create(t, p, true)
	put(t, a, 0, 1, 2)
	put(t, b, 3, 4, 5)
	put(t, a, 0) // used again
	put(t, b, 6) // page 1 of a goes
	if got := [][]uint32{keysKept(a), keysKept(b)}; fmt.Sprint(got) != "[[0 2] [3 4 5 6]]" {
		t.Errorf("the databases have %v", got)
	}
	if s := p.Stats(); s.Pages != 6 || s.Bytes != 6*pageBytes || s.Evictions != 1 {
		t.Errorf("%+v", s)
	}
	// What is in use stays.
	var used []sqlite.Page
	for k := range uint32(8) {
		used = append(used, take(t, b, k))
	}
	if q := b.Fetch(9, sqlite.FetchCreateEasy); q != nil {
		t.Error("a page was easy to have beyond the budget")
	}
	if s := p.Stats(); s.Pages != 8 || a.PageCount() != 0 || s.Refusals != 1 {
		t.Errorf("all in use: %+v, the other database has %d", s, a.PageCount())
	}
	for _, q := range used {
		b.Unpin(q, false)
	}
	if s := p.Stats(); s.Pages != 6 {
		t.Errorf("used no more: %+v", s)
	}
	if n := p.Shrink(); n != 6*pageBytes {
		t.Errorf("Shrink returns %d bytes, want %d", n, 6*pageBytes)
	}
	if s := p.Stats(); s.Pages != 0 || s.Databases != 2 {
		t.Errorf("after Shrink: %+v", s)
	}
	if err := p.Close(); err == nil || !strings.Contains(err.Error(), "2 databases are open") {
		t.Errorf("Close of a pool with open databases: %v", err)
	}
	put(t, b, 0, 1, 2) // before those of the other
	put(t, a, 3, 4, 5)
	put(t, a, 6)
	if got := [][]uint32{keysKept(a), keysKept(b)}; fmt.Sprint(got) != "[[3 4 5 6] [1 2]]" {
		t.Errorf("the databases have %v", got)
	}
	s := p.Stats()
	a.Destroy()
	b.Destroy()
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	s.Databases, s.Pages, s.Bytes = 0, 0, 0
	if closed := p.Stats(); closed != s { // what they did is still counted
		t.Errorf("after close %+v, before %+v", closed, s)
	}
}

// TestSites: each open database has a site of its own, and those of closed ones are used again.
func TestSites(t *testing.T) {
	hakmemtest.NoLeaks(t)
	p := hakmemsqlite.New(hakmemsqlite.Options{})
	live := func() map[string]uint64 {
		found := map[string]uint64{}
		var s hakmem.Stats
		hakmem.ReadStats(&s)
		for _, site := range s.Sites {
			if site.LiveBlocks > 0 && strings.HasPrefix(site.Name, "sqlite ") {
				found[site.Name] = site.LiveBlocks
			}
		}
		return found
	}
	first, second, third := create(t, p, true), create(t, p, true), create(t, p, false)
	put(t, first, 1)
	put(t, second, 1, 2)
	take(t, third, 1)
	want := map[string]uint64{"sqlite database 1": 1, "sqlite database 2": 2, "sqlite memory 3": 1} // a page has a block
	if got := live(); !maps.Equal(got, want) {
		t.Errorf("the sites have %v blocks, want %v", got, want)
	}
	first.Destroy()
	put(t, create(t, p, true), 1, 2, 3)
	want["sqlite database 1"] = 3
	if got := live(); !maps.Equal(got, want) {
		t.Errorf("with a new database the sites have %v blocks, want %v", got, want)
	}
}

// keysKept is keys of a cache whose pages are not in use, and are not afterwards. It changes no order.
func keysKept(c sqlite.Cache) []uint32 {
	found := keys(c)
	for _, k := range found {
		c.Unpin(c.Fetch(k, sqlite.FetchLookup), false)
	}
	return found
}

// TestBadValues: they are refused with the value.
func TestBadValues(t *testing.T) {
	func() {
		defer func() {
			if e := recover(); e == nil || !strings.Contains(fmt.Sprint(e), "-5") {
				t.Errorf("a budget of -5: %v", e)
			}
		}()
		hakmemsqlite.New(hakmemsqlite.Options{Bytes: -5})
	}()
	if c, err := hakmemsqlite.New(hakmemsqlite.Options{}).Create(0, 100, true); c != nil || err == nil {
		t.Errorf("pages of 0 bytes: %v, %v", c, err)
	}
}

// TestParallel: connections that take each other's pages find in every page what they wrote there.
func TestParallel(t *testing.T) {
	hakmemtest.NoLeaks(t)
	const connections, most = 4, 200
	rounds := 20_000
	if testing.Short() {
		rounds = 4_000
	}
	p := hakmemsqlite.New(hakmemsqlite.Options{Bytes: connections * most / 4 * pageBytes})
	var wg sync.WaitGroup
	for g := range connections {
		c := create(t, p, true)
		wg.Go(func() { churn(t, c, uint64(g), rounds, most) })
	}
	wg.Wait()
	s := p.Stats()
	if s.Evictions == 0 || s.Hits == 0 || s.Misses == 0 {
		t.Errorf("the connections did not meet: %+v", s)
	}
	if s.Bytes > connections*most/4*pageBytes+connections*inUse*pageBytes {
		t.Errorf("%d bytes are in pages, the budget is %d", s.Bytes, connections*most/4*pageBytes)
	}
}

// inUse is how many pages churn uses at once.
const inUse = 5

// churn is a connection. It writes into both ends of each page who wrote it and when.
func churn(t *testing.T, c sqlite.Cache, seed uint64, rounds int, most uint32) {
	r := rand.New(rand.NewPCG(seed, 18))
	wrote := map[uint32]uint64{}
	var held []sqlite.Page
	var heldKeys []uint32
	done := func(i int, discard bool) {
		if k := heldKeys[i]; discard {
			delete(wrote, k)
		}
		c.Unpin(held[i], discard)
		held, heldKeys = slices.Delete(held, i, i+1), slices.Delete(heldKeys, i, i+1)
	}
	for i := range rounds {
		key := r.Uint32N(most)
		if slices.Contains(heldKeys, key) {
			continue
		}
		if len(held) == inUse {
			done(r.IntN(inUse), r.IntN(20) == 0)
		}
		pg := c.Fetch(key, sqlite.FetchCreateForce)
		if pg == nil {
			t.Errorf("no page for key %d", key)
			return
		}
		first := unsafe.Slice((*byte)(pg.Extra()), 8)
		last := unsafe.Slice((*byte)(unsafe.Add(pg.Buf(), pageSize-8)), 8)
		if v := binary.LittleEndian.Uint64(first); v != 0 && (v != wrote[key] || binary.LittleEndian.Uint64(last) != v) {
			t.Errorf("page %d of connection %d has %x and %x, want %x", key, seed, first, last, wrote[key])
			return
		}
		v := seed<<32 | uint64(i) + 1
		wrote[key] = v
		binary.LittleEndian.PutUint64(first, v)
		binary.LittleEndian.PutUint64(last, v)
		held, heldKeys = append(held, pg), append(heldKeys, key)
	}
	for len(held) > 0 {
		done(0, false)
	}
}
