package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/hakmem/hakmem/bench"
	"github.com/hakmem/hakmem/bench/report"
	"github.com/hakmem/hakmem/bench/result"
	"github.com/hakmem/hakmem/internal/policy"
)

// The exit statuses of ab.
const (
	exitGo = iota
	exitNoGo
	exitNeutral
	exitUnsure
	exitAB // an error
)

const (
	// abRuns and abEffect are the A/B rule of Box Theory (docs/systems.md): 10 runs, and an effect
	// of 1 % or more, as a share.
	abRuns   = 10
	abEffect = 0.01
	// abChance is the probability up to which noise may look like an effect. With it, a person who
	// judges one setting a day is wrong once in 27 years. 10 runs that are all faster than 20 others
	// have a Mann-Whitney probability of 0.00000007.
	abChance = 0.0001
	// abLeast is the smallest number of runs that can reach abChance: 7 runs that are all faster
	// than 14 others have a probability of 2 in 116,280.
	abLeast = 7
)

// status is an exit status, with or without an error to print.
type status struct {
	code int
	error
}

func (s status) Unwrap() error { return s.error }

func abVerb() *cli.Command {
	interfaces := []string{"hakmem", "hakmem-heap"}
	flags := jobFlags(interfaces, interfaces[:1], abRuns)
	return &cli.Command{
		Name:      "ab",
		Usage:     "judge a setting: the same program with two of its values, in turns",
		ArgsUsage: "WORKLOAD",
		Description: "Two values of one HAKMEM_* setting, in one program, in an environment without other settings,\n" +
			"in turns with a third series that has the first value again: what that differs by is noise.\n" +
			"GO (exit status 0): the second value is faster by 1 % or more. NO-GO (1): slower by 1 % or more.\n" +
			"NEUTRAL (2): neither. UNSURE (3): the noise exceeds the effect; repeat with more runs on a\n" +
			"quieter machine. 4: an error.\n\nWorkloads:\n" + workloadList(),
		Flags: append(flags,
			&cli.StringFlag{Name: "gate", Usage: "the setting and its two values: `NAME=OFF,ON`"},
			&cli.StringSliceFlag{Name: "env", Usage: "pass the variable `NAME[=VALUE]` on to all runs; may be repeated"},
			&cli.StringFlag{Name: "append", TakesFile: true, Usage: "append the result to `FILE`, in Markdown"},
		),
		DisableSliceFlagSeparator: true,
		OnUsageError: func(ctx context.Context, c *cli.Command, err error, sub bool) error {
			return status{exitAB, badFlags(ctx, c, err, sub)}
		},
		Action: func(ctx context.Context, c *cli.Command) error {
			code, err := abAction(ctx, c)
			if err != nil {
				code = exitAB
			}
			if code == 0 {
				return nil
			}
			return status{code, err}
		},
	}
}

// trial is one A/B comparison.
type trial struct {
	job
	setting, off, on string
	env              []string // what --env passes on
	dist             string
	a, b, again      *contestant
}

func abAction(ctx context.Context, c *cli.Command) (code int, err error) {
	name, err := oneWorkload(c)
	if err != nil {
		return 0, err
	}
	var t trial
	if t.job, err = readJob(c, name, []string{"hakmem", "hakmem-heap"}); err != nil {
		return 0, err
	}
	if t.setting, t.off, t.on, err = readSetting(c.String("gate")); err != nil {
		return 0, err
	}
	if len(t.alloc) > 1 {
		return 0, usagef("--alloc %q: one interface at a time; use hakmem or hakmem-heap", c.String("alloc"))
	}
	if t.env, err = readEnv(c); err != nil {
		return 0, err
	}
	for _, v := range t.env {
		name, _, _ := strings.Cut(v, "=")
		if g := policy.Find(name); g != nil && g.Name == t.setting {
			return 0, usagef("--env %q: %s is the setting under trial; use another variable", v, t.setting)
		}
	}
	env, _ := cleanEnv(os.Environ())
	env = append(env, t.env...)
	var ledger *os.File
	if file := c.String("append"); file != "" { // before the runs, so that a mistake in it does not cost them
		ledger, err = os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return 0, usagef("--append: %w; create the file first", err)
		case err != nil:
			return 0, usagef("--append: %w; name a file that you can write", err)
		}
		defer ledger.Close()
	}
	t.dist = c.String("dist")
	clean, err := t.makeTape(t.dist)
	if err != nil {
		return 0, err
	}
	defer clean()
	program, err := self()
	if err != nil {
		return 0, err
	}
	arm := func(label, value string) *contestant {
		c := goContestant(t.alloc[0], []string{program}, append(slices.Clone(env), t.setting+"="+value), t.job)
		c.name = label
		return c
	}
	t.a, t.b, t.again = arm("off", t.off), arm("on", t.on), arm("off again", t.off)
	bar := newProgress(c.Root().ErrWriter, 3*t.runs)
	err = t.run(ctx, bar)
	bar.close()
	if err != nil {
		return 0, err
	}
	v := t.judge()
	counters := t.counters(ctx)
	if ledger != nil { // first, because whatever reads the output may be gone by now
		_, err = ledger.WriteString(t.entry(v, counters))
	}
	out := c.Root().Writer
	var printed error
	if c.Bool("json") {
		printed = printJSON(out, abReport{
			Setting: t.setting, Off: t.off, On: t.on, Verdict: v, Counters: counters,
			Workload: t.workload.Name, Params: t.paramMap(), Allocator: t.alloc[0],
			Machine: bench.ThisMachine(), Command: commandLine(), Environment: t.env,
			RunsOff: t.a.runs, RunsOn: t.b.runs, RunsOffAgain: t.again.runs,
		})
	} else {
		printed = t.print(out, v, counters)
	}
	return v.code(), errors.Join(err, printed)
}

