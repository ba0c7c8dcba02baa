package learn

import "math"

// BanditRules says how a Bandit explores, forgets and adopts. The zero value explores nothing, forgets
// nothing and adopts what is cheaper by anything; DefaultBanditRules is for use.
type BanditRules struct {
	// Discount is the share by which all costs seen so far count less after each play of any arm, from 0
	// to less than 1. With 0 nothing is forgotten: that is UCB1. With 0.002 a cost counts e times less 500
	// plays later.
	Discount float64
	// Exploration is the factor c in the bonus sqrt(c ln N / n), at least 0.
	Exploration float64
	// Margin is how much cheaper than the adopted arm another one has to be to take its place, as a share
	// of the cost of the adopted one, from 0 to less than 1.
	Margin float64
	// Streak is how many comparisons in a row have to find it so. 0 counts as 1.
	Streak int
	// Cooldown is the number of plays after an adoption in which no other arm is adopted, at least 0.
	Cooldown int
}

// DefaultBanditRules returns rules for a few arms that are played some thousand times or more.
func DefaultBanditRules() BanditRules {
	return BanditRules{
		// A clear change of the best of three arms is found within 1000 plays, and those that are not the
		// best take 9 % of the plays (TestBanditSwitch, TestBanditForgetting; with a noise of 50 % it is
		// 18 %). With 0.001 these are 1500 plays and 6 %, with 0.005 they are 700 plays and 15 %.
		Discount: 0.002,
		// That of UCB1 (Auer et al., 2002, figure 1), for which its bound on the regret holds. The C
		// hakmem has the same.
		Exploration: 2,
		// As in the C hakmem.
		Margin: 0.08,
		Streak: 3,
		// Half of what Discount remembers: an arm that was adopted gets time to be measured well.
		Cooldown: 250,
	}
}

// windowForgets is the share by which a window of 2 s counts less after each later one, where windows are
// the plays of a Bandit: half of the weight is on the last two minutes.
const windowForgets = 0.01

// windowRules returns rules for plays that are windows of 2 s, of which there are fewer than
// DefaultBanditRules are for. Another arm that is clearly cheaper is adopted within a minute, or within four
// if costs vary by 60 %, and a change of the best one is found within seven (TestWMax).
func windowRules() BanditRules {
	r := DefaultBanditRules()
	r.Discount = windowForgets
	r.Cooldown = 30 // a minute
	return r
}

// valid reports whether a Bandit can follow the rules.
func (r BanditRules) valid() bool {
	share := func(x float64) bool { return x >= 0 && x < 1 }
	return share(r.Discount) && share(r.Margin) && sensible(r.Exploration) && r.Streak >= 0 && r.Cooldown >= 0
}

const (
	// mostBanditArms bounds the memory of a Bandit, at 56 bytes for each arm. The choices of an allocator
	// have 3 to 8.
	mostBanditArms = 64
	// banditNoise is how many standard errors of the difference an arm has to be cheaper to be adopted.
	// Means wander, and they are compared after each play. With 2, two equal arms with much noise replace
	// each other once in 6000 to 10000 plays, with 3 once in 50000 or less often (TestBanditEqual).
	banditNoise = 3
	// leastWeight is where what was seen of an arm counts as forgotten: long before its square is too
	// small for a float64.
	leastWeight = 1e-9
)

// Bandit chooses one of several ARMS, ways to do the same thing, where only playing an arm shows what it
// costs. It says which arm to play next, so that all of them become known well enough and little is lost
// with those that are not the cheapest; and which arm is ADOPTED, the one that is best as far as is
// known. Callers who can afford to try play Next; those who only want the result play Choice.
//
// Next is that of discounted UCB (Garivier, Moulines, On Upper-Confidence Bound Policies for Switching
// Bandit Problems, 2011), and without a discount that of UCB1 (Auer, Cesa-Bianchi, Fischer, Finite-time
// Analysis of the Multiarmed Bandit Problem, 2002): it is the arm with the lowest sum of its mean cost
// and a bonus, -sqrt(c ln N / n), where n is how often the arm was played and N how often all were. Both
// count older plays less. So an arm of which little is known is played although it seems to cost more.
//
// The bonus is meant for costs from 0 to 1. So means are scaled by the RANGE of the costs seen: the
// lowest becomes 0, the highest 1. The range shrinks towards the mean of all costs as these are
// forgotten, so that a change of the machine's speed or a single high cost has an effect for a while
// only. A mean outside counts as 0 or 1: however expensive an arm was, it is tried again.
//
// A caller who measures costs by a clock should leave out those in which its thread was stopped, or cap
// them. A single cost a thousand times as high as the others widens the range a thousandfold, and all
// arms look equal until it is forgotten.
//
// Arm 0 is adopted in the beginning: it is the place for what is right when nothing is known. A Bandit
// allocates nothing after NewBandit. It is for one goroutine at a time.
type Bandit struct {
	rules     BanditRules
	arms      []banditArm
	low, high float64 // the range
	adopted   int
	candidate int // the arm that the last comparison was about
	streak    int // how many comparisons in a row found it cheaper
	cooldown  int // plays in which nothing is adopted
	adoptions uint64
}

