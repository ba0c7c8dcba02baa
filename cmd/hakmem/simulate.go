package main

import (
	"context"
	"fmt"
	"io"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/hakmem/hakmem/bench/result"
	"github.com/hakmem/hakmem/internal/learn"
	"github.com/hakmem/hakmem/internal/learn/sim"
)

// readSimulated reads the flags of generated programs.
func readSimulated(c *cli.Command) (func(context.Context, *result.Tuning) error, error) {
	length, first, seeds := c.Duration("length"), c.Uint64("first"), c.Int("seeds")
	if length < 10*time.Second || length > time.Hour {
		return nil, usagef("--length %v: use a time from 10s to 1h", length)
	}
	if first <= sim.LookedAt || first+uint64(seeds) < first {
		return nil, usagef("--first %d: use a number from %d on; seeds 1 to %d were looked at when the learner was made, and have a column of their own", first, sim.LookedAt+1, sim.LookedAt)
	}
	prices := sortedPrices(c)
	return func(ctx context.Context, t *result.Tuning) (err error) {
		t.Programs = fmt.Sprintf("generated, of %v each, %d of each kind, with seeds %d to %d, which are held out: nothing was tuned with them", length, seeds, first, first+uint64(seeds)-1)
		held := func(price float64) (*sim.Table, error) {
			return sim.Evaluate(sim.Kinds(), seedList(first, seeds), length, price)[0], nil
		}
		lookedAt := func(price float64) *sim.Table {
			return sim.Evaluate(sim.Kinds(), seedList(1, sim.LookedAt), length, price)[0]
		}
		t.Simulated, err = simulateAll(ctx, prices, first, held, lookedAt)
		return err
	}, nil
}

// readTraced reads the files of --trace.
func readTraced(c *cli.Command) (func(context.Context, *result.Tuning) error, error) {
	var programs []*sim.Placed
	for _, name := range c.StringSlice("trace") {
		p, err := openDemand(name)
		if err != nil {
			return nil, err
		}
		programs = append(programs, p)
	}
	prices := sortedPrices(c)
	return func(ctx context.Context, t *result.Tuning) (err error) {
		t.Programs = "those whose demand is in " + listOf(c.StringSlice("trace"))
		t.Simulated, err = simulateAll(ctx, prices, 1, func(price float64) (*sim.Table, error) {
			tables, err := sim.EvaluatePlaced(programs, price)
			if err != nil {
				return nil, err
			}
			return tables[0], nil
		}, nil)
		return err
	}, nil
}

