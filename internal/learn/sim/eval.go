package sim

import (
	"fmt"
	"math"
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
	Price   float64
	Kinds   []string
	Names   []string             // of the columns
	Ratio   map[string][]float64 // cost over the optimum, by column and kind
	Single  time.Duration        // the hold time that is the best for all programs
	optimum []float64            // by kind
	statics []*statics           // right away, and at ticks
}

// startup is the kind that Mean leaves out: the wait after its peak never ends, so that its optimum is
// the return alone.
const startup = "startup"

// Mean returns the geometric mean of a column over all kinds except startup.
func (t *Table) Mean(name string) float64 { return t.mean(t.Ratio[name]) }

func (t *Table) mean(ratio []float64) float64 {
	sum, n := 0.0, 0.0
	for i, kind := range t.Kinds {
		if kind != startup {
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

// Evaluate runs programs of all kinds and seeds under all policies, and returns a table for each price.
// The costs of one kind are summed over the seeds before they are divided by the optimum.
func Evaluate(kinds []string, seeds []uint64, length time.Duration, prices ...float64) []*Table {
	makers := Makers()
	var tables []*Table
	for _, price := range prices {
		t := &Table{Price: price, Kinds: kinds, Ratio: map[string][]float64{}, optimum: make([]float64, len(kinds))}
		for _, m := range makers {
			t.Names = append(t.Names, m.Name)
		}
		t.Names = append(t.Names, nameOracle, nameSingle, nameOracleTicks, nameSingleTicks)
		for _, name := range t.Names {
			t.Ratio[name] = make([]float64, len(kinds))
		}
		for _, ticks := range []bool{false, true} {
			t.statics = append(t.statics, newStatics(ticks, len(kinds)))
		}
		tables = append(tables, t)
	}
	for k, kind := range kinds {
		for _, seed := range seeds {
			p := Place(Generate(kind, seed, length))
			for _, t := range tables {
				c := CostsAt(t.Price)
				t.optimum[k] += Optimum(p, c)
				for _, s := range t.statics {
					s.add(p, k, c)
				}
				for _, m := range makers {
					t.Ratio[m.Name][k] += Run(p, m.New(c, seed), c).Cost
				}
			}
		}
	}
	for _, t := range tables {
		t.Ratio[nameOracle] = t.statics[0].best
		t.Ratio[nameOracleTicks] = t.statics[1].best
		for _, list := range t.Ratio {
			t.divide(list)
		}
		t.Ratio[nameSingle], t.Single = t.statics[0].single(t)
		t.Ratio[nameSingleTicks], _ = t.statics[1].single(t)
	}
	return tables
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

// add adds a program of kind k.
func (s *statics) add(p *Placed, k int, c learn.Costs) {
	best := math.Inf(1)
	for i, hold := range grid {
		x := p.waits.static(hold, s.ticks, c)
		s.costs[i][k] += x
		best = min(best, x)
	}
	s.best[k] += best
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
