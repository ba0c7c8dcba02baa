package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"unsafe"

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
	defineSizes()
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
	asked := mem.Bytes(policy.AtStart().RegionBytes)
	wish := min(asked, maxRegion, maxTracked).Down(superSize)
	err := osmem.ErrNoChoice
	if mayChoose {
		err = reserveBeginning(wish, asked != policy.DefaultRegion)
	}
	var limit *limitError
	if err != nil && !errors.As(err, &limit) {
		err = reserveWhole(wish)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errRegion, err)
	}
	if most := region.size - region.first; most < wish && asked != policy.DefaultRegion {
		survive(fmt.Errorf("hakmem: HAKMEM_REGION_BYTES=%d: there is address space for %d bytes", uint64(asked), uint64(most)))
	}
	return nil
}

// reserveBeginning gives a region of at most wish bytes a place, and reserves its beginning; if all
// is set, the whole of it.
func reserveBeginning(wish mem.Bytes, all bool) (err error) {
	size, begin := wish, min(wish, firstBlocks)
	if left := osmem.AddressSpaceLeft(); left != math.MaxUint {
		// The region may grow into what is left, a little at a time, as the rest of the program
		// does.
		keepLeft = left / 5
		size, begin = min(wish, left).Down(superSize), metaStep
		if size < minRegion {
			return &limitError{minRegion, left, goNeeds}
		}
	}
	if all {
		refused := reserveSomewhere(wish, wish)
		if refused == nil {
			return nil
		}
		defer func() {
			if err == nil {
				survive(fmt.Errorf("hakmem: HAKMEM_REGION_BYTES=%d: %w; the region takes address space as it grows", uint64(wish), refused))
			}
		}()
	}
	return reserveSomewhere(size, begin)
}

// reserveSomewhere is tryReserve at random addresses of each place, until one is free.
func reserveSomewhere(size, begin mem.Bytes) (err error) {
	for _, place := range places {
		for range placeTries {
			at := place.from.Add(mem.Bytes(rand.Int64N(1<<place.random)) << superShift)
			if err = tryReserve(layoutFor(min(size, place.most), maxFronts), at, min(begin, place.most)); err == nil {
				return nil
			}
			if !errors.Is(err, fs.ErrExist) {
				break
			}
		}
	}
	return err
}

// reserveWhole takes a region of wish bytes, or a smaller one, at one piece where the system likes.
// It leaves a third of the address space to the rest of the program, where that is limited three
// quarters.
func reserveWhole(wish mem.Bytes) (err error) {
	left := osmem.AddressSpaceLeft()
	fronts := frontsFor(left)
	for size := wish; size >= minRegion; size = (size / 2).Down(superSize) {
		l := layoutFor(size, fronts)
		total, most := l.total, left/4
		if size <= 256<<20 { // little is left: the region may take half
			most = left / 2
		}
		if total > most {
			err = &limitError{total, left, left - most}
			continue
		}
		var room mem.Addr
		if room, err = osmem.Reserve(total + total/2); err != nil {
			continue
		}
		osmem.Release(room, total+total/2)
		if err = tryReserve(l, 0, size); err == nil {
			break
		}
	}
	return err
}

