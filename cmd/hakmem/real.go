package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/hakmem/hakmem/bench/result"
	"github.com/hakmem/hakmem/internal/policy"
)

// The arms of tune eval --real are values of HAKMEM_KEEP, and one more name.
const (
	armAlways  = "always"
	armNoLearn = "nolearn" // hakmem built without the learner, with HAKMEM_KEEP=auto
	// defaultArms are the learner, both ends, and fixed times around break-even at the default prices.
	defaultArms = "auto,never,always,100ms,500ms,1s,2.3s,5s"
	noLearnTag  = "hakmem_nolearn"
)

// realTrial is what --real is to run.
type realTrial struct {
	arms     []string
	baseline string
	patterns []string
	seeds    []uint64
	prices   []float64
	duration time.Duration
	noLearn  string // the program for the arm nolearn; "": it is to be built
	bar      *progress
	program  string
	env      []string
}

// readReal reads the flags of --real.
func readReal(c *cli.Command) (func(context.Context, *result.Tuning) error, error) {
	t := realTrial{baseline: c.String("baseline"), duration: c.Duration("duration"), prices: sortedPrices(c), noLearn: c.String("nolearn")}
	for _, price := range t.prices {
		if text := priceText(price); wrongSetting("HAKMEM_MEMORY_PRICE", text) != nil {
			return nil, usagef("--price %s: %w", text, wrongSetting("HAKMEM_MEMORY_PRICE", text))
		}
	}
	if t.duration < time.Second || t.duration > time.Hour {
		return nil, usagef("--duration %v: use a time from 1s to 1h", t.duration)
	}
	var err error
	if t.patterns, err = readList("patterns", c.String("patterns"), patternNames()); err != nil {
		return nil, err
	}
	for arm := range strings.SplitSeq(c.String("arms"), ",") {
		arm = strings.TrimSpace(arm)
		if arm != armNoLearn {
			if err := wrongSetting("HAKMEM_KEEP", arm); err != nil {
				return nil, usagef("--arms %q: %w; or use %s", arm, err, armNoLearn)
			}
		}
		if !slices.Contains(t.arms, arm) {
			t.arms = append(t.arms, arm)
		}
	}
	if c.IsSet("nolearn") {
		if _, err := os.Stat(t.noLearn); err != nil {
			return nil, usagef("--nolearn: %w; name a build of this program with -tags %s", err, noLearnTag)
		}
		if t.noLearn, err = filepath.Abs(t.noLearn); err != nil {
			return nil, err
		}
		if !slices.Contains(t.arms, armNoLearn) {
			t.arms = append(t.arms, armNoLearn)
		}
	}
	if !slices.Contains(t.arms, armAlways) {
		t.arms = append(t.arms, armAlways) // the others' CPU time is counted over its
	}
	if !slices.Contains(t.arms, t.baseline) {
		return nil, usagef("--baseline %q: use one of the arms, %s, or add it to --arms", t.baseline, listOf(t.arms))
	}
	seeds := 1
	if c.IsSet("seeds") {
		seeds = c.Int("seeds")
	}
	t.seeds = seedList(c.Uint64("first"), seeds)
	errs := c.Root().ErrWriter
	return func(ctx context.Context, r *result.Tuning) error {
		if t.program, err = self(); err != nil {
			return err
		}
		t.env, _ = cleanEnv(os.Environ())
		runs := len(t.runs())
		t.bar = newProgress(errs, runs)
		defer t.bar.close()
		r.Real, err = t.run(ctx)
		return err
	}, nil
}

// wrongSetting returns an error if a setting does not accept a value.
func wrongSetting(name, value string) error {
	if value == "" {
		return fmt.Errorf("%s has no empty value", name)
	}
	if _, problems := policy.Build(func(n string) (string, bool) { return value, n == name }); len(problems) > 0 {
		return problems[0]
	}
	return nil
}

func priceText(price float64) string { return strconv.FormatFloat(price, 'f', -1, 64) }

