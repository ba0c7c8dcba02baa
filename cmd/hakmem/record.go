package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v3"

	"github.com/hakmem/hakmem/bench/trace"
)

// traceFile is true of a trace of any version.
var traceFile = contents{"a trace", "hakmem trace"}

func recordVerb() *cli.Command {
	return &cli.Command{
		Name:      "record",
		Usage:     "run a program that uses hakmem and record its calls",
		ArgsUsage: "-- PROGRAM [ARGUMENT...]",
		Description: "The program runs with HAKMEM_TRACE set to a new file next to FILE. When the program has\n" +
			"ended, and has made a call, that file becomes FILE. A FILE that exists is replaced only if it is\n" +
			"a trace or empty. If the program ends without hakmem.StopTrace, its last calls may be missing.\n" +
			"Child processes inherit HAKMEM_TRACE. If several processes use hakmem at the same time, no whole\n" +
			"trace is left; if they use it one after the other, the last one's trace is left.\n" +
			"`hakmem replay FILE` repeats the trace; docs/traces.md describes its format. With --times it also\n" +
			"says when calls took place, within a tenth of a second, and `hakmem tune eval --trace FILE` can\n" +
			"tell what keeping free memory would cost the program.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "hakmem.trace", TakesFile: true, Usage: "write the trace to `FILE`"},
			&cli.BoolFlag{Name: "times", Usage: "also record when calls took place"},
		},
		OnUsageError: badFlags,
		StopOnNthArg: stopOnNth(1),
		Action: func(ctx context.Context, c *cli.Command) error {
			args, program, err := programLine(c.Args().Slice(), "hakmem record -o FILE -- PROGRAM ARGUMENT...")
			if err != nil {
				return err
			}
			output := c.String("output")
			if err := checkReplaced(output, append([]string{program}, args[1:]...), traceFile); err != nil {
				return err
			}
			file, err := filepath.Abs(output) // absolute, because the program may change its directory
			if err != nil {
				return err
			}
			d, err := newDraft(file) // before the program runs, so that a mistake does not cost its run
			if err != nil {
				return fmt.Errorf("--output %q: %w", output, err)
			}
			dropped := d.drop
			defer func() { dropped() }()
			into := d.Name()
			if c.Bool("times") {
				into += ".plain"
				if err := os.WriteFile(into, nil, 0o600); err != nil {
					return err
				}
				defer os.Remove(into)
			}
			stop := func() []growth { return nil }
			if c.Bool("times") {
				stop = watchGrowth(into)
			}
			started, ran := runProgram(ctx, c, args, "HAKMEM_TRACE="+into)
			grown := stop()
			if !started {
				return ran
			}
			if c.Bool("times") {
				err := addTimes(d, into, grown)
				if err == nil {
					_, err = d.Seek(0, io.SeekStart)
				}
				if err != nil {
					return errors.Join(ran, err)
				}
			}
			info, err := d.Stat()
			if err != nil {
				return errors.Join(ran, err)
			}
			if info.Size() == 0 {
				return errors.Join(ran, fmt.Errorf("%s made no call of hakmem: nothing was recorded", args[0]))
			}
			r, err := trace.NewReader(d.Name(), d)
			if err != nil {
				return errors.Join(ran, err)
			}
			s, err := trace.Summarize(r, trace.CompileOptions{})
			if err != nil { // for example half a line, because the disk became full after hours
				dropped = func() { d.Close() }
				return errors.Join(ran, err, fmt.Errorf("what was recorded is left in %s; without its broken line it is a trace", d.Name()))
			}
			if err := d.keep(); err != nil {
				return errors.Join(ran, err)
			}
			fmt.Fprintf(c.Root().ErrWriter, "hakmem: %d calls recorded in %s, at most %s alive\n", s.Events, file, size(float64(s.PeakLive)))
			return ran
		},
	}
}
