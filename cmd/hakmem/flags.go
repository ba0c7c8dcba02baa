package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/hakmem/hakmem/bench"
	"github.com/hakmem/hakmem/bench/loops"
)

// job is one workload, and how often it is to be measured.
type job struct {
	workload *bench.Workload
	params   loops.Params
	alloc    []string // what to measure, in this order
	runs     int
	limit    time.Duration // on the time of one child process
	tapeOps  uint64        // operations of the tape, if there is one
	budget   time.Duration // time for all timed runs of one allocator beyond minRuns; 0: no limit
}

const (
	// defaultRuns is odd, so that the median is one of the runs. It is large enough that two
	// disturbed runs do not move the median.
	defaultRuns = 5
	// minRuns is the number of runs that are made however long they take: a median needs three.
	minRuns = 3
	// maxRuns bounds --runs and --placements: a larger number is a typing error.
	maxRuns = 10_000
	// maxScale bounds --scale: with it, runs take minutes to hours.
	maxScale = 1000
	// defaultLimit is the time after which a child is taken to hang and is ended. With the default
	// parameters the slowest allocator takes some ten seconds.
	defaultLimit = 2 * time.Minute
)

// workloadNames returns the names that the measuring verbs accept.
func workloadNames() []string { return append(bench.WorkloadNames(), bench.DistWorkload) }

// workloadList describes the workloads for the help text, one on each line.
func workloadList() string {
	var b strings.Builder
	for _, name := range workloadNames() {
		if w, err := bench.FindWorkload(name); err == nil {
			fmt.Fprintf(&b, "  %-14s %s\n", name, w.Doc)
		}
	}
	return b.String()
}

// jobFlags returns the flags that the measuring verbs share. To the parser they are strings, so
// that this program words the errors.
func jobFlags(known, defaults []string, runs int) []cli.Flag {
	flags := []cli.Flag{
		&cli.StringFlag{Name: "alloc", Value: strings.Join(defaults, ","), Usage: "what to measure: some of " + strings.Join(known, ",")},
		&cli.StringFlag{Name: "runs", Value: strconv.Itoa(runs), Usage: "runs of each, interleaved; medians are reported"},
		&cli.StringFlag{Name: "limit", Value: defaultLimit.String(), Usage: "`time` after which one run is ended and its allocator called absent"},
		&cli.StringFlag{Name: "scale", Value: "1", Usage: "multiply slots and operations that no flag sets by this `factor`, for machines with less memory or time"},
		&cli.BoolFlag{Name: "json", Usage: "print a JSON report"},
	}
	for _, p := range bench.ParamTable {
		flags = append(flags, &cli.StringFlag{Name: p.Name, Usage: p.Doc + " (where the workload has it)"})
	}
	return append(flags,
		&cli.StringFlag{Name: "dist", Value: "web", Usage: "dist: a CSV `FILE` of size,rate,live rows, or web, a built-in one"})
}

// readJob reads and checks the flags for one workload.
func readJob(c *cli.Command, name string, known []string) (job, error) {
	var j job
	if !slices.Contains(workloadNames(), name) {
		return j, usagef("unknown workload %q; use one of %s", name, strings.Join(workloadNames(), ", "))
	}
	w, err := bench.FindWorkload(name)
	if err != nil {
		return j, err
	}
	j.workload = w
	if err := j.readShared(c, known); err != nil {
		return j, err
	}
	for i := range bench.ParamTable {
		p := &bench.ParamTable[i]
		if !c.IsSet(p.Name) {
			continue
		}
		v, err := readNumber(c, p.Name, p.Max)
		if err != nil {
			return j, err
		}
		p.Set(&j.params, v)
	}
	if c.IsSet("dist") && name != bench.DistWorkload {
		return j, usagef("--dist %q: %s has its own sizes; use the workload dist", c.String("dist"), name)
	}
	if err := w.Validate(j.params); err != nil {
		var p *loops.ParamError
		if errors.As(err, &p) {
			if scale := c.String("scale"); c.IsSet("scale") && !c.IsSet(p.Name) {
				return j, usagef("--scale %s gives %w", scale, err)
			}
			return j, usageError{err}
		}
		return j, err
	}
	return j, nil
}

// readShared reads the flags that do not depend on the workload, and scales its parameters.
func (j *job) readShared(c *cli.Command, known []string) error {
	scale, err := strconv.ParseFloat(c.String("scale"), 64)
	if err != nil || !(scale > 0 && scale <= maxScale) {
		return usagef("--scale %q: use a number above 0, such as 0.1, up to %d", c.String("scale"), maxScale)
	}
	j.params = j.workload.Params
	if scale != 1 {
		j.params = j.workload.Scale(j.params, scale)
	}
	runs, err := readNumber(c, "runs", maxRuns)
	if err != nil {
		return err
	}
	j.runs = int(runs)
	if j.limit, err = readTime(c, "limit"); err != nil {
		return err
	}
	j.alloc, err = readList("alloc", c.String("alloc"), known)
	return err
}

// oneWorkload returns the only argument.
func oneWorkload(c *cli.Command) (string, error) {
	switch args := c.Args().Slice(); {
	case len(args) == 0:
		return "", usagef("no workload given; use one of %s", strings.Join(workloadNames(), ", "))
	case len(args) > 1:
		return "", usagef("one workload at a time, got %q; leave %q out", args, args[1])
	default:
		return args[0], nil
	}
}

// readTime reads a flag whose value is a time above 0.
func readTime(c *cli.Command, name string) (time.Duration, error) {
	d, err := time.ParseDuration(c.String(name))
	if err != nil || d <= 0 {
		return 0, usagef("--%s %q: use a time above 0, such as 90s or 5m", name, c.String(name))
	}
	return d, nil
}

// readNumber reads a flag whose value is a whole number from 1 to max. The digits may be separated
// by underscores.
func readNumber(c *cli.Command, name string, max uint64) (uint64, error) {
	text := c.String(name)
	n, err := strconv.ParseUint(strings.ReplaceAll(text, "_", ""), 10, 64)
	if err != nil || n < 1 || n > max {
		return 0, usagef("--%s %q: use a whole number from 1 to %d", name, text, max)
	}
	return n, nil
}

// readList reads a comma-separated list of known words, or of former names of theirs.
func readList(name, text string, known []string) ([]string, error) {
	var list []string
	for word := range strings.SplitSeq(text, ",") {
		word = strings.TrimSpace(word)
		if now := formerNames[word]; slices.Contains(known, now) && !slices.Contains(known, word) {
			word = now
		}
		if !slices.Contains(known, word) {
			return nil, usagef("--%s %q: unknown name %q; use one or more of %s, separated by commas", name, text, word, strings.Join(known, ","))
		}
		if !slices.Contains(list, word) {
			list = append(list, word)
		}
	}
	return list, nil
}

// paramMap returns the parameters as the report shows them.
func (j job) paramMap() map[string]any {
	m := j.workload.Map(j.params)
	m["runs"] = j.runs
	return m
}

// title describes the job in one line.
func (j job) title() string {
	var b strings.Builder
	b.WriteString(j.workload.Name)
	for i := range bench.ParamTable {
		if p := &bench.ParamTable[i]; j.workload.Uses(p) {
			fmt.Fprintf(&b, " --%s %d", p.Name, p.Get(&j.params))
		}
	}
	fmt.Fprintf(&b, ", %d run(s)", j.runs)
	return b.String()
}
