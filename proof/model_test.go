package proof

import (
	"runtime"
	"slices"
	"sort"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"pgregory.net/rapid"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/engine"
	"github.com/hakmem/hakmem/internal/learn"
	"github.com/hakmem/hakmem/internal/policy"
	"github.com/hakmem/hakmem/internal/site"
	"github.com/hakmem/hakmem/internal/testkit"
)

// The model is a machine that does things with hakmem and keeps its own records. After each action
// the allocator must agree with the records: contents, sizes, alignment, no overlap, LiveBlocks,
// statistics. The actions are in actions_test.go. In TestModel, rapid draws the machine's choices
// and shrinks a failing program; fuzz targets take the choices from bytes.

// source makes the machine's choices.
type source interface {
	// choose returns a number from 0 to n-1.
	choose(what string, n int) int
}

const (
	// budget bounds the live bytes: a tenth of the memory of a small computer, and enough to commit
	// several times.
	budget = 32 << 20
	// maxBlocks bounds the live blocks, and so the cost of a check.
	maxBlocks = 3000
	// maxStale is how many freed addresses are remembered for misuse.
	maxStale = 64
	// maxHandles bounds the open Heaps and Arenas.
	maxHandles = 4
)

// arena is an open Arena and the pieces that it handed out since its last Reset.
type arena struct {
	a      *hakmem.Arena
	pieces []*block
}

// machine is one run of the model. One goroutine drives it.
type machine struct {
	tb
	source
	clock   testkit.Clock
	blocks  []*block // live, without pieces of Arenas, the oldest first
	byAddr  []*block // the same and the pieces of Arenas, by address
	heaps   []*hakmem.Heap
	arenas  []*arena
	stale   []unsafe.Pointer // freed lately
	sites   []hakmem.Site
	held    uintptr // live bytes
	keys    uint64
	outOf   uint64 // the expected Stats.OutOfMemory
	limit   bool   // a hard limit is set: allocations may fail
	hardNow uint64 // the hard limit
	most    uint64 // bytes that may be in use: what the limit allows, or what was in use at the last look
	refused uint64 // refusals of the limit when an allocation last failed
	traced  bool

	soft, hard    uint64 // the limits at the beginning
	procs         int
	before, after hakmem.Stats
	pol           *policy.Settings
}

// begin returns a machine for an allocator without live blocks.
func begin(t tb, s source) *machine {
	t.Helper()
	m := &machine{tb: t, source: s, procs: runtime.GOMAXPROCS(0), pol: policy.Current()}
	hakmem.Trim() // caches hold what was put there at another clock's time
	engine.SetClock(&m.clock)
	if err := quiescent(); err != nil {
		t.Fatalf("before the first action: %v", err)
	}
	hakmem.Free(hakmem.Malloc(1)) // Configure is too late from here on
	for _, name := range []string{"proof a", "proof b"} {
		m.sites = append(m.sites, hakmem.RegisterSite(name))
	}
	hakmem.ReadStats(&m.before)
	m.outOf = m.before.OutOfMemory
	m.soft, m.hard = hakmem.MemoryLimit()
	m.limited(m.hard)
	return m
}

// limited records the hard limit.
func (m *machine) limited(hard uint64) {
	hakmem.ReadStats(&m.after)
	s := &m.after
	m.limit, m.hardNow, m.most, m.refused = hard != 0, hard, max(hard, s.Counted), s.Scavenger.LimitRefused
}

// failed records that an allocation failed, for which a limit must be the reason.
func (m *machine) failed(op string, size uintptr) {
	m.Helper()
	hakmem.ReadStats(&m.after)
	was, n := m.refused, m.after.Scavenger.LimitRefused
	if !m.limit || n == was {
		m.Fatalf("%s(%d) failed; is there a hard limit? %v; it has refused %d times, when one last failed %d: %v", op, size, m.limit, n, was, hakmem.Err())
	}
	m.refused = n
	m.outOf++
}

// end frees everything and checks that the allocator is as it was at the beginning.
func (m *machine) end() {
	m.check()
	for len(m.blocks) > 0 {
		m.drop(len(m.blocks)-1, hakmem.Free)
	}
	for len(m.arenas) > 0 {
		m.closeArena(len(m.arenas) - 1)
	}
	for len(m.heaps) > 0 {
		m.closeHeap(len(m.heaps) - 1)
	}
	m.check()
	m.goIdle()
	m.cleanUp()
	if err := quiescent(); err != nil {
		m.Fatalf("all was freed, and yet: %v", err)
	}
}

