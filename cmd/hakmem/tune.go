package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/hakmem/hakmem/internal/learn/sim"
)

func tuneVerb() *cli.Command {
	return &cli.Command{
		Name: "tune", Usage: "what the learner is worth",
		Description:  "The learner decides for how long free memory is kept (docs/learning.md).",
		Commands:     []*cli.Command{tuneEvalVerb()},
		OnUsageError: badFlags,
		Action:       needsVerb("eval"),
	}
}

// needsVerb is the action of a verb that has others below it, which are listed in use.
func needsVerb(use string) cli.ActionFunc {
	return func(_ context.Context, c *cli.Command) error {
		if verb := c.Args().First(); verb != "" {
			return usagef("unknown verb %q of %s; use %s", verb, c.Name, use)
		}
		return usagef("%s needs a verb: use %s", c.Name, use)
	}
}

// checkPrice refuses a price of memory that HAKMEM_MEMORY_PRICE would refuse, except for its number of
// digits.
func checkPrice(price float64) error {
	if !(price >= 0.001 && price <= 100) {
		return usagef("--price %g: use a number from 0.001 to 100", price)
	}
	return nil
}

func tuneEvalVerb() *cli.Command {
	return &cli.Command{
		Name: "eval", Usage: "hold the learner against the offline optimum, fixed hold times, chance and adversaries, in a simulator",
		Description: "Runs generated programs of 23 kinds in virtual time, under the learner and others. A program's\n" +
			"blocks are placed as hakmem's page tree does. The cost is CPU time for page faults and returns,\n" +
			"and for each GiB that is kept for a second the price. It is printed over that of the optimum,\n" +
			"which knows how long each page will wait. Seeds 1 to 3 were looked at when the learner was\n" +
			"made; others were not.",
		Flags: []cli.Flag{
			&cli.FloatSliceFlag{Name: "price", Value: sim.Prices, Usage: "CPU seconds for a GiB held for a second; may be repeated"},
			&cli.IntFlag{Name: "seeds", Value: 10, Usage: "how many programs of each kind"},
			&cli.Uint64Flag{Name: "first", Value: 1001, Usage: "the first seed"},
			&cli.DurationFlag{Name: "length", Value: 5 * time.Minute, Usage: "of a program, in virtual time"},
			&cli.BoolFlag{Name: "json", Usage: "print JSON"},
		},
		OnUsageError: badFlags,
		Action: func(_ context.Context, c *cli.Command) error {
			if err := noArguments(c); err != nil {
				return err
			}
			seeds, length := c.Int("seeds"), c.Duration("length")
			if seeds < 1 || seeds > 1000 {
				return usagef("--seeds %d: use a number from 1 to 1000", seeds)
			}
			if length < 10*time.Second || length > time.Hour {
				return usagef("--length %v: use a time from 10s to 1h", length)
			}
			var bad error
			for _, price := range c.FloatSlice("price") {
				bad = errors.Join(bad, checkPrice(price))
			}
			if bad != nil {
				return bad
			}
			list := evaluate(c.FloatSlice("price"), seeds, c.Uint64("first"), length)
			if c.Bool("json") {
				return printJSON(c.Root().Writer, list)
			}
			for _, e := range list {
				if err := e.print(c.Root().Writer); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// evaluation is what the verb prints for a price.
type evaluation struct {
	Price            float64
	BreakEvenSeconds float64
	Kinds            []string
	Policies         []evaluatedPolicy
	Adversaries      []evaluatedPolicy // the ratios are those of sim.After and sim.Flip
}

// evaluatedPolicy is a policy's costs over the optimum.
type evaluatedPolicy struct {
	Name  string
	Mean  float64   // geometric; of adversaries, the worst
	Ratio []float64 // by kind
}

// evaluate simulates each price on a goroutine of its own.
func evaluate(prices []float64, seeds int, first uint64, length time.Duration) []evaluation {
	list := make([]evaluation, len(prices))
	var numbers []uint64
	for i := range seeds {
		numbers = append(numbers, first+uint64(i))
	}
	var wg sync.WaitGroup
	for i, price := range prices {
		wg.Go(func() {
			t := sim.Evaluate(sim.Kinds(), numbers, length, price)[0]
			costs := sim.CostsAt(price)
			e := evaluation{Price: price, BreakEvenSeconds: costs.BreakEven().Seconds(), Kinds: t.Kinds}
			for _, name := range t.Names {
				e.Policies = append(e.Policies, evaluatedPolicy{name, t.Mean(name), t.Ratio[name]})
			}
			for _, m := range sim.Makers() {
				after, flip := sim.Adversary(sim.After, m.New(costs, first), costs), sim.Adversary(sim.Flip, m.New(costs, first), costs)
				e.Adversaries = append(e.Adversaries, evaluatedPolicy{m.Name, math.Max(after, flip), []float64{after, flip}})
			}
			list[i] = e
		})
	}
	wg.Wait()
	return list
}

func (e evaluation) print(out io.Writer) error {
	fmt.Fprintf(out, "price %g, break-even %.2f s: cost over the optimum\n", e.Price, e.BreakEvenSeconds)
	w := newTable(out)
	fmt.Fprint(w, "hold time\tmean\tworst kind\t\tadversary: after\tflip\n")
	for _, p := range e.Policies {
		worst := 0
		for k, x := range p.Ratio {
			if x > p.Ratio[worst] {
				worst = k
			}
		}
		fmt.Fprintf(w, "%s\t%.3f\t%.2f\t%s", p.Name, p.Mean, p.Ratio[worst], e.Kinds[worst])
		for _, a := range e.Adversaries {
			if a.Name == p.Name {
				fmt.Fprintf(w, "\t%.2f\t%.2f", a.Ratio[0], a.Ratio[1])
			}
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}
