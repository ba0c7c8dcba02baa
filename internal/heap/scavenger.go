package heap

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hakmem/hakmem/internal/policy"
)

// The scavenger returns memory that is no longer needed. It is a timer, not a
// goroutine: slow paths that leave something to return start it (kick), each
// tick does a little and sets the timer again, and when nothing is left it is
// not set any more. A program that has stopped allocating ends with neither.
//
// What a tick does, each step turning memory into the next step's:
//
//  1. fronts of idle and vanished Ps are drained (trimFronts), and so are those
//     with large idle magazines; Heaps trim themselves in their slow paths;
//  2. spans that have been in a shared cache for long go to the page tree
//     (trimCaches);
//  3. slabs that have been EMPTY for a tick give their pages back (sweepIdle);
//  4. free pages are returned to the operating system by temperature (purge), and
//     the memory of fronts that nobody took for a tick (returnSpare).
//
// Temperature: as many free pages as would bring the pages in use to the most
// they were within the window are HOT: kept. The others are WARM for as long as
// the window after a page of their 2 MiB was freed, then COLD: returned, highest
// address first, since the page tree hands out the lowest.
//
// The window adapts by what came of earlier decisions (judge): pages that were
// returned and soon taken again make it longer, memory that was kept for a whole
// window and not missed afterwards makes it shorter.
var scavenger = scavengerState{clock: realClock{}}

type scavengerState struct {
	armed atomic.Bool // the timer is set, or a tick is running
	// kicked says that there was a kick since the last round over PARTIAL slabs
	// began, which may take several ticks.
	kicked atomic.Bool
	epoch  atomic.Uint32

	mu sync.Mutex // one tick, Trim or SetClock at a time
	// moving is held, after mu, while free blocks are on their way from one place
	// to another, where ReadTotals would not find them.
	moving sync.Mutex
	clock  clock
	// now is the clock at the last tick or kick, in milliseconds. Owned by
	// region.mu.
	now uint32
	// grownTo is what was committed when growth last made holes. Owned by
	// region.mu.
	grownTo uintptr
	// listed is now for who makes a slab PARTIAL, without region.mu.
	listed atomic.Uint32
	// idleStamp is what listed was until the timer was last set, at armedAt: what
	// was stamped with it may be as young as that.
	idleStamp, armedAt atomic.Uint32
	// window is in milliseconds, 0 until the first tick. Written under mu and
	// region.mu.
	window uint32
	peaks  [peakBuckets]peakBucket
	next   int // bucket to write

	judgeAt  uint32 // when to judge the last purge, if judging
	judging  bool
	purged   uint64 // pages of purges to be judged
	againWas uint64 // pageUse.again at the last tick
	fronts   [MaxP + NumShards]*seenFront
	ticks    atomic.Uint64
	punchAt  punchCursor

	generation int    // counts clocks and timers taken for lost. Owned by region.mu
	urgedAt    uint32 // when kickPressed last was; 0: never. Owned by region.mu
}

type peakBucket struct {
	pages int
	at    uint32
}

// punchGrowth: kickGrown acts on a heap that has grown by 64 MiB, the largest
// commit step, and a 32nd.
const punchGrowth = 64 << 20

// punchScan is how many slabs a tick looks at otherwise, for 1/2 ms. A test has fewer.
var punchScan = 4096

// SetClock gives the scavenger another clock; nil is the real one. What the old
// one was asked to call does nothing any more. For tests.
func SetClock(c clock) {
	s := &scavenger
	s.mu.Lock()
	defer s.mu.Unlock()
	if c == nil {
		c = realClock{}
	}
	region.mu.Lock()
	defer region.mu.Unlock()
	s.clock = c
	s.now = milliseconds()
	s.listed.Store(s.now)
	s.generation++
	s.armed.Store(false)
}

// tickTime is the time between ticks: at least 1 ms. Under region.mu or
// scavenger.mu.
func tickTime() time.Duration {
	window := scavenger.window
	if window == 0 {
		window = decay()
	}
	return time.Duration(max(window/ticksPerWindow, decayPart(minTick))) * time.Millisecond
}

