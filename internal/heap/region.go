package heap

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/asan"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/policy"
	"github.com/hakmem/hakmem/internal/sizeclass"
	"github.com/hakmem/hakmem/internal/telemetry"
)

const (
	pageShift = sizeclass.PageShift
	pageSize  = sizeclass.PageSize

	// A superslab is 32 pages, 2 MiB: the size of a huge page on amd64 and
	// arm64, and one bit of a uint32 for each page.
	superPages = 32
	superShift = pageShift + 5
	superSize  = 1 << superShift

	granuleShift = 4

	// minRegion is the least region worth having; below it init gives up.
	minRegion = 256 << 20
	// metaStep is how much of the region each commit of metadata covers, so
	// that metadata needs few system calls: 5 MiB of maps for 64 MiB.
	metaStep = 64 << 20
)

// What the fast paths need to know of the region. Written once, when the region
// is reserved, under region.mu, before any block is handed out. (Where reserved
// memory cannot be read, Granules grows with each commit; see
// osmem.ReadableReserve.) Plain variables, not a struct: a field would cost the
// Heap's fast paths the inliner's last unit.
var (
	// Base is the region's first address, and until there is a region noBase, an
	// address from which no pointer's distance is one within a region.
	Base uintptr = noBase
	// Granules bounds (p-Base)>>4 for pointers into the region; 0 until there is
	// one.
	Granules uintptr
	// Live is Base less Base>>4: the live map begins at Base, so the live byte
	// of p is at Live + p>>4, which is Base + (p-Base)>>4.
	Live uintptr
	// Pages is the address of the page table's first entry.
	Pages uintptr
)

const (
	// MaxPages is the pages of the largest region: 1 TiB for blocks and a 15th
	// of that for the live map, rounded up.
	MaxPages = (maxRegion + maxRegion/8) >> pageShift

	maxRegion = 1 << 40

	// noBase has the top bit and the lowest bit set: subtracted from a pointer
	// it leaves a distance of over 2^62, or one that is not a multiple of 16.
	noBase = 1<<63 + 1
)

// PageClass has the class of each page of the region: that of the tiny slab it
// is, or 0. One byte a page, so that the classes of a gigabyte fit the first
// cache; a plain array of the largest size, because untouched memory is free
// and its address and length are constants.
var PageClass [MaxPages]uint8

// area is one kind of metadata: a fixed number of bytes for each page of the
// region, committed as the region is. Owned by region.mu.
type area struct {
	base      uintptr
	unit      uintptr // bytes for each page of the region
	committed uintptr // bytes from base that need no commit any more
	lazy      bool    // committed only once it has a user
}

// The region: one range of address space, reserved by the first slow path and
// never unmapped while the process lives, so that a stale pointer can never
// land in memory that Go has taken since. It begins with the live map of the
// whole region, so that one address, the base, leads to a block's page and to
// its live byte; the pages for blocks follow. Committed pages are contiguous.
// All fields are owned by mu, but for those written once by reserve, which may
// be read by who has seen ready.
var region regionState

type regionState struct {
	mu    sync.Mutex
	ready atomic.Bool
	tries uint // calls of reserveRegion so far

	base, size uintptr
	first      uintptr        // offset of the first page for blocks
	committed  atomic.Uintptr // offset up to which pages may be touched
	step       uintptr        // next commit step, in bytes

	live   area    // one byte per granule: see live.go
	pages  area    // pageMeta: see slab.go
	bits   area    // one bitmap of maxWords words per page: see slab.go
	sets   area    // level 0 of the partial sets: see partialset.go
	sites  area    // one uint16 per granule, lazily: see site.go
	supers uintptr // superMeta per superslab
	tree   pageTree

	metaCommitted atomic.Uintptr // bytes of metadata that may be written

	refusal error // why the last one that ran out of memory did
	limited bool  // that was the hard memory limit instead
}

// areas lists the metadata that grows with the committed pages.
func (r *regionState) areas() [5]*area {
	return [...]*area{&r.live, &r.pages, &r.bits, &r.sets, &r.sites}
}

