package engine

import (
	"errors"
	"fmt"
	"math/bits"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/telemetry"
)

// This file returns the memory of free pages to the operating system. Pages are taken out of use,
// and put back, under region.mu; in between, the goroutine that took them out owns them.

// purgePages returns the memory of about want free, dirty pages to the operating system, highest
// address first. It leaves out chunks in which a page was freed less than age milliseconds before
// now. kept says that the pages were kept for the window before. It returns the number of pages.
//
// While the system call runs, the pages are out of use and no lock is held.
func purgePages(want int, now stamp, age millis, kept bool) (n int) {
	began := telemetry.Begin()
	defer telemetry.End(telemetry.Purge, began)
	first := region.firstChunk()
	var take [purgeBatch]pageSet
	for end := region.endChunk(); end > first && n < want; {
		// A batch is aligned, so that huge pages of the system stay whole.
		c := max(first, (end-1)&^(purgeBatch-1))
		found := 0
		region.mu.Lock()
		for i := range take[:end-c] {
			take[i] = 0
			s := super(c + chunkNo(i))
			m := s.free & s.dirty
			if m == 0 {
				continue
			}
			// The comparison is unsigned, since a chunk may have been kept for months. A free after
			// now was read gives a negative age.
			if d := now.since(s.freedAt); age > 0 && (d < age || d > -age) {
				continue
			}
			take[i] = m
			found += m.count()
		}
		for i := range take[:end-c] { // if too many were found, the lowest chunks keep theirs
			if found <= want-n {
				break
			}
			if k := take[i].count(); k > 0 && found-k >= want-n {
				found -= k
				take[i] = 0
			}
		}
		for i, m := range take[:end-c] {
			if m != 0 {
				super(c + chunkNo(i)).free &^= m
				updateChunk(c + chunkNo(i))
			}
		}
		region.mu.Unlock()
		if found > 0 {
			n += purgeBatchPages(c, take[:end-c], kept)
		}
		end = c
	}
	return n
}

// purgeBatchPages returns the memory of the pages take, which are out of use, and puts them back
// into use. take has an entry for each chunk from c on. It returns the number of pages whose memory
// was returned.
func purgeBatchPages(c chunkNo, take []pageSet, kept bool) (n int) {
	var cleaned, tiny, sited, lost [purgeBatch]pageSet
	first := c.page()
	eachRun(take, func(page, length int) {
		addr, size := (first + pageNo(page)).addr(), pageCount(length).bytes()
		counts := countResident(addr, size, nil)
		cleanedOK, usable := discard(addr, size)
		if cleanedOK {
			setRun(cleaned[:], page, length)
			countReturned(counts)
		}
		if !usable {
			setRun(lost[:], page, length)
		}
	})
	// The part of the live map that covers these pages is all zero, as no block in them is live, and
	// nobody reads that of the site map.
	region.mu.Lock()
	for i := range take {
		s := super(c + chunkNo(i))
		tiny[i], sited[i] = cleaned[i]&s.tiny, cleaned[i]&pageSet(s.sited.Load())
	}
	region.mu.Unlock()
	var dropped, unsited [purgeBatch]pageSet
	for _, table := range []struct {
		of            *area
		pages, unused *[purgeBatch]pageSet
	}{{&region.live, &tiny, &dropped}, {&region.sites, &sited, &unsited}} {
		eachRun(table.pages[:], func(page, length int) {
			unit := table.of.unit
			page, length = wholePages(page, length, unit, osmem.PageSize())
			if length == 0 {
				return
			}
			ok, usable := discard(table.of.base+mem.Addr(first+pageNo(page))*mem.Addr(unit), mem.Bytes(length)*unit)
			if ok {
				setRun(table.unused[:], page, length)
			}
			if !usable {
				setRun(lost[:], page, length)
			}
		})
	}
	region.mu.Lock()
	defer region.mu.Unlock()
	now := milliseconds()
	for i, m := range take {
		if m == 0 {
			continue
		}
		s := super(c + chunkNo(i))
		s.free |= m &^ lost[i]
		if lost[i] != 0 {
			s.lost |= lost[i]
			anyLost.Store(true)
		}
		gone := s.residentBytes(c+chunkNo(i), cleaned[i])
		s.dirty &^= cleaned[i]
		s.partly &^= cleaned[i]
		gone += mapBytes(s.tiny, region.live.unit) - mapBytes(s.tiny&^dropped[i], region.live.unit)
		s.tiny &^= dropped[i]
		uncount(gone + s.unsite(unsited[i]))
		if kept { // otherwise it was not the scavenger's choice
			s.purged |= cleaned[i]
			s.purgedAt = now
		}
		n += cleaned[i].count()
		updateChunk(c + chunkNo(i))
	}
	u := &pageUse
	u.dirty -= n
	u.returned += uint64(n)
	if kept {
		u.vain += uint64(n)
	}
	return n
}

