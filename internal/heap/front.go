package heap

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/policy"
	"github.com/hakmem/hakmem/internal/sizeclass"
	"github.com/hakmem/hakmem/internal/telemetry"
)

// A front is the magazines, the leases and the counters of one P or one Heap.
// It is touched only (a) in the fast section on its P, (b) under enter on its
// P, (c) by its Heap's goroutine, (d) by the drainer after grace.
//
// It lies off-heap, 1 KiB behind a multiple of TinyMag (frontAt), so that the word of class
// c is at front | c<<3 (one instruction, and then addressing through one register):
//
//	0     [128]tops      address of the magazine's top slot, for each class
//	1024  [128]leases    slabID that the front may carve from, for each class
//	2048  [128]misses  [128]refills  [128]flushes     counters, by class
//	5120  capacities, batches, counters: frontHead
//	15360 magazines      the slots of a class: 8 KiB each up to 1 KiB blocks, then 1 KiB
//	      quarantine     freed blocks, under HAKMEM_HARDEN (harden.go)
//
// A magazine is filled upwards. Its bottom slot is a sentinel that always holds 0,
// so a pop that reads 0 found it empty; its last slot's address is a multiple of the
// magazine's size, so a push that finds such an address as the top found it full.
// The capacity is where the sentinel lies. There are no counts and no bounds.
//
// A magazine is made when the front first needs it (makeMagazine). Until then it
// is a trap, like the trap front's, and its memory is not touched. One that runs
// full and empty in turns grows downwards (growMagazine).
const (
	topsOffset    = 0
	leasesOffset  = 1024
	missesOffset  = 2048
	refillsOffset = missesOffset + countWords*8
	flushesOffset = refillsOffset + countWords*8
	headOffset    = flushesOffset + countWords*8
	// The last slot of class c is c, or c-NumTiny, magazines behind these. The first
	// is where frontHead has ended and, from the page on, a multiple of TinyMag.
	tinyOffset = 2*TinyMag - frontSkew
	midOffset  = tinyOffset + sizeclass.NumTiny*TinyMag
	// Behind the last magazine. It takes no memory while nothing is hardened.
	quarantineOffset = midOffset + (sizeclass.NumAll-sizeclass.NumTiny+1)*MidMag

	// TinyMag is the bytes of the slots of a class up to 1 KiB, MidMag those of any
	// other: 1023 and 127 blocks, and the sentinel. Powers of two so that "full" is one
	// test of an address. HAKMEM_MAG_GROW_BYTES has room for no more than 1023 blocks of
	// 512 B; above 1 KiB 127 blocks are a quarter of a MiB at least.
	TinyMag = 8192
	MidMag  = 1024
	// maxMid is the most blocks of a magazine of MidMag.
	maxMid = MidMag/8 - 1

	// frontSkew is where a front begins in its first system page. The words that
	// the fast section writes and those by which it finds the P must differ in
	// their last 12 bits, or loads wait for stores they only look like
	// (docs/ledger.md, "Words that look alike"): in Go 1.26 the field id of a p ends
	// in 0x008, the field p of an m in 0x0d8, 0x8d8 or, the first one's, 0x350.
	frontSkew = 1024

	countWords = frontTypes
	// Whole system pages, on every system: those are up to 64 KiB.
	frontSize  = (frontSkew + quarantineOffset + unsafe.Sizeof(quarantine{}) + pageSize - 1) &^ (pageSize - 1)
	frontTypes = setClasses     // entries of tops and leases
	leaseWords = frontTypes - 3 // of leases; the others are SampleOffset, OwnerOffset, GuessMissOffset
)

// frontHead is the part of a front that only slow paths use.
type frontHead struct {
	cap [frontTypes]uint16 // blocks each magazine may hold
	// How many blocks the next miss brings and the next overflow gives back.
	// They start at firstBatch and firstFlush, double each time up to the policy's
	// Refill (refill) and half the capacity (takeOldest), and start anew when the other happens: a program that
	// allocates and frees in turns comes to rest within the magazine, and one
	// that only does one of them soon moves the most at a time.
	refillBatch, flushBatch [frontTypes]uint16

	// hits counts the pops that slow paths can prove: between two looks at a
	// magazine at least as many blocks were popped as it lost. seen is the
	// number of blocks at the last look.
	hits [frontTypes]uint64
	seen [frontTypes]uint16

	// waiting is the number of blocks in the quarantine.
	waiting [frontTypes]uint32

	ownHits uint64 // stage 0: refills from the front's own lease

	// A Heap's: the scavenger's epoch when it last trimmed itself, and what each
	// magazine held then.
	epoch uint32
	mark  [frontTypes]uint16
	// idle is what each magazine of spans held when trimIdleSpans last looked.
	idle [frontTypes]uint16
}

