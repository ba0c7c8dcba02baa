// Package sim judges, in virtual time, policies for one decision of an allocator: whether the memory of
// a free page is kept or returned to the operating system.
//
// A Program takes and frees blocks of several pages. Place puts them on pages by first fit at the lowest
// address, as hakmem's page tree does. Where a block goes does not depend on what was returned, so a
// program is placed once and replayed for every policy, and all policies see the same WAITS: the
// intervals in which a page is free. At ticks a Policy says for how long each free page is kept after it
// was freed. Run adds up what that costs:
//
//   - Hold for each second in which a free page is kept,
//   - Return for each page that is returned,
//   - Fault for each page that is taken after it was returned. The first touch of a page is free, since
//     it is the same for all policies.
//
// Each wait is a ski-rental problem of its own (Karlin, Manasse, Rudolph and Sleator, Competitive snoopy
// caching, Algorithmica 3, 1988): to keep is to rent, to return is to buy. Who knows its length pays the
// lesser of Hold times the wait and Return plus Fault; the sum of these is the OPTIMUM. Who keeps each
// page for the break-even time pays at most twice that, and who draws the hold time from the right
// distribution e/(e-1) = 1.58 times that on average, which is the best against an adversary (Karlin,
// Manasse, McGeoch and Owicki, Competitive randomized algorithms for nonuniform problems, Algorithmica
// 11, 1994). Programs are no adversaries, and their waits can be learnt: the package measures how much
// less package learn pays. Irani, Shukla and Gupta (Online strategies for dynamic power management, ACM
// TECS 2, 2003) did so for disks that are put to sleep; Lu, Chen and Andrew (Simple and effective dynamic
// provisioning for power-proportional data centers, IEEE TPDS 24, 2013) for servers.
package sim

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// Step is the resolution of programs: a tenth of a Tick, so that waits shorter than a tick occur.
const Step = 10 * time.Millisecond

// Event says that a block was allocated or freed.
type Event struct {
	At    time.Duration
	Block int // blocks are numbered from 0
	Pages int // how many pages it has; 0: it is freed
}

// Program is the demand of a program for memory.
type Program struct {
	Name   string
	Length time.Duration
	Blocks int
	Events []Event // by time; of those of one time, frees come first
}

// saws are the periods of the periodic kinds, in seconds. They go from two ticks to seven of the longest
// break-even times of Prices, 8 s.
var saws = map[string]float64{"saw0.2": 0.2, "saw1": 1, "saw2": 2, "saw4": 4, "saw8": 8, "saw30": 30, "saw60": 60}

// regime is demand that comes back: its period in seconds, the part of a period that a peak lasts, and
// the pages of a peak.
type regime struct{ period, part, pages float64 }

// shifts are the kinds whose regime changes twice. Each regime is a third of the program.
var shifts = map[string][]regime{
	"shiftA": {{0.5, 0.2, 500}, {6, 0.1, 500}, {0.5, 0.2, 500}},
	"shiftB": {{1.2, 0.2, 500}, {25, 0.1, 900}, {1.2, 0.2, 500}},
}

// Regime is a part of a program in which demand keeps its habit.
type Regime struct {
	From, To time.Duration
	Gap      time.Duration // from one peak to the next, on average
}

// Regimes returns the regimes of a program of a kind. It returns none if the regime never changes.
func Regimes(kind string, length time.Duration) (list []Regime) {
	for i, r := range shifts[kind] {
		n := time.Duration(len(shifts[kind]))
		list = append(list, Regime{length * time.Duration(i) / n, length * time.Duration(i+1) / n, steps(r.period)})
	}
	return list
}

// Kinds returns the kinds of demand that Generate knows.
func Kinds() []string {
	return []string{
		"saw0.2", "saw1", "saw2", "saw4", "saw8", "saw30", "saw60", // periodic, by the period in seconds
		"exponential", "lognormal", "pareto", // bursts, by the distribution of the gaps between them
		"light", "heavy", // queries, by load
		"lsm",              // a store with tables in memory that are flushed and merged
		"twoscale",         // a short and a long period at once
		"sites",            // the same, with little memory in the short one
		"shiftA", "shiftB", // regimes that change twice
		"tide",    // a sine of some 10 s
		"diurnal", // queries whose rate is a sine of 100 s
		"walk",    // a random walk
		"startup", // a peak at the start only
		"cron",    // light load, and a job each minute
		"mix",     // 1 to 3 of the others
	}
}

