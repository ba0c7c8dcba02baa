package learn

import (
	"math"
	"math/rand/v2"
	"testing"
	"unsafe"
)

// machine is what a Bandit of a test plays: arms of known mean costs, and noise.
type machine struct {
	means []float64
	noise float64 // costs are the mean, give or take this share of it; bernoulli: see there
	rng   *rand.Rand
}

// bernoulli, as noise, makes costs that are 0 or 1.
const bernoulli = -1

func newMachine(seed uint64, noise float64, means ...float64) *machine {
	return &machine{means, noise, rand.New(rand.NewPCG(seed, 1))}
}

// cost returns what a play of the arm costs.
func (m *machine) cost(arm int) float64 {
	u := m.rng.Float64()
	if m.noise != bernoulli {
		return m.means[arm] * (1 + m.noise*(2*u-1))
	}
	if u < m.means[arm] {
		return 1
	}
	return 0
}

// best returns the arm with the lowest mean.
func (m *machine) best() int {
	best := 0
	for i, x := range m.means {
		if x < m.means[best] {
			best = i
		}
	}
	return best
}

// play plays the next arm n times and returns the regret: what the means of the arms that were played are
// above the lowest one, summed.
func (m *machine) play(b *Bandit, n int) (regret float64) {
	best := m.means[m.best()]
	for range n {
		arm := b.Next()
		b.Played(arm, m.cost(arm))
		regret += m.means[arm] - best
	}
	return regret
}

// classical returns the rules of UCB1.
func classical() BanditRules {
	r := DefaultBanditRules()
	r.Discount = 0
	return r
}

// TestBanditRegret: without a discount the regret is within the bound of UCB1 (Auer et al., 2002,
// theorem 1).
func TestBanditRegret(t *testing.T) {
	t.Parallel()
	const plays, seeds = 10000, 20
	for _, means := range [][]float64{
		{0.5, 0.6},
		{0.8, 0.2},
		{0.9, 0.9, 0.1},
		{0.4, 0.5, 0.6, 0.7, 0.8},
		{0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.1, 0.3, 0.3, 0.3},
	} {
		for _, noise := range []float64{bernoulli, 0.1} {
			regret := 0.0
			var m *machine
			for seed := range uint64(seeds) {
				m = newMachine(seed, noise, means...)
				regret += m.play(NewBandit(len(means), classical()), plays) / seeds
			}
			bound, chance := 0.0, 0.0
			for _, x := range means {
				d := x - means[m.best()]
				chance += d * plays / float64(len(means))
				if d > 0 {
					bound += 8*math.Log(plays)/d + (1+math.Pi*math.Pi/3)*d
				}
			}
			t.Logf("%v, noise %g: the regret is %.0f, the bound %.0f, by chance %.0f", means, noise, regret, bound, chance)
			if regret > bound || regret > chance/2 {
				t.Errorf("%v, noise %g: the regret is %.0f, the bound %.0f, by chance %.0f", means, noise, regret, bound, chance)
			}
		}
	}
}

// oracle calculates what a Bandit does from all plays so far, each time anew.
type oracle struct {
	rules BanditRules
	arms  int
	who   []int
	costs []float64
}

// squares returns the sum of the squares of the weights of an arm's plays.
func (o *oracle) squares(arm int) (sum float64) {
	for s, who := range o.who {
		if who == arm {
			sum += math.Pow(1-o.rules.Discount, 2*float64(len(o.who)-1-s))
		}
	}
	return sum
}

// mean returns the weight of an arm's plays of the first n, and their mean; all arms' if arm is negative.
func (o *oracle) mean(arm, n int) (weight, mean float64) {
	for s := range n {
		if arm < 0 || o.who[s] == arm {
			w := math.Pow(1-o.rules.Discount, float64(n-1-s))
			weight += w
			mean += w * o.costs[s]
		}
	}
	return weight, mean / weight
}

func (o *oracle) next() int {
	low, high := o.costs[0], o.costs[0]
	for n := 1; n < len(o.costs); n++ {
		_, all := o.mean(-1, n)
		low = min(o.costs[n], low+(all-low)*o.rules.Discount)
		high = max(o.costs[n], high-(high-all)*o.rules.Discount)
	}
	total, _ := o.mean(-1, len(o.costs))
	next, lowest := 0, math.Inf(1)
	for i := range o.arms {
		n, x := o.mean(i, len(o.costs))
		x = max(0, min(1, (x-low)/(high-low))) - math.Sqrt(o.rules.Exploration*math.Log(total)/n)
		if x < lowest {
			next, lowest = i, x
		}
	}
	return next
}