// The head must end where the slots of class 1 begin.
const _ = tinyOffset - headOffset - unsafe.Sizeof(frontHead{})

func head(f uintptr) *frontHead { return (*frontHead)(ptr(f + headOffset)) }

func top(f uintptr, c uint8) *uintptr   { return word(f + topsOffset + uintptr(c)<<3) }
func lease(f uintptr, c uint8) *slabID  { return (*slabID)(ptr(f + leasesOffset + uintptr(c)<<3)) }
func misses(f uintptr, c uint8) *uint64 { return u64(f + missesOffset + uintptr(c)<<3) }
func refills(f uintptr, c uint8) *uint64 {
	return u64(f + refillsOffset + uintptr(c)<<3)
}
func flushes(f uintptr, c uint8) *uint64 {
	return u64(f + flushesOffset + uintptr(c)<<3)
}

// last returns the address of the last slot of class c's magazine.
func last(f uintptr, c uint8) uintptr {
	if c <= sizeclass.NumTiny {
		return f + tinyOffset + uintptr(c)*TinyMag
	}
	return f + midOffset + uintptr(c-sizeclass.NumTiny)*MidMag
}

// magSize returns the bytes of its slots.
func magSize(c uint8) uintptr {
	if c <= sizeclass.NumTiny {
		return TinyMag
	}
	return MidMag
}

// maxBlocks returns the most blocks that it can hold.
func maxBlocks(c uint8) int { return int(magSize(c)/8 - 1) }

// sentinel returns the address of its bottom slot.
func sentinel(f uintptr, c uint8) uintptr { return last(f, c) - uintptr(head(f).cap[c])*8 }

// held returns the number of blocks in class c's magazine.
func held(f uintptr, c uint8) uintptr {
	n := (atomic.LoadUintptr(top(f, c)) - sentinel(f, c)) / 8
	if n > uintptr(maxBlocks(c)) { // the trap: it is not made yet, or is just being made
		return 0
	}
	return n
}

// look counts the pops since the last look at class c's magazine, which had
// before blocks until the caller changed it, and notes how many it has now.
func look(f uintptr, c uint8, before uintptr) {
	h := head(f)
	if seen := uintptr(h.seen[c]); seen > before {
		h.hits[c] += uint64(seen - before)
	}
	h.seen[c] = uint16(held(f, c))
}

// pop takes the magazine's top block, or returns 0 when it is empty.
func pop(f uintptr, c uint8) uintptr {
	t := top(f, c)
	p := *word(*t)
	if p != 0 {
		*t -= 8
	}
	return p
}

// push puts a block on the magazine, or returns false when it is full.
func push(f uintptr, c uint8, p uintptr) bool {
	t := top(f, c)
	if *t%magSize(c) == 0 {
		return false
	}
	*t += 8
	*word(*t) = p
	return true
}

// trapFront is the front of every P that has none yet, of every P and Heap while
// calls are watched (watch.go), and of closed Heaps: all its magazines are both
// empty and full, because their tops point at a slot that holds 0 and is aligned to
// the largest magazine. It is never written after init, but for the count of calls
// in its sample word.
var (
	trapMemory [trapSlot + 2*TinyMag]byte // TinyMag more than is used, for alignment
	trapFront  uintptr
)

// trapSlot is where the trap front has that slot, behind its head.
const trapSlot = 2 * TinyMag

// firstBatch is 1/8 of a magazine of 127: turns of up to 7/8 of a magazine
// cost nothing (docs/ledger.md, "batch growth").
const firstBatch = 16

// MaxP is the number of Ps that have a front of their own; the Ps of a larger
// GOMAXPROCS share the locked fronts below.
const MaxP = 1024

// Fronts is the table of fronts by P. Entries start as the trap front; a slow
// path on the P swaps a front in, the drainer swaps the trap back.
var Fronts [MaxP]uintptr

