// Command hakmem measures the hakmem allocator and shows its state.
//
//	hakmem bench random_mixed     the allocators that a Go program can choose from
//	hakmem compare random_mixed   hakmem next to mimalloc, jemalloc, gperftools, glibc and those
//	hakmem compare all --quick    the same for eleven workloads
//	hakmem ab --gate S=0,1 W      whether a setting's other value is faster
//	hakmem replay FILE            a recorded trace over all allocators
//	hakmem record -- PROGRAM      a trace of a program that uses hakmem
//	hakmem report RESULT.json...  one HTML page with charts from JSON results
//	hakmem env                    the HAKMEM_* settings
//	hakmem stats                  ReadStats after a short workload
//	hakmem sawtooth               how much memory is kept between peaks, and faulted in again
//	hakmem tune eval              what the learner is worth, simulated and in real processes
//	hakmem policy merge           one policy file of several
//	hakmem learn explain FILE     why a process held what it held
//	hakmem top http://HOST:PORT   the memory of a running program, second by second
//	hakmem soak                   all workloads for a long time, with everything checked
//	hakmem version                the versions of hakmem, of its modules and of Go
//
// A setting is an environment variable that sets something of hakmem, HAKMEM_HARDEN for example.
// Each verb is in a file of its own.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/urfave/cli/v3"
)

// The exit statuses of all verbs except ab, which has its own.
const (
	exitFailed = 1 // the work failed
	exitUsage  = 2 // the command line, or a parameter in it, is wrong
	// exitPipe is the status that a shell shows for a program that SIGPIPE ended: 128+13.
	exitPipe = 141
)

// usageError is a mistake in the command line. Its text names the wrong value and says what to
// write instead.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// badFlags turns an error of the flag parser into a usageError.
func badFlags(_ context.Context, c *cli.Command, err error, _ bool) error {
	return usagef("%w; `%s --help` lists the flags", err, c.FullName())
}

func main() {
	ctx := context.Background()
	if !isChild(os.Args) { // children are ended by their parent
		var stop func()
		ctx, stop = signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
		context.AfterFunc(ctx, stop) // a second signal ends this process at once
		// With a handler for SIGPIPE, a write into a closed pipe is an error like others, after
		// which the program can clean up. Ignore would not do: children inherit an ignored signal.
		signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	}
	os.Exit(run(ctx, os.Args, os.Stdout, os.Stderr))
}

// isChild reports whether a command line is that of a child of this program.
func isChild(args []string) bool {
	return len(args) > 1 && (args[1] == childName || args[1] == demandName)
}

// run executes one command line and returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := &cli.Command{
		Name:                  "hakmem",
		Usage:                 "measure the hakmem allocator and show its state",
		Writer:                stdout,
		ErrWriter:             stderr,
		EnableShellCompletion: true,
		OnUsageError:          badFlags,
		ExitErrHandler:        func(context.Context, *cli.Command, error) {}, // run chooses the exit status
		Commands:              []*cli.Command{benchVerb(), compareVerb(), abVerb(), replayVerb(), recordVerb(), reportVerb(), envVerb(), statsVerb(), sawtoothVerb(), tuneVerb(), policyVerb(), learnVerb(), topVerb(), soakVerb(), versionVerb(), childVerb(), demandVerb()},
		Action: func(_ context.Context, c *cli.Command) error {
			if verb := c.Args().First(); verb != "" {
				return usagef("unknown verb %q; use bench, compare, ab, replay, record, report, env, stats, sawtooth, tune, policy, learn, top, soak or version", verb)
			}
			return cli.ShowRootCommandHelp(c)
		},
	}
	err := root.Run(ctx, args)
	if err == context.Canceled { // a longer error says what else went wrong
		err = errInterrupted
	}
	var usage usageError
	var other status
	switch {
	case err == nil:
		return 0
	case errors.Is(err, syscall.EPIPE): // whoever reads the output wants no more of it
		return exitPipe
	case errors.As(err, &other):
		if other.error != nil {
			fmt.Fprintln(stderr, "hakmem:", other.error)
		}
		return other.code
	case errors.As(err, &usage):
		fmt.Fprintln(stderr, "hakmem:", err)
		return exitUsage
	default:
		fmt.Fprintln(stderr, "hakmem:", err)
		return exitFailed
	}
}

// noArguments refuses arguments to a verb that takes none.
func noArguments(c *cli.Command) error {
	if c.Args().Present() {
		return usagef("%s takes no argument, got %q; leave it out", c.FullName(), c.Args().First())
	}
	return nil
}
