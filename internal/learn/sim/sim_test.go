package sim

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/hakmem/hakmem/internal/learn"
	"github.com/hakmem/hakmem/internal/testkit"
)

const sec = time.Second

// testLength is that of the programs of all tests except TestBars: long enough for a few periods of all
// kinds with short ones.
const testLength = 30 * sec

// TestGenerate: programs depend on kind and seed only, and are well formed.
func TestGenerate(t *testing.T) {
	t.Parallel()
	for _, kind := range Kinds() {
		p := Generate(kind, 7, testLength)
		if !reflect.DeepEqual(p, Generate(kind, 7, testLength)) {
			t.Errorf("%s differs from one call to the next", kind)
		}
		if reflect.DeepEqual(p.Events, Generate(kind, 8, testLength).Events) {
			t.Errorf("%s is the same for two seeds", kind)
		}
		pages := make([]int, p.Blocks)
		use, most, last := 0, 0, time.Duration(0)
		for _, e := range p.Events {
			if e.At < last || e.At >= testLength || e.At%Step != 0 {
				t.Fatalf("%s: an event at %v after one at %v", kind, e.At, last)
			}
			last = e.At
			if e.Pages < 0 || e.Pages > maxBlock || e.Pages == 0 == (pages[e.Block] <= 0) {
				t.Fatalf("%s: %+v, the block has %d pages", kind, e, pages[e.Block])
			}
			if e.Pages > 0 {
				use += e.Pages
				pages[e.Block] = e.Pages
			} else {
				use -= pages[e.Block]
				pages[e.Block] = -1 // it is not used again
			}
			most = max(most, use)
		}
		if most < 50 || most > 3000 {
			t.Errorf("%s has %d pages at its peak", kind, most)
		}
	}
	if n := len(Kinds()); n != 23 {
		t.Errorf("%d kinds", n)
	}
}

// TestPlace: each block is on the lowest pages that are free and suffice.
func TestPlace(t *testing.T) {
	t.Parallel()
	for _, kind := range Kinds() {
		p := Generate(kind, 1, testLength/3)
		placed := Place(p)
		used := make([]bool, placed.Pages+maxBlock)
		for i, r := range placed.runs {
			if r.at != p.Events[i].At || r.taken != (p.Events[i].Pages > 0) || r.page+r.n > placed.Pages {
				t.Fatalf("%s: event %+v is placed as %+v", kind, p.Events[i], r)
			}
			if r.taken {
				want, n := uint32(0), uint32(0)
				for ; n < r.n; n++ {
					if used[want+n] {
						want += n + 1
						n = ^uint32(0)
					}
				}
				if r.page != want || int(r.n) != p.Events[i].Pages {
					t.Fatalf("%s: %d pages at %d, want %d at %d", kind, r.n, r.page, p.Events[i].Pages, want)
				}
			}
			for j := r.page; j < r.page+r.n; j++ {
				if used[j] == r.taken {
					t.Fatalf("%s: page %d is used: %t, and then again", kind, j, r.taken)
				}
				used[j] = r.taken
			}
		}
	}
}

// TestRun: a run depends on its arguments only and does not change the program, so that all policies see
// the same placement. None costs less than the optimum.
func TestRun(t *testing.T) {
	t.Parallel()
	c := CostsAt(0.13)
	for _, kind := range Kinds() {
		p := Place(Generate(kind, 2, testLength))
		was := *p
		was.runs, was.waits = slices.Clone(p.runs), slices.Clone(p.waits)
		for _, m := range Makers() {
			r := Run(p, m.New(c, 3), c)
			if !reflect.DeepEqual(r, Run(p, m.New(c, 3), c)) {
				t.Errorf("%s, %s: two runs differ", kind, m.Name)
			}
			if !reflect.DeepEqual(was, *p) {
				t.Fatalf("%s, %s: the run changed the program", kind, m.Name)
			}
			if !atMost(Optimum(p, c), r.Cost) {
				t.Errorf("%s, %s: costs %g, less than the optimum, %g", kind, m.Name, r.Cost, Optimum(p, c))
			}
			cost := r.HeldPageSeconds*c.Hold + float64(r.Faults)*c.Fault + float64(r.Returns)*c.Return
			if !same(cost, r.Cost) || r.Faults > r.Returns {
				t.Errorf("%s, %s: %+v, the sum is %g", kind, m.Name, r, cost)
			}
			if len(r.Curve) != CurvePoints || !slices.IsSorted(r.Curve) || r.Curve[len(r.Curve)-1] != r.Cost {
				t.Errorf("%s, %s: the curve is %v, the cost %g", kind, m.Name, r.Curve, r.Cost)
			}
		}
	}
}

// same reports whether two costs are equal up to rounding.
func same(a, b float64) bool { return math.Abs(a-b) <= 1e-9*max(a, b) }

func atMost(a, b float64) bool { return a < b || same(a, b) }

