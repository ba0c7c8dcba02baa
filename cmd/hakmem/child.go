package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/hakmem/hakmem/bench"
	"github.com/hakmem/hakmem/bench/loops"
	"github.com/hakmem/hakmem/bench/result"
)

// childName is the hidden verb under which this program runs one measurement in a process of its
// own. So the memory, the page faults and the garbage collector's state belong to one allocator
// only.
const childName = "__run"

func childVerb() *cli.Command {
	return &cli.Command{
		Name: childName, Hidden: true, HideHelp: true, SkipFlagParsing: true,
		Action: func(_ context.Context, c *cli.Command) error {
			var spec bench.Spec
			if err := json.Unmarshal([]byte(c.Args().First()), &spec); err != nil {
				return usagef("%s is not for use by hand: %w", childName, err)
			}
			if result.IsHakmem(spec.Allocator) {
				if err := checkSettings(); err != nil {
					return err
				}
			}
			r, err := bench.Measure(spec)
			if err != nil {
				return err
			}
			return json.NewEncoder(c.Root().Writer).Encode(r)
		},
	}
}

// command is a child process that performs one run and prints it as JSON.
type command struct {
	path string
	args []string
	env  []string
}

// variant says how a run differs from a plain, timed one.
type variant struct {
	observe loops.Observation
	linger  time.Duration
}

// goCommand returns the child that measures an allocator of package bench with the given program,
// which is a build of this one.
func goCommand(program string, env []string, j job, allocator string, v variant) command {
	spec, err := json.Marshal(bench.Spec{
		Workload: j.workload.Name, Allocator: allocator, Params: j.params, Observe: v.observe, Linger: v.linger,
	})
	if err != nil {
		panic(err) // not reached: a Spec holds only words and numbers
	}
	return command{program, []string{childName, string(spec)}, env}
}

// driverCommand returns the child that runs the C driver with a library preloaded; "" means none.
func driverCommand(driver string, env []string, j job, library string, empty bool, v variant) command {
	args := j.workload.Args(j.params)
	if empty {
		args = append(args, "--empty")
	}
	if v.observe != "" {
		args = append(args, "--observe", string(v.observe))
	}
	if v.linger > 0 {
		args = append(args, "--linger", fmt.Sprint(max(1, v.linger.Milliseconds())))
	}
	if library != "" {
		env = append(append([]string{}, env...), "LD_PRELOAD="+library)
	}
	return command{driver, args, env}
}

// childRun is what a child prints. The C driver also names the library from which malloc came.
type childRun struct {
	result.Run
	MallocFrom string `json:"malloc_from"`
}

// run executes the child and decodes what it prints. It ends the child after limit, and watches its
// memory if watch is set. If there is no result, the error says why, in one line.
func (cmd command) run(ctx context.Context, limit time.Duration, watch bool) (r childRun, curve []sample, err error) {
	out, curve, err := cmd.output(ctx, limit, watch)
	if err != nil {
		return r, nil, err
	}
	if err := json.Unmarshal(out, &r); err != nil {
		return r, nil, fmt.Errorf("printed no result: %q", firstLine(string(out)))
	}
	return r, curve, nil
}

// output is run without the decoding.
func (cmd command) output(ctx context.Context, limit time.Duration, watch bool) (text []byte, curve []sample, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("ended after the time limit of %v (see --limit)", limit))
	defer cancel()
	c := exec.CommandContext(ctx, cmd.path, cmd.args...)
	c.Env = cmd.env
	c.WaitDelay = time.Second // in case a descendant keeps the pipes open
	ownGroup(c)
	out, errs := limited{most: maxOutput}, limited{most: maxErrors}
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Start(); err != nil {
		return nil, nil, err
	}
	if watch {
		stop := watchMemory(c.Process.Pid)
		err = c.Wait()
		curve = stop()
	} else {
		err = c.Wait()
	}
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	if err != nil {
		var exit *exec.ExitError
		if line := firstLine(errs.String()); errors.As(err, &exit) && line != "" {
			return nil, nil, fmt.Errorf("%w: %s", err, line)
		}
		return nil, nil, err
	}
	if out.Len() == 0 {
		return nil, nil, fmt.Errorf("printed no result: %q", firstLine(errs.String()))
	}
	return out.Bytes(), curve, nil
}

// These bound what a child may print. A result with its latencies has some 100 KiB. A library that
// logs every call must not fill this process's memory.
const (
	maxOutput = 64 << 20
	maxErrors = 64 << 10
)

// limited keeps the first bytes that are written to it.
type limited struct {
	bytes.Buffer
	most int
}

func (l *limited) Write(b []byte) (int, error) {
	l.Buffer.Write(b[:min(len(b), l.most-l.Len())])
	return len(b), nil
}

// firstLine returns the first line of text, or its beginning.
func firstLine(text string) string {
	const most = 200 // bytes: three lines of a terminal
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	if len(line) > most {
		line = strings.ToValidUTF8(line[:most], "") + " …"
	}
	return line
}

// self returns the path of this program.
func self() (string, error) {
	path, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("cannot find this program to start it again: %w", err)
	}
	return path, nil
}
