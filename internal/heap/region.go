package heap

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/policy"
	"github.com/hakmem/hakmem/internal/sizeclass"
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
// memory cannot be read, the limits grow with each commit; see
// osmem.ReadableReserve.) Plain variables, not a struct: a field would cost the
// Heap's fast paths the inliner's last unit.
var (
	// SmallLimit is MaxTiny+1, and MidRange the number of sizes between that and
	// MaxMid, when the fast section may be used; 0 sends every size to the slow
	// path.
	SmallLimit, MidRange uintptr
	// Base is the region's first address. GlobalLimit and HeapLimit bound
	// (p-Base)>>4 for pointers that the fast free of the global functions and
	// of a Heap may look up; 0 sends every pointer to the slow path.
	Base, GlobalLimit, HeapLimit uintptr
	// LiveMap is the address of the live map; Live is LiveMap less Base>>4, so
	// that the live byte of p is at Live + p>>4.
	LiveMap, Live uintptr
	// Pages is the address of the page table's first entry.
	Pages uintptr
)

// area is one kind of metadata: a fixed number of bytes for each page of the
// region, committed as the region is. Owned by region.mu.
type area struct {
	base      uintptr
	unit      uintptr // bytes for each page of the region
	committed uintptr // bytes committed from base
	lazy      bool    // committed only once it has a user
}

// The region: one range of address space, reserved by the first slow path and
// never unmapped while the process lives, so that a stale pointer can never
// land in memory that Go has taken since. Committed pages are contiguous from
// base. All fields are owned by mu, but for those written once by reserve,
// which may be read by who has seen ready.
var region struct {
	mu    sync.Mutex
	ready atomic.Bool
	tried bool // reserve has run; the outcome stands

	base, size uintptr
	committed  atomic.Uintptr // bytes from base that may be touched
	step       uintptr        // next commit step, in bytes

	live   area    // one byte per granule: see live.go
	pages  area    // pageMeta: see slab.go
	bits   area    // one bitmap of maxWords words per page: see slab.go
	sets   area    // level 0 of the partial sets: see partialset.go
	sites  area    // one uint16 per granule, lazily: see site.go
	supers uintptr // superMeta per superslab
	tree   pageTree

	metaCommitted atomic.Uintptr // bytes of metadata that may be written
}

// ErrRegion is what every allocation fails with when no region could be had.
var ErrRegion = errors.New("hakmem: no address space could be reserved")

var survived struct {
	sync.Mutex
	errs []error
}

// maxSurvived bounds the list of survived errors: the first ones tell most.
const maxSurvived = 16

// survive records an error that did not stop hakmem.
func survive(err error) {
	survived.Lock()
	defer survived.Unlock()
	if len(survived.errs) < maxSurvived {
		survived.errs = append(survived.errs, err)
	}
}

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
	if !region.tried {
		region.tried = true
		if err := reserveRegion(); err != nil {
			survive(err)
		}
	}
	return region.ready.Load()
}

// Configure calls set if no allocation was made yet, and reports whether it
// did: the first slow path reads the policy's region size for good.
func Configure(set func()) bool {
	region.mu.Lock()
	defer region.mu.Unlock()
	if region.tried {
		return false
	}
	set()
	return true
}

// reserveRegion takes the region and its metadata. Called once, under mu.
func reserveRegion() error {
	size := uintptr(policy.Current().RegionBytes) &^ (superSize - 1)
	// The metadata below adds about a fifth to the region; a quarter of what is
	// left leaves the rest of the program most of it.
	if left := osmem.AddressSpaceLeft(); size > left/4 {
		size = left / 4 &^ (superSize - 1)
	}
	var err error
	for ; size >= minRegion; size = size / 2 &^ (superSize - 1) {
		if err = tryReserve(size); err == nil {
			return nil
		}
	}
	if err == nil {
		err = fmt.Errorf("a limit leaves less than 4 x %d bytes", uint64(minRegion))
	}
	return fmt.Errorf("%w: %w; raise RLIMIT_AS (ulimit -v) or lower HAKMEM_REGION_BYTES", ErrRegion, err)
}

