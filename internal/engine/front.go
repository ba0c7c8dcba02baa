package engine

import (
	"math/bits"
	"sync/atomic"
	"unsafe"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/policy"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// A front is the magazines, the leases and the counters of one P or one Heap. It has one user at a
// time, and is touched only
//
//   - in the fast section on its P,
//   - under enter on its P,
//   - by its Heap's goroutine,
//   - by the drainer after the grace; a Heap's by rules of its own (heaps.go).
//
// A front lies off-heap, 1 KiB behind a multiple of TinyMag (frontAt). So the word of class c is at
// front | c<<3: one instruction, and then addressing through one register.
//
//	0     [128]tops      address of the magazine's top slot, for each class
//	1024  [128]leases    slabID that the front may carve from, for each class
//	2048  [128]misses  [128]refills  [128]flushes     counters, by class
//	5120  capacities, batches, counters: frontHead
//	15360 magazines      the slots of a class: 8 KiB each up to 1 KiB blocks, then 1 KiB
//	      quarantine     freed blocks, under HAKMEM_HARDEN (hardened.go)
//
// A magazine is filled upwards. Its bottom slot is a sentinel that always holds 0: a pop that reads
// 0 has found the magazine empty. The address of its last slot is a multiple of the magazine's
// size: a push that finds such an address as the top has found the magazine full. The place of the
// sentinel is the capacity. There are no counts and no bounds.
//
// A magazine is made when the front first needs it (makeMagazine). Until then it is a trap, like
// the trap front's, and its memory is not touched. A magazine that runs full and empty in turns
// grows downwards (growMagazine).
//
// Who knows this layout, apart from this file, which decides it:
//
//   - The fast paths find a class's word and detect empty and full by themselves: road_amd64.h,
//     road_arm64.go, and the Heap's in the public package's heap.go.
//   - Slots between sentinel and top: magazine.go fills them and moves blocks down. harden.go
//     detects a full magazine, and hardened.go puts blocks into random order.
//   - Where fronts and their parts lie: frontpool.go, hardened.go.
//   - heaps.go cuts the magazines of idle Heaps, and gives them their room again.
//   - idle.go compares tops with earlier ones. invariants_fronts.go checks all that is said here.
//
// All other files call the methods below. TestWhoKnowsTheLayout holds this list.
const (
	topsOffset    = 0
	leasesOffset  = 1024
	missesOffset  = 2048
	refillsOffset = missesOffset + countWords*8
	flushesOffset = refillsOffset + countWords*8
	headOffset    = flushesOffset + countWords*8
	// The last slot of class c lies c magazines behind tinyOffset, or c-NumTiny magazines behind
	// midOffset. tinyOffset is behind frontHead. Counted from the beginning of the page it is a
	// multiple of TinyMag.
	tinyOffset = 2*TinyMag - frontSkew
	midOffset  = tinyOffset + sizeclass.NumTiny*TinyMag
	// quarantineOffset is behind the last magazine. The quarantine takes no memory while nothing is
	// hardened.
	quarantineOffset = midOffset + (sizeclass.NumAll-sizeclass.NumTiny+1)*MidMag

	// TinyMag is the bytes of the slots of a class up to 1 KiB, and MidMag those of any other
	// class: 1023 and 127 blocks (asserted below), and the sentinel. They are powers of two so that
	// "full" is one test of an address. The default of HAKMEM_MAG_GROW_BYTES has room for 1024
	// blocks of 512 B. Above 1 KiB, 127 blocks are at least an eighth of a MiB.
	TinyMag = 8192
	MidMag  = 1024
	// maxMid is the most blocks that a magazine of MidMag holds.
	maxMid = MidMag/8 - 1

	// frontSkew is where a front begins in its first OS page. The words that the fast section
	// writes and the words by which it finds the P must differ in their last 12 bits. Otherwise
	// loads wait for stores that only look like stores to the same word (docs/ledger.md, "Words
	// that look alike"). In Go 1.26 the field id of a p ends in 0x008. The field p of an m ends in
	// 0x0d8 or 0x8d8, or in 0x350 for the first m.
	frontSkew = 1024

	countWords = frontTypes
	// quarantineRoom is the bytes of a quarantine: a ring of 512 blocks of 16 bytes, and 24 bytes.
	// hardened.go asserts it.
	quarantineRoom = 512*16 + 24
	// frontSize is whole OS pages on every system; those are up to 64 KiB.
	frontSize  = (frontSkew + quarantineOffset + quarantineRoom + pageSize - 1) &^ (pageSize - 1)
	frontTypes = setClasses // entries of tops and of leases
	// The entries of leases that are leases. The other four are at profileOffset, guessMissOffset,
	// ownerOffset and sampleOffset.
	leaseWords = frontTypes - 4
)

// frontHead is the part of a front that only slow paths use.
type frontHead struct {
	cap [frontTypes]uint16 // blocks that each magazine may hold
	// refillBatch and flushBatch are how many blocks the next miss brings and the next overflow
	// gives back. They start at firstBatch and firstFlush and double each time. A refill doubles up
	// to the policy's Refill (refill), and a flush up to half the capacity (takeOldest). Each
	// starts anew when the other happens. So a program that allocates and frees in turns comes to
	// rest within the magazine, and a program that does only one of them soon moves the most at a
	// time.
	refillBatch, flushBatch [frontTypes]uint16

	// hits counts the pops that slow paths can prove: between two looks at a magazine, at least as
	// many blocks were popped as the magazine has lost. seen is the number of blocks at the last
	// look.
	hits [frontTypes]uint64
	seen [frontTypes]uint16

	// waiting is the number of blocks in the quarantine, by class.
	waiting [frontTypes]uint32

	ownHits uint64 // refills from the front's own lease

	// busy, duty and woken are used in a Heap's front: see heaps.go. busy is the owner's, 1 while a
	// slow path uses the front. duty is the owner's and the harvester's. woken is the owner's.
	busy  uint32
	duty  atomic.Uint32
	woken uint8
	// uncut is the capacity that a magazine had before cut, and will have again; 0 if it was not cut.
	uncut [frontTypes]uint16

	// epoch and mark are used in a Heap's front: the scavenger's epoch when the front last trimmed
	// itself, and what each magazine held then.
	epoch uint32
	mark  [frontTypes]uint16
	// idle is what each magazine held when trimIdleLarge, for large blocks, or ebb last looked. fresh is how many
	// bytes of pages that were never used its slabs have taken since ebb last looked.
	idle  [frontTypes]uint16
	fresh mem.Bytes

	adaptive // what ACE knows (ace.go)
	batches  // what refills took (batch.go)

	// touched has the OS pages of the front that count: those of its head, and those where a magazine
	// or the quarantine was made. committed has those that were committed, if fronts are committed in
	// parts. Both are owned as the front is, and by the pool while the front is spare.
	touched, committed frontPages
}

// frontPages is a set of a front's OS pages, and frontPage the number of one, from the front's first
// page on.
type (
	frontPages [2]uint64
	frontPage  uint32
)

const _ = uint(128 - frontSize/residentUnit) // a bit for each page

func (p *frontPages) has(i frontPage) bool { return p[i/64]>>(i%64)&1 != 0 }
func (p *frontPages) add(i frontPage)      { p[i/64] |= 1 << (i % 64) }
func (p *frontPages) remove(i frontPage)   { p[i/64] &^= 1 << (i % 64) }

// bytes returns the bytes of the pages.
func (p *frontPages) bytes() mem.Bytes {
	return mem.Bytes(bits.OnesCount64(p[0])+bits.OnesCount64(p[1])) * osmem.PageSize()
}

// pagesAt returns the first and the last OS page of n bytes of the front from at on.
func (f Front) pagesAt(at mem.Addr, n mem.Bytes) (first, last frontPage) {
	base, system := mem.Addr(f-frontSkew), osmem.PageSize()
	return frontPage(at.From(base) / system), frontPage(at.Add(n-1).From(base) / system)
}

// frontHeadBytes is what a front has in memory before it has a magazine.
func frontHeadBytes() mem.Bytes { return mem.Bytes(frontSkew + tinyOffset).Up(osmem.PageSize()) }

// touchHead notes that the front's head counts.
func (f Front) touchHead() {
	for i := range frontPage(frontHeadBytes() / osmem.PageSize()) {
		f.head().touched.add(i)
	}
}

// touch counts the OS pages of n bytes of the front from at on, those that do not count yet. touch and
// untouch are for the front's owner.
func (f Front) touch(at mem.Addr, n mem.Bytes) {
	first, last := f.pagesAt(at, n)
	for i := first; i <= last; i++ {
		if t := &f.head().touched; !t.has(i) {
			t.add(i)
			count(osmem.PageSize())
		}
	}
}

// untouch takes out of the count what touch counted in n bytes from at on, whole OS pages whose
// memory was returned.
func (f Front) untouch(at mem.Addr, n mem.Bytes) {
	first, last := f.pagesAt(at, n)
	for i := first; i <= last; i++ {
		if t := &f.head().touched; t.has(i) {
			t.remove(i)
			uncount(osmem.PageSize())
		}
	}
}

// frontsInParts says that of a front only the head is committed at first, and the pages of magazines
// when they are made: the system charges for what is committed. Written once, under region.mu, before
// there is a front.
var frontsInParts bool

// joinParts is how many OS pages may lie between two parts of a front that are committed with it. Each
// part is a mapping of the process, which may have 65,530: with gaps of this size at least, a front has
// ten parts at most.
const joinParts = 8

// commitPages commits n bytes of the front from at on, where that was not done yet, and reports
// whether it could. For the front's owner, also entered.
func (f Front) commitPages(at mem.Addr, n mem.Bytes) bool {
	if !frontsInParts {
		return true
	}
	first, last := f.pagesAt(at, n)
	c := &f.head().committed
	there := true
	for i := first; i <= last; i++ {
		there = there && c.has(i)
	}
	if there {
		return true
	}
	pages := frontPage(frontSize / osmem.PageSize())
	from, to := first, last
	for d := frontPage(1); d <= joinParts+1; d++ {
		if from == first && first >= d && c.has(first-d) {
			from = first - d + 1
		}
		if to == last && last+d < pages && c.has(last+d) {
			to = last + d - 1
		}
	}
	if !f.commitRun(from, to) && !f.commitRun(0, pages-1) { // the whole needs no mapping more
		return false
	}
	return true
}

// commitRun commits the OS pages from first to last of the front.
func (f Front) commitRun(first, last frontPage) bool {
	system := osmem.PageSize()
	if osmem.CommitPinned(mem.Addr(f-frontSkew).Add(mem.Bytes(first)*system), mem.Bytes(last-first+1)*system) != nil {
		return false
	}
	for i := first; i <= last; i++ {
		f.head().committed.add(i)
	}
	return true
}

// The values of frontHead.duty.
const (
	calm uint32 = iota
	asked
	taken
	harvested
)

// The values of frontHead.woken: what the owner has to do when it has been through settle. pollHeap
// does it.
const (
	wokenByNobody uint8 = iota
	wokenLate           // it was harvested: start the scavenger, which may have come to rest
	wokenEarly          // it was asked and was busy: give everything back, as the harvester would have
)

// The head must end where the slots of class 1 begin.
const _ = tinyOffset - headOffset - unsafe.Sizeof(frontHead{})

// head returns the front's frontHead. The methods after it return the word of class c in one of the
// front's arrays.
func (f Front) head() *frontHead { return (*frontHead)(ptr(mem.Addr(f + headOffset))) }

// wordOf returns the address of class c's word in the array of words at offset.
func (f Front) wordOf(c sizeclass.ID, offset mem.Addr) mem.Addr {
	return mem.Addr(f) + offset + mem.Addr(c)<<3
}

// slots is the bytes of n slots of a magazine, as a distance between addresses.
func slots(n int) mem.Addr { return mem.Addr(n) * 8 }

func (f Front) top(c sizeclass.ID) *mem.Addr {
	return (*mem.Addr)(ptr(f.wordOf(c, topsOffset)))
}
func (f Front) lease(c sizeclass.ID) *slabID {
	return (*slabID)(ptr(f.wordOf(c, leasesOffset)))
}

// setLease gives the front the lease of slab s of class c, and takeLease ends the one that it has and returns it.
func (f Front) setLease(c sizeclass.ID, s slabID) {
	*f.lease(c) = s
	f.head().leases += slabBytes(c)
}
func (f Front) takeLease(c sizeclass.ID) (s slabID) {
	if s = *f.lease(c); s != 0 {
		*f.lease(c) = 0
		f.head().leases -= slabBytes(c)
	}
	return s
}
func (f Front) misses(c sizeclass.ID) *uint64 {
	return u64(f.wordOf(c, missesOffset))
}
func (f Front) refills(c sizeclass.ID) *uint64 {
	return u64(f.wordOf(c, refillsOffset))
}
func (f Front) flushes(c sizeclass.ID) *uint64 {
	return u64(f.wordOf(c, flushesOffset))
}

// loadTop and storeTop are for callers that do not own the front at the moment, and for stores that
// others may see.
func (f Front) loadTop(c sizeclass.ID) mem.Addr {
	return mem.Addr(atomic.LoadUintptr((*uintptr)(f.top(c))))
}
func (f Front) storeTop(c sizeclass.ID, slot mem.Addr) {
	atomic.StoreUintptr((*uintptr)(f.top(c)), uintptr(slot))
}

// last returns the address of the last slot of class c's magazine.
func (f Front) last(c sizeclass.ID) mem.Addr {
	if c <= sizeclass.NumTiny {
		return mem.Addr(f) + tinyOffset + mem.Addr(c)*TinyMag
	}
	return mem.Addr(f) + midOffset + mem.Addr(c-sizeclass.NumTiny)*MidMag
}

// magSize returns the bytes of the slots of class c's magazine.
func magSize(c sizeclass.ID) mem.Bytes {
	if c <= sizeclass.NumTiny {
		return TinyMag
	}
	return MidMag
}

// maxBlocks returns the most blocks that class c's magazine can hold.
func maxBlocks(c sizeclass.ID) int { return int(magSize(c)/8 - 1) }

// sentinel returns the address of the bottom slot of class c's magazine.
func (f Front) sentinel(c sizeclass.ID) mem.Addr {
	return f.last(c) - slots(int(f.head().cap[c]))
}

// held returns the number of blocks in class c's magazine.
func (f Front) held(c sizeclass.ID) uintptr {
	n := (f.loadTop(c) - f.sentinel(c)) / 8
	if n > mem.Addr(maxBlocks(c)) { // the trap: the magazine is not made yet, or is being made now
		return 0
	}
	return uintptr(n)
}

// look counts the pops since the last look at class c's magazine, and notes how many blocks it has
// now. before is the number of blocks that it had until the caller changed it.
func (f Front) look(c sizeclass.ID, before uintptr) {
	h := f.head()
	if seen := uintptr(h.seen[c]); seen > before {
		h.hits[c] += uint64(seen - before)
	}
	h.seen[c] = uint16(f.held(c))
}

// pop takes the magazine's top block, or returns 0 when the magazine is empty.
func (f Front) pop(c sizeclass.ID) Block {
	t := f.top(c)
	p := *word(*t)
	if p != 0 {
		*t -= 8
	}
	return Block(p)
}

// popInto pops blocks of class c's magazine into buf, as many as there is room for, and returns how many.
func (f Front) popInto(c sizeclass.ID, buf []Block) (n int) {
	for n < len(buf) {
		p := f.pop(c)
		if p == 0 {
			break
		}
		buf[n] = p
		n++
	}
	return n
}

// push puts a block on the magazine, or returns false when the magazine is full.
func (f Front) push(c sizeclass.ID, p Block) bool {
	t := f.top(c)
	if mem.Bytes(*t)%magSize(c) == 0 {
		return false
	}
	*t += 8
	*word(*t) = uintptr(p)
	return true
}

// trapFront is the front of every P that has none yet, of every P and Heap while calls are watched
// (watch.go), and of closed Heaps. All its magazines are both empty and full: their tops point at a
// slot that holds 0 and whose address is aligned to the largest magazine. After init it is never
// written, except for the count of calls in its sample word.
var (
	trapMemory [trapSlot + 2*TinyMag]byte // TinyMag more than is used, for alignment
	trapFront  Front
)

// trapSlot is where that slot lies in the trap front, behind its head.
const trapSlot = 2 * TinyMag

// firstBatch is 1/8 of a magazine of 127 blocks: turns of up to 7/8 of a magazine cost nothing
// (docs/ledger.md, "Batch growth").
const firstBatch = 16

// MaxP is the number of Ps that have a front of their own. With a larger GOMAXPROCS the other Ps
// share the locked fronts below.
const MaxP = 1024

// pFronts is the table of fronts by P. Its entries start as the trap front. A slow path on the P
// swaps a front in, and the drainer swaps the trap back.
var pFronts [MaxP]uintptr

// guesses is where the fast section on amd64 looks for its front first. It has a word for each
// thread (the runtime's m), at the m's address modulo guessRange. The word is the front that the
// thread's P had a while ago, less the address of guesses.
//
// Four loads that depend on each other lead from the goroutine by the P's number to the front, and
// nothing of a call can begin before the last one. By a guess it is two. The other two loads, of
// the P and of the front's owner word, then only have to agree, and nothing waits for them, because
// a branch that is predicted compares them (docs/ledger.md, "Guessed fronts").
//
// A guess may be any front, or 0. A guess of 0 leads to zero, whose owner word is nobody's. Only
// the owner word makes a guess right. It is the address of P p from before installFront puts the
// front into p's entry until a drain has taken the front out, and 0 at all other times. A drain
// clears it before its grace, so a section that read it as p has ended when the front is emptied.
var guesses struct {
	zero [ownerOffset/8 + 1]uintptr
	at   [guessRange / 8]uintptr
}

const (
	// ownerOffset and guessMissOffset are in a front's leases, behind the leases for blocks. They
	// hold the owner word, and a countdown of the wrong guesses until the next one is corrected.
	ownerOffset     = leasesOffset + (leaseWords+2)*8
	guessMissOffset = leasesOffset + (leaseWords+1)*8
	guessesAt       = unsafe.Offsetof(guesses.at)
	// guessRange is the size of the table: zeroed memory, of which one OS page is touched for each
	// thread. Two threads share a word if the addresses of their m's are a multiple of guessRange
	// apart. They would take the word from each other at every call, but only one wrong guess in 16
	// is corrected (guessMisses).
	guessRange  = 4 << 20
	guessMisses = 16
)

// pAddress returns the address of the current P, pinned. It is nil where there are no guesses.
// ChooseRoad sets it, before any allocation.
var pAddress func() uintptr

// setOwner makes the current P, pinned, the owner of a front that the caller puts into pFronts.
func (f Front) setOwner() {
	if pAddress != nil && frontTable.Load() == &pFronts {
		atomic.StoreUintptr(word(mem.Addr(f+ownerOffset)), pAddress())
	}
}

// clearOwner makes the front nobody's.
func (f Front) clearOwner() { atomic.StoreUintptr(word(mem.Addr(f+ownerOffset)), 0) }

// hardFronts is the table that slow paths use while blocks are hardened. pFronts then holds only
// traps.
var hardFronts [MaxP]uintptr

// frontTable is the table that slow paths use. It is set before there is a region.
var frontTable atomic.Pointer[[MaxP]uintptr]

// NumShards is the number of locked fronts. They are used where pinning is not available, or not
// wanted because calls are watched. Four times the cores of a usual machine keep collisions rare.
const NumShards = 64

// shard is a front behind a lock.
type shard struct {
	mu    check.Mutex[check.Shard]
	front Front
	_     [48]byte
}

// shards has the locked fronts.
var shards [NumShards]shard

func init() {
	trapFront = Front(mem.Bytes(unsafe.Pointer(&trapMemory)).Up(TinyMag))
	slot := trapFront + trapSlot
	for c := range sizeclass.ID(frontTypes) {
		*trapFront.top(c) = mem.Addr(slot)
	}
	frontTable.Store(&pFronts)
	for i := range pFronts {
		pFronts[i], hardFronts[i] = uintptr(trapFront), uintptr(trapFront)
	}
	for i := range shards {
		shards[i].front = trapFront
	}
}

// TrapFront returns the address that a Heap's fast paths use after the Heap was closed, and while
// calls are watched.
func TrapFront() Front { return trapFront }

// The policy must not ask for more blocks than a magazine has slots.
const (
	_ = uint(maxGhosts - TinyMag/8)
	_ = uint(TinyMag/8 - 1 - policy.MaxMagBlocks)
	_ = uint(maxMid - policy.MaxMagMidBlocks)
)

// firstCap is the most blocks that a magazine has room for before it grows.
const firstCap = 127

// makeMagazine makes class c's magazine, with the policy's capacity or what the front's share of the budget leaves to
// it. It reports whether it could, which it always can unless fronts are committed in parts, or the class is of
// large blocks and the share has no room for one: then the magazine is closed. Entered.
func (f Front) makeMagazine(c sizeclass.ID) bool {
	check.MustBeEntered("makeMagazine")
	h := f.head()
	n := h.bound(c, firstRoom(c))
	if n = max(h.grant(c, n), min(n, leastRoom(c))); n == 0 {
		h.closed[c] = true
		return false
	}
	h.cap[c] = uint16(n) // which the sentinel's place depends on
	if !f.commitPages(f.sentinel(c), mem.Bytes(slots(n+1))) {
		h.cap[c] = 0
		return false
	}
	h.room += mem.Bytes(n) * c.Bytes()
	h.refillBatch[c], h.flushBatch[c] = firstBatch, firstFlush(n)
	f.touch(f.sentinel(c), mem.Bytes(slots(n+1)))
	*word(f.sentinel(c)) = 0
	f.storeTop(c, f.sentinel(c))
	return true
}

// firstRoom returns the blocks that a new magazine of class c has room for, if the front's share has so much.
func firstRoom(c sizeclass.ID) int {
	pol, size := policy.Now(), int(c.Bytes())
	first := max(int(roomShare()/firstShare)/size, leastRoom(c))
	switch {
	case c <= sizeclass.NumTiny:
		return min(pol.MagBlocks, firstCap, max(min(pol.MagBytes/size, first), 2))
	case c <= sizeclass.Num:
		return min(pol.MagMidBlocks, max(min(pol.MagMidBytes/size, first), 2))
	}
	bytes := pol.MagLargeBytes
	if learning {
		bytes = min(bytes, firstLarge)
	}
	return min(maxMid, max(min(bytes/size, first), 1))
}

// growMagazine doubles the room of class c's full magazine, within the policy's limits, if more
// room would have saved work: that is, if the magazine was refilled since it was last full. So a
// magazine has the room for a program's turns of allocating and freeing after a few of them, and a
// program that only frees lets no magazine grow. (tcmalloc's thread caches grow by the same sign,
// Bonwick's magazines by contention.) It reports whether there is room now. Entered.
//
//go:nocheckptr
func (f Front) growMagazine(c sizeclass.ID) bool {
	check.MustBeEntered("growMagazine")
	h, pol := f.head(), policy.Now()
	most := pol.MagBlocks
	if c > sizeclass.NumTiny {
		most = pol.MagMidBlocks
	}
	old := int(h.cap[c])
	n := f.head().bound(c, min(2*old, most, pol.MagGrowBytes/int(c.Bytes())))
	if h.refillBatch[c] == firstBatch || n <= old || h.scarce() { // where memory is scarce, ACE decides alone
		return false
	}
	n = h.grant(c, n-old)
	return n > 0 && f.setRoom(c, old+n)
}

// setRoom gives class c's magazine room for n blocks, more than it has, and reports whether it could.
// Entered.
//
//go:nocheckptr
func (f Front) setRoom(c sizeclass.ID, n int) bool {
	check.MustBeEntered("setRoom")
	h, old, held := f.head(), f.head().cap[c], f.held(c)
	from := unsafe.Slice(word(f.sentinel(c)), held+1)
	h.cap[c] = uint16(n)
	if !f.commitPages(f.sentinel(c), mem.Bytes(slots(n+1))) {
		h.cap[c] = old
		return false
	}
	h.room += mem.Bytes(n-int(old)) * c.Bytes()
	f.touch(f.sentinel(c), mem.Bytes(slots(n+1)))
	copy(unsafe.Slice(word(f.sentinel(c)), held+1), from) // the sentinel's 0 too
	f.storeTop(c, f.sentinel(c)+slots(int(held)))
	h.refillBatch[c], h.flushBatch[c] = firstBatch, firstFlush(n)
	return true
}

// shrink leaves class c's magazine room for n blocks, less than it has, or as many more as buf has no room
// for. The oldest blocks that have no room go to buf; it returns how many. Without room the magazine is a
// trap, as it was before it was made. Entered.
//
//go:nocheckptr
func (f Front) shrink(c sizeclass.ID, n int, buf []Block) (out int) {
	check.MustBeEntered("shrink")
	h, held := f.head(), int(f.held(c))
	n = max(n, held-len(buf))
	out = max(held-n, 0)
	f.look(c, uintptr(held))
	slot := f.sentinel(c) + 8
	copy(buf[:out], unsafe.Slice((*Block)(ptr(slot)), out))
	rest := unsafe.Slice(word(slot+slots(out)), held-out)
	h.room -= mem.Bytes(int(h.cap[c])-n) * c.Bytes()
	h.cap[c] = uint16(n)
	if n == 0 {
		f.storeTop(c, *trapFront.top(0))
	} else {
		copy(unsafe.Slice(word(f.sentinel(c)+8), held-out), rest)
		*word(f.sentinel(c)) = 0
		f.storeTop(c, f.sentinel(c)+slots(held-out))
		h.refillBatch[c], h.flushBatch[c] = firstBatch, firstFlush(n)
	}
	h.seen[c] = uint16(f.held(c))
	if out > 0 {
		*f.flushes(c)++
	}
	return out
}

// sampleWord returns the word of a front that the fast section counts down. It is the last entry of
// leases, which no class uses.
func (f Front) sampleWord() *int64 { return (*int64)(ptr(mem.Addr(f + sampleOffset))) }

// sampleOffset is where the sample word lies in a front.
const sampleOffset = leasesOffset + (frontTypes-1)*8

// profileWord returns the word of a front that says how many bytes remain until the next sample of the
// profile (profile.go).
func (f Front) profileWord() *int64 { return (*int64)(ptr(mem.Addr(f + profileOffset))) }

// profileOffset is where the profile word lies in a front: in the first entry of leases that no class uses.
const profileOffset = leasesOffset + leaseWords*8

// firstFlush is what firstBatch is for refills, for the flushes of a magazine of n blocks.
func firstFlush(n int) uint16 { return uint16(max(firstBatch, n/8)) }

// maxFlush is the most blocks that a full magazine gives back at a time: a quarter of the largest
// magazine. The blocks that stay are moved down, a copy of 8 B for each.
const maxFlush = 256

// takeOldest moves the oldest blocks of class c's full magazine to buf, at most half of them.
// Entered.
//
//go:nocheckptr
func (f Front) takeOldest(c sizeclass.ID, buf []Block) int {
	check.MustBeEntered("takeOldest")
	h := f.head()
	mag := unsafe.Slice((*Block)(ptr(f.sentinel(c)+8)), int(h.cap[c]))
	half := min((len(mag)+1)/2, len(buf))
	n := min(int(h.flushBatch[c]), half)
	h.flushBatch[c] = uint16(min(2*n, half))
	h.refillBatch[c] = firstBatch
	copy(buf[:n], mag)
	copy(mag, mag[n:])
	*f.top(c) -= slots(n)
	*f.flushes(c)++
	f.head().movedOut(c, n)
	return n
}
