package engine

import (
	"math/bits"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/telemetry"
)

// This file returns the memory of free pages to the operating system. Pages are taken out of use,
// and put back, under region.mu; in between, the goroutine that took them out owns them.

// purgePages returns the memory of free, dirty pages to the operating system, highest address first:
// of all, or only of those that are cold, which were free for their hold time. again says that pages
// are tried again that were refused a short time ago. It returns the number of pages.
//
// While the system call runs, the pages are out of use and no lock is held except scavenger.mu.
func purgePages(now stamp, cold, again bool) (n int) {
	began := telemetry.Begin()
	defer telemetry.End(telemetry.Purge, began)
	come := hugePagesCome()
	first := region.firstChunk()
	var take [purgeBatch]pageSet
	for end := region.endChunk(); end > first; {
		// A batch is aligned, so that huge pages of the system stay whole.
		c := max(first, (end-1)&^(purgeBatch-1))
		found, idle := 0, pageNo(0)
		region.mu.Lock()
		if block := ownerOf(end - 1); block != 0 { // a huge block's: there is nothing to return before its first chunk
			region.mu.Unlock()
			end = block.chunk() + 1
			continue
		}
		for i := range take[:end-c] {
			take[i] = 0
			s := super(c + chunkNo(i))
			m := s.free & s.dirty
			if m != 0 && !again {
				m &^= s.leftAlone(now)
			}
			if m == 0 {
				continue
			}
			if cold {
				m = coldPages(c+chunkNo(i), m, now, now.since(s.freedAt))
			}
			take[i] = m
			found += m.count()
			if m != 0 {
				idle = (c + chunkNo(i)).page() + pageNo(bits.TrailingZeros32(uint32(m)))
			}
		}
		for i, m := range take[:end-c] {
			if m != 0 {
				s := super(c + chunkNo(i))
				take[i] = s.withClean(m, come)
				s.free &^= take[i]
				updateChunk(c + chunkNo(i))
			}
		}
		region.mu.Unlock()
		if found > 0 {
			if probeDue(now, come) && !probe(idle, now) {
				take[idle.chunk()-c] &^= 1 << idle.inChunk()
				loseFree(idle, now)
			}
			n += purgeBatchPages(c, take[:end-c], cold)
		}
		end = c
	}
	return n
}

