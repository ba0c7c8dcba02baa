package learn

import "math"

const (
	// promise is by how much, as a share, a candidate must be cheaper by its prediction to be tried: the
	// hysteresis of UCB1 in the C hakmem, which kept its choice unless another was better by 8 %.
	promise = 0.08
	// trialGain is by how much it must turn out to be cheaper than the rest: half of the least promise, so
	// that one which keeps its promise and one which changes nothing are equally far from it.
	trialGain = promise / 2
	// trialSigmas is how many standard errors the difference must be away from trialGain before the trial
	// is decided. A trial looks at each window, which gives chance many occasions: of 2000 candidates that
	// changed nothing 0 to 0.8 % were adopted with 3 (TestCanaryEqual), 0 to 6 % with 2.
	trialSigmas = 3
	// trialMiss is by how much, as a share, a candidate may cost more than was predicted: as much as a
	// figure may rise before FROZEN ends. A cost below the prediction is no reason against a candidate.
	trialMiss = worse
	// trialDecisions and trialWindows are the least numbers of decisions of the candidate, and of windows
	// that have some: fewer windows do not tell how much they vary (see leastWindows).
	trialDecisions = 1000
	trialWindows   = 16
	// trialTime is how long a trial lasts at most: ten times as long as LEARN at least. What cannot be told
	// apart by then is not worth more.
	trialTime = 10 * learnTime
)

// trial compares what a candidate costs with what the rest costs. In each window it takes the difference
// of the two means: so what changes from window to window for both plays no part. The differences are
// averaged by the number of the candidate's decisions, and how much they vary says how far the average
// may be off, its STANDARD ERROR. The trial is looked at after each window, and it is decided when the
// average is three standard errors away from 4 % of what the rest costs. What was predicted is compared in
// proportion to the rest, so that more or less load since then plays no part either.
type trial struct {
	predicted float64 // what a decision of the candidate is said to cost, as a multiple of one of the rest

	windows float64 // with decisions of both
	// Sums over the windows of n, the candidate's decisions; of what the candidate and the rest cost for
	// each decision, times n; of n², and of n² times the difference and its square.
	n, candidateCost, restCost, n2, n2d, n2d2 float64
}

// add adds a window, unless one of the two has no decisions, or a cost that is no cost.
func (t *trial) add(candidate, rest Tally) {
	if candidate.Decisions == 0 || rest.Decisions == 0 || !sensible(candidate.Cost) || !sensible(rest.Cost) {
		return
	}
	n := float64(candidate.Decisions)
	c, r := candidate.Cost/n, rest.Cost/float64(rest.Decisions)
	t.windows++
	t.n += n
	t.candidateCost += n * c
	t.restCost += n * r
	t.n2 += n * n
	t.n2d += n * n * (c - r)
	t.n2d2 += n * n * (c - r) * (c - r)
}

// candidate and rest return what a decision costs, ratio the one as a multiple of the other.
func (t *trial) candidate() float64 { return t.candidateCost / t.n }
func (t *trial) rest() float64      { return t.restCost / t.n }
func (t *trial) ratio() float64     { return t.candidateCost / t.restCost }

// standardError returns that of the difference between candidate and rest.
func (t *trial) standardError() float64 {
	d := t.candidate() - t.rest()
	squares := max(t.n2d2-2*d*t.n2d+d*d*t.n2, 0) // of n times (difference - d)
	return math.Sqrt(squares*t.windows/(t.windows-1)) / t.n
}

// verdict returns how the trial ends, or CauseNone if it goes on.
func (t *trial) verdict() Cause {
	if t.n < trialDecisions || t.windows < trialWindows {
		return CauseNone
	}
	beyond := t.candidate() - t.rest()*(1-trialGain) // below 0: cheaper than it must be
	switch sure := trialSigmas * t.standardError(); {
	case beyond > sure:
		return CauseNotCheaper
	case beyond >= -sure:
		return CauseNone
	case t.ratio() > t.predicted*(1+trialMiss):
		return CauseMispredicted
	}
	return CauseConfirmed
}
