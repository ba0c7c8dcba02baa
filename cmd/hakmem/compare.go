package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/hakmem/hakmem/bench"
	"github.com/hakmem/hakmem/bench/loops"
	"github.com/hakmem/hakmem/bench/result"
)

// These are for `compare all`:
const (
	// allBudget is the time that one allocator may take for the timed runs of a workload beyond
	// minRuns. Without it the slowest one would take most of an hour.
	allBudget = 6 * time.Second
	// defaultLater is how long after the end memory is measured once more. It is longer than the
	// decay times of those peers that return memory at all.
	defaultLater = 5 * time.Second
)

// laterQuick are the workloads after which `compare all --quick` waits to see how much memory is
// returned.
var laterQuick = []string{"mstress", "frag"}

func compareVerb() *cli.Command {
	all, _ := readField(&cli.Command{}) // no flags: the known peers
	known := all.names()
	flags := append(jobFlags(known, known, defaultRuns), fieldFlags()...)
	return &cli.Command{
		Name:      "compare",
		Usage:     "measure hakmem alongside mimalloc, jemalloc, gperftools, glibc, and the Go allocators",
		ArgsUsage: "WORKLOAD|all",
		Description: "The native peers run the same loop in C (bench/native) with LD_PRELOAD; the driver is built\n" +
			"with the C compiler at hand. bench/native/setup.sh installs the peers on Debian.\n\n" +
			"Each run is a process of its own, in an environment without " + strings.Join(droppedEnv, "*, ") + "*,\n" +
			"except those that --env passes on. Before anything else the first allocator runs against itself:\n" +
			"what differs there is noise. A ratio is the peer's figure divided by hakmem's: above 1,\n" +
			"hakmem is faster or smaller. \"net\" leaves out, on each side, the time of its own loop without an\n" +
			"allocator.\n\nWorkloads:\n" + workloadList(),
		Flags: append(flags, verifyFlag,
			&cli.BoolFlag{Name: "quick", Usage: "with all: the " + fmt.Sprint(len(quickNames())) + " most telling workloads, and 3 runs"},
			&cli.BoolFlag{Name: "csv", Usage: "print the results as CSV"},
			&cli.StringFlag{Name: "later", Value: defaultLater.String(), Usage: "measure the memory once more, this `time` after everything was freed; 0: do not"},
		),
		OnUsageError:              badFlags,
		DisableSliceFlagSeparator: true, // values of --env may hold commas
		Action:                    compareAction,
	}
}

func quickNames() []string {
	var names []string
	for i := range bench.Workloads {
		if bench.Workloads[i].Quick {
			names = append(names, bench.Workloads[i].Name)
		}
	}
	return names
}

func compareAction(ctx context.Context, c *cli.Command) error {
	name, err := oneWorkload(c)
	if err != nil {
		return err
	}
	if c.Bool("json") && c.Bool("csv") {
		return usagef("--json and --csv: use one of them")
	}
	if err := verifyAlone(c, "json", "csv"); err != nil {
		return err
	}
	f, err := readField(c)
	if err != nil {
		return err
	}
	known := f.names()
	names := []string{name}
	switch quick := c.Bool("quick"); {
	case quick && name != "all":
		return usagef("--quick: it chooses workloads; use `compare all --quick`")
	case quick:
		names = quickNames()
	case name == "all":
		names = workloadNames()
	}
	var jobs []job
	for _, name := range names {
		j, err := readOneOf(c, name, known, len(names) > 1)
		if err != nil {
			return err
		}
		jobs = append(jobs, j)
	}
	// --dist is read before the other workloads run, and even if --quick leaves its workload out,
	// so that a mistake in it is reported at once.
	if _, err := readDistribution(c.String("dist")); err != nil {
		return err
	}
	// Without --alloc everything is measured, including what --peer added.
	alloc := jobs[0].alloc
	if !c.IsSet("alloc") {
		alloc = known
	}
	var later time.Duration
	if d, err := time.ParseDuration(c.String("later")); err != nil || d != 0 {
		if later, err = readTime(c, "later"); err != nil {
			return err
		}
	}
	bar := newProgress(c.Root().ErrWriter, max(f.placements, 1))
	defer func() { f.clean() }()
	if err := f.prepare(ctx, alloc, bar); err != nil {
		return err
	}
	all := result.Collection{Command: commandLine(), Started: time.Now().UTC().Format(time.RFC3339), Machine: bench.ThisMachine()}
	out := c.Root().Writer
	start := time.Now()
	steps := 0
	for _, j := range jobs {
		steps += (2+len(alloc)+2)*j.runs*max(f.placements, 1) + 2*len(alloc)
	}
	bar = newProgress(c.Root().ErrWriter, steps)
	defer bar.close()
	var failed error
	for i, j := range jobs {
		wait := later
		if c.Bool("quick") && !slices.Contains(laterQuick, j.workload.Name) {
			wait = 0
		}
		report, err := f.compare(ctx, j, alloc, c, wait, bar)
		bar.close()
		if err != nil {
			failed = errors.Join(failed, err)
			if ctx.Err() != nil || errors.Is(err, syscall.EPIPE) { // what is complete is printed all the same
				break
			}
			continue
		}
		if report == nil { // with --verify there is no report
			continue
		}
		all.Reports = append(all.Reports, *report)
		if c.Bool("json") || c.Bool("csv") {
			continue
		}
		if i > 0 {
			fmt.Fprintln(out)
		}
		failed = errors.Join(failed, printComparison(out, j, *report))
		if errors.Is(failed, syscall.EPIPE) { // nothing reads the rest
			break
		}
	}
	all.Seconds = time.Since(start).Seconds()
	if c.Bool("json") || c.Bool("csv") {
		for _, report := range all.Reports {
			failed = errors.Join(failed, measured(report))
		}
	}
	switch {
	case len(all.Reports) == 0:
		return failed
	case c.Bool("csv"):
		err = printCSV(out, all.Reports)
	case c.Bool("json") && name == "all":
		err = printJSON(out, all)
	case c.Bool("json"):
		err = printJSON(out, all.Reports[0])
	case len(jobs) > 1:
		err = printWorst(out, all)
	}
	return errors.Join(failed, err)
}

