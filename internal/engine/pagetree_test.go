package engine

import (
	"math/rand/v2"
	"testing"
	"unsafe"

	"github.com/hakmem/hakmem/internal/mem"
)

// newTree returns a page tree over its own memory, with every chunk free, and a function that
// undoes what newTree did to the package's superMeta.
func newTree(t *testing.T, chunks chunkNo) *pageTree {
	region.mu.Lock() // which owns a page tree
	t.Cleanup(region.mu.Unlock)
	nodes := make([]byte, treeSize(chunks)+64)
	supers := make([]byte, uintptr(chunks)*superMetaSize+64)
	owners := make([]uint32, chunks)
	saved, savedOwners, first, use, model := region.supers, region.owners, region.first, pageUse, keeper.model
	region.first, keeper.model = 0, nil
	region.supers = mem.Addr(unsafe.Pointer(unsafe.SliceData(supers)))
	region.owners = mem.Addr(unsafe.Pointer(unsafe.SliceData(owners)))
	tree := &pageTree{base: mem.Addr(unsafe.Pointer(unsafe.SliceData(nodes)))}
	t.Cleanup(func() {
		region.supers, region.owners, region.first, pageUse, keeper.model = saved, savedOwners, first, use, model
		_, _, _ = nodes[0], supers[0], owners[0] // alive until here
	})
	tree.init(chunks)
	tree.add(0, chunks)
	return tree
}

// TestPageTreeAgainstModel takes and frees random runs and compares each answer with a linear
// search over a slice of booleans.
func TestPageTreeAgainstModel(t *testing.T) {
	const chunks = 37 // not a power of two
	tree := newTree(t, chunks)
	free := make([]bool, chunks*superPages)
	for i := range free {
		free[i] = true
	}
	first := func(n int) (int, bool) {
		run := 0
		for i, f := range free {
			if run++; !f {
				run = 0
			}
			if run == n {
				return i - n + 1, true
			}
		}
		return 0, false
	}
	type run struct{ page, n int }
	var held []run
	r := rand.New(rand.NewPCG(1, 2))
	for step := range 20_000 {
		if len(held) > 0 && r.IntN(5) < 2 {
			i := r.IntN(len(held))
			tree.give(pageNo(held[i].page), pageCount(held[i].n), 0)
			for p := range held[i].n {
				free[held[i].page+p] = true
			}
			held[i] = held[len(held)-1]
			held = held[:len(held)-1]
			continue
		}
		n := 1 + r.IntN(8)
		if r.IntN(10) == 0 {
			n = 1 + r.IntN(150)
		}
		page, ok := tree.find(pageCount(n))
		wantPage, wantOK := first(n)
		if ok != wantOK || ok && page != pageNo(wantPage) {
			t.Fatalf("step %d: find(%d) = %d, %v; want %d, %v", step, n, page, ok, wantPage, wantOK)
		}
		if !ok {
			continue
		}
		tree.take(page, pageCount(n))
		for p := range n {
			free[wantPage+p] = false
		}
		held = append(held, run{wantPage, n})
		whole, wantWhole := -1, -1
		if c, ok := tree.findWhole(); ok {
			whole = int(c)
		}
	chunks:
		for c := range chunks {
			for p := range superPages {
				if !free[c*superPages+p] {
					continue chunks
				}
			}
			wantWhole = c
			break
		}
		if whole != wantWhole {
			t.Fatalf("step %d: findWhole = %d, want %d", step, whole, wantWhole)
		}
	}
}

func TestPageTreeKnowsCleanPages(t *testing.T) {
	tree := newTree(t, 4)
	if !tree.take(3, 40) {
		t.Error("never used pages are not clean")
	}
	tree.give(3, 40, 0)
	if tree.take(0, 2) != true || tree.take(2, 2) != false {
		t.Error("pages 0-1 should be clean, pages 2-3 not")
	}
}

func TestLongestRun(t *testing.T) {
	for _, tt := range []struct {
		m    uint32
		want uint32
	}{{0, 0}, {^uint32(0), 32}, {1, 1}, {0b1101110, 3}, {1 << 31, 1}} {
		if got := longestRun(pageSet(tt.m)); got != tt.want {
			t.Errorf("longestRun(%b) = %d, want %d", tt.m, got, tt.want)
		}
	}
}

// TestPageTreeCovers: a tree that doubles has the same free pages as before, and room for more.
func TestPageTreeCovers(t *testing.T) {
	withClock(t)
	region.mu.Lock()
	defer region.mu.Unlock()
	was, pre, whole := tree.leaves, tree.node(1).max, tree.node(1).whole
	if err := tree.cover(chunkNo(4 * was)); err != nil {
		t.Skip("skipped: no address space: ", err)
	}
	if tree.leaves != 4*was || tree.node(1).max != pre || tree.node(1).whole != whole {
		t.Errorf("%d leaves, %+v; want %d, %d and %d", tree.leaves, *tree.node(1), 4*was, pre, whole)
	}
}

// take hands out n pages from page on. clean reports whether none of them has memory behind it, so
// that all still read as zero.
func (t *pageTree) take(page pageNo, n pageCount) (clean bool) {
	clean = true
	t.each(page, n, func(c chunkNo, m pageSet) {
		if !super(c).take(c, m) {
			clean = false
		}
	})
	return clean
}
