package engine

import (
	"fmt"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"maps"
	"math"
	"math/bits"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hakmem/hakmem/internal/learn"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/site"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// smallHeap is a heap with something of every kind, for breakers to damage.
type smallHeap struct {
	f, g Front // fronts of two Heaps; g leases nothing and holds nothing

	tiny       Block        // a live tiny block that f allocated
	class      sizeclass.ID // its class
	leased     slabID       // its slab
	owned      Block        // a block that this slab owns
	waiting    Block        // a block in f's magazine
	sited      Block        // a live tiny block with a site
	site       site.ID
	long       Block   // a live block of class in the long lane
	longSite   site.ID // its site
	full       slabID  // a FULL slab, of a mid class whose slabs have several pages
	empty      slabID  // a PARTIAL slab that owns all its blocks
	emptyClass sizeclass.ID

	large, sitedLarge, big Block // live large blocks of some pages
	dirty                  Block // a cached large block in f's magazine; its class follows
	warmClass              sizeclass.ID
	inShared               *atomic.Uintptr // a shared slot with a large block; its class follows
	sharedClass            sizeclass.ID
	inSiteCache            *atomic.Uint64 // a SiteCache entry with a large block
	chunk                  Block          // of an Arena
	guarded, withdrawn     *guardSlot
	slabFreed              pageNo // a free page that was a tiny slab's
	free                   pageNo // a free page
}

func newSmallHeap(t *testing.T) *smallHeap {
	t.Helper()
	withClock(t)
	must := func(p Block) Block {
		t.Helper()
		if p == 0 {
			t.Fatal(Survived())
		}
		return p
	}
	mustFree := func(f Front, p Block) {
		t.Helper()
		if bad := Free(f, p); bad.Kind != OK {
			t.Fatalf("Free(%#x) = %+v", p, bad)
		}
	}
	x := &smallHeap{f: front(t), g: front(t)}
	var all, full []Block

	// Pages that were a slab's: 48 MiB, more than what follows takes again.
	for range 48 << 20 / 1024 {
		all = append(all, must(Malloc(x.f, 1024)))
	}
	for _, p := range all {
		mustFree(x.f, p)
	}
	emptyFront(x.f)
	Trim()

	for range 3*sizeclass.Classes[sizeclass.Of(20000)].Blocks + 5 {
		full = append(full, must(Malloc(x.f, 20000)))
	}
	i := slices.IndexFunc(full, func(p Block) bool { return owner(p).meta().slabState.Load() == slabFull })
	if i < 0 {
		t.Fatal("no FULL slab")
	}
	x.full = owner(full[i])
	// Now the magazines, which fresh slabs would empty (ebb).
	x.class = sizeclass.Of(64)
	x.tiny = must(Malloc(x.f, 64))
	x.leased = owner(x.tiny)
	x.waiting = Block(*word(*x.f.top(x.class)))
	x.owned = x.leased.block(x.class, blockIndex(x.lastWord()*64)+blockIndex(bits.TrailingZeros64(*x.leased.bits(x.lastWord()))))
	x.site = site.Register("invariants")
	x.sited = must(MallocAt(x.site, 200))
	x.longSite = site.Register("invariants: long")
	setLaneRule(x.longSite, LaneLong)
	x.long = must(MallocAt(x.longSite, 64))
	x.large, x.big = must(Malloc(x.f, 300<<10)), must(Malloc(x.f, 5<<20))
	x.sitedLarge = must(MallocAt(x.site, 300<<10))
	chunk, _ := Chunk(100<<10, x.site)
	x.chunk = must(chunk)
	for size := mem.Bytes(80); size < 83; size++ { // by hand, so that nothing else is hardened
		q, c := must(Malloc(x.f, size)), sizeclass.Of(size)
		setLive(q, c, 0)
		b := newPoisoned(q, size, c)
		b.fill()
		entered(func() {
			if !x.f.quarantine().put(x.f, b) {
				t.Error("no room in the quarantine")
			}
		})
	}
	t.Run("guarded blocks", func(t *testing.T) { // a subtest, which ends the policy
		withPolicy(t, map[string]string{"HAKMEM_GUARD": "1/1"})
		a, b := must(guarded(draw(0, 0, false), 100, 1)), must(guarded(draw(0, 0, false), 100, 1))
		mustFree(0, b)
		guard.Lock()
		defer guard.Unlock()
		x.guarded, x.withdrawn = slotAt(a.addr()), slotAt(b.addr())
	})
	// Behind all slabs, which would take its pages.
	x.emptyClass = sizeclass.Of(6000)
	var slabs []slabID
	for x.empty == 0 {
		s := acquireSlab(commonList(x.emptyClass))
		if slabs = append(slabs, s); s.allFree(&sizeclass.Classes[x.emptyClass]) {
			x.empty = s
		}
	}
	for _, s := range slabs {
		retire(s)
	}
	// First all the large blocks, then their frees: an allocation that needs new memory empties the
	// caches.
	x.dirty, x.warmClass = must(Malloc(x.f, 200<<10)), sizeclass.LargeOf(200<<10)
	slotted, huge := must(Malloc(x.f, 400<<10)), must(Malloc(0, 3<<20))
	mustFree(0, must(MallocAt(x.site, 500<<10)))
	x.inSiteCache, _ = siteEntry(x.site, sizeclass.LargeOf(500<<10))
	mustFree(x.f, x.dirty)
	mustFree(0, huge)
	x.sharedClass = sizeclass.LargeOf(400 << 10)
	setLive(slotted, x.sharedClass, 0)
	if !giveShared(x.sharedClass, slotted) {
		t.Fatal("no shared slot")
	}
	line := &shared[x.sharedClass-sizeclass.Num-1]
	for i := range line.slot {
		if Block(line.slot[i].Load()) == slotted {
			x.inShared = &line.slot[i]
		}
	}
	if x.inShared == nil || x.inSiteCache.Load() == 0 || hugeCache.kept.p == 0 || x.f.pop(x.warmClass) != x.dirty || !x.f.push(x.warmClass, x.dirty) {
		t.Fatal("a cache is empty")
	}
	for page := region.firstPage(); isPage(page); page++ {
		if used, _ := inUse(page); !used && super(page.chunk()).free == pageSet(^uint32(0)) {
			x.free = page
			if meta(page).kind == kindSlabFreed && PageClass[page] == 0 && meta(page).class <= sizeclass.NumTiny {
				x.slabFreed = page
			}
		}
	}
	if x.free == 0 || x.slabFreed == 0 {
		t.Fatalf("free pages: %d, one that was a slab's: %d", x.free, x.slabFreed)
	}
	// The live map of that page has memory again, so that it is looked at.
	if s, bit := super(x.slabFreed.chunk()), pageSet(1)<<x.slabFreed.inChunk(); s.tiny&bit == 0 {
		count(liveBytes(s.tiny|bit) - liveBytes(s.tiny))
		s.tiny |= bit
	}
	t.Cleanup(func() {
		for _, p := range append(full, x.tiny, x.large, x.big) {
			mustFree(x.f, p)
		}
		mustFree(0, x.sited)
		mustFree(0, x.long)
		setLaneRule(x.longSite, LaneAuto)
		mustFree(0, x.sitedLarge)
		mustFree(0, x.guarded.p)
		FreeChunk(x.chunk)
		for _, f := range []Front{x.f, x.g} {
			if bad := CloseHeapFront(f); bad.Kind != OK {
				t.Errorf("%+v", bad)
			}
		}
		if bad := Trim(); bad.Kind != OK {
			t.Errorf("%+v", bad)
		}
		mustHold(t)
	})
	mustHold(t)
	return x
}

// lastWord is the last word of the leased slab's bitmap: refills begin with the first one.
func (x *smallHeap) lastWord() uint32 { return sizeclass.Classes[x.class].Words - 1 }

// setState is set for a byte of live state.
func setState(at mem.Addr, v liveState) func() { return set(u8(at), uint8(v)) }

// swap is set for atomics.
func swap[T any](a interface{ Swap(T) T }, v T) func() {
	old := a.Swap(v)
	return func() { a.Swap(old) }
}

// both undoes two damages, the last one first.
func both(a, b func()) func() { return func() { b(); a() } }

// breaker damages one field and says which address, front or number the report must name, nil for
// any.
type breaker struct {
	rule string
	what string
	do   func(x *smallHeap) (at any, repair func())
}

const wholeChunk = "a chunk that a huge block has as a whole is in use, and no superslab"

const onePlace = "a block is in exactly one place"

func (x *smallHeap) bit(p Block, c sizeclass.ID) (w *uint64, m uint64) {
	s := owner(p)
	j := p.addr().From(s.addr()) / c.Bytes()
	return s.bits(uint32(j / 64)), 1 << (j % 64)
}

// freshSample makes p a sample of a fresh block, and counts it.
func freshSample(s *touchSample, p uintptr) func() {
	return both(swap(&s.at, p), both(set(&s.size, pageSize), set(&touches.waiting[0], 1)))
}

// listHeap lists an open Heap by the front f, whose own front is own and whose fast paths use fast.
func listHeap(f, own, fast Front) func() {
	heap := &testHeap{fast: fast}
	OpenHeap(f, &heap.fast)
	openHeaps.by[f].front = own
	return func() { forget(f); runtime.KeepAlive(heap) }
}

// extraFront makes a front that only this entry of the table has.
func extraFront(p *uintptr) func() {
	f := newFront(true)
	old := *p
	*p = uintptr(f)
	return func() { *p = old; recycle(f) }
}

var breakers = []breaker{
	// Blocks.
	{onePlace, "a live block that its slab owns", func(x *smallHeap) (any, func()) {
		w, m := x.bit(x.tiny, x.class)
		return x.tiny, set(w, *w|m)
	}},
	{onePlace, "a block in a magazine that its slab owns", func(x *smallHeap) (any, func()) {
		w, m := x.bit(x.waiting, x.class)
		return x.waiting, set(w, *w|m)
	}},
	{onePlace, "a block nowhere", func(x *smallHeap) (any, func()) {
		w, m := x.bit(x.owned, x.class)
		return x.owned, set(w, *w&^m)
	}},
	{onePlace, "a live block in a magazine", func(x *smallHeap) (any, func()) {
		return x.waiting, setState(liveOf(x.waiting), liveState(x.class))
	}},
	{onePlace, "a live mid block in a magazine", func(x *smallHeap) (any, func()) {
		c := sizeclass.Of(20000)
		p := Block(*word(*x.f.top(c)))
		return p, setState(midLive(p), liveState(c))
	}},
	{onePlace, "a block twice in a magazine", func(x *smallHeap) (any, func()) {
		return x.waiting, set(word(*x.f.top(x.class)-8), uintptr(x.waiting))
	}},
	{onePlace, "a live block in the quarantine", func(x *smallHeap) (any, func()) {
		q := x.f.quarantine()
		b := &q.ring[q.first]
		return b.p, setState(liveOf(b.p), liveState(b.class()))
	}},
	{"statistics count the live blocks", "a live byte that is lost", func(x *smallHeap) (any, func()) {
		return nil, setState(liveOf(x.tiny), 0)
	}},
	{"a live state is the class, or says more", "another class", func(x *smallHeap) (any, func()) {
		return x.tiny, setState(liveOf(x.tiny), liveState(x.class+1))
	}},
	{"live states lie where blocks begin", "one inside a block", func(x *smallHeap) (any, func()) {
		return x.leased.addr(), setState(liveOf(x.tiny+16), liveState(x.class))
	}},
	{"live states lie where blocks begin", "one behind the last block of a mid slab", func(x *smallHeap) (any, func()) {
		return x.full.addr(), set(&x.full.meta().mid[63], 1)
	}},
	{"a live block's site is registered", "a site that is none", func(x *smallHeap) (any, func()) {
		return x.sited, set(siteWord(x.sited), site.Max)
	}},
	{"a site counts its live blocks", "a count too many", func(x *smallHeap) (any, func()) {
		x.site.Allocated(0)
		return x.site, func() { x.site.Freed(0) }
	}},
	{"a site counts its live blocks", "bytes", func(x *smallHeap) (any, func()) {
		x.site.Resized(8)
		return x.site, func() { x.site.Resized(-8) }
	}},

	// Size classes.
	{"a size has the smallest class that holds it", "a larger one", func(x *smallHeap) (any, func()) {
		return 4224, set(&sizeclass.Mid[4112/sizeclass.Step], sizeclass.Of(5120))
	}},
	{"a spare class has a size that was added", "a class without", func(x *smallHeap) (any, func()) {
		k := sizeclass.Classes[sizeclass.Of(4608)]
		return nil, set(&sizeclass.Classes[sizeclass.Num], k)
	}},
	{"a spare class is as its size makes it", "a size alone", func(x *smallHeap) (any, func()) {
		return nil, set(&sizeclass.Classes[sizeclass.Num].Size, 4224)
	}},
	{"a spare class is as its size makes it", "one block too many, and no size", func(x *smallHeap) (any, func()) {
		return nil, set(&sizeclass.Classes[sizeclass.NumFixed+1].Blocks, 1)
	}},
	{"each size that was added has a class", "none", func(x *smallHeap) (any, func()) {
		return nil, set(&addedSizes, []learn.BlockSize{{Size: 4224}})
	}},

	// Fronts.
	{"the trap front is never written", "a top", func(x *smallHeap) (any, func()) {
		return trapFront, set(trapFront.top(5), *trapFront.top(5)+8)
	}},
	{"a table's entry is a front", "none of those built", func(x *smallHeap) (any, func()) {
		return x.f + 8, set(&pFronts[MaxP-1], uintptr(x.f+8))
	}},
	{"a front has one owner", "two Ps", func(x *smallHeap) (any, func()) {
		return x.g, both(set(&pFronts[MaxP-1], uintptr(x.g)), set(&pFronts[MaxP-2], uintptr(x.g)))
	}},
	{"a front has one owner", "a shard's and an abandoned Heap's", func(x *smallHeap) (any, func()) {
		return x.g, both(set(&shards[3].front, x.g), set(&abandoned.fronts, []Front{x.g}))
	}},
	{"a front's owner is the P that has it", "another address", func(x *smallHeap) (any, func()) {
		undo := extraFront(&pFronts[MaxP-1])
		f := pFronts[MaxP-1]
		return f, both(set(word(mem.Addr(f+ownerOffset)), 8), undo)
	}},
	{"a front's owner is the P that has it", "none, where fronts are guessed", func(x *smallHeap) (any, func()) {
		undo := extraFront(&pFronts[MaxP-1])
		pAddress = func() uintptr { return 8 }
		return pFronts[MaxP-1], func() { pAddress = nil; undo() }
	}},
	{"a front's owner is the P that has it", "one P has two", func(x *smallHeap) (any, func()) {
		first := extraFront(&pFronts[MaxP-2])
		second := extraFront(&pFronts[MaxP-1])
		pAddress = func() uintptr { return 8 }
		undo := both(set(word(mem.Addr(pFronts[MaxP-2]+ownerOffset)), 8), set(word(mem.Addr(pFronts[MaxP-1]+ownerOffset)), 8))
		return pFronts[MaxP-1], func() { undo(); pAddress = nil; second(); first() }
	}},
	{"an open Heap is listed by its front", "another Heap's front", func(x *smallHeap) (any, func()) {
		return x.g, listHeap(x.g, x.f, trapFront)
	}},
	{"a front has one owner", "an open Heap's and a shard's", func(x *smallHeap) (any, func()) {
		return x.g, both(set(&shards[3].front, x.g), listHeap(x.g, x.g, trapFront))
	}},
	{"a Heap's fast paths use its front or the trap", "another Heap's", func(x *smallHeap) (any, func()) {
		return x.g, listHeap(x.g, x.g, x.f)
	}},
	{"a Heap that was asked for its front has the trap", "its front", func(x *smallHeap) (any, func()) {
		return x.g, both(swap(&x.g.head().duty, harvested), listHeap(x.g, x.g, x.g))
	}},
	{"only an open Heap is asked for its front", "none that is listed", func(x *smallHeap) (any, func()) {
		return x.g, swap(&x.g.head().duty, asked)
	}},
	{"no harvester has a front", "one that has not ended", func(x *smallHeap) (any, func()) {
		return x.g, swap(&x.g.head().duty, taken)
	}},
	{"no harvester has a front", "a duty that there is not", func(x *smallHeap) (any, func()) {
		return x.g, swap(&x.g.head().duty, harvested+1)
	}},
	{"no slow path uses a Heap's front", "one that has not ended", func(x *smallHeap) (any, func()) {
		return x.g, set(&x.g.head().busy, 1)
	}},
	{"only a harvest cuts a magazine", "no harvest was there", func(x *smallHeap) (any, func()) {
		return x.f, set(&x.f.head().uncut[x.class], x.f.head().cap[x.class])
	}},
	{"a magazine's last slot is a multiple of its size", "fronts that begin a page late", func(x *smallHeap) (any, func()) {
		return frontAt(0) + 4096, both(set(&frontPool.space.base, frontPool.space.base+4096), set(&frontPool.free, nil))
	}},
	{"a front without a P has no owner", "a Heap's", func(x *smallHeap) (any, func()) {
		return x.g, set(word(mem.Addr(x.g+ownerOffset)), 8)
	}},
	{"a table that is not in use has traps only", "a front", func(x *smallHeap) (any, func()) {
		return x.g, set(&hardFronts[MaxP-1], uintptr(x.g))
	}},
	{"a table that is not in use has traps only", "a P's front while calls are watched", func(x *smallHeap) (any, func()) {
		Watch(WatchCalls, true)
		undo := extraFront(&pFronts[MaxP-1])
		return pFronts[MaxP-1], func() { undo(); Watch(WatchCalls, false) }
	}},
	{"a class without blocks has a trap for a magazine", "the trap class", func(x *smallHeap) (any, func()) {
		return x.f, set(x.f.top(0), x.f.sentinel(x.class))
	}},
	{"a magazine's top is one of its slots", "below the sentinel", func(x *smallHeap) (any, func()) {
		return x.f, set(x.f.top(x.class), x.f.sentinel(x.class)-8)
	}},
	{"a magazine's top is one of its slots", "beyond the last slot", func(x *smallHeap) (any, func()) {
		return x.f, set(x.f.top(x.class), x.f.last(x.class)+8)
	}},
	{"a magazine's top is one of its slots", "no capacity", func(x *smallHeap) (any, func()) {
		return x.f, set(&x.f.head().cap[x.class], 0)
	}},
	{"a magazine's sentinel is 0", "a block", func(x *smallHeap) (any, func()) {
		return x.f, set(word(x.f.sentinel(x.class)), uintptr(x.waiting))
	}},
	{"no front is out of the pool", "one", func(x *smallHeap) (any, func()) { return nil, set(&frontPool.out, 1) }},
	{"spare fronts without memory are the ones longest spare", "more than there were", func(x *smallHeap) (any, func()) {
		return nil, set(&frontPool.clean, frontPool.low+1)
	}},
	{"spare fronts without memory are the ones longest spare", "more since the last tick than there are", func(x *smallHeap) (any, func()) {
		return nil, set(&frontPool.low, len(frontPool.free)+1)
	}},
	{"a front in the pool is empty", "a block", func(x *smallHeap) (any, func()) {
		return x.f, set(&frontPool.free, append(slices.Clone(frontPool.free), x.f))
	}},
	{"a closed magazine is one of large blocks without room", "one with room", func(x *smallHeap) (any, func()) {
		return x.f, set(&x.f.head().closed[x.warmClass], true)
	}},
	{"a closed magazine is one of large blocks without room", "one of a slab's blocks", func(x *smallHeap) (any, func()) {
		return x.g, set(&x.g.head().closed[x.class], true)
	}},
	{"a closed magazine is one of large blocks without room", "one of no blocks", func(x *smallHeap) (any, func()) {
		return x.g, set(&x.g.head().closed[frontTypes-1], true)
	}},
	{"a magazine has at most the room that ACE allows", "more", func(x *smallHeap) (any, func()) {
		return x.f, set(&x.f.head().most[x.class], x.f.head().cap[x.class]-1)
	}},
	{"a magazine has at most the room that ACE allows", "a room of more slots than there are", func(x *smallHeap) (any, func()) {
		return x.f, set(&x.f.head().most[x.warmClass], maxMid+1)
	}},
	{"no more ghosts are remembered than a magazine holds", "one more", func(x *smallHeap) (any, func()) {
		return x.f, set(&x.f.head().ghosts[x.class], maxGhosts+1)
	}},
	{"only leases of slabs are not kept", "one of large blocks", func(x *smallHeap) (any, func()) {
		return x.g, set(&x.g.head().unkept[x.warmClass], true)
	}},
	{"only leases of slabs are not kept", "one of no blocks", func(x *smallHeap) (any, func()) {
		return x.g, set(&x.g.head().unkept[0], true)
	}},
	{"a front adds up what its magazines have room for", "another sum", func(x *smallHeap) (any, func()) {
		return x.f, set(&x.f.head().room, x.f.head().room+16)
	}},
	{"a front adds up what it leases", "another sum", func(x *smallHeap) (any, func()) {
		return x.f, set(&x.f.head().leases, 0)
	}},
	{"only leases of slabs end in turn", "a class of large blocks", func(x *smallHeap) (any, func()) {
		return x.f, set(&x.f.head().hand, sizeclass.ID(sizeclass.Num+1))
	}},
	{"a step has seen at most the refills that there were", "one more", func(x *smallHeap) (any, func()) {
		return x.f, set(&x.f.head().refilled[x.class], *x.f.refills(x.class)+1)
	}},
	{"the turns to wait are within their bound", "more of a magazine", func(x *smallHeap) (any, func()) {
		return x.f, set(&x.f.head().dwells[x.class], dwell{left: 3, again: 1})
	}},
	{"the turns to wait are within their bound", "a higher power of a magazine", func(x *smallHeap) (any, func()) {
		return x.f, set(&x.f.head().dwells[x.class].again, maxAgain+1)
	}},
	{"the turns to wait are within their bound", "more of the shared slots", func(x *smallHeap) (any, func()) {
		return nil, set(&budget.dwells[3].left, 2)
	}},
	{"no more slots are shut than there are", "one more", func(x *smallHeap) (any, func()) {
		return nil, swap(&shared[0].shut, uint32(sharedSlots+1))
	}},
	{"the price of memory in caches is 0 or within its bounds", "more", func(x *smallHeap) (any, func()) {
		return nil, both(set(&budget.Budget, learn.Budget{Base: 1, Price: learn.MostPrice + 1}), swap(&cachePrice, math.Float64bits(learn.MostPrice+1)))
	}},
	{"the price of memory in caches is 0 or within its bounds", "less", func(x *smallHeap) (any, func()) {
		return nil, both(set(&budget.Budget, learn.Budget{Base: 32, Price: 1}), swap(&cachePrice, math.Float64bits(1)))
	}},
	{"fronts know the price of memory in caches", "another", func(x *smallHeap) (any, func()) {
		return nil, swap(&cachePrice, math.Float64bits(1))
	}},
	{"a front in the pool leases nothing", "a lease", func(x *smallHeap) (any, func()) {
		return x.f, set(&frontPool.free, append(slices.Clone(frontPool.free), x.f))
	}},
	{"only classes of slabs are leased", "a class of large blocks", func(x *smallHeap) (any, func()) {
		return x.g, set(x.g.lease(sizeclass.Num+1), x.leased)
	}},
	{"a lease is a LEASED slab of its class", "a PARTIAL one", func(x *smallHeap) (any, func()) {
		return x.g, set(x.g.lease(x.emptyClass), x.empty)
	}},
	{"a lease is a LEASED slab of its class", "another class's", func(x *smallHeap) (any, func()) {
		return x.g, set(x.g.lease(x.class+1), x.leased)
	}},
	{"a lease is a LEASED slab of its class", "a page beyond the region", func(x *smallHeap) (any, func()) {
		return x.g, set(x.g.lease(x.class), slabAt(region.base.Add(region.size)))
	}},
	{"a slab is leased once", "two fronts", func(x *smallHeap) (any, func()) {
		return x.g, set(x.g.lease(x.class), x.leased)
	}},
	{"a lease is a LEASED slab of its class", "the long lane's", func(x *smallHeap) (any, func()) {
		return x.g, set(x.g.lease(x.class), owner(x.long))
	}},

	// Long lanes.
	{"a long lane leases a LEASED slab of its own", "a front's", func(x *smallHeap) (any, func()) {
		return x.leased.addr(), set(&lanes[x.class].current, x.leased)
	}},
	{"a long lane leases a LEASED slab of its own", "another class's", func(x *smallHeap) (any, func()) {
		return owner(x.long).addr(), set(&lanes[x.class+1].current, owner(x.long))
	}},
	{"a long lane leases a LEASED slab of its own", "a class that there is not", func(x *smallHeap) (any, func()) {
		return owner(x.long).addr(), set(&lanes[0].current, owner(x.long))
	}},
	{"a slab is LEASED if a front or a lane leases it", "by no lane", func(x *smallHeap) (any, func()) {
		return owner(x.long).addr(), set(&lanes[x.class].current, 0)
	}},
	{"no block of the long lane waits", "in a magazine", func(x *smallHeap) (any, func()) {
		return x.long, set(word(*x.f.top(x.class)), uintptr(x.long))
	}},
	{"a block of the long lane has a site", "none", func(x *smallHeap) (any, func()) {
		return x.long, setState(slabLive(x.long, x.class), liveState(x.class))
	}},
	{"blocks of a site go where its rule says", "elsewhere", func(x *smallHeap) (any, func()) {
		return uint32(x.longSite), swap(&longSites[x.longSite/64], 0)
	}},
	{"the sites of the long lane are counted", "one more", func(*smallHeap) (any, func()) {
		return nil, swap(&longSites[len(longSites)-1], 1<<63)
	}},
	{"a sample is a block with a site, in its place", "another place", func(x *smallHeap) (any, func()) {
		i := 0
		for &liveSamples[i] == sampleAt(x.sited) {
			i++
		}
		return x.sited, swap(&liveSamples[i].at, uintptr(x.sited))
	}},
	{"a sample is a block with a site, in its place", "a site that there is not", func(x *smallHeap) (any, func()) {
		s := sampleAt(x.sited)
		return x.sited, both(swap(&s.at, uintptr(x.sited)), set(&s.site, 65535))
	}},
	{"a fresh block that is a sample is live and freed on a slow path", "one that is freed on the fast path", func(x *smallHeap) (any, func()) {
		s := touchAt(x.large)
		return x.large, freshSample(s, uintptr(x.large))
	}},
	{"a fresh block that is a sample is live and freed on a slow path", "another place", func(x *smallHeap) (any, func()) {
		s := &touchSamples[0]
		if s == touchAt(x.big) {
			s = &touchSamples[1]
		}
		return x.big, freshSample(s, uintptr(x.big))
	}},
	{"a fresh block that is a sample lies in the region", "elsewhere", func(*smallHeap) (any, func()) {
		return uintptr(4096), freshSample(&touchSamples[5], 4096)
	}},
	{"fresh blocks that are samples are counted", "one more", func(*smallHeap) (any, func()) {
		return nil, set(&touches.waiting[3], 1)
	}},
	{"a collapsed chunk is ripe", "one that is not", func(x *smallHeap) (any, func()) {
		s := super(x.full.page().chunk())
		return x.full.page().chunk().addr(), both(set(&s.collapsed, true), set(&s.rounds, 1))
	}},

	// Caches.
	{"what waits is a block of its class", "the inside of a block", func(x *smallHeap) (any, func()) {
		return x.f, set(word(*x.f.top(x.class)), uintptr(x.waiting+16))
	}},
	{"what waits is a block of its class", "Go memory", func(x *smallHeap) (any, func()) {
		return x.f, set(word(*x.f.top(x.class)), 0x1000)
	}},
	{"what waits is a block of its class", "a large block of another class in a shared slot", func(x *smallHeap) (any, func()) {
		return nil, swap[uintptr](x.inShared, uintptr(x.large))
	}},
	{"a large block is live or waits in one place", "a live one in a magazine", func(x *smallHeap) (any, func()) {
		return x.dirty, set(&meta(x.dirty.page()).live, liveState(x.warmClass))
	}},
	{"a large block is live or waits in one place", "one that left its shared slot", func(x *smallHeap) (any, func()) {
		return x.inShared.Load(), swap[uintptr](x.inShared, 0)
	}},
	{"a site cache entry is where its key belongs", "another class", func(x *smallHeap) (any, func()) {
		return nil, swap[uint64](x.inSiteCache, x.inSiteCache.Load()+1)
	}},
	{"a huge block has its large block's size", "a page more", func(x *smallHeap) (any, func()) {
		return hugeCache.kept.p, set(&hugeCache.kept.size, hugeCache.kept.size+pageSize)
	}},
	{"an empty huge-block cache has no bytes", "the block forgotten", func(x *smallHeap) (any, func()) { return nil, set(&hugeCache.kept.p, 0) }},
	{"a quarantine adds up", "a byte more", func(x *smallHeap) (any, func()) {
		return x.f, set(&x.f.quarantine().bytes, x.f.quarantine().bytes+1)
	}},
	{"a quarantine adds up", "a block that is not counted", func(x *smallHeap) (any, func()) {
		c := x.f.quarantine().ring[x.f.quarantine().first].class()
		return x.f, set(&x.f.head().waiting[c], 0)
	}},
	{"a quarantine is within its ring", "a block more than it has room for", func(x *smallHeap) (any, func()) {
		return x.f, set(&x.f.quarantine().n, quarantineBlocks+1)
	}},
	{"slots of guarded blocks follow each other", "one moved down", func(x *smallHeap) (any, func()) {
		return x.guarded.p, set(&x.guarded.start, x.guarded.start-mem.Addr(osmem.PageSize()))
	}},
	{"slots of guarded blocks follow each other", "one moved up", func(x *smallHeap) (any, func()) {
		return x.guarded.p, set(&x.guarded.start, x.guarded.start+pageSize)
	}},
	{"a guarded block is live or freed", "a withdrawn one that lives", func(x *smallHeap) (any, func()) {
		return x.withdrawn.p, set(&x.withdrawn.live, true)
	}},
	{"a guarded block is live or freed", "one that is freed and forgotten", func(x *smallHeap) (any, func()) {
		return x.guarded.p, set(&x.guarded.live, false)
	}},
	{"a guarded block lies in its slot", "a size beyond it", func(x *smallHeap) (any, func()) {
		return x.guarded.p, set(&x.guarded.size, 10<<20)
	}},
	{"guarded blocks are counted", "one more", func(x *smallHeap) (any, func()) { return nil, set(&guard.live, guard.live+1) }},

	// The region.
	{"whole superslabs of the region are committed", "a page more", func(x *smallHeap) (any, func()) {
		old := region.committed.Load()
		region.committed.Store(old + pageSize)
		return region.base, func() { region.committed.Store(old) }
	}},
	{"metadata is committed with the pages it is of", "less", func(x *smallHeap) (any, func()) {
		return region.bits.base, set(&region.bits.committed, region.bits.of(pageCount(region.firstPage())))
	}},
	{"committed metadata adds up", "a byte more", func(x *smallHeap) (any, func()) {
		return region.base, swap[uintptr](&region.metaCommitted, region.metaCommitted.Load()+1)
	}},
	{"boundaries of advice on huge pages are counted", "one more", func(x *smallHeap) (any, func()) {
		return region.base, set(&hugePages.boundaries, hugePages.boundaries+1)
	}},
	{"the site map is committed when there are sites", "not said", func(x *smallHeap) (any, func()) {
		return region.base, set(&region.sites.lazy, true)
	}},
	{"fast paths know the region", "another end", func(x *smallHeap) (any, func()) { return region.base, set(&Granules, Granules-1) }},
	{"fast paths know the region", "another beginning", func(x *smallHeap) (any, func()) { return region.base, set(&Base, Base+1) }},
	{"fast paths know the region", "another live map", func(x *smallHeap) (any, func()) { return region.base, set(&Live, Live+8) }},
	{"fast paths know the region", "another page table", func(x *smallHeap) (any, func()) { return region.base, set(&Pages, Pages+pageMetaSize) }},
	{"no page beyond the committed ones is free", "the first", func(x *smallHeap) (any, func()) {
		end := region.endChunk()
		return end.addr(), set(&super(end).free, 1)
	}},

	// Superslabs.
	{"a lost page is not free", "one that is both", func(x *smallHeap) (any, func()) {
		s := super(x.free.chunk())
		return x.free.chunk().addr(), set(&s.lost, s.free)
	}},
	{"a chunk that is away has no memory", "one that has", func(x *smallHeap) (any, func()) {
		c := x.large.page().chunk()
		return c.addr(), set(&super(c).away, true)
	}},
	{"a refused page is dirty, and may be touched", "a clean one", func(x *smallHeap) (any, func()) {
		s := super(x.free.chunk())
		return x.free.chunk().addr(), both(set(&s.refused, s.free&^s.dirty), set(&s.refusals, 1))
	}},
	{"a refused page is dirty, and may be touched", "a lost one", func(x *smallHeap) (any, func()) {
		s, bit := super(x.large.page().chunk()), pageSet(1)<<x.large.page().inChunk()
		return x.large.page().chunk().addr(), both(set(&s.refused, bit), both(set(&s.lost, bit), set(&s.refusals, 1)))
	}},
	{"the refusals of a chunk are counted", "none", func(x *smallHeap) (any, func()) {
		s := super(x.large.page().chunk())
		return x.large.page().chunk().addr(), set(&s.refused, 1<<x.large.page().inChunk())
	}},
	{"the refusals of a chunk are counted", "too many", func(x *smallHeap) (any, func()) {
		return x.large.page().chunk().addr(), set(&super(x.large.page().chunk()).refusals, maxRefusals+1)
	}},
	{"a page with a factor of its hold time is free", "one in use", func(x *smallHeap) (any, func()) {
		c := x.large.page().chunk()
		region.mu.Lock()
		scalePages(c, 1<<x.large.page().inChunk(), 2)
		region.mu.Unlock()
		return c.addr(), func() {
			region.mu.Lock()
			defer region.mu.Unlock()
			unscalePages(c, 1<<x.large.page().inChunk())
		}
	}},
	{"a page in use is dirty", "a clean one", func(x *smallHeap) (any, func()) {
		s := super(x.large.page().chunk())
		return x.large.page().chunk().addr(), set(&s.dirty, s.dirty&^(1<<x.large.page().inChunk()))
	}},
	{"a page in use is not one that was returned", "one that was", func(x *smallHeap) (any, func()) {
		s := super(x.large.page().chunk())
		return x.large.page().chunk().addr(), set(&s.purged, 1<<x.large.page().inChunk())
	}},
	{"a superslab has slabs", "one without", func(x *smallHeap) (any, func()) {
		return x.free.chunk().addr(), set(&super(x.free.chunk()).isSlabs, true)
	}},
	{wholeChunk, "a free page", func(x *smallHeap) (any, func()) {
		c := x.big.page().chunk() + 1
		return c.addr(), set(&super(c).free, 1)
	}},
	{wholeChunk, "a lost page", func(x *smallHeap) (any, func()) {
		c := x.big.page().chunk() + 1
		return c.addr(), set(&super(c).lost, 1)
	}},
	{wholeChunk, "a page that was returned", func(x *smallHeap) (any, func()) {
		c := x.big.page().chunk() + 1
		return c.addr(), set(&super(c).purged, 1)
	}},
	{wholeChunk, "a superslab", func(x *smallHeap) (any, func()) {
		c := x.big.page().chunk() + 1
		return c.addr(), set(&super(c).isSlabs, true)
	}},
	{wholeChunk, "an EMPTY slab", func(x *smallHeap) (any, func()) {
		c := x.big.page().chunk() + 1
		return c.addr(), swap[uint32](&super(c).emptyMask, 1)
	}},
	{"a chunk that a huge block has as a whole lies in it", "another block's", func(x *smallHeap) (any, func()) {
		c := x.big.page().chunk() + 1
		return c.addr(), set(ownerWord(c), uint32(x.large.page()))
	}},
	{"a chunk that a huge block has as a whole lies in it", "a page that is none", func(x *smallHeap) (any, func()) {
		c := x.big.page().chunk() + 1
		return c.addr(), set(ownerWord(c), uint32(MaxPages))
	}},
	{"pool hints tell where a slab fits", "one that is wrong", func(x *smallHeap) (any, func()) {
		c := x.empty.page().chunk()
		w := &poolHints[2][c/64]
		return c.addr(), set(w, *w^1<<(c%64))
	}},
	{"a superslab with EMPTY slabs has a hint", "none", func(x *smallHeap) (any, func()) {
		c := x.empty.page().chunk()
		return c.addr(), set(hintWord(c), 0)
	}},

	// Slabs.
	{"a slab has a list", "one that no slab has", func(x *smallHeap) (any, func()) {
		return x.empty.addr(), swap[uint32](&x.empty.meta().slabList, numLists)
	}},
	{"a slab begins at a multiple of its length", "in its middle", func(x *smallHeap) (any, func()) {
		p := x.full.page()
		return (p + 1).addr(), both(swap[uint32](&meta(p).slabList, 0), swap[uint32](&meta(p+1).slabList, uint32(sizeclass.Of(20000))))
	}},
	{"a slab has its class's pages", "one more", func(x *smallHeap) (any, func()) {
		return x.full.addr(), set(&x.full.meta().pages, x.full.meta().pages+1)
	}},
	{"a slab's page knows its start", "the last page's", func(x *smallHeap) (any, func()) {
		last := x.full.page() + pageNo(x.full.meta().pages) - 1
		m := meta(last)
		return last.addr(), set(&m.start, m.start+pageSize)
	}},
	{"a slab's page has its kind and class", "another class", func(x *smallHeap) (any, func()) {
		return x.empty.addr(), set(&x.empty.meta().class, x.emptyClass+1)
	}},
	{"a slab's page has its kind and class", "another bucket", func(x *smallHeap) (any, func()) {
		return x.empty.addr(), set(&x.empty.meta().bucket, bucketHuge)
	}},
	{"a slab's page has its kind and class", "another kind", func(x *smallHeap) (any, func()) {
		return x.empty.addr(), set(&x.empty.meta().kind, kindTiny)
	}},
	{"a slab's page has its kind and class", "an Arena's", func(x *smallHeap) (any, func()) {
		return x.leased.addr(), set(&x.leased.meta().flags, flagArena)
	}},
	{"fast paths know a slab's page", "live bytes where there are none", func(x *smallHeap) (any, func()) {
		return x.leased.addr(), set(&x.leased.meta().live0, 1)
	}},
	{"fast paths know a slab's page", "another's live bytes", func(x *smallHeap) (any, func()) {
		m := meta(x.full.page() + 1)
		return x.full.addr() + pageSize, set(&m.live0, m.live0+1)
	}},
	{"a slab's later pages begin no slab", "a class", func(x *smallHeap) (any, func()) {
		return x.full.addr() + pageSize, swap[uint32](&meta(x.full.page()+1).slabList, 1)
	}},
	{"fast paths know a slab's page", "another class", func(x *smallHeap) (any, func()) {
		return x.leased.addr(), set(&PageClass[x.leased.page()], uint8(x.class+1))
	}},
	{"fast paths know a slab's page", "another reciprocal", func(x *smallHeap) (any, func()) {
		return x.full.addr(), set(&x.full.meta().recip, 3)
	}},
	{"a slab's later pages begin no slab", "a state", func(x *smallHeap) (any, func()) {
		return x.full.addr() + pageSize, swap[uint32](&meta(x.full.page()+1).slabState, slabFull)
	}},
	{"a slab's page has no large block's live state", "one", func(x *smallHeap) (any, func()) {
		return x.leased.addr(), set(&x.leased.meta().live, 1)
	}},
	{"a slab's page is a superslab's, and in use", "none's", func(x *smallHeap) (any, func()) {
		return x.leased.addr(), set(&super(x.leased.page().chunk()).isSlabs, false)
	}},
	{"a slab's page is a superslab's, and in use", "a free page", func(x *smallHeap) (any, func()) {
		s := super(x.leased.page().chunk())
		return x.leased.addr(), set(&s.free, s.free|1<<x.leased.page().inChunk())
	}},
	{"the live map of a tiny slab may have memory", "not said", func(x *smallHeap) (any, func()) {
		return x.leased.addr(), set(&super(x.leased.page().chunk()).tiny, 0)
	}},
	{"a slab's mark is a word of its bitmap", "beyond", func(x *smallHeap) (any, func()) {
		return x.full.addr(), set(&x.full.meta().lowWordOrUnits, 1)
	}},
	{"a slab is LEASED if a front or a lane leases it", "by none", func(x *smallHeap) (any, func()) {
		return x.leased.addr(), set(x.f.lease(x.class), 0)
	}},
	{"a slab stays CLAIMED if its memory is lost", "one that is not", func(x *smallHeap) (any, func()) {
		return x.full.addr(), swap[uint32](&x.full.meta().slabState, slabClaimed)
	}},
	{"a slab is PARTIAL if and only if listed", "one that is not listed", func(x *smallHeap) (any, func()) {
		setRemove(commonList(x.emptyClass), x.empty.page())
		return x.empty.addr(), func() { setAdd(commonList(x.emptyClass), x.empty.page()) }
	}},
	{"a slab is PARTIAL if and only if listed", "a FULL one that is", func(x *smallHeap) (any, func()) {
		setAdd(commonList(sizeclass.Of(20000)), x.full.page())
		return x.full.addr(), func() { setRemove(commonList(sizeclass.Of(20000)), x.full.page()) }
	}},
	{"a FULL slab owns no block", "one", func(x *smallHeap) (any, func()) {
		return x.full.addr(), set(x.full.bits(0), 1)
	}},
	{"a PARTIAL slab that owns all its blocks is marked EMPTY", "no mark", func(x *smallHeap) (any, func()) {
		unmarkEmpty(x.empty.page())
		return x.empty.addr(), func() { markEmpty(x.empty.page()) }
	}},
	{"a slab has a state", "none", func(x *smallHeap) (any, func()) {
		return x.full.addr(), swap[uint32](&x.full.meta().slabState, slabNone)
	}},
	{"holes are the memory of free blocks", "of a live one", func(x *smallHeap) (any, func()) {
		w, c := x.empty.bits(0), x.emptyClass
		undo := both(set(w, *w&^1), set(&x.empty.meta().holesOrSeal, 1))
		return x.empty.addr(), both(setState(midLive(x.empty.block(c, 0)), liveState(c)), undo)
	}},
	{"a bitmap has bits of blocks only", "behind the last block", func(x *smallHeap) (any, func()) {
		return x.full.addr(), set(x.full.bits(1), 1)
	}},
	{"a list counts its slabs", "one more", func(x *smallHeap) (any, func()) {
		return nil, set(&lists[x.class].slabs, lists[x.class].slabs+1)
	}},
	{"a list counts its slabs", "one more listed", func(x *smallHeap) (any, func()) {
		return nil, set(&lists[x.class].listed, lists[x.class].listed+1)
	}},
	{"only PARTIAL slabs are in a partial set", "a free page", func(x *smallHeap) (any, func()) {
		setAdd(commonList(x.class), x.free)
		return x.free.addr(), func() { setRemove(commonList(x.class), x.free) }
	}},
	{"a summary says whether the word below is 0", "0 above a member", func(x *smallHeap) (any, func()) {
		return (x.empty.page() &^ 63).addr(), set(setWord(1, commonList(x.emptyClass), uintptr(x.empty.page()>>12)), 0)
	}},
	{"a summary says whether the word below is 0", "a bit above none, at the top", func(x *smallHeap) (any, func()) {
		w := setWord(3, setClasses-2, uintptr(region.firstPage()>>24))
		return nil, set(w, 1<<(region.firstPage()>>18&63))
	}},

	// Large blocks.
	{"a large block has a large block's size and its pages", "a page less", func(x *smallHeap) (any, func()) {
		m := meta(x.large.page())
		return x.large, set(&m.pages, m.pages-1)
	}},
	{"a large block has a large block's size and its pages", "a size between two", func(x *smallHeap) (any, func()) {
		m := meta(x.large.page())
		return x.large, set(&m.largeSize, m.largeSize-16)
	}},
	{"fast paths know a large block", "another class", func(x *smallHeap) (any, func()) {
		m := meta(x.large.page())
		return x.large, set(&m.class, m.class+1)
	}},
	{"fast paths know a large block", "another start", func(x *smallHeap) (any, func()) {
		m := meta(x.large.page())
		return x.large, set(&m.start, m.start+16)
	}},
	{"fast paths know a large block", "no reciprocal", func(x *smallHeap) (any, func()) {
		return x.large, set(&meta(x.large.page()).recip, 0)
	}},
	{"fast paths know a large block", "another live state", func(x *smallHeap) (any, func()) {
		m := meta(x.large.page())
		return x.large, set(&m.live0, m.live0+1)
	}},
	{"fast paths know a large block", "an Arena's chunk", func(x *smallHeap) (any, func()) {
		return x.chunk, set(&meta(x.chunk.page()).recip, 1)
	}},
	{"a large block's later pages are its tail", "free", func(x *smallHeap) (any, func()) {
		return x.large + pageSize, set(&meta(x.large.page()+1).kind, kindFree)
	}},
	{"a large block's later pages are its tail", "a class", func(x *smallHeap) (any, func()) {
		return x.large + pageSize, set(&meta(x.large.page()+1).class, 1)
	}},
	{"a large block's later pages are its tail", "a reciprocal", func(x *smallHeap) (any, func()) {
		return x.large + pageSize, set(&meta(x.large.page()+1).recip, 1)
	}},
	{"a large block's later pages are its tail", "a live state", func(x *smallHeap) (any, func()) {
		return x.large + pageSize, set(&meta(x.large.page()+1).live, liveHuge)
	}},
	{"a large block's page is in use, and no superslab's", "a superslab's", func(x *smallHeap) (any, func()) {
		return x.large, set(&super(x.large.page().chunk()).isSlabs, true)
	}},
	{"a large block's later pages are its tail", "another large block's", func(x *smallHeap) (any, func()) {
		return x.large + pageSize, set(&meta(x.large.page()+1).start, (x.large + pageSize).addr())
	}},
	{"a large block's page is in use, and no superslab's", "a free page", func(x *smallHeap) (any, func()) {
		page := x.large.page() + 1
		s := super(page.chunk())
		return page.addr(), set(&s.free, s.free|1<<page.inChunk())
	}},
	{"a chunk of an Arena has no live state", "one", func(x *smallHeap) (any, func()) {
		return x.chunk, set(&meta(x.chunk.page()).live, liveHuge)
	}},
	{"a large block's live state is its class, or says more", "another class", func(x *smallHeap) (any, func()) {
		m := meta(x.large.page())
		return x.large, set(&m.live, m.live+1)
	}},
	{"a large block's live state is its class, or says more", "a class above 2 MiB", func(x *smallHeap) (any, func()) {
		return x.big, set(&meta(x.big.page()).live, sizeclass.NumAll)
	}},
	{"a large block has a site while its live state says so", "a site without", func(x *smallHeap) (any, func()) {
		return x.large, set(&meta(x.large.page()).siteOrListed, uint32(x.site))
	}},
	{"a large block has a site while its live state says so", "a site that is none", func(x *smallHeap) (any, func()) {
		return x.sitedLarge, set(&meta(x.sitedLarge.page()).siteOrListed, site.Max)
	}},
	{"statistics count the live large blocks", "a kind that is lost", func(x *smallHeap) (any, func()) {
		m := meta(x.large.page()) // ReadTotals believes the page, the check its size
		return nil, set(&m.largeSize, m.largeSize-16)
	}},
	{"large blocks made less large blocks given back are those there are", "one more", func(x *smallHeap) (any, func()) {
		return nil, swap[uint64](&largeStats.allocs, largeStats.allocs.Load()+1)
	}},

	// Free pages.
	{"a page in use is a slab's or a large block's", "one that is neither", func(x *smallHeap) (any, func()) {
		s := super(x.free.chunk())
		return x.free.addr(), both(set(&s.free, s.free&^(1<<x.free.inChunk())), set(&s.dirty, s.dirty|1<<x.free.inChunk()))
	}},
	{"a page that is no slab's or large block's is free", "a tail without a large block", func(x *smallHeap) (any, func()) {
		return x.free.addr(), set(&meta(x.free).kind, kindLargeTail)
	}},
	{"fast paths find no block in a free page", "a live state", func(x *smallHeap) (any, func()) {
		return x.free.addr(), set(&meta(x.free).live, liveHuge)
	}},
	{"a page without a slab says so", "a slab's class", func(x *smallHeap) (any, func()) {
		return x.large + pageSize, swap[uint32](&meta(x.large.page()+1).slabList, 1)
	}},
	{"fast paths find no block in a free page", "a reciprocal", func(x *smallHeap) (any, func()) {
		return x.free.addr(), set(&meta(x.free).recip, 1)
	}},
	{"a slab that was given back left no bits", "one", func(x *smallHeap) (any, func()) {
		return x.slabFreed.addr(), set(slabID(x.slabFreed+1).bits(3), 8)
	}},
	{"a page without a slab says so", "a class for the fast paths", func(x *smallHeap) (any, func()) {
		return x.free.addr(), set(&PageClass[x.free], 1)
	}},
	{"a page without a slab says so", "a large block with a slab's state", func(x *smallHeap) (any, func()) {
		return x.large, swap[uint32](&meta(x.large.page()).slabState, slabFull)
	}},
	{"no live state is left where no slab is", "in the live map", func(x *smallHeap) (any, func()) {
		p := x.slabFreed.addr()
		return p, setState(liveOf(Block(p+4096)), 3)
	}},
	{"no live state is left where no slab is", "a mid block's", func(x *smallHeap) (any, func()) {
		return x.large, set(&meta(x.large.page()).mid[40], 3)
	}},

	// The page tree and the counts.
	{"the page tree has the free pages", "a page more", func(x *smallHeap) (any, func()) {
		n := tree.node(tree.leaves + uintptr(x.large.page().chunk()))
		return x.large.page().chunk().addr(), set(&n.max, n.max+1)
	}},
	{"a node of the page tree sums up its children", "the root", func(x *smallHeap) (any, func()) {
		return 1, set(&tree.node(1).pre, 7)
	}},
	{"pages in use and dirty pages are counted", "one more in use", func(x *smallHeap) (any, func()) {
		return nil, set(&pageUse.used, pageUse.used+1)
	}},
	{"pages in use and dirty pages are counted", "one more dirty", func(x *smallHeap) (any, func()) {
		return nil, set(&pageUse.dirty, pageUse.dirty+1)
	}},
	{"refused pages are counted", "one more", func(x *smallHeap) (any, func()) {
		return nil, set(&pageUse.refused, pageUse.refused+1)
	}},
	{"memory is counted as the limits count it", "an OS page more", func(x *smallHeap) (any, func()) {
		count(residentUnit)
		return nil, func() { uncount(residentUnit) }
	}},
	{"a page of which some units are resident is dirty", "one that was never used", func(x *smallHeap) (any, func()) {
		s := super(x.free.chunk())
		return x.free.chunk().addr(), both(set(&s.dirty, s.dirty&^(1<<x.free.inChunk())), set(&s.partly, s.partly|1<<x.free.inChunk()))
	}},
	{"a page that got memory with another one is free, and dirty", "one in use", func(x *smallHeap) (any, func()) {
		s := super(x.leased.page().chunk())
		return x.leased.page().chunk().addr(), set(&s.unused, s.unused|1<<x.leased.page().inChunk())
	}},
	{"a page that is used in part is in use", "a free one", func(x *smallHeap) (any, func()) {
		s := super(x.free.chunk())
		return x.free.chunk().addr(), set(&s.short, s.short|1<<x.free.inChunk())
	}},
	{"a page that is used in part is in use", "one that is used as a whole has an end", func(x *smallHeap) (any, func()) {
		s := super(x.leased.page().chunk())
		return x.leased.page().chunk().addr(), set(&s.torn, s.torn|1<<x.leased.page().inChunk())
	}},
	{"the tables of a chunk that is in use are counted", "none", func(x *smallHeap) (any, func()) {
		s := super(x.leased.page().chunk())
		return x.leased.page().chunk().addr(), set(&s.tables, 0)
	}},
	{"it is known how much of a page is used", "a slab's, in part", func(x *smallHeap) (any, func()) {
		s := super(x.leased.page().chunk())
		return x.leased.page().addr(), set(&s.short, s.short|1<<x.leased.page().inChunk())
	}},
	{"it is known how much of a page is used", "less of a large block's last page", func(x *smallHeap) (any, func()) {
		last := x.chunk.page() + 1 // 100 KiB take 104
		if s := super(last.chunk()); region.huge {
			return last.addr(), set(&s.short, s.short|1<<last.inChunk())
		}
		return last.addr(), set(&meta(last).lowWordOrUnits, 3)
	}},
	{"what is used of a page may be resident", "a slab's, in part", func(x *smallHeap) (any, func()) {
		s := super(x.leased.page().chunk())
		return x.leased.addr(), both(set(&s.partly, s.partly|1<<x.leased.page().inChunk()), set(&x.leased.meta().resident, 1))
	}},
	{"a magazine's memory is counted", "not", func(x *smallHeap) (any, func()) {
		return x.f, set(&x.f.head().touched, [2]uint64{})
	}},
	{"the site map of a block with a site is counted", "not", func(x *smallHeap) (any, func()) {
		s := super(x.sited.page().chunk())
		return x.sited, swap(&s.sited, 0)
	}},
	{"pages faulted again were kept in vain and returned before", "more", func(x *smallHeap) (any, func()) {
		return nil, set(&pageUse.again, pageUse.returned+1)
	}},
	{"chunks that are away are counted", "one more", func(x *smallHeap) (any, func()) { return nil, set(&chunksAway, chunksAway+1) }},
	{"superslabs are counted", "one more", func(x *smallHeap) (any, func()) {
		superslabs.Add(1)
		return nil, func() { superslabs.Add(-1) }
	}},
	{"no slab waits for its holes", "one", func(x *smallHeap) (any, func()) { return nil, set(&punching.n, 1) }},
	{"the soft limit is not above the hard one", "above", func(x *smallHeap) (any, func()) {
		soft, hard, was := memoryLimit.soft.Load(), memoryLimit.hard.Load(), limitSet
		memoryLimit.soft.Store(1 << 40)
		memoryLimit.hard.Store(1 << 39)
		limitSet = true
		return nil, func() {
			memoryLimit.soft.Store(soft)
			memoryLimit.hard.Store(hard)
			limitSet = was
		}
	}},
}

// TestInvariantsBroken damages one thing after another in a sound heap. The report must name the
// rule and the address of each damage. Then the damage is repaired.
func TestInvariantsBroken(t *testing.T) {
	if !checkLive {
		t.Skip("skipped: hakmem_nolive has no live states to hold against each other")
	}
	x := newSmallHeap(t)
	for _, b := range breakers {
		t.Run(b.rule+"/"+b.what, func(t *testing.T) {
			at, repair := b.do(x)
			err := CheckInvariants()
			repair()
			if err == nil {
				t.Fatal("nothing was reported")
			}
			found := slices.ContainsFunc(strings.Split(err.Error(), "\n"), func(line string) bool {
				return strings.HasPrefix(line, "hakmem: broken invariant: "+b.rule+": ") && (at == nil || strings.Contains(line, fmt.Sprintf("%#x", at))) &&
					strings.Contains(line, ": found ") && strings.Contains(line, ", want ")
			})
			if !found {
				t.Errorf("no %q at %#x in:\n%v", b.rule, at, err)
			}
			if err := CheckInvariants(); err != nil {
				t.Fatalf("repaired, and still:\n%v", err)
			}
		})
	}
}

// TestEveryInvariantIsBroken reads the rules out of the source, and wants a breaker for each.
func TestEveryInvariantIsBroken(t *testing.T) {
	rules := map[string]bool{}
	for _, file := range []string{"checker.go", "invariants.go", "invariants_fronts.go", "invariants_region.go"} {
		tree, err := parser.ParseFile(gotoken.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			if f, ok := call.Fun.(*ast.SelectorExpr); !ok || f.Sel.Name != "bad" {
				return true
			}
			text, ok := call.Args[1].(*ast.BasicLit)
			if !ok {
				t.Fatalf("%s: a rule is not a constant text", file)
			}
			rule, err := strconv.Unquote(text.Value)
			if err != nil {
				t.Fatal(err)
			}
			rules[rule] = true
			return true
		})
	}
	if len(rules) < 60 {
		t.Errorf("%d rules found in the source", len(rules))
	}
	for _, b := range breakers {
		if !rules[b.rule] {
			t.Errorf("the breaker of %q breaks no rule", b.rule)
		}
	}
	for _, rule := range slices.Sorted(maps.Keys(rules)) {
		if !slices.ContainsFunc(breakers, func(b breaker) bool { return b.rule == rule }) {
			t.Errorf("nothing breaks %q", rule)
		}
	}
}

// TestInvariantsReportIsBounded: one broken table does not fill the log.
func TestInvariantsReportIsBounded(t *testing.T) {
	if !checkLive {
		t.Skip("skipped: see TestInvariantsBroken")
	}
	x := newSmallHeap(t)
	w := x.leased.bits(0)
	for i := range uint32(4) {
		defer set(x.leased.bits(i), 0)()
	}
	err := CheckInvariants()
	if err == nil {
		t.Fatal("nothing was reported")
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != maxFindings+1 || !strings.HasSuffix(lines[maxFindings], "more broken invariants") {
		t.Errorf("%d lines, the last of them %q; bits %#x", len(lines), lines[len(lines)-1], *w)
	}
}
