package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/hakmem/hakmem/bench"
	"github.com/hakmem/hakmem/bench/loops"
	"github.com/hakmem/hakmem/bench/result"
	"github.com/hakmem/hakmem/bench/trace"
)

func replayVerb() *cli.Command {
	all, _ := readField(&cli.Command{})
	known := all.names()
	defaults := []string{"hakmem", "hakmem-heap", "mimalloc", "jemalloc", "gperftools", "glibc", "go"}
	return &cli.Command{
		Name:      "replay",
		Usage:     "repeat a recorded trace of allocations over all allocators",
		ArgsUsage: "FILE",
		Description: "FILE has the format of `hakmem record`, of wee_alloc or of AOSP memory_replay, plain or in gz or\n" +
			"zip; docs/traces.md describes the formats. Every page of a block is written. Threads run as recorded,\n" +
			"and keep the recorded order on every block.",
		Flags: append(fieldFlags(),
			&cli.StringFlag{Name: "alloc", Value: listOf(defaults), Usage: "what to measure: some of " + listOf(known)},
			&cli.StringFlag{Name: "format", Value: "auto", Usage: "auto, wee, aosp or hakmem"},
			&cli.StringFlag{Name: "rounds", Value: "1", Usage: "how often to repeat the trace; blocks that it leaves alive are freed in between"},
			&cli.StringFlag{Name: "threads", Value: "0", Usage: "fold the recorded threads into this `number`; 0: as recorded"},
			&cli.StringFlag{Name: "runs", Value: strconv.Itoa(minRuns), Usage: "runs of each, interleaved; medians are reported"},
			&cli.StringFlag{Name: "limit", Value: defaultLimit.String(), Usage: "`time` after which one run is ended and its allocator called absent"},
			&cli.BoolFlag{Name: "json", Usage: "print a JSON report"},
			&cli.BoolFlag{Name: "stats", Usage: "only print what the trace contains"},
			verifyFlag),
		DisableSliceFlagSeparator: true,
		OnUsageError:              badFlags,
		Action:                    replayAction,
	}
}

func replayAction(ctx context.Context, c *cli.Command) error {
	if c.Args().Len() != 1 {
		return usagef("replay takes one trace, got %d arguments; name a file", c.Args().Len())
	}
	if err := verifyAlone(c, "json", "stats"); err != nil {
		return err
	}
	path := c.Args().First()
	format, err := trace.ParseFormat(c.String("format"))
	if err != nil {
		return usagef("--format: %w", err)
	}
	f, err := readField(c)
	if err != nil {
		return err
	}
	w, err := bench.FindWorkload(bench.TapeWorkload)
	if err != nil {
		return err
	}
	j := job{workload: w, params: w.Params}
	if j.alloc, err = readList("alloc", c.String("alloc"), f.names()); err != nil {
		return err
	}
	if !c.IsSet("alloc") { // including those added with --peer
		for _, p := range f.peers[len(peers):] {
			j.alloc = append(j.alloc, p.name)
		}
	}
	runs, err := readNumber(c, "runs", maxRuns)
	if err != nil {
		return err
	}
	j.runs = int(runs)
	if j.params.Rounds, err = readNumber(c, "rounds", loops.MaxIters); err != nil {
		return err
	}
	if j.limit, err = readTime(c, "limit"); err != nil {
		return err
	}
	threads := uint64(0)
	if c.String("threads") != "0" {
		if threads, err = readNumber(c, "threads", loops.MaxThreads); err != nil {
			return err
		}
	}
	r, err := trace.Open(path)
	if err != nil {
		return err
	}
	defer r.Close()
	r.Use(format)
	options := trace.CompileOptions{Threads: int(threads)}
	out := c.Root().Writer
	if c.Bool("stats") {
		s, err := trace.Summarize(r, options)
		if err != nil {
			return err
		}
		if c.Bool("json") {
			return printJSON(out, s)
		}
		return printSummary(out, path, s)
	}
	tape, err := trace.Compile(r, options)
	if err != nil {
		return err
	}
	if len(tape.Ops) == 0 {
		return fmt.Errorf("%s holds no operation that could be repeated; see --stats", path)
	}
	started := time.Now().UTC().Format(time.RFC3339)
	clean, err := j.useTape(tape)
	if err != nil {
		return err
	}
	defer clean()
	defer func() { f.clean() }()
	bar := newProgress(c.Root().ErrWriter, 1)
	if err := f.prepare(ctx, j.alloc, bar); err != nil {
		return err
	}
	contestants := f.contestants(j, j.alloc)
	if c.Bool("verify") {
		return verify(ctx, j, contestants, out, c.Root().ErrWriter)
	}
	bar = newProgress(c.Root().ErrWriter, j.runs*len(contestants))
	err = interleave(ctx, j, contestants, bar)
	bar.close()
	if err != nil {
		return err
	}
	explainAbsent(contestants)
	report := makeReport(j, contestants)
	f.sign(&report, started)
	report.Params["trace"] = path
	report.Params["peak_live_bytes"] = tape.PeakLive
	report.Ratios = result.Ratios(report.Results)
	if c.Bool("json") {
		return errors.Join(printJSON(out, report), measured(report))
	}
	fmt.Fprintf(out, "%s: %d operations in %d thread(s), at most %s in %d blocks alive, %d anomalies\n",
		path, len(tape.Ops), tape.Threads, size(float64(tape.PeakLive)), tape.PeakBlocks, tape.Anomalies.Total())
	if err := printResults(out, j, report); err != nil {
		return err
	}
	return printRatios(out, report)
}

// printSummary prints what a trace contains.
func printSummary(out io.Writer, path string, s trace.Summary) error {
	w := newTable(out)
	row := func(name string, v any) { fmt.Fprintf(w, "%s\t%v\n", name, v) }
	row("trace", path)
	row("events", s.Events)
	for kind := range s.Ops {
		row(trace.Kind(kind).String(), s.Ops[kind])
	}
	row("threads", s.Threads)
	row("allocated", size(float64(s.Allocated)))
	row("most alive", fmt.Sprintf("%s; most blocks %d", size(float64(s.PeakLive)), s.PeakBlocks))
	row("alive at the end", fmt.Sprintf("%s in %d blocks", size(float64(s.EndLive)), s.EndBlocks))
	row("anomalies", s.Anomalies.Total())
	return w.Flush()
}