// TestStatic: the optimum costs at most what the best fixed hold time does, and that at most what each
// of the arms does. Run finds what the closed form says.
func TestStatic(t *testing.T) {
	t.Parallel()
	for _, kind := range Kinds() {
		p := Place(Generate(kind, 3, testLength))
		for _, price := range Prices {
			c := CostsAt(price)
			best, hold := BestStatic(p, c)
			if !atMost(Optimum(p, c), best) || best != Static(p, hold, c) {
				t.Errorf("%s at %g: the optimum is %g, the best hold time, %v, costs %g", kind, price, Optimum(p, c), hold, best)
			}
			for _, arm := range learn.Arms {
				if x := Static(p, arm, c); best > x {
					t.Errorf("%s at %g: the best hold time, %v, costs %g, but %v costs %g", kind, price, hold, best, arm, x)
				}
				if price != Prices[1] {
					continue
				}
				if got, want := Run(p, Fixed(arm), c).Cost, StaticAtTicks(p, arm, c); !same(got, want) {
					t.Errorf("%s at %g: hold time %v costs %g, want %g", kind, price, arm, got, want)
				}
			}
		}
	}
}

// TestByHand: what a little program costs.
func TestByHand(t *testing.T) {
	t.Parallel()
	// Powers of 2, so that sums are exact.
	c := learn.Costs{Hold: 1, Fault: 4, Return: 0.5}
	p := Place(&Program{Length: 20 * sec, Blocks: 4, Events: []Event{
		{0, 0, 2}, // page 0, 1
		{0, 1, 3}, // page 2, 3, 4
		{1 * sec, 0, 0},
		{2 * sec, 2, 1},                     // page 0 after 1 s
		{4 * sec, 3, 2},                     // page 5, 6, since only 1 is free
		{5*sec + 50*time.Millisecond, 1, 0}, // between two ticks
		{8 * sec, 2, 0},
		{8 * sec, 2, 3}, // page 0, 1, 2: after 0, 7 and 2.95 s
	}})
	// Waits: 1, 0, 7 and 2.95 s; pages 3 and 4 until the end, 14.95 s each.
	if p.Pages != 7 {
		t.Errorf("%d pages", p.Pages)
	}
	if got, want := Optimum(p, c), 1+0+4.5+2.95+2*0.5; !same(got, want) {
		t.Errorf("the optimum is %g, want %g", got, want)
	}
	if got, want := Static(p, 2*sec, c), 1+0+(2+4.5)+(2+4.5)+2*(2+0.5); !same(got, want) {
		t.Errorf("2 s cost %g, want %g", got, want)
	}
	for _, x := range []struct {
		hold            time.Duration
		held            float64
		faults, returns int
	}{
		{Forever, 1 + 7 + 2.95 + 2*14.95, 0, 0},
		{2 * sec, 1 + 2 + 3*2.05, 2, 4}, // pages 2, 3 and 4 are returned 50 ms late, at the next tick
		{3 * sec, 1 + 3 + 2.95 + 2*3.05, 1, 3},
		{0, 0 + 3*0.05, 3, 5},
	} {
		r := Run(p, Fixed(x.hold), c)
		if !same(r.HeldPageSeconds, x.held) || r.Faults != x.faults || r.Returns != x.returns ||
			!same(r.Cost, x.held+4*float64(x.faults)+0.5*float64(x.returns)) {
			t.Errorf("hold time %v: %+v, want %+v", x.hold, r, x)
		}
	}
}

// TestWindow: the window grows with what is taken again soon, shrinks with what was returned rightly,
// and keeps what brings the pages in use to their peak.
func TestWindow(t *testing.T) {
	t.Parallel()
	periodic := func(turns int, wait time.Duration) (Result, *window) {
		p := &Program{Length: time.Duration(turns) * (wait + sec), Blocks: turns}
		for i := range turns {
			at := time.Duration(i) * (wait + sec)
			p.Events = append(p.Events, Event{at, i, 512}, Event{at + sec, i, 0})
		}
		w := &window{length: windowDefault}
		return Run(Place(p), w, CostsAt(0.13)), w
	}
	if r, w := periodic(20, sec); r.Returns != 0 {
		t.Errorf("waits of 1 s are within the window, %v, and %d pages were returned", w.length, r.Returns)
	}
	if _, w := periodic(20, 3*sec); w.length != windowMost {
		t.Errorf("after waits of 3 s the window is %v", w.length)
	}
	if r, w := periodic(5, 30*sec); w.length != windowLeast || r.Returns != 5*512 {
		t.Errorf("after waits of 30 s the window is %v, and %d pages were returned", w.length, r.Returns)
	}
}