// TestBanditNext: the arm to play and the means are those of the formula.
func TestBanditNext(t *testing.T) {
	t.Parallel()
	for _, discount := range []float64{0, 0.002, 0.05} {
		rules := DefaultBanditRules()
		rules.Discount = discount
		m := newMachine(1, 0.4, 120, 150, 100, 300)
		b := NewBandit(4, rules)
		o := &oracle{rules: rules, arms: 4}
		played := map[int]bool{}
		for n := range 150 {
			arm := b.Next()
			if n < 4 && arm != n {
				t.Fatalf("play %d is of arm %d: each is to be played once", n, arm)
			}
			if n >= 4 && arm != o.next() {
				t.Fatalf("discount %g: play %d is of arm %d, want %d", discount, n, arm, o.next())
			}
			played[arm] = true
			o.who, o.costs = append(o.who, arm), append(o.costs, m.cost(arm))
			b.Played(arm, o.costs[n])
			for i := range played {
				weight, mean := o.mean(i, n+1)
				if a := b.arms[i]; math.Abs(a.weight-weight) > 1e-9 || math.Abs(b.Mean(i)-mean) > 1e-9 {
					t.Fatalf("discount %g: arm %d has the mean %g of %g plays, want %g of %g", discount, i, b.Mean(i), a.weight, mean, weight)
				}
				if got, want := b.arms[i].squares, o.squares(i); math.Abs(got-want) > 1e-9 {
					t.Fatalf("discount %g: the squares of the weights of arm %d are %g, want %g", discount, i, got, want)
				}
			}
		}
	}
}

// TestBanditSwitch: when another arm becomes the best, it is adopted within 1000 plays, and within 1500 if
// costs are 0 or 1. Without a discount it is not.
func TestBanditSwitch(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		noise float64
		means []float64
		plays int
	}{
		{0.1, []float64{100, 150, 200}, 1000},
		{0.5, []float64{100, 150, 200}, 1000},
		{bernoulli, []float64{0.3, 0.5, 0.7}, 1500},
	} {
		most := 0
		for seed := range uint64(20) {
			// adopted returns after how many plays the new best arm is adopted.
			adopted := func(r BanditRules) int {
				m := newMachine(seed, x.noise, x.means...)
				b := NewBandit(3, r)
				m.play(b, 5000)
				if b.Choice() != 0 {
					t.Errorf("noise %g, seed %d: arm %d is adopted before the switch", x.noise, seed, b.Choice())
				}
				m.means = []float64{x.means[2], x.means[1], x.means[0]}
				n := 0
				for ; b.Choice() != 2 && n <= x.plays; n++ {
					m.play(b, 1)
				}
				return n
			}
			n := adopted(DefaultBanditRules())
			most = max(most, n)
			if n > x.plays {
				t.Errorf("noise %g, seed %d: the new best arm is not adopted in %d plays", x.noise, seed, x.plays)
			}
			if n := adopted(classical()); n <= x.plays {
				t.Errorf("noise %g, seed %d: without a discount the new best arm is adopted in %d plays: the test shows nothing", x.noise, seed, n)
			}
		}
		t.Logf("noise %g: after at most %d plays", x.noise, most)
	}
}

// TestBanditForgetting: what it costs to forget is a few percent of the plays; and a single cost that is
// out of all proportion is forgotten.
func TestBanditForgetting(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		m := newMachine(seed, 0.1, 100, 150, 200)
		b := NewBandit(3, DefaultBanditRules())
		m.play(b, 20000)
		if share := float64(b.Plays(1)+b.Plays(2)) / 20000; share > 0.10 {
			t.Errorf("seed %d: %.3f of the plays are of arms that are not the best", seed, share)
		} else if seed == 0 {
			t.Logf("%.3f of the plays are of arms that are not the best", share)
		}
		b.Played(0, 1e5)
		m.play(b, 6000)
		was := b.Plays(0)
		if m.play(b, 1000); b.Choice() != 0 || b.Plays(0)-was < 800 {
			t.Errorf("seed %d: after an outlier arm %d is adopted, and the best is played %d times in 1000", seed, b.Choice(), b.Plays(0)-was)
		}
	}
}

