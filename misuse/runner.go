package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// level is a way to run the cases.
type level struct {
	name  string
	env   []string // in addition to the environment, without its HAKMEM_ variables
	flags []string // of go build; if there are none, the running program is used
	about string
}

// levels are all levels, in the order of the columns of the tables.
var levels = []level{
	{"default", nil, nil, "as it comes"},
	{"harden", []string{"HAKMEM_HARDEN=1"}, nil, "HAKMEM_HARDEN=1"},
	{"guard", []string{"HAKMEM_GUARD=1"}, nil, "HAKMEM_GUARD=1, with CatchFaults"},
	{"asan", nil, []string{"-asan"}, "built with -asan"},
	{"race", nil, []string{"-race", "-tags", "hakmem_racetrack"}, "built with -race and the tag hakmem_racetrack"},
}

func levelNames() (names []string) {
	for _, l := range levels {
		names = append(names, l.name)
	}
	return names
}

// missing says what this machine lacks for the level, or "" if it has everything.
func (l level) missing() string {
	if len(l.flags) == 0 {
		return ""
	}
	if slices.Contains(l.flags, "-asan") && runtime.GOOS != "linux" {
		return "-asan is for Linux"
	}
	out, err := exec.Command("go", "env", "CGO_ENABLED", "CC").Output()
	if err != nil {
		return "no go command"
	}
	cgo, cc, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if cgo != "1" {
		return "CGO_ENABLED=0"
	}
	if words := strings.Fields(cc); len(words) > 0 {
		cc = words[0]
	}
	if _, err := exec.LookPath(cc); err != nil {
		return "no C compiler (" + cc + ")"
	}
	return ""
}

// childLimit is the longest time that a process may take.
var childLimit = 30 * time.Second

// runner runs cases in processes of their own.
type runner struct {
	self     string   // the program for levels without flags
	selfEnv  []string // what makes self run a case
	dir      string   // for the programs that were built
	programs map[string]string
}

// newRunner returns a runner that starts self ("" for the running program) with env added to its
// environment.
func newRunner(self string, env []string) (*runner, error) {
	if self == "" {
		var err error
		if self, err = os.Executable(); err != nil {
			return nil, err
		}
	}
	return &runner{self: self, selfEnv: env, programs: map[string]string{}}, nil
}

func (r *runner) close() {
	if r.dir != "" {
		os.RemoveAll(r.dir)
	}
}

// build builds the programs that the levels need.
func (r *runner) build(ctx context.Context, levels []level) error {
	for _, l := range levels {
		key := strings.Join(l.flags, " ")
		if key == "" || r.programs[key] != "" {
			continue
		}
		if r.dir == "" {
			var err error
			if r.dir, err = os.MkdirTemp("", "misuse"); err != nil {
				return err
			}
		}
		path := filepath.Join(r.dir, l.name)
		args := append(append([]string{"build", "-o", path}, l.flags...), "github.com/hakmem/hakmem/misuse")
		if out, err := exec.CommandContext(ctx, "go", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("level %s: go %s: %w\n%s", l.name, strings.Join(args, " "), err, out)
		}
		r.programs[key] = path
	}
	return nil
}

// all runs each case, size and level that want accepts, as many at a time as there are processors,
// and returns the outcomes in the order of the cases.
func (r *runner) all(ctx context.Context, levels []level, want func(l level, c *misuseCase, size string) bool) ([]outcome, error) {
	if err := r.build(ctx, levels); err != nil {
		return nil, err
	}
	type job struct {
		l    level
		c    *misuseCase
		size string
	}
	var jobs []job
	for _, c := range cases {
		for _, size := range c.sizes {
			for _, l := range levels {
				if want(l, c, size) {
					jobs = append(jobs, job{l, c, size})
				}
			}
		}
	}
	got := make([]outcome, len(jobs))
	turns := make(chan struct{}, runtime.GOMAXPROCS(0))
	var wg sync.WaitGroup
	for i, j := range jobs {
		turns <- struct{}{}
		wg.Go(func() {
			defer func() { <-turns }()
			got[i] = r.child(ctx, j.l, j.c.name, j.size)
		})
	}
	wg.Wait()
	return got, ctx.Err()
}

// command returns a command that runs the level's program with the given arguments.
func (r *runner) command(ctx context.Context, l level, args ...string) *exec.Cmd {
	program := r.self
	if len(l.flags) > 0 {
		program = r.programs[strings.Join(l.flags, " ")]
	}
	cmd := exec.CommandContext(ctx, program, args...)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "HAKMEM_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(append(cmd.Env, "GORACE=atexit_sleep_ms=0 halt_on_error=1"), r.selfEnv...)
	cmd.Env = append(cmd.Env, l.env...)
	return cmd
}

// child runs a case in a process of its own.
func (r *runner) child(ctx context.Context, l level, name, size string) outcome {
	ctx, cancel := context.WithTimeout(ctx, childLimit)
	defer cancel()
	cmd := r.command(ctx, l, name, size)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	o := outcomeOf(stdout.Bytes(), stderr.Bytes(), err)
	if ctx.Err() != nil {
		o = outcome{Outcome: timeout}
	}
	o.Case, o.Size, o.Level = name, size, l.name
	return o
}

// reports are what a process may have printed instead of a report by hakmem, whether it ended or
// went on.
var reports = []struct {
	outcome string
	text    *regexp.Regexp // group 1 is the kind
}{
	{later, regexp.MustCompile(`(?m)^WARNING: (DATA RACE)`)},
	{fault, regexp.MustCompile(`ERROR: (AddressSanitizer: [\w-]+)(?: on)?(?: unknown)? (?:address )?(0x[0-9a-f]+)?`)},
	{fault, regexp.MustCompile(`(?m)^(unexpected fault address) (0x[0-9a-f]+)`)},
	{died, regexp.MustCompile(`(?m)^fatal error: (.*)`)},
	{died, regexp.MustCompile(`(?m)^panic: (.*)`)},
}

// outcomeOf derives the outcome of a process from what it printed and from how it ended.
func outcomeOf(stdout, stderr []byte, end error) (o outcome) {
	found := false
	for line := range bytes.Lines(stdout) {
		if text, ok := bytes.CutPrefix(line, []byte(linePrefix)); ok {
			found = json.Unmarshal(text, &o) == nil
		}
	}
	if found && o.Outcome != notCaught && o.Outcome != corrupt {
		return o
	}
	for _, r := range reports {
		if m := r.text.FindSubmatch(stderr); m != nil {
			o.Outcome, o.Kind, o.Call = r.outcome, string(m[1]), "the detector"
			if len(m) > 2 {
				o.Address = string(m[2])
			}
			o.Message = strings.TrimSpace(string(stderr[:min(len(stderr), 400)]))
			return o
		}
	}
	if !found {
		o.Outcome, o.Message = died, fmt.Sprintf("%v: %s%s", end, stdout, stderr)
	}
	return o
}
