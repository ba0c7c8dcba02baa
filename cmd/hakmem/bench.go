package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/hakmem/hakmem/bench/loops"
	"github.com/hakmem/hakmem/bench/result"
)

// verifyFlag makes a measuring verb check blocks instead of measuring.
var verifyFlag = &cli.BoolFlag{Name: "verify", Usage: "fill every block and check it when it is freed or reallocated, and its alignment, instead of measuring"}

func benchVerb() *cli.Command {
	known := loops.Allocators()
	flags := append(jobFlags(known, known, defaultRuns), placementsFlag(), verifyFlag)
	for _, f := range flags {
		ownFlag(f)
	}
	return &cli.Command{
		Name:      "bench",
		Usage:     "measure hakmem and the allocators that a Go program can choose from",
		ArgsUsage: "WORKLOAD",
		Description: "Each run is a process of its own, which inherits the environment: HAKMEM_* settings apply.\n" +
			"\"net\" is less the time of the same loop without an allocator. With more than one thread,\n" +
			"ops/s is the sum of all threads and ns/op its inverse.\n\nWorkloads:\n" + workloadList(),
		Flags:        flags,
		Commands:     []*cli.Command{growthVerb()},
		OnUsageError: badFlags,
		Action: func(ctx context.Context, c *cli.Command) error {
			name, err := oneWorkload(c)
			if err != nil {
				return err
			}
			if err := verifyAlone(c, "json"); err != nil {
				return err
			}
			j, err := readJob(c, name, known)
			if err != nil {
				return err
			}
			noTape, err := j.makeTape(c.String("dist"))
			if err != nil {
				return err
			}
			defer noTape()
			placements, err := readPlacements(c)
			if err != nil {
				return err
			}
			bar := newProgress(c.Root().ErrWriter, max(placements, 1))
			programs, clean, err := goPrograms(ctx, placements, bar)
			bar.close()
			if err != nil {
				return err
			}
			defer clean()
			var contestants []*contestant
			for _, name := range append(j.alloc, loops.Empty) {
				contestants = append(contestants, goContestant(name, programs, os.Environ(), j))
			}
			if c.Bool("verify") {
				return verify(ctx, j, contestants, c.Root().Writer, c.Root().ErrWriter)
			}
			bar = newProgress(c.Root().ErrWriter, j.runs*max(placements, 1)*len(contestants))
			started := time.Now().UTC().Format(time.RFC3339)
			err = interleave(ctx, j, contestants, bar)
			bar.close()
			if err != nil {
				return err
			}
			report := makeReport(j, contestants)
			report.Ratios = result.Ratios(report.Results)
			report.Command, report.Started, report.Environment = commandLine(), started, tuning(os.Environ())
			if c.Bool("json") {
				return errors.Join(printJSON(c.Root().Writer, report), measured(report))
			}
			return printBench(c.Root().Writer, j, report)
		},
	}
}

// ownFlag makes a flag a verb's own, which the verbs below it do not take.
func ownFlag(f cli.Flag) {
	switch f := f.(type) {
	case *cli.StringFlag:
		f.Local = true
	case *cli.BoolFlag:
		f.Local = true
	}
}

// goContestant measures an allocator of package bench with the given builds of this program, one
// for each placement.
func goContestant(name string, programs, env []string, j job) *contestant {
	return &contestant{name: name, side: sideGo, placements: len(programs), command: func(placement int, v variant) command {
		return goCommand(programs[placement], env, j, name, v)
	}}
}

// verify runs every contestant once and checks its blocks. It fails if a contestant that could be
// run failed, or if none could be run.
func verify(ctx context.Context, j job, contestants []*contestant, out, errs io.Writer) error {
	bar := newProgress(errs, len(contestants))
	defer bar.close()
	checked, failed := 0, 0
	for _, c := range contestants {
		if c.name == loops.Empty {
			continue
		}
		var outcome string
		if c.absent != "" {
			outcome = "absent: " + c.absent
		} else {
			bar.doing(c.name)
			r, _, err := c.attempt(ctx, j, c.command(0, variant{observe: loops.ObserveVerify}), false)
			bar.close()
			switch {
			case ctx.Err() != nil:
				return errInterrupted
			case errors.Is(err, errNoLibrary):
				outcome = "absent: " + err.Error()
			case err != nil:
				failed++
				outcome = "FAILED: " + err.Error()
			default:
				checked++
				outcome = fmt.Sprintf("%d blocks checked", r.Observed.Verified)
			}
		}
		if _, err := fmt.Fprintf(out, "%s: %s\n", c.name, outcome); err != nil {
			return err
		}
		bar.step()
	}
	switch {
	case failed > 0:
		return fmt.Errorf("%s: %d allocator(s) failed", j.workload.Name, failed)
	case checked == 0:
		return fmt.Errorf("%s: nothing could be verified", j.workload.Name)
	}
	return nil
}

// verifyAlone refuses --verify together with flags that ask for another output.
func verifyAlone(c *cli.Command, others ...string) error {
	for _, name := range others {
		if c.Bool("verify") && c.Bool(name) {
			return usagef("--verify and --%s: use one of them", name)
		}
	}
	return nil
}
