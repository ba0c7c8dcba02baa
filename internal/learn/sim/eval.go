package sim

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/hakmem/hakmem/internal/learn"
)

// Prices are prices of memory at which policies are compared: CPU seconds for a GiB·s. The break-even
// time is 8.0, 1.9 and 0.48 s.
var Prices = []float64{0.03, 0.13, 0.5}

// CostsAt returns the costs of a page of 64 KiB at a price of memory in CPU seconds for a GiB·s. A fault
// takes 0.8 µs and a return 0.12 µs for each 4 KiB.
func CostsAt(price float64) learn.Costs {
	return learn.Machine{Fault: 0.8e-6, Return: 0.12e-6}.Costs(64<<10, price)
}

// LookedAt is how many seeds, from 1 on, were looked at when the constants of package learn were chosen. All
// others are HELD OUT: what they say about the learner is no memory of theirs.
const LookedAt = 3

// NameBestArm is how the learner's arm that has the lowest mean is called in Curves.
const NameBestArm = "best arm"

// ArmName returns the name of the column of one of the learner's arms as the hold time of all pages. Pages
// are returned at ticks.
func ArmName(arm time.Duration) string { return "keep " + arm.String() }

// Names of columns that are no Policies.
const (
	nameOracle = "static oracle" // the best fixed hold time of each program
	nameSingle = "one static"    // the fixed hold time that has the lowest mean

	// The same two if pages are returned at ticks, as they are by policies. A page is then kept for half
	// a tick more on average.
	nameOracleTicks = "static, ticks"
	nameSingleTicks = "one static, ticks"
)

// Table is what programs cost at one price.
type Table struct {
	Price  float64
	Kinds  []string
	Names  []string             // of the columns
	Ratio  map[string][]float64 // cost over the optimum, by column and kind
	Single time.Duration        // the hold time that is the best for all programs
	Harm   map[string]Harm      // by column, for those that are policies or arms
	// Regret is what was paid over the optimum by CurvePoints times that divide the programs evenly, in CPU
	// seconds and as the mean of all programs. It has the policies, the best arm, and what is the best for
	// each program at ticks.
	Regret map[string][]float64
	// Plays is how often a policy used each arm, as a share of the waits; see Result. It has the policies
	// that name times.
	Plays      map[string][]float64
	Recoveries []Recovery

	programs  int
	generated bool       // programs are of Kinds
	optimum   []float64  // by kind
	statics   []*statics // right away, and at ticks
}

// Harm is the most that a policy cost in one program, over what others did there.
type Harm struct {
	Static, BreakEven Worst // over the best fixed hold time, in hindsight and at ticks, and over break-even
}

// Worst is the largest of some ratios, and the program that has it.
type Worst struct {
	Ratio float64
	Kind  string
	Seed  uint64 // 0: the program was given
}

// note keeps the larger one. A program that costs the other nothing is left out.
func (w *Worst) note(cost, other float64, kind string, seed uint64) {
	if x := cost / other; other > 0 && x > w.Ratio {
		*w = Worst{x, kind, seed}
	}
}

// startup is the kind that Mean leaves out: the wait after its peak never ends, so that its optimum is
// the return alone.
const startup = "startup"

// Mean returns the geometric mean of a column over all kinds except startup.
func (t *Table) Mean(name string) float64 { return t.mean(t.Ratio[name]) }

func (t *Table) mean(ratio []float64) float64 {
	sum, n := 0.0, 0.0
	for i, kind := range t.Kinds {
		if kind != startup || !t.generated {
			sum += math.Log(ratio[i])
			n++
		}
	}
	return math.Exp(sum / n)
}

// String returns the table: a line for each column with the mean and all kinds.
func (t *Table) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "price %g, break-even %v; cost over the optimum\n%-18s %8s", t.Price, CostsAt(t.Price).BreakEven().Round(time.Millisecond), "", "mean")
	for _, kind := range t.Kinds {
		fmt.Fprintf(&s, " %7.7s", kind)
	}
	for _, name := range t.Names {
		fmt.Fprintf(&s, "\n%-18s %8.3f", name, t.Mean(name))
		for i := range t.Kinds {
			fmt.Fprintf(&s, " %7.2f", t.Ratio[name][i])
		}
	}
	fmt.Fprintf(&s, "\n%s: %v\n", nameSingle, t.Single)
	return s.String()
}

