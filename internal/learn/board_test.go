package learn

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// program is a synthetic one of which it is known what each strategy costs.
type program struct {
	cost   [nStrategies]float64 // the mean cost of a window, each part of it
	load   float64              // noise that all strategies feel alike: the standard deviation of its logarithm
	noise  float64              // the same, of each strategy and each part alone
	tilt   [nStrategies]float64 // how much more CPU time a strategy takes, for less memory, as a logarithm
	mixed  bool                 // the samples of a window are dealt to the strategies at random
	rng    *rand.Rand
	sample Sample // the unit of each part
}

// newProgram returns a program on which one strategy, which is drawn, costs less than the next best by the
// margin. Each further one costs more by the step.
func newProgram(seed uint64, noise, margin, step float64) (p *program, best int) {
	p = &program{load: 0.5, noise: noise, rng: rand.New(rand.NewPCG(seed, 2)), sample: Sample{0.02, 700, 0.3}}
	for k, i := range p.rng.Perm(nStrategies) {
		if p.cost[i] = 1 + float64(k-1)*step; k == 0 {
			best, p.cost[i] = i, 1-margin
		}
		p.tilt[i] = 0.4*p.rng.Float64() - 0.2
	}
	return p, best
}

// window returns what a window costs under each strategy.
func (p *program) window() (w [nStrategies]Sample) {
	factor := func(sigma float64) float64 { return math.Exp(sigma * p.rng.NormFloat64()) }
	load := Sample{factor(p.load), factor(p.load), factor(p.load)}
	for i := range w {
		c, tilt := p.cost[i], p.tilt[i]
		w[i] = Sample{
			CPU:    p.sample.CPU * load.CPU * c * factor(p.noise) * math.Exp(tilt/weightCPU),
			Faults: p.sample.Faults * load.Faults * c * factor(p.noise),
			Memory: p.sample.Memory * load.Memory * c * factor(p.noise) * math.Exp(-tilt/weightMemory),
		}
	}
	if p.mixed {
		p.rng.Shuffle(nStrategies, func(i, j int) { w[i], w[j] = w[j], w[i] })
	}
	return w
}

// record plays n windows.
func (p *program) record(b *Board, n int) {
	for range n {
		b.Record(p.window())
	}
}

// matches50 is the number of windows after which 50 shadow matches were played.
const matches50 = matchWindows - 1 + 50

// checkPoints fails if points or counters got lost.
func checkPoints(t *testing.T, b *Board, matches uint64) {
	t.Helper()
	var sum float64
	var wins, losses, draws uint64
	for _, s := range b.Ranking() {
		sum += s.Rating
		wins += s.Wins
		losses += s.Losses
		draws += s.Draws
	}
	if math.Abs(sum-nStrategies*startRating) > 1e-6 || wins != losses || wins+draws/2 != matches || draws%2 != 0 {
		t.Errorf("%g points, %d wins, %d losses and %d draws in %d matches", sum, wins, losses, draws, matches)
	}
}

// ahead returns how many points the strategy is ahead of the best other one.
func ahead(b *Board, strategy int) float64 {
	most := math.Inf(-1)
	for i, p := range b.players {
		if i != strategy {
			most = max(most, p.Rating)
		}
	}
	return b.players[strategy].Rating - most
}

// TestBoardLeader: after 50 matches the strategy that costs least is at least 100 points ahead of every
// other one.
func TestBoardLeader(t *testing.T) {
	t.Parallel()
	for _, x := range []struct{ margin, step, noise float64 }{
		{0.10, 0, 0.05},
		{0.10, 0, 0.15},
		{0.10, 0.02, 0.10},
		{0.10, 0.10, 0.15},
		{0.20, 0, 0.30},
		{0.20, 0.02, 0.30},
		{0.30, 0, 0.40},
	} {
		least, mean := math.Inf(1), 0.0
		const seeds = 40
		for n := range uint64(seeds) {
			seed := n
			if n >= 20 {
				seed = 980 + n
			}
			p, best := newProgram(seed, x.noise, x.margin, x.step)
			b := NewBoard(seed)
			p.record(b, matches50)
			checkPoints(t, b, 50)
			lead := ahead(b, best)
			if lead < 100 || b.Leader() != best || b.Ranking()[0].Strategy != best {
				t.Errorf("%+v, seed %d: strategy %d is %.0f points ahead, %d leads", x, seed, best, lead, b.Leader())
			}
			least, mean = min(least, lead), mean+lead/seeds
		}
		t.Logf("%.0f %% cheaper, noise %.0f %%: %.0f points ahead on average, at least %.0f", 100*x.margin, 100*x.noise, mean, least)
	}
}

