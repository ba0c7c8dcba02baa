package engine

import (
	"errors"
	"math"
	"sync/atomic"
	"time"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/policy"
)

// The scavenger returns memory that is no longer needed. It is a timer, not a goroutine: a slow
// path that leaves something to return starts it (kick). Each tick does a little and sets the timer
// again; when nothing is left the timer is not set any more. A program that has stopped allocating
// ends up with neither timer nor goroutine.
//
// A tick does the following; each step frees memory for the next one to return:
//
//  1. The fronts of idle and vanished Ps are drained, and so are fronts with large idle magazines
//     (trimFronts). Idle Heaps are harvested; those in use trim themselves in their slow paths. Idle
//     long lanes give up their leases (endLanes).
//  2. Large blocks that have long been in a shared cache go to the page tree (trimCaches).
//  3. Slabs that have been EMPTY for a tick give their pages back (sweepIdle).
//  4. Free pages are returned to the operating system by temperature (purge), and so is the memory
//     of fronts that nobody took for a tick (returnSpare).
//
// What the system has filled again is looked for before that, after a change of its mode for huge
// pages and by Trim (findFilled).
//
// Temperature is a property of dirty pages: free pages that still have memory. They are WARM until they
// have been free for their HOLD TIME, and then COLD. COLD pages are returned, highest address first,
// since the page tree hands out the lowest. keep.go says what the hold time of a page is.
var scavenger scavengerState

type scavengerState struct {
	armed atomic.Bool // the timer is set, or a tick is running
	// kicked says that there was a kick since the last round over PARTIAL slabs began. Such a round
	// may take several ticks.
	kicked atomic.Bool

	// mu admits one tick, Trim, reclaim or walk at a time. It is held while memory is returned, in
	// system calls that may take long. So it is taken by lock, which waits for a bounded time.
	mu check.Mutex[check.Scavenger]
	// owed says that a tick of generation owed-1 found mu held, and that whoever holds mu sets the
	// timer in its place; 0: no tick did. Stored under region.mu by the tick, and set back to 0 by a
	// swap.
	owed atomic.Int64
	// gone is beats+1 at the moment when the holder of mu was given up, or 0.
	gone atomic.Uint64
	// punchAsked and pressedAsked are the generations+1 of work that soon is to do. Owned by region.mu.
	punchAsked, pressedAsked int
	// moving is held, after mu, while free blocks are on their way from one place to another, where
	// ReadTotals would not find them.
	moving check.Mutex[check.Moving]
	// seenGrown is the number of bytes that were committed when kickGrown last looked, grownTo the
	// number when growth last made holes. grownTo is owned by region.mu.
	seenGrown atomic.Uintptr
	grownTo   mem.Bytes
	ticks     atomic.Uint64

	generation int   // counts changes of the clock. Owned by region.mu
	urgedAt    stamp // when kickPressed last asked for a tick; 0: never. Owned by region.mu

	pressure pressure
}

// pressure remembers the rounds that memory near the soft limit asked for. A round empties all
// fronts and caches, and stops the world for it. When memory is in use, that helps for a moment at
// most: the program takes back what was returned. So a round that did not help doubles the time until
// the next one, and one that did halves it. Owned by scavenger.mu, except for the atomic fields.
//
// What is counted moves up and down by tens of percent in a program that replaces blocks of random
// sizes (docs/ledger.md, "Rounds near the soft limit"). So each round is compared with the most and
// the least that was counted when a round began, which chance exceeds only a few times.
type pressure struct {
	began       bool   // there was a round
	at          stamp  // when the last one began
	near        stamp  // when memory was last near the limit at a tick
	most, least int64  // what was counted when rounds began
	was         int64  // what was counted when the last one began
	delay       millis // how long after it the next one may begin
	rounds      atomic.Uint64
	// returned is how many bytes less were counted after the rounds than before, of all rounds
	// together.
	returned atomic.Uint64
	// ask is the count of memory from which on kickPressed asks for a tick now. Below it the ticks
	// suffice, which come by themselves.
	ask atomic.Int64
}