// goIdle lets time pass for a program that has freed everything. All memory must go back, without a
// Trim, and then the scavenger must stop.
func (m *machine) goIdle() {
	if m.pol.Keep == policy.KeepAlways {
		return
	}
	m.clock.Advance(time.Hour)
	s := &m.after
	hakmem.ReadStats(s)
	if s.InMagazines != 0 || s.Large.CachedBytes != 0 || s.Scavenger.Dirty != 0 || s.Scavenger.Running {
		m.Fatalf("an hour after everything was freed: %d bytes in magazines, %d warm in %d spans, %d in free pages; the scavenger runs: %v",
			s.InMagazines, s.Large.CachedBytes, s.Large.CachedBlocks, s.Scavenger.Dirty, s.Scavenger.Running)
	}
}

// cleanUp undoes what a failed machine has left behind, so that the next machine, with which rapid
// searches for a smaller program, finds an empty allocator. After end it only restores what is not
// memory.
func (m *machine) cleanUp() {
	try := func(f func()) { testkit.PanicOf(f) } // the failure may have left any state
	try(func() { m.traced = false; _ = hakmem.StopTrace() })
	for _, a := range m.arenas {
		try(a.a.Close)
	}
	for _, h := range m.heaps {
		try(h.Close)
	}
	for _, b := range walked() {
		try(func() { hakmem.Free(b.Pointer()) })
	}
	m.blocks, m.byAddr, m.heaps, m.arenas = nil, nil, nil, nil
	_ = hakmem.SetMemoryLimit(m.soft, m.hard)
	runtime.GOMAXPROCS(m.procs)
	try(hakmem.Trim)
	engine.SetClock(nil)
}

// do calls f, sometimes on another goroutine, which may run on another P. A panic of f is a
// finding.
func (m *machine) do(f func()) {
	if m.choose("goroutine", 4) == 0 {
		f()
		return
	}
	m.elsewhere(f)
}

func (m *machine) elsewhere(f func()) {
	done := make(chan any)
	go func() { done <- testkit.PanicOf(f) }()
	if v := <-done; v != nil {
		m.Fatalf("panic: %v", v)
	}
}

// next returns the index in byAddr of the first block that ends after address a.
func (m *machine) next(a uintptr) int {
	return sort.Search(len(m.byAddr), func(i int) bool { return m.byAddr[i].end() > a })
}

// at returns the block that contains the byte at address a, or nil.
func (m *machine) at(a uintptr) *block {
	if i := m.next(a); i < len(m.byAddr) && uintptr(m.byAddr[i].p) <= a {
		return m.byAddr[i]
	}
	return nil
}

// add records a block that was just handed out, and writes it.
func (m *machine) add(b *block) {
	i := m.next(uintptr(b.p))
	if i < len(m.byAddr) && uintptr(m.byAddr[i].p) < b.end() {
		m.Fatalf("%v overlaps %v", b, m.byAddr[i])
	}
	m.byAddr = slices.Insert(m.byAddr, i, b)
	m.keys++
	b.key = keyOf(b.p, m.keys)
	write(b.p, b.usable, b.key)
	m.held += b.usable
	if b.arena != nil {
		b.arena.pieces = append(b.arena.pieces, b)
	} else {
		m.blocks = append(m.blocks, b)
	}
}

// forget takes a block out of byAddr.
func (m *machine) forget(b *block) {
	i := sort.Search(len(m.byAddr), func(i int) bool { return uintptr(m.byAddr[i].p) >= uintptr(b.p) })
	m.byAddr = slices.Delete(m.byAddr, i, i+1)
	m.held -= b.usable
}

func (m *machine) mustBeIntact(b *block) {
	if !intact(b.p, b.usable, b.usable, b.key) {
		m.Fatalf("%v: its contents were changed", b)
	}
}

// want says what an allocation was asked for.
type want struct {
	op          string
	size, align uintptr
	zero        bool
	exact       bool // the usable size is GoodSize(size)
	site        hakmem.Site
}

// got records what an allocation returned.
func (m *machine) got(p unsafe.Pointer, w want) *block {
	m.Helper()
	if p == nil {
		m.failed(w.op, w.size)
		return nil
	}
	b := &block{p: p, size: w.size, usable: m.usable(p), site: w.site}
	a := max(w.align, 16)
	if w.exact { // what Malloc promises; a block that a Realloc leaves where it is need not have it
		good := hakmem.GoodSize(w.size)
		a = max(a, min(good&-good, 64<<10))
		if good > 32<<10 {
			a = max(a, 64<<10)
		}
	}
	if uintptr(p)%a != 0 {
		m.Fatalf("%s(%d): %v is not aligned to %d", w.op, w.size, b, a)
	}
	switch {
	case m.pol.Harden: // a block has exactly what was asked for
		if b.usable < w.size || w.exact && b.usable != w.size {
			m.Fatalf("%s(%d): %v", w.op, w.size, b)
		}
	case b.usable < w.size || w.exact && b.usable != hakmem.GoodSize(w.size) && (m.pol.Guard == 0 || b.usable != w.size) && !m.mayBeWider(w, b.usable):
		m.Fatalf("%s(%d): %v, the good size is %d", w.op, w.size, b, hakmem.GoodSize(w.size))
	}
	if w.zero && !isZero(p, w.size) {
		m.Fatalf("%s(%d): %v is not zero", w.op, w.size, b)
	}
	m.add(b)
	return b
}

