package learn

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
)

// Strategy is a way to use what was learnt: factors of what an allocator would do without one.
type Strategy struct {
	Hold   float64 // of each hold time
	Budget float64 // of the memory that caches may keep
}

const nStrategies = 12

// Strategies are those that a Board compares, as in the C hakmem: factors of 2 apart. The first changes
// nothing. Of equally rated ones the first leads, so it does when nothing is known.
var Strategies = [nStrategies]Strategy{
	{1, 1}, {1, 0.5}, {1, 2},
	{0.5, 1}, {0.5, 0.5}, {0.5, 2},
	{2, 1}, {2, 0.5}, {2, 2},
	{0.25, 1}, {0.25, 0.5}, {0.25, 2},
}

// Sample is what one WINDOW cost, a piece of a program's time. All windows have the same length.
type Sample struct {
	CPU    float64 // seconds of CPU time
	Faults float64 // page faults
	Memory float64 // memory held, GiB·s
}

// The weights of the parts of a Sample are those of the C hakmem.
const (
	weightCPU    = 0.4
	weightFaults = 0.3
	weightMemory = 0.3
)

// valid reports whether a Sample can be compared.
func (s Sample) valid() bool { return sensible(s.CPU) && sensible(s.Faults) && sensible(s.Memory) }

// over returns by how much s costs more than o: the difference of their scores, from -1 to 1. A score is
// the weighted sum of what each part is of the sum of both, so the two scores of a pair add up to 1.
func (s Sample) over(o Sample) float64 {
	part := func(x, y float64) float64 {
		if x+y == 0 {
			return 0
		}
		return (x - y) / (x + y)
	}
	return weightCPU*part(s.CPU, o.CPU) + weightFaults*part(s.Faults, o.Faults) + weightMemory*part(s.Memory, o.Memory)
}

const (
	// startRating, eloFactor and eloScale are usual in chess: a player 400 points ahead is expected to get
	// ten of eleven points.
	startRating = 1500
	eloFactor   = 32 // points that a match moves at most
	eloScale    = 400
	// boardEpsilon, the share of pairs that are drawn, survivors and matchWindows are as in the C hakmem.
	boardEpsilon = 0.1
	survivors    = 6
	matchWindows = 50
	// ringWindows is how many windows are kept for shadow matches. The standard error of a match falls
	// by the root of it, and the memory, 288 bytes for each, grows with it.
	ringWindows = 128
	// drawErrors is how many standard errors the mean difference has to exceed to be no draw. There are 66
	// pairs, and one that noise favours meets again on much the same windows. With 2, a strategy that is no
	// better than the others is up to 307 points ahead in 20 runs, with 3 up to 82 (TestBoardEqual).
	drawErrors = 3
	// roundMatches is how many matches a round has for each active strategy: nearly one for its match with
	// the leader, and as many for the best among themselves.
	roundMatches = 2
)