const (
	// helpedShare: rounds help if, when the next one may begin, less is counted than when any of them
	// began, by an eighth of the soft limit. Free pages go back as soon as they are cold, so that what is
	// counted goes up and down with what is alive.
	helpedShare = 8
	// grownShare: what is known of earlier rounds is forgotten when more is counted than when any of
	// them began, by an eighth of the soft limit. That is all that there is between the limit and the
	// point at which rounds begin.
	grownShare = softShare
	// grownDelay is the longest time from a round after such growth to the next one, in hundredths of
	// HAKMEM_DECAY_MS: 0.44 s.
	grownDelay = 20
	// maxPressure is the longest time between two rounds, in hundredths of HAKMEM_DECAY_MS: 14 s,
	// as for fronts that are idle again and again (maxIdle).
	maxPressure = 640
)

// due reports whether a round may begin at the given time, when memory is near the limit. If so, it
// notes that it does.
func (p *pressure) due(now stamp) bool {
	c, soft, tick := counted.Load(), memoryLimit.soft.Load(), max(millis(tickTime().Milliseconds()), 1)
	p.near = now
	switch {
	case !p.began:
		p.delay, p.most, p.least = tick, c, c
	case c > p.most+soft/grownShare: // a round may help again: that is found out sooner, not at once
		p.delay, p.most, p.least = max(min(p.delay/4, decayPart(grownDelay)), tick), c, c
	case now.since(p.at) < p.delay:
		return false
	case c < p.least-soft/helpedShare:
		p.delay = max(p.delay/2, tick)
	default:
		p.delay = min(2*max(p.delay, tick), max(decayPart(maxPressure), tick))
	}
	p.began, p.at, p.was, p.most, p.least = true, now, c, max(p.most, c), min(p.least, c)
	p.ask.Store(p.most + soft/grownShare)
	p.rounds.Add(1)
	return true
}

// ended notes what the round that due allowed has returned.
func (p *pressure) ended() {
	p.returned.Add(uint64(max(p.was-counted.Load(), 0)))
}

// eased forgets the rounds if memory has not been near the limit for the time of HAKMEM_DECAY_MS.
func (p *pressure) eased(now stamp) {
	if p.began && now.since(p.near) >= decay() {
		p.began = false
		p.ask.Store(0)
	}
}

// punchGrowth: kickGrown acts on a heap that has grown by 64 MiB, the largest commit step, and by a
// 32nd.
const punchGrowth = 64 << 20

const (
	// punchLeast is how many slabs an ordinary tick looks at, which takes 1/2 ms.
	punchLeast = 4096
	// punchTicks is in how many ticks a round over all slabs of a larger heap ends: 0.9 s, in which a
	// program cannot tell a large heap from one of 2 GiB, whose round takes as many ticks with punchLeast.
	punchTicks = 8
	// punchMost bounds what a tick looks at: 8 ms, 7 % of the time until the next tick. From 32 GiB on a
	// round takes more ticks.
	punchMost = 16 * punchLeast
)

// punchScan is how many slabs an ordinary tick looks at in a heap of so many pages. A test sets fewer.
var punchScan = func(pages pageCount) int {
	return min(max(int(pages/punchTicks), punchLeast), punchMost)
}

// patience is how long a goroutine waits for mu while its holder does nothing: a hundred times as
// long as the longest of its steps, the return of 64 MiB, takes on a slow machine (20 ms). A holder
// that does nothing for so long is not waited for any more: its thread may have been killed in a
// system call. shortestNap and longestNap are the times between two looks at mu.
const (
	patience    = 2 * time.Second
	shortestNap = 20 * time.Microsecond
	longestNap  = time.Millisecond
)

// errGone is what Err reports when mu was not to be had.
var errGone = errors.New("hakmem: a system call that returns memory has not come back for 2 s: until it does, nothing is returned. Its thread may have been killed (a filter of system calls can do that)")

