package engine

import (
	"math/rand/v2"
	"testing"

	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/osmem"
)

// grown commits n bytes of the region, for tests that need pages to exist.
func grown(t *testing.T, n mem.Bytes) {
	if !Ready() {
		t.Fatal(Survived())
	}
	region.mu.Lock()
	defer region.mu.Unlock()
	if have := region.committed.Load(); mem.Bytes(have) < n {
		if err := grow(n - mem.Bytes(have)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPartialSetAgainstModel uses a class number that no size has.
func TestPartialSetAgainstModel(t *testing.T) {
	const class = setClasses - 2
	Ready()
	grown(t, region.first+512<<20) // 8192 pages: two levels of summary are crossed
	first := int(region.firstPage())
	pages := int(region.endPage())
	in := map[int]bool{}
	r := rand.New(rand.NewPCG(5, 6))
	for step := range 30_000 {
		p := first + r.IntN(pages-first)
		if r.IntN(3) > 0 {
			p = first + (p-first)&^63*17%(pages-first) // crowd some words, leave others empty
		}
		if in[p] {
			setRemove(class, pageNo(p))
			delete(in, p)
		} else if len(in) < 100 {
			setAdd(class, pageNo(p))
			in[p] = true
		}
		from := r.IntN(pages)
		want, wantOK := pages, false
		for q := range in {
			if q >= from && q < want {
				want, wantOK = q, true
			}
		}
		got, ok := setNext(class, pageNo(from))
		if ok != wantOK || ok && int(got) != want {
			t.Fatalf("step %d: setNext(%d) = %d, %v; want %d, %v of %v", step, from, got, ok, want, wantOK, in)
		}
	}
	for p := range in {
		setRemove(class, pageNo(p))
	}
	if p, ok := setNext(class, 0); ok {
		t.Fatalf("the emptied set still has %d", p)
	}
}

// TestPartialSetBeyondATiB: one word of the highest level covers a TiB of pages, and a region is a
// TiB and the live map.
func TestPartialSetBeyondATiB(t *testing.T) {
	const class, page = setClasses - 2, pageNo(1) << 24
	withClock(t) // nobody else looks at what is committed
	if !Ready() || region.size>>pageShift < mem.Bytes(page+64) {
		t.Skipf("skipped: a region of %d GiB", region.size>>30)
	}
	froms := []pageNo{0, 1 << 21, page - 1, page, page + 3}
	region.mu.Lock()
	err := region.sets.space.ensure(region.sets.of(pageCount(page+128)) - region.sets.start())
	region.mu.Unlock()
	if err != nil {
		t.Skip("skipped: no address space: ", err)
	}
	for _, p := range append(froms[1:], page+4) { // the words that would be committed by then
		unit := osmem.PageSize()
		if err := osmem.Commit((setLevels[0]+mem.Addr(p>>6*setClasses*8))&^mem.Addr(unit-1), unit); err != nil {
			t.Fatal(err)
		}
	}
	was := region.committed.Load()
	region.committed.Store(uintptr(page+64) << pageShift)
	defer region.committed.Store(was)
	setAdd(class, page+3)
	for _, from := range froms {
		if got, ok := setNext(class, from); !ok || got != page+3 {
			t.Errorf("setNext(%d) = %d, %v; want %d", from, got, ok, page+3)
		}
	}
	if got, ok := setNext(class, page+4); ok {
		t.Errorf("setNext(%d) = %d, and nothing is there", page+4, got)
	}
	setRemove(class, page+3)
	if got, ok := setNext(class, 0); ok {
		t.Errorf("the emptied set still has %d", got)
	}
}