// Guesses is where the fast section on amd64 looks for its front first: a word for
// each thread (the runtime's m), at its address modulo GuessRange, with the front
// that its P had a while ago, less the address of Guesses. Four loads that depend on each
// other lead from the goroutine by the P's number to the front, and nothing of a call can
// begin before the last; by a guess it is two. The other two, of the P and of
// the front's owner word, then only have to agree, for which nothing waits. (A
// branch that is predicted; docs/ledger.md, "Guessed fronts".)
//
// A guess may be any front, or 0: that leads to zero, whose owner word is nobody's.
// What makes it right is the owner word alone. It is the address of P p from before
// installFront puts the front into p's entry until a drain has taken it out, and 0
// at all other times; a drain clears it before its grace, so that a section
// which read it as p has ended when the front is emptied.
var Guesses struct {
	zero [OwnerOffset/8 + 1]uintptr
	At   [GuessRange / 8]uintptr
}

const (
	// OwnerOffset and GuessMissOffset are in a front's leases, behind those of blocks: the
	// owner word, and a countdown of wrong guesses until the next is corrected.
	OwnerOffset     = leasesOffset + (leaseWords+1)*8
	GuessMissOffset = leasesOffset + leaseWords*8
	GuessesAt       = unsafe.Offsetof(Guesses.At)
	// GuessRange is zeroed memory of which a page for each thread is touched. Two threads
	// whose m lie a multiple of it apart share a word, and would take it from
	// each other at every call, were it not only at every 16th.
	GuessRange  = 4 << 20
	GuessMisses = 16
)

// PAddress returns the address of the current P, pinned; nil where there are no
// guesses.
var PAddress func() uintptr

// setOwner makes the current P, pinned, the owner of a front that it puts into
// Fronts.
func setOwner(f uintptr) {
	if PAddress != nil && frontTable.Load() == &Fronts {
		atomic.StoreUintptr(word(f+OwnerOffset), PAddress())
	}
}

func clearOwner(f uintptr) { atomic.StoreUintptr(word(f+OwnerOffset), 0) }

// hardFronts is the table that slow paths use while blocks are hardened; Fronts
// then holds nothing but traps.
var hardFronts [MaxP]uintptr

// frontTable is the table that slow paths use. Set before there is a region.
var frontTable atomic.Pointer[[MaxP]uintptr]

// NumShards is the number of locked fronts: fallbacks where pinning is not
// available, or not wanted because calls are watched. Four times the cores of a
// usual machine keep collisions rare.
const NumShards = 64

// shard is a front behind a lock.
type shard struct {
	mu    sync.Mutex
	front uintptr
	_     [48]byte
}

var shards [NumShards]shard

func init() {
	trapFront = roundUp(uintptr(unsafe.Pointer(&trapMemory)), TinyMag)
	slot := trapFront + trapSlot
	for c := range uintptr(frontTypes) {
		*word(trapFront + c<<3) = slot
	}
	frontTable.Store(&Fronts)
	for i := range Fronts {
		Fronts[i], hardFronts[i] = trapFront, trapFront
	}
	for i := range shards {
		shards[i].front = trapFront
	}
}

// TrapFront returns the address that a Heap's fast paths are given after it was
// closed and while calls are watched.
func TrapFront() uintptr { return trapFront }

// frontPool owns the memory of fronts: a range of its own, committed one front
// at a time, upwards; fronts are used again, never freed. Counters stay with
// the memory, so sums over all fronts ever built never lose a count.
var frontPool struct {
	mu    sync.Mutex
	base  uintptr
	max   uintptr // fronts there is address space for
	built atomic.Uintptr
	// free has the spare ones, the last used last. The first clean of them have no
	// memory for magazines; low is the fewest that there were since returnSpare.
	free       []uintptr
	clean, low int
	// lost has those whose magazines may not be touched: see discard.
	lost []uintptr
}

// maxFronts bounds the fronts alive at once: 64 Ki Heaps and Ps, 24 GiB of
// address space.
const maxFronts = 64 << 10

// frontsWanted returns the number of fronts to reserve address space for.
func frontsWanted() uintptr {
	n := uintptr(maxFronts)
	if left := osmem.AddressSpaceLeft() / 8; n > left/frontSize { // 1/8: see reserveRegion
		n = max(left/frontSize, NumShards)
	}
	return n
}

