package engine

import (
	"sync/atomic"
	"time"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/learn"
	"github.com/hakmem/hakmem/internal/policy"
	"github.com/hakmem/hakmem/internal/site"
)

// This file finds out which sites' blocks go to the long lane, unless a rule says so (rules.go). Package
// learn decides it, from samples of how long blocks live.
//
// region.mu owns all state. Two things are read without it: longSites, and the addresses of the samples.

// longSites has a bit for each site whose blocks go to the long lane. It is an array for all sites that
// there can be, because untouched memory costs nothing.
var longSites [(site.Max + 1) / 64]atomic.Uint64

// isLong reports whether the blocks of a site go to the long lane. Any goroutine, without a lock.
func isLong(s site.ID) bool { return longSites[s/64].Load()>>(s%64)&1 != 0 }

// lifetimes is what is known of sites. Owned by region.mu.
var lifetimes struct {
	model   learn.Lifetimes
	decided stamp  // when the model last decided
	samples uint64 // how many blocks were samples
	long    uint64 // how many sites are in longSites
	// judged has what the model has decided of the sites that it judges, before what it had decided the
	// time before; a map is used again, so that a decision takes no Go memory.
	judged, before map[site.ID]bool
	frozen         bool // nothing is decided: learner.go
	// changes has the sites whose blocks have gone to another lane since the last window, as far as there
	// is room, for the learner's log.
	changes []laneChange
}

// laneChange says that the blocks of a site go to the long lane, or no more.
type laneChange struct {
	site site.ID
	long bool
}

// mostChanges bounds what is remembered between two windows. The log has room for 512 decisions of all
// kinds.
const mostChanges = 16

// liveSample is a sample: a block of which the birth is known. at is the block's address, 0 if there is
// no sample here, and seen the age at which the model last heard of it. Changes are made under
// region.mu; the holder of a block reads at without it, to see whether its block is a sample.
type liveSample struct {
	at   atomic.Uintptr
	born stamp
	site uint16
	seen learn.Age
}

// liveSamples is a table in which a block has one place, by a hash of its address. 4096 samples of blocks
// that grow old (learn.Old) are 64 births a second. Where more come, samples give way (enoughAge).
var liveSamples [1 << sampleBits]liveSample

const (
	sampleBits = 12
	// firstSamples is how many blocks of a site are all samples, so that a site is soon known: four times
	// as many as a judgement needs. Of the others one in sampleShare is: a sample costs some 200 ns, three
	// for each allocation.
	firstSamples = 64
	sampleShare  = 64
	// enoughAge is the age at which a sample gives way to another block that has the same place, in
	// milliseconds: four times what the model takes for long, so that long lives are seen as such. A
	// younger one stays, and the other block is no sample.
	enoughAge millis = 4000
	// decideEvery is the time between two decisions, in milliseconds. One takes some 20 µs, and some 300
	// µs with as many sites as the model knows.
	decideEvery millis = 1000
)

// isSample reports whether block n of a site is to be a sample. Multiples of the golden ratio spread
// evenly (Knuth vol. 3, 6.4): so a program that does the same things in turns is not seen at the same turn
// only.
func isSample(n uint32) bool { return n <= firstSamples || n*2654435769 < 1<<32/sampleShare }

// sampleAt returns the place of the block at p among the samples.
func sampleAt(p Block) *liveSample {
	return &liveSamples[uint64(p>>granuleShift)*0x9E3779B97F4A7C15>>(64-sampleBits)]
}

// mayBeSample reports whether the block at p is a sample. The caller holds the block.
func mayBeSample(p Block) bool { return sampleAt(p).at.Load() == uintptr(p) }

// addSample makes the block at p a sample. The caller holds the block. Not entered.
func addSample(p Block, site site.ID) {
	check.MustNotBeEntered("addSample")
	region.mu.Lock()
	defer region.mu.Unlock()
	s, now := sampleAt(p), milliseconds()
	if s.at.Load() != 0 {
		if now.since(s.born) < enoughAge {
			return
		}
		s.grow(now)
	}
	lifetimes.samples++
	s.born, s.site, s.seen = now, uint16(site), 0
	s.at.Store(uintptr(p))
}

// takeSample notes that the block at p dies, if it is a sample. The caller holds the block. Not entered.
func takeSample(p Block) {
	check.MustNotBeEntered("takeSample")
	if !mayBeSample(p) {
		return
	}
	region.mu.Lock()
	defer region.mu.Unlock()
	if s := sampleAt(p); s.at.Load() == uintptr(p) { // it may have given way
		s.at.Store(0)
		lifetimes.model.Died(uint32(s.site), s.seen, s.age(milliseconds()))
	}
}

// grow tells the model how old a sample is. Under region.mu.
func (s *liveSample) grow(now stamp) {
	check.MustHold(&region.mu, "grow")
	s.seen = lifetimes.model.Alive(uint32(s.site), s.seen, s.age(now))
}

func (s *liveSample) age(now stamp) time.Duration {
	return time.Duration(now.since(s.born)) * time.Millisecond
}

// forgetSamples ends all samples, and the model does not hear of them. Under region.mu.
func forgetSamples() {
	check.MustHold(&region.mu, "forgetSamples")
	for i := range liveSamples {
		liveSamples[i].at.Store(0)
	}
}

// learnLanes lets the model decide, at a tick, and reports whether it has. Under region.mu.
func learnLanes(now stamp) bool {
	l := &lifetimes
	if !learns() || l.frozen || policy.Now().Evo == learn.EvolutionFrozen || now.since(l.decided) < decideEvery {
		return false
	}
	l.decided = now
	for i := range liveSamples {
		if s := &liveSamples[i]; s.at.Load() != 0 {
			if s.grow(now); s.seen == learn.Old {
				s.at.Store(0)
			}
		}
	}
	l.model.Decide()
	return true
}
