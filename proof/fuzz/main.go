// Fuzz runs every fuzz target of the repository for a time that is counted in minutes of a core, so
// that a busy or small machine does not seem to have done more than it did.
//
//	go run ./proof/fuzz                    every target, 60 core-minutes each
//	go run ./proof/fuzz -minutes 5 -run 'FuzzHeap|FuzzAll'
//	go run ./proof/fuzz -list              the targets
//
// It continues from the inputs that earlier runs kept in Go's cache. After a failure the output of
// go test goes to the standard error, the input that failed is in the target's testdata, and the
// next target follows. Each target prints a line of a table. Exit status 1: something failed.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hakmem/hakmem/proof/internal/repository"
)

// dirs has the directories with fuzz targets: of the engine, of types made of its memory, and of functions
// that read files.
var dirs = []string{"proof", "offheap", "bench/trace", "cmd/hakmem"}

// slice is how long go test fuzzes before its core time is read, which is known when the process
// has ended. A target exceeds -minutes by at most this for each worker.
const slice = 3 * time.Minute

func main() {
	minutes := flag.Float64("minutes", 60, "`core-minutes` for each target")
	workers := flag.Int("parallel", 2, "`workers` at the same time")
	run := flag.String("run", "", "only targets whose names match this `regexp`")
	list := flag.Bool("list", false, "print the targets, and do nothing")
	flag.Parse()
	if err := fuzz(*minutes, *workers, *run, *list); err != nil {
		fmt.Fprintln(os.Stderr, "fuzz:", err)
		os.Exit(1)
	}
}

func fuzz(minutes float64, workers int, run string, list bool) error {
	which, err := regexp.Compile(run)
	if err != nil {
		return fmt.Errorf("-run %q: %w", run, err)
	}
	if minutes <= 0 || workers <= 0 {
		return fmt.Errorf("-minutes %v -parallel %d: both must be above 0", minutes, workers)
	}
	root, err := repository.Root()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var failed []string
	if !list {
		fmt.Print("| target | core-minutes | programs | failures |\n|---|---:|---:|---:|\n")
	}
	for _, dir := range dirs {
		names, err := targets(filepath.Join(root, dir))
		if err != nil {
			return err
		}
		for _, name := range names {
			if !which.MatchString(name) {
				continue
			}
			if list {
				fmt.Printf("%s\t./%s\n", name, dir)
				continue
			}
			t := target{name: name, dir: filepath.Join(root, dir)}
			err := t.run(ctx, time.Duration(minutes*float64(time.Minute)), workers)
			fmt.Printf("| %s | %.1f | %d | %d |\n", name, t.cores.Minutes(), t.programs, t.failures)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if t.failures > 0 {
				failed = append(failed, name)
			}
		}
	}
	if len(failed) > 0 {
		return fmt.Errorf("failed: %s", strings.Join(failed, ", "))
	}
	return nil
}

var declaration = regexp.MustCompile(`(?m)^func (Fuzz\w+)\(`)

// targets returns the names of the fuzz targets in dir.
func targets(dir string) (names []string, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		for _, m := range declaration.FindAllSubmatch(text, -1) {
			names = append(names, string(m[1]))
		}
	}
	if names == nil {
		return nil, fmt.Errorf("%s has no fuzz target", dir)
	}
	return names, nil
}

// target is a fuzz target and the work done on it so far.
type target struct {
	name, dir string
	cores     time.Duration // of go test and all its processes, compiling included
	programs  int
	failures  int
}

// maxFailures bounds the failures of one target: more are hardly of different kinds.
const maxFailures = 3

// run fuzzes t until the given core time has been used, and for at least one program, because
// compiling alone may use that time.
func (t *target) run(ctx context.Context, budget time.Duration, workers int) error {
	least := time.Second
	for (t.cores < budget || t.programs == 0) && t.failures < maxFailures {
		left := max(min(slice, (budget-t.cores)/time.Duration(workers)), least)
		// -fuzzminimizetime: the schedule of goroutines, and so the coverage, differs from run to
		// run, and minimising by coverage does not end.
		cmd := exec.CommandContext(ctx, "go", "test", "-run=^$", "-fuzz=^"+t.name+"$",
			"-fuzztime="+left.Round(time.Second).String(), "-fuzzminimizetime=1x", "-parallel="+strconv.Itoa(workers), ".")
		cmd.Dir = t.dir
		cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
		cmd.WaitDelay = time.Minute
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		err := cmd.Run()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if cmd.ProcessState == nil {
			return err
		}
		used := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		t.cores += used
		n := executions(out.Bytes())
		t.programs += n
		if err != nil && !onlyLate(out.Bytes()) {
			t.failures++
			io.Copy(os.Stderr, &out)
			continue
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: go test gave up at its own deadline, with no input that fails\n", t.name)
		}
		if bytes.Contains(out.Bytes(), []byte("no fuzz tests to fuzz")) {
			return fmt.Errorf("no such target in %s:\n%s", t.dir, out.Bytes())
		}
		if n == 0 {
			// go test first runs all inputs that it has kept.
			if least *= 4; least > slice {
				return fmt.Errorf("go test ran no program in %v:\n%s", used, out.Bytes())
			}
		}
	}
	return nil
}

// onlyLate reports whether go test failed without an input that fails. When -fuzztime ends while a
// worker is between two inputs, Go 1.26 may report its own deadline as a failure
// (https://go.dev/issue/75804).
func onlyLate(out []byte) bool {
	return bytes.Contains(out, []byte("context deadline exceeded")) && !bytes.Contains(out, []byte("Failing input"))
}

var progress = regexp.MustCompile(`(?m)^fuzz: elapsed: .*, execs: (\d+) `)

// executions returns how many inputs go test says it tried.
func executions(out []byte) int {
	all := progress.FindAllSubmatch(out, -1)
	if all == nil {
		return 0
	}
	n, _ := strconv.Atoi(string(all[len(all)-1][1])) // digits
	return n
}