// mayBeWider reports whether a request may be served by a cached block of so many bytes, which is of a larger
// class.
func (m *machine) mayBeWider(w want, usable uintptr) bool {
	factor, fixed := m.pol.WMax.Factor()
	if !fixed {
		factor = slices.Max(learn.WMaxFactors[:])
	}
	if w.site != 0 {
		if set, _ := hakmem.ReadSiteRule(w.site); set.WMax != 0 {
			factor = set.WMax
		}
	}
	return w.size > 32<<10 && usable == hakmem.GoodSize(usable) && float64(usable) <= factor*float64(w.size)
}

func (m *machine) usable(p unsafe.Pointer) (n uintptr) {
	if v := testkit.PanicOf(func() { n = hakmem.UsableSize(p) }); v != nil {
		m.Fatalf("UsableSize(%p): %v", p, v)
	}
	return n
}

// pick chooses a live block.
func (m *machine) pick() (i int, ok bool) {
	if len(m.blocks) == 0 {
		return 0, false
	}
	return m.choose("block", len(m.blocks)), true
}

// drop checks block i and frees it.
func (m *machine) drop(i int, free func(unsafe.Pointer)) {
	b := m.blocks[i]
	m.mustBeIntact(b)
	if v := testkit.PanicOf(func() { free(b.p) }); v != nil {
		m.Fatalf("free of %v: %v", b, v)
	}
	m.dropped(i)
}

// dropped records that block i was freed.
func (m *machine) dropped(i int) {
	b := m.blocks[i]
	m.blocks = slices.Delete(m.blocks, i, i+1)
	m.forget(b)
	if len(m.stale) == maxStale {
		m.stale = slices.Delete(m.stale, 0, 1)
	}
	m.stale = append(m.stale, b.p)
}

// room reports whether n more bytes may be allocated.
func (m *machine) room(n uintptr) bool {
	return m.held+n <= budget && len(m.byAddr) < maxBlocks
}

// check compares the allocator with the records, checks every byte of every block, and compares the
// allocator's tables with each other.
func (m *machine) check() {
	m.Helper()
	for _, b := range m.byAddr {
		m.mustBeIntact(b)
	}
	if err := hakmem.CheckInvariants(); err != nil {
		m.Fatalf("%v", err)
	}
	live := walked()
	s := &m.after
	hakmem.ReadStats(s)
	if err := addUp(s, live); err != nil {
		m.Fatalf("%v", err)
	}
	found := 0
	for _, l := range live {
		i := m.next(l.Addr)
		if l.Arena { // all pieces of Arenas lie in such chunks
			for ; i < len(m.byAddr) && m.byAddr[i].end() <= l.Addr+l.Size; i++ {
				if m.byAddr[i].arena == nil {
					m.Fatalf("%v lies in an Arena's chunk of %d bytes at %#x", m.byAddr[i], l.Size, l.Addr)
				}
				found++
			}
			continue
		}
		if i == len(m.byAddr) || uintptr(m.byAddr[i].p) != l.Addr {
			m.Fatalf("LiveBlocks yields a block at %#x of %d bytes, which is not in the books", l.Addr, l.Size)
		}
		b := m.byAddr[i]
		// A block without a site may have its caller as one (HAKMEM_SITES=pc).
		drawn := b.site == 0 && engine.IsCaller(site.ID(l.Site))
		if b.arena != nil || l.Site != b.site && !drawn || l.Pointer() != b.p || m.sizeOf(b, l) != l.Size {
			m.Fatalf("LiveBlocks yields %+v for %v with site %d", l, b, b.site)
		}
		found++
	}
	if found != len(m.byAddr) {
		m.Fatalf("LiveBlocks yields %d of %d blocks", found, len(m.byAddr))
	}
	if s.OutOfMemory != m.outOf {
		m.Fatalf("%d allocations that failed, the statistics have %d", m.outOf, s.OutOfMemory)
	}
	if n := s.Counted; m.limit {
		// The fronts of Ps count and are not refused, nor are those that wait to be used again.
		if n > m.most+uint64(s.Fronts+runtime.GOMAXPROCS(0))*engine.FrontBytes {
			m.Fatalf("%d bytes of memory in spite of a hard limit; at most %d may be, and %d for each of %d fronts and %d Ps; %+v", n, m.most, engine.FrontBytes, s.Fronts, runtime.GOMAXPROCS(0), *s)
		}
		m.most = max(m.hardNow, min(n, m.most)) // what was in use when the limit was set may go, but must not come back
	}
	if s.LateDoubleFrees != 0 {
		m.Fatalf("%d late double frees", s.LateDoubleFrees)
	}
	if s.Fronts < len(m.heaps) {
		m.Fatalf("%d fronts, %d open Heaps", s.Fronts, len(m.heaps))
	}
}

