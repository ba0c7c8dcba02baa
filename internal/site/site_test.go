package site

import (
	"fmt"
	"sync"
	"testing"
)

// TestRegister: a name has one number, numbers follow each other, and 0 is no site.
func TestRegister(t *testing.T) {
	before := Num()
	a, b := Register("site test a"), Register("site test b")
	if a != before+1 || b != before+2 || Register("site test a") != a || Num() != before+2 {
		t.Errorf("sites %d and %d after %d, then %d of them", a, b, before, Num())
	}
	for s, want := range map[ID]bool{0: false, a: true, b: true, b + 1: false, Max + 1: false} {
		if s.Known() != want {
			t.Errorf("Known(%d) is %t", s, !want)
		}
	}
}

// TestCounts: the live figures add up, from several goroutines and while others register sites.
func TestCounts(t *testing.T) {
	s := Register("site test counts")
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 1000 {
				s.Allocated(100)
				if i%100 == 0 {
					Register(fmt.Sprint("site test counts ", g, i))
				}
				s.Resized(20)
				if i%2 == 0 {
					s.Freed(120)
				}
			}
		})
	}
	wg.Wait()
	name, bytes, blocks := Read(s)
	if name != "site test counts" || bytes != 4*500*120 || blocks != 4*500 {
		t.Errorf("%q has %d bytes in %d blocks, want %d in %d", name, bytes, blocks, 4*500*120, 4*500)
	}
}

// TestNoMore: when there are Max sites, a new name gets none, and a known name still gets its site.
func TestNoMore(t *testing.T) {
	known := Register("site test known")
	entries, full := sites.entries.Load(), make([]*entry, Max)
	sites.entries.Store(&full)
	none, again := Register("one too many"), Register("site test known")
	sites.entries.Store(entries)
	if none != 0 || again != known || known == 0 {
		t.Errorf("the site beyond the last is %d, a known one %d, was %d", none, again, known)
	}
}
