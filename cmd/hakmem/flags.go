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
)

// job is what the flags of bench and compare ask for.
type job struct {
	workload string
	params   bench.Params
	alloc    []string // what to measure, in this order
	runs     int
	json     bool
	limit    time.Duration // for one child process
}

const (
	// defaultRuns is odd, so that the median is one of the runs, and enough
	// that two disturbed ones do not move it.
	defaultRuns = 5
	// maxRuns bounds --runs and --layouts: beyond it lies a typing error.
	maxRuns = 10_000
	// defaultLimit ends a child that hangs. The slowest allocator takes some
	// seconds for the default 20 million operations.
	defaultLimit = 2 * time.Minute
)

// jobFlags returns the flags that bench and compare share. They are strings
// for the parser, so that what is wrong with one is said in our words.
func jobFlags(known []string) []cli.Flag {
	d := bench.Default()
	number := func(name string, value uint64, usage string) cli.Flag {
		return &cli.StringFlag{Name: name, Value: strconv.FormatUint(value, 10), Usage: usage}
	}
	list := strings.Join(known, ",")
	return []cli.Flag{
		&cli.StringFlag{Name: "alloc", Value: list, Usage: "what to measure: some of " + list},
		number("min", d.Min, "random_mixed: smallest block in `bytes`"),
		number("max", d.Max, "random_mixed: largest block in `bytes`"),
		number("ws", d.WS, "random_mixed: working set in `slots` per thread"),
		number("iters", d.Iters, "operations per thread"),
		number("threads", uint64(d.Threads), "threads, each with slots of its own"),
		number("seed", uint64(d.Seed), "random_mixed: start of the random sequence; thread i takes seed+i"),
		number("runs", defaultRuns, "runs of each, interleaved; medians are reported"),
		&cli.StringFlag{Name: "limit", Value: defaultLimit.String(), Usage: "`time` after which one run is ended and its allocator called absent"},
		&cli.BoolFlag{Name: "json", Usage: "print a JSON report"},
	}
}

// readJob reads and checks the flags and the workload.
func readJob(c *cli.Command, known []string) (job, error) {
	j := job{json: c.Bool("json")}
	switch args := c.Args().Slice(); {
	case len(args) == 0:
		return j, usagef("no workload given; use one of %s", strings.Join(bench.Workloads, ", "))
	case len(args) > 1:
		return j, usagef("one workload at a time, got %q; leave %q out", args, args[1])
	case !slices.Contains(bench.Workloads, args[0]):
		return j, usagef("unknown workload %q; use one of %s", args[0], strings.Join(bench.Workloads, ", "))
	default:
		j.workload = args[0]
	}
	if j.workload == bench.TinyHot {
		for _, name := range []string{"min", "max", "ws"} {
			if c.IsSet(name) {
				return j, usagef("--%s %s: tiny_hot has blocks of %d bytes in batches of %d; leave the flag out, or use random_mixed",
					name, c.String(name), bench.HotSize, bench.HotBatch)
			}
		}
	}
	var threads, runs, seed uint64
	for _, n := range []struct {
		name string
		v    *uint64
		max  uint64
	}{
		{"min", &j.params.Min, bench.MaxSize},
		{"max", &j.params.Max, bench.MaxSize},
		{"ws", &j.params.WS, bench.MaxWS},
		{"iters", &j.params.Iters, bench.MaxIters},
		{"threads", &threads, bench.MaxThreads},
		{"seed", &seed, 1<<32 - 1},
		{"runs", &runs, maxRuns},
	} {
		var err error
		if *n.v, err = readNumber(c, n.name, n.max); err != nil {
			return j, err
		}
	}
	j.params.Threads, j.params.Seed, j.runs = int(threads), uint32(seed), int(runs)
	if err := j.params.Validate(j.workload); err != nil {
		var p *bench.ParamError
		if errors.As(err, &p) {
			return j, usageError{err}
		}
		return j, err
	}
	limit, err := time.ParseDuration(c.String("limit"))
	if err != nil || limit <= 0 {
		return j, usagef("--limit %q: use a time above 0, such as 90s or 5m", c.String("limit"))
	}
	j.limit = limit
	j.alloc, err = readList("alloc", c.String("alloc"), known)
	return j, err
}

// readNumber reads a flag that is a whole number from 1 to max; underscores
// may part its digits.
func readNumber(c *cli.Command, name string, max uint64) (uint64, error) {
	text := c.String(name)
	n, err := strconv.ParseUint(strings.ReplaceAll(text, "_", ""), 10, 64)
	if err != nil || n < 1 || n > max {
		return 0, usagef("--%s %q: use a whole number from 1 to %d", name, text, max)
	}
	return n, nil
}

// readList reads a comma-separated list of known words.
func readList(name, text string, known []string) ([]string, error) {
	var list []string
	for word := range strings.SplitSeq(text, ",") {
		word = strings.TrimSpace(word)
		if !slices.Contains(known, word) {
			return nil, usagef("--%s %q: unknown name %q; use one or more of %s, parted by commas", name, text, word, strings.Join(known, ","))
		}
		if !slices.Contains(list, word) {
			list = append(list, word)
		}
	}
	return list, nil
}

// paramMap is the parameters as the report shows them.
func (j job) paramMap() map[string]any {
	m := j.params.Map(j.workload)
	m["runs"] = j.runs
	return m
}

// title describes the job in one line.
func (j job) title() string {
	p := j.params
	if j.workload == bench.TinyHot {
		return fmt.Sprintf("%s: %d B in batches of %d, %d ops per thread, %d thread(s), %d run(s)",
			j.workload, bench.HotSize, bench.HotBatch, p.Iters, p.Threads, j.runs)
	}
	return fmt.Sprintf("%s: %d-%d B, %d slots, %d ops per thread, %d thread(s), seed %d, %d run(s)",
		j.workload, p.Min, p.Max, p.WS, p.Iters, p.Threads, p.Seed, j.runs)
}
