package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hakmem/hakmem/bench"
	"github.com/hakmem/hakmem/bench/loops"
	"github.com/hakmem/hakmem/bench/result"
)

// The two programs that are measured. Each has an empty loop of its own.
const (
	sideGo = "go"
	sideC  = "c"
)

// contestant is one thing to measure: an allocator, or the empty loop of a side.
type contestant struct {
	name, side string
	placements int // number of placements: more than 1 only on the Go side with --placements
	// command returns the child for a placement, counted from 0.
	command func(placement int, v variant) command
	preload string // on the C side: the library from which malloc must come

	runs    []result.Run
	curves  [][]sample // of the same runs
	spent   time.Duration
	latency *result.Latency
	calls   *uint64
	later   *int64
	absent  string // why there is no result; "" if there is one
	notes   []string
}

// interleave runs the contestants in turn, A B C A B C, so that a disturbance of the machine does
// not fall on one of them only. With several placements each turn goes through all of them; a
// contestant with only one placement runs as often as the others. A contestant that fails is absent
// from then on, and one that has used up its budget is left out. The error is that of ctx.
func interleave(ctx context.Context, j job, contestants []*contestant, bar *progress) error {
	placements := 1
	for _, c := range contestants {
		placements = max(placements, c.placements)
	}
	for run := range j.runs {
		for placement := range placements {
			for _, c := range contestants {
				tired := j.budget > 0 && run >= minRuns && c.spent > j.budget
				if c.absent == "" && !tired {
					bar.doing(fmt.Sprintf("%s: %s, run %d", j.workload.Name, c.name, run+1))
					c.once(ctx, j, placement)
				}
				if ctx.Err() != nil {
					return errInterrupted
				}
				bar.step()
			}
		}
	}
	return nil
}

var (
	errInterrupted = errors.New("interrupted")
	// errNoLibrary says that the peer is not installed.
	errNoLibrary = errors.New("the library was not preloaded")
)

// attempt performs one run of c in the given variant.
func (c *contestant) attempt(ctx context.Context, j job, cmd command, watch bool) (result.Run, []sample, error) {
	r, list, err := cmd.run(ctx, j.limit, watch)
	if err != nil {
		return r.Run, nil, err
	}
	if c.preload != "" && !sameFile(r.MallocFrom, c.preload) {
		return r.Run, nil, fmt.Errorf("%w: LD_PRELOAD of %s had no effect, malloc came from %s", errNoLibrary, c.preload, r.MallocFrom)
	}
	if r.OpsPerS == 0 { // the driver leaves the division to this program
		r.OpsPerS = float64(j.ops()) / r.Seconds
		r.NsPerOp = 1e9 / r.OpsPerS
	}
	return r.Run, list, nil
}

// once performs one timed run of c.
func (c *contestant) once(ctx context.Context, j job, placement int) {
	start := time.Now()
	r, list, err := c.attempt(ctx, j, c.command(placement%c.placements, variant{}), true)
	c.spent += time.Since(start)
	if err != nil {
		c.absent = err.Error()
		return
	}
	if c.placements > 1 {
		r.Placement = placement + 1 // the number that was given to the linker
	}
	r.Area = area(list, r)
	c.runs, c.curves = append(c.runs, r), append(c.curves, list)
}

// sampleLatency makes the run in which the times of single operations are sampled.
func (c *contestant) sampleLatency(ctx context.Context, j job) {
	switch r, _, err := c.attempt(ctx, j, c.command(0, variant{observe: loops.ObserveLatency}), false); {
	case err != nil:
		c.notes = append(c.notes, "latency: "+err.Error())
	case r.Observed != nil:
		c.latency = result.NewLatency(*r.Observed)
	}
}

// maxLingering is the number of children that may sleep at the same time. Those whose allocators
// keep their memory hold up to 2 GiB each.
const maxLingering = 3

