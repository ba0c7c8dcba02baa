package learn

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// EvolutionPolicy says which modes an Evolution may be in.
type EvolutionPolicy uint8

const (
	EvolutionOff    EvolutionPolicy = iota // nothing is learnt, nor is anything used that was learnt before
	EvolutionLearn                         // always LEARN
	EvolutionFrozen                        // always FROZEN: what was learnt before is used, and nothing is added
	EvolutionAuto                          // LEARN, FROZEN and CANARY in turns
)

// EvolutionPolicies has the names of the policies by their numbers.
var EvolutionPolicies = [...]string{"off", "learn", "frozen", "auto"}

// ParseEvolutionPolicy returns the policy of a name, in capitals or not.
func ParseEvolutionPolicy(name string) (EvolutionPolicy, error) {
	for i, n := range EvolutionPolicies {
		if strings.EqualFold(n, name) {
			return EvolutionPolicy(i), nil
		}
	}
	return EvolutionOff, fmt.Errorf("learn: no policy %q, want one of %s", name, strings.Join(EvolutionPolicies[:], ", "))
}

func (p EvolutionPolicy) String() string { return nameOf(EvolutionPolicies[:], p) }

// MarshalText returns the name of p.
func (p EvolutionPolicy) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads the name of a policy, as ParseEvolutionPolicy does.
func (p *EvolutionPolicy) UnmarshalText(text []byte) (err error) {
	*p, err = ParseEvolutionPolicy(string(text))
	return err
}

// Mode is a phase in the life of what is learnt.
type Mode uint8

const (
	ModeLearn  Mode = iota // what is learnt is used at once
	ModeFrozen             // the confirmed decisions stay, and nothing is updated
	ModeCanary             // as ModeFrozen, but 5 % of decisions are those of a candidate
)

var modes = []string{"LEARN", "FROZEN", "CANARY"}

func (m Mode) String() string { return nameOf(modes, m) }