// runs returns the runs to be made, in their order: for each pattern and seed all arms once, and then all
// again, so that a disturbance of the machine does not fall on one arm only. Arms that depend on the price run
// for each.
func (t *realTrial) runs() (list []result.RealRun) {
	for _, pattern := range t.patterns {
		for _, seed := range t.seeds {
			for series := 1; series <= 2; series++ {
				for _, arm := range t.arms {
					prices := []float64{0}
					if arm == "auto" || arm == armNoLearn {
						prices = t.prices
					}
					for _, price := range prices {
						list = append(list, result.RealRun{Arm: arm, Price: price, Pattern: pattern, Seed: seed, Series: series})
					}
				}
			}
		}
	}
	return list
}

// run makes the runs and sums them up.
func (t *realTrial) run(ctx context.Context) (*result.RealTuning, error) {
	if slices.Contains(t.arms, armNoLearn) && t.noLearn == "" {
		dir, err := os.MkdirTemp("", "hakmem-nolearn-")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir)
		t.bar.doing("building the arm " + armNoLearn)
		t.noLearn = filepath.Join(dir, "hakmem")
		if err := buildSelf(ctx, t.noLearn, nil, "-tags", noLearnTag); err != nil {
			return nil, fmt.Errorf("the arm %s: %w; or name a program with --nolearn", armNoLearn, err)
		}
	}
	r := &result.RealTuning{Seconds: t.duration.Seconds(), Baseline: t.baseline, Patterns: t.patterns, Seeds: t.seeds}
	for _, run := range t.runs() {
		t.bar.doing(fmt.Sprintf("%s: %s, seed %d, series %d", run.Pattern, run.Arm, run.Seed, run.Series))
		var err error
		if run.RealFigures, err = t.child(ctx, run); err != nil {
			if ctx.Err() != nil {
				return nil, errInterrupted
			}
			return nil, fmt.Errorf("%s under %s: %w", run.Pattern, run.Arm, err)
		}
		r.Runs = append(r.Runs, run)
		t.bar.step()
	}
	for _, price := range t.prices {
		r.Prices = append(r.Prices, summarizeReal(r, t.arms, price))
	}
	return r, nil
}

// child makes one run.
func (t *realTrial) child(ctx context.Context, run result.RealRun) (f result.RealFigures, err error) {
	spec, err := json.Marshal(demandSpec{run.Pattern, run.Seed, t.duration})
	if err != nil {
		return f, err
	}
	program, keep := t.program, run.Arm
	if run.Arm == armNoLearn {
		program, keep = t.noLearn, "auto"
	}
	env := append(slices.Clone(t.env), "HAKMEM_KEEP="+keep)
	if run.Price > 0 {
		env = append(env, "HAKMEM_MEMORY_PRICE="+priceText(run.Price))
	}
	// A machine that is so busy that a run takes four times as long says nothing about the arms.
	out, _, err := command{program, []string{demandName, string(spec)}, env}.output(ctx, 4*t.duration+defaultLimit, false)
	if err != nil {
		return f, err
	}
	if err := json.Unmarshal(out, &f); err != nil {
		return f, fmt.Errorf("printed no result: %q", firstLine(string(out)))
	}
	if run.Arm == armNoLearn && !slices.Contains(strings.Split(f.Tags, ","), noLearnTag) {
		return f, fmt.Errorf("%s was not built with -tags %s", t.noLearn, noLearnTag)
	}
	return f, nil
}

// summarizeReal sums up the runs at one price of memory.
func summarizeReal(r *result.RealTuning, arms []string, price float64) result.RealPrice {
	sum := result.RealPrice{Price: price}
	of := func(arm, pattern string) (list []result.RealRun) {
		for _, run := range r.Runs {
			if run.Arm == arm && run.Pattern == pattern && (run.Price == 0 || run.Price == price) {
				list = append(list, run)
			}
		}
		return list
	}
	var base []result.RealPattern
	for _, arm := range arms {
		a := result.RealArm{Name: arm}
		for _, pattern := range r.Patterns {
			a.Patterns = append(a.Patterns, realPattern(pattern, of(arm, pattern), of(armAlways, pattern), price))
		}
		if arm == r.Baseline {
			base = a.Patterns
		}
		sum.Arms = append(sum.Arms, a)
	}
	for i := range sum.Arms {
		relate(&sum.Arms[i], base)
	}
	return sum
}

