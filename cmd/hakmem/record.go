package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/urfave/cli/v3"

	"github.com/hakmem/hakmem/bench/trace"
)

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
			if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err // an old trace would pass for this program's
			}
			p := exec.CommandContext(ctx, args[0], args[1:]...)
			p.Env = append(os.Environ(), "HAKMEM_TRACE="+file)
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