// Generate returns a program of one of the Kinds. It depends on its arguments only. It panics if the
// kind is unknown.
//
// The numbers of pages are such that a program has between 50 and 3000 pages at its peak, 3 to 190 MiB:
// enough for several chunks in each of the learner's bands, and few enough for tests to be quick. The
// times of each kind are free inventions within what servers show: bursts of 50 to 100 ms, queries of
// half a second, compactions of some seconds.
func Generate(kind string, seed uint64, length time.Duration) *Program {
	hash := uint64(14695981039346656037) // FNV-1a, so that kinds have different numbers from one seed
	for _, b := range []byte(kind) {
		hash = (hash ^ uint64(b)) * 1099511628211
	}
	g := &generator{Rand: rand.New(rand.NewPCG(seed, hash)), length: length.Seconds(), scale: 1}
	g.kind(kind)
	slices.SortFunc(g.events, func(a, b Event) int {
		return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(min(a.Pages, 1), min(b.Pages, 1)), cmp.Compare(a.Block, b.Block))
	})
	return &Program{kind, length, g.blocks, g.events}
}

// generator makes one program. Times are in seconds.
type generator struct {
	*rand.Rand
	length float64
	scale  float64 // of the pages of the components to come
	blocks int
	events []Event
}

// block adds a block that lives from one time to another, at least a step.
func (g *generator) block(from, to float64, pages int) {
	if from >= g.length {
		return
	}
	at := steps(from)
	g.events = append(g.events, Event{at, g.blocks, pages})
	if to < g.length {
		g.events = append(g.events, Event{max(steps(to), at+Step), g.blocks, 0})
	}
	g.blocks++
}

func steps(s float64) time.Duration { return time.Duration(s/Step.Seconds()) * Step }

const (
	// Sizes of blocks are lognormal with a median of 4 pages, 256 KiB, and two thirds of them between
	// 1.6 and 10 pages.
	sizeMedian, sizeSigma = 4, 0.9
	// maxBlock is the size of the largest blocks: 64 pages, 4 MiB.
	maxBlock = 64
	// One block in largeShare is large whatever the distribution says: from half of maxBlock on.
	largeShare = 50
)

// size returns the size of a block.
func (g *generator) size() int {
	if g.IntN(largeShare) == 0 {
		return maxBlock/2 + g.IntN(maxBlock/2+1)
	}
	return min(max(int(g.around(sizeMedian, sizeSigma)), 1), maxBlock)
}

// around returns a lognormal number.
func (g *generator) around(median, sigma float64) float64 {
	return median * math.Exp(sigma*g.NormFloat64())
}

// ramp is the part of a peak's time in which its blocks come, and in which they go.
const ramp = 0.2

// peak adds blocks that live from one time to another. Each begins and ends at a time of its own.
func (g *generator) peak(from, to, pages float64) {
	slope := ramp * (to - from)
	for left := int(g.scale * pages); left > 0; {
		n := min(g.size(), left)
		left -= n
		g.block(from+slope*g.Float64(), to-slope*g.Float64(), n)
	}
}

// constant adds blocks that live from the start to the end.
func (g *generator) constant(pages float64) {
	for left := int(g.scale * pages); left > 0; {
		n := min(g.size(), left)
		left -= n
		g.block(0, g.length, n)
	}
}

// periodic adds a peak for each period. It lasts for a part of the period. Periods differ from one
// another by jitter, as a share, and sizes by 3 %.
func (g *generator) periodic(from, to, period, part, pages, jitter float64) {
	for at := from; at < to; {
		p := period * (1 + jitter*(2*g.Float64()-1))
		g.peak(at, min(at+part*p, to), pages*(0.97+0.06*g.Float64()))
		at += p
	}
}

// bursts adds peaks with gaps between them.
func (g *generator) bursts(gap func() float64, lasts, pages, sigma float64) {
	for at := 0.0; at < g.length; {
		d := g.around(lasts, 0.4)
		g.peak(at, at+d, min(g.around(pages, sigma), 900))
		at += d + max(gap(), Step.Seconds())
	}
}

// queries adds peaks that come independently of one another at a rate: the model M/G/∞. most is the
// highest rate.
func (g *generator) queries(rate func(at float64) float64, most, lasts, pages, sigma float64) {
	for at := g.ExpFloat64() / most; at < g.length; at += g.ExpFloat64() / most {
		if g.Float64()*most < rate(at) {
			g.peak(at, at+g.around(lasts, 0.8), min(g.around(pages, sigma), 400))
		}
	}
}

// slack is by how many pages blocks may exceed the level that follow keeps to: about a block.
const slack = 8

// follow adds blocks such that their pages follow a level. Which block is freed is random.
func (g *generator) follow(level func(at float64) float64) {
	type live struct {
		from  float64
		pages int
	}
	var blocks []live
	sum, next := 0, g.size()
	for at := 0.0; at < g.length; at += Step.Seconds() {
		want := int(g.scale * level(at))
		for sum > want+slack && len(blocks) > 0 {
			i := g.IntN(len(blocks))
			g.block(blocks[i].from, at, blocks[i].pages)
			sum -= blocks[i].pages
			blocks[i] = blocks[len(blocks)-1]
			blocks = blocks[:len(blocks)-1]
		}
		for sum+next <= want {
			blocks = append(blocks, live{at, next})
			sum += next
			next = g.size()
		}
	}
	for _, b := range blocks {
		g.block(b.from, g.length, b.pages)
	}
}

