package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/hakmem/hakmem/bench"
)

// The two programs that are measured; each has an empty loop of its own.
const (
	sideGo = "go"
	sideC  = "c"
)

// contestant is one thing to measure: an allocator, or a side's empty loop.
type contestant struct {
	name, side string
	// commands has one child for each code layout: just one, but for the Go
	// side of `compare --layouts`.
	commands []command
	preload  string // C side: the library that must have supplied malloc
	runs     []bench.Run
	absent   string // why there is no result; "" if there is one
}

// childRun is what a child prints: the C driver also names malloc's library.
type childRun struct {
	bench.Run
	MallocFrom string `json:"malloc_from"`
}

// interleave runs the contestants in turn, A B C A B C, so that what disturbs
// the machine for a while does not fall on one of them. With several layouts
// each turn goes through all of them; a contestant that has but one runs as
// often as the others. One that fails is absent from then on. The error is that
// of ctx.
func interleave(ctx context.Context, j job, contestants []*contestant, bar *progress) error {
	layouts := 1
	for _, c := range contestants {
		layouts = max(layouts, len(c.commands))
	}
	for run := range j.runs {
		for layout := range layouts {
			for _, c := range contestants {
				if c.absent != "" {
					bar.step()
					continue
				}
				bar.doing(fmt.Sprintf("%s, run %d", c.name, run+1))
				c.once(ctx, j, layout)
				if ctx.Err() != nil {
					return errors.New("interrupted")
				}
				bar.step()
			}
		}
	}
	return nil
}

// once performs one run of c.
func (c *contestant) once(ctx context.Context, j job, layout int) {
	var r childRun
	if err := c.commands[layout%len(c.commands)].run(ctx, j.limit, &r); err != nil {
		c.absent = err.Error()
		return
	}
	if c.preload != "" && !sameFile(r.MallocFrom, c.preload) {
		c.absent = fmt.Sprintf("LD_PRELOAD of %s had no effect: malloc came from %s", c.preload, r.MallocFrom)
		return
	}
	if len(c.commands) > 1 {
		r.Layout = layout + 1 // the number given to the linker
	}
	c.runs = append(c.runs, r.Run)
}

// makeReport sums up what interleave left in the contestants.
func makeReport(j job, contestants []*contestant) bench.Report {
	report := bench.Report{
		Workload: j.workload, Params: j.paramMap(), Machine: bench.ThisMachine(),
		Results: []bench.Result{}, Absent: []bench.Absent{},
	}
	empty := map[string][]bench.Run{}
	for _, c := range contestants {
		if c.name == bench.Empty {
			empty[c.side] = c.runs
		}
	}
	for _, c := range contestants {
		switch {
		case c.absent != "":
			name := c.name
			if name == bench.Empty {
				name += " (" + c.side + ")"
			}
			report.Absent = append(report.Absent, bench.Absent{Allocator: name, Reason: c.absent})
		case c.name != bench.Empty:
			report.Results = append(report.Results, bench.Summarize(c.name, c.runs, empty[c.side]))
		}
	}
	return report
}
