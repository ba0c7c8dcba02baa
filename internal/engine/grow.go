package engine

import (
	"errors"
	"fmt"

	"github.com/hakmem/hakmem/internal/asan"
	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/policy"
	"github.com/hakmem/hakmem/internal/telemetry"
)

// This file grows the committed part of the region, and says why it could not. All of it is under
// region.mu.

// refuse records why there is no more memory, and returns the reason. Under mu.
func (r *regionState) refuse(err error) error {
	check.MustHold(&region.mu, "refuse")
	r.refusal, r.limited = err, false
	survive(err)
	return err
}

// remedy says how the region could be larger. Under mu.
func (r *regionState) remedy() string {
	check.MustHold(&region.mu, "remedy")
	switch asked := uintptr(policy.AtStart().RegionBytes); {
	case r.size-r.first < mem.Bytes(min(asked, maxRegion, maxTracked)&^(superSize-1)):
		return "no more address space could be reserved when hakmem was first used; free blocks"
	case asked < min(maxRegion, maxTracked):
		return "raise HAKMEM_REGION_BYTES"
	default:
		return "no larger one is supported; free blocks"
	}
}

// needs returns how much of the area the first n bytes of the region need.
func (a *area) needs(n mem.Bytes) mem.Bytes {
	return min((n.Up(metaStep) >> pageShift * a.unit).Up(pageSize), a.start()+a.space.most)
}

// ensure commits the area's metadata for the first n bytes of the region. Of a lazy area it only
// reserves the address space: when the area is needed there may be none left.
func (a *area) ensure(n mem.Bytes) error {
	want := a.needs(n)
	if want <= a.committed {
		return nil
	}
	if err := a.space.ensure(want - a.start()); err != nil || a.lazy {
		return err
	}
	if err := osmem.Commit(a.base+mem.Addr(a.committed), want-a.committed); err != nil {
		return err
	}
	region.metaCommitted.Add(uintptr(want - a.committed))
	a.committed = want
	return nil
}

// grow commits at least need more bytes of the region and gives their pages to the page tree. Under
// region.mu. If it fails, nothing has changed, except that some metadata may be committed ahead of
// its use.
func grow(need mem.Bytes) error { return growAround(need, chunkRun{}) }

// growAround is grow, except that the chunks of hole, which are among those that it commits, do not
// enter the page tree. The caller takes them (takeNew).
func growAround(need mem.Bytes, hole chunkRun) error {
	check.MustHold(&region.mu, "growAround")
	began := telemetry.Begin()
	defer telemetry.End(telemetry.Commit, began)
	r := &region
	old := r.committed.Load()
	need = need.Up(superSize)
	if need > r.size-mem.Bytes(old) {
		return r.refuse(fmt.Errorf("hakmem: the region of %d bytes is full: %s", r.size-r.first, r.remedy()))
	}
	// Both bounds of the commit step may have changed since the last commit.
	p := policy.Now()
	wanted := min(max(r.step, mem.Bytes(p.CommitMin)), mem.Bytes(p.CommitMax))
	step := min(max(wanted.Up(superSize), need), r.size-mem.Bytes(old))
	err := commitTo(mem.Bytes(old), mem.Bytes(old)+step)
	if err != nil && step > need {
		var limit *limitError
		if !errors.As(err, &limit) {
			survive(fmt.Errorf("hakmem: commit of %d bytes: %w; trying %d", step, err, need))
		}
		step = need // the system may have room for what is needed now
		err = commitTo(mem.Bytes(old), mem.Bytes(old)+step)
	}
	if err != nil {
		return r.refuse(fmt.Errorf("hakmem: commit of %d bytes: %w: free blocks, or raise what the system allows the process", step, err))
	}
	asan.Poison(uintptr(r.base+mem.Addr(old)), uintptr(step)) // until blocks are handed out
	r.committed.Store(uintptr(mem.Bytes(old) + step))
	Granules = uintptr((mem.Bytes(old) + step) >> granuleShift)
	r.step = wanted * 2
	from, to := chunkNo(old>>superShift), chunkNo((mem.Bytes(old)+step)>>superShift)
	if hole.from >= hole.to {
		hole = chunkRun{from, from}
	}
	for _, r := range []chunkRun{{from, hole.from}, {hole.to, to}} {
		if r.from < r.to {
			tree.add(r.from, r.to)
		}
	}
	return nil
}

// takeBeyond takes n pages from page on for the large block at p, which uses the first units of the
// last one. The caller has reserved their growth (growthBeyond). The last pages lie beyond the
// committed pages; need is what must be committed for them. Of chunks that the block gets as a whole
// there, only the block that has them is written: their cost is proportional to what is used of them.
// Under region.mu.
func takeBeyond(page pageNo, n pageCount, units uint8, p Block, need mem.Bytes) (clean bool, err error) {
	first, last := max(region.endChunk(), p.page().chunk()+1), (page + pageNo(n)).chunk()
	if first.page() < page {
		first++
	}
	hole := chunkRun{first, max(first, last)}
	if err := growAround(need, hole); err != nil {
		return false, err
	}
	if hole.from == hole.to {
		return tree.takeLarge(page, n, units, p), nil
	}
	clean = true
	if before := pageCount(hole.from.page() - page); before > 0 {
		clean = tree.takeFor(page, before, p)
	}
	takeNew(hole, p)
	if behind := pageCount(page + pageNo(n) - hole.to.page()); behind > 0 {
		clean = tree.takeLarge(hole.to.page(), behind, units, p) && clean
	}
	return clean, nil
}

// commitTo commits the bytes of the region from old to end, and their metadata.
func commitTo(old, end mem.Bytes) error {
	r := &region
	for _, a := range r.areas() {
		if err := a.ensure(end); err != nil {
			return err
		}
	}
	if err := r.reserveBlocks(end - r.first); err != nil {
		return err
	}
	err := osmem.Commit(r.base+mem.Addr(old), end-old)
	if err == nil && osmem.LockRefused() != nil {
		survive(fmt.Errorf("hakmem: lock of memory, since the process locks its new mappings (mlockall with MCL_FUTURE): %w: blocks may be paged out; raise RLIMIT_MEMLOCK (ulimit -l)", osmem.LockRefused()))
	}
	return err
}

// reserveBlocks reserves the first n bytes of the region's part for blocks.
func (r *regionState) reserveBlocks(n mem.Bytes) error {
	old := r.blocks.reserved
	if err := r.blocks.ensure(n); err != nil {
		return err
	}
	if err := tree.cover(chunkNo((r.first + r.blocks.reserved) >> superShift)); err != nil {
		return err
	}
	if more := r.blocks.reserved - old; more > 0 {
		from := r.blocks.base.Add(old)
		osmem.Name(from, more, regionName)
		adviseHuge(from, more)
	}
	return nil
}

// adviseHuge gives the operating system the policy's advice on huge pages for a part of the region.
// auto and canary leave the choice to the system, for the reason in docs/ledger.md, "Huge pages". Where the
// system has no huge pages there is nothing to ask. Under region.mu.
func adviseHuge(addr mem.Addr, size mem.Bytes) {
	check.MustHold(&region.mu, "adviseHuge")
	want := policy.AtStart().THP
	if want == policy.THPAuto || want == policy.THPCanary || osmem.HugePageMode() == "" {
		return
	}
	if err := osmem.HugePages(addr, size, want == policy.THPAlways); err != nil {
		survive(fmt.Errorf("hakmem: advice on huge pages: %w; HAKMEM_THP has no effect", err))
	}
}
