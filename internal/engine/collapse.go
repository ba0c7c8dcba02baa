package engine

import (
	"sync/atomic"
	"time"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/learn"
	"github.com/hakmem/hakmem/internal/mem"
	"github.com/hakmem/hakmem/internal/osmem"
	"github.com/hakmem/hakmem/internal/policy"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

// This file makes huge pages of superslabs that stay as they are, with HAKMEM_THP=canary.
//
// A superslab is RIPE when all of its pages have been in use and none was given back for a minute. If it is
// DENSE, too, it is collapsed: the system copies it into a huge page. Dense means that 7/8 of its memory
// are blocks in use or in magazines, and that all of its OS pages are resident, so that the huge page brings
// no memory that is not counted.
//
// What a huge page is worth shows in the program, which takes less time for an access when there are many.
// hakmem cannot see how much the program does. It takes the misses of magazines for a measure of that: a
// trial collapses a 16th of the ripe chunks, and compares the CPU time of the process for each miss before
// and afterwards (learn.Change). If it fell, all ripe chunks are collapsed from then on. If not, the next
// trial is ten minutes later. A program whose misses have little to do with its work is judged wrongly,
// which is why canary is not the default.

// collapsing is how far that has come. Owned by scavenger.mu, except bytes.
var collapsing struct {
	phase    collapsePhase
	trial    learn.Change
	windowAt stamp         // when the last window of a trial ended
	cpu      time.Duration // the CPU time of the process then
	misses   uint64        // and the misses so far
	roundAt  stamp         // when the last round over the chunks began
	ripe     int           // how many chunks were ripe in it
	todo     int           // how many chunks the trial still has to collapse
	next     chunkNo       // the chunk at which the search for the next one goes on
	payAt    stamp         // until when credit was earned
	credit   time.Duration // how long may be spent
	retryAt  stamp         // in collapseRests: when the next trial begins
	failures int           // calls that failed in a row
	share    float64       // the share of the phase that was noted last
	through  bool          // in collapseAll: all that were ripe then are collapsed
	noted    learn.Seq     // the decision of which nobody knows yet what came of it, 0: none
	notedBy  *learn.Learner
	bytes    atomic.Uint64 // of all huge pages made
}

// collapsePhase is a step of a trial, or what came of it.
type collapsePhase uint8

const (
	collapseWatches collapsePhase = iota // windows before the change
	collapseTries                        // a part of the chunks is collapsed
	collapseJudges                       // windows after the change
	collapseAll                          // all ripe chunks are collapsed
	collapseRests                        // nothing, until the next trial
	collapseNever                        // the system cannot
)

// Times are in hundredths of HAKMEM_DECAY_MS.
const (
	// collapseWindow is the length of a window: half a second, so that a trial has 6 s before the change
	// and 6 s after it, as in the C hakmem.
	collapseWindow = 22.8
	// collapseRound is the time between two rounds over the chunks: 10 s. A round takes some 20 ns for each
	// chunk.
	collapseRound = 455
	// collapseRest is the time after a trial that failed: ten minutes.
	collapseRest = 27_300
)

const (
	// ripeRounds is after how many rounds in a row a chunk is ripe: a minute.
	ripeRounds = 6
	// collapsePart is which part of the ripe chunks a trial collapses, one in so many, as in the C hakmem. There is no
	// trial with fewer ripe chunks.
	collapsePart = 16
	// looseShare: a chunk is dense if at most an 8th of it are free blocks.
	looseShare = 8
	// collapseShare is the share of time that may be spent, 1 in so many: 1 %. A chunk takes 1.2 ms.
	collapseShare = 100
	// mostCredit bounds what a pause of the scavenger earns: some eight chunks.
	mostCredit = 10 * time.Millisecond
	// leastMisses is how many misses a window needs: their number is known to 3 % by chance then.
	leastMisses = 1000
)

// processCPU is the CPU time of the process. Tests replace it.
var processCPU = osmem.ProcessCPU

// collapseSome does what is to be done at a tick. moving is scavenger.moving, which it takes for the
// counters. Under scavenger.mu; no other lock may be held.
func collapseSome(now stamp, moving *check.Mutex[check.Moving]) {
	x := &collapsing
	if policy.AtStart().THP != policy.THPCanary || x.phase == collapseNever || tracked || osmem.HugePageSize() != superSize {
		return
	}
	if x.phase == collapseRests && int32(now-x.retryAt) >= 0 {
		x.phase, x.trial, x.windowAt, x.noted = collapseWatches, learn.Change{}, 0, 0
	}
	if x.phase != collapseRests && (x.roundAt == 0 || now.since(x.roundAt) >= decayPart(collapseRound)) {
		x.roundAt = max(now, 1)
		x.ripe = ripen(now)
	}
	switch {
	case x.phase == collapseWatches, x.phase == collapseJudges,
		x.noted != 0 && (x.phase == collapseRests || x.phase == collapseAll && x.through):
		collapseWindowEnds(now, moving)
	}
	earned := time.Duration(now.since(x.payAt)) * time.Millisecond / collapseShare
	x.credit, x.payAt = min(x.credit+earned, mostCredit), now
	for x.credit > 0 && !pressed() && !nearHard() && (x.phase == collapseAll || x.phase == collapseTries) {
		if x.phase == collapseTries && x.todo == 0 {
			x.phase, x.windowAt = collapseJudges, 0
			return
		}
		began := elapsed()
		more := collapseNext()
		x.credit -= elapsed() - began
		if !more { // the trial makes do with those that there are
			x.todo, x.through = 0, true
			break
		}
		x.todo--
	}
}

// collapseWindowEnds adds a window to the trial, if one has ended, and goes on with the next phase when there
// are enough.
func collapseWindowEnds(now stamp, moving *check.Mutex[check.Moving]) {
	x := &collapsing
	if x.windowAt != 0 && now.since(x.windowAt) < decayPart(collapseWindow) {
		return
	}
	moving.Lock()
	counts := countMisses()
	moving.Unlock()
	misses, cpu := uint64(0), processCPU()
	for _, n := range counts {
		misses += n
	}
	n, took := misses-x.misses, cpu-x.cpu
	first := x.windowAt == 0
	x.windowAt, x.misses, x.cpu = max(now, 1), misses, cpu
	if first || n < leastMisses || took <= 0 {
		return
	}
	cost := took.Seconds() / float64(n)
	switch x.phase {
	case collapseWatches:
		if x.trial.Before(cost) && x.ripe >= collapsePart {
			x.phase, x.todo = collapseTries, x.ripe/collapsePart
			noteCollapse(x.trial.Asked(), learn.CauseNone)
		}
	case collapseJudges:
		if x.trial.After(cost) {
			collapseJudged(now)
		}
	default:
		if x.trial.Before(cost) {
			mean, _ := x.trial.Means()
			settleCollapse(mean)
		}
	}
}

// collapseJudged ends a trial. Windows that show what came of it begin.
func collapseJudged(now stamp) {
	x := &collapsing
	before, after := x.trial.Means()
	settleCollapse(after)
	if x.trial.Cheaper() {
		x.phase, x.through = collapseAll, false
		noteCollapse(after, learn.CauseNone)
	} else {
		x.phase, x.retryAt = collapseRests, now+stamp(decayPart(collapseRest))
		noteCollapse(before, learn.CauseNone)
	}
	x.trial, x.windowAt = learn.Change{}, 0
}

// share returns which share of the chunks becomes huge pages in a phase, as KindHuge has it.
func (p collapsePhase) share() float64 {
	switch p {
	case collapseTries, collapseJudges:
		return 1. / collapsePart
	case collapseAll:
		return 1
	}
	return 0
}

// noteCollapse notes the phase that has begun, and what a miss is expected to cost in it. Where nothing is learnt,
// nobody keeps a log.
func noteCollapse(predicted float64, why learn.Cause) {
	x, share := &collapsing, collapsing.phase.share()
	if learns() {
		x.notedBy = aboveModels()
		x.noted = x.notedBy.NoteHuge(x.share, share, predicted, why)
	}
	x.share = share
}

// settleCollapse says what a miss has cost since the last decision. Its Learner may have given way to another one.
func settleCollapse(cost float64) {
	x := &collapsing
	if x.noted != 0 && x.notedBy == learner.Learner {
		x.notedBy.Log().Settle(x.noted, cost)
	}
	x.noted, x.notedBy = 0, nil
}

// ripen notes for each chunk for how many rounds it has been as it is, and returns how many are ripe and not
// collapsed. Under scavenger.mu.
func ripen(now stamp) (ripe int) {
	for c := region.firstChunk(); c < region.endChunk(); {
		beats.Add(1)
		region.mu.Lock()
		for range purgeBatch {
			if c >= region.endChunk() {
				break
			}
			s := super(c)
			c++
			if !s.isSlabs || s.free != 0 || s.smallPages || s.refused != 0 || s.emptyMask.Load() != 0 || now.since(s.freedAt) < decayPart(collapseRound) {
				s.rounds, s.collapsed = 0, false
				continue
			}
			s.rounds = min(s.rounds+1, ripeRounds)
			if s.rounds == ripeRounds && !s.collapsed {
				ripe++
			}
		}
		region.mu.Unlock()
	}
	return ripe
}

// collapseNext collapses the next chunk that is ripe and dense, and reports whether there was one. Under
// scavenger.mu.
func collapseNext() bool {
	x := &collapsing
	from, end := region.firstChunk(), region.endChunk()
	for range end - from {
		if x.next < from || x.next >= end {
			x.next = from
		}
		c := x.next
		x.next++
		region.mu.Lock()
		s := super(c)
		is := s.rounds == ripeRounds && !s.collapsed && s.isSlabs && s.free == 0 && !s.smallPages
		region.mu.Unlock()
		if !is || !isDense(c) {
			continue
		}
		err := osmem.Collapse(c.addr(), superSize)
		beats.Add(1)
		region.mu.Lock()
		s.collapsed = true // after a failure too: there are others to try
		region.mu.Unlock()
		if err == nil {
			x.failures = 0
			x.bytes.Add(superSize)
			return true
		}
		if x.failures++; x.failures >= mostFailures {
			x.phase = collapseNever
			noteCollapse(0, learn.CauseRefused)
			return false
		}
	}
	return false
}

// isDense reports whether superslab c, which is in use as a whole, is dense. It reads the bitmaps of slabs
// without a lock: that is only a glance. No memory is returned while it looks, nor in the rest of the tick.
// Under scavenger.mu.
func isDense(c chunkNo) bool {
	free := mem.Bytes(0)
	for page := c.page(); page < (c + 1).page(); page++ {
		if l := meta(page).list(); l != 0 {
			k := &sizeclass.Classes[l.class()]
			free += mem.Bytes(slabID(page+1).freeBlocks(k)) * mem.Bytes(k.Size)
		}
	}
	if free > superSize/looseShare {
		return false
	}
	var look osmem.Look
	if !beginLook(&look) {
		return false
	}
	defer look.Close()
	n, known := look.Resident(c.addr(), superSize)
	return known && n == superSize
}
