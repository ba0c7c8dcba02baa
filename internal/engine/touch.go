package engine

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/learn"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/policy"
	"github.com/hakmem/hakmem/internal/site"
)

// This file says how memory comes to a FRESH block, a large one whose pages had no memory: with a page
// fault for each OS page, when the program touches it; or with one call for the block before the program
// has it, with huge pages or without. A call takes less time for each OS page than a fault, and brings
// memory that the program may never use. What is best is learnt (learn.Touch) with HAKMEM_TOUCH=auto: some
// fresh blocks are PLAYS. Of one that comes by a call, the call is timed. Of one that comes by faults, the
// fault for its second OS page is, and it is seen how much of the block is resident when it is freed.
//
// A play is remembered as a sample by its address until the block is freed, or for touchAge. A free of a
// sample comes to a slow path, by the block's live state (markSample). Whatever else becomes of the block, a
// resize or a move, ends the sample, and nothing is learnt from it. A look at a sample that has become
// another block by mistake would teach something wrong, and harm nothing: it touches no memory.
//
// What comes before it is touched counts for the memory limits since the block was taken, as what is not
// touched does. Near a limit it does not come.

// touches is what is known of fresh blocks. Owned by region.mu.
var touches struct {
	model    *learn.Touch
	waiting  [learn.TouchGroups]int // how many samples of each group there are
	failures [2]int                 // calls that failed in a row: to populate, and advice on huge pages
	// hugeKnown says that it is known whether the system makes huge pages where it is asked to. Any
	// goroutine may read it.
	hugeKnown atomic.Bool
}

// touched counts the blocks to which memory came before they were touched, and its bytes; and those of
// them that have huge pages, with the bytes of these.
var touched struct{ blocks, bytes, hugeBlocks, hugeBytes atomic.Uint64 }

// touchSample is a sample, a play of which the outcome is not known. at is the block's address, 0 if there
// is no sample here, and turn tells the samples at a place apart. Owned by region.mu; the holder of a block
// reads at without it, to see whether its block is a sample.
type touchSample struct {
	at   atomic.Uintptr
	turn uint64
	touchPlay
}

// touchPlay says how memory came to a block.
type touchPlay struct {
	born time.Duration // when the program got the block
	cpu  time.Duration // what the call took, or the fault of timeFault
	size mem.Bytes     // usable
	site site.ID
	arm  learn.TouchArm
	draw learn.TouchDraw
}

// group returns the group of the block's size.
func (t *touchPlay) group() learn.TouchGroup { return touchGroup(t.size) }

// touchSamples is a table in which a block has one place, by a hash of its address.
var touchSamples [1 << touchBits]touchSample

const (
	// touchBits: 64 samples take 5 KiB. There are at most mostWaiting for each of seven groups, so that
	// most find a place.
	touchBits = 6
	// mostWaiting bounds the samples of a group. Next names an arm until a play of it is counted; with
	// more, a program that frees nothing would play the arm of which least is known for many blocks.
	mostWaiting = 8
	// touchAge is the age at which a sample is looked at although its block lives on, in milliseconds: a
	// block that was not used within it is likely to be used late. At the default price of memory, a page
	// that came and is not used has cost two faults by then.
	touchAge = 4000
	// mostTouched is the size of the largest block to which memory comes before it is touched: 64 MiB, the
	// largest commit step. They take 6 ms, in which the goroutine waits, and blocks beyond that are often
	// tables that are used here and there.
	mostTouched mem.Bytes = 64 << 20
	// mostFailures is how many calls in a row may fail for a reason that may pass (no memory at this
	// moment, a broken page) before the way is given up.
	mostFailures = 8
	// maySample says that plays can be seen to end: a block's live state brings its free to a slow path.
	maySample = learning && checkLive
)

// touchModel returns the model. Under region.mu.
func touchModel() *learn.Touch {
	check.MustHold(&region.mu, "touchModel")
	if touches.model == nil {
		touches.model = learn.NewTouch(func(s uint32) string {
			name, _, _ := site.Read(site.ID(s))
			return name
		})
		touches.model.Expect(func(s uint32) learn.TouchRule { return importedTouch(site.ID(s)) })
	}
	return touches.model
}