// kick starts the scavenger if it does not run. Any goroutine, not entered and
// without locks; two loads if it runs.
func kick() {
	s := &scavenger
	if s.armed.Load() {
		if s.kicked.Load() {
			return
		}
		s.kicked.Store(true)
		if s.armed.Load() { // else the last tick may have looked before
			return
		}
	}
	if !policy.Current().KeepAlways {
		arm()
	}
}

func arm() {
	s := &scavenger
	region.mu.Lock()
	defer region.mu.Unlock()
	// Under the lock, with the time and the timer: kickGrown takes what is armed and
	// has an old time for lost.
	if !s.armed.CompareAndSwap(false, true) {
		return
	}
	s.idleStamp.Store(s.listed.Load())
	s.now = milliseconds()
	s.listed.Store(s.now)
	s.armedAt.Store(s.now)
	s.setTimer()
}

// setTimer sets the timer. Under region.mu.
func (s *scavengerState) setTimer() {
	generation := s.generation
	s.clock.AfterFunc(tickTime(), func() { s.tick(generation) })
}

// tick is what the timer runs.
func (s *scavengerState) tick(generation int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.during(generation, func() {}) {
		return
	}
	left, late := scavenge(false)
	postponeLate(late)
	if !left {
		// First say that nothing runs, then look again: who leaves something to
		// return does it the other way round.
		if !s.during(generation, func() { s.armed.Store(false) }) || !somethingLeft() && !s.kicked.Load() || !s.armed.CompareAndSwap(false, true) {
			return
		}
	}
	s.during(generation, s.setTimer)
}

// during does something, which must not take locks, if there was no other clock and
// no other timer since the given generation, and reports whether.
func (s *scavengerState) during(generation int, do func()) bool {
	region.mu.Lock()
	defer region.mu.Unlock()
	if s.generation != generation {
		return false
	}
	do()
	return true
}

// kickGrown makes holes in sparse slabs now if the heap has grown much: a class
// takes new pages while others may hold memory that they do not use. Under
// region.mu.
func kickGrown(committed uintptr) {
	s := &scavenger
	if policy.Current().KeepAlways {
		return
	}
	// A timer set inside a testing/synctest bubble ends with it. This is one of the
	// few places where that shows.
	now := milliseconds()
	if s.armed.Load() && time.Duration(now-s.now)*time.Millisecond > lostTicks*tickTime() {
		s.now = now
		s.generation++
		s.setTimer()
	}
	if committed < s.grownTo+max(punchGrowth, committed/32) {
		return
	}
	s.grownTo = committed
	s.soon(func() { punchSlabs(now, 0, worthGrowing, math.MaxInt) })
}

// lostTicks: a timer that is later than that does not come.
const lostTicks = 100

// soon does something under mu on a goroutine of its own, unless the clock is
// another one by then. Under region.mu.
func (s *scavengerState) soon(do func()) {
	generation := s.generation
	s.clock.AfterFunc(0, func() {
		s.mu.Lock() // from here on it is the same clock
		defer s.mu.Unlock()
		if s.during(generation, func() {}) {
			do()
		}
	})
}

// kickPressed asks for the work of a tick now if memory has come near the soft
// limit; at most once for each tick's time. Any goroutine, not entered and
// without locks.
func kickPressed() {
	s := &scavenger
	if memoryLimit.soft.Load() == 0 || !pressed() {
		return
	}
	region.mu.Lock()
	defer region.mu.Unlock()
	if now := milliseconds(); s.urgedAt == 0 || time.Duration(now-s.urgedAt)*time.Millisecond >= tickTime() {
		s.urgedAt = max(now, 1)
		s.soon(func() {
			if !pressed() {
				return
			}
			_, late := scavenge(false)
			postponeLate(late)
			kick()
		})
	}
}

