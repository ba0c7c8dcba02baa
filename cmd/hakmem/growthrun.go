package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/bench"
	"github.com/hakmem/hakmem/bench/loops"
	"github.com/hakmem/hakmem/bench/result"
)

// bench growth: what an allocator costs when more is alive, when there are more Ps, and when there are
// more goroutines.

const (
	// growthReplaced is the number of blocks that a cell replaces, in all goroutines together: enough
	// that their mean is steady, and some tenths of a second.
	growthReplaced = 2_000_000
	// growthNeed is the memory that a cell needs for each byte of blocks alive. jemalloc takes 1.3 at
	// most, and the rest is the harness's slots, 8 bytes for a block of 600.
	growthNeed = 1.4
	// growthMost bounds --alive, in MiB: 1 TiB, which is also a region of hakmem's.
	growthMost = 1 << 20
)

// growthCell is one line of the table: an allocator at one size.
type growthCell struct {
	Allocator  string `json:"allocator"`
	GOMAXPROCS int    `json:"gomaxprocs,omitempty"` // 0: a program in C
	Goroutines int    `json:"goroutines"`           // or threads
	Blocks     uint64 `json:"blocks"`
	Replaced   uint64 `json:"replaced"`
	Alive      uint64 `json:"alive_bytes"` // as asked for, when all blocks are alive
	// Runs are the runs from which the figures are taken, by their medians.
	Runs []result.Run `json:"runs"`
	// Skipped says why there are none.
	Skipped string `json:"skipped,omitempty"`
}

// growthReport is what --json prints.
type growthReport struct {
	Command []string       `json:"command"`
	Started string         `json:"started"`
	Machine result.Machine `json:"machine"`
	Rest    float64        `json:"rest_seconds"`
	Cells   []growthCell   `json:"cells"`
}

// growthPlan is what is to be measured.
type growthPlan struct {
	field                     *field
	alloc                     []string
	alive, procs, goroutines  []uint64 // alive in MiB
	runs                      int
	rest, limit               time.Duration
	replaced, smallest, large uint64
}

func growthVerb() *cli.Command {
	all, _ := readField(&cli.Command{})
	known := all.names()
	defaults := []string{"hakmem", "hakmem-heap"}
	for _, p := range peers {
		defaults = append(defaults, p.name)
	}
	w, err := bench.FindWorkload(bench.GrowthWorkload)
	if err != nil {
		panic(err) // not reached: the name is a constant of the table
	}
	text := func(n uint64) string { return strconv.FormatUint(n, 10) }
	return &cli.Command{
		Name:      bench.GrowthWorkload,
		Usage:     "measure what an allocator costs as more is alive, with more Ps and with more goroutines",
		ArgsUsage: " ",
		Description: "Each cell is a process of its own. It fills memory with blocks of random size, replaces random ones,\n" +
			"trims, frees a random nine tenths, rests, trims again, and frees the rest. A size that does not fit\n" +
			"the memory at hand is skipped, with the reason. The allocators in C have threads for goroutines and\n" +
			"run once for each number of them. The environment is that of `compare`. docs/benchmarks.md explains\n" +
			"the columns.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "alive", Value: "1,64,1024,12288", Usage: "`MiB` of blocks alive, separated by commas"},
			&cli.StringFlag{Name: "gomaxprocs", Value: "2,64", Usage: "values of GOMAXPROCS"},
			&cli.StringFlag{Name: "goroutines", Value: "1,10000", Usage: "`numbers` of goroutines, or threads in C, that share the blocks; hakmem-heap has a Heap in each"},
			&cli.StringFlag{Name: "alloc", Value: listOf(defaults), Usage: "what to measure: some of " + listOf(known)},
			&cli.StringFlag{Name: "runs", Value: "1", Usage: "runs of each cell; medians are reported"},
			&cli.StringFlag{Name: "rest", Value: defaultLater.String(), Usage: "`time` after which memory is looked at again"},
			&cli.StringFlag{Name: "limit", Value: (5 * defaultLimit).String(), Usage: "`time` after which one run is ended and its cell skipped"},
			&cli.StringFlag{Name: "replace", Value: text(growthReplaced), Usage: "`blocks` to replace, in all goroutines together"},
			&cli.StringFlag{Name: "min", Value: text(w.Params.Min), Usage: "smallest block in `bytes`"},
			&cli.StringFlag{Name: "max", Value: text(w.Params.Max), Usage: "largest block in `bytes`"},
			&cli.BoolFlag{Name: "json", Usage: "print JSON, with the laps of all runs"},
			envFlag(), peerFlag(),
		},
		OnUsageError:              badFlags,
		DisableSliceFlagSeparator: true, // values of --env may hold commas
		Action:                    growthAction,
	}
}