// lock takes mu. It gives up if the holder takes no step for the time of patience, and from then on
// at once until the holder takes one. It reports whether it has mu. Not entered.
func (s *scavengerState) lock() bool {
	seen, waited := beats.Load(), time.Duration(0)
	for nap := shortestNap; !s.mu.TryLock(); nap = min(2*nap, longestNap) {
		now := beats.Load()
		switch {
		case now != seen:
			seen, waited = now, 0
		case s.gone.Load() == now+1:
			return false
		case waited >= patience:
			s.gone.Store(now + 1)
			survive(errGone)
			return false
		}
		osmem.Nap(nap)
		waited += nap
	}
	beats.Add(1)
	return true
}

// lockForTick takes mu for the tick of a generation if it can be had at once. If not, its holder sets
// the timer when it is done. So no goroutine waits, and no timer runs, while a holder is busy for
// long or for ever.
func (s *scavengerState) lockForTick(generation int) bool {
	if !s.mu.TryLock() {
		if !s.during(generation, func() { s.owed.Store(int64(generation) + 1) }) || !s.mu.TryLock() {
			return false
		}
		// The holder let go in between, perhaps before it could see what it owes.
		if !s.owed.CompareAndSwap(int64(generation)+1, 0) {
			s.unlock() // it has set the timer
			return false
		}
	}
	beats.Add(1)
	return true
}

// unlock releases mu, and sets the timer if a tick found mu held.
func (s *scavengerState) unlock() {
	beats.Add(1)
	s.mu.Unlock()
	s.payOwed()
}

// payOwed sets the timer if a tick found mu held. It is called without mu.
func (s *scavengerState) payOwed() {
	if s.owed.Load() != 0 {
		if generation := s.owed.Swap(0); generation != 0 {
			s.during(int(generation)-1, s.setTimer)
		}
	}
}

// SetClock gives the scavenger another clock; nil stands for the process's time. Calls that the old clock
// was asked to make no longer do anything. For tests. It does nothing if the scavenger hangs.
func SetClock(c clock) {
	s := &scavenger
	if !s.lock() {
		return
	}
	defer s.unlock()
	region.mu.Lock()
	defer region.mu.Unlock()
	times.injected.Store(nil)
	if c != nil {
		times.injected.Store(&c)
	}
	times.now = milliseconds()
	times.listed.Store(uint32(times.now))
	s.generation++
	s.armed.Store(false)
	forgetSamples() // they were born by the old clock
	forgetTouches()
}

// tickTime is the time between ticks: at least 1 ms.
func tickTime() time.Duration {
	return time.Duration(max(decay()/ticksPerDecay, 1)) * time.Millisecond
}

// kick starts the scavenger if it does not run. Any goroutine, not entered; it may hold locks that
// are taken before region.mu. It costs two loads if the scavenger runs.
func kick() {
	check.MustNotBeEntered("kick")
	check.MayLock(&region.mu)
	s := &scavenger
	if s.armed.Load() {
		if s.kicked.Load() {
			return
		}
		s.kicked.Store(true)
		if s.armed.Load() { // otherwise the last tick may have looked before
			return
		}
	}
	if policy.Now().Keep != policy.KeepAlways {
		arm()
	}
}

func arm() {
	s := &scavenger
	region.mu.Lock()
	defer region.mu.Unlock()
	if !s.armed.CompareAndSwap(false, true) {
		return
	}
	times.idleStamp.Store(times.listed.Load())
	times.now = milliseconds()
	times.listed.Store(uint32(times.now))
	times.armedAt.Store(uint32(times.now))
	s.setTimer()
}

// setTimer sets the timer. Under region.mu.
func (s *scavengerState) setTimer() {
	check.MustHold(&region.mu, "setTimer")
	generation := s.generation
	after(tickTime(), alarms.tick, func() { s.tick(generation) })
}