// Best returns the arm that has the lowest mean.
func (t *Table) Best() time.Duration {
	return slices.MinFunc(learn.Arms[:], func(a, b time.Duration) int { return cmp.Compare(t.Mean(ArmName(a)), t.Mean(ArmName(b))) })
}

// Evaluate runs programs of all kinds and seeds under all policies, and returns a table for each price.
// The costs of one kind are summed over the seeds before they are divided by the optimum.
func Evaluate(kinds []string, seeds []uint64, length time.Duration, prices ...float64) []*Table {
	var tables []*Table
	for _, price := range prices {
		t := newTable(price, kinds)
		t.generated = true
		tables = append(tables, t)
	}
	for k, kind := range kinds {
		for _, seed := range seeds {
			p := Place(Generate(kind, seed, length))
			for _, t := range tables {
				t.add(p, k, seed, Regimes(kind, length))
			}
		}
	}
	for _, t := range tables {
		t.finish()
	}
	return tables
}

// EvaluatePlaced does the same for programs that were given, each of a kind of its own. It returns an error
// if nothing that a policy does would change what one costs.
func EvaluatePlaced(programs []*Placed, prices ...float64) ([]*Table, error) {
	var kinds []string
	for _, p := range programs {
		if Optimum(p, CostsAt(1)) == 0 {
			return nil, fmt.Errorf("%s: no page that was used is ever free for a time: there is nothing to decide", p.Name)
		}
		kinds = append(kinds, p.Name)
	}
	var tables []*Table
	for _, price := range prices {
		t := newTable(price, kinds)
		for k, p := range programs {
			t.add(p, k, 1, nil)
		}
		t.finish()
		tables = append(tables, t)
	}
	return tables, nil
}

func newTable(price float64, kinds []string) *Table {
	t := &Table{Price: price, Kinds: kinds, Ratio: map[string][]float64{}, optimum: make([]float64, len(kinds)),
		Harm: map[string]Harm{}, Regret: map[string][]float64{}, Plays: map[string][]float64{}}
	for _, m := range Makers() {
		t.Names = append(t.Names, m.Name)
	}
	t.Names = append(t.Names, nameOracle, nameSingle, nameOracleTicks, nameSingleTicks)
	for _, arm := range learn.Arms {
		t.Names = append(t.Names, ArmName(arm))
	}
	for _, name := range t.Names {
		t.Ratio[name] = make([]float64, len(kinds))
	}
	for _, ticks := range []bool{false, true} {
		t.statics = append(t.statics, newStatics(ticks, len(kinds)))
	}
	return t
}

// add runs a program of kind k under everything.
func (t *Table) add(p *Placed, k int, seed uint64, regimes []Regime) {
	c, marks, makers := CostsAt(t.Price), p.marks(), Makers()
	t.programs++
	t.optimum[k] += Optimum(p, c)
	optimum := p.optimumCurve(c, marks)
	costs := map[string]float64{}
	regret := func(name string, curve []float64) {
		costs[name] = curve[len(curve)-1]
		if t.Regret[name] == nil {
			t.Regret[name] = make([]float64, len(marks))
		}
		for i := range curve {
			t.Regret[name][i] += curve[i] - optimum[i]
		}
	}
	for _, m := range makers {
		r := Run(p, m.New(c, seed), c)
		regret(m.Name, r.Curve)
		t.Ratio[m.Name][k] += r.Cost
		if m.Name == nameWindow {
			continue // it names pages and not times
		}
		if t.Plays[m.Name] == nil {
			t.Plays[m.Name] = make([]float64, len(r.Plays))
		}
		for i, n := range r.Plays {
			t.Plays[m.Name][i] += float64(n)
		}
	}
	for _, arm := range learn.Arms {
		regret(ArmName(arm), p.staticCurve(arm, c, marks))
		t.Ratio[ArmName(arm)][k] += costs[ArmName(arm)]
	}
	t.statics[0].add(p, k, c)
	best, hold := t.statics[1].add(p, k, c)
	for name, cost := range costs {
		h := t.Harm[name]
		if !t.generated {
			seed = 0
		}
		h.Static.note(cost, best, t.Kinds[k], seed)
		h.BreakEven.note(cost, costs[nameBreakEven], t.Kinds[k], seed)
		t.Harm[name] = h
	}
	regret(nameOracleTicks, p.staticCurve(hold, c, marks))
	for i := range regimes {
		if i > 0 {
			t.addRecovery(p, t.Kinds[k], regimes[i-1], regimes[i], seed)
		}
	}
}

