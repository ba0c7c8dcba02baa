// Package policy owns every setting of hakmem: the values in force, which slow paths read, and the
// table of HAKMEM_* variables from which the values are made.
//
// The values are in two parts. Each is behind an atomic pointer to a struct that never changes
// after it is published; mu guards the publishing. Fixed is read when the program starts or the
// region is reserved, and holds for good. Tuning is read by slow paths each time they need it, and
// another Tuning may be published at any time. The fast sections of malloc and free read neither.
package policy

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/hakmem/hakmem/internal/check"
	"github.com/hakmem/hakmem/internal/learn"
)

// Fixed holds the settings that cannot change after the first allocation.
type Fixed struct {
	// Mode is the preset from which the values of both parts started.
	Mode string
	// Trace is the path of a file into which a trace of all calls is written, or "".
	Trace string
	// Policy is the path of a policy file, which says what the learner begins with, or "".
	Policy string
	// PolicyExport is the path of a policy file that is written every ten seconds, or "".
	PolicyExport string
	// FastSection selects the fast section, which is not preempted. When it is off, every call pins
	// its P.
	FastSection bool
	// THP is the advice on huge pages to the operating system.
	THP THP
	// MemorySoft and MemoryHard are the memory limits at start, in bytes. 0 is no limit.
	MemorySoft, MemoryHard int
	// Guard is N if one in N blocks is to lie between guard pages, and 0 for none.
	Guard int
	// Sites says which blocks have a site.
	Sites Sites
	// ProfileRate is the mean number of bytes from one sample of the profile to the next, and 0 for no profile.
	ProfileRate int
	// Harden adds canaries, poison and a quarantine to every block.
	Harden bool
	// Timing counts the cycles of slow paths by phase.
	Timing bool
	// RegionBytes is the size of the address range to reserve.
	RegionBytes int
	// Dyn says which block sizes are added to the fixed ones.
	Dyn Dyn
}

// Tuning holds the settings that may change while the program runs. A new value does not affect
// what is already held: a magazine keeps its room until its front is drained, for example.
type Tuning struct {
	// MagBlocks is the largest number of blocks that a magazine of a class up to 1 KiB may hold.
	// MagBytes is the byte budget that lowers this number for larger classes.
	MagBlocks, MagBytes int
	// MagMidBlocks and MagMidBytes are the same two limits for classes above 1 KiB.
	MagMidBlocks, MagMidBytes int
	// MagGrowBytes is the byte budget that replaces MagBytes and MagMidBytes for magazines that run
	// full and empty in turns.
	MagGrowBytes int
	// MagLargeBytes is the byte budget of a magazine of large blocks. One block has room in any
	// case.
	MagLargeBytes int
	// SharedSlots is the number of shared slots in use of each class of large blocks.
	SharedSlots int
	// WMax says how much larger than the request a cached large block may be that serves it.
	WMax WMax
	// HugeCacheBytes is the largest block of the huge-block cache.
	HugeCacheBytes int
	// CacheBudget is how many bytes all caches of free blocks together should hold at most; 0: as many as
	// suit the number of fronts and the memory in use.
	CacheBudget int
	// Keep says who gives free memory back, and when. A timer that is already set when Keep becomes
	// KeepAlways runs until nothing is left.
	Keep Keep
	// MemoryPrice is what a GiB that is held for a second costs, in thousandths of a second of CPU
	// time.
	MemoryPrice int
	// Evo says when what is learnt is used, and Elo who decides about strategies.
	Evo learn.EvolutionPolicy
	Elo learn.Deciding
	// Touch says how the memory of fresh large blocks comes.
	Touch Touch
	// DecayMs is the unit of the scavenger's times, in milliseconds.
	DecayMs int
	// Refill is the most blocks that a magazine miss moves from the leased slab. A magazine that
	// has grown gets up to four times as many.
	Refill int
	// Batch says whether the factors of Refill and of EmptyScanLimit are learnt.
	Batch Batch
	// EmptyReuse lets the cross-class stage of acquire take an EMPTY slab from another class. It
	// also makes the EMPTY slabs of the class itself a stage of their own, the empty stage.
	EmptyReuse bool
	// EmptyFirst puts the empty stage before the partial stage.
	EmptyFirst bool
	// EmptyScanLimit bounds the number of superslabs looked at for EMPTY slabs.
	EmptyScanLimit int
	// EmptyMinKeep is the number of partly free slabs that a class keeps: only beyond it may
	// another class take EMPTY slabs of this one.
	EmptyMinKeep int
	// CommitMin and CommitMax bound the commit step, in bytes. The step starts at CommitMin and
	// doubles with each commit until it reaches CommitMax.
	CommitMin, CommitMax int
}