// MarshalText returns the name of m.
func (m Mode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads the name of a mode.
func (m *Mode) UnmarshalText(text []byte) error { return named(m, modes, "mode", text) }

// Cause says why a mode ended.
type Cause uint8

const (
	CauseNone         Cause = iota // it did not
	CauseSettled                   // LEARN to FROZEN: the figures are steady
	CauseSlower                    // to LEARN: p99 is higher than usual
	CauseDearer                    // to LEARN: decisions cost more than usual
	CauseSizes                     // to LEARN: the sizes asked for are others
	CausePromise                   // FROZEN to CANARY: a candidate is said to be cheaper
	CauseConfirmed                 // CANARY to FROZEN: the candidate was adopted
	CauseNotCheaper                // CANARY to FROZEN: the candidate is not cheaper
	CauseMispredicted              // CANARY to FROZEN: the candidate costs more than was predicted
	CauseUndecided                 // CANARY to FROZEN: the trial took too long
	CauseRefused                   // no mode: huge pages are not made any more, because the system refuses them
)

var causes = []string{"none", "settled", "slower", "dearer", "sizes", "promise", "confirmed", "not cheaper", "mispredicted", "undecided", "refused"}

func (c Cause) String() string { return nameOf(causes, c) }

// MarshalText returns the name of c.
func (c Cause) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads the name of a cause.
func (c *Cause) UnmarshalText(text []byte) error { return named(c, causes, "cause", text) }

// Transition is a change of mode. If Why is CauseNone, nothing changed, and From and To are equal.
type Transition struct {
	From, To Mode
	Why      Cause
}

const (
	// WindowTime is how long a Window should be. The number is that of the C hakmem, which ended a window
	// after 10,000 operations if they came first; but then what is usual for a fast program would be known
	// from some milliseconds.
	WindowTime = 2 * time.Second

	// SizeBins is how many kinds of sizes a Window tells apart: enough for one for each power of two up to
	// 2 GiB.
	SizeBins = 32

	// learnTime is how long LEARN lasts at least. After a candidate has failed, none is tried for as long.
	// The number is that of the C hakmem.
	learnTime = 180 * time.Second
	// rowWindows is how many windows in a row must agree on what they say. The number is that of the C
	// hakmem, which asks it of p99 only. Here it is asked of sizes as well, so that a job that runs for
	// one window a minute thaws nothing.
	rowWindows = 3
	// steady is by how much, as a share of the least, figures that are called stable may differ. The number
	// is that of the C hakmem.
	steady = 0.01
	// worse is by how much, as a share, a figure is above its usual value before it counts as worse. The
	// number is that of the C hakmem, for p99.
	worse = 0.20
	// farSizes is the distance from which on sizes are others, if that is more than usual. The number is
	// that of the C hakmem. The distance is the TOTAL VARIATION, half the sum of the differences between
	// the shares of the bins: the least share of allocations that would need another size.
	farSizes = 0.25
	// leastSizes is how many allocations a window needs to say something about sizes. Of 1000 in 32 bins
	// chance alone makes a distance of 0.07 at most on average.
	leastSizes = 1000
	// usualFrom is when in LEARN figures begin to count as usual: the first half is for what is learnt to
	// take hold.
	usualFrom = learnTime / 2
	// usualWindows is of how many windows a usual value is the mean, roughly: two minutes of windows of 2 s.
	// leastWindows is how many there must be before it counts: from 16 values the standard deviation is
	// known within a fifth.
	usualWindows = 64
	leastWindows = 16
	// noise is by how many standard deviations a figure is above its usual value before it counts as worse.
	// Of 200 programs that did not change for five hours, but whose p99 and cost varied by 10, 20 or 50 %
	// from window to window, so many went back to LEARN: with 4 none, none and 1; with 3 one, 2 and 10;
	// with 1.5 85, 198 and 115.
	noise = 4
)

// Window has the figures of a stretch of time. The zero value of a figure says that it is not known.
type Window struct {
	// End is when the window ended, as an offset from any fixed moment. It grows from window to window.
	End time.Duration
	// P99 is the 99th percentile of the latency, in ns. Of fewer than some 1000 calls it says little.
	P99 float64
	// Cost is what the decisions of the window cost, in any one unit for each operation or each GiB·s. The
	// best unit is what the best fixed decision would have cost in hindsight on the same waits: so it plays
	// no part that there is more to do at times.
	Cost float64
	// Sizes has the numbers of allocations by size. What each bin stands for is up to the caller.
	Sizes [SizeBins]uint32
	// Candidate and Rest are about the decisions for which Canary said true, and about the others, in any
	// one unit. They matter in CANARY only.
	Candidate, Rest Tally
}

// Tally is what a number of decisions cost together.
type Tally struct {
	Cost      float64
	Decisions uint32
}

// Evolution decides when what is learnt is used at once (LEARN), when the decisions that proved themselves
// stay as they are (FROZEN), and when other ones are tried on a few (CANARY). The life cycle is that of the
// C hakmem, where p99 alone decided; here stands next to it what decisions cost.
//
//   - LEARN to FROZEN: after 180 s, when p99, or the cost, differed by at most 1 % in three windows in a row.
//   - FROZEN to LEARN: when three windows in a row had a p99, or a cost, more than 20 % above the usual, or
//     sizes at a distance of more than 0.25 from the usual. USUAL is the mean of the last windows of LEARN.
//     What varies much anyway must be four standard deviations above it.
//   - FROZEN to CANARY: when a candidate is said to be cheaper by 8 %.
//   - CANARY to FROZEN: when the trial is over (see trial). If the candidate was cheaper, it is adopted: the
//     usual cost falls as the trial says, while p99 is held to its former usual value.
//   - CANARY to LEARN: as from FROZEN. The candidate is dropped.
//
// An Evolution has no clock. It begins with its first window. It is for one goroutine at a time.
type Evolution struct {
	policy EvolutionPolicy
	mode   Mode
	since  time.Duration // when the mode began
	now    time.Duration // the end of the last window

	p99, cost, distance usual
	sizes               [SizeBins]float64 // usual shares
	trial               trial
	trials              uint32        // how many have begun
	retry               time.Duration // no trial begins before

	counts EvolutionCounts
}

// EvolutionCounts says what an Evolution has been through.
type EvolutionCounts struct {
	Windows         uint64 `json:"windows"`
	Freezes         uint64 `json:"freezes"`          // LEARN to FROZEN
	Relearns        uint64 `json:"relearns"`         // FROZEN or CANARY to LEARN
	CanarySuccesses uint64 `json:"canary_successes"` // candidates that were adopted
	Rollbacks       uint64 `json:"rollbacks"`        // candidates that were dropped
}

// NewEvolution returns an Evolution that has seen no window. It is in LEARN if the policy is
// EvolutionLearn or EvolutionAuto, else in FROZEN.
func NewEvolution(p EvolutionPolicy) *Evolution {
	e := &Evolution{policy: p, mode: ModeFrozen}
	e.forget()
	if p == EvolutionLearn || p == EvolutionAuto {
		e.mode = ModeLearn
	}
	return e
}

// Policy returns the policy.
func (e *Evolution) Policy() EvolutionPolicy { return e.policy }

// Mode returns the mode in force.
func (e *Evolution) Mode() Mode { return e.mode }

// Window judges a window and returns what follows.
func (e *Evolution) Window(w Window) Transition {
	if e.counts.Windows == 0 {
		e.since = w.End
	}
	e.counts.Windows++
	e.now = w.End
	switch {
	case e.mode == ModeLearn:
		if e.learn(&w) && e.policy == EvolutionAuto && w.End-e.since >= learnTime {
			e.counts.Freezes++
			return e.become(ModeFrozen, CauseSettled)
		}
	case e.policy != EvolutionAuto:
	default:
		if why := e.watch(&w); why != CauseNone {
			if e.mode == ModeCanary {
				e.counts.Rollbacks++
			}
			e.counts.Relearns++
			e.forget()
			return e.become(ModeLearn, why)
		}
		if e.mode == ModeCanary {
			return e.judge(&w)
		}
	}
	return Transition{e.mode, e.mode, CauseNone}
}

// forget empties the usual values.
func (e *Evolution) forget() {
	e.p99, e.cost = usual{share: worse}, usual{share: worse}
	e.distance, e.sizes = usual{least: farSizes}, [SizeBins]float64{}
}

// become changes the mode.
func (e *Evolution) become(m Mode, why Cause) Transition {
	t := Transition{e.mode, m, why}
	e.mode, e.since = m, e.now
	return t
}

// learn adds a window to the usual values, and reports whether the figures are steady.
func (e *Evolution) learn(w *Window) (settled bool) {
	if w.End-e.since < usualFrom {
		return false
	}
	if known(w.Cost) {
		e.cost.add(w.Cost)
		settled = e.cost.steady()
	}
	if known(w.P99) {
		e.p99.add(w.P99)
		settled = e.p99.steady() || settled
	}
	if d, ok := e.distanceOf(w); ok {
		e.distance.add(d)
		total := totalOf(w)
		for i, n := range w.Sizes {
			e.sizes[i] += (float64(n)/total - e.sizes[i]) / e.distance.n
		}
	}
	return settled
}

// watch compares a window with the usual values.
func (e *Evolution) watch(w *Window) Cause {
	// What a window does not say leaves the row of those that did as it is.
	if known(w.P99) {
		e.p99.compare(w.P99)
	}
	if known(w.Cost) {
		e.cost.compare(w.Cost)
	}
	if d, ok := e.distanceOf(w); ok {
		e.distance.compare(d)
	}
	switch {
	case e.p99.row >= rowWindows:
		return CauseSlower
	case e.cost.row >= rowWindows:
		return CauseDearer
	case e.distance.row >= rowWindows:
		return CauseSizes
	}
	return CauseNone
}

// totalOf returns the number of allocations in a window.
func totalOf(w *Window) (total float64) {
	for _, n := range w.Sizes {
		total += float64(n)
	}
	return total
}

// distanceOf returns the total variation between the sizes of a window and the usual ones, and reports
// whether the window says enough about sizes.
func (e *Evolution) distanceOf(w *Window) (d float64, ok bool) {
	total := totalOf(w)
	if total < leastSizes {
		return 0, false
	}
	if e.distance.n == 0 {
		return 0, true // there is nothing to be far from yet
	}
	for i, n := range w.Sizes {
		d += math.Abs(float64(n)/total-e.sizes[i]) / 2
	}
	return d, true
}

// Propose offers a candidate: other decisions than the confirmed ones. predicted is what they will cost,
// current what the confirmed ones cost, both for one decision, in any one unit. It is refused outside
// FROZEN, for 180 s after another one has failed, and if it does not promise to be cheaper by 8 %. The
// Transition says whether a trial begins.
func (e *Evolution) Propose(predicted, current float64) Transition {
	promises := known(predicted) && known(current) && predicted <= current*(1-promise)
	if e.policy != EvolutionAuto || e.mode != ModeFrozen || e.now < e.retry || !promises {
		return Transition{e.mode, e.mode, CauseNone}
	}
	e.trial = trial{predicted: predicted / current}
	e.trials++
	return e.become(ModeCanary, CausePromise)
}

// Canary reports whether a decision is the candidate's. key is the number of the chunk or page that it is
// about: during a trial the answer for a key stays the same. Each trial has other keys, so that a chunk
// which differs from the rest does not decide all of them.
func (e *Evolution) Canary(key uint32) bool {
	return e.mode == ModeCanary && mix(key^mix(e.trials)) < canaryShare*(1<<32)/100
}

// canaryShare is the candidate's share of decisions, in percent. The number is that of the C hakmem.
const canaryShare = 5

// mix returns a hash of x: the finalizer of MurmurHash3 (Appleby, 2011). Model.Hold spreads chunks by
// multiples of the golden ratio; a hash of another kind picks some of each of its arms.
func mix(x uint32) uint32 {
	x = (x ^ x>>16) * 0x85ebca6b
	x = (x ^ x>>13) * 0xc2b2ae35
	return x ^ x>>16
}

// judge adds a window to the trial, and ends it if it is decided.
func (e *Evolution) judge(w *Window) Transition {
	e.trial.add(w.Candidate, w.Rest)
	why := e.trial.verdict()
	if why == CauseNone && w.End-e.since >= trialTime {
		why = CauseUndecided
	}
	switch why {
	case CauseNone:
		return Transition{e.mode, e.mode, CauseNone}
	case CauseConfirmed:
		e.counts.CanarySuccesses++
		e.cost.scale(e.trial.ratio())
	default:
		e.counts.Rollbacks++
		e.retry = w.End + learnTime
	}
	return e.become(ModeFrozen, why)
}

// Figure is what is known of one of the figures of windows.
type Figure struct {
	Usual float64 `json:"usual"` // 0: not known
	Limit float64 `json:"limit"` // three windows in a row above it end FROZEN. 0: not known yet
	Last  float64 `json:"last"`
	Row   int     `json:"row"` // how many windows in a row were above the limit
}

// EvolutionSnapshot is the state of an Evolution, for display.
type EvolutionSnapshot struct {
	Policy EvolutionPolicy `json:"policy"`
	Mode   Mode            `json:"mode"`
	Since  time.Duration   `json:"since_ns"` // when the mode began
	Now    time.Duration   `json:"now_ns"`   // the end of the last window
	EvolutionCounts
	P99   Figure `json:"p99_ns"`
	Cost  Figure `json:"cost"`  // in the unit of Window.Cost
	Sizes Figure `json:"sizes"` // the distance from the usual sizes, 0 to 1
}

// Snapshot returns the state of e.
func (e *Evolution) Snapshot() EvolutionSnapshot {
	return EvolutionSnapshot{e.policy, e.mode, e.since, e.now, e.counts, e.p99.figure(), e.cost.figure(), e.distance.figure()}
}