// readOneOf is readJob for one of several workloads. It ignores flags for which the workload has no
// use, and gives each workload a budget of time.
func readOneOf(c *cli.Command, name string, known []string, several bool) (job, error) {
	if !several {
		return readJob(c, name, known)
	}
	for _, p := range bench.ParamTable {
		if c.IsSet(p.Name) {
			return job{}, usagef("--%s %s: with all, each workload has its own parameters; use --scale, or one workload", p.Name, c.String(p.Name))
		}
	}
	var j job
	w, err := bench.FindWorkload(name)
	if err != nil {
		return j, err
	}
	j.workload = w
	if err := j.readShared(c, known); err != nil {
		return j, err
	}
	if err := w.Validate(j.params); err != nil {
		return j, usagef("--scale %s: %s: %w", c.String("scale"), name, err)
	}
	j.budget = allBudget
	if c.Bool("quick") && !c.IsSet("runs") {
		j.runs = minRuns
	}
	return j, nil
}

// compare measures one workload. With --verify it returns nil.
func (f *field) compare(ctx context.Context, j job, alloc []string, c *cli.Command, later time.Duration, bar *progress) (*result.Report, error) {
	clean, err := j.makeTape(c.String("dist"))
	if err != nil {
		return nil, err
	}
	defer clean()
	contestants := f.contestants(j, alloc)
	if c.Bool("verify") {
		if _, err := fmt.Fprintln(c.Root().Writer, j.title()); err != nil {
			return nil, err
		}
		return nil, verify(ctx, j, contestants, c.Root().Writer, c.Root().ErrWriter)
	}
	started := time.Now().UTC().Format(time.RFC3339)
	// The A/A run is of hakmem's first interface, or of the first allocator if hakmem takes no
	// part.
	first := max(0, slices.IndexFunc(alloc, result.IsHakmem))
	twins := []*contestant{f.contestants(j, alloc)[first], f.contestants(j, alloc)[first]}
	if err := interleave(ctx, j, twins, bar); err != nil {
		return nil, err
	}
	if err := interleave(ctx, j, contestants, bar); err != nil {
		return nil, err
	}
	explainAbsent(contestants)
	for _, c := range contestants {
		if c.absent == "" && c.name != loops.Empty {
			bar.doing(fmt.Sprintf("%s: %s, latency", j.workload.Name, c.name))
			c.sampleLatency(ctx, j)
			bar.step()
		}
	}
	settleAll(ctx, j, contestants, later, bar)
	if ctx.Err() != nil {
		return nil, errInterrupted
	}
	report := makeReport(j, contestants)
	for i := range report.Results {
		if report.Results[i].LaterRSS != nil {
			report.Results[i].Later = later.Seconds()
		}
	}
	report.Ratios = result.Ratios(report.Results)
	report.Noise = result.NewNoise(alloc[first], twins[0].runs, twins[1].runs)
	f.sign(&report, started)
	return &report, nil
}

// sign writes into the report how it was made.
func (f *field) sign(report *result.Report, started string) {
	report.Command, report.Started = commandLine(), started
	report.Environment, report.Dropped = f.set, f.dropped
}

// commandLine returns this command as a reader would repeat it.
func commandLine() []string { return append([]string{"hakmem"}, os.Args[1:]...) }

// printComparison prints one report as tables.
func printComparison(out io.Writer, j job, report result.Report) error {
	if err := printResults(out, j, report); err != nil {
		return err
	}
	if err := printPlacements(out, report); err != nil {
		return err
	}
	printMemory(out, report)
	return printRatios(out, report)
}