// TestBoardEqual: where all strategies cost the same, nearly all matches are draws, and ratings stay where
// they were. The same holds for the control, where the samples of each window are dealt at random.
func TestBoardEqual(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		name        string
		step, noise float64
	}{{"equal", 0, 0.15}, {"equal", 0, 0.4}, {"dealt at random", 0.1, 0.15}} {
		var off, lead float64
		var draws, all uint64
		for seed := range uint64(20) {
			p, _ := newProgram(seed, x.noise, 0, x.step)
			if p.mixed = x.step > 0; !p.mixed {
				p.tilt = [nStrategies]float64{}
			}
			b := NewBoard(seed)
			p.record(b, matches50+150)
			checkPoints(t, b, 200)
			for _, s := range b.Ranking() {
				off = max(off, math.Abs(s.Rating-startRating))
				draws += s.Draws
				all += s.Draws + s.Wins + s.Losses
			}
			lead = max(lead, ahead(b, b.Leader()))
		}
		t.Logf("%s, noise %.0f %%: ratings within %.0f points, the leader up to %.0f ahead, %.1f %% draws", x.name, 100*x.noise, off, lead, 100*float64(draws)/float64(all))
		if off > 120 || lead > 90 || float64(draws) < 0.97*float64(all) {
			t.Errorf("%s, noise %g: ratings within %.0f points, the leader up to %.0f ahead, %d of %d are draws", x.name, x.noise, off, lead, draws, all)
		}
	}
}

// TestBoardChange: when costs change so that a strategy that is inactive becomes the best, it leads within
// 300 windows.
func TestBoardChange(t *testing.T) {
	t.Parallel()
	most := 0
	for seed := range uint64(20) {
		p, best := newProgram(seed, 0.15, 0.1, 0.1)
		b := NewBoard(seed)
		p.record(b, 500)
		if b.Leader() != best {
			t.Errorf("seed %d: before the change %d leads, want %d", seed, b.Leader(), best)
		}
		lowest := b.Ranking()[nStrategies-1]
		if lowest.Active {
			t.Errorf("seed %d: %+v is active", seed, lowest)
		}
		p.cost[lowest.Strategy] = 0.85 * p.cost[best]
		n := 0
		for ; b.Leader() != lowest.Strategy && n <= 300; n++ {
			p.record(b, 1)
		}
		most = max(most, n)
		if n > 300 {
			t.Errorf("seed %d: the best strategy is at %+v after 300 windows", seed, b.players[lowest.Strategy])
		}
		p.record(b, 200)
		if lead := ahead(b, lowest.Strategy); lead < 100 {
			t.Errorf("seed %d: the best strategy is %.0f points ahead 200 windows later", seed, lead)
		}
		checkPoints(t, b, uint64(500+n+200-matchWindows+1))
	}
	t.Logf("after at most %d windows", most)
}

// realMatch plays a real match.
func (p *program) realMatch(t *testing.T, b *Board) {
	t.Helper()
	first, second := b.Pair()
	for k := range 2 * matchWindows {
		use, against := b.Pair()
		if want := [2][2]int{{first, second}, {second, first}}[k%2]; want != [2]int{use, against} {
			t.Fatalf("window %d of the match of %d and %d is one of %d and %d", k, first, second, use, against)
		}
		b.Played(use, p.window()[use])
	}
}

// TestBoardReal: real matches find the best strategy as well, also if each window has its own load.
func TestBoardReal(t *testing.T) {
	t.Parallel()
	for seed := range uint64(10) {
		p, best := newProgram(seed, 0.1, 0.3, 0)
		p.load = 0.2
		b := NewBoard(seed)
		for range 50 {
			p.realMatch(t, b)
		}
		checkPoints(t, b, 50)
		if lead := ahead(b, best); lead < 100 || b.Leader() != best {
			t.Errorf("seed %d: strategy %d is %.0f points ahead, %d leads", seed, best, lead, b.Leader())
		}
	}
}