// wholeChunks returns the chunks that a block of so many usable bytes has as a whole.
func wholeChunks(p Block, usable mem.Bytes) (r chunkRun) {
	r.from = (p.page() + superPages - 1).chunk()
	r.to = max(r.from, (p.page() + pageNo(usable>>pageShift)).chunk())
	return r
}

// bestTouch returns the arm with the highest number that is possible for a block.
func bestTouch(p Block, usable mem.Bytes) learn.TouchArm {
	if r := wholeChunks(p, usable); r.from == r.to {
		return learn.TouchPopulate
	}
	return learn.TouchHuge
}

// touchFresh brings memory to the fresh block at p, of so many usable bytes, or leaves it to page faults.
// It reports whether the block is a sample now, at which a tick has to look. The caller has just made the
// block and holds it. Not entered; it may make system calls.
func touchFresh(p Block, usable mem.Bytes, s site.ID) (waits bool) {
	check.MustNotBeEntered("touchFresh")
	rule, ruled := touchRule(s)
	set := policy.Now().Touch
	if !ruled && set == policy.TouchFault || usable > mostTouched || pressed() || nearHard() {
		return false
	}
	lookForHuge()
	arm, draw := chooseTouch(p, usable, s, rule, ruled)
	took := time.Duration(0)
	switch {
	case arm != learn.TouchFault:
		began := elapsed()
		if !bring(p, usable, arm) {
			return false
		}
		took = elapsed() - began
	case draw != learn.TouchNoPlay && mayProbe:
		took = timeFault(p, usable)
	}
	if draw == learn.TouchNoPlay {
		return false
	}
	markSample(p, touchPlay{born: elapsed(), cpu: took, size: usable, site: s, arm: arm, draw: draw})
	return true
}

// timeFault returns what the fault for the second OS page of a fresh block takes, 0 if there is none. That for
// the first one would take twice as long: it brings the system's code into the caches, and perhaps a page
// table. The program is likely to use both pages.
func timeFault(p Block, usable mem.Bytes) time.Duration {
	step := osmem.PageSize()
	if usable < 2*step {
		return 0
	}
	touchPages(mem.Addr(p), step)
	began := elapsed()
	touchPages(mem.Addr(p).Add(step), step)
	return elapsed() - began
}

// chooseTouch returns how memory is to come to a fresh block, and whether that is a play. It is what a rule
// says, if ruled is set.
func chooseTouch(p Block, usable mem.Bytes, s site.ID, rule learn.TouchArm, ruled bool) (learn.TouchArm, learn.TouchDraw) {
	best := bestTouch(p, usable)
	region.mu.Lock()
	defer region.mu.Unlock()
	model := touchModel()
	switch set := policy.Now().Touch; {
	case ruled:
		return model.Possible(rule, best), learn.TouchNoPlay
	case set == policy.TouchPopulate:
		return model.Possible(learn.TouchPopulate, best), learn.TouchNoPlay
	case set == policy.TouchHuge:
		return model.Possible(learn.TouchHuge, best), learn.TouchNoPlay
	case set == policy.TouchFault, !learns(), region.huge: // where huge pages come by themselves, a fault brings 2 MiB
		return learn.TouchFault, learn.TouchNoPlay
	}
	g := touchGroup(usable)
	frozen := lifetimes.frozen || policy.Now().Evo == learn.EvolutionFrozen
	free := touchAt(p).at.Load() == 0 && touches.waiting[g] < mostWaiting
	return model.Next(uint32(s), g, best, maySample && free && !frozen && !Hardened())
}

// touchGroup returns the group of a block of so many usable bytes.
func touchGroup(usable mem.Bytes) learn.TouchGroup {
	return learn.TouchGroupOf(uint(pagesOf(usable)))
}