// tick is what the timer runs.
func (s *scavengerState) tick(generation int) {
	if !s.lockForTick(generation) {
		return
	}
	defer s.unlock()
	if !s.during(generation, func() {}) {
		return
	}
	left := scavenge(false)
	if !left {
		// First say that nothing runs, then look again: whoever leaves something to return does
		// these two in the opposite order.
		if !s.during(generation, func() { s.armed.Store(false) }) || !somethingLeft() && !s.kicked.Load() || !s.armed.CompareAndSwap(false, true) {
			s.moving.Lock()
			defer s.moving.Unlock()
			easeBudget()
			return
		}
	}
	s.during(generation, s.setTimer)
}

// during calls do, which must not take locks, unless the clock was replaced since the given
// generation. It reports whether it called do.
func (s *scavengerState) during(generation int, do func()) bool {
	region.mu.Lock()
	defer region.mu.Unlock()
	if s.generation != generation {
		return false
	}
	do()
	return true
}

// kickGrown makes holes in sparse slabs now if the heap has grown much since it last looked: a
// class takes new pages while other classes may hold memory that they do not use. It is called
// after everything that may have grown the region, and costs one load if the region has not grown.
// Any goroutine, as kick.
func kickGrown() {
	check.MustNotBeEntered("kickGrown")
	check.MayLock(&region.mu)
	s := &scavenger
	end := region.committed.Load()
	if seen := s.seenGrown.Load(); seen == end || !s.seenGrown.CompareAndSwap(seen, end) || policy.Now().Keep == policy.KeepAlways {
		return
	}
	region.mu.Lock()
	defer region.mu.Unlock()
	s.grown(mem.Bytes(end) - region.first)
}

// grown is kickGrown's work when that many bytes are committed for blocks. Under region.mu.
func (s *scavengerState) grown(committed mem.Bytes) {
	check.MustHold(&region.mu, "grown")
	if committed < s.grownTo+max(punchGrowth, committed/32) {
		return
	}
	s.grownTo = committed
	now := milliseconds()
	s.soon(&s.punchAsked, alarms.growth, func() {
		refillNarrowing()
		punchSlabs(now, false, worthGrowing, math.MaxInt, false)
	})
}

// soon has alarm a call do under mu on a goroutine of its own, unless the clock has been replaced
// by then. It does nothing while a goroutine still waits to do what asked stands for. Under
// region.mu.
func (s *scavengerState) soon(asked *int, a alarm, do func()) {
	check.MustHold(&region.mu, "soon")
	generation := s.generation
	if *asked == generation+1 {
		return
	}
	*asked = generation + 1
	after(0, a, func() {
		locked := s.lock() // from here on the clock stays the same
		if locked {
			defer s.unlock()
		}
		if s.during(generation, func() { *asked = 0 }) && locked {
			do()
		}
	})
}

// kickPressed asks for the work of a tick now if memory has come near the soft limit, or has grown by
// much since the last round that this asked for; at most once in the time of a tick. Any goroutine,
// as kick.
func kickPressed() {
	check.MustNotBeEntered("kickPressed")
	check.MayLock(&region.mu)
	s := &scavenger
	if memoryLimit.soft.Load() == 0 || !pressed() || counted.Load() < s.pressure.ask.Load() && policy.Now().Keep != policy.KeepAlways {
		return
	}
	region.mu.Lock()
	defer region.mu.Unlock()
	if now := milliseconds(); s.urgedAt == 0 || time.Duration(now-s.urgedAt)*time.Millisecond >= tickTime() {
		s.urgedAt = max(now, 1)
		s.soon(&s.pressedAsked, alarms.pressure, func() {
			if !pressed() {
				return
			}
			scavenge(false)
			kick()
		})
	}
}

