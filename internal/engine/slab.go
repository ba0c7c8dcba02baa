package engine

import (
	"math/bits"
	"sync/atomic"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/policy"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// Slab states. A set bit of a slab's bitmap means that the slab owns that
// block. Only the holder of the carve right (the front that has the slab
// LEASED, or the one goroutine that has it CLAIMED) clears bits; anyone who
// holds a block may set its bit, without a lock. Every change of state, class
// or set membership happens under the lock of the slab's current class.
// PARTIAL if and only if in the class's partial set.
const (
	slabNone    uint32 = iota // no slab
	slabLeased                // one front may carve from it
	slabFull                  // nobody may: it had no free block when its lease ended
	slabPartial               // has free blocks (or had, a moment ago)
	slabClaimed               // one goroutine checks whether it is EMPTY, or returns its holes
)

// slabID is a slab's first page in the region, plus one; 0 is no slab.
type slabID uintptr

// slabAt returns the slab that begins at the address start.
func slabAt(start mem.Addr) slabID { return slabID(pageAt(start) + 1) }

func (s slabID) page() pageNo    { return pageNo(uintptr(s) - 1) }
func (s slabID) meta() *pageMeta { return meta(s.page()) }
func (s slabID) addr() mem.Addr  { return s.page().addr() }
func (s slabID) bits(i uint32) *uint64 {
	return u64(region.bits.base + mem.Addr(s.page())*maxWords*8 + mem.Addr(i)*8)
}

// block returns block j of the slab, of class c.
func (s slabID) block(c sizeclass.ID, j blockIndex) Block {
	return Block(s.addr().Add(mem.Bytes(j) * c.Bytes()))
}

// owner returns the slab that the block at p, which the caller holds, was cut
// from. The slab cannot change class while a block of it is held.
func owner(p Block) slabID {
	m := meta(p.page())
	return slabID(pageAt(m.start) + 1)
}

func fullWord(k *sizeclass.Class, i uint32) uint64 {
	if i == k.Words-1 {
		return k.LastBit
	}
	return ^uint64(0)
}

// allFree reports whether every bit of the slab's bitmap is set: nobody holds a
// block of it. The truth only for the holder of the carve right.
func (s slabID) allFree(k *sizeclass.Class) bool {
	for i := uint32(0); i < k.Words; i++ {
		if atomic.LoadUint64(s.bits(i)) != fullWord(k, i) {
			return false
		}
	}
	return true
}

func (s slabID) anyFree(k *sizeclass.Class) bool {
	for i := uint32(0); i < k.Words; i++ {
		if atomic.LoadUint64(s.bits(i)) != 0 {
			return true
		}
	}
	return false
}

// freeBlocks counts the blocks the slab owns.
func (s slabID) freeBlocks(k *sizeclass.Class) (n int) {
	for i := uint32(0); i < k.Words; i++ {
		n += bits.OnesCount64(atomic.LoadUint64(s.bits(i)))
	}
	return n
}

// classState is the shared part of one class. mu is the class's lock: it owns
// the partial set and every state change of the class's slabs. No system call
// and no other lock is taken under it.
type classState struct {
	mu     check.Mutex[check.Class]
	listed int // members of the partial set
	// Where slabs were found, by stage; the own-lease stage is counted by fronts.
	empty, partial, cross, fresh uint64
	slabs                        int
	_                            [64]byte // keep neighbours' locks off this line
}

var classes [sizeclass.Num + 1]classState

// format makes the 2^order pages at page a slab of class c, owned by the
// caller (LEASED, every block free). The pages must be held by the caller:
// fresh from a superslab, or a CLAIMED slab whose lock-protected part is done.
func format(page pageNo, c sizeclass.ID) slabID {
	s := slabID(page + 1)
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
	m.pages, m.lowWord = n, 0
	m.setHoles(0)
	for i := uint32(0); i < k.Words; i++ {
		atomic.StoreUint64(s.bits(i), fullWord(k, i))
	}
	m.slabState.Store(slabLeased)
	m.slabClass.Store(uint32(c))
	return s
}

// unformat takes a CLAIMED, all-free slab out of its class: after it the pages
// hold no slab. Under the class's lock, so that a late enlist sees either the
// old class or none.
func unformat(s slabID) {
	m := s.meta()
	c := m.slabClass.Load()
	k := &sizeclass.Classes[c]
	cs := &classes[c]
	cs.mu.Lock()
	for i := uint32(0); i < k.Words; i++ {
		atomic.StoreUint64(s.bits(i), 0)
	}
	for i := uintptr(0); i < 1<<k.Order; i++ {
		m := meta(s.page() + pageNo(i))
		m.kind, m.recip = kindSlabFreed, 0 // the class stays, for who frees twice
		PageClass[s.page()+pageNo(i)] = 0
	}
	m.slabState.Store(slabNone)
	m.slabClass.Store(0)
	cs.slabs--
	cs.mu.Unlock()
}

// enlist makes a FULL slab PARTIAL. Between the caller's look at the slab and
// this lock it may have been emptied, claimed and given another class;
// re-reading the class under the lock makes that harmless.
func enlist(s slabID) {
	m := s.meta()
	c, cs := s.lockClass()
	if c == 0 {
		return
	}
	if m.slabState.Load() == slabFull {
		m.slabState.Store(slabPartial)
		m.setListed(stamp(times.listed.Load()))
		setAdd(c, s.page())
		cs.listed++
		if s.allFree(&sizeclass.Classes[c]) {
			markEmpty(s.page())
		} else {
			unmarkEmpty(s.page()) // a hint from when it was leased
			if s.allFree(&sizeclass.Classes[c]) {
				markEmpty(s.page()) // or the one of who completed it just now
			}
		}
	}
	cs.mu.Unlock()
}

// lockClass locks the class that the slab has, and returns it; 0, and nothing is
// locked, if it is no slab. For who does not hold a block of it.
func (s slabID) lockClass() (c sizeclass.ID, cs *classState) {
	m := s.meta()
	for {
		if c = sizeclass.ID(m.slabClass.Load()); c == 0 {
			return 0, nil
		}
		cs = &classes[c]
		cs.mu.Lock()
		if sizeclass.ID(m.slabClass.Load()) == c {
			return c, cs
		}
		cs.mu.Unlock()
	}
}

// unmarkNone takes away the hint of a page that is no slab. If it has become one
// meanwhile, the hint may have been that one's, set once and for all when its last
// block came back: it is set again, and is at worst a wrong one.
func unmarkNone(s slabID) {
	unmarkEmpty(s.page())
	if s.meta().slabClass.Load() != 0 {
		markEmpty(s.page())
	}
}

// unlist takes a PARTIAL slab out of its class's set and gives the caller the
// carve right in state to. Under the class's lock.
func unlist(cs *classState, c sizeclass.ID, page pageNo, to uint32) slabID {
	check.MustHold(&cs.mu, "unlist")
	setRemove(c, page)
	cs.listed--
	s := slabID(page + 1)
	m := s.meta()
	m.slabState.Store(to)
	if to == slabLeased {
		m.setHoles(0) // its memory will be used
	}
	unmarkEmpty(page)
	return s
}

// retire ends the carve right of a slab that its holder has no more use for:
// FULL first, and only then a look at the words. With the or-then-look of
// flush this is Dekker's pattern: one of the two sees the other.
func retire(s slabID) {
	m := s.meta()
	c := m.slabClass.Load() // ours to read: the carve right is held
	cs := &classes[c]
	cs.mu.Lock()
	m.slabState.Store(slabFull)
	cs.mu.Unlock()
	if s.anyFree(&sizeclass.Classes[c]) {
		enlist(s)
	}
}

// acquire finds a slab of class c with free blocks and returns it LEASED, or 0
// when memory is out. It tries, in this order and each counted: the class's
// partly free slabs, lowest address first (stage 1); its EMPTY ones (0.5, which
// HAKMEM_EMPTY_FIRST puts first); pages of the superslabs there are, then
// EMPTY slabs of other classes (2); a new superslab (3). Not pinned; takes
// locks; may make system calls.
func acquire(c sizeclass.ID) slabID {
	pol := policy.Now()
	if s := acquireListed(c, pol); s != 0 {
		return s
	}
	cs := &classes[c]
	order := sizeclass.Classes[c].Order
	stage := &cs.cross
	page, ok := takePages(slabOrder(order), false)
	stolen := !ok && pol.EmptyReuse && stealEmpty(slabOrder(order), pol)
	if !ok {
		if !stolen { // else whole superslabs may have become free
			stage = &cs.fresh
		}
		page, ok = takePages(slabOrder(order), true)
	}
	if !ok {
		return 0
	}
	s := format(page, c)
	cs.mu.Lock()
	*stage++
	cs.slabs++
	cs.mu.Unlock()
	return s
}

// acquireListed is stages 1 and 0.5: slabs that already are of class c.
func acquireListed(c sizeclass.ID, pol *policy.Tuning) slabID {
	cs := &classes[c]
	cs.mu.Lock()
	defer cs.mu.Unlock()
	first, ok := setNext(c, 0)
	if !ok {
		return 0
	}
	if !pol.EmptyReuse {
		cs.partial++
		return unlist(cs, c, first, slabLeased)
	}
	// A partly free slab is better than an EMPTY one, which may be wanted whole;
	// with EmptyFirst it is the other way round. Look at a bounded number.
	page := first
	for n := 0; ok && n < pol.EmptyScanLimit; n++ {
		if isMarkedEmpty(page) == pol.EmptyFirst {
			break
		}
		page, ok = setNext(c, page+1)
	}
	if !ok || isMarkedEmpty(page) != pol.EmptyFirst {
		page = first
	}
	if isMarkedEmpty(page) {
		cs.empty++
	} else {
		cs.partial++
	}
	return unlist(cs, c, page, slabLeased)
}

// stealEmpty looks for EMPTY slabs of any class and gives their pages back to
// their superslabs until a run of 2^order pages may be had. It reports whether
// it gave back any.
func stealEmpty(order slabOrder, pol *policy.Tuning) bool {
	looked, got := 0, uint32(0)
	end := region.endChunk()
	for i := region.firstChunk() &^ 63; i < end && looked < pol.EmptyScanLimit; i += 64 {
		hints := hintWord(i)
		for w := atomic.LoadUint64(hints); w != 0 && looked < pol.EmptyScanLimit; w &= w - 1 {
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

// dropHint takes away the hint that superslab c has EMPTY slabs, if it has none.
func dropHint(c chunkNo) {
	hints := hintWord(c)
	if super(c).emptyMask.Load() == 0 {
		atomic.AndUint64(hints, ^(uint64(1) << (c % 64)))
		if super(c).emptyMask.Load() != 0 { // set meanwhile: keep the hint
			atomic.OrUint64(hints, 1<<(c%64))
		}
	}
}

// stealFrom claims the EMPTY slabs of one superslab and gives their pages back.
// It returns the set of orders given back.
func stealFrom(c chunkNo, pol *policy.Tuning) (orders uint32) {
	for m := super(c).emptyMask.Load(); m != 0; m &= m - 1 {
		s := slabID(c.page() + pageNo(bits.TrailingZeros32(m)) + 1)
		if order, ok := claimEmpty(s, pol.EmptyMinKeep); ok {
			giveBackPages(s.page(), order)
			orders |= 1 << order
		}
	}
	return orders
}

// claimEmpty takes a PARTIAL slab all of whose blocks are free out of its
// class, and reports the order of the run of pages that the caller now holds.
// Unlink under the lock, look without it: only the claimer may clear bits, so
// while it looks they only grow.
func claimEmpty(s slabID, minKeep int) (order slabOrder, ok bool) {
	m := s.meta()
	c, cs := s.lockClass()
	if c == 0 {
		unmarkNone(s)
		return 0, false
	}
	if m.slabState.Load() != slabPartial {
		unmarkEmpty(s.page()) // leased, say: it is marked again when it is listed
		cs.mu.Unlock()
		return 0, false
	}
	if cs.listed <= minKeep {
		cs.mu.Unlock()
		return 0, false
	}
	unlist(cs, c, s.page(), slabClaimed)
	cs.mu.Unlock()
	k := &sizeclass.Classes[c]
	if !s.allFree(k) {
		retire(s) // back to PARTIAL, or FULL if its last free block... was never there
		return 0, false
	}
	if s.dropLive(k, c) {
		m.setHoles(0) // some may be of what is not the slab's any more
		retire(s)
		return 0, false
	}
	unformat(s)
	return slabOrder(k.Order), true
}

var reclaimSkip, reclaimPenalty atomic.Int64

// moreToReclaim notes that a slab became EMPTY.
func moreToReclaim() {
	if reclaimPenalty.Load() != 0 {
		reclaimPenalty.Store(0)
		reclaimSkip.Store(0)
	}
}

// dropLive takes those of the slab's blocks that are marked live out of its bitmap, and
// reports whether there were any. One copy of a late double free came back to the slab,
// the other was handed out since: it is its holder's. (carve drops such blocks, too.)
// For the holder of the carve right.
func (s slabID) dropLive(k *sizeclass.Class, c sizeclass.ID) (dropped bool) {
	if !checkLive || c <= sizeclass.NumTiny && nonZero(mem.Addr(Live)+s.addr()>>granuleShift, pageSize<<k.Order>>granuleShift) == 0 {
		return false
	}
	for w := range k.Words {
		b := s.bits(w)
		for v := atomic.LoadUint64(b) & fullWord(k, w); v != 0; v &= v - 1 {
			at := uint64(bits.TrailingZeros64(v))
			p := s.addr() + mem.Addr(uintptr(uint64(w)*64+at)*uintptr(k.Size))
			if !isLive(Block(p), c) {
				continue
			}
			atomic.AndUint64(b, ^(1 << at))
			if !isLive(Block(p), c) { // freed meanwhile: its flush finds the bit, or has found it
				atomic.OrUint64(b, 1<<at)
				continue
			}
			foundLate(Block(p))
			dropped = true
		}
	}
	return dropped
}

// emptyHints is the address of a bitmap with a bit for every superslab whose
// emptyMask may be non-zero, so that a search skips the others 64 at a time.
var emptyHints mem.Addr

// hintWord returns the word of emptyHints with the bit of chunk c.
func hintWord(c chunkNo) *uint64 { return u64(emptyHints + mem.Addr(c/64)*8) }

// markEmpty notes that the slab of blocks at page is EMPTY. Any goroutine.
func markEmpty(page pageNo) {
	c := page.chunk()
	super(c).emptyMask.Or(1 << (page.inChunk()))
	atomic.OrUint64(hintWord(c), 1<<(c%64))
}

// unmarkEmpty notes that the slab at page is no longer to be had.
func unmarkEmpty(page pageNo) {
	super(page.chunk()).emptyMask.And(^(uint32(1) << (page.inChunk())))
}

func isMarkedEmpty(page pageNo) bool {
	return super(page.chunk()).emptyMask.Load()>>(page.inChunk())&1 != 0
}