// purgeBatchPages returns the memory of the pages take, which are out of use, and puts them back
// into use. take has an entry for each chunk from c on. It returns the number of pages whose memory
// was returned.
func purgeBatchPages(c chunkNo, take []pageSet, kept bool) (n int) {
	var cleaned, refused, tiny, sited, lost [purgeBatch]pageSet
	first := c.page()
	beforePurge(c, take)
	var look osmem.Look
	beginLook(&look)
	eachRun(take, func(page, length int) {
		addr, size := (first + pageNo(page)).addr(), pageCount(length).bytes()
		counts := countResident(&look, addr, size, nil)
		setRun(cleaned[:], page, length)
		usable := returnMemory(addr, size, func(r osmem.Range) {
			setRefused(&cleaned, &refused, first, r)
			for b, n := range countResident(&look, r.Addr, r.Size, nil) {
				counts[b] -= min(n, counts[b])
			}
		})
		countReturned(counts)
		if !usable {
			setRun(lost[:], page, length)
		}
	})
	look.Close()
	for i := range lost {
		cleaned[i] &^= lost[i]
		refused[i] &^= lost[i]
	}
	renewWhole(c, cleaned[:], lost[:], recommit)
	// The part of the live map that covers these pages is all zero, as no block in them is live, and
	// nobody reads that of the site map. A free through a Heap reads the live bytes of any block, also where
	// they were never written.
	read := pageSet(0)
	if osmem.ReadsTakeMemory() {
		read = ^read
	}
	region.mu.Lock()
	for i := range take {
		s := super(c + chunkNo(i))
		tiny[i], sited[i] = cleaned[i]&(s.tiny|read), cleaned[i]&pageSet(s.sited.Load())
	}
	region.mu.Unlock()
	var dropped, unsited [purgeBatch]pageSet
	beforeLiveDiscard(c, tiny[:])
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
			// A part that is refused is not tried again before its pages are in use again.
			whole := true
			usable := returnMemory(table.of.base+mem.Addr(first+pageNo(page))*mem.Addr(unit), mem.Bytes(length)*unit, func(osmem.Range) { whole = false })
			if whole {
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
		s.unused &^= m
		if lost[i] != 0 {
			s.lost |= lost[i]
			anyLost.Store(true)
		}
		s.foundMemory(refused[i]) // a huge page of the system may have filled those that were clean
		before := s.refused & m
		s.outcome(m, refused[i], now)
		pageUse.refused += (s.refused & m).count() - before.count()
		was := s.dirty & cleaned[i]
		gone := s.residentBytes(c+chunkNo(i), was)
		s.dirty &^= cleaned[i]
		s.partly &^= cleaned[i]
		gone += liveBytes(s.tiny) - liveBytes(s.tiny&^dropped[i])
		s.tiny &^= dropped[i]
		uncount(gone + s.unsite(unsited[i]))
		if kept { // otherwise it was not the scavenger's choice
			s.purged |= was
			s.purgedAt = now
		}
		n += was.count()
		s.sparse = s.sparse && (!s.free.whole() || s.dirty != 0 || hugePagesSpan())
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

// loseFree notes that a free page that is out of use may not be touched. findLost makes it usable.
func loseFree(page pageNo, now stamp) {
	region.mu.Lock()
	defer region.mu.Unlock()
	s, m := super(page.chunk()), pageSet(1)<<page.inChunk()
	before := s.refused & m
	s.outcome(m, 0, now)
	pageUse.refused += (s.refused & m).count() - before.count()
	s.unused &^= m
	s.lost |= m
	anyLost.Store(true)
	updateChunk(page.chunk())
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

// setRefused moves the pages of a refused range, in a batch that begins with page first, from cleaned
// to refused.
func setRefused(cleaned, refused *[purgeBatch]pageSet, first pageNo, r osmem.Range) {
	for page := pageAt(r.Addr); page <= pageAt(r.Addr.Add(r.Size-1)); page++ {
		i, bit := (page-first)/superPages, pageSet(1)<<((page-first)%superPages)
		cleaned[i] &^= bit
		refused[i] |= bit
	}
}

// findLost commits the pages that a return left unusable, and the unused ends of pages in use. What
// was lost counts as dirty and resident, which is always safe. Under scavenger.mu; the commits are
// made without another lock: nobody uses what they make usable.
func findLost() {
	if !anyLost.Swap(false) {
		return
	}
	end := region.endChunk()
	for c := region.firstChunk(); c < end; c++ {
		s := super(c)
		region.mu.Lock()
		lost, torn := s.lost, s.torn
		if s.away {
			lost = 0
		}
		region.mu.Unlock()
		if lost|torn == 0 {
			continue
		}
		ok := true
		for _, r := range (chunkRun{c, c + 1}).memory() {
			ok = ok && recommit(r.Addr, r.Size)
		}
		region.mu.Lock()
		if ok {
			s.foundMemory(lost)
			s.free |= lost
			s.lost &^= lost
			s.torn &^= torn
			updateChunk(c)
		} else {
			anyLost.Store(true)
		}
		region.mu.Unlock()
	}
}

// trimEnds returns the memory behind the ends of large blocks' last pages that the blocks do not use,
// where it may be resident because the page was used before. It stops when the hard limit has room
// for n more bytes. Under scavenger.mu.
//
// A block's holder may make it larger (resize) or free it, both under region.mu. So the lock is held
// while the system takes the memory.
func trimEnds(n mem.Bytes) {
	var look osmem.Look
	beginLook(&look)
	defer look.Close()
	end := region.endChunk()
	for c := region.firstChunk(); c < end && !within(n); c++ {
		region.mu.Lock()
		if s := super(c); s.short&^s.torn != 0 {
			region.mu.Unlock()
			madeSparse([]chunkNo{c})
			region.mu.Lock()
			s.trimEnds(c, &look)
		}
		region.mu.Unlock()
	}
}

// trimEnds is the work in chunk c. Under scavenger.mu and region.mu.
func (s *superMeta) trimEnds(c chunkNo, look *osmem.Look) {
	check.MustHold(&region.mu, "trimEnds")
	for m := s.short &^ s.torn; m != 0; m &= m - 1 {
		page, bit := c.page()+pageNo(bits.TrailingZeros32(uint32(m))), m&-m
		used, was := meta(page).units(), s.resident(page)
		idle := was &^ firstUnits(used)
		if idle == 0 {
			continue
		}
		from := mem.Bytes(used) * residentUnit
		addr, size := page.addr().Add(from), pageSize-from
		counts := countResident(look, addr, size, nil)
		refused := pageSet(0)
		usable := returnMemory(addr, size, func(osmem.Range) { refused = bit })
		s.outcome(bit, refused, milliseconds())
		if refused == 0 && usable {
			countReturned(counts)
			s.setResident(page, was&^idle)
			uncount(idle.bytes())
		}
		if !usable {
			s.torn |= bit
			anyLost.Store(true)
		}
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
