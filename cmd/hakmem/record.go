package main

import (
	"context"
	"errors"
	"fmt"
	"io"
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
		StopOnNthArg: func() *int { n := 1; return &n }(), // flags behind the program's name are the program's
		Action: func(ctx context.Context, c *cli.Command) error {
			args := c.Args().Slice()
			if len(args) > 0 && args[0] == "--" {
				args = args[1:]
			}
			if len(args) == 0 {
				return usagef("no program given; use `hakmem record -o FILE -- PROGRAM ARGUMENT...`")
			}
			output := c.String("output")
			program, err := exec.LookPath(args[0])
			if err != nil {
				return usagef("%w; name a program", err)
			}
			if err := checkTrace(output, append([]string{program}, args[1:]...)); err != nil {
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
			p := exec.CommandContext(ctx, args[0], args[1:]...)
			into := d.Name()
			if c.Bool("times") {
				into += ".plain"
				if err := os.WriteFile(into, nil, 0o600); err != nil {
					return err
				}
				defer os.Remove(into)
			}
			p.Env = append(os.Environ(), "HAKMEM_TRACE="+into)
			// An interrupted program may end its trace, and itself, in an orderly way.
			p.Cancel = func() error { return p.Process.Signal(os.Interrupt) }
			p.WaitDelay = recordGrace
			p.Stdin, p.Stdout, p.Stderr = os.Stdin, c.Root().Writer, c.Root().ErrWriter
			stop := func() []growth { return nil }
			if c.Bool("times") {
				stop = watchGrowth(into)
			}
			ran := p.Run()
			grown := stop()
			if ran != nil {
				ran = fmt.Errorf("%s: %w", args[0], ran)
			}
			if p.ProcessState == nil { // the program did not start
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

// checkTrace refuses an output that would destroy something: the program, a file named in its
// arguments, or a file that holds something other than a trace.
func checkTrace(output string, files []string) error {
	info, err := os.Stat(output)
	switch {
	case output == "":
		return usagef("--output %q: name a file", output)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return usagef("--output %q is not a regular file; name another", output)
	}
	for _, name := range files {
		if f, err := os.Stat(name); err == nil && os.SameFile(info, f) {
			return usagef("--output %q is the program, or an argument of it; name another file", output)
		}
	}
	f, err := os.Open(output)
	if err != nil {
		return err
	}
	defer f.Close()
	const begins = "hakmem trace" // true of a trace of any version
	start := make([]byte, len(begins))
	switch n, err := io.ReadFull(f, start); {
	case err == io.EOF: // the file is empty
		return nil
	case err != nil && err != io.ErrUnexpectedEOF:
		return err
	case string(start[:n]) != begins:
		return usagef("--output %q holds something else than a trace; name another file, or remove this one", output)
	}
	return nil
}