// TestBanditEqual: of two arms that cost the same, another one is rarely adopted, although which of them
// seems to cost less changes often.
func TestBanditEqual(t *testing.T) {
	t.Parallel()
	for _, x := range []struct{ noise, mean float64 }{{0.1, 100}, {0.5, 100}, {1, 100}, {bernoulli, 0.3}} {
		adoptions, changes := 0, 0
		for seed := range uint64(20) {
			m := newMachine(seed, x.noise, x.mean, x.mean)
			b := NewBandit(2, DefaultBanditRules())
			for range 10000 {
				was := b.cheapest()
				if m.play(b, 1); b.cheapest() != was {
					changes++
				}
			}
			if n := b.Adoptions(); n > 4 {
				t.Errorf("noise %g, seed %d: %d adoptions", x.noise, seed, n)
			}
			adoptions += int(b.Adoptions())
		}
		t.Logf("noise %g: %d adoptions in 20 times 10000 plays, %d changes of the lower mean", x.noise, adoptions, changes)
		if adoptions > 20 || changes < 200 {
			t.Errorf("noise %g: %d adoptions, %d changes of the lower mean", x.noise, adoptions, changes)
		}
	}
}

// TestBanditFewPlays: a few costs that happen to be alike are no reason to adopt an arm.
func TestBanditFewPlays(t *testing.T) {
	t.Parallel()
	const seeds = 1000
	adopted := 0
	for seed := range uint64(seeds) {
		m := newMachine(seed, bernoulli, 0.5, 0.5)
		b := NewBandit(2, DefaultBanditRules())
		m.play(b, 50)
		adopted += b.Choice()
	}
	t.Logf("of two arms that cost the same, the second is adopted within 50 plays in %d of %d runs", adopted, seeds)
	// If nothing but the costs themselves said how much they vary, it would be 135.
	if adopted > 75 {
		t.Errorf("of two arms that cost the same, the second is adopted within 50 plays in %d of %d runs", adopted, seeds)
	}
}

// TestBanditShuffled is a control: where each play gets the cost of an arm that was drawn, the best one
// is adopted no more often than any other.
func TestBanditShuffled(t *testing.T) {
	t.Parallel()
	const seeds, arms, plays = 200, 4, 1000
	adopted, played := 0, 0.0
	for seed := range uint64(seeds) {
		m := newMachine(seed, 0.2, 200, 200, 200, 200)
		best := m.rng.IntN(arms)
		m.means[best] = 100
		b := NewBandit(arms, DefaultBanditRules())
		for range plays {
			b.Played(b.Next(), m.cost(m.rng.IntN(arms)))
		}
		if b.Choice() == best {
			adopted++
		}
		played += float64(b.Plays(best)) / plays / seeds
	}
	t.Logf("the best of %d arms is adopted in %d of %d runs, and has %.3f of the plays", arms, adopted, seeds, played)
	// 50 are expected, with a standard deviation of 6.1.
	if adopted > 75 || adopted < 25 || math.Abs(played-1.0/arms) > 0.03 {
		t.Errorf("the best of %d arms is adopted in %d of %d runs, and has %.3f of the plays", arms, adopted, seeds, played)
	}
}

// TestBanditAdopts: an arm is adopted if it costs less by the margin, and so only.
func TestBanditAdopts(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		name  string
		costs []float64
		want  int
	}{
		{"one arm", []float64{7}, 0},
		{"costs of 0", []float64{0, 0, 0}, 0},
		{"equal", []float64{5, 5, 5}, 0},
		{"7 % cheaper", []float64{100, 93}, 0},
		{"9 % cheaper", []float64{100, 91}, 1},
		{"0 against something", []float64{5, 0}, 1},
		{"something against 0", []float64{0, 5}, 0},
		{"the cheapest of three", []float64{100, 80, 60}, 2},
		{"close behind the first that was adopted", []float64{100, 60, 58}, 1},
		{"large costs", []float64{9e17, 1e17}, 1},
		{"tiny costs", []float64{9e-100, 1e-100}, 1},
	} {
		m := newMachine(1, 0, x.costs...)
		b := NewBandit(len(x.costs), DefaultBanditRules())
		if x.name == "close behind the first that was adopted" {
			for range 10 { // before the third is known
				b.Played(0, x.costs[0])
				b.Played(1, x.costs[1])
			}
		}
		m.play(b, 3000)
		if b.Choice() != x.want {
			t.Errorf("%s: arm %d is adopted, want %d", x.name, b.Choice(), x.want)
		}
		for i, c := range x.costs {
			if math.Abs(b.Mean(i)-c) > 1e-9*c || b.Plays(i) == 0 {
				t.Errorf("%s: arm %d costs %g in %d plays, want %g", x.name, i, b.Mean(i), b.Plays(i), c)
			}
		}
	}
}

