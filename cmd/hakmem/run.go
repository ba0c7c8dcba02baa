package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"time"

	"github.com/urfave/cli/v3"
)

// The verbs record, policy export and policy import run a program that uses hakmem, with a setting more.

// runGrace is the time that an interrupted program has to end by itself.
const runGrace = 10 * time.Second

// stopOnNth makes flags behind n arguments the program's.
func stopOnNth(n int) *int { return &n }

// programLine returns the command line of a program from the arguments of a verb, where it may follow on
// --, and the path of the program. use is what to write instead if there is none.
func programLine(args []string, use string) (line []string, path string, err error) {
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		return nil, "", usagef("no program given; use `%s`", use)
	}
	if path, err = exec.LookPath(args[0]); err != nil {
		return nil, "", usagef("%w; name a program", err)
	}
	return args, path, nil
}

// runProgram runs a program with a setting ("NAME=value"). The program has the standard input and the
// outputs of this one. When ctx ends, the program is interrupted. It reports whether the
// program started; the error names it.
func runProgram(ctx context.Context, c *cli.Command, line []string, setting string) (started bool, err error) {
	p := exec.CommandContext(ctx, line[0], line[1:]...)
	p.Env = append(os.Environ(), setting)
	// An interrupted program may end its trace, and itself, in an orderly way.
	p.Cancel = func() error { return p.Process.Signal(os.Interrupt) }
	p.WaitDelay = runGrace
	p.Stdin, p.Stdout, p.Stderr = os.Stdin, c.Root().Writer, c.Root().ErrWriter
	if err = p.Run(); err != nil {
		err = fmt.Errorf("%s: %w", line[0], err)
	}
	return p.ProcessState != nil, err
}

// passedOn gives err the exit status of the program that it is about. A program that a signal ended has none.
func passedOn(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 0 {
		return status{exit.ExitCode(), err}
	}
	return err
}

// contents is what a kind of file holds.
type contents struct{ name, begins string }

// checkReplaced refuses an output that would destroy something: the program, a file named in its
// arguments, or a file that holds something else than want.
func checkReplaced(output string, files []string, want contents) error {
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
	if name := inputOf(info, files); name != "" {
		return usagef("--output %q is the program, or an argument of it; name another file", output)
	}
	f, err := os.Open(output)
	if err != nil {
		return err
	}
	defer f.Close()
	start := make([]byte, len(want.begins))
	switch n, err := io.ReadFull(f, start); {
	case err == io.EOF: // the file is empty
		return nil
	case err != nil && err != io.ErrUnexpectedEOF:
		return err
	case string(start[:n]) != want.begins:
		return usagef("--output %q holds something else than %s; name another file, or remove this one", output, want.name)
	}
	return nil
}

// inputOf returns the name under which a file is in a list, "" if it is not.
func inputOf(info fs.FileInfo, names []string) string {
	for _, name := range names {
		if f, err := os.Stat(name); err == nil && os.SameFile(info, f) {
			return name
		}
	}
	return ""
}