// TestAdversary: break-even costs at most twice the optimum, and random ski rental 1.58 times on average, apart
// from what ticks cost. The learner stays below 3.
func TestAdversary(t *testing.T) {
	t.Parallel()
	prices := Prices
	if testing.Short() {
		prices = prices[1:2]
	}
	for _, price := range prices {
		c := CostsAt(price)
		// A tick makes a hold time longer by up to its length.
		late := 2 * Tick.Seconds() / c.BreakEven().Seconds()
		for _, m := range Makers() {
			after, flip := Adversary(After, m.New(c, 1), c), Adversary(Flip, m.New(c, 1), c)
			t.Logf("price %g, %-18s after %.2f, flip %.2f", price, m.Name, after, flip)
			worst := max(after, flip)
			if limit := map[string]float64{
				nameLearner:   3.0,
				nameBreakEven: 2.0 + late,
				nameSkiRental: math.E/(math.E-1) + 0.05 + late, // this is chance
			}[m.Name]; limit > 0 && worst > limit {
				t.Errorf("price %g, %s: %.2f, want at most %.2f", price, m.Name, worst, limit)
			}
		}
	}
}

// bar is something that the learner is to reach.
type bar struct {
	what      string
	got, want float64 // got is to be at most want
	// missed is what it is known to reach instead; 0: it reaches the bar. If it gets worse than that,
	// the test fails.
	missed float64
}

// bars returns what is to be reached at a price.
func bars(t *Table) []bar {
	l := t.Mean(nameLearner)
	list := []bar{
		{what: "the optimum", got: l, want: 1.20},
		{what: "the best hold time of each program", got: l / t.Mean(nameOracle), want: 1.05},
		{what: "the best single hold time", got: l / t.Mean(nameSingle), want: 0.90},
		// Policies return at ticks, and so do these two:
		{what: "the best hold time of each program, at ticks", got: l / t.Mean(nameOracleTicks), want: 1.05},
		{what: "the best single hold time, at ticks", got: l / t.Mean(nameSingleTicks), want: 0.90},
		{what: nameRandom, got: l / t.Mean(nameRandom), want: 1 / 1.3},
		{what: nameShuffled, got: l / t.Mean(nameShuffled), want: 1 / 1.3},
	}
	for k, kind := range t.Kinds {
		list = append(list, bar{what: nameWindow + ", " + kind, got: t.Ratio[nameLearner][k] / t.Ratio[nameWindow][k], want: 1.05})
	}
	for i := range list {
		list[i].missed = missed[fmt.Sprintf("%g: %s", t.Price, list[i].what)]
	}
	return list
}

// missed is the bars that the learner misses, by price, with what it reaches and 1 % for rounding.
var missed = map[string]float64{
	// Kinds with a wait that is long and comes before anything was seen: those of a minute, seven break-even
	// times, of which there are five in 300 s, and the one after the peak at the start. The learner keeps
	// the pages for the break-even time, 8 s; the window is 2.2 s at its start.
	"0.03: window, saw60":   1.08,
	"0.03: window, startup": 1.17,
	// Break-even is 0.48 s, and a tick makes each hold time longer by 50 ms on average: 10 % of what a
	// return and a fault cost. Against the same at ticks both bars are reached.
	"0.5: the best hold time of each program": 1.07,
	"0.5: the best single hold time":          0.97,
}

// TestBars: the learner on programs with which nothing was tuned.
func TestBars(t *testing.T) {
	if testkit.Race {
		t.Skip("skipped: -race; a simulation has one goroutine, and the other tests run one")
	}
	t.Parallel()
	if testing.Short() {
		table := Evaluate(Kinds(), []uint64{901}, 120*sec, 0.13)[0]
		t.Logf("%v\nThe bars are looser: in 120 s with one seed the time until something is learnt counts for more.", table)
		l := table.Mean(nameLearner)
		for _, b := range []bar{
			{what: "the optimum", got: l, want: 1.35},
			{what: "the best hold time of each program", got: l / table.Mean(nameOracle), want: 1.15},
			{what: "the best single hold time", got: l / table.Mean(nameSingle), want: 0.95},
			{what: nameWindow, got: l / table.Mean(nameWindow), want: 0.85},
			{what: nameRandom, got: l / table.Mean(nameRandom), want: 1 / 1.2},
			{what: nameShuffled, got: l / table.Mean(nameShuffled), want: 1 / 1.2},
		} {
			if b.got > b.want {
				t.Errorf("the learner against %s: %.3f, want at most %.3f", b.what, b.got, b.want)
			}
		}
		return
	}
	for _, price := range Prices {
		t.Run(fmt.Sprint(price), func(t *testing.T) {
			t.Parallel()
			table := Evaluate(Kinds(), []uint64{901, 902, 903}, 300*sec, price)[0]
			t.Log(table)
			for _, b := range bars(table) {
				switch {
				case b.got > b.want && b.got <= b.missed:
					t.Logf("the learner against %s: %.3f. MISSED: the bar is %.3f", b.what, b.got, b.want)
				case b.got > b.want:
					t.Errorf("the learner against %s: %.3f, want at most %.3f", b.what, b.got, max(b.want, b.missed))
				case b.missed > 0:
					t.Logf("the learner against %s: %.3f. The bar, %.3f, is reached: it need not be in missed", b.what, b.got, b.want)
				}
			}
		})
	}
}
