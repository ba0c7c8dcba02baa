package engine

import (
	"testing"

	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/osmem"
)

// The page tree and the partial sets hold what lies far apart in a range of 8 TiB, eight times the largest
// region, and touch memory only for that. What else is sized for 1 TiB is in docs/design.md, section 6.

const (
	wideRange  = 8 << 40 // bytes
	wideChunks = chunkNo(wideRange >> superShift)
	widePages  = pageCount(wideRange >> pageShift)
)

// sparseMemory returns n bytes that are zero and take no memory until they are written.
func sparseMemory(t *testing.T, n mem.Bytes) mem.Addr {
	t.Helper()
	n = n.Up(pageSize)
	at, err := osmem.Reserve(n)
	if err == nil {
		t.Cleanup(func() { osmem.Release(at, n) })
		err = osmem.Commit(at, n)
	}
	if err != nil {
		t.Skip("skipped: no address space: ", err)
	}
	return at
}

// grewBelow fails the test if the process has grown by more than most bytes since it had before bytes. Where
// the system does not say, it checks nothing.
func grewBelow(t *testing.T, before uint64, most uint64) {
	t.Helper()
	if now, ok := osmem.ResidentBytes(); ok && now > before+most {
		t.Errorf("%d bytes more are resident, want at most %d", now-before, most)
	}
}

// grewMost is what a few dozen words far apart may bring: an OS page of at most 64 KiB for each, and Go's
// own growth in the meantime.
const grewMost = 32 << 20

// TestPageTreeBeyondATiB takes and gives runs at both ends of 8 TiB and on both sides of the first TiB.
func TestPageTreeBeyondATiB(t *testing.T) {
	before, _ := osmem.ResidentBytes()
	nodes, supers := sparseMemory(t, treeSize(wideChunks)), sparseMemory(t, superBytes(wideChunks))
	owners := sparseMemory(t, mem.Bytes(wideChunks)*4)
	region.mu.Lock() // which owns a page tree
	t.Cleanup(region.mu.Unlock)
	saved, savedOwners, first, use, model := region.supers, region.owners, region.first, pageUse, keeper.model
	t.Cleanup(func() {
		region.supers, region.owners, region.first, pageUse, keeper.model = saved, savedOwners, first, use, model
	})
	region.supers, region.owners, region.first, keeper.model = supers, owners, 0, nil
	tree := &pageTree{base: nodes}
	tree.init(wideChunks)

	if page, ok := tree.find(1); ok {
		t.Errorf("page %d of an empty tree", page)
	}
	const tebi = chunkNo(1 << 40 >> superShift)
	starts := []chunkNo{3, tebi - 1, 5 * tebi, wideChunks - 2} // the second one reaches beyond the TiB
	for _, c := range starts {
		tree.add(c, c+2)
	}
	const run = 2*superPages - 1 // two of them do not fit a place
	var got []pageNo
	for range starts {
		page, ok := tree.find(run)
		if !ok {
			t.Fatalf("no run of %d pages beyond %v", run, got)
		}
		tree.take(page, run)
		got = append(got, page)
	}
	for i, c := range starts {
		if got[i] != c.page() {
			t.Errorf("run %d is at page %d, want %d", i, got[i], c.page())
		}
	}
	if page, ok := tree.find(2); ok {
		t.Errorf("two pages at %d, where single ones are left", page)
	}
	last := len(starts) - 1
	tree.give(got[last], run, 0)
	if page, ok := tree.find(2 * superPages); !ok || page != starts[last].page() {
		t.Errorf("both chunks are free again at %d, %v; want %d", page, ok, starts[last].page())
	}
	if c, ok := tree.findWhole(); !ok || c != starts[last] {
		t.Errorf("chunk %d, %v is free as a whole, want %d", c, ok, starts[last])
	}
	grewBelow(t, before, grewMost)
}

// TestPartialSetBeyondATiB adds, finds and removes members far apart in 8 TiB. One word of the highest level
// covers a TiB of pages, and a region is a TiB and the live map.
func TestPartialSetBeyondATiB(t *testing.T) {
	const class = setClasses - 2
	withClock(t) // nobody else looks at what is committed
	if !Ready() {
		t.Skip("skipped: no region")
	}
	before, _ := osmem.ResidentBytes()
	levels := setLevels
	t.Cleanup(func() { setLevels = levels })
	for l, shift := range []uint{6, 12, 18, 24} {
		setLevels[l] = sparseMemory(t, upperSetSize(widePages, shift))
	}
	was := region.committed.Load()
	region.committed.Store(uintptr(wideRange))
	defer region.committed.Store(was)
	members := []pageNo{pageNo(region.first >> pageShift), 1<<24 - 1, 1 << 24, 1<<24 + 1, 5<<24 + 77, pageNo(widePages) - 1}
	for _, p := range members {
		setAdd(class, p)
	}
	from := pageNo(0)
	for _, want := range members {
		if p, ok := setNext(class, from); !ok || p != want {
			t.Errorf("setNext(%d) = %d, %v; want %d", from, p, ok, want)
		}
		from = want + 1
	}
	if p, ok := setNext(class, from); ok {
		t.Errorf("setNext(%d) = %d, and nothing is there", from, p)
	}
	for i := len(members) - 1; i >= 0; i-- {
		setRemove(class, members[i])
		if p, ok := setNext(class, 0); ok != (i > 0) || ok && p != members[0] {
			t.Errorf("setNext(0) = %d, %v with %d members", p, ok, i)
		}
	}
	grewBelow(t, before, grewMost)
}