// realPattern returns what the runs of an arm cost. always has those of HAKMEM_KEEP=always.
func realPattern(pattern string, runs, always []result.RealRun, price float64) result.RealPattern {
	p := result.RealPattern{Pattern: pattern}
	reference := 0.0
	for _, run := range always {
		reference += run.CPU / float64(len(always))
	}
	var series [2]float64
	n := float64(len(runs))
	for _, run := range runs {
		p.CPU += (run.CPU - reference) / n
		p.Memory += run.Excess / n
		p.Faults += float64(run.Faults) / n
		series[run.Series-1] += (run.CPU - reference + price*run.Excess) / (n / 2)
	}
	// To keep everything cannot need more CPU time for faults: a difference below 0 is noise.
	p.Cost = max(p.CPU, 0) + price*p.Memory
	if p.Cost > 0 {
		p.Spread = math.Abs(series[0]-series[1]) / p.Cost
	}
	return p
}

// relate sets the ratios of an arm's patterns over those of the baseline, and their means.
func relate(a *result.RealArm, base []result.RealPattern) {
	var costs, memories []float64
	for i := range a.Patterns {
		p, b := &a.Patterns[i], base[i]
		p.CostRatio, p.MemoryRatio = result.Over(p.Cost, b.Cost), result.Over(p.Memory, b.Memory)
		if p.CostRatio > 0 {
			costs = append(costs, p.CostRatio)
		}
		if p.MemoryRatio > 0 {
			memories = append(memories, p.MemoryRatio)
		}
		if p.CostRatio > a.Worst {
			a.Worst, a.On = p.CostRatio, p.Pattern
		}
		if p.MemoryRatio > a.WorstMemory {
			a.WorstMemory, a.MemoryOn = p.MemoryRatio, p.Pattern
		}
		a.Spread += p.Spread / float64(len(a.Patterns))
		a.MostSpread = max(a.MostSpread, p.Spread)
	}
	a.Cost, a.Memory = geometricMean(costs), geometricMean(memories)
}

// geometricMean returns 0 for no numbers.
func geometricMean(list []float64) float64 {
	if len(list) == 0 {
		return 0
	}
	sum := 0.0
	for _, x := range list {
		sum += math.Log(x)
	}
	return math.Exp(sum / float64(len(list)))
}

// printReal prints a table for each price.
func printReal(out io.Writer, r *result.RealTuning) error {
	fmt.Fprintf(out, "%d runs of %g s; figures over those of %s\n", len(r.Runs), r.Seconds, r.Baseline)
	for _, price := range r.Prices {
		fmt.Fprintf(out, "\nprice %g\n", price.Price)
		w := newTable(out)
		fmt.Fprint(w, "arm\tcost\tworst\t\tmemory\tworst\t\tnoise\tmost")
		for _, p := range r.Patterns {
			fmt.Fprintf(w, "\t%s", p)
		}
		fmt.Fprintln(w)
		for _, a := range price.Arms {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%.1f %%\t%.1f %%", a.Name, figure(a.Cost, 2), figure(a.Worst, 2), a.On,
				figure(a.Memory, 2), figure(a.WorstMemory, 2), a.MemoryOn, 100*a.Spread, 100*a.MostSpread)
			for _, p := range a.Patterns {
				fmt.Fprintf(w, "\t%s", figure(p.CostRatio, 2))
			}
			fmt.Fprintln(w)
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	late := 0.0
	for _, run := range r.Runs {
		late = max(late, run.Late)
	}
	_, err := fmt.Fprintf(out, "\ncost and memory: geometric means of all patterns; noise: how much the two series of an arm differ in cost.\nAn operation came %.2f s after its time at most.\n", late)
	return err
}