// Board rates the Strategies as chess players are rated, from MATCHES. A match is one comparison of two
// strategies over 50 windows or more of each.
//
// The mean difference of their scores decides it. If that is within 3 of its standard errors, the match
// is a draw. Points go from the loser to the winner: the fewer, the more the winner was ahead before
// (Elo, The Rating of Chessplayers, Past and Present, 1978, in the logistic form). All strategies begin
// with 1500 points, and the sum stays the same.
//
// A SHADOW match compares what two strategies would have cost in the windows recorded last, up to 128.
// Record says that of all strategies, and plays one match for each window from the 50th on. A REAL match
// compares windows in which the two were used in turn: Pair says which one to use, Played what it cost.
// Samples are compared in pairs, those of the same window in a shadow match and neighbours in a real one,
// so that load which both feel alike cancels out. A recorded window serves many matches. So a rating
// tells who is ahead; how certain that is, only the draws tell.
//
// # Who meets
//
// With a probability of 0.1, two active strategies that are drawn meet. Else the best rated one, the
// LEADER, meets the best rated of those that have not played in this round, and when all have, the second
// best. So each active strategy gets to play in each round, however low it is: to leave one out, 8 of 12
// pairs would have to be drawn.
//
// The leader plays nine matches in ten. That is why few are enough. A strategy that is better than all
// others meets the leader at the latest in the 11th of such matches, wins, and meets it again as long as
// it is second; and once it leads, each match takes points from the one next to it. Eight wins put it 100
// points ahead of players with 1500. If all pairs were drawn, it would play 8 of 50 matches. Places behind
// the leader say less: most of those there have met few but the leader.
//
// A ROUND has 2 matches for each strategy that is active when it begins: 24 in the first, 12 in each
// later one. At its end the six best rated stay active. An inactive strategy comes back if it beats both
// the leader and the last of the six on the recorded windows. Of several, the one that beats the leader
// by most does. It takes the place of the last, keeps its points, and has to win its way up. Without
// recorded windows no strategy comes back.
//
// A Board allocates nothing after NewBoard. What it does depends on its seed and on the calls alone. It
// is for one goroutine at a time.
type Board struct {
	rng     *rand.Rand
	players [nStrategies]Standing // in the order of Strategies

	// The ring of recorded windows. The next one goes to index recorded modulo ringWindows.
	ring     [ringWindows][nStrategies]Sample
	recorded uint64

	left int               // matches until the end of the round
	met  [nStrategies]bool // which of them have played in this round

	// The real match that goes on, if one does: its pair, and the samples of each so far.
	open    bool
	pair    [2]int
	samples [2][matchWindows]Sample
	n       [2]int
}

// Standing is how a strategy stands on a Board.
type Standing struct {
	Strategy int // index of Strategies
	Rating   float64
	Wins     uint64 // matches, shadow and real
	Losses   uint64
	Draws    uint64
	Samples  uint64 // windows, recorded and real
	Active   bool   // it plays in this round
}

// NewBoard returns a Board on which all strategies are equal. Two with the same seed do the same on the
// same calls.
func NewBoard(seed uint64) *Board {
	b := &Board{rng: rand.New(rand.NewPCG(seed, 0))}
	for i := range b.players {
		b.players[i] = Standing{Strategy: i, Rating: startRating, Active: true}
	}
	b.begin()
	return b
}

// begin begins a round.
func (b *Board) begin() {
	b.met = [nStrategies]bool{}
	b.left = 0
	for i := range b.players {
		if b.players[i].Active {
			b.left += roundMatches
		}
	}
}

// Leader returns the best rated of the active strategies, as an index of Strategies. Of equal ones it is
// the first.
func (b *Board) Leader() int { return leaderOf(b.players[:]) }

// leaderOf returns which of the strategies leads.
func leaderOf(players []Standing) int {
	return bestOf(players, func(i int) bool { return players[i].Active })
}

// bestOf returns the best rated strategy of those that are ok, -1 if there is none.
func bestOf(players []Standing, ok func(int) bool) int {
	best := -1
	for i := range players {
		if ok(i) && (best < 0 || players[i].Rating > players[best].Rating) {
			best = i
		}
	}
	return best
}

// Ranking returns how the strategies stand: the active ones from the best rated on, and then the others.
func (b *Board) Ranking() [nStrategies]Standing {
	list := b.players
	slices.SortStableFunc(list[:], func(x, y Standing) int {
		if x.Active != y.Active {
			if x.Active {
				return -1
			}
			return 1
		}
		return cmp.Compare(y.Rating, x.Rating)
	})
	return list
}

// Record notes what each of the Strategies would have cost in one window, and plays a shadow match if 50
// windows are there. A window with a number that is negative, 1e18 or more, or no number is left out.
func (b *Board) Record(window [nStrategies]Sample) {
	for i := range window {
		if !window[i].valid() {
			return
		}
	}
	b.ring[b.recorded%ringWindows] = window
	b.recorded++
	for i := range b.players {
		b.players[i].Samples++
	}
	if b.enough() {
		i, j := b.draw()
		b.settle(i, j, b.shadow(i, j))
	}
}

// enough reports whether there are windows for shadow matches.
func (b *Board) enough() bool { return b.recorded >= matchWindows }

// shadow compares two strategies on the recorded windows.
func (b *Board) shadow(i, j int) (t tally) {
	for w := range min(b.recorded, ringWindows) {
		t.add(b.ring[w][i].over(b.ring[w][j]))
	}
	return t
}