// TestBoardPlayed: what belongs to no match is left out, and no rating changes before its end.
func TestBoardPlayed(t *testing.T) {
	t.Parallel()
	b := NewBoard(1)
	good := Sample{1, 1, 1}
	b.Played(0, good)
	use, against := b.Pair()
	other := 0
	for other == use || other == against {
		other++
	}
	b.Played(other, good)
	for _, x := range []float64{-1, math.NaN(), math.Inf(1), 1e18} {
		b.Played(use, Sample{CPU: x})
		b.Played(use, Sample{Faults: x})
		b.Played(use, Sample{Memory: x})
	}
	if u, a := b.Pair(); u != use || a != against || b.players[use].Samples != 0 || b.players[other].Samples != 0 {
		t.Errorf("windows are counted that should not be: %+v", b.players)
	}
	for range matchWindows + 5 {
		b.Played(use, good)
	}
	for range matchWindows - 1 {
		b.Played(against, Sample{1, 2, 1})
	}
	if b.players[use].Samples != matchWindows {
		t.Errorf("%d windows of one strategy are counted in a match", b.players[use].Samples)
	}
	checkPoints(t, b, 0)
	b.Played(against, Sample{1, 2, 1})
	checkPoints(t, b, 1)
	if x, y := b.players[use], b.players[against]; x.Rating != 1516 || y.Rating != 1484 || x.Wins != 1 || y.Losses != 1 {
		t.Errorf("after a match: %+v and %+v", x, y)
	}
}

// TestBoardRecord: no match before the 50th window, one with each from then on. A window with a number
// that cannot be is left out.
func TestBoardRecord(t *testing.T) {
	t.Parallel()
	p, _ := newProgram(1, 0.1, 0.1, 0.1)
	b := NewBoard(1)
	for _, x := range []float64{-1, math.NaN(), math.Inf(1), 1e18} {
		w := p.window()
		w[7].Faults = x
		b.Record(w)
	}
	if b.recorded != 0 || b.players[0].Samples != 0 {
		t.Errorf("%d windows are recorded that should not be", b.recorded)
	}
	p.record(b, matchWindows-1)
	checkPoints(t, b, 0)
	p.record(b, 1)
	checkPoints(t, b, 1)
	p.record(b, 1000)
	checkPoints(t, b, 1001)
	if n := b.players[5].Samples; n != matchWindows+1000 {
		t.Errorf("a strategy has %d samples", n)
	}
}

// TestBoardScore: scores are shares of each part, weighted.
func TestBoardScore(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		a, b Sample
		want float64
	}{
		{Sample{}, Sample{}, 0},
		{Sample{1, 2, 3}, Sample{1, 2, 3}, 0},
		{Sample{3, 0, 0}, Sample{1, 0, 0}, 0.4 * 0.5},
		{Sample{0, 1, 0}, Sample{0, 3, 0}, -0.3 * 0.5},
		{Sample{0, 0, 9}, Sample{0, 0, 1}, 0.3 * 0.8},
		{Sample{1, 1, 1}, Sample{}, 1},
		{Sample{0, 5, 5}, Sample{5, 0, 0}, 0.2},
	} {
		if got := x.a.over(x.b); math.Abs(got-x.want) > 1e-12 || got != -x.b.over(x.a) {
			t.Errorf("%v costs %g more than %v, want %g", x.a, got, x.b, x.want)
		}
	}
}

// TestBoardSign: a mean within 3 standard errors is a draw.
func TestBoardSign(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		mean float64 // of 50 values of which half are 0.1 more and half 0.1 less: the standard error is 0.0143
		want int
	}{{0, 0}, {0.042, 0}, {0.044, 1}, {-0.042, 0}, {-0.044, -1}} {
		var s tally
		for k := range 50 {
			s.add(x.mean + []float64{0.1, -0.1}[k%2])
		}
		if s.sign() != x.want || math.Abs(s.mean-x.mean) > 1e-12 {
			t.Errorf("mean %g: %+v has the sign %d, want %d", x.mean, s, s.sign(), x.want)
		}
	}
	var same tally
	for range 50 {
		same.add(0.01)
	}
	if same.sign() != 1 {
		t.Error("a difference without noise is a draw")
	}
}

// TestBoardExpected: values from the tables of chess federations (FIDE Handbook, B.02, 8.1.2), which are
// of the normal distribution and differ from the logistic one by 0.011 at 400 points.
func TestBoardExpected(t *testing.T) {
	t.Parallel()
	for _, x := range []struct{ ahead, want float64 }{{0, 0.5}, {50, 0.57}, {100, 0.64}, {200, 0.76}, {-100, 0.36}, {400, 0.92}} {
		if got := expected(1500+x.ahead, 1500); math.Abs(got-x.want) > 0.0125 {
			t.Errorf("%g points ahead, %g is expected, want %g", x.ahead, got, x.want)
		}
	}
	if got := expected(1900, 1500); math.Abs(got-10.0/11) > 1e-12 {
		t.Errorf("400 points ahead, %g is expected", got)
	}
}

