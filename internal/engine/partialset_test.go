package engine

import (
	"math/rand/v2"
	"testing"

	"github.com/hakmem/hakmem/internal/mem"
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