// scavenge does one tick's work and reports whether there is more to do later.
// all is Trim: everything that no block needs is returned now. Under
// scavenger.mu. It also returns a late double free that it met, or 0.
func scavenge(all bool) (left bool, late uintptr) {
	s := &scavenger
	s.ticks.Add(1)
	s.epoch.Add(1)
	now := s.look()
	all = all || pressed()
	age := s.window
	if all {
		age = 0
	}
	s.moving.Lock()
	busy, late := trimFronts(now, all)
	cached, l := trimCaches(now, age)
	empty := sweepIdle(all)
	s.moving.Unlock()
	warm := s.purge(now, all)
	spare := returnSpare(all)
	most := punchScan
	if age == 0 {
		most = math.MaxInt
	}
	// A round over the slabs may take several ticks: what came behind the cursor
	// since it began is for the next one.
	if age == 0 || s.punchAt == (punchCursor{}) {
		s.kicked.Store(false)
	}
	sparse := punchSlabs(now, age, worthIdle, most)
	return busy || cached || empty || warm || spare || sparse, max(late, l)
}

// look notes the time and the peak since the last tick, and judges.
func (s *scavengerState) look() (now uint32) {
	region.mu.Lock()
	defer region.mu.Unlock()
	u := &pageUse
	if s.window == 0 {
		s.window = decay()
	}
	now = milliseconds()
	s.peaks[s.next] = peakBucket{u.peak, now}
	s.next = (s.next + 1) % peakBuckets
	s.now = now
	s.listed.Store(s.now)
	u.peak = u.used
	s.judge(now, u.again)
	return now
}

// forgetPeaks takes pages out of the peaks: they were cached, and nobody wanted
// them. Under mu and region.mu.
func forgetPeaks(pages int) {
	for i := range scavenger.peaks {
		scavenger.peaks[i].pages -= pages
	}
	pageUse.peak = max(pageUse.peak-pages, pageUse.used)
}

// judge adapts the window. Of memory that was returned, a 16th taken again is
// enough to be sorry; memory that was kept in vain shortens the window to a
// quarter, so that two misjudged periods bring it to its least.
func (s *scavengerState) judge(now uint32, again uint64) {
	if got := again - s.againWas; got >= max(minJudged, s.purged)/16 {
		s.window = min(2*s.window, decayPart(maxWindow))
		s.judging, s.purged = false, 0
	} else if s.judging && int32(now-s.judgeAt) >= 0 {
		s.window = max(s.window/4, decayPart(minWindow))
		s.judging, s.purged = false, 0
	}
	s.againWas = again
}

// minJudged is the pages of a purge worth learning from: 16 MiB.
const minJudged = 16 << 20 >> pageShift

// purge returns COLD pages, and reports whether warm ones are left.
func (s *scavengerState) purge(now uint32, all bool) (left bool) {
	findLost() // also when nothing is warm: it may be all there is
	keep, age := 0, uint32(0)
	region.mu.Lock()
	u := &pageUse
	if !all {
		age = s.window
		for _, b := range s.peaks {
			// A bucket tells of the time before it was written.
			if now-b.at <= s.window {
				keep = max(keep, b.pages-u.used)
			}
		}
	}
	warm := u.warm
	region.mu.Unlock()
	if warm > keep {
		n := purgePages(warm-keep, now, age, !all)
		if !all && n > 0 {
			if s.purged += uint64(n); s.purged >= minJudged && !s.judging {
				s.judging, s.judgeAt = true, now+horizon()
			}
		}
		warm -= n
	}
	return warm > 0 || anyLost.Load()
}

// somethingLeft reports whether a tick would find something other than slabs that
// became PARTIAL (which kicked tells): a look that is right when it says no and
// nobody allocates or frees.
func somethingLeft() bool {
	region.mu.Lock()
	left := pageUse.warm > 0 || len(whales.spans) > 0
	region.mu.Unlock()
	left = left || spareMemory()
	fronts := frontTable.Load()
	for i := range fronts {
		left = left || atomic.LoadUintptr(&fronts[i]) != trapFront
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
	for i := range bigCache {
		left = left || bigCache[i].Load() != 0
	}
	for i := region.first >> superShift &^ 63; i < region.committed.Load()>>superShift; i += 64 {
		left = left || atomic.LoadUint64(u64(emptyHints+i/64*8)) != 0
	}
	return left
}

// pollHeap trims a Heap's front if the scavenger has been at work since it last
// did. By the Heap's goroutine.
func pollHeap(own uintptr) {
	if own != 0 && head(own).epoch != scavenger.epoch.Load() {
		trimmed, late := trimHeap(own)
		postponeLate(late)
		if trimmed {
			kick()
		}
	}
}