// TestBoardRounds: each active strategy plays in each round; six are active after the first.
func TestBoardRounds(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		p, _ := newProgram(seed, 0.15, 0.1, 0.05)
		b := NewBoard(seed)
		p.record(b, matchWindows-1)
		for round := range 20 {
			was := b.players
			active := 0
			for _, s := range was {
				if s.Active {
					active++
				}
			}
			if want := []int{nStrategies, survivors}[min(round, 1)]; active != want {
				t.Fatalf("seed %d: %d strategies are active in round %d, want %d", seed, active, round, want)
			}
			p.record(b, 2*active)
			for i, s := range b.players {
				played := s.Wins + s.Losses + s.Draws - was[i].Wins - was[i].Losses - was[i].Draws
				if was[i].Active != (played > 0) {
					t.Errorf("seed %d, round %d: %+v has played %d times", seed, round, was[i], played)
				}
			}
			for i, s := range b.Ranking() {
				if s.Active != (i < survivors) || i%survivors > 0 && s.Rating > b.Ranking()[i-1].Rating {
					t.Errorf("seed %d, round %d: place %d has %+v", seed, round, i, s)
				}
			}
		}
	}
}

// TestBoardComeback: who gets the last place when a round ends.
func TestBoardComeback(t *testing.T) {
	t.Parallel()
	const last, first, second = 5, 6, 7 // the last of the six, and two that are inactive
	for _, x := range []struct {
		name                        string
		leader, last, first, second float64 // costs
		want                        int
	}{
		{"none is better", 1, 1.5, 1.5, 1.5, last},
		{"better than the last", 1, 1.5, 1.2, 1.2, last},
		{"equal to the leader", 1, 1.5, 1, 1, last},
		{"better than the leader, equal to the last", 1, 0.5, 0.5, 0.5, last},
		{"better than the leader", 1, 1.5, 0.8, 1.5, first},
		{"the better one of two", 1, 1.5, 0.8, 0.6, second},
		{"the better one of two", 1, 1.5, 0.6, 0.8, first},
	} {
		for seed := range uint64(20) {
			p, _ := newProgram(seed, 0.15, 0, 0.1)
			p.cost = [nStrategies]float64{x.leader, 2, 2, 2, 2, x.last, x.first, x.second, 3, 3, 3, 3}
			p.tilt = [nStrategies]float64{}
			b := NewBoard(seed)
			for i := range b.players {
				b.players[i].Rating = startRating + 100 - 10*float64(i)
			}
			for i := range b.ring {
				b.ring[i] = p.window()
			}
			was := b.players
			b.recorded = matchWindows - 1
			if b.endRound(); !b.players[last].Active {
				t.Errorf("%s, seed %d: after 49 windows the last place is taken", x.name, seed)
			}
			b.recorded = ringWindows
			b.endRound()
			for i, s := range b.players {
				if want := i < last || i == x.want; s.Active != want || s.Rating != was[i].Rating {
					t.Errorf("%s, seed %d: %+v, want %d in the last place", x.name, seed, s, x.want)
				}
			}
			if b.left != roundMatches*survivors || b.met != [nStrategies]bool{} {
				t.Errorf("%s, seed %d: no new round begins", x.name, seed)
			}
		}
	}
}

// TestBoardRepeats: the same seed and the same windows give the same ratings, another seed does not.
func TestBoardRepeats(t *testing.T) {
	t.Parallel()
	run := func(seed uint64) [nStrategies]Standing {
		p, _ := newProgram(1, 0.15, 0.1, 0.05)
		b := NewBoard(seed)
		p.record(b, 300)
		return b.Ranking()
	}
	if run(1) != run(1) {
		t.Error("two runs with the same seed differ")
	}
	if run(1) == run(2) {
		t.Error("two runs with other seeds are the same")
	}
}

// TestStrategies: all combinations are there once, and the one that changes nothing leads in the beginning.
func TestStrategies(t *testing.T) {
	t.Parallel()
	for _, hold := range []float64{0.25, 0.5, 1, 2} {
		for _, budget := range []float64{0.5, 1, 2} {
			if !slices.Contains(Strategies[:], Strategy{hold, budget}) {
				t.Errorf("there is no strategy of %g and %g", hold, budget)
			}
		}
	}
	if s := Strategies[NewBoard(1).Leader()]; s != (Strategy{1, 1}) {
		t.Errorf("in the beginning %+v leads", s)
	}
}

// TestBoardAllocates: no call allocates.
func TestBoardAllocates(t *testing.T) {
	p, _ := newProgram(1, 0.15, 0.1, 0.05)
	b := NewBoard(1)
	if n := testing.AllocsPerRun(1000, func() {
		b.Record(p.window())
		use, _ := b.Pair()
		b.Played(use, p.window()[use])
		_ = b.Ranking()
		b.Leader()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
