package engine

import (
	"math"
	"math/bits"
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/sizeclass"
	"github.com/hakmem/hakmem/internal/telemetry"
)

// Holes. A slab with few live blocks keeps its pages from every other use, but the memory behind
// its free blocks can be returned in units of a 64th of the slab, at least an OS page. The slab
// remains what it is. A block that is allocated in a hole faults its memory in again.
//
// While the scavenger looks at a slab and returns memory, the slab is CLAIMED: only the claimer may
// clear bits, so what is free stays free. All state of this file is owned by scavenger.mu, except
// for the counter punched.

// A slab is worth punching if enough of it can be returned that has not been returned before. The
// thresholds are in 64ths of a slab. For a slab that has not been used for the window it is an 8th,
// which is two units of a tiny slab where OS pages have 4 KiB. While the heap grows, when the system
// calls hold up the program, it is a quarter (docs/ledger.md, "Holes"). For Trim, and when an
// allocation would fail otherwise, every unit is worth it.
type unitCount int

const (
	worthAny     unitCount = 1
	worthIdle    unitCount = 8
	worthGrowing unitCount = 16
)

// punched counts the bytes returned so far.
var punched atomic.Uint64

// punchLost lists slabs with memory that may not be touched. They stay CLAIMED until a commit
// succeeds. Owned by scavenger.mu.
var punchLost []slabID

// punchCursor is where the last look at the slabs ended.
type punchCursor struct {
	list  listID
	page  pageNo
	young bool // this round met, or passed by, slabs that may be punched later
}

// punchAt is where the next look continues. Owned by scavenger.mu.
var punchAt punchCursor

// punchSlabs looks at up to most slabs, all if most is math.MaxInt. It punches those that are worth it;
// with aged set, only those that have been PARTIAL for their hold time (holetime.go). again says that it tries pages again that were
// refused a short time ago. It reports whether it stopped before the end of its round, or left some
// slabs that are too young. Under scavenger.mu.
func punchSlabs(now stamp, aged bool, worth unitCount, most int, again bool) (left bool) {
	began := telemetry.Begin()
	defer telemetry.End(telemetry.Purge, began)
	lost, found := punchLost, false
	punchLost = nil
	for _, s := range lost {
		if m := s.meta(); recommit(s.addr(), m.runBytes()) && s.recommitLabels() {
			retire(s)
			found = true // perhaps behind punchAt
		} else {
			punchLost = append(punchLost, s)
		}
	}
	at := &punchAt
	if most == math.MaxInt {
		*at = punchCursor{}
	}
	if aged && *at == (punchCursor{}) {
		beginHoleRound(now)
	}
	at.young = at.young || found
	for at.list = max(at.list, 1); at.list < numLists; at.list++ {
		l, c, ls := at.list, at.list.class(), &lists[at.list]
		for ; ; at.page++ {
			beats.Add(1)
			if most--; most < 0 {
				punchNow(now)
				return true
			}
			// One slab at a time, so that the lock is held only briefly.
			ls.mu.Lock()
			page, ok := setNext(l, at.page)
			if !ok {
				ls.mu.Unlock()
				break
			}
			at.page = page
			s := slabID(page + 1)
			m := s.meta()
			free := s.holes(c)
			if aged {
				holesWait(page, bits.OnesCount64(free), m.listedAt())
			}
			switch {
			case isMarkedEmpty(page): // sweepIdle's
			case bits.OnesCount64(free&^m.holes()&^s.leftAlone(now, again))*64 < max(int(worth)*s.units(), 1):
			case aged && now.since(m.listedAt()) < holeTime(page):
				at.young = true
			default:
				unlist(l, page, slabClaimed)
				ls.mu.Unlock()
				s.punch(c, now, again)
				continue
			}
			ls.mu.Unlock()
		}
		at.page = 0
	}
	punchNow(now)
	if aged {
		endHoleRound()
	}
	left = at.young || len(punchLost) > 0
	*at = punchCursor{}
	return left
}

// leftAlone returns the units that are not to be tried again yet, because the system refused to take
// memory of their pages back. Under scavenger.mu.
func (s slabID) leftAlone(now stamp, again bool) (units uint64) {
	if again {
		return 0
	}
	pages := super(s.page().chunk()).leftAlone(now) >> s.page().inChunk()
	perPage := s.units() / int(s.meta().pages)
	for ; pages != 0; pages &= pages - 1 {
		if i := bits.TrailingZeros32(uint32(pages)); i < int(s.meta().pages) {
			units |= (1<<perPage - 1) << (i * perPage)
		}
	}
	return units
}

// punching gathers the holes of CLAIMED slabs, so that few system calls return their memory. Owned
// by scavenger.mu.
var punching struct {
	slabs  [punchSlabsAtOnce]punchSlab
	n      int
	ranges [osmem.MaxRanges]osmem.Range
	of     [osmem.MaxRanges]uint8 // the slab of each range
	r      int
}

type punchSlab struct {
	slab  slabID
	holes uint64 // the slab's, after the return
	tried uint64 // those of them that are being returned
	lost  bool
	since stamp // when the slab became PARTIAL
	// refused has the pages of the slab's chunk in which memory was refused.
	refused pageSet
}

// punchSlabsAtOnce is how many slabs are claimed together. They are few enough that their classes
// do not miss them, and there are ranges enough for 16 units in each slab with every second one a
// hole.
const punchSlabsAtOnce = 64