// readGrowth reads the flags.
func readGrowth(c *cli.Command) (p growthPlan, err error) {
	if err := noArguments(c); err != nil {
		return p, err
	}
	if p.field, err = readField(c); err != nil {
		return p, err
	}
	if p.alloc, err = readList("alloc", c.String("alloc"), p.field.names()); err != nil {
		return p, err
	}
	if !c.IsSet("alloc") { // including those added with --peer
		for _, added := range p.field.peers[len(peers):] {
			p.alloc = append(p.alloc, added.name)
		}
	}
	for _, l := range []struct {
		to   *[]uint64
		name string
		most uint64
	}{{&p.alive, "alive", growthMost}, {&p.procs, "gomaxprocs", maxProcs}, {&p.goroutines, "goroutines", loops.MaxThreads}} {
		if *l.to, err = readNumbers(c, l.name, l.most); err != nil {
			return p, err
		}
	}
	runs, err := readNumber(c, "runs", maxRuns)
	if err != nil {
		return p, err
	}
	p.runs = int(runs)
	if p.rest, err = readTime(c, "rest"); err != nil {
		return p, err
	}
	if p.limit, err = readTime(c, "limit"); err != nil {
		return p, err
	}
	if p.replaced, err = readNumber(c, "replace", loops.MaxIters); err != nil {
		return p, err
	}
	if p.smallest, err = readNumber(c, "min", loops.MaxSize); err != nil {
		return p, err
	}
	if p.large, err = readNumber(c, "max", loops.MaxSize); err != nil {
		return p, err
	}
	if p.smallest > p.large {
		return p, usagef("--min %d: use a size not above --max, which is %d", p.smallest, p.large)
	}
	return p, nil
}

// maxProcs bounds --gomaxprocs: a larger number is a typing error.
const maxProcs = 1024

// readNumbers reads a flag whose value is a list of whole numbers from 1 to max.
func readNumbers(c *cli.Command, name string, max uint64) (list []uint64, err error) {
	for word := range strings.SplitSeq(c.String(name), ",") {
		n, err := strconv.ParseUint(strings.TrimSpace(word), 10, 64)
		if err != nil || n < 1 || n > max {
			return nil, usagef("--%s %q: use whole numbers from 1 to %d, separated by commas; got %q", name, c.String(name), max, word)
		}
		if !slices.Contains(list, n) {
			list = append(list, n)
		}
	}
	return list, nil
}

func growthAction(ctx context.Context, c *cli.Command) error {
	p, err := readGrowth(c)
	if err != nil {
		return err
	}
	report := growthReport{Command: commandLine(), Started: time.Now().UTC().Format(time.RFC3339), Machine: bench.ThisMachine(), Rest: p.rest.Seconds()}
	cells := p.cells()
	bar := newProgress(c.Root().ErrWriter, len(cells)*p.runs)
	defer bar.close()
	defer func() { p.field.clean() }()
	if err := p.field.prepare(ctx, p.alloc, bar); err != nil {
		return err
	}
	out := c.Root().Writer
	measured := 0
	for i := range cells {
		p.measure(ctx, &cells[i], bar)
		if ctx.Err() != nil {
			return errInterrupted
		}
		if cells[i].Skipped == "" {
			measured++
		}
	}
	bar.close()
	report.Cells = cells
	if c.Bool("json") {
		err = printJSON(out, report)
	} else {
		err = report.print(out)
	}
	if measured == 0 && err == nil {
		err = errors.New("growth: nothing could be measured; `--json` has the reason of each cell")
	}
	return err
}

// cells lists what is to be measured, the smallest sizes first.
func (p *growthPlan) cells() (list []growthCell) {
	mean := (p.smallest + p.large) / 2
	for _, alive := range p.alive {
		for _, goroutines := range p.goroutines {
			perGoroutine := max(alive*mib/mean/goroutines, 1)
			cell := growthCell{
				Goroutines: int(goroutines), Blocks: perGoroutine * goroutines, Alive: perGoroutine * goroutines * mean,
				Replaced: max(p.replaced/goroutines, 1) * goroutines,
			}
			for _, cell.Allocator = range p.alloc {
				if p.inC(cell.Allocator) {
					cell.GOMAXPROCS = 0
					list = append(list, cell)
					continue
				}
				for _, procs := range p.procs {
					cell.GOMAXPROCS = int(procs)
					list = append(list, cell)
				}
			}
		}
	}
	return list
}