// frontAt returns the address of front n. The base is a multiple of TinyMag, and frontSize
// is, so that the magazines' last slots are where "full" looks for them.
func frontAt(n uintptr) uintptr { return frontPool.base + n*frontSize + frontSkew }

// newFront returns an empty front, for a Heap or a P, or 0 when memory is out or too
// many are in use. Not pinned.
func newFront(private bool) uintptr {
	if !Ready() {
		return 0
	}
	f, err := takeFront(private)
	if err != nil {
		region.mu.Lock()
		_ = region.refuse(err)
		region.mu.Unlock()
	}
	return f
}

func takeFront(private bool) (f uintptr, err error) {
	fp := &frontPool
	fp.mu.Lock()
	defer fp.mu.Unlock()
	// Heaps leave one for each P and shard, whose calls all fail without; but take half
	// of all, where address space is limited.
	leave := uintptr(0)
	if private {
		leave = min(uintptr(max(runtime.GOMAXPROCS(0), NumShards)), fp.max/2)
	}
	n, spare := fp.built.Load(), len(fp.free)
	if used := n - uintptr(spare); used+leave >= fp.max {
		return 0, fmt.Errorf("hakmem: %d fronts are in use, of %d: Close Heaps", used, fp.max)
	}
	if spare > 0 {
		f = fp.free[spare-1]
		fp.free = fp.free[:spare-1]
		fp.clean, fp.low = min(fp.clean, spare-1), min(fp.low, spare-1)
		initFront(f)
		return f, nil
	}
	f = frontAt(n)
	if err := osmem.Commit(f-frontSkew, frontSize); err != nil {
		return 0, fmt.Errorf("hakmem: commit of a front of %d bytes: %w", uint64(frontSize), err)
	}
	region.metaCommitted.Add(frontSize)
	initFront(f)
	fp.built.Store(n + 1) // now that ReadTotals may look at it
	return f, nil
}

// initFront makes all magazines of an empty front traps.
func initFront(f uintptr) {
	h := head(f)
	h.epoch = scavenger.epoch.Load()
	*sampleWord(f) = sampleInterval()
	for c := range uint8(frontTypes) {
		h.cap[c], h.seen[c], h.mark[c], h.idle[c] = 0, 0, 0, 0
		atomic.StoreUintptr(top(f, c), *top(trapFront, 0))
	}
}

// firstCap is the most blocks a magazine has room for before it grows.
const firstCap = 127

// makeMagazine makes class c's magazine, with the policy's capacity. Entered.
func makeMagazine(f uintptr, c uint8) {
	pol := policy.Current()
	n := 0
	switch {
	case c <= sizeclass.NumTiny:
		n = min(pol.MagBlocks, firstCap, max(pol.MagBytes/int(classSize(c)), 2))
	case c <= sizeclass.Num:
		n = min(pol.MidBlocks, max(pol.MidBytes/int(classSize(c)), 2))
	default:
		n = min(maxMid, max(pol.WarmBytes/int(sizeclass.SpanBytes(c)), 1))
	}
	h := head(f)
	h.cap[c] = uint16(n)
	h.refillBatch[c], h.flushBatch[c] = firstBatch, firstFlush(n)
	*word(sentinel(f, c)) = 0
	atomic.StoreUintptr(top(f, c), sentinel(f, c))
}

// growMagazine doubles the room of class c's full magazine, within the policy's
// limits, if that would have saved work: it was refilled since it was last full. So
// what a program's turns of allocating and freeing need is there after a few of
// them, and a program that only frees lets no magazine grow. (tcmalloc's thread
// caches grow by the same sign, Bonwick's magazines by contention.) It
// reports whether there is room now. Entered.
//
//go:nocheckptr
func growMagazine(f uintptr, c uint8) bool {
	h, pol := head(f), policy.Current()
	most := pol.MagBlocks
	if c > sizeclass.NumTiny {
		most = pol.MidBlocks
	}
	old := int(h.cap[c])
	n := min(2*old, most, pol.GrowBytes/int(classSize(c)))
	if h.refillBatch[c] == firstBatch || n <= old {
		return false
	}
	from := unsafe.Slice(word(sentinel(f, c)), old+1)
	h.cap[c] = uint16(n)
	copy(unsafe.Slice(word(sentinel(f, c)), old+1), from) // the sentinel's 0 too
	atomic.StoreUintptr(top(f, c), sentinel(f, c)+uintptr(old)*8)
	h.refillBatch[c], h.flushBatch[c] = firstBatch, firstFlush(n)
	return true
}