// TestBanditEqualTurns: arms that cost the same are played equally often.
func TestBanditEqualTurns(t *testing.T) {
	t.Parallel()
	for _, cost := range []float64{0, 5} {
		b := NewBandit(3, classical())
		newMachine(1, 0, cost, cost, cost).play(b, 300)
		for i := range b.Arms() {
			if b.Plays(i) != 100 {
				t.Errorf("arm %d of three that cost %g is played %d times in 300", i, cost, b.Plays(i))
			}
		}
	}
}

// TestBanditStreak: as many comparisons in a row as the rules say are needed, and none counts that says
// nothing new or falls into the cooldown.
func TestBanditStreak(t *testing.T) {
	t.Parallel()
	// adopted returns after how many plays arm 1 is adopted, if the arms are played as the list says.
	adopted := func(r BanditRules, arms ...int) int {
		b := NewBandit(3, r)
		for n := range 1000 {
			if b.Choice() == 1 {
				return n
			}
			arm := arms[n%len(arms)]
			b.Played(arm, []float64{100, 50, 1000}[arm])
		}
		return -1
	}
	r := BanditRules{Exploration: 2, Margin: 0.08, Streak: 1}
	once := adopted(r, 0, 1)
	r.Streak = 3
	if n := adopted(r, 0, 1); once < 2 || n != once+2 {
		t.Errorf("adopted after %d plays, with a streak of 3 after %d", once, n)
	}
	r.Streak = 0
	if n := adopted(r, 0, 1); n != once {
		t.Errorf("adopted after %d plays, with a streak of 0 after %d", once, n)
	}

	// A play of another arm says nothing of these two, until that is the cheapest: then it is compared.
	b := NewBandit(3, BanditRules{Exploration: 2, Margin: 0.08, Streak: 100})
	b.Played(2, 1000)
	for b.streak < 10 {
		b.Played(0, 100)
		b.Played(1, 50)
	}
	was := b.streak
	if b.Played(2, 1000); b.streak != was || b.candidate != 1 {
		t.Errorf("after a play of another arm the streak is %d, before it was %d", b.streak, was)
	}
	for b.candidate == 1 {
		b.Played(2, 0)
	}
	if b.streak > 1 {
		t.Errorf("another arm is the cheapest, and the streak is %d", b.streak)
	}

	// A comparison that fails ends the streak.
	b = NewBandit(2, BanditRules{Exploration: 2, Margin: 0.08, Streak: 3})
	for range 10 {
		b.Played(0, 100)
		b.Played(1, 95)
	}
	b.Played(1, 0) // now it is 13 % cheaper, but it varies
	for i := 0; i < 1000 && b.streak < 2; i++ {
		b.Played(1, 80)
	}
	b.Played(0, 20)
	if b.streak != 0 || b.Choice() != 0 {
		t.Errorf("after a comparison that fails the streak is %d, and arm %d is adopted", b.streak, b.Choice())
	}

	// After an adoption there is none in the cooldown.
	r = BanditRules{Discount: 0.1, Exploration: 2, Margin: 0.08, Streak: 3, Cooldown: 200}
	b = NewBandit(2, r)
	m := newMachine(1, 0, 100, 50)
	for b.Adoptions() == 0 {
		m.play(b, 1)
	}
	m.means = []float64{50, 100}
	if m.play(b, 200); b.Adoptions() != 1 || b.Mean(0) > 60 || b.Mean(1) < 90 {
		t.Errorf("in the cooldown there are %d adoptions", b.Adoptions())
	}
	if m.play(b, 50); b.Choice() != 0 || b.Adoptions() != 2 {
		t.Errorf("after the cooldown arm %d is adopted, after %d adoptions", b.Choice(), b.Adoptions())
	}
}