// lookForHuge finds out whether the system makes huge pages of the size of chunks where it is asked to,
// once. It may read files.
func lookForHuge() {
	if touches.hugeKnown.Load() {
		return
	}
	mode := hugePageMode()
	has := (mode == "madvise" || mode == "always") && policy.AtStart().THP != policy.THPNever &&
		osmem.HugePageSize() == superSize && !tracked // the Go heap's advice is Go's
	region.mu.Lock()
	defer region.mu.Unlock()
	if !has {
		touchModel().RuleOut(learn.TouchHuge)
	}
	touches.hugeKnown.Store(true)
}

// bring brings memory to the fresh block at p with one call, and reports whether all of it came. A failure
// is no error: the program's page faults do the rest.
func bring(p Block, usable mem.Bytes, arm learn.TouchArm) bool {
	huge := wholeChunks(p, usable)
	if arm != learn.TouchHuge || !askHuge(huge) {
		huge.to = huge.from
	}
	err := osmem.Populate(mem.Addr(p), usable.Up(osmem.PageSize()))
	if huge.from != huge.to {
		keepHuge(huge)
	}
	region.mu.Lock()
	noteTouchCall(learn.TouchPopulate, err)
	region.mu.Unlock()
	if err != nil {
		return false
	}
	touched.blocks.Add(1)
	touched.bytes.Add(uint64(usable))
	if huge.from != huge.to {
		touched.hugeBlocks.Add(1)
		touched.hugeBytes.Add(uint64(huge.to-huge.from) << superShift)
	}
	return true
}

// noteTouchCall notes the outcome of a call for an arm, and rules the arm out if more calls would fail, too.
// Under region.mu.
func noteTouchCall(arm learn.TouchArm, err error) {
	check.MustHold(&region.mu, "noteTouchCall")
	n := &touches.failures[arm-learn.TouchPopulate]
	if err == nil {
		*n = 0
		return
	}
	if *n++; *n >= mostFailures || osmem.CannotPopulate(err) {
		touchModel().RuleOut(learn.TouchHuge) // it needs both calls
		touchModel().RuleOut(arm)
	}
}

// askHuge asks for huge pages in chunks that the caller has as a whole, and reports whether the system
// agrees. It does not ask where huge pages come by themselves, or where more advice would cut the region
// into too many mappings.
func askHuge(r chunkRun) bool {
	region.mu.Lock()
	room := !region.huge && hugePages.boundaries+2 <= maxBoundaries
	region.mu.Unlock()
	if !room {
		return false
	}
	err := osmem.HugePages(r.from.addr(), mem.Bytes(r.to-r.from)*superSize, true)
	region.mu.Lock()
	defer region.mu.Unlock()
	noteTouchCall(learn.TouchHuge, err)
	return err == nil
}

// keepHuge gives chunks that were asked for huge pages the advice against them. The huge pages that there
// are stay, and the system makes no others when memory has been returned (hugepages.go). The caller has
// the chunks as a whole.
func keepHuge(r chunkRun) {
	err := noHugePages(r.from, chunkCount(r.to-r.from))
	region.mu.Lock()
	defer region.mu.Unlock()
	if err == nil {
		setSmallPages(r.from, chunkCount(r.to-r.from), true)
		return
	}
	hugePages.asked.Store(true)
	touchModel().RuleOut(learn.TouchHuge)
	survive(fmt.Errorf("hakmem: advice against huge pages after a block got some: %w; memory that is returned may be resident again until Trim is called", err))
}

// Samples.

// touchAt returns the place of the block at p among the samples.
func touchAt(p Block) *touchSample {
	return &touchSamples[uint64(p>>pageShift)*0x9E3779B97F4A7C15>>(64-touchBits)] // Knuth's multiplier, as in lockShard
}

// isTouchSample reports whether the block at p is a sample. The caller holds the block.
func isTouchSample(p Block) bool { return maySample && touchAt(p).at.Load() == uintptr(p) }