// tryReserve reserves a region of size bytes and everything beside it. What
// was reserved before a failure stays reserved: address space only.
func tryReserve(size uintptr) error {
	r := &region
	base, err := osmem.Reserve(size+superSize, false)
	if err != nil {
		return err
	}
	base = (base + superSize - 1) &^ (superSize - 1)
	npages := size >> pageShift
	for _, a := range []struct {
		*area
		unit uintptr
		lazy bool
	}{
		{&r.live, pageSize >> granuleShift, false},
		{&r.pages, pageMetaSize, false},
		{&r.bits, maxWords * 8, false},
		{&r.sets, setUnit, false},
		{&r.sites, pageSize >> granuleShift * 2, true},
	} {
		b, err := osmem.Reserve(npages*a.unit, true)
		if err != nil {
			return err
		}
		*a.area = area{base: b, unit: a.unit, lazy: a.lazy}
	}
	fixed, err := reserveFixed(npages)
	if err != nil {
		return err
	}
	if err := reserveFronts(); err != nil {
		return err
	}
	osmem.Name(base, size, "hakmem: region")
	osmem.Name(r.live.base, npages*r.live.unit, "hakmem: live map")
	r.base, r.size = base, size
	r.step = uintptr(policy.Current().CommitMin)
	r.metaCommitted.Add(fixed)

	Base = base
	LiveMap, Live = r.live.base, r.live.base-base>>granuleShift
	Pages = r.pages.base
	if osmem.ReadableReserve {
		setLimits(size)
	}
	r.ready.Store(true)
	return nil
}

// reserveFixed takes the structures whose size depends on the region alone:
// superMeta, the page tree, upper levels of the partial sets. They are
// committed whole: 0.004 % of the region, touched only as far as it is used.
func reserveFixed(npages uintptr) (uintptr, error) {
	r := &region
	supers := npages / superPages
	treeBytes := treeSize(supers)
	parts := []struct {
		addr *uintptr
		n    uintptr
	}{
		{&r.supers, supers * superMetaSize},
		{&r.tree.base, treeBytes},
		{&emptyHints, (supers/64 + 1) * 8},
		{&setLevels[1], upperSetSize(npages, 12)},
		{&setLevels[2], upperSetSize(npages, 18)},
		{&setLevels[3], upperSetSize(npages, 24)},
	}
	total := uintptr(0)
	for _, p := range parts {
		total += roundUp(p.n, 64)
	}
	total = roundUp(total, pageSize)
	base, err := osmem.Reserve(total, true)
	if err != nil {
		return 0, err
	}
	if err := osmem.Commit(base, total); err != nil {
		return 0, err
	}
	for _, p := range parts {
		*p.addr = base
		base += roundUp(p.n, 64)
	}
	r.tree.init(supers)
	setLevels[0] = r.sets.base
	return total, nil
}

func roundUp(n, to uintptr) uintptr { return (n + to - 1) &^ (to - 1) }

// setLimits lets the fast frees look up pointers below offset end.
func setLimits(end uintptr) {
	HeapLimit = end >> granuleShift
	if fastSection && policy.Current().FastLane {
		GlobalLimit = HeapLimit
		SmallLimit = sizeclass.MaxTiny + 1
		MidRange = sizeclass.MaxMid - sizeclass.MaxTiny
	}
}

// ensure commits a's metadata for the first n bytes of the region.
func (a *area) ensure(n uintptr) error {
	want := roundUp(n, metaStep) >> pageShift * a.unit
	if most := region.size >> pageShift * a.unit; want > most {
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
	r := &region
	old := r.committed.Load()
	need = roundUp(need, superSize)
	if need > r.size-old {
		return fmt.Errorf("hakmem: the region of %d bytes is full: raise HAKMEM_REGION_BYTES", r.size)
	}
	step := min(max(r.step, need), r.size-old)
	err := commitTo(old, old+step)
	if err != nil && step > need {
		step = need // the system may have room for what is needed now
		err = commitTo(old, old+step)
	}
	if err != nil {
		survive(fmt.Errorf("hakmem: commit of %d bytes: %w", step, err))
		return err
	}
	r.committed.Store(old + step)
	if !osmem.ReadableReserve {
		setLimits(old + step)
	}
	r.step = min(r.step*2, uintptr(policy.Current().CommitMax))
	r.tree.add(old>>superShift, (old+step)>>superShift)
	return nil
}

func commitTo(old, end uintptr) error {
	r := &region
	for _, a := range []*area{&r.live, &r.pages, &r.bits, &r.sets, &r.sites} {
		if a.lazy {
			continue
		}
		if err := a.ensure(end); err != nil {
			return err
		}
	}
	return osmem.Commit(r.base+old, end-old)
}
