package learn

import (
	"math"
	"time"
)

// DecisionKind says what a Decision is about, and so what its fields mean. Costs are CPU seconds in every kind.
type DecisionKind uint8

const (
	KindHold      DecisionKind = iota // for how long free pages of band Where are kept: seconds
	KindLane                          // the lane to which blocks of site Where go: 0 is the common one, 1 the long one
	KindLeader                        // which strategy leads board Where: its number
	KindEvolution                     // the Mode of Evolution: its number. Why says what ended the former one
	KindBudget                        // what caches may hold together: bytes
	KindPrice                         // the price of memory near the soft limit: CPU seconds for a GiB·s
	KindSize                          // a block size that was added: bytes, in place of those that requests got before
	KindWMax                          // W_MAX, one of WMaxFactors. Costs are those of a second of the program
	KindBatch                         // the factor of batches of kind Where, one of BatchFactors. Costs are those of a block
	KindTouch                         // the TouchArm for fresh blocks of TouchWhere: its number. Costs are for an OS page that is used
	KindHuge                          // which share of old superslabs becomes huge pages: 0 none, 1 all, between them a trial's. Costs are those of a miss of a magazine
	nKinds        = iota
)

var kinds = []string{"hold", "lane", "leader", "evolution", "budget", "price", "size", "w_max", "batch", "touch", "huge"}

func (k DecisionKind) String() string { return nameOf(kinds, k) }

// MarshalText returns the name of k.
func (k DecisionKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads the name of a kind.
func (k *DecisionKind) UnmarshalText(text []byte) error {
	return named(k, kinds, "kind of decision", text)
}

// Outcome says what came of a Decision.
type Outcome uint8

const (
	OutcomeOpen  Outcome = iota // nobody knows yet
	OutcomeRight                // it cost at most 20 % more than predicted
	OutcomeWrong                // it cost more
)

var outcomes = []string{"open", "right", "wrong"}

func (o Outcome) String() string { return nameOf(outcomes, o) }

// MarshalText returns the name of o.
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText reads the name of an outcome.
func (o *Outcome) UnmarshalText(text []byte) error { return named(o, outcomes, "outcome", text) }

// Decision is an entry of a Log: what was decided, why, and what came of it.
type Decision struct {
	At        time.Duration `json:"at_ns"` // since any fixed moment
	From      float64       `json:"from"`  // what was in force before, in the unit of the kind
	To        float64       `json:"to"`
	Predicted float64       `json:"predicted"` // what it was expected to cost, in CPU seconds. 0: nothing was expected
	Realised  float64       `json:"realised"`  // what it cost, in CPU seconds, once the outcome is known
	Where     uint32        `json:"where"`     // the band, site, board or TouchWhere
	Kind      DecisionKind  `json:"kind"`
	Why       Cause         `json:"why"`     // of KindEvolution, and CauseRefused of KindHuge
	Applied   bool          `json:"applied"` // false: it is noted what would have been decided, and nothing was done
	Outcome   Outcome       `json:"outcome"`
}

// Decision returns the entry for a Log of a change of mode.
func (t Transition) Decision(at time.Duration) Decision {
	return Decision{At: at, Kind: KindEvolution, From: float64(t.From), To: float64(t.To), Why: t.Why, Applied: true}
}

// logEntries is how many decisions a Log remembers. A Log may take 48 KiB; with 48 bytes for each entry they
// take half of that.
const logEntries = 512

// rightWithin is by how much, as a share, a decision may cost more than predicted and was still right: as
// much as a candidate may (trialMiss).
const rightWithin = trialMiss

// Seq is the number of a Decision in its Log, from 1 on. 0 is none.
type Seq uint64

// Log remembers the last 512 decisions, and of all that it was given how many were right. It takes 25 KiB and
// allocates nothing. The zero Log is empty. A Log is for one goroutine at a time.
type Log struct {
	entries [logEntries]Decision
	last    Seq
	sums    [nKinds]struct {
		noted, applied, settled, right uint64
		regret                         float64
	}
}

// Note adds a decision and returns its number, for Settle. What came of it is not known yet, whatever d says.
// Numbers that are not finite become 0, which JSON can hold. Note panics if the kind is unknown.
func (l *Log) Note(d Decision) Seq {
	for _, x := range []*float64{&d.From, &d.To, &d.Predicted} {
		if math.IsNaN(*x) || math.IsInf(*x, 0) {
			*x = 0
		}
	}
	d.Outcome, d.Realised = OutcomeOpen, 0
	s := &l.sums[d.Kind]
	s.noted++
	if d.Applied {
		s.applied++
	}
	l.last++
	*l.entry(l.last) = d
	return l.last
}

// entry returns the place of a decision.
func (l *Log) entry(q Seq) *Decision { return &l.entries[(q-1)%logEntries] }

// first returns the number of the oldest decision that is remembered.
func (l *Log) first() Seq { return max(l.last, logEntries) - logEntries + 1 }

// Settle says what decision q has cost, in CPU seconds. It does nothing if q was overwritten or settled
// before, or if realised is no finite number: so a caller need not know what the Log still remembers.
func (l *Log) Settle(q Seq, realised float64) {
	if q < l.first() || q > l.last || math.IsNaN(realised) || math.IsInf(realised, 0) {
		return
	}
	d := l.entry(q)
	if d.Outcome != OutcomeOpen {
		return
	}
	s := &l.sums[d.Kind]
	d.Realised, d.Outcome = realised, OutcomeWrong
	if realised <= d.Predicted*(1+rightWithin) {
		d.Outcome = OutcomeRight
		s.right++
	}
	s.settled++
	s.regret += max(realised-d.Predicted, 0)
}

// Each calls f for each decision that is remembered, the oldest first, until f returns false. f may settle
// decisions, but add none.
func (l *Log) Each(f func(Seq, Decision) bool) {
	for q := l.first(); q <= l.last; q++ {
		if !f(q, *l.entry(q)) {
			return
		}
	}
}

// Hindsight says how good the decisions of a kind were, since the Log is in use.
type Hindsight struct {
	Kind      DecisionKind `json:"kind"`
	Decisions uint64       `json:"decisions"`
	Applied   uint64       `json:"applied"` // of Decisions: the others were noted only
	Settled   uint64       `json:"settled"` // of Decisions: those whose outcome is known
	Right     uint64       `json:"right"`   // of Settled: those that cost at most 20 % more than predicted
	// MeanRegret is by how much a settled decision cost more than predicted on average, in CPU seconds.
	// One that cost less counts as 0.
	MeanRegret float64 `json:"mean_regret"`
}

// Hindsight returns an entry for each kind of which a decision was noted, in the order of the kinds.
func (l *Log) Hindsight() (list []Hindsight) {
	for k, s := range l.sums {
		if s.noted > 0 {
			list = append(list, Hindsight{DecisionKind(k), s.noted, s.applied, s.settled, s.right, s.regret / max(float64(s.settled), 1)})
		}
	}
	return list
}