// addRecovery adds how the policies find a new regime. Until finish, Needed has sums and the programs'
// number is in Needed[""].
func (t *Table) addRecovery(p *Placed, kind string, before, now Regime, seed uint64) {
	needed, gaps := p.recover(now, Makers(), seed, CostsAt(t.Price))
	if gaps == 0 {
		return
	}
	i := slices.IndexFunc(t.Recoveries, func(r Recovery) bool { return r.Kind == kind && r.From == before.Gap })
	if i < 0 {
		i = len(t.Recoveries)
		t.Recoveries = append(t.Recoveries, Recovery{Kind: kind, From: before.Gap, To: now.Gap, Gaps: gaps, Needed: map[string]float64{}})
	}
	t.Recoveries[i].Needed[""]++
	for name, n := range needed {
		t.Recoveries[i].Needed[name] += float64(n)
	}
}

// finish makes ratios and means of what was added.
func (t *Table) finish() {
	t.Ratio[nameOracle] = t.statics[0].best
	t.Ratio[nameOracleTicks] = t.statics[1].best
	for _, list := range t.Ratio {
		t.divide(list)
	}
	t.Ratio[nameSingle], t.Single = t.statics[0].single(t)
	t.Ratio[nameSingleTicks], _ = t.statics[1].single(t)
	t.Regret[NameBestArm] = t.Regret[ArmName(t.Best())]
	for _, arm := range learn.Arms {
		delete(t.Regret, ArmName(arm))
	}
	for _, list := range t.Regret {
		for i := range list {
			list[i] /= float64(t.programs)
		}
	}
	for _, list := range t.Plays {
		sum := 0.0
		for _, n := range list {
			sum += n
		}
		for i := range list {
			list[i] /= max(sum, 1)
		}
	}
	for _, r := range t.Recoveries {
		for name := range r.Needed {
			if name != "" {
				r.Needed[name] /= r.Needed[""]
			}
		}
		delete(r.Needed, "")
	}
}

// statics is what programs cost under fixed hold times.
type statics struct {
	ticks bool
	best  []float64   // with the best hold time of each program, by kind
	costs [][]float64 // with all hold times of the grid, by kind
}

func newStatics(ticks bool, kinds int) *statics {
	s := &statics{ticks: ticks, best: make([]float64, kinds)}
	for range grid {
		s.costs = append(s.costs, make([]float64, kinds))
	}
	return s
}

// add adds a program of kind k. It returns the least cost and the hold time that has it.
func (s *statics) add(p *Placed, k int, c learn.Costs) (best float64, hold time.Duration) {
	best = math.Inf(1)
	for i, h := range grid {
		x := p.waits.static(h, s.ticks, c)
		s.costs[i][k] += x
		if x < best {
			best, hold = x, h
		}
	}
	s.best[k] += best
	return best, hold
}

// single returns the costs over the optimum with the hold time that has the lowest mean.
func (s *statics) single(t *Table) (ratio []float64, hold time.Duration) {
	lowest := math.Inf(1)
	for i, list := range s.costs {
		t.divide(list)
		if x := t.mean(list); x < lowest {
			lowest, ratio, hold = x, list, grid[i]
		}
	}
	return ratio, hold
}

// divide divides costs by the optimum.
func (t *Table) divide(costs []float64) {
	for k := range costs {
		costs[k] /= t.optimum[k]
	}
}
