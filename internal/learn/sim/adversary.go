package sim

import (
	"time"

	"github.com/hakmem/hakmem/internal/learn"
)

// Game is how an adversary plays: it says whether it takes its pages, which have been free for a time,
// again. kept is how many of them are kept, turn how often they were free before.
type Game func(free time.Duration, kept, turn int, c learn.Costs) bool

// After takes the pages as soon as all of them were returned, or after ten break-even times. It does the
// most harm to a policy with one hold time for all pages.
func After(free time.Duration, kept, _ int, c learn.Costs) bool {
	return kept == 0 && free > Step || free >= 10*c.BreakEven()
}

// Flip takes the pages after 0.4 break-even times, 40 times in a row, and then after 6, as often. It does
// harm to a policy that remembers for as long as a regime lasts.
func Flip(free time.Duration, _, turn int, c learn.Costs) bool {
	if turn/40%2 == 0 {
		return free >= c.BreakEven()*2/5
	}
	return free >= 6*c.BreakEven()
}

const (
	// The adversary has advPages pages from advFirst on, which are free, and advFirst pages below them
	// that are always used: in all as many as a program of this package at most.
	advFirst, advPages = 100, 2000
	// advUse is for how long it uses the pages each time: 3 ticks.
	advUse = 300 * time.Millisecond
	// advLength is how long a game is: at the middle price, 100 turns and more.
	advLength = 600 * time.Second
)

// Adversary plays a game against a policy and returns what the policy paid over the optimum.
func Adversary(game Game, policy Policy, c learn.Costs) float64 {
	m := newMachine(policy, c, advFirst+advPages, nil)
	var clock waitClock
	m.take(0, advFirst+advPages)
	free, since, turn := false, time.Duration(0), 0
	for now := Step; now < advLength; now += Step {
		m.run(now)
		switch {
		case !free && now-since >= advUse:
			m.free(advFirst, advPages)
			clock.freed(advFirst, advPages, now)
			free, since = true, now
		case free && game(now-since, m.n, turn, c):
			m.take(advFirst, advPages)
			clock.taken(advFirst, advPages, now)
			free, since = false, now
			turn++
		}
	}
	m.run(advLength)
	return m.cost() / clock.end(advLength).optimum(c)
}