// Settings are both parts together, as Build makes them. The zero value is not valid.
type Settings struct {
	Fixed
	Tuning
}

// Keep is a value of HAKMEM_KEEP. From KeepFor on it stands for a time: KeepFor + the milliseconds.
type Keep int

const (
	KeepAuto Keep = iota
	KeepAlways
	KeepNever
	KeepFor
)

// Time returns the time for which free memory is kept, if k says so.
func (k Keep) Time() (d time.Duration, ok bool) {
	switch {
	case k >= KeepFor:
		return time.Duration(k-KeepFor) * time.Millisecond, true
	case k == KeepNever:
		return 0, true
	}
	return 0, false
}

// Batch is a value of HAKMEM_BATCH.
type Batch uint8

const (
	BatchFixed Batch = iota
	BatchAuto
)

// WMax is a value of HAKMEM_W_MAX: a place in learn.WMaxFactors, or WMaxAuto.
type WMax uint8

const (
	WMaxNone WMax = 0 // 1: a cached block serves its own class only
	WMaxAuto WMax = WMax(len(learn.WMaxFactors))
)

// Factor returns the factor, or false with WMaxAuto.
func (w WMax) Factor() (factor float64, fixed bool) {
	if w == WMaxAuto {
		return 0, false
	}
	return learn.WMaxFactors[w], true
}

// Touch is a value of HAKMEM_TOUCH.
type Touch uint8

const (
	TouchFault    Touch = iota // when the program touches it
	TouchAuto                  // as is learnt
	TouchPopulate              // with one call for each block
	TouchHuge                  // as TouchPopulate, with huge pages where they have room
)

// Sites is a value of HAKMEM_SITES. From SitesPCOf on it stands for a rate: SitesPCOf + N.
type Sites int

const (
	SitesNames Sites = iota
	SitesPC
	SitesPCOf
)

// usualRate is N of SitesPC. A block that is drawn takes 0.9 µs more, so that one in 64 adds 14 ns to each
// allocation (docs/ledger.md, "Callers as sites").
const usualRate = 64

// Rate returns N if one in N blocks gets its caller as its site, else 0.
func (s Sites) Rate() int {
	switch s {
	case SitesNames:
		return 0
	case SitesPC:
		return usualRate
	}
	return int(s - SitesPCOf)
}

// THP is a value of HAKMEM_THP.
type THP uint8

const (
	THPNever THP = iota
	THPAuto
	THPAlways
	THPCanary // as THPAuto, and huge pages of what has long been in use as a whole, if a trial says so
)

var (
	fixed   atomic.Pointer[Fixed]
	tuning  atomic.Pointer[Tuning]
	mu      check.Mutex[check.Policy] // guards the first load, Set and SetTuning
	loadErr []error                   // what Build reported for the values in force
)

// AtStart returns the fixed part. It reads the environment on first use. Any goroutine; the result
// never changes.
func AtStart() *Fixed {
	if f := fixed.Load(); f != nil {
		return f
	}
	load()
	return fixed.Load()
}

// Now returns the tuning in force at this moment. It reads the environment on first use. Any
// goroutine. The result never changes, but the next call may return another tuning. A caller that
// needs two values that agree takes them from one result.
func Now() *Tuning {
	if t := tuning.Load(); t != nil {
		return t
	}
	load()
	return tuning.Load()
}

// load reads the environment, unless that was done before.
func load() {
	mu.Lock()
	defer mu.Unlock()
	if fixed.Load() == nil {
		s, errs := Load(nil)
		publish(s, errs)
	}
}

// publish makes s the values in force. Under mu.
func publish(s *Settings, errs []error) {
	f, t := s.Fixed, s.Tuning
	loadErr = errs
	tuning.Store(&t)
	fixed.Store(&f)
}

// Current returns a copy of all values in force. It allocates Go memory, so it is not for slow
// paths.
func Current() *Settings { return &Settings{*AtStart(), *Now()} }

// Set publishes s in place of both parts. Build has made s and reported the given errors. Before
// the first allocation only.
func Set(s *Settings, errs []error) {
	mu.Lock()
	defer mu.Unlock()
	publish(s, errs)
}

// SetTuning publishes a copy of t in place of the tuning in force. If a value of t is out of its
// setting's range, it returns an error and nothing changes. Any goroutine, at any time.
func SetTuning(t *Tuning) error {
	s := &Settings{*AtStart(), *t}
	if err := s.check(); err != nil {
		return err
	}
	mu.Lock()
	defer mu.Unlock()
	tuning.Store(&s.Tuning)
	return nil
}

// Errors returns what was wrong with the values from which those in force were made. The caller may
// append to the slice.
func Errors() []error {
	AtStart()
	mu.Lock()
	defer mu.Unlock()
	return slices.Clip(loadErr)
}
