package learn

import (
	"math"
	"time"
)

// Deciding says who decides about the Strategy in force.
type Deciding uint8

const (
	DecideNone   Deciding = iota // nobody: the strategy {1, 1} stays, and the Board says what others would do
	DecideLeader                 // the leader of the Board, by shadow matches
	DecideReal                   // nobody: strategies are used in turns, in real matches
)

var decidings = []string{"shadow", "leader", "real"}

func (d Deciding) String() string { return nameOf(decidings, d) }

// Learner stands above a Model. Once in a window it judges what the Model's hold times cost, and decides
// what is above the single hold time: whether learning goes on (Evolution), and which Strategy is in force.
// It writes down what was decided (Log). A Learner has no clock. It is for one goroutine at a time.
type Learner struct {
	evolution *Evolution
	board     *Board
	deciding  Deciding
	log       Log
	// thresholds are only compared.
	thresholds *Thresholds

	now       time.Duration // the end of the last window
	strategy  int           // in force, of Strategies
	candidate int           // in CANARY
	leader    int           // of the Board, when last looked at
	// costs are the means of what a wait costs with each of HoldScales, and of all windows before the less
	// the older they are.
	costs [len(HoldScales)]float64
	holds [Bands]heldBand
	price float64 // that was noted last
}

// heldBand is what a Learner has noted of a band's hold time.
type heldBand struct {
	noted           float64 // seconds
	seq             Seq     // of the decision, 0 if its outcome is known
	waits, realised float64 // since the decision
}

// Report says what an allocator saw in a window, besides what its Model saw.
type Report struct {
	End   time.Duration // when the window ended, since any fixed moment
	Pages float64       // GiB of a page of the Model
	Fixed bool          // the allocator keeps pages for a time of its own: the Model's hold times are only noted
	Sizes [SizeBins]uint32
	// CacheCPU is the CPU time that it took to move blocks out of caches and in again, CacheMemory what the
	// caches held, in GiB·s.
	CacheCPU, CacheMemory float64
	Large                 [LargeBins]LargeUse
	P99                   float64 // of the time that allocations took, in ns. 0: not known
	Real                  Sample  // what the process used, for real matches. CPU 0: not known
}

const (
	// leastWaits is how many waits a window needs for its cost to say something: with fewer, one wait that
	// ends late moves the cost by more than the 20 % that count.
	leastWaits = 64
	// costWindows is of how many windows a mean cost is, roughly: as many as a match has.
	costWindows = matchWindows
	// holdNoted is the factor by which a hold time changes before that is noted as a decision: two steps of
	// the Arms.
	holdNoted = 2
)

// NewLearner returns a Learner that has seen no window. The seed is that of the Board.
func NewLearner(p EvolutionPolicy, d Deciding, seed uint64) *Learner {
	return &Learner{evolution: NewEvolution(p), board: NewBoard(seed), deciding: d, thresholds: NewThresholds()}
}

// Policy returns the policy of the Evolution, and Deciding who decides about the Strategy.
func (l *Learner) Policy() EvolutionPolicy { return l.evolution.Policy() }
func (l *Learner) Deciding() Deciding      { return l.deciding }

// Strategy returns the Strategy in force.
func (l *Learner) Strategy() Strategy { return Strategies[l.strategy] }

// Log returns the decisions.
func (l *Learner) Log() *Log { return &l.log }

// Board returns the Board, and Evolution the Evolution, for display.
func (l *Learner) Board() *Board         { return l.board }
func (l *Learner) Evolution() *Evolution { return l.evolution }

// RestoreBoard replaces how the strategies stand. Where the leader decides, it is in force from now on: the
// caller applies Strategy. If s is damaged, RestoreBoard returns an error and changes nothing.
func (l *Learner) RestoreBoard(s BoardSnapshot) error {
	if err := l.board.Restore(s); err != nil {
		return err
	}
	l.leader = l.board.Leader()
	if l.deciding == DecideLeader && l.Policy() != EvolutionOff {
		l.strategy = l.leader
	}
	return nil
}

// Window judges a window of m, and sets what follows for the next one: m's scale, its trial, and whether it
// is frozen. The caller applies Strategy().Budget.
func (l *Learner) Window(m *Model, r Report) {
	l.now = r.End
	j := m.Judge()
	w := Window{End: r.End, P99: r.P99, Sizes: r.Sizes, Candidate: j.Candidate, Rest: j.Rest}
	if j.Waits >= leastWaits {
		w.Cost = j.Dearness()
	}
	l.became(m, l.evolution.Window(w))
	l.settleHolds(m, &j)
	if j.Waits > 0 || r.CacheCPU > 0 {
		l.board.Record(samples(&j, &r))
	}
	if r.Pages > 0 {
		l.thresholds.Window(r.Large, Costs{m.costs.Fault / r.Pages, m.costs.Return / r.Pages, m.costs.Hold / r.Pages})
	}
	for s, x := range j.Scaled {
		if j.Waits > 0 {
			cost := (x.CPU + x.Memory*m.costs.Hold) / j.Waits
			l.costs[s] += (cost - l.costs[s]) / costWindows
		}
	}
	if leader := l.board.Leader(); leader != l.leader {
		l.note(Decision{Kind: KindLeader, From: float64(l.leader), To: float64(leader), Applied: l.deciding == DecideLeader && l.evolution.Mode() == ModeLearn})
		l.leader = leader
	}
	switch l.deciding {
	case DecideLeader:
		l.lead(m)
	case DecideReal:
		if r.Real.CPU > 0 {
			l.board.Played(l.strategy, r.Real)
		}
		l.strategy, _ = l.board.Pair()
	}
	m.SetScale(Strategies[l.strategy].Hold)
	m.Freeze(l.evolution.Mode() != ModeLearn)
	l.noteHolds(m, !r.Fixed)
}