// errRegion is what every allocation fails with when no region could be had.
var errRegion = errors.New("hakmem: no address space could be reserved")

var survived struct {
	sync.Mutex
	errs  []error
	texts [maxSurvived]string
}

// maxSurvived bounds the list of survived errors: the first ones tell most.
const maxSurvived = 16

// survive records an error that did not stop hakmem, unless there is one already
// that reads the same: in a storm of failures the list would have no place for
// another kind.
func survive(err error) {
	text := err.Error()
	s := &survived
	s.Lock()
	defer s.Unlock()
	n := len(s.errs)
	if n < maxSurvived && !slices.Contains(s.texts[:n], text) {
		s.texts[n], s.errs = text, append(s.errs, err)
	}
}

// InLiveMap reports whether a is the address of a byte of the live map. For tests.
func InLiveMap(a uintptr) bool { return a-region.base < region.first }

// Survived returns what went wrong so far and was survived, oldest first.
func Survived() []error {
	survived.Lock()
	defer survived.Unlock()
	return append([]error(nil), survived.errs...)
}

// Ready reserves the region if that was not tried yet and reports whether
// there is one. Any goroutine, not pinned.
func Ready() bool {
	if region.ready.Load() {
		return true
	}
	region.mu.Lock()
	defer region.mu.Unlock()
	if region.ready.Load() {
		return true
	}
	// The refusal may pass, but a try costs many system calls: of n failed
	// allocations log2(n) try again.
	region.tries++
	if region.tries&(region.tries-1) != 0 {
		return false
	}
	if err := reserveRegion(); err != nil {
		_ = region.refuse(err)
		return false
	}
	return true
}

// refuse records why there is no more memory, and returns it. Under mu.
func (r *regionState) refuse(err error) error {
	r.refusal, r.limited = err, false
	survive(err)
	return err
}

// remedy says how the region could be larger. Under mu.
func (r *regionState) remedy() string {
	switch asked := uintptr(policy.Current().RegionBytes); {
	case r.size-r.first < min(asked, maxRegion, maxTracked)&^(superSize-1):
		return "the address space had no room for more; raise RLIMIT_AS (ulimit -v)"
	case asked < min(maxRegion, maxTracked):
		return "raise HAKMEM_REGION_BYTES"
	default:
		return "no larger one is supported; free blocks"
	}
}

// Refusal returns why there was no memory for a block of size bytes just now: nil
// where no machine has as much. (Where several goroutines run out of memory at the
// same time, for different reasons, it may be another one's.)
func Refusal(size uintptr) error {
	region.mu.Lock()
	defer region.mu.Unlock()
	r := &region
	switch usable, ok := sizeclass.SpanSize(max(size, sizeclass.MaxMid+1)); {
	case !r.ready.Load():
		return r.refusal
	case !ok || usable > MostMemory:
		return nil
	case usable > r.size-r.first:
		return fmt.Errorf("hakmem: the region has %d bytes: %s", r.size-r.first, r.remedy())
	case r.limited:
		return fmt.Errorf("hakmem: the hard memory limit of %d bytes is reached: free blocks, or raise it (SetMemoryLimit, HAKMEM_MEMORY_HARD)", uint64(memoryLimit.hard.Load())<<pageShift)
	default:
		return r.refusal
	}
}

// MostMemory is 128 TiB, all that a process may address on most systems.
const MostMemory = 1 << 47

// Configure calls set if no allocation was made yet, and reports whether it
// did: the first slow path reads the policy's region size for good.
func Configure(set func()) bool {
	region.mu.Lock()
	defer region.mu.Unlock()
	if region.tries > 0 {
		return false
	}
	set()
	return true
}