// recycle puts a drained front back into the pool.
func recycle(f uintptr) {
	frontPool.mu.Lock()
	frontPool.free = append(frontPool.free, f)
	frontPool.mu.Unlock()
}

// returnSpare returns the memory of the magazines of spare fronts, some 60 KiB of
// each that was a Heap's: of those that were not wanted since the last time, or of all.
// It reports whether there is something for the next time.
func returnSpare(all bool) (left bool) {
	fp := &frontPool
	fp.mu.Lock()
	defer fp.mu.Unlock()
	if all {
		fp.low = len(fp.free)
	}
	for i := len(fp.lost) - 1; i >= 0; i-- {
		if f := fp.lost[i]; recommit(magazines(f)) {
			fp.lost = slices.Delete(fp.lost, i, i+1)
			fp.free = slices.Insert(fp.free, 0, f)
			fp.clean, fp.low = fp.clean+1, fp.low+1
		}
	}
	for fp.clean < fp.low {
		f := fp.free[fp.clean]
		if _, usable := discard(magazines(f)); usable {
			fp.clean++ // if it is not gone, it is tried again when it has been used
		} else {
			initFront(f) // nobody looks at the magazines of a trap
			fp.free = slices.Delete(fp.free, fp.clean, fp.clean+1)
			fp.low--
			fp.lost = append(fp.lost, f)
		}
		// Who waits for a front need not wait for all of them.
		fp.mu.Unlock()
		fp.mu.Lock()
	}
	fp.low = len(fp.free)
	return fp.clean < fp.low || len(fp.lost) > 0
}

// magazines returns the system pages of f that have nothing but magazines.
func magazines(f uintptr) (addr, size uintptr) {
	system := uintptr(osmem.PageSize())
	addr = roundUp(f+tinyOffset, system)
	return addr, (f+quarantineOffset)&^(system-1) - addr
}

// spareMemory reports whether returnSpare would find something.
func spareMemory() bool {
	frontPool.mu.Lock()
	defer frontPool.mu.Unlock()
	return frontPool.clean < len(frontPool.free) || len(frontPool.lost) > 0
}

// A token says how enter got hold of a front.
type token int

const (
	pinned token = -1 - iota // the P is pinned
	owned                    // a Heap's own front: nothing to give back
)

// enter gives the caller the front to use: a Heap's own, or the current P's
// with the P pinned, or (without pinning, and while calls are watched) a locked
// one. Until leave, the caller must not block,
// allocate Go memory, panic or make a system call (docs/concurrency.md, section 1).
//
// The goroutine may be on another P than at the last look, so what was found
// empty or full then must be tried again first.
func enter(own uintptr) (f uintptr, tok token) {
	if own != 0 {
		return own, owned
	}
	if canPin && !Watched() {
		pid := procPin()
		if uint(pid) < MaxP {
			return atomic.LoadUintptr(&frontTable.Load()[pid]), pinned
		}
		procUnpin()
	}
	i := lockShard()
	return shards[i].front, token(i)
}

func leave(tok token) {
	switch {
	case tok == owned:
	case tok == pinned:
		procUnpin()
	default:
		shards[tok].mu.Unlock()
	}
}

// lockShard locks some shard and returns its index: one chosen by the address
// of the goroutine's stack if it is free, else the next free one, else it
// waits for the chosen one.
func lockShard() int {
	var here byte
	// Goroutine stacks are at least 2 KiB apart; the multiplier spreads them
	// (the golden ratio in 64 bits, Knuth vol. 3, 6.4).
	h := uint64(uintptr(unsafe.Pointer(&here))>>11) * 0x9E3779B97F4A7C15
	first := int(h >> 58) // 6 bits: NumShards
	for i := range NumShards {
		n := (first + i) % NumShards
		if shards[n].mu.TryLock() {
			return n
		}
	}
	shards[first].mu.Lock()
	return first
}