// banditArm is what is known of an arm. The weight of a play is 1, and falls by the discount with each
// later one.
type banditArm struct {
	plays   uint64
	weight  float64 // sum of the weights of plays; 0: nothing is known
	squares float64 // sum of their squares
	mean    float64 // of the costs, weighted
	spread  float64 // weighted sum of the squares of the costs' distances from the mean
	out     bool    // it cannot be played
}

// known reports whether a mean of the arm is there to compare.
func (a *banditArm) known() bool { return !a.out && a.weight > 0 }

// add counts one more cost: West's way to update a weighted mean (Updating Mean and Variance Estimates,
// 1979).
func (a *banditArm) add(cost float64) {
	a.plays++
	a.weight++
	a.squares++
	d := cost - a.mean
	a.mean += d / a.weight
	a.spread += d * (cost - a.mean)
}

// fade lets what was seen count less by the factor f.
func (a *banditArm) fade(f float64) {
	a.weight *= f
	a.squares *= f * f
	a.spread *= f
	if a.weight < leastWeight {
		a.weight, a.squares, a.spread, a.mean = 0, 0, 0, 0
	}
}

// error2 returns the square of the standard error of the mean. The range of all costs counts as one more
// play, half of it away from the mean: a few plays that happen to be alike are no proof that all are.
func (a *banditArm) error2(width float64) float64 {
	variance := (a.spread + width*width/4) / (a.weight + 1)
	return variance * a.squares / (a.weight * a.weight)
}

// NewBandit returns a Bandit with the given number of arms of which nothing is known. It panics if there
// are fewer than 1 or more than 64 arms, or if the rules are out of their bounds.
func NewBandit(arms int, r BanditRules) *Bandit {
	if arms < 1 || arms > mostBanditArms {
		panic("learn: a bandit has 1 to 64 arms")
	}
	if !r.valid() {
		panic("learn: the rules of a bandit are out of their bounds")
	}
	return &Bandit{rules: r, arms: make([]banditArm, arms)}
}

// Arms returns the number of arms, with those that are ruled out.
func (b *Bandit) Arms() int { return len(b.arms) }

// Choice returns the arm that is adopted.
func (b *Bandit) Choice() int { return b.adopted }

// Settled reports whether the adopted arm has stayed so for long enough that another one could be adopted, and
// none is on its way to be.
func (b *Bandit) Settled() bool { return b.cooldown == 0 && b.streak == 0 }

// Adoptions returns how often another arm was adopted than the one before.
func (b *Bandit) Adoptions() uint64 { return b.adoptions }

// Plays returns how many plays of the arm were counted.
func (b *Bandit) Plays(arm int) uint64 { return b.arms[arm].plays }

// Mean returns what a play of the arm costs, as the mean of the plays, in which older ones count less. It
// is in the unit of the costs, and 0 if nothing is known of the arm.
func (b *Bandit) Mean(arm int) float64 { return b.arms[arm].mean }

// RuledOut reports whether the arm is ruled out.
func (b *Bandit) RuledOut(arm int) bool { return b.arms[arm].out }