// reserveRegion takes the region and its metadata, until it has succeeded once.
// Called under mu.
func reserveRegion() error {
	size := min(uintptr(policy.Current().RegionBytes), maxRegion, maxTracked) &^ (superSize - 1)
	// The metadata below adds about a fifth to the region; a quarter of what is
	// left leaves the rest of the program most of it. Where that is too little,
	// the least region may take up to half.
	if left := osmem.AddressSpaceLeft(); size > left/4 {
		size = max(left/4, min(left/2, minRegion)) &^ (superSize - 1)
	}
	var err error
	for ; size >= minRegion; size = size / 2 &^ (superSize - 1) {
		if err = tryReserve(size); err == nil {
			return nil
		}
		if size/2 >= minRegion {
			survive(fmt.Errorf("hakmem: region of %d bytes: %w; trying half", size, err))
		}
	}
	if err == nil {
		err = fmt.Errorf("a limit leaves less than 2 x %d bytes", uint64(minRegion))
	}
	return fmt.Errorf("%w: %w; raise RLIMIT_AS (ulimit -v)", errRegion, err)
}

// tryReserve reserves a region with size bytes for blocks and everything beside
// it, or nothing.
func tryReserve(size uintptr) (err error) {
	var taken [][2]uintptr
	reserve := func(n uintptr, readable bool) uintptr {
		if err != nil {
			return 0
		}
		n = roundUp(n, pageSize)
		var addr uintptr
		if addr, err = osmem.Reserve(n, readable); err == nil {
			taken = append(taken, [2]uintptr{addr, n})
		}
		return addr
	}
	defer func() {
		if err != nil {
			for _, t := range taken {
				osmem.Release(t[0], t[1])
			}
		}
	}()

	r := &region
	// The live map covers its own pages too, a 16th of the whole.
	first := roundUp(size/15, superSize)
	size += first
	npages := size >> pageShift
	var base uintptr
	if base, err = reserveBlocks(roundUp(size+superSize, pageSize)); err == nil && !tracked {
		taken = append(taken, [2]uintptr{base, roundUp(size+superSize, pageSize)})
	}
	base = roundUp(base, superSize)
	r.live = area{base: base, unit: pageSize >> granuleShift}
	r.pages = area{unit: pageMetaSize}
	r.bits = area{unit: maxWords * 8}
	r.sets = area{unit: setUnit}
	r.sites = area{unit: pageSize >> granuleShift * 2, lazy: true}
	for i, a := range r.areas() {
		if i > 0 { // the live map lies in the region
			a.base = reserve(npages*a.unit, true)
		}
		// The live map's own pages need no metadata.
		a.committed = first >> pageShift * a.unit &^ (pageSize - 1)
	}
	parts, fixedSize := r.fixedParts(npages)
	fixed := reserve(fixedSize, true)
	fronts := frontsWanted()
	frontBase := roundUp(reserve(fronts*frontSize+TinyMag, true), TinyMag) // see frontAt
	if err == nil {
		err = osmem.MakeReadable(base, first)
	}
	if err == nil {
		err = osmem.Commit(fixed, fixedSize)
	}
	if err != nil {
		return err
	}
	for _, p := range parts {
		*p.addr = fixed
		fixed += roundUp(p.n, 64)
	}
	r.tree.init(npages / superPages)
	setLevels[0] = r.sets.base
	frontPool.base, frontPool.max = frontBase, fronts
	osmem.Name(base, size, "hakmem: region")
	r.base, r.size, r.first = base, size, first
	r.committed.Store(first)
	r.step = uintptr(policy.Current().CommitMin)
	r.metaCommitted.Add(fixedSize)
	whales.spans = make([]whale, 0, maxWhales)
	pol := policy.Current()
	telemetry.SetTiming(pol.Timing)
	if Hardened() || pol.Guard == 1 {
		frontTable.Store(&hardFronts)
	}
	r.adviseHuge(pol.HugePages)
	if !limitSet {
		setMemoryLimit(uint64(pol.MemorySoft), uint64(pol.MemoryHard))
	}

	Base = base
	Live = base - base>>granuleShift
	Pages = r.pages.base
	if osmem.ReadableReserve {
		Granules = size >> granuleShift
	}
	r.ready.Store(true)
	return nil
}

