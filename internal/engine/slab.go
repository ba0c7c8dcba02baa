package engine

import (
	"math/bits"
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/policy"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// This file holds the slabs: their states, and how a front or a lane gets a slab and how a slab ends. A
// list's lock owns the states, lists and set memberships of the list's slabs; the bitmaps are atomic.
//
// The carve right is the right to allocate from a slab, that is, to clear bits of its bitmap. A set
// bit means that the slab owns that block. The holder of the carve right is the front or the long
// lane that has the slab LEASED, or the one goroutine that has it CLAIMED, and nobody else clears bits. Anyone who
// holds a block may set its bit, without a lock.
//
// Every change of a slab's state, list or set membership happens under the lock of the slab's current
// list. A slab is PARTIAL if and only if it is in the list's partial set.

// The states of a slab.
const (
	slabNone    uint32 = iota // no slab
	slabLeased                // one front, or its lane, may carve from it
	slabFull                  // nobody may: it had no free block when its lease ended
	slabPartial               // it has free blocks (or had, a moment ago)
	slabClaimed               // one goroutine checks whether it is EMPTY, or returns its holes
)

// slabID is the number of a slab's first page in the region, plus one; 0 is no slab.
type slabID uintptr

// slabAt returns the slab that begins at the address start.
func slabAt(start mem.Addr) slabID { return slabID(pageAt(start) + 1) }

func (s slabID) page() pageNo    { return pageNo(uintptr(s) - 1) }
func (s slabID) meta() *pageMeta { return meta(s.page()) }
func (s slabID) addr() mem.Addr  { return s.page().addr() }
func (s slabID) bits(i uint32) *uint64 {
	return u64(region.bits.base + mem.Addr(s.page())*maxWords*8 + mem.Addr(i)*8)
}

// block returns block j of the slab, which is of class c.
func (s slabID) block(c sizeclass.ID, j blockIndex) Block {
	return Block(s.addr().Add(mem.Bytes(j) * c.Bytes()))
}

// owner returns the slab from which the block at p was cut. The caller holds the block; while a
// block of a slab is held, the slab cannot change its class.
func owner(p Block) slabID {
	return slabAt(meta(p.page()).start)
}

// fullWord returns word i of the bitmap of a slab whose blocks are all free.
func fullWord(k *sizeclass.Class, i uint32) uint64 {
	if i == k.Words-1 {
		return k.LastBit
	}
	return ^uint64(0)
}

// allFree reports whether every bit of the slab's bitmap is set, so that nobody holds a block of
// it. Only for the holder of the carve right does the answer stay true.
func (s slabID) allFree(k *sizeclass.Class) bool {
	for i := uint32(0); i < k.Words; i++ {
		if atomic.LoadUint64(s.bits(i)) != fullWord(k, i) {
			return false
		}
	}
	return true
}

// anyFree reports whether any bit of the slab's bitmap is set.
func (s slabID) anyFree(k *sizeclass.Class) bool {
	for i := uint32(0); i < k.Words; i++ {
		if atomic.LoadUint64(s.bits(i)) != 0 {
			return true
		}
	}
	return false
}

// freeBlocks counts the blocks that the slab owns.
func (s slabID) freeBlocks(k *sizeclass.Class) (n int) {
	for i := uint32(0); i < k.Words; i++ {
		n += bits.OnesCount64(atomic.LoadUint64(s.bits(i)))
	}
	return n
}

// slabBytes returns the bytes of a slab of class c.
func slabBytes(c sizeclass.ID) mem.Bytes { return pageSize << sizeclass.Classes[c].Order }

// units is the number of units that the slab is divided into for holes, and unitBytes the size of
// each.
func (s slabID) units() int           { return int(s.meta().runBytes() / s.unitBytes()) }
func (s slabID) unitBytes() mem.Bytes { return pageCount(s.meta().pages).holeUnit(holePage) }

// bytesOf returns the bytes of a set of the slab's units.
func (s slabID) bytesOf(units uint64) mem.Bytes {
	if units == 0 {
		return 0
	}
	return mem.Bytes(bits.OnesCount64(units)) * s.unitBytes()
}

// holes returns the units of the slab of class c whose blocks the slab owns, all of them. While the
// caller holds the right to take blocks from the slab, they stay the slab's; otherwise the result
// is only a glance.
func (s slabID) holes(c sizeclass.ID) (holes uint64) {
	k := &sizeclass.Classes[c]
	unit := uint32(s.unitBytes())
	for i := range uint32(s.units()) {
		from, to := i*unit/k.Size, ((i+1)*unit-1)/k.Size
		if s.ownsBlocks(from, min(to, k.Blocks-1)) {
			holes |= 1 << i
		}
	}
	return holes
}

// ownsBlocks reports whether the slab owns all of the blocks from..to; it is true of an empty
// range.
func (s slabID) ownsBlocks(from, to uint32) bool {
	for from <= to {
		n := min(64-from%64, to-from+1)
		if mask := ^uint64(0) >> (64 - n) << (from % 64); atomic.LoadUint64(s.bits(from/64))&mask != mask {
			return false
		}
		from += n
	}
	return true
}

// firstFree returns the first word in [from, to) of the slab's bitmap that has a free block.
func (s slabID) firstFree(from, to uint32) (w uint32, ok bool) {
	for w := from; w < to; w++ {
		if atomic.LoadUint64(s.bits(w)) != 0 {
			return w, true
		}
	}
	return 0, false
}

// nextFree returns the word of the bitmap in which carve begins: the first one with a free block from
// lowWord on or, as blocks may have been freed below it, of all. For the holder of the carve right.
func (s slabID) nextFree(k *sizeclass.Class) (w uint32, ok bool) {
	low := s.meta().lowWord()
	if w, ok = s.firstFree(low, k.Words); !ok {
		w, ok = s.firstFree(0, low)
	}
	return w, ok
}

// span returns the units from the first to the last of the next want blocks that carve takes. Blocks
// that are freed meanwhile may be taken instead of some of them, but no hole lies under such a block.
// For the holder of the carve right, or under the list's lock.
func (s slabID) span(c sizeclass.ID, want int) uint64 {
	k := &sizeclass.Classes[c]
	low, ok := s.nextFree(k)
	if !ok {
		return 0
	}
	first := low*64 + uint32(bits.TrailingZeros64(atomic.LoadUint64(s.bits(low))))
	last := first
	for w := low; w < k.Words && want > 0; w++ {
		v := atomic.LoadUint64(s.bits(w))
		n := bits.OnesCount64(v)
		if n == 0 {
			continue
		}
		if n > want {
			if at := bits.TrailingZeros64(v); v>>at&(v>>at+1) == 0 { // one run
				v = 1 << (at + want - 1)
			} else {
				for ; n > want; n-- {
					v &^= 1 << (63 - bits.LeadingZeros64(v))
				}
			}
		}
		last = w*64 + uint32(63-bits.LeadingZeros64(v))
		want -= n
	}
	unit := uint32(s.unitBytes())
	from, to := first*k.Size/unit, ((last+1)*k.Size-1)/unit
	return ^uint64(0) >> (63 - to) &^ (1<<from - 1)
}

// fill makes the next want blocks that carve takes usable: it reserves the memory of the holes under
// them, which are no holes from then on. It returns for how many blocks the hard limit has room, want
// or a part of it. Near the limit magazines get no block for which memory must be had beyond that of
// the first: a thousand Heaps would else hold all of it. For the holder of the carve right, entered or
// not, or under the list's lock.
func (s slabID) fill(c sizeclass.ID, want int) int {
	m := s.meta()
	for near := nearHard(); want > 0; want /= 2 {
		holes := m.holes() & s.span(c, want)
		if near && want > 1 && holes&^s.span(c, 1) != 0 {
			continue // only the units under one block
		}
		if reserve(s.bytesOf(holes)) {
			m.setHoles(m.holes() &^ holes)
			return want
		}
	}
	return 0
}

// forgetHoles counts the memory of holes that may be no holes any more. For the claimer.
func (s slabID) forgetHoles(keep uint64) {
	m := s.meta()
	count(s.bytesOf(m.holes() &^ keep))
	m.setHoles(m.holes() & keep)
}

// listState is the shared part of one list. mu is the list's lock: it owns the partial set and every
// state change of the list's slabs. No system call is made under it and no other lock taken.
type listState struct {
	mu     check.Mutex[check.List]
	listed int // members of the partial set
	// Where slabs were found, by stage. The own-lease stage is counted by the fronts.
	empty, partial, cross, fresh uint64
	slabs                        int
	_                            [64]byte // keep neighbours' locks off this line
}

// lists has the shared part of each list.
var lists [numLists]listState

// format makes the 2^order pages at page a slab of list l, which the caller owns: it is LEASED, with
// every block free. holes are its units that have no memory. The caller must hold the pages. They
// are fresh from a superslab, or were a CLAIMED slab's that is unformatted.
func format(page pageNo, l listID, holes uint64) slabID {
	s, c := slabID(page+1), l.class()
	k := &sizeclass.Classes[c]
	n := uint32(1) << k.Order
	start := s.addr()
	for i := uintptr(0); i < uintptr(n); i++ {
		m := meta(page + pageNo(i))
		m.start, m.class, m.flags = start, c, 0
		if c > sizeclass.NumTiny {
			m.bucket = bucketMid
			m.kind, m.live0, m.recip = kindMid, live0(page+pageNo(i), 0), k.Recip
		} else {
			m.bucket = bucketTiny
			m.kind, m.live0, m.recip = kindTiny, 0, 0
			PageClass[page+pageNo(i)] = uint8(c)
		}
	}
	m := s.meta()
	m.pages = n
	m.setLowWord(0)
	m.setHoles(holes)
	for i := uint32(0); i < k.Words; i++ {
		atomic.StoreUint64(s.bits(i), fullWord(k, i))
	}
	m.slabState.Store(slabLeased)
	m.slabList.Store(uint32(l))
	return s
}

// unformat takes a CLAIMED slab whose blocks are all free out of its list. After it the pages hold no
// slab. It takes the list's lock, so that a late enlist sees either the old list or none.
func unformat(s slabID) {
	m := s.meta()
	l := m.list()
	k := &sizeclass.Classes[l.class()]
	ls := &lists[l]
	ls.mu.Lock()
	for i := uint32(0); i < k.Words; i++ {
		atomic.StoreUint64(s.bits(i), 0)
	}
	for i := uintptr(0); i < 1<<k.Order; i++ {
		m := meta(s.page() + pageNo(i))
		m.kind, m.recip = kindSlabFreed, 0 // the class stays, for the finding of a double free
		PageClass[s.page()+pageNo(i)] = 0
	}
	m.slabState.Store(slabNone)
	m.slabList.Store(0)
	ls.slabs--
	ls.mu.Unlock()
}

// enlist makes a FULL slab PARTIAL. Between the caller's look at the slab and this lock, the slab
// may have been emptied, claimed and given another list. That is harmless, because the list is read
// again under the lock.
func enlist(s slabID) { enlistSince(s, stamp(times.listed.Load())) }

// enlistSince is enlist for a slab that counts as PARTIAL since an earlier moment.
func enlistSince(s slabID, since stamp) {
	m := s.meta()
	l, ls := s.lockList()
	if l == 0 {
		return
	}
	if k := &sizeclass.Classes[l.class()]; m.slabState.Load() == slabFull {
		m.slabState.Store(slabPartial)
		m.setListed(since)
		setAdd(l, s.page())
		ls.listed++
		if s.allFree(k) {
			markEmpty(s.page())
		} else {
			unmarkEmpty(s.page()) // a hint from when the slab was leased
			if s.allFree(k) {
				// The hint just removed may have been that of the goroutine that just completed the
				// bitmap.
				markEmpty(s.page())
			}
		}
	}
	ls.mu.Unlock()
}

// lockList locks the list that the slab is in now, and returns it. If there is no slab it returns 0, and
// nothing is locked. It is for callers that do not hold a block of the slab.
func (s slabID) lockList() (l listID, ls *listState) {
	m := s.meta()
	for {
		if l = m.list(); l == 0 {
			return 0, nil
		}
		ls = &lists[l]
		ls.mu.Lock()
		if m.list() == l {
			return l, ls
		}
		ls.mu.Unlock()
	}
}

// unmarkNone removes the hint of a page that is no slab. If the page has become a slab in the
// meantime, the hint may have been the new slab's, set once and for all when its last block came
// back. So it is set again, and at worst is wrong.
func unmarkNone(s slabID) {
	unmarkEmpty(s.page())
	if s.meta().slabList.Load() != 0 {
		markEmpty(s.page())
	}
}

// unlist takes a PARTIAL slab out of the set of its list l and gives the caller the carve right, in state
// to. Under the list's lock.
func unlist(l listID, page pageNo, to uint32) slabID {
	ls := &lists[l]
	check.MustHold(&ls.mu, "unlist")
	setRemove(l, page)
	ls.listed--
	s := slabID(page + 1)
	m := s.meta()
	m.slabState.Store(to)
	unmarkEmpty(page)
	return s
}

// retire ends the carve right of a slab that its holder has no more use for. It stores FULL first
// and looks at the words afterwards. giveBack sets bits first and looks at the state afterwards.
// This is Dekker's pattern: one of the two sees the other.
func retire(s slabID) { retireSince(s, stamp(times.listed.Load())) }

// retireSince is retire for a slab that counts as PARTIAL since an earlier moment.
func retireSince(s slabID, since stamp) {
	m := s.meta()
	l := m.list() // stable: the caller holds the carve right
	ls := &lists[l]
	ls.mu.Lock()
	m.slabState.Store(slabFull)
	ls.mu.Unlock()
	if s.anyFree(&sizeclass.Classes[l.class()]) {
		enlistSince(s, since)
	}
}

// acquire finds a slab of list l with free blocks and returns it LEASED, or returns 0 when memory
// is out. It tries these stages in order, and counts where it found the slab:
//
//   - partial: the list's partly free slabs, lowest address first;
//   - empty: the list's EMPTY slabs (HAKMEM_EMPTY_FIRST puts this stage first);
//   - cross-class: pages of the superslabs that there are which were used before, then EMPTY slabs of any
//     list, and then pages that were never used;
//   - fresh: a new superslab.
//
// It also returns how many bytes of the slab were never used before. Not pinned; it takes locks and may make
// system calls.
func acquire(l listID) (s slabID, unused mem.Bytes) {
	turn := batchTurn(batchScan)
	began := searchBegins(turn)
	s, fresh, unused := search(l, turn.times(policy.Now().EmptyScanLimit))
	if s != 0 {
		searchEnds(turn, began, 1<<sizeclass.Classes[l.class()].Order, fresh)
	}
	return s, unused
}

// search is acquire with a limit to how many slabs and superslabs are looked at. It also returns how many
// bytes of the slab have no memory yet.
func search(l listID, limit int) (s slabID, fresh, unused mem.Bytes) {
	pol := policy.Now()
	if s, since := acquireListed(l, pol, limit); s != 0 {
		noteHoleWait(s.page(), since, func() int { return bits.OnesCount64(s.holes(l.class())) })
		return s, 0, 0
	}
	ls := &lists[l]
	order, size := slabOrder(sizeclass.Classes[l.class()].Order), sizeclass.Classes[l.class()].Size
	stage := &ls.cross
	page, holes, ok := takePages(order, size, fromUsed)
	if !ok && pol.EmptyReuse && stealEmpty(order, pol, limit) {
		page, holes, ok = takePages(order, size, fromUsed)
	}
	if !ok {
		unused = slabBytes(l.class())
		page, holes, ok = takePages(order, size, fromAny)
	}
	if !ok {
		stage = &ls.fresh
		page, holes, ok = takePages(order, size, fromNew)
	}
	if !ok {
		return 0, 0, 0
	}
	s = format(page, l, holes)
	ls.mu.Lock()
	*stage++
	ls.slabs++
	ls.mu.Unlock()
	return s, s.bytesOf(holes), unused
}

// acquireListed is the partial stage and the empty stage: it takes a slab that is already in
// list l. It also returns since when the slab was PARTIAL.
func acquireListed(l listID, pol *policy.Tuning, limit int) (s slabID, since stamp) {
	ls := &lists[l]
	ls.mu.Lock()
	defer ls.mu.Unlock()
	first, ok := setNext(l, 0)
	if !ok {
		return 0, 0
	}
	if !pol.EmptyReuse {
		if first, ok = filled(l, first); !ok {
			return 0, 0
		}
		ls.partial++
		s = unlist(l, first, slabLeased)
		return s, s.meta().listedAt()
	}
	// A partly free slab is better than an EMPTY one, which may be wanted as a whole. With
	// EmptyFirst it is the other way round. Only a bounded number of slabs is looked at.
	page := first
	for n := 0; ok && n < limit; n++ {
		if isMarkedEmpty(page) == pol.EmptyFirst {
			break
		}
		page, ok = setNext(l, page+1)
	}
	if !ok || isMarkedEmpty(page) != pol.EmptyFirst {
		page = first
	}
	if page, ok = filled(l, page); !ok {
		return 0, 0
	}
	if isMarkedEmpty(page) {
		ls.empty++
	} else {
		ls.partial++
	}
	s = unlist(l, page, slabLeased)
	return s, s.meta().listedAt()
}

// filled makes one block of the PARTIAL slab of list l at page usable or, if the hard limit has no room
// for it, one of another slab, and returns the slab that it was. Under the list's lock.
func filled(l listID, page pageNo) (pageNo, bool) {
	check.MustHold(&lists[l].mu, "filled")
	if s := slabID(page + 1); s.meta().holes() == 0 || s.fill(l.class(), 1) != 0 {
		return page, true
	}
	page, ok := setNext(l, 0)
	for n := 0; ok && n < filledScan; n++ {
		if slabID(page+1).fill(l.class(), 1) != 0 {
			return page, true
		}
		page, ok = setNext(l, page+1)
	}
	limitHit.Add(1)
	return 0, false
}

// filledScan is how many slabs filled looks at: some 10 µs of the list's lock, in an allocation
// that otherwise fails.
const filledScan = 256

// stealEmpty looks for EMPTY slabs of any list and gives their pages back to their superslabs,
// until there is a run of 2^order pages or it has looked at limit superslabs. It reports whether it gave
// back any pages.
func stealEmpty(order slabOrder, pol *policy.Tuning, limit int) bool {
	looked, got := 0, uint32(0)
	end := region.endChunk()
	for i := region.firstChunk() &^ 63; i < end && looked < limit; i += 64 {
		hints := hintWord(i)
		for w := atomic.LoadUint64(hints); w != 0 && looked < limit; w &= w - 1 {
			b := uintptr(bits.TrailingZeros64(w))
			looked++
			got |= stealFrom(i+chunkNo(b), pol)
			dropHint(i + chunkNo(b))
			if got>>order != 0 {
				return true
			}
		}
	}
	return got != 0
}

// dropHint removes the hint that superslab c has EMPTY slabs, if it has none.
func dropHint(c chunkNo) {
	hints := hintWord(c)
	if super(c).emptyMask.Load() == 0 {
		atomic.AndUint64(hints, ^(uint64(1) << (c % 64)))
		if super(c).emptyMask.Load() != 0 { // set in the meantime: keep the hint
			atomic.OrUint64(hints, 1<<(c%64))
		}
	}
}

// stealFrom claims the EMPTY slabs of one superslab and gives their pages back. It returns the set
// of the orders that it gave back.
func stealFrom(c chunkNo, pol *policy.Tuning) (orders uint32) {
	for m := super(c).emptyMask.Load(); m != 0; m &= m - 1 {
		s := slabID(c.page() + pageNo(bits.TrailingZeros32(m)) + 1)
		if order, ok := giveBackEmpty(s, pol.EmptyMinKeep); ok {
			orders |= 1 << order
		}
	}
	return orders
}

// giveBackEmpty gives back the pages of a PARTIAL slab if all of its blocks are free, and reports
// their order.
func giveBackEmpty(s slabID, minKeep int) (order slabOrder, ok bool) {
	if order, ok = claimEmpty(s, minKeep); ok {
		m := s.meta()
		holes := m.holes()
		m.setHoles(0)
		giveBackPages(s.page(), order, holes, s.unitBytes())
	}
	return order, ok
}

// claimEmpty takes a PARTIAL slab out of its list if all of its blocks are free. It reports the
// order of the run of pages that the caller then holds. It unlinks the slab under the lock and
// looks at the bits without the lock. Only the claimer may clear bits, so while it looks, bits are
// only added.
func claimEmpty(s slabID, minKeep int) (order slabOrder, ok bool) {
	m := s.meta()
	l, ls := s.lockList()
	if l == 0 {
		unmarkNone(s)
		return 0, false
	}
	if m.slabState.Load() != slabPartial {
		unmarkEmpty(s.page()) // leased, for example: it is marked again when it is listed
		ls.mu.Unlock()
		return 0, false
	}
	if ls.listed <= minKeep {
		ls.mu.Unlock()
		return 0, false
	}
	unlist(l, s.page(), slabClaimed)
	ls.mu.Unlock()
	k := &sizeclass.Classes[l.class()]
	if !s.allFree(k) {
		retire(s) // back to PARTIAL, or to FULL if it had no free block after all
		return 0, false
	}
	if s.dropLive(k, l.class()) {
		s.forgetHoles(0) // some holes may be of blocks that are no longer the slab's
		retire(s)
		return 0, false
	}
	unformat(s)
	return slabOrder(k.Order), true
}

// reclaimSkip and reclaimPenalty limit how often a failed allocation reclaims (reclaim.go).
var reclaimSkip, reclaimPenalty atomic.Int64

// moreToReclaim notes that a slab became EMPTY.
func moreToReclaim() {
	if reclaimPenalty.Load() != 0 {
		reclaimPenalty.Store(0)
		reclaimSkip.Store(0)
	}
}

// dropLive removes from the slab's bitmap those of its blocks that are marked live, and reports
// whether there were any. Of a late double free one copy came back to the slab, and the other has
// been handed out since: the block is its holder's. (carve drops such blocks, too.) For the holder
// of the carve right.
func (s slabID) dropLive(k *sizeclass.Class, c sizeclass.ID) (dropped bool) {
	if !checkLive || c <= sizeclass.NumTiny && nonZero(mem.Addr(Live)+s.addr()>>granuleShift, pageSize<<k.Order>>granuleShift) == 0 {
		return false
	}
	for w := range k.Words {
		b := s.bits(w)
		for v := atomic.LoadUint64(b) & fullWord(k, w); v != 0; v &= v - 1 {
			at := uint64(bits.TrailingZeros64(v))
			p := s.block(c, blockIndex(uint64(w)*64+at))
			if !isLive(p, c) {
				continue
			}
			atomic.AndUint64(b, ^(1 << at))
			// Freed in the meantime: the flush of that free will find the bit, or has found it.
			if !isLive(p, c) {
				atomic.OrUint64(b, 1<<at)
				continue
			}
			foundLate(p)
			dropped = true
		}
	}
	return dropped
}

// emptyHints is the address of a bitmap. It has a bit for every superslab whose emptyMask may be
// non-zero, so that a search skips the other superslabs 64 at a time.
var emptyHints mem.Addr

// hintWord returns the word of emptyHints that has the bit of chunk c.
func hintWord(c chunkNo) *uint64 { return u64(emptyHints + mem.Addr(c/64)*8) }

// markEmpty notes that the slab that begins at page is EMPTY. Any goroutine.
func markEmpty(page pageNo) {
	c := page.chunk()
	super(c).emptyMask.Or(1 << (page.inChunk()))
	atomic.OrUint64(hintWord(c), 1<<(c%64))
}

// unmarkEmpty removes the note that the slab that begins at page is EMPTY.
func unmarkEmpty(page pageNo) {
	super(page.chunk()).emptyMask.And(^(uint32(1) << (page.inChunk())))
}

// isMarkedEmpty reports whether the slab that begins at page is noted as EMPTY.
func isMarkedEmpty(page pageNo) bool {
	return super(page.chunk()).emptyMask.Load()>>(page.inChunk())&1 != 0
}