// abReport is the report that --json prints.
type abReport struct {
	Setting      string         `json:"setting"`
	Off          string         `json:"off"`
	On           string         `json:"on"`
	Verdict      verdict        `json:"verdict"`
	Counters     string         `json:"counters"`
	Workload     string         `json:"workload"`
	Params       map[string]any `json:"params"`
	Allocator    string         `json:"allocator"`
	Machine      result.Machine `json:"machine"`
	Command      []string       `json:"command"`
	Environment  []string       `json:"environment,omitempty"`
	RunsOff      []result.Run   `json:"runs_off"`
	RunsOn       []result.Run   `json:"runs_on"`
	RunsOffAgain []result.Run   `json:"runs_off_again"`
}

// readSetting reads NAME=OFF,ON and checks both values against the table of settings. NAME may be
// an alias; the result has the setting's own name.
func readSetting(text string) (name, off, on string, err error) {
	name, values, _ := strings.Cut(text, "=")
	off, on, ok := strings.Cut(values, ",")
	if !ok || off == "" || on == "" {
		return "", "", "", usagef("--gate %q: use NAME=OFF,ON, such as HAKMEM_FAST_SECTION=0,1", text)
	}
	g := policy.Find(name)
	if g == nil {
		return "", "", "", usagef("--gate %q: there is no setting %s; `hakmem env` lists them", text, name)
	}
	for _, v := range []string{off, on} {
		if _, problems := policy.Build(func(n string) (string, bool) { return v, n == name }); len(problems) > 0 {
			return "", "", "", usagef("--gate %q: %w", text, problems[0])
		}
	}
	return g.Name, off, on, nil
}

// run makes the runs. The three series take turns in every order, so that none gains from the one
// that runs before it.
func (t *trial) run(ctx context.Context, bar *progress) error {
	orders := [][3]*contestant{
		{t.a, t.b, t.again}, {t.again, t.b, t.a}, {t.b, t.a, t.again},
		{t.b, t.again, t.a}, {t.a, t.again, t.b}, {t.again, t.a, t.b},
	}
	for run := range t.runs {
		for _, c := range orders[run%len(orders)] {
			bar.doing(fmt.Sprintf("%s, run %d", c.name, run+1))
			c.once(ctx, t.job, 0)
			if ctx.Err() != nil {
				return errInterrupted
			}
			if c.absent != "" {
				return fmt.Errorf("%s: %s", c.name, c.absent)
			}
			bar.step()
		}
	}
	return nil
}

// verdict is the result of a trial. Effects are shares: 0.02 is 2 % more throughput with the second
// value.
type verdict struct {
	Word   string  `json:"verdict"`
	Effect float64 `json:"effect"`
	// Noise is the difference between the two series with the same value, or the half-width of the
	// 95 % interval of that difference, whichever is larger.
	Noise float64 `json:"noise"`
	P     float64 `json:"p"` // the Mann-Whitney probability
}

// judge compares the three series.
func (t *trial) judge() verdict {
	ratios := func(slow, fast []result.Run) []float64 { // of the runs of each turn
		list := make([]float64, len(slow))
		for i := range list {
			list[i] = slow[i].NsPerOp/fast[i].NsPerOp - 1
		}
		return list
	}
	// The second value is compared with both series of the first, turn by turn.
	base := slices.Concat(ratios(t.a.runs, t.b.runs), ratios(t.again.runs, t.b.runs))
	same := ratios(t.again.runs, t.a.runs)
	v := verdict{Effect: result.Median(base), P: result.Chance(slices.Concat(t.a.runs, t.again.runs), t.b.runs)}
	low, high, _ := result.MedianInterval(same)
	v.Noise = max(math.Abs(result.Median(same)), (high-low)/2)
	v.Word = "NEUTRAL"
	switch {
	case math.Abs(v.Effect) >= abEffect && (v.Noise >= math.Abs(v.Effect) || v.P > abChance):
		v.Word = "UNSURE"
	case v.Effect >= abEffect:
		v.Word = "GO"
	case v.Effect <= -abEffect:
		v.Word = "NO-GO"
	case v.Noise >= abEffect:
		v.Word = "UNSURE"
	}
	return v
}