// wholePages returns the longest part of a run whose metadata fills whole OS pages. The metadata
// has unit bytes for each page of the run. An OS page that is filled only in part also has metadata
// of the run's neighbours. The first page of a batch begins an OS page.
func wholePages(page, length int, unit, system mem.Bytes) (int, int) {
	most := max(1, int(system/unit))
	from := (page + most - 1) / most * most
	to := (page + length) / most * most
	return from, max(0, to-from)
}

// discard returns memory to the operating system and reports whether it is gone. Some systems do
// that in two steps, of which the second may fail and leave memory that may not be touched. The
// second step is then tried once more. If that fails, too, the memory is not usable until findLost
// succeeds.
func discard(addr mem.Addr, size mem.Bytes) (ok, usable bool) {
	err := osmem.Discard(addr, size)
	if err == nil {
		return true, true
	}
	survive(fmt.Errorf("hakmem: return of free pages: %w", err))
	return false, !errors.Is(err, osmem.ErrDecommitted) || recommit(addr, size)
}

// recommit makes memory usable again that a discard left decommitted, and reports whether it could.
func recommit(addr mem.Addr, size mem.Bytes) bool {
	err := osmem.Commit(addr, size)
	if err != nil {
		survive(fmt.Errorf("hakmem: commit of pages that could not be returned, which stay out of use until it succeeds: %w", err))
	}
	return err == nil
}

// findLost commits the pages that discard left unusable, and the unused ends of pages in use. What was
// lost counts as dirty and resident, which is always safe.
func findLost() {
	if !anyLost.Swap(false) {
		return
	}
	end := region.endChunk()
	for c := region.firstChunk(); c < end; c++ {
		region.mu.Lock()
		s := super(c)
		if s.lost|s.torn != 0 {
			ok := recommit(c.page().addr(), superSize)
			for _, a := range []*area{&region.live, &region.sites} {
				ok = ok && (a.lazy || recommit(a.base+mem.Addr(a.of(pageCount(c.page()))), a.of(superPages)))
			}
			if ok {
				fresh := s.lost &^ s.dirty
				pageUse.dirty += fresh.count()
				count(pageCount(fresh.count()).bytes())
				s.dirty |= s.lost
				s.free |= s.lost
				s.lost, s.torn = 0, 0
				updateChunk(c)
			} else {
				anyLost.Store(true)
			}
		}
		region.mu.Unlock()
	}
}

// trimEnds returns the memory behind the ends of large blocks' last pages that the blocks do not use,
// where it may be resident because the page was used before. It stops when the hard limit has room
// for n more bytes.
//
// A block's holder may make it larger (resize) or free it, both under region.mu. So the lock is held
// while the system takes the memory.
func trimEnds(n mem.Bytes) {
	end := region.endChunk()
	for c := region.firstChunk(); c < end && !within(n); c++ {
		region.mu.Lock()
		s := super(c)
		for m := s.short &^ s.torn; m != 0; m &= m - 1 {
			page := c.page() + pageNo(bits.TrailingZeros32(uint32(m)))
			used, was := meta(page).units(), s.resident(page)
			idle := was &^ firstUnits(used)
			if idle == 0 {
				continue
			}
			from := mem.Bytes(used) * residentUnit
			addr, size := page.addr().Add(from), pageSize-from
			counts := countResident(addr, size, nil)
			ok, usable := discard(addr, size)
			if ok {
				countReturned(counts)
				s.setResident(page, was&^idle)
				uncount(idle.bytes())
			}
			if !usable {
				s.torn |= m & -m
				anyLost.Store(true)
			}
		}
		region.mu.Unlock()
	}
}

// updateChunk makes the page tree and the pool agree with chunk c's free mask. Under region.mu.
func updateChunk(c chunkNo) {
	check.MustHold(&region.mu, "updateChunk")
	tree.update(c, c)
	unslab(c)
}

// eachRun calls f for each run of set bits in a row of masks.
func eachRun(masks []pageSet, f func(from, length int)) {
	start := -1
	for i, m := range masks {
		for b := 0; b < superPages; {
			rest := m >> b
			if start < 0 {
				if rest == 0 {
					break
				}
				b += bits.TrailingZeros32(uint32(rest))
				start = i*superPages + b
				continue
			}
			b += bits.TrailingZeros32(uint32(^rest))
			if b < superPages {
				f(start, i*superPages+b-start)
				start = -1
			}
		}
	}
	if start >= 0 {
		f(start, len(masks)*superPages-start)
	}
}

// setRun sets a run of bits in a row of masks.
func setRun(masks []pageSet, from, length int) {
	for b := from; b < from+length; b++ {
		masks[b/superPages] |= 1 << (b % superPages)
	}
}