// punch adds the CLAIMED slab. Its claim ends with the next punchNow.
func (s slabID) punch(c sizeclass.ID, now stamp, again bool) {
	b := &punching
	m := s.meta()
	unit := s.unitBytes()
	s.dropLive(&sizeclass.Classes[c], c)
	holes := s.holes(c)
	s.forgetHoles(holes) // a block that was dropped may lie in one
	tried := holes &^ m.holes() &^ s.leftAlone(now, again)
	for todo := tried; todo != 0; {
		from := bits.TrailingZeros64(todo)
		n := bits.TrailingZeros64(^(todo >> from))
		todo &^= ^uint64(0) >> (64 - n) << from
		b.ranges[b.r] = osmem.Range{Addr: s.addr().Add(mem.Bytes(from) * unit), Size: mem.Bytes(n) * unit}
		b.of[b.r] = uint8(b.n)
		b.r++
	}
	b.slabs[b.n] = punchSlab{slab: s, since: m.listedAt(), holes: m.holes() | tried, tried: tried}
	b.n++
	if b.n == len(b.slabs) || b.r > len(b.ranges)-32 { // 32 ranges are the most that 64 units can make
		punchNow(now)
	}
}

// punchNow returns the memory that was gathered and ends the claims.
func punchNow(now stamp) {
	b := &punching
	if b.n == 0 {
		return
	}
	var look osmem.Look
	beginLook(&look)
	var chunks [punchSlabsAtOnce]chunkNo
	for i := range b.n {
		b.slabs[i].countHoles(&look)
		chunks[i] = b.slabs[i].slab.page().chunk()
	}
	look.Close()
	madeSparse(chunks[:b.n])
	for done := 0; done < b.r; {
		n, err := osmem.DiscardMany(b.ranges[done:b.r])
		for _, r := range b.ranges[done : done+n] {
			punched.Add(uint64(r.Size))
		}
		done += n
		beats.Add(1)
		if err != nil { // it concerns this range; the others go on
			s, r := &b.slabs[b.of[done]], b.ranges[done]
			given := r.Size
			if !narrow(r, err, func(r osmem.Range) { given -= r.Size; s.refuse(r) }) {
				s.lost = true
			}
			punched.Add(uint64(given))
			done++
		}
	}
	for i := range b.n {
		s := &b.slabs[i]
		m := s.slab.meta()
		uncount(s.slab.bytesOf(s.holes &^ m.holes()))
		m.setHoles(s.holes)
		s.noteRefused(now)
		s.returnLabels()
		if s.lost {
			punchLost = append(punchLost, s.slab)
		} else {
			retireSince(s.slab, s.since) // a slab that was punched waits on
		}
	}
	b.n, b.r = 0, 0
}

// refuse notes that the system refused a part of a range of the slab's.
func (s *punchSlab) refuse(r osmem.Range) {
	unit := s.slab.unitBytes()
	from, to := r.Addr.From(s.slab.addr()), r.Addr.From(s.slab.addr())+r.Size-1
	for i := from / unit; i <= to/unit; i++ {
		s.holes &^= 1 << i
	}
	for page := pageAt(r.Addr); page <= pageAt(r.Addr.Add(r.Size-1)); page++ {
		s.refused |= 1 << page.inChunk()
	}
	var look osmem.Look
	if beginLook(&look) { // they were counted as returned
		for b, n := range countResident(&look, r.Addr, r.Size, nil) {
			returnedPages[b].Add(-n)
		}
		look.Close()
	}
}

// noteRefused notes in the chunk which pages were refused, and which are no longer.
func (s *punchSlab) noteRefused(now stamp) {
	c := super(s.slab.page().chunk())
	if c.refused|s.refused == 0 { // as nearly always
		return
	}
	perPage := s.slab.units() / int(s.slab.meta().pages)
	tried := pageSet(0)
	for i := range s.slab.meta().pages {
		if s.tried>>(int(i)*perPage)&(1<<perPage-1) != 0 {
			tried |= 1 << (s.slab.page().inChunk() + i)
		}
	}
	region.mu.Lock()
	defer region.mu.Unlock()
	c.outcome(tried, s.refused, now)
}

// countHoles notes that the resident OS pages of the slab's units are about to be returned.
func (s *punchSlab) countHoles(look *osmem.Look) {
	unit := uintptr(s.slab.unitBytes())
	countReturned(countResident(look, s.slab.addr(), s.slab.meta().runBytes(), func(offset uintptr) bool {
		return s.tried>>(offset/unit)&1 != 0
	}))
}

// labelsApart reports whether there is a site map in which each page has OS pages of its own.
func labelsApart() bool { return sitesOn.Load() && osmem.PageSize() <= region.sites.unit }

// returnLabels returns the memory of the site map for those pages of the slab that are holes as a whole:
// no block begins there that may have a label. Where an OS page of the map is of several pages, it waits
// until the slab gives its pages back. For the claimer.
func (s *punchSlab) returnLabels() {
	if !labelsApart() {
		return
	}
	unit, n := region.sites.unit, s.slab.meta().pages
	perPage := s.slab.units() / int(n)
	c := super(s.slab.page().chunk())
	for i := range n {
		page, mask := s.slab.page()+pageNo(i), uint64(1<<perPage-1)<<(int(i)*perPage)
		if bit := pageSet(1) << page.inChunk(); s.holes&mask == mask && pageSet(c.sited.Load())&bit != 0 {
			refused := false
			if !returnMemory(labelsOf(page), unit, func(osmem.Range) { refused = true }) {
				s.lost = true
			} else if !refused {
				uncount(c.unsite(bit))
			}
		}
	}
}

// recommitLabels makes the site map of the slab usable again, after a return of memory that failed
// halfway, and reports whether it is. For the claimer.
func (s slabID) recommitLabels() bool {
	return !labelsApart() || recommit(labelsOf(s.page()), mem.Bytes(s.meta().pages)*region.sites.unit)
}