// inC reports whether an allocator is one of the driver's.
func (p *growthPlan) inC(name string) bool {
	return slices.ContainsFunc(p.field.peers, func(peer peer) bool { return peer.name == name })
}

// measure makes the runs of a cell, or notes why there are none.
func (p *growthPlan) measure(ctx context.Context, cell *growthCell, bar *progress) {
	w, err := bench.FindWorkload(bench.GrowthWorkload)
	if err != nil {
		cell.Skipped = err.Error()
		return
	}
	j := job{workload: w, params: w.Params, runs: p.runs, limit: p.limit + 2*p.rest}
	j.params.Min, j.params.Max, j.params.Threads = p.smallest, p.large, cell.Goroutines
	j.params.WS, j.params.Iters = cell.Blocks/uint64(cell.Goroutines), cell.Replaced/uint64(cell.Goroutines)
	f := *p.field
	if cell.GOMAXPROCS > 0 {
		f.env = append(slices.Clip(f.env), "GOMAXPROCS="+strconv.Itoa(cell.GOMAXPROCS))
	}
	c := f.contestants(j, []string{cell.Allocator})[0]
	for range p.runs {
		bar.doing(fmt.Sprintf("%s, %s alive, %d goroutines", cell.Allocator, size(float64(cell.Alive)), cell.Goroutines))
		need, have := uint64(float64(cell.Alive)*growthNeed), memoryAtHand()
		switch {
		case c.absent != "":
			cell.Skipped = c.absent
		case need > have:
			cell.Skipped = fmt.Sprintf("it needs %s of memory, and %s are available", size(float64(need)), size(float64(have)))
		case w.Validate(j.params) != nil:
			cell.Skipped = w.Validate(j.params).Error()
		default:
			r, _, err := c.attempt(ctx, j, c.command(0, variant{linger: p.rest}), false)
			if err != nil {
				c.absent = err.Error()
				explainAbsent([]*contestant{c})
				cell.Skipped = c.absent
				break
			}
			cell.Runs = append(cell.Runs, r)
		}
		bar.step()
	}
}

// memoryAtHand is how much memory a new process may use: what the system has available, or less in a
// container. It is without bound where the system does not say.
func memoryAtHand() uint64 {
	most := uint64(math.MaxUint64)
	if limit, ok := hakmem.ContainerLimit(); ok {
		most = limit
	}
	if runtime.GOOS != "linux" {
		return most
	}
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return most
	}
	for line := range strings.Lines(string(text)) {
		if name, value, _ := strings.Cut(line, ":"); name == "MemAvailable" {
			if kib, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64); err == nil {
				most = min(most, kib<<10)
			}
		}
	}
	return most
}

// growthColumns are the figures of a cell, in the order of the table. A figure that is not known is NaN.
var growthColumns = []struct {
	title  string
	digits int
	of     func(*growthCell, *result.Run) float64
}{
	{"fill ns", 0, func(c *growthCell, r *result.Run) float64 { return perBlock(r, loops.LapFill, c.Blocks) }},
	{"faults/block", 3, func(c *growthCell, r *result.Run) float64 {
		return figureOf(r, loops.LapFill, func(l *result.Lap) float64 { return float64(l.MinorFaults) / float64(c.Blocks) })
	}},
	{"replace ns", 0, func(c *growthCell, r *result.Run) float64 { return perBlock(r, loops.LapReplace, c.Replaced) }},
	{"resident/alive", 2, func(c *growthCell, r *result.Run) float64 { return resident(r, loops.LapReplace) / float64(c.Alive) }},
	{"metadata %", 1, func(c *growthCell, r *result.Run) float64 {
		return ownOf(r, loops.LapReplace, func(o *result.Own) float64 { return 100 * float64(o.Tables) / float64(c.Alive) })
	}},
	{"stats ms", 2, func(_ *growthCell, r *result.Run) float64 {
		return ownOf(r, loops.LapReplace, func(o *result.Own) float64 { return 1e3 * o.Seconds })
	}},
	{"trim ms", 2, func(_ *growthCell, r *result.Run) float64 { return lapMillis(r, loops.LapTrimFull) }},
	{"free ns", 0, func(c *growthCell, r *result.Run) float64 { return perBlock(r, loops.LapThin, c.Blocks-c.Blocks/10) }},
	{"left %", 0, func(c *growthCell, r *result.Run) float64 {
		return 100 * resident(r, loops.LapThin) / resident(r, loops.LapReplace)
	}},
	{"rested %", 0, func(c *growthCell, r *result.Run) float64 {
		return 100 * resident(r, loops.LapRest) / resident(r, loops.LapReplace)
	}},
	{"cpu ms", 0, func(_ *growthCell, r *result.Run) float64 {
		return figureOf(r, loops.LapRest, func(l *result.Lap) float64 { return 1e3 * l.CPU })
	}},
	{"tick ms", 2, func(_ *growthCell, r *result.Run) float64 { return tickMillis(r) }},
	{"trim ms", 2, func(_ *growthCell, r *result.Run) float64 { return lapMillis(r, loops.LapTrim) }},
	{"trimmed %", 0, func(c *growthCell, r *result.Run) float64 {
		return 100 * resident(r, loops.LapTrim) / resident(r, loops.LapReplace)
	}},
	{"all freed MiB", 1, func(_ *growthCell, r *result.Run) float64 {
		return (float64(r.LaterRSS) - float64(r.IdleRSS)) / mib
	}},
}

