package main

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/hakmem/hakmem/bench"
	"github.com/hakmem/hakmem/bench/result"
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

// defaultSeeds is how many programs of each kind are simulated: with 10 the means of two sets of seeds
// differ by about 1 %.
const defaultSeeds = 10

func tuneEvalVerb() *cli.Command {
	return &cli.Command{
		Name: "eval", Usage: "hold the learner against the offline optimum, fixed hold times, chance and adversaries: simulated, on a trace, or in real processes",
		Description: "Simulated: generated programs of 23 kinds run in virtual time, under the learner and others. A\n" +
			"program's blocks are placed as hakmem's page tree does. The cost is CPU time for page faults\n" +
			"and returns, and for each GiB that is kept for a second the price. It is printed over that of\n" +
			"the optimum, which knows how long each page will wait. Everything is run twice; the two results\n" +
			"must be the same. Seeds 1 to 3 were looked at when the learner was made; the figures are of\n" +
			"others, which are held out, and a column has the mean of those that were looked at.\n\n" +
			"With --trace, the same on the demand in files (docs/traces.md).\n\n" +
			"With --real, child processes allocate, write and free blocks in real time, under values of\n" +
			"HAKMEM_KEEP. The cost is their CPU time, user and system, less that of HAKMEM_KEEP=always for\n" +
			"the same demand, and the price for each GiB·s that is resident beyond what is alive. It is\n" +
			"printed over that of --baseline. Each arm runs twice; the difference of the two is the noise.\n" +
			"With the defaults this takes an hour. Patterns:\n" + patternList(),
		Flags: []cli.Flag{
			&cli.FloatSliceFlag{Name: "price", Value: sim.Prices, Usage: "CPU seconds for a GiB held for a second; may be repeated"},
			&cli.IntFlag{Name: "seeds", Value: defaultSeeds, Usage: "how many programs of each kind; with --real, of each pattern, by default 1"},
			&cli.Uint64Flag{Name: "first", Value: 1001, Usage: "the first seed"},
			&cli.DurationFlag{Name: "length", Value: 5 * time.Minute, Usage: "of a simulated program, in virtual time"},
			&cli.StringSliceFlag{Name: "trace", TakesFile: true, Usage: "simulate the demand in `FILE` instead of generated programs; may be repeated"},
			&cli.BoolFlag{Name: "real", Usage: "run real processes"},
			&cli.DurationFlag{Name: "duration", Value: 20 * time.Second, Usage: "of each real run"},
			&cli.StringFlag{Name: "patterns", Value: listOf(patternNames()), Usage: "of real demand: some of these"},
			&cli.StringFlag{Name: "arms", Value: defaultArms, Usage: "values of HAKMEM_KEEP, and nolearn: hakmem built without the learner"},
			&cli.StringFlag{Name: "baseline", Value: "500ms", Usage: "the arm that real costs are related to"},
			&cli.StringFlag{Name: "nolearn", TakesFile: true, Usage: "the program for the arm nolearn: hakmem built with -tags hakmem_nolearn; without it one is built from source"},
			&cli.BoolFlag{Name: "json", Usage: "print JSON"},
			&cli.StringFlag{Name: "out", TakesFile: true, Usage: "also write the JSON to `FILE`, for `hakmem report`"},
		},
		DisableSliceFlagSeparator: true,
		OnUsageError:              badFlags,
		Action:                    tuneEvalAction,
	}
}

func tuneEvalAction(ctx context.Context, c *cli.Command) error {
	if err := noArguments(c); err != nil {
		return err
	}
	run, err := readTuning(c)
	if err != nil {
		return err
	}
	out := func(t result.Tuning) error { return nil }
	if name := c.String("out"); c.IsSet("out") { // before the runs, so that a mistake does not cost them
		if err := checkOut(name, c.StringSlice("trace")); err != nil {
			return err
		}
		d, err := newDraft(name)
		if err != nil {
			return usagef("--out: %w; name a file that you can write", err)
		}
		defer d.drop()
		out = func(t result.Tuning) error { return errors.Join(printJSON(d, t), d.keep()) }
	}
	begin := time.Now()
	t := result.Tuning{Version: result.TuningVersion, Command: commandLine(), Started: begin.UTC().Format(time.RFC3339), Machine: bench.ThisMachine()}
	if err := run(ctx, &t); err != nil {
		return err
	}
	t.Seconds = time.Since(begin).Seconds()
	if err := out(t); err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(c.Root().Writer, t)
	}
	return printTuning(c.Root().Writer, t)
}

// checkOut refuses a name for --out that is no file, or a file that is read.
func checkOut(name string, traces []string) error {
	if name == "" || name == "-" {
		return usagef("--out %q: name a file; --json prints JSON", name)
	}
	info, err := os.Stat(name)
	if err != nil {
		return nil // there is no such file yet; newDraft reports what else is wrong
	}
	if !info.Mode().IsRegular() {
		return usagef("--out %q is not a regular file; name another file", name)
	}
	for _, trace := range traces {
		if t, err := os.Stat(trace); err == nil && os.SameFile(info, t) {
			return usagef("--out %q is one of the traces; name another file", name)
		}
	}
	return nil
}

// readTuning reads the flags and returns what fills in the result.
func readTuning(c *cli.Command) (run func(context.Context, *result.Tuning) error, err error) {
	seeds := c.Int("seeds")
	if seeds < 1 || seeds > 1000 {
		return nil, usagef("--seeds %d: use a number from 1 to 1000", seeds)
	}
	var bad error
	for _, price := range c.FloatSlice("price") {
		bad = errors.Join(bad, checkPrice(price))
	}
	if bad != nil {
		return nil, bad
	}
	isReal, traced := c.Bool("real"), c.IsSet("trace")
	if isReal && traced {
		return nil, usagef("--real and --trace %q: use one of them", c.StringSlice("trace")[0])
	}
	for _, f := range []struct {
		names string
		ok    bool
		only  string
	}{
		{"length", !isReal && !traced, "for simulated programs"},
		{"seeds first", !traced, "for generated programs"},
		{"duration patterns arms baseline nolearn", isReal, "with --real"},
	} {
		for name := range strings.FieldsSeq(f.names) {
			if c.IsSet(name) && !f.ok {
				return nil, usagef("--%s %v: this is only %s; leave it out", name, c.Value(name), f.only)
			}
		}
	}
	switch {
	case isReal:
		return readReal(c)
	case traced:
		return readTraced(c)
	}
	return readSimulated(c)
}

// seedList returns n seeds from the first on.
func seedList(first uint64, n int) (list []uint64) {
	for i := range n {
		list = append(list, first+uint64(i))
	}
	return list
}

// printTuning prints the tables.
func printTuning(out io.Writer, t result.Tuning) error {
	if t.Real != nil {
		return printReal(out, t.Real)
	}
	for i, s := range t.Simulated {
		if i > 0 {
			if _, err := io.WriteString(out, "\n"); err != nil {
				return err
			}
		}
		if err := printSimulation(out, t.Programs, s); err != nil {
			return err
		}
	}
	return nil
}

// sortedPrices returns the prices in order, each once.
func sortedPrices(c *cli.Command) []float64 {
	list := slices.Clone(c.FloatSlice("price"))
	slices.Sort(list)
	return slices.Compact(list)
}