// became does what a change of mode asks for.
func (l *Learner) became(m *Model, t Transition) {
	if t.Why == CauseNone {
		return
	}
	l.note(t.Decision(l.now))
	if t.From == ModeCanary {
		m.SetTrial(1, nil)
	}
	switch {
	case t.Why == CauseConfirmed:
		l.strategy = l.candidate
	case t.To == ModeCanary:
		m.SetTrial(Strategies[l.candidate].Hold, l.evolution.Canary)
	}
}

// lead puts the leader of the board in force: at once in LEARN, and by way of a trial in FROZEN.
func (l *Learner) lead(m *Model) {
	switch l.evolution.Mode() {
	case ModeLearn:
		l.strategy = l.leader
	case ModeFrozen:
		if l.leader == l.strategy {
			return
		}
		l.candidate = l.leader
		predicted, current := l.costs[scaleOf(l.leader)], l.costs[scaleOf(l.strategy)]
		l.became(m, l.evolution.Propose(predicted, current))
	}
}

// scaleOf returns the place of a strategy's hold scale in HoldScales.
func scaleOf(strategy int) int {
	for i, s := range HoldScales {
		if s == Strategies[strategy].Hold {
			return i
		}
	}
	panic("learn: a strategy has a hold scale that is not compared")
}

// samples returns what each strategy would have cost in a window. A cache with half the room moves twice
// as many blocks (RoomCosts.Fit).
func samples(j *Judgement, r *Report) (list [nStrategies]Sample) {
	for i, s := range Strategies {
		x := j.Scaled[scaleOf(i)]
		list[i] = Sample{
			CPU:    x.CPU + r.CacheCPU/s.Budget,
			Faults: x.Faults,
			Memory: x.Memory*r.Pages + r.CacheMemory*s.Budget,
		}
	}
	return list
}

// note adds a decision of this window to the Log.
func (l *Learner) note(d Decision) Seq {
	d.At = l.now
	return l.log.Note(d)
}

// NotePrice notes the price of memory in force, CPU seconds for a GiB·s, if it is another one than before.
func (l *Learner) NotePrice(price float64) {
	if l.price != 0 && l.price != price {
		l.note(Decision{Kind: KindPrice, From: l.price, To: price, Applied: true})
	}
	l.price = price
}

// NoteLane notes that the blocks of a site go to the long lane from now on, or to the common one.
func (l *Learner) NoteLane(site uint32, long bool) {
	d := Decision{Kind: KindLane, Where: site, From: 1, Applied: true}
	if long {
		d.From, d.To = 0, 1
	}
	l.note(d)
}

// NoteSize notes that a class was made for the size that p proposes.
func (l *Learner) NoteSize(p SizeProposal) {
	l.note(Decision{Kind: KindSize, Where: uint32(p.Size), From: float64(p.Instead), To: float64(p.Size), Applied: true})
}

// NoteAdopted notes that a bandit has adopted another arm: the decision, without its time.
func (l *Learner) NoteAdopted(d Decision) { l.note(d) }

// NoteTouch notes that the memory of fresh blocks comes in another way from now on.
func (l *Learner) NoteTouch(c TouchChange) {
	l.note(Decision{Kind: KindTouch, Where: TouchWhere(c.Site, c.Group), From: float64(c.From), To: float64(c.To), Predicted: c.Cost, Applied: true})
}

// NoteHuge notes that another share of the superslabs that stay as they are becomes huge pages from now on, and
// what a miss of a magazine is expected to cost then. It returns the number for Log.Settle. why is CauseRefused
// or CauseNone.
func (l *Learner) NoteHuge(from, to, predicted float64, why Cause) Seq {
	return l.note(Decision{Kind: KindHuge, From: from, To: to, Predicted: predicted, Why: why, Applied: true})
}

// NoteBudget notes that the caches together may hold so many bytes now, as far as they did before.
func (l *Learner) NoteBudget(from, to float64) {
	l.note(Decision{Kind: KindBudget, From: from, To: to, Applied: true})
}

// settleHolds adds what the waits of each band cost, and says what came of decisions that are old enough.
func (l *Learner) settleHolds(m *Model, j *Judgement) {
	for i := range l.holds {
		h := &l.holds[i]
		h.waits += j.Bands[i].Waits
		h.realised += j.Bands[i].Realised
		if h.seq != 0 && h.waits >= max(m.size(), leastWaits) {
			l.log.Settle(h.seq, h.realised/h.waits)
			h.seq = 0
		}
	}
}

// noteHolds notes the hold times that have changed much since they were last noted.
func (l *Learner) noteHolds(m *Model, applied bool) {
	for i := range l.holds {
		h, hold := &l.holds[i], m.scale*m.mean(i)
		if h.noted == 0 {
			h.noted = max(hold, 1e-3)
			continue
		}
		if r := math.Abs(math.Log((hold + 0.05) / (h.noted + 0.05))); r < math.Log(holdNoted) {
			continue
		}
		d := Decision{Kind: KindHold, Where: uint32(i), From: h.noted, To: hold, Predicted: m.expected(i), Applied: applied}
		*h = heldBand{noted: max(hold, 1e-3), seq: l.note(d)}
	}
}