// installFront replaces the trap that the caller met under tok by a front. It
// reports false when memory is out; otherwise the caller enters again, and may
// meet another trap. Not entered; the P it serves is the one it ends on.
func installFront(tok token) bool {
	f := newFront(false)
	if f == 0 {
		return false
	}
	ok := false
	if tok == pinned {
		// The look at watched must be pinned: see Watch.
		pid := procPin()
		setOwner(f) // first: what a drain has swapped out has no owner
		ok = uint(pid) < MaxP && !Watched() && atomic.CompareAndSwapUintptr(&frontTable.Load()[pid], trapFront, f)
		if !ok {
			clearOwner(f)
		}
		procUnpin()
	} else {
		s := &shards[tok]
		s.mu.Lock()
		if ok = s.front == trapFront; ok {
			s.front = f
		}
		s.mu.Unlock()
	}
	if !ok {
		recycle(f)
	}
	return true
}

// drains counts the fronts emptied by drainAll.
var drains atomic.Uint64

// drainMu admits one drainer at a time; graceStats is where ReadMemStats writes.
var (
	drainMu    sync.Mutex
	graceStats runtime.MemStats
	drained    []uintptr
)

// drainAll empties every P's front, those of idle and vanished Ps too. Any
// goroutine, not pinned. It returns a late double free that it met, or 0.
func drainAll() (late uintptr) {
	_, late = drainFronts(func(int, uintptr) bool { return true })
	return late
}

// drainFronts empties the fronts that choose takes, of Ps (numbered from 0) and
// shards (from MaxP): swap the trap in, wait until every section that could have
// read the old entry has ended, then flush. Heaps' fronts belong to their
// goroutines and are left. Any goroutine, not pinned. It reports whether there
// are fronts that were not chosen.
func drainFronts(choose func(i int, f uintptr) bool) (left bool, late uintptr) {
	if !region.ready.Load() {
		return false, 0
	}
	drainMu.Lock()
	defer drainMu.Unlock()
	began := telemetry.Begin()
	defer telemetry.End(telemetry.Drain, began)
	drained = drained[:0]
	fronts := frontTable.Load()
	for i := range fronts {
		if f := atomic.LoadUintptr(&fronts[i]); f == trapFront {
			continue
		} else if !choose(i, f) {
			left = true
		} else {
			f = atomic.SwapUintptr(&fronts[i], trapFront)
			clearOwner(f)
			drained = append(drained, f)
		}
	}
	if len(drained) > 0 {
		grace()
	}
	for i := range shards {
		s := &shards[i]
		s.mu.Lock()
		switch {
		case s.front == trapFront:
		case !choose(MaxP+i, s.front):
			left = true
		default:
			drained = append(drained, s.front)
			s.front = trapFront
		}
		s.mu.Unlock()
	}
	for _, f := range drained {
		late = max(late, emptyFront(f))
		recycle(f)
		drains.Add(1)
	}
	return left, late
}

// grace waits for every fast section and every pinned section that was running
// when it was called, and makes what they wrote visible. It holds because
// ReadMemStats stops the world: neither kind of section has a safe point, so
// the world cannot stop inside one. That is not a promise of Go; a test checks
// it for each Go version.
func grace() { runtime.ReadMemStats(&graceStats) }

// emptyFront flushes every magazine, retires every lease and empties the
// quarantine of a front that nobody else can reach.
func emptyFront(f uintptr) (late uintptr) {
	emptyQuarantine(f)
	for c := uint8(1); c <= sizeclass.NumAll; c++ {
		late = max(late, emptyMagazine(f, c))
		if s := *lease(f, c); s != 0 {
			*lease(f, c) = 0
			retire(s)
		}
	}
	return late
}

// emptyMagazine gives back all blocks of a magazine of such a front. They are no
// hits: what was popped before is counted first, and what is seen then forgotten.
func emptyMagazine(f uintptr, c uint8) (late uintptr) {
	look(f, c, held(f, c))
	head(f).seen[c] = 0
	if held(f, c) == 0 {
		return 0
	}
	*flushes(f, c)++
	var buf [maxFlush]uintptr
	for n := len(buf); n == len(buf); {
		n = 0
		for n < len(buf) {
			p := pop(f, c)
			if p == 0 {
				break
			}
			buf[n] = p
			n++
		}
		if c > sizeclass.Num {
			late = max(late, releaseSpans(buf[:n]))
		} else {
			late = max(late, timedFlush(buf[:n], c))
		}
	}
	return late
}
