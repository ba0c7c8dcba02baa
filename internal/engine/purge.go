package engine

import (
	"errors"
	"fmt"
	"math/bits"
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/telemetry"
)

// purgePages returns the memory of about want free, dirty pages to the operating
// system, highest address first, but not of chunks in which a page was freed
// less than age milliseconds before now. kept says that these pages had been
// kept for the window. It returns the number of pages.
//
// While the system call runs, the pages are out of use and no lock is held.
func purgePages(want int, now stamp, age millis, kept bool) (n int) {
	began := telemetry.Begin()
	defer telemetry.End(telemetry.Purge, began)
	first := region.firstChunk()
	var take [purgeBatch]pageSet
	for end := region.endChunk(); end > first && n < want; {
		c := max(first, (end-1)&^(purgeBatch-1)) // a batch is aligned: huge pages stay whole
		found := 0
		region.mu.Lock()
		for i := range take[:end-c] {
			take[i] = 0
			s := super(c + chunkNo(i))
			m := s.free & s.dirty
			if m == 0 {
				continue
			}
			// Unsigned, since a chunk may have been kept for months; and a free since now
			// was read is younger than 0.
			if d := now.since(s.freedAt); age > 0 && (d < age || d > -age) {
				continue
			}
			take[i] = m
			found += m.count()
		}
		for i := range take[:end-c] { // too many: the lowest chunks keep theirs
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

// purgeBatchPages returns the memory of the pages take of the chunks from c on,
// which are out of use, and puts them back into use. It returns their number.
func purgeBatchPages(c chunkNo, take []pageSet, kept bool) (n int) {
	var cleaned, tiny, lost [purgeBatch]pageSet
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
	// The live map beside them is all zero: no block of them is live.
	region.mu.Lock()
	for i := range take {
		tiny[i] = cleaned[i] & super(c+chunkNo(i)).tiny
	}
	region.mu.Unlock()
	var dropped [purgeBatch]pageSet
	eachRun(tiny[:], func(page, length int) {
		unit := region.live.unit
		page, length = wholePages(page, length, unit, osmem.PageSize())
		if length == 0 {
			return
		}
		ok, usable := discard(region.live.base+mem.Addr(first+pageNo(page))*mem.Addr(unit), mem.Bytes(length)*unit)
		if ok {
			setRun(dropped[:], page, length)
		}
		if !usable {
			setRun(lost[:], page, length)
		}
	})
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
		s.dirty &^= cleaned[i]
		s.tiny &^= dropped[i]
		if kept { // else it was not the scavenger's choice
			s.purged |= cleaned[i]
			s.purgedAt = now
		}
		n += bits.OnesCount32(uint32(cleaned[i]))
		tree.update(c+chunkNo(i), c+chunkNo(i))
		unslab(c + chunkNo(i))
	}
	u := &pageUse
	u.dirty -= n
	u.returned += uint64(n)
	if kept {
		u.vain += uint64(n)
	}
	return n
}

// wholePages returns the longest part of a run whose metadata, unit bytes for each
// page, fills whole OS pages: the others hold that of neighbours, too. The first
// page of a batch begins a OS page.
func wholePages(page, length int, unit, system mem.Bytes) (int, int) {
	most := max(1, int(system/unit))
	from := (page + most - 1) / most * most
	to := (page + length) / most * most
	return from, max(0, to-from)
}

// discard returns memory to the operating system and reports whether it is gone.
// Where that is done in two steps the second may fail and leave memory that may
// not be touched; it is then tried once more, and if that fails too the memory is
// not usable until findLost has had success.
func discard(addr mem.Addr, size mem.Bytes) (ok, usable bool) {
	err := osmem.Discard(addr, size)
	if err == nil {
		return true, true
	}
	survive(fmt.Errorf("hakmem: return of free pages: %w", err))
	return false, !errors.Is(err, osmem.ErrDecommitted) || recommit(addr, size)
}

// recommit makes memory usable again that a discard has left decommitted, and
// reports whether it could.
func recommit(addr mem.Addr, size mem.Bytes) bool {
	err := osmem.Commit(addr, size)
	if err != nil {
		survive(fmt.Errorf("hakmem: commit of pages that could not be returned, which stay out of use until it succeeds: %w", err))
	}
	return err == nil
}

// anyLost says that findLost may have something to do.
var anyLost atomic.Bool

// findLost commits pages again that discard left unusable. They are taken for
// dirty, which is always safe.
func findLost() {
	if !anyLost.Swap(false) {
		return
	}
	end := region.endChunk()
	for c := region.firstChunk(); c < end; c++ {
		region.mu.Lock()
		s := super(c)
		if s.lost != 0 {
			start, unit := c.page(), region.live.unit
			if recommit(start.addr(), superSize) && recommit(region.live.base+mem.Addr(start)*mem.Addr(unit), superPages*unit) {
				pageUse.dirty += (s.lost &^ s.dirty).count()
				s.dirty |= s.lost
				s.free |= s.lost
				s.lost = 0
				tree.update(c, c)
				unslab(c)
			} else {
				anyLost.Store(true)
			}
		}
		region.mu.Unlock()
	}
}

// updateChunk makes the page tree and the pool agree with chunk c's free mask.
func updateChunk(c chunkNo) {
	tree.update(c, c)
	updatePool(c)
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