// markSample makes the block at p, which the caller holds, a sample if its place is empty. A block without a site whose class has a magazine gets another live state, so that its free comes
// to a slow path.
func markSample(p Block, play touchPlay) {
	at, _, _, why := liveByte(p)
	if why != OK {
		return
	}
	region.mu.Lock()
	defer region.mu.Unlock()
	s := touchAt(p)
	if s.at.Load() != 0 {
		return
	}
	if v := state(at); v != liveSited && v != liveHuge {
		putState(at, liveWatched)
	}
	s.turn++
	s.touchPlay = play
	touches.waiting[s.group()]++
	s.at.Store(uintptr(p))
}

// drop ends a sample. Under region.mu.
func (s *touchSample) drop() {
	check.MustHold(&region.mu, "drop")
	if s.at.Swap(0) != 0 {
		touches.waiting[s.group()]--
	}
}

// dropTouch ends the sample at p, if there is one, because its block is no longer what it was. Under
// region.mu.
func dropTouch(p Block) {
	check.MustHold(&region.mu, "dropTouch")
	if isTouchSample(p) {
		touchAt(p).drop()
	}
}

// forgetTouches ends all samples. Under region.mu.
func forgetTouches() {
	for i := range touchSamples {
		touchSamples[i].drop()
	}
}

// endTouch learns from the sample at p, whose block the caller has just freed and still holds. Not
// entered.
//
//go:noinline
func endTouch(p Block) {
	check.MustNotBeEntered("endTouch")
	region.mu.Lock()
	s, turn := touchAt(p), touchAt(p).turn
	is := s.at.Load() == uintptr(p)
	region.mu.Unlock()
	if is {
		s.settle(turn)
	}
}

// settle tells the model what came of the sample, if it is still the one of that turn, and ends it. What is
// seen belongs to the sample: if its block is freed meanwhile, the sample has ended. Not entered; it makes
// system calls.
func (s *touchSample) settle(turn uint64) {
	region.mu.Lock()
	p, size, arm := Block(s.at.Load()), s.size, s.arm
	is := p != 0 && s.turn == turn
	region.mu.Unlock()
	if !is {
		return
	}
	used, known := mem.Bytes(0), true
	if arm == learn.TouchFault {
		var look osmem.Look
		if known = beginLook(&look); known {
			used, known = look.Resident(mem.Addr(p), size)
			look.Close()
		}
	}
	region.mu.Lock()
	defer region.mu.Unlock()
	if s.turn != turn || s.at.Load() != uintptr(p) {
		return
	}
	s.drop()
	if !known {
		return
	}
	step := osmem.PageSize()
	each := float64(step) / pageSize // OS pages of a page
	play := learn.TouchPlay{
		Site: uint32(s.site), Group: s.group(), Arm: s.arm, Draw: s.draw,
		Pages: float64(size.Up(step) / step), Used: float64(used / step), CPU: s.cpu.Seconds(),
		Hold: keptModel().Costs().Hold * each * (elapsed() - s.born).Seconds(),
	}
	if arm == learn.TouchFault && (!mayProbe || s.cpu == 0) {
		play.CPU = learn.TypicalMachine.Fault * float64(step) / 4096
	}
	touchModel().Played(play)
}

// settleTouches learns from samples that are touchAge old, at a tick. It reports whether there are others.
// Under scavenger.mu; no other lock may be held.
func settleTouches() (left bool) {
	if !maySample {
		return false
	}
	now := elapsed()
	for i := range touchSamples {
		s := &touchSamples[i]
		if s.at.Load() == 0 {
			continue
		}
		region.mu.Lock()
		turn, old := s.turn, now-s.born >= touchAge*time.Millisecond
		region.mu.Unlock()
		if old {
			s.settle(turn)
		} else {
			left = true
		}
	}
	return left
}

// touchesWait reports whether there are samples. Any goroutine, without a lock.
func touchesWait() bool {
	for i := range touchSamples {
		if touchSamples[i].at.Load() != 0 {
			return true
		}
	}
	return false
}