// RuleOut says that the arm cannot be played here, for example because the system lacks what it needs.
// It is neither played nor adopted from now on. If it was adopted, the cheapest of the others is, and the
// first of them if nothing is known. The last arm that is left stays: RuleOut reports whether the arm is
// ruled out now.
func (b *Bandit) RuleOut(arm int) bool {
	left := 0
	for i := range b.arms {
		if !b.arms[i].out && i != arm {
			left++
		}
	}
	if left == 0 {
		return false
	}
	b.arms[arm].out = true
	if b.adopted == arm {
		b.adopt(b.cheapest())
	}
	return true
}

// Next returns the arm to play next. It stays the same until a play is counted. Arms of which nothing is
// known come first; of arms that are equally good, the one with the lowest number.
func (b *Bandit) Next() int {
	total := 0.0
	for i := range b.arms {
		switch a := &b.arms[i]; {
		case a.out:
		case a.weight == 0:
			return i
		default:
			total += a.weight
		}
	}
	// The logarithm of less than one play would be negative.
	explore := b.rules.Exploration * math.Log(max(total, 1))
	next, lowest := 0, math.Inf(1)
	for i := range b.arms {
		if a := &b.arms[i]; !a.out {
			if x := b.scaled(a.mean) - math.Sqrt(explore/a.weight); x < lowest {
				next, lowest = i, x
			}
		}
	}
	return next
}

// scaled returns where a mean lies in the range: 0 at its low end, 1 at its high end.
func (b *Bandit) scaled(mean float64) float64 {
	if b.high <= b.low {
		return 0
	}
	return min(max((mean-b.low)/(b.high-b.low), 0), 1)
}

// Played counts a play of the arm and what it cost. Costs are in any unit, the same for all arms, and
// lower is better. A cost that is negative, 1e18 or more, or no number is not counted, nor is one of an
// arm that is ruled out. So Next names an arm again and again until a play of it is counted; an arm that
// can never be measured has to be ruled out.
func (b *Bandit) Played(arm int, cost float64) {
	if b.arms[arm].out || !sensible(cost) {
		return
	}
	b.widen(cost)
	for i := range b.arms {
		b.arms[i].fade(1 - b.rules.Discount)
	}
	b.arms[arm].add(cost)
	b.compare(arm)
}

// widen lets the range forget and puts a cost into it.
func (b *Bandit) widen(cost float64) {
	sum, total := 0.0, 0.0
	for i := range b.arms {
		sum += b.arms[i].weight * b.arms[i].mean
		total += b.arms[i].weight
	}
	if total == 0 {
		b.low, b.high = cost, cost
		return
	}
	mean := sum / total
	b.low = min(b.low+(mean-b.low)*b.rules.Discount, cost)
	b.high = max(b.high-(b.high-mean)*b.rules.Discount, cost)
}

// cheapest returns the arm with the lowest mean, of those that are known; if none is, the first one that
// is not ruled out.
func (b *Bandit) cheapest() int {
	best := -1
	for i := range b.arms {
		if a := &b.arms[i]; a.known() && (best < 0 || a.mean < b.arms[best].mean) {
			best = i
		}
	}
	for i := 0; best < 0; i++ {
		if !b.arms[i].out {
			best = i
		}
	}
	return best
}

// compare sees whether the cheapest arm is to be adopted, after a play of the given arm.
func (b *Bandit) compare(played int) {
	if b.cooldown > 0 {
		b.cooldown--
		return
	}
	c := b.cheapest()
	if c != b.candidate {
		b.candidate, b.streak = c, 0
	}
	switch {
	case played != c && played != b.adopted: // of these two nothing new is known
	case !b.cheaper(c, b.adopted):
		b.streak = 0
	default:
		if b.streak++; b.streak >= b.rules.Streak {
			b.adopt(c)
		}
	}
}

// cheaper reports whether arm i costs less than arm j, by the margin and beyond the noise.
func (b *Bandit) cheaper(i, j int) bool {
	x, y := &b.arms[i], &b.arms[j]
	if i == j || !x.known() || !y.known() || x.mean >= y.mean*(1-b.rules.Margin) {
		return false
	}
	d, width := y.mean-x.mean, b.high-b.low
	return d*d > banditNoise*banditNoise*(x.error2(width)+y.error2(width))
}

// adopt makes the arm the adopted one.
func (b *Bandit) adopt(arm int) {
	b.adopted, b.candidate, b.streak = arm, arm, 0
	b.cooldown = b.rules.Cooldown
	b.adoptions++
}