// simulateAll simulates each price on a goroutine of its own. Everything is done twice, which must give the
// same. lookedAt is nil for programs that were given. seed is that of the policies that play against
// adversaries.
func simulateAll(ctx context.Context, prices []float64, seed uint64, held func(price float64) (*sim.Table, error), lookedAt func(price float64) *sim.Table) ([]result.Simulation, error) {
	list := make([]result.Simulation, len(prices))
	errs := make([]error, len(prices))
	if ctx.Err() != nil {
		return nil, errInterrupted
	}
	var wg sync.WaitGroup
	for i, price := range prices {
		wg.Go(func() {
			table, err := held(price)
			if err != nil {
				errs[i] = err
				return
			}
			if again, err := held(price); err != nil || !reflect.DeepEqual(table, again) {
				errs[i] = fmt.Errorf("price %g: two simulations of the same programs differ: the simulator is broken", price)
				return
			}
			list[i] = simulation(table)
			if lookedAt != nil {
				addAdversaries(&list[i], seed)
				other := lookedAt(price)
				for k := range list[i].Policies {
					list[i].Policies[k].LookedAt = other.Mean(list[i].Policies[k].Name)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done(): // the simulations end with this process
		return nil, errInterrupted
	}
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return list, nil
}

// addAdversaries adds what the policies cost with adversaries.
func addAdversaries(s *result.Simulation, seed uint64) {
	costs := sim.CostsAt(s.Price)
	for _, m := range sim.Makers() {
		i := slices.IndexFunc(s.Policies, func(p result.SimulatedPolicy) bool { return p.Name == m.Name })
		p := &s.Policies[i]
		p.After, p.Flip = sim.Adversary(sim.After, m.New(costs, seed), costs), sim.Adversary(sim.Flip, m.New(costs, seed), costs)
	}
}

// simulation returns what a table says.
func simulation(t *sim.Table) result.Simulation {
	s := result.Simulation{Price: t.Price, BreakEven: sim.CostsAt(t.Price).BreakEven().Seconds(), Kinds: t.Kinds}
	for _, arm := range learn.Arms {
		s.Arms = append(s.Arms, arm.Seconds())
	}
	worst := func(w sim.Worst) *result.WorstProgram {
		return &result.WorstProgram{Ratio: w.Ratio, Kind: w.Kind, Seed: w.Seed}
	}
	for _, name := range t.Names {
		p := result.SimulatedPolicy{Name: name, Mean: t.Mean(name), Ratio: t.Ratio[name], Regret: t.Regret[name], Plays: t.Plays[name]}
		if h, ok := t.Harm[name]; ok {
			p.OverStatic, p.OverBreakEven = worst(h.Static), worst(h.BreakEven)
		}
		if name == sim.ArmName(t.Best()) {
			p.Regret = t.Regret[sim.NameBestArm]
		}
		s.Policies = append(s.Policies, p)
	}
	for _, r := range t.Recoveries {
		s.Recoveries = append(s.Recoveries, result.Recovery{Kind: r.Kind, From: r.From.Seconds(), To: r.To.Seconds(), Gaps: r.Gaps, Needed: r.Needed})
	}
	return s
}

// printSimulation prints the tables of one price.
func printSimulation(out io.Writer, programs string, s result.Simulation) error {
	fmt.Fprintf(out, "price %g, break-even %.2f s: cost over the optimum\nprograms: %s\n", s.Price, s.BreakEven, programs)
	w := newTable(out)
	looked := slices.ContainsFunc(s.Policies, func(p result.SimulatedPolicy) bool { return p.LookedAt > 0 })
	fmt.Fprint(w, "hold time\tmean\t")
	if looked {
		fmt.Fprint(w, "looked at\t")
	}
	fmt.Fprint(w, "worst kind\t\tworst over best static\tover break-even")
	if looked {
		fmt.Fprint(w, "\tadversary: after\tflip")
	}
	fmt.Fprintln(w)
	for _, p := range s.Policies {
		worst := 0
		for k, x := range p.Ratio {
			if x > p.Ratio[worst] {
				worst = k
			}
		}
		fmt.Fprintf(w, "%s\t%.3f\t", p.Name, p.Mean)
		if looked {
			fmt.Fprintf(w, "%.3f\t", p.LookedAt)
		}
		fmt.Fprintf(w, "%.2f\t%s\t%s\t%s", p.Ratio[worst], s.Kinds[worst], worstText(p.OverStatic), worstText(p.OverBreakEven))
		if p.After > 0 {
			fmt.Fprintf(w, "\t%.2f\t%.2f", p.After, p.Flip)
		}
		fmt.Fprintln(w)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if len(s.Recoveries) > 0 {
		fmt.Fprint(out, "\ngaps between peaks until a policy is within 10 % of the best arm for a new regime\n")
		fmt.Fprint(w, "hold time")
		for _, r := range s.Recoveries {
			fmt.Fprintf(w, "\t%s, %g to %g s, of %d", r.Kind, r.From, r.To, r.Gaps)
		}
		for _, p := range s.Policies {
			if _, ok := s.Recoveries[0].Needed[p.Name]; !ok {
				continue
			}
			fmt.Fprintf(w, "\n%s", p.Name)
			for _, r := range s.Recoveries {
				fmt.Fprintf(w, "\t%.1f", r.Needed[p.Name])
			}
		}
		fmt.Fprintln(w)
		if err := w.Flush(); err != nil {
			return err
		}
	}
	fmt.Fprint(out, "\nhow often hold times were used, in % of the waits; each up to the time given\n")
	fmt.Fprint(w, "hold time")
	for _, a := range s.Arms {
		fmt.Fprintf(w, "\t%g s", a)
	}
	fmt.Fprintln(w, "\tmore")
	for _, p := range s.Policies {
		if p.Plays == nil {
			continue
		}
		fmt.Fprint(w, p.Name)
		for _, x := range p.Plays {
			fmt.Fprintf(w, "\t%.0f", 100*x)
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}

func worstText(w *result.WorstProgram) string {
	if w == nil {
		return ""
	}
	if w.Seed == 0 {
		return fmt.Sprintf("%.2f %s", w.Ratio, w.Kind)
	}
	return fmt.Sprintf("%.2f %s/%d", w.Ratio, w.Kind, w.Seed)
}
