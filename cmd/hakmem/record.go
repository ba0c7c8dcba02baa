package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/hakmem/hakmem/bench/trace"
)

// recordGrace is the time that an interrupted program has to end by itself.
const recordGrace = 10 * time.Second

func recordVerb() *cli.Command {
	return &cli.Command{
		Name:      "record",
		Usage:     "run a program that uses hakmem and record its calls",
		ArgsUsage: "-- PROGRAM [ARGUMENT...]",
		Description: "The program runs with HAKMEM_TRACE=FILE. One that ends without hakmem.StopTrace may leave out\n" +
			"its last calls. `hakmem replay FILE` repeats the trace; docs/traces.md describes its format.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "hakmem.trace", TakesFile: true, Usage: "write the trace to `FILE`"},
		},
		OnUsageError: badFlags,
		StopOnNthArg: func() *int { n := 1; return &n }(), // what follows the program is the program's
		Action: func(ctx context.Context, c *cli.Command) error {
			args := c.Args().Slice()
			if len(args) > 0 && args[0] == "--" {
				args = args[1:]
			}
			if len(args) == 0 {
				return usagef("no program given; use `hakmem record -o FILE -- PROGRAM ARGUMENT...`")
			}
			file, err := filepath.Abs(c.String("output"))
			if err != nil {
				return err
			}
			if _, err := exec.LookPath(args[0]); err != nil {
				return usagef("%w; name a program", err)
			}
			if info, err := os.Stat(file); err == nil && !info.Mode().IsRegular() {
				return usagef("--output %q is not a regular file; name another", c.String("output"))
			}
			if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err // an old trace would pass for this program's
			}
			p := exec.CommandContext(ctx, args[0], args[1:]...)
			p.Env = append(os.Environ(), "HAKMEM_TRACE="+file)
			// The program may end its trace, and itself, in good order.
			p.Cancel = func() error { return p.Process.Signal(os.Interrupt) }
			p.WaitDelay = recordGrace
			p.Stdin, p.Stdout, p.Stderr = os.Stdin, c.Root().Writer, c.Root().ErrWriter
			ran := p.Run()
			r, err := trace.Open(file)
			if errors.Is(err, fs.ErrNotExist) {
				return errors.Join(ran, fmt.Errorf("%s made no call of hakmem: nothing was recorded", args[0]))
			}
			if err != nil {
				return errors.Join(ran, err)
			}
			defer r.Close()
			s, err := trace.Summarize(r, trace.CompileOptions{})
			if err != nil {
				return errors.Join(ran, err)
			}
			fmt.Fprintf(c.Root().ErrWriter, "hakmem: %d calls recorded in %s, at most %s alive\n", s.Events, file, size(float64(s.PeakLive)))
			return ran
		},
	}
}