// scavenge does one tick's work and reports whether there is more to do later. all is Trim:
// everything that no block needs is returned now. Under scavenger.mu.
func scavenge(all bool) (left bool) {
	check.MustHold(&scavenger.mu, "scavenge")
	s := &scavenger
	s.ticks.Add(1)
	times.epoch.Add(1)
	now := s.look()
	learnHoles(now)
	learnWindow(now, &s.moving)
	collapseSome(now, &s.moving)
	refillNarrowing()
	again := all // what was refused is tried again
	worth := worthIdle
	if all {
		worth = worthAny
	}
	filled := findFilled(all)
	unsettled := settleTouches()
	trim := all
	// Near the soft limit no dirty page is kept. A round of everything else may be due.
	near := !all && pressed()
	round := near && s.pressure.due(now)
	if !near {
		s.pressure.eased(now)
	}
	all = all || round
	cached := decayPart(cacheTime)
	if all {
		cached = 0
	}
	s.moving.Lock()
	busy, some := trimFronts(now, all, trim)
	if some {
		s.kicked.Store(true) // their blocks make slabs PARTIAL, perhaps behind punchAt
	}
	leased, ended := endLanes(all)
	if ended {
		s.kicked.Store(true) // as above
	}
	inCaches := trimCaches(now, cached)
	shareBudget(now)
	empty := sweepIdle(all)
	s.moving.Unlock()
	dirty := s.purge(now, all || near, again)
	spare := returnSpare(all, &s.moving)
	most := punchScan(pageCount(region.endPage() - region.firstPage()))
	if all {
		most = math.MaxInt
	}
	// A round over the slabs may take several ticks. A slab that was listed behind the cursor since
	// the round began is left to the next round.
	if all || punchAt == (punchCursor{}) {
		s.kicked.Store(false)
	}
	sparse := punchSlabs(now, !all, worth, most, again)
	if round {
		s.pressure.ended()
	}
	return busy || leased || inCaches || empty || dirty || spare || sparse || filled || unsettled
}

// look notes the time, and lets the models of hold times and of lifetimes learn.
func (s *scavengerState) look() (now stamp) {
	region.mu.Lock()
	defer region.mu.Unlock()
	now = milliseconds()
	times.now = now
	times.listed.Store(uint32(times.now))
	learnKept(now)
	if learnLanes(now) {
		publishJudged()
	}
	return now
}

// purge returns COLD pages, and reports whether dirty pages are left that the system did not refuse to
// take. again says that those are tried again, too.
func (s *scavengerState) purge(now stamp, all, again bool) (left bool) {
	findLost() // also when no page is dirty: the lost ones may be all there are
	purgePages(now, !all, again)
	region.mu.Lock()
	defer region.mu.Unlock()
	return pageUse.dirty > pageUse.refused || anyLost.Load()
}

// somethingLeft reports whether a tick would find something to do, except for slabs that became
// PARTIAL, which kicked reports. Its no is right if nobody allocates or frees meanwhile.
func somethingLeft() bool {
	region.mu.Lock()
	left := pageUse.dirty > pageUse.refused || hugeCache.kept.p != 0
	region.mu.Unlock()
	left = left || touchesWait() || spareMemory() || anyToHarvest() || anyLeasedByLane()
	fronts := frontTable.Load()
	for i := range fronts {
		left = left || Front(atomic.LoadUintptr(&fronts[i])) != trapFront
	}
	for i := range shards {
		s := &shards[i]
		s.mu.Lock()
		left = left || s.front != trapFront
		s.mu.Unlock()
	}
	for i := range shared {
		for j := range shared[i].slot {
			left = left || shared[i].slot[j].Load() != 0
		}
	}
	for i := range siteCache {
		left = left || siteCache[i].Load() != 0
	}
	for i := region.firstChunk() &^ 63; i < region.endChunk(); i += 64 {
		left = left || atomic.LoadUint64(hintWord(i)) != 0
	}
	return left
}

// pollHeap trims a Heap's front if the scavenger has ticked since the Heap last did so, or was there.
// Called by the Heap's goroutine.
func pollHeap(own Front) {
	if own == 0 {
		return
	}
	h := own.head()
	if h.woken == wokenByNobody && h.epoch == times.epoch.Load() {
		return
	}
	own.hold()
	woken := h.woken
	h.woken = wokenByNobody
	if woken == wokenEarly {
		emptyFront(own)
	}
	trimmed := trimHeap(own)
	own.release()
	if trimmed || woken != wokenByNobody {
		kick()
	}
}