// settleAll makes the run that counts the memory system calls and measures the memory after everything
// was freed. While one child lingers the loop of the next may run, but two loops never run at a
// time.
func settleAll(ctx context.Context, j job, contestants []*contestant, linger time.Duration, bar *progress) {
	dir, err := os.MkdirTemp("", "hakmem-calls-")
	if err != nil {
		return
	}
	defer os.RemoveAll(dir)
	var all sync.WaitGroup
	defer all.Wait()
	places := make(chan struct{}, maxLingering)
	j.limit += linger
	for i, c := range contestants {
		if c.absent != "" || c.name == loops.Empty {
			continue
		}
		places <- struct{}{}
		bar.doing(fmt.Sprintf("%s: %s, memory", j.workload.Name, c.name))
		file := filepath.Join(dir, fmt.Sprint(i))
		done := make(chan struct{})
		all.Go(func() {
			defer func() { close(done); <-places }()
			c.settle(ctx, j, linger, file)
		})
		for over := false; !over; { // until the loop is over: the mark of its end is written
			select {
			case <-done:
				over = true
			case <-time.After(20 * time.Millisecond): // short compared to a loop, and there is little to read
				over = loopEnded(file)
			}
		}
		bar.step()
	}
}

// settle is the part of settleAll for one contestant.
func (c *contestant) settle(ctx context.Context, j job, linger time.Duration, file string) {
	plain := c.command(0, variant{linger: linger})
	cmd, counted := plain.traced(file)
	r, _, err := c.attempt(ctx, j, cmd, false)
	if err != nil && counted && ctx.Err() == nil { // tracing may be forbidden
		c.notes = append(c.notes, "memory calls: "+err.Error())
		counted = false
		r, _, err = c.attempt(ctx, j, plain, false)
	}
	if err != nil {
		c.notes = append(c.notes, "memory: "+err.Error())
		return
	}
	if linger > 0 && r.LaterRSS > 0 {
		over := int64(r.LaterRSS) - int64(r.IdleRSS)
		c.later = &over
	}
	if !counted {
		return
	}
	if n, err := countCalls(file); err != nil {
		c.notes = append(c.notes, "memory calls: "+err.Error())
	} else {
		c.calls = &n
	}
}

// makeReport sums up the contestants' runs.
func makeReport(j job, contestants []*contestant) result.Report {
	report := result.Report{
		Workload: j.workload.Name, Params: j.paramMap(), Machine: bench.ThisMachine(),
		Results: []result.Result{}, Absent: []result.Absent{},
	}
	empty := map[string][]result.Run{}
	for _, c := range contestants {
		if c.name == loops.Empty {
			empty[c.side] = c.runs
			if c.absent == "" {
				report.Loops = append(report.Loops, result.Loop{Side: c.side, NsPerOp: result.Summarize(c.name, c.runs, nil).NsPerOp})
			}
		}
	}
	for _, c := range contestants {
		switch {
		case c.absent != "":
			name := c.name
			if name == loops.Empty {
				name += " (" + c.side + ")"
			}
			report.Absent = append(report.Absent, result.Absent{Allocator: name, Reason: c.absent})
		case c.name != loops.Empty:
			r := result.Summarize(c.name, c.runs, empty[c.side])
			r.Latency, r.MemoryCalls, r.LaterRSS, r.Notes = c.latency, c.calls, c.later, c.notes
			r.Curve = medianCurve(c.runs, c.curves)
			report.Results = append(report.Results, r)
		}
	}
	return report
}

// medianCurve returns the memory curve of the run that has the median time.
func medianCurve(runs []result.Run, curves [][]sample) [][2]float64 {
	middle := result.Summarize("", runs, nil).NsPerOp
	best := 0
	for i, r := range runs {
		if math.Abs(r.NsPerOp-middle) < math.Abs(runs[best].NsPerOp-middle) {
			best = i
		}
	}
	if best >= len(curves) {
		return nil
	}
	return curve(curves[best], runs[best])
}