// TestBanditRuleOut: an arm that is ruled out is neither played nor adopted.
func TestBanditRuleOut(t *testing.T) {
	t.Parallel()
	m := newMachine(1, 0, 100, 50, 80)
	b := NewBandit(3, DefaultBanditRules())
	m.play(b, 500)
	if b.Choice() != 1 {
		t.Fatalf("arm %d is adopted", b.Choice())
	}
	if !b.RuleOut(1) || !b.RuledOut(1) || b.RuledOut(2) || b.Choice() != 2 {
		t.Errorf("the best is ruled out, and arm %d is adopted, want the next best", b.Choice())
	}
	was := b.Plays(1)
	b.Played(1, 1)
	m.play(b, 500)
	if b.Plays(1) != was || b.Choice() != 2 {
		t.Errorf("an arm that is ruled out is played %d times, arm %d is adopted", b.Plays(1)-was, b.Choice())
	}
	if !b.RuleOut(1) || !b.RuleOut(2) || b.RuleOut(0) || b.RuledOut(0) || b.Choice() != 0 || b.Next() != 0 {
		t.Errorf("one arm is left, arm %d is adopted, and %d the next", b.Choice(), b.Next())
	}
	b = NewBandit(3, DefaultBanditRules())
	if b.RuleOut(0); b.Choice() != 1 || b.Next() != 1 {
		t.Errorf("nothing is known, arm 0 is ruled out, arm %d is adopted, and %d the next", b.Choice(), b.Next())
	}
}

// TestBanditOddCosts: costs that cannot be are not counted. One arm that is played without end does not
// make the others unusable.
func TestBanditOddCosts(t *testing.T) {
	t.Parallel()
	b := NewBandit(2, DefaultBanditRules())
	for _, c := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), -1, 1e18} {
		if b.Played(0, c); b.Plays(0) != 0 || b.Next() != 0 {
			t.Errorf("a cost of %g is counted", c)
		}
	}
	b = NewBandit(2, BanditRules{Discount: 0.5, Exploration: 2})
	b.Played(1, 80)
	for range 3000 {
		b.Played(0, 100)
	}
	if err := NewBandit(2, BanditRules{}).Restore(b.Snapshot()); err != nil || b.Next() != 1 || b.Plays(1) != 1 || b.Mean(1) != 0 {
		t.Errorf("arm 1 was played long ago: its mean is %g, arm %d the next: %v", b.Mean(1), b.Next(), err)
	}
}

func TestNewBandit(t *testing.T) {
	t.Parallel()
	good := DefaultBanditRules()
	for _, x := range []struct {
		arms int
		do   func(*BanditRules)
	}{
		{0, func(*BanditRules) {}},
		{65, func(*BanditRules) {}},
		{2, func(r *BanditRules) { r.Discount = 1 }},
		{2, func(r *BanditRules) { r.Discount = math.NaN() }},
		{2, func(r *BanditRules) { r.Exploration = -1 }},
		{2, func(r *BanditRules) { r.Margin = 1 }},
		{2, func(r *BanditRules) { r.Streak = -1 }},
		{2, func(r *BanditRules) { r.Cooldown = -1 }},
	} {
		r := good
		x.do(&r)
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("NewBandit(%d, %+v) does not panic", x.arms, r)
				}
			}()
			NewBandit(x.arms, r)
		}()
	}
	if b := NewBandit(64, good); b.Arms() != 64 || b.Choice() != 0 || b.Next() != 0 || b.Mean(3) != 0 {
		t.Errorf("%d arms, arm %d is adopted, %d the next", b.Arms(), b.Choice(), b.Next())
	}
}

// TestBanditMemory: the largest Bandit and a Board together take less than 64 KiB, and no call allocates.
func TestBanditMemory(t *testing.T) {
	bandit := unsafe.Sizeof(Bandit{}) + mostBanditArms*unsafe.Sizeof(banditArm{})
	board := unsafe.Sizeof(Board{}) + unsafe.Sizeof(rand.Rand{}) + unsafe.Sizeof(rand.PCG{})
	t.Logf("a Bandit takes up to %d bytes, a Board %d", bandit, board)
	if bandit+board >= 64<<10 {
		t.Errorf("a Bandit takes %d bytes, a Board %d", bandit, board)
	}
	b := NewBandit(8, DefaultBanditRules())
	cost := 1.0
	if n := testing.AllocsPerRun(1000, func() {
		cost = math.Mod(cost*1.7, 10)
		b.Played(b.Next(), cost)
		b.Choice()
		b.RuleOut(3)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