// tables adds the tables of an LSM store: one is filled at a steady rate and freed as a whole. Each
// fourth time tables are merged, which needs more.
func (g *generator) tables() {
	const pages, arena, fanout = 256, 4, 4 // 16 MiB for a table, 256 KiB for each arena
	fills := g.around(6, 0.3)
	for at, n := 0.0, 1; at < g.length; n++ {
		lasts := fills * (0.85 + 0.3*g.Float64())
		for i := range int(g.scale * pages / arena) {
			g.block(at+lasts*float64(i)*arena/pages/g.scale, at+lasts, arena)
		}
		at += lasts
		if n%fanout == 0 {
			g.peak(at, at+g.around(3, 0.3), min(g.around(700, 0.3), 1500))
		}
	}
}

func steady(rate float64) func(float64) float64 { return func(float64) float64 { return rate } }

// kind adds the components of a kind.
func (g *generator) kind(kind string) {
	if list := shifts[kind]; list != nil {
		g.constant(20)
		third := g.length / float64(len(list))
		for i, r := range list {
			g.periodic(float64(i)*third, min(float64(i+1)*third, g.length), r.period, r.part, r.pages, 0.1)
		}
		return
	}
	if period, ok := saws[kind]; ok {
		g.constant(100)
		g.periodic(0, g.length, period*(0.85+0.3*g.Float64()), 0.2, 800, 0.05)
		return
	}
	switch kind {
	case "exponential":
		g.constant(50)
		g.bursts(func() float64 { return 2 * g.ExpFloat64() }, 0.1, 500, 0.3)
	case "lognormal":
		g.constant(50)
		g.bursts(func() float64 { return g.around(1.5, 1.2) }, 0.1, 400, 0.5)
	case "pareto": // the exponent 0.9: gaps would have no mean if they were not cut at 120 s
		g.constant(50)
		g.bursts(func() float64 { return min(0.08*math.Pow(1-g.Float64(), -1/0.9), 120) }, 0.05, 300, 0.7)
	case "light":
		g.queries(steady(0.5), 0.5, 0.5, 60, 1)
	case "heavy":
		g.queries(steady(8), 8, 0.5, 24, 1)
	case "lsm":
		g.constant(100)
		g.tables()
	case "twoscale":
		g.constant(40)
		g.periodic(0, g.length, 0.3, 0.5, 100, 0.2)
		g.periodic(10*g.Float64(), g.length, 45, 0.06, 900, 0.1)
	case "sites":
		g.constant(20)
		g.periodic(0, g.length, 0.3, 0.15, 40, 0.1)
		g.periodic(1, g.length, 7.5, 0.05, 300, 0.2)
	case "tide":
		period := 9 + 4*g.Float64()
		g.follow(func(at float64) float64 { return 500 + 375*math.Sin(2*math.Pi*at/period) })
	case "diurnal":
		g.queries(func(at float64) float64 { return 3 + 2.8*math.Sin(2*math.Pi*at/100) }, 6, 0.6, 30, 1)
	case "walk":
		x, n := 600.0, 0
		g.follow(func(float64) float64 {
			if n++; n%10 == 0 {
				x = min(max(x+28*g.NormFloat64(), 40), 1800)
			}
			return x
		})
	case "startup":
		g.peak(0, 5, 1000)
		g.constant(80)
		g.queries(steady(2), 2, 0.4, 12, 0.8)
	case "cron":
		g.constant(40)
		g.periodic(5, g.length, 60, 0.05, 900, 0.01)
		g.queries(steady(1), 1, 0.4, 20, 0.9)
	case "mix":
		g.mix()
	default:
		panic(fmt.Sprintf("sim: no kind of program %q", kind))
	}
}

// mix adds 1 to 3 components, each scaled by 0.2 to 1, so that the sum stays below 3000 pages.
func (g *generator) mix() {
	kinds := []string{"exponential", "lognormal", "pareto", "light", "heavy", "lsm", "tide", "walk", "cron", "sites", "twoscale", "saw"}
	for range 1 + g.IntN(3) {
		kind := kinds[g.IntN(len(kinds))]
		if kind == "saw" { // of any period from 0.2 s to half a minute
			g.periodic(0, g.length, 0.2*math.Exp(5*g.Float64()), 0.05+0.5*g.Float64(), 50*math.Exp(3*g.Float64()), 0.3*g.Float64())
			continue
		}
		g.scale = 0.2 + 0.8*g.Float64()
		g.kind(kind)
		g.scale = 1
	}
}