// part is one of the structures whose size depends on the region's alone.
type part struct {
	addr *uintptr
	n    uintptr
}

// fixedParts lists the superMeta array, the page tree, the hints and the upper
// levels of the partial sets, with their size together. They are committed
// whole, 0.004 % of the region, and touched only as far as it is used.
func (r *regionState) fixedParts(npages uintptr) (parts [6]part, total uintptr) {
	supers := npages / superPages
	parts = [...]part{
		{&r.supers, supers * superMetaSize},
		{&r.tree.base, treeSize(supers)},
		{&emptyHints, (supers/64 + 1) * 8},
		{&setLevels[1], upperSetSize(npages, 12)},
		{&setLevels[2], upperSetSize(npages, 18)},
		{&setLevels[3], upperSetSize(npages, 24)},
	}
	for _, p := range parts {
		total += roundUp(p.n, 64)
	}
	return parts, roundUp(total, pageSize)
}

func roundUp(n, to uintptr) uintptr { return (n + to - 1) &^ (to - 1) }

// ensure commits a's metadata for the first n bytes of the region.
func (a *area) ensure(n uintptr) error {
	want := roundUp(roundUp(n, metaStep)>>pageShift*a.unit, pageSize)
	if most := roundUp(region.size>>pageShift*a.unit, pageSize); want > most {
		want = most
	}
	if want <= a.committed {
		return nil
	}
	if err := osmem.Commit(a.base+a.committed, want-a.committed); err != nil {
		return err
	}
	region.metaCommitted.Add(want - a.committed)
	a.committed = want
	return nil
}

// grow commits at least need more bytes of the region and gives their pages to
// the page tree. Called under region.mu. On failure nothing has changed but
// perhaps some metadata that is now committed ahead of its use.
func grow(need uintptr) error {
	began := telemetry.Begin()
	defer telemetry.End(telemetry.Commit, began)
	r := &region
	old := r.committed.Load()
	need = roundUp(need, superSize)
	if need > r.size-old {
		return r.refuse(fmt.Errorf("hakmem: the region of %d bytes is full: %s", r.size-r.first, r.remedy()))
	}
	step := min(max(roundUp(r.step, superSize), need), r.size-old)
	err := commitTo(old, old+step)
	if err != nil && step > need {
		survive(fmt.Errorf("hakmem: commit of %d bytes: %w; trying %d", step, err, need))
		step = need // the system may have room for what is needed now
		err = commitTo(old, old+step)
	}
	if err != nil {
		return r.refuse(fmt.Errorf("hakmem: commit of %d bytes: %w: free blocks, or raise what the system allows the process", step, err))
	}
	asan.Poison(r.base+old, step) // until blocks are handed out
	r.committed.Store(old + step)
	if !osmem.ReadableReserve {
		Granules = (old + step) >> granuleShift
	}
	r.step = min(r.step*2, uintptr(policy.Current().CommitMax))
	r.tree.add(old>>superShift, (old+step)>>superShift)
	kickGrown(old + step - r.first)
	return nil
}

// adviseHuge tells the operating system what the policy wants for the whole
// region; auto is to leave it to the system, for the reason in docs/ledger.md,
// "Huge pages". Where the system has none there is nothing to ask. Called under
// mu.
func (r *regionState) adviseHuge(want policy.HugePages) {
	if want == policy.HugeAuto || osmem.HugePageMode() == "" {
		return
	}
	if err := osmem.HugePages(r.base, r.size, want == policy.HugeAlways); err != nil {
		survive(fmt.Errorf("hakmem: advice on huge pages: %w; HAKMEM_THP has no effect", err))
	}
}

func commitTo(old, end uintptr) error {
	r := &region
	for _, a := range r.areas() {
		if a.lazy {
			continue
		}
		if err := a.ensure(end); err != nil {
			return err
		}
	}
	return osmem.Commit(r.base+old, end-old)
}