// sizeOf returns the size that LiveBlocks must give for a block: that of its class, minus the bytes
// that HAKMEM_HARDEN keeps for itself (at least 16).
func (m *machine) sizeOf(b *block, l hakmem.LiveBlock) uintptr {
	if m.pol.Harden && m.pol.Guard == 0 {
		return max(l.Size, hakmem.GoodSize(b.usable+16))
	}
	if m.pol.Harden { // a guarded block has exactly its own size
		return max(l.Size, b.usable)
	}
	return b.usable
}

// draws is the source that rapid feeds.
type draws struct{ *rapid.T }

func (d draws) choose(what string, n int) int { return rapid.IntRange(0, n-1).Draw(d.T, what) }

// ran counts how often each action ran in all tests of the process.
var ran = map[string]*atomic.Int64{}

func init() {
	for _, a := range actions {
		ran[a.name] = new(atomic.Int64)
	}
}

// run does an action.
func (m *machine) run(a *action) {
	if a.do(m) {
		ran[a.name].Add(1)
	}
}

func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := begin(t, draws{t})
		defer m.cleanUp()
		steps := map[string]func(*rapid.T){"": func(*rapid.T) { m.check() }}
		for i := range actions {
			a := &actions[i]
			steps[a.name] = func(t *rapid.T) {
				if !a.do(m) {
					t.Skip()
				}
				ran[a.name].Add(1)
			}
		}
		t.Repeat(steps)
		m.end()
	})
	checkQuiescent(t)
	total := int64(0)
	for _, n := range ran {
		total += n.Load()
	}
	t.Logf("%d actions", total)
	if total < 50*int64(len(actions)) {
		return
	}
	for i := range actions { // with 50 each on average, none is 0 by chance
		a := &actions[i]
		if ran[a.name].Load() == 0 && (a.name != "overflow" || findsOverflows(policy.Current())) {
			t.Errorf("of %d actions none was %q: does it ever do anything?", total, a.name)
		}
	}
}

// sizes are the sizes around every class boundary up to 4 MiB, and around those that a preset adds.
var sizes = func() (s []uintptr) {
	for _, c := range append(hakmem.SizeClasses(), 4224, 16512) {
		s = append(s, uintptr(c)-1, uintptr(c), uintptr(c)+1)
	}
	for c := uintptr(32 << 10); c < 4<<20; c = hakmem.GoodSize(c + 1) {
		s = append(s, c-1, c, c+1)
	}
	return s
}()

// anySize chooses a size: mostly tiny, seldom large, and often one next to a boundary.
func (m *machine) anySize() uintptr {
	n := uintptr(0)
	switch m.choose("kind of size", 10) {
	case 0, 1, 2, 3:
		n = uintptr(m.choose("size", 1025))
	case 4, 5:
		n = uintptr(m.choose("size", 32<<10+1))
	case 6, 7:
		n = sizes[m.choose("boundary", len(sizes))]
	case 8:
		n = uintptr(m.choose("size", 300<<10))
	case 9:
		n = uintptr(m.choose("size", 5<<20))
	}
	if !m.room(n) {
		n %= 1024
	}
	return n
}

// windows are the times by which the clock may be moved: from less than a tick of the scavenger to
// more than it keeps anything.
var windows = []time.Duration{50 * time.Millisecond, 300 * time.Millisecond, 2 * time.Second, 20 * time.Second}

// makeRoom frees the oldest blocks until the machine is within its budget.
func (m *machine) makeRoom() {
	for len(m.blocks) > 0 && !m.room(1<<20) {
		m.drop(0, hakmem.Free)
	}
	for len(m.arenas) > 0 && !m.room(1<<20) {
		m.closeArena(0)
	}
}

func (m *machine) closeHeap(i int) {
	if v := testkit.PanicOf(m.heaps[i].Close); v != nil {
		m.Fatalf("Heap.Close: %v", v)
	}
	m.heaps = slices.Delete(m.heaps, i, i+1)
}

// clear records that the Arena's pieces are gone.
func (m *machine) clear(a *arena) {
	for _, b := range a.pieces {
		m.mustBeIntact(b)
		m.forget(b)
	}
	a.pieces = nil
}

func (m *machine) closeArena(i int) {
	m.clear(m.arenas[i])
	if v := testkit.PanicOf(m.arenas[i].a.Close); v != nil {
		m.Fatalf("Arena.Close: %v", v)
	}
	m.arenas = slices.Delete(m.arenas, i, i+1)
}
