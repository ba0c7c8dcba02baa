package engine

import (
	"errors"
	"fmt"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/policy"
	"github.com/hakmem/hakmem/internal/sizeclass"
	"github.com/hakmem/hakmem/internal/telemetry"
)

// This file reserves the region and what belongs to it. Its functions take region.mu or are called
// under it.

// Ready reserves the region if that was not tried yet, and reports whether there is a region. Any
// goroutine, not pinned.
func Ready() bool {
	if region.ready.Load() {
		return true
	}
	region.mu.Lock()
	defer region.mu.Unlock()
	if region.ready.Load() {
		return true
	}
	// The reason for a refusal may pass, but a try costs many system calls. Of n failed allocations
	// log2(n) try again.
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

// Configure calls set if no allocation was made yet, and reports whether it did. The first slow
// path reads the policy's region size for good.
func Configure(set func()) bool {
	region.mu.Lock()
	defer region.mu.Unlock()
	if region.tries > 0 {
		return false
	}
	set()
	return true
}

// reserveRegion takes the region and its metadata. It may be called again until it succeeds. Under
// mu.
func reserveRegion() error {
	check.MustHold(&region.mu, "reserveRegion")
	size := min(uintptr(policy.AtStart().RegionBytes), maxRegion, maxTracked) &^ (superSize - 1)
	// The metadata adds about a fifth to the region. A quarter of the address space that is left
	// leaves most of it to the rest of the program. Where a quarter is too little, the smallest
	// region may take up to half.
	if left := osmem.AddressSpaceLeft(); mem.Bytes(size) > left/4 {
		size = uintptr(max(left/4, min(left/2, minRegion)) &^ (superSize - 1))
	}
	var err error
	for ; size >= minRegion; size = size / 2 &^ (superSize - 1) {
		if err = tryReserve(mem.Bytes(size)); err == nil {
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

// tryReserve reserves a region with size bytes for blocks, and everything that goes with it, or
// nothing at all.
func tryReserve(size mem.Bytes) (err error) {
	var taken []osmem.Range
	reserve := func(n mem.Bytes, readable bool) mem.Addr {
		if err != nil {
			return 0
		}
		n = n.Up(pageSize)
		var addr mem.Addr
		if addr, err = osmem.Reserve(n, readable); err == nil {
			taken = append(taken, osmem.Range{Addr: addr, Size: n})
		}
		return addr
	}
	defer func() {
		if err != nil {
			for _, t := range taken {
				osmem.Release(t.Addr, t.Size)
			}
		}
	}()

	r := &region
	// The live map covers its own pages too. It is a 16th of the whole.
	first := (size / 15).Up(superSize)
	size += first
	npages := pageCount(size >> pageShift)
	var base mem.Addr
	if base, err = reserveBlocks((size + superSize).Up(pageSize)); err == nil && !tracked {
		taken = append(taken, osmem.Range{Addr: base, Size: (size + superSize).Up(pageSize)})
	}
	base = base.Up(superSize)
	r.live = area{base: base, unit: pageSize >> granuleShift}
	r.pages = area{unit: pageMetaSize}
	r.bits = area{unit: maxWords * 8}
	r.sets = area{unit: setUnit}
	r.sites = area{unit: pageSize >> granuleShift * 2, lazy: true}
	for i, a := range r.areas() {
		if i > 0 { // the live map lies in the region
			a.base = reserve(a.of(npages), true)
		}
		// The live map's own pages need no metadata.
		a.committed = first >> pageShift * a.unit &^ (pageSize - 1)
	}
	parts, fixedSize := r.fixedParts(npages)
	fixed := reserve(fixedSize, true)
	fronts := frontsWanted()
	// For the alignment see frontAt.
	frontBase := mem.Bytes(reserve(mem.Bytes(fronts*frontSize+TinyMag), true)).Up(TinyMag)
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
		fixed += mem.Addr(p.n.Up(64))
	}
	tree.init(chunkNo(npages / superPages))
	setLevels[0] = r.sets.base
	frontPool.base, frontPool.max = mem.Addr(frontBase), fronts
	osmem.Name(base, size, "hakmem: region")
	r.base, r.size, r.first = base, size, first
	r.committed.Store(uintptr(first))
	r.metaCommitted.Add(uintptr(fixedSize))
	hugeCache.larges = make([]hugeBlock, 0, maxHuge)
	pol := policy.AtStart()
	telemetry.SetTiming(pol.Timing)
	if Hardened() || pol.Guard == 1 {
		frontTable.Store(&hardFronts)
	}
	r.adviseHuge(pol.THP)
	if !limitSet {
		setMemoryLimit(uint64(pol.MemorySoft), uint64(pol.MemoryHard))
	}

	Base = uintptr(base)
	Live = uintptr(base - base>>granuleShift)
	Pages = uintptr(r.pages.base)
	if osmem.ReadableReserve {
		Granules = uintptr(size >> granuleShift)
	}
	r.ready.Store(true)
	return nil
}

// part is one of the structures whose size depends on the region's size alone.
type part struct {
	addr *mem.Addr
	n    mem.Bytes
}

// fixedParts lists the superMeta array, the page tree, the hints and the upper levels of the
// partial sets, with their total size. They are committed as a whole, 0.004 % of the region, and
// touched only as far as the region is used.
func (r *regionState) fixedParts(npages pageCount) (parts [6]part, total mem.Bytes) {
	supers := npages / superPages
	parts = [...]part{
		{&r.supers, mem.Bytes(supers * pageCount(superMetaSize))},
		{&tree.base, treeSize(chunkNo(supers))},
		{&emptyHints, mem.Bytes((supers/64 + 1) * 8)},
		{&setLevels[1], upperSetSize(npages, 12)},
		{&setLevels[2], upperSetSize(npages, 18)},
		{&setLevels[3], upperSetSize(npages, 24)},
	}
	for _, p := range parts {
		total += p.n.Up(64)
	}
	return parts, total.Up(pageSize)
}

// adviseHuge gives the operating system the policy's advice on huge pages for the whole region.
// auto leaves the choice to the system, for the reason in docs/ledger.md, "Huge pages". Where the
// system has no huge pages there is nothing to ask. Where it makes them of itself, it is asked for none
// in the tables and the fronts: these are touched here and there, and a huge page in each of them would
// take more memory than a small heap, and more than is counted (usage.go). Under mu.
func (r *regionState) adviseHuge(want policy.THP) {
	check.MustHold(&region.mu, "adviseHuge")
	mode := osmem.HugePageMode()
	r.huge = want == policy.THPAlways && mode != "" && mode != "never" || want == policy.THPAuto && mode == "always"
	advise := func(addr mem.Addr, size mem.Bytes, want bool) {
		if err := osmem.HugePages(addr, size, want); err != nil {
			survive(fmt.Errorf("hakmem: advice on huge pages: %w; HAKMEM_THP has no effect, or tables take more memory", err))
		}
	}
	if want != policy.THPAuto && mode != "" {
		advise(r.base, r.size, want == policy.THPAlways)
	}
	if mode != "always" {
		return
	}
	npages := pageCount(r.size >> pageShift)
	_, fixed := r.fixedParts(npages)
	advise(r.supers, fixed, false)
	advise(mem.Addr(mem.Bytes(frontPool.base).Down(pageSize)), mem.Bytes(frontPool.max*frontSize), false)
	advise(r.live.base, r.first, false)
	areas := r.areas()
	for _, a := range areas[1:] { // the first is the live map
		advise(a.base, a.of(npages).Up(pageSize), false)
	}
}

// errRegion is what every allocation fails with when no region could be had.
var errRegion = errors.New("hakmem: no address space could be reserved")

// Refusal returns why there was no memory for a block of size bytes just now. It returns nil where
// no machine has so much memory. (If several goroutines run out of memory at the same time for
// different reasons, it may return the reason of another one.)
func Refusal(size mem.Bytes) error {
	region.mu.Lock()
	defer region.mu.Unlock()
	r := &region
	switch usable, ok := sizeclass.LargeSize(max(size, sizeclass.MaxMid+1)); {
	case !r.ready.Load():
		return r.refusal
	case !ok || usable > MostMemory:
		return nil
	case usable > r.size-r.first:
		return fmt.Errorf("hakmem: the region has %d bytes: %s", r.size-r.first, r.remedy())
	case r.limited:
		return fmt.Errorf("hakmem: the hard memory limit of %d bytes is reached: free blocks, or raise it (SetMemoryLimit, HAKMEM_MEMORY_HARD)", uint64(memoryLimit.hard.Load()))
	default:
		return r.refusal
	}
}

// MostMemory is 128 TiB, all that a process may address on most systems.
const MostMemory = 1 << 47

// siteMap commits the site map if that is not done yet, and reports whether there is one.
func siteMap() bool {
	if !Ready() {
		return false
	}
	if sitesOn.Load() {
		return true
	}
	region.mu.Lock()
	defer region.mu.Unlock()
	if region.sites.lazy {
		region.sites.lazy = false
		if err := region.sites.ensure(mem.Bytes(max(region.committed.Load(), 1))); err != nil {
			region.sites.lazy = true
			survive(fmt.Errorf("hakmem: commit of the site map: %w", err))
			return false
		}
		sitesOn.Store(true)
	}
	return true
}