// figureOf is a figure of a lap, NaN where there is no such lap.
func figureOf(r *result.Run, lap string, of func(*result.Lap) float64) float64 {
	if l := r.Lap(lap); l != nil {
		return of(l)
	}
	return math.NaN()
}

// ownOf is a figure that the allocator has of itself, NaN where it has none.
func ownOf(r *result.Run, lap string, of func(*result.Own) float64) float64 {
	if l := r.Lap(lap); l != nil && l.Own != nil {
		return of(l.Own)
	}
	return math.NaN()
}

// perBlock is the time of a lap for each of n blocks, in ns of all goroutines together.
func perBlock(r *result.Run, lap string, n uint64) float64 {
	return figureOf(r, lap, func(l *result.Lap) float64 { return 1e9 * l.Seconds / float64(n) })
}

func lapMillis(r *result.Run, lap string) float64 {
	return figureOf(r, lap, func(l *result.Lap) float64 { return 1e3 * l.Seconds })
}

// resident is the memory at the end of a lap beyond what the process had before its first block.
func resident(r *result.Run, lap string) float64 {
	return figureOf(r, lap, func(l *result.Lap) float64 { return max(0, float64(l.RSS)-float64(r.IdleRSS)) })
}

// tickMillis is the processor's time of one tick of the allocator's timer during the rest.
func tickMillis(r *result.Run) float64 {
	before, rest := r.Lap(loops.LapThin), r.Lap(loops.LapRest)
	if before == nil || rest == nil || before.Own == nil || rest.Own == nil || rest.Own.Ticks == before.Own.Ticks {
		return math.NaN()
	}
	return 1e3 * rest.CPU / float64(rest.Own.Ticks-before.Own.Ticks)
}

func (g *growthReport) print(out io.Writer) error {
	m := g.Machine
	fmt.Fprintf(out, "growth, at rest for %v\n%s, %d cores, %s/%s, kernel %s, %s\n\n", time.Duration(g.Rest*float64(time.Second)), m.CPU, m.Cores, m.OS, m.Arch, m.Kernel, m.Go)
	w := newTable(out)
	fmt.Fprint(w, "alive\tgoroutines\tallocator\tGOMAXPROCS")
	for _, column := range growthColumns {
		fmt.Fprintf(w, "\t%s", column.title)
	}
	fmt.Fprintln(w)
	for i := range g.Cells {
		c := &g.Cells[i]
		if c.Skipped != "" {
			continue
		}
		procs := "-"
		if c.GOMAXPROCS > 0 {
			procs = strconv.Itoa(c.GOMAXPROCS)
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%s", size(float64(c.Alive)), c.Goroutines, c.Allocator, procs)
		for _, column := range growthColumns {
			var values []float64
			for k := range c.Runs {
				if v := column.of(c, &c.Runs[k]); !math.IsNaN(v) && !math.IsInf(v, 0) {
					values = append(values, v)
				}
			}
			if len(values) == 0 {
				fmt.Fprint(w, "\t-")
			} else {
				fmt.Fprintf(w, "\t%.*f", column.digits, result.Median(values))
			}
		}
		fmt.Fprintln(w)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, c := range g.Cells {
		if c.Skipped != "" {
			procs := ""
			if c.GOMAXPROCS > 0 {
				procs = fmt.Sprintf(" with GOMAXPROCS %d", c.GOMAXPROCS)
			}
			if _, err := fmt.Fprintf(out, "skipped: %s, %s alive, %d goroutines%s: %s\n", c.Allocator, size(float64(c.Alive)), c.Goroutines, procs, c.Skipped); err != nil {
				return err
			}
		}
	}
	return nil
}