func (v verdict) code() int {
	return map[string]int{"GO": exitGo, "NO-GO": exitNoGo, "NEUTRAL": exitNeutral, "UNSURE": exitUnsure}[v.Word]
}

func (t *trial) print(out io.Writer, v verdict, counters string) error {
	fmt.Fprintf(out, "%s=%s against %s: %s, %s\n", t.setting, t.on, t.off, t.title(), t.alloc[0])
	w := newTable(out)
	for _, c := range []*contestant{t.a, t.b, t.again} {
		low, high, level := result.Interval(c.runs)
		fmt.Fprintf(w, "%s\t%.3f ns/op\t%.3f-%.3f (%.0f %%)\n", c.name, result.Median(result.Times(c.runs)), low, high, 100*level)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(out, counters)
	if t.runs < abLeast {
		fmt.Fprintf(out, "%d runs cannot tell an effect from chance; use %d or more\n", t.runs, abLeast)
	}
	_, err := fmt.Fprintf(out, "%s: %+.2f %%, noise %.2f %%, p %.5f\n", v.Word, 100*v.Effect, 100*v.Noise, v.P)
	return err
}

// command returns a command line that makes the trial again, in any directory from which the path
// of --dist leads to the file.
func (t *trial) command() []string {
	list := []string{"hakmem", "ab", t.workload.Name, "--gate", t.setting + "=" + t.off + "," + t.on, "--alloc", t.alloc[0], "--runs", strconv.Itoa(t.runs)}
	for i := range bench.ParamTable {
		if p := &bench.ParamTable[i]; t.workload.Uses(p) {
			list = append(list, "--"+p.Name, strconv.FormatUint(p.Get(&t.params), 10))
		}
	}
	if t.workload.Name == bench.DistWorkload {
		list = append(list, "--dist", t.dist)
	}
	if t.limit != defaultLimit {
		list = append(list, "--limit", t.limit.String())
	}
	for _, v := range t.env {
		list = append(list, "--env", v)
	}
	return list
}

// entry is the text that --append writes.
func (t *trial) entry(v verdict, counters string) string {
	return fmt.Sprintf("\n## %s=%s against %s on %s (%s)\n%s. `%s`: %.3f against %.3f ns/op (again: %.3f), effect %+.2f %%, noise %.2f %%, p %.5f. %s\n",
		t.setting, t.on, t.off, t.workload.Name, v.Word, time.Now().UTC().Format("2006-01-02"), report.Shell(t.command()),
		result.Median(result.Times(t.b.runs)), result.Median(result.Times(t.a.runs)), result.Median(result.Times(t.again.runs)),
		100*v.Effect, 100*v.Noise, v.P, counters)
}

// perfEvents are the hardware counters that are shown if the machine has them.
var perfEvents = []string{"instructions:u", "cycles:u", "branch-misses:u", "cache-misses:u"}

// counters makes one more run of both values under `perf stat`. It returns a line with each counter
// per operation, or a line that says why there is none.
func (t *trial) counters(ctx context.Context) string {
	perf, err := exec.LookPath("perf")
	if err != nil {
		return "hardware counters: no perf on this machine"
	}
	var parts []string
	for _, arm := range []*contestant{t.a, t.b} {
		cmd := arm.command(0, variant{})
		limited, cancel := context.WithTimeout(ctx, t.limit)
		defer cancel()
		c := exec.CommandContext(limited, perf, append([]string{"stat", "-x", ",", "-e", strings.Join(perfEvents, ","), cmd.path}, cmd.args...)...)
		c.Env = cmd.env
		var errs bytes.Buffer
		c.Stderr = &errs // perf writes here
		ownGroup(c)
		if err := c.Run(); err != nil {
			return "hardware counters: perf stat failed: " + firstLine(errs.String())
		}
		counted := parsePerf(errs.String(), t.ops())
		if counted == "" {
			return "hardware counters: not supported on this machine"
		}
		parts = append(parts, arm.name+": "+counted)
	}
	return "hardware counters of the whole process, over timed operations: " + strings.Join(parts, "; ")
}

// parsePerf reads the output of perf stat -x, and divides the counters by ops.
func parsePerf(text string, ops uint64) string {
	r := csv.NewReader(strings.NewReader(text))
	r.FieldsPerRecord = -1
	lines, _ := r.ReadAll()
	var parts []string
	for _, line := range lines {
		if len(line) < 3 {
			continue
		}
		if n, err := strconv.ParseFloat(line[0], 64); err == nil {
			parts = append(parts, fmt.Sprintf("%.4g %s", n/float64(ops), strings.TrimSuffix(line[2], ":u")))
		}
	}
	return strings.Join(parts, ", ")
}