// tryReserve reserves a region with the layout l, and everything that goes with it, or nothing at
// all. It gives all of it a place at the address at, a multiple of superSize, and reserves what the
// first begin bytes for blocks need. If at is 0 the system chooses the place, and all is reserved.
func tryReserve(l layout, at mem.Addr, begin mem.Bytes) (err error) {
	var taken []osmem.Range // what is given up after an error
	defer func() {
		if err != nil {
			for _, t := range taken {
				if t.Size > 0 {
					osmem.Release(t.Addr, t.Size)
				}
			}
		}
	}()
	whole := at == 0
	if whole {
		if at, err = osmem.Reserve(l.total + superSize); err != nil {
			return err
		}
		taken = append(taken, osmem.Range{Addr: at, Size: l.total + superSize})
		at = at.Up(superSize)
	}
	base := at
	if tracked {
		if base, err = osmem.ReserveTracked(l.region + superSize); err != nil {
			return err
		}
		base = base.Up(superSize)
	}

	r := &region
	npages := pageCount(l.region >> pageShift)
	ensure := func(s *space, n mem.Bytes) {
		if whole {
			s.takeAll()
		} else if err == nil {
			err = s.ensure(n.Up(pageSize))
			taken = append(taken, osmem.Range{Addr: s.base, Size: s.reserved})
		}
	}
	readable := func(from mem.Addr, n mem.Bytes) {
		if n == 0 {
			return // the metadata of these pages begins in the same 64 KiB as that of blocks
		}
		if err == nil && !whole {
			if err = osmem.ReserveAt(from, n); err == nil {
				taken = append(taken, osmem.Range{Addr: from, Size: n})
			}
		}
		if err == nil {
			err = osmem.MakeReadable(from, n)
		}
	}
	r.blocks = space{base: base.Add(l.first), most: l.region - l.first}
	ensure(&r.blocks, begin)
	for i, a := range r.areas() {
		*a = area{base: at.Add(l.areas[i]), unit: areaUnits[i], lazy: i == areaSites}
		if i == areaLive {
			a.base = base
		}
		a.committed = a.of(pageCount(l.first >> pageShift)).Down(pageSize)
		a.space = space{base: a.base.Add(a.committed), most: a.of(npages).Up(pageSize) - a.committed, sparse: i != areaLive || policy.AtStart().THP == policy.THPNever}
		ensure(&a.space, a.needs(l.first+begin)-a.start())
	}
	// The live map has bytes for its own pages, and they have metadata: a stray pointer among them
	// leads there. Nothing is ever written to either.
	readable(r.live.base, r.live.start())
	readable(r.pages.base, r.pages.start())

	parts, fixedSize := r.fixedParts(npages)
	fixed := space{base: at.Add(l.fixed), most: fixedSize, sparse: true}
	ensure(&fixed, fixedSize)
	pool := space{base: at.Add(l.fronts), most: mem.Bytes(l.frontCount) * frontSize, sparse: true}
	ensure(&pool, min(mem.Bytes(frontsLeft(l.frontCount))*frontSize, pool.most))
	if err == nil {
		err = osmem.Commit(fixed.base, fixedSize)
	}
	tree = pageTree{base: at.Add(l.tree), space: space{base: at.Add(l.tree), most: treeSize(chunkNo(npages / superPages)).Up(pageSize), sparse: true}}
	r.supers = at.Add(l.supers)
	r.supersIn = space{base: r.supers, most: superBytes(chunkNo(npages / superPages)), sparse: true}
	if whole {
		tree.space.takeAll()
		r.supersIn.takeAll()
	}
	r.metaCommitted.Store(uintptr(fixedSize))
	if err == nil {
		err = tree.cover(chunkNo((l.first + begin) >> superShift))
		if !whole {
			taken = append(taken, osmem.Range{Addr: tree.space.base, Size: tree.space.reserved}, osmem.Range{Addr: r.supers, Size: r.supersIn.reserved})
		}
	}
	if err != nil {
		return err
	}
	next := fixed.base
	for _, p := range parts {
		*p.addr = next
		next += mem.Addr(p.n.Up(64))
	}
	setLevels[0] = r.sets.base
	frontPool.space, frontPool.max = pool, l.frontCount
	frontsInParts = osmem.StrictCommit()
	r.base, r.size, r.first = base, l.region, l.first
	r.committed.Store(uintptr(l.first))
	pol := policy.AtStart()
	telemetry.SetTiming(pol.Timing)
	if Hardened() || pol.Guard == 1 {
		frontTable.Store(&hardFronts)
	}
	osmem.Name(r.blocks.base, r.blocks.reserved, regionName)
	adviseHuge(r.blocks.base, r.blocks.reserved)
	adviseVariables()
	if r.huge = hugePagesIn(hugePageMode(), pol.THP); r.huge {
		r.hugeRest = superSize
		count(r.hugeRest)
	}
	if !limitSet {
		setMemoryLimit(uint64(pol.MemorySoft), uint64(pol.MemoryHard))
	}

	Base = uintptr(base)
	Live = uintptr(base - base>>granuleShift)
	Pages = uintptr(r.pages.base)
	r.ready.Store(true)
	return nil
}

// adviseVariables keeps the system from making huge pages of two large variables, as space.ensure
// does of the tables that are touched here and there. Under mu.
func adviseVariables() {
	check.MustHold(&region.mu, "adviseVariables")
	step := osmem.PageSize()
	for _, table := range []osmem.Range{
		{Addr: mem.Addr(unsafe.Pointer(&PageClass)), Size: mem.Bytes(unsafe.Sizeof(PageClass))},
		{Addr: mem.Addr(unsafe.Pointer(&guesses)), Size: mem.Bytes(unsafe.Sizeof(guesses))},
	} {
		from := table.Addr.Up(step)
		smallPagesOnly(from, table.Addr.Add(table.Size).From(from).Down(step))
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