// Pair returns the strategy to use in the next window, and the one that it plays against in the real match
// that goes on; both are indices of Strategies. It stays the same until Played counts a window.
func (b *Board) Pair() (use, against int) {
	if !b.open {
		b.pair[0], b.pair[1] = b.draw()
		b.open, b.n = true, [2]int{}
	}
	if b.n[1] < b.n[0] {
		return b.pair[1], b.pair[0]
	}
	return b.pair[0], b.pair[1]
}

// Played notes what a window cost in which the strategy was used. The match is over when each of the two
// has 50. A window of any other strategy, one too many, and one with a number that is negative, 1e18 or
// more, or no number is left out.
func (b *Board) Played(strategy int, s Sample) {
	k := slices.Index(b.pair[:], strategy)
	if !b.open || k < 0 || b.n[k] == matchWindows || !s.valid() {
		return
	}
	b.samples[k][b.n[k]] = s
	b.n[k]++
	b.players[strategy].Samples++
	if b.n != [2]int{matchWindows, matchWindows} {
		return
	}
	b.open = false
	var t tally
	for w := range b.samples[0] {
		t.add(b.samples[0][w].over(b.samples[1][w]))
	}
	b.settle(b.pair[0], b.pair[1], t)
}

// draw returns two active strategies to meet next.
func (b *Board) draw() (i, j int) {
	if b.rng.Float64() < boardEpsilon {
		i = b.random(-1)
		return i, b.random(i)
	}
	i = b.Leader()
	rival := func(k int) bool { return b.players[k].Active && k != i }
	if j = bestOf(b.players[:], func(k int) bool { return rival(k) && !b.met[k] }); j < 0 {
		j = bestOf(b.players[:], rival)
	}
	return i, j
}

// random returns an active strategy other than the given one.
func (b *Board) random(other int) int {
	for {
		if i := b.rng.IntN(nStrategies); b.players[i].Active && i != other {
			return i
		}
	}
}

// settle books a match between i and j, where t has what i cost more.
func (b *Board) settle(i, j int, t tally) {
	x, y := &b.players[i], &b.players[j]
	points := 0.5 // of i: 1 for a win
	switch t.sign() {
	case -1:
		points = 1
		x.Wins++
		y.Losses++
	case 1:
		points = 0
		x.Losses++
		y.Wins++
	default:
		x.Draws++
		y.Draws++
	}
	d := eloFactor * (points - expected(x.Rating, y.Rating))
	x.Rating += d
	y.Rating -= d
	b.met[i], b.met[j] = true, true
	if b.left--; b.left == 0 {
		b.endRound()
	}
}

// expected returns how many points of a match a player is expected to get.
func expected(own, other float64) float64 {
	return 1 / (1 + math.Pow(10, (other-own)/eloScale))
}

// endRound decides who is active in the next round, and begins it.
func (b *Board) endRound() {
	list := b.Ranking()
	for _, s := range list[survivors:] {
		b.players[s.Strategy].Active = false
	}
	if leader, last := list[0].Strategy, list[survivors-1].Strategy; b.enough() {
		back, least := -1, 0.0
		for i := range b.players {
			if b.players[i].Active {
				continue
			}
			t := b.shadow(i, leader)
			if u := b.shadow(i, last); t.sign() < 0 && u.sign() < 0 && t.mean < least {
				back, least = i, t.mean
			}
		}
		if back >= 0 {
			b.players[last].Active, b.players[back].Active = false, true
		}
	}
	b.begin()
}

// tally is the mean of differences, and how sure it is (Welford, Note on a Method for Calculating
// Corrected Sums of Squares and Products, 1962).
type tally struct {
	n, mean, squares float64 // squares: of the distances from the mean, summed
}

func (t *tally) add(d float64) {
	t.n++
	x := d - t.mean
	t.mean += x / t.n
	t.squares += x * (d - t.mean)
}

// sign returns the sign of the mean if it is beyond the noise, else 0.
func (t *tally) sign() int {
	error2 := t.squares / (t.n * (t.n - 1)) // the square of the standard error
	if t.mean*t.mean <= drawErrors*drawErrors*error2 {
		return 0
	}
	return cmp.Compare(t.mean, 0)
}
