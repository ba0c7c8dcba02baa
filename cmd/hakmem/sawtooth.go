package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"
	"unsafe"

	"github.com/urfave/cli/v3"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/osmem"
)

// sawtoothBlock is the size of the blocks in bytes: 16 fit into 4 MiB, so that the blocks that stay
// alive between the peaks are scattered.
const sawtoothBlock = 256 << 10

func sawtoothVerb() *cli.Command {
	return &cli.Command{
		Name: "sawtooth", Usage: "demand that comes and goes: how much memory is kept between peaks, and how much is faulted in again",
		Description: "Allocates blocks of 256 KiB up to the peak and writes to each page. Then, once in each period,\n" +
			"frees 90 % of them, always the same ones but each time in another order, waits until the period\n" +
			"is over, and allocates and writes them again.\n" +
			"For each period it prints the page faults and the resident memory between the peaks, less that\n" +
			"before the first block, as a multiple of the live bytes. Compare with HAKMEM_KEEP=always.",
		Flags: []cli.Flag{
			&cli.DurationFlag{Name: "period", Value: 2 * time.Second, Usage: "from one peak to the next"},
			&cli.IntFlag{Name: "periods", Value: 5, Usage: "how many"},
			&cli.IntFlag{Name: "peak", Value: 4 << 10, Usage: "most alive, in MiB"},
			&cli.BoolFlag{Name: "json", Usage: "print JSON"},
		},
		OnUsageError: badFlags,
		Action: func(ctx context.Context, c *cli.Command) error {
			if err := errors.Join(noArguments(c), checkSettings()); err != nil {
				return err
			}
			period, periods, peak := c.Duration("period"), c.Int("periods"), c.Int("peak")
			if period <= 0 || period > time.Hour {
				return usagef("--period %v: use a time up to an hour", period)
			}
			if periods < 1 || periods > 1000 {
				return usagef("--periods %d: use a number from 1 to 1000", periods)
			}
			if peak < 16 || peak > 1<<20 {
				return usagef("--peak %d: use a number of MiB from 16 to %d", peak, 1<<20)
			}
			r, err := sawtooth(ctx, period, periods, peak<<20/sawtoothBlock)
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return printJSON(c.Root().Writer, r)
			}
			return r.print(c.Root().Writer)
		},
	}
}

// sawtoothResult is what the verb prints. Resident memory is counted over that of the idle process.
type sawtoothResult struct {
	LiveBytes   uint64 // alive between the peaks
	FirstFaults uint64 // page faults until the first peak
	Periods     []sawtoothPeriod
	Faults      uint64  // page faults of all periods
	MeanRSS     float64 // between the peaks, divided by LiveBytes
}

type sawtoothPeriod struct {
	MeanRSS, EndRSS float64 // divided by LiveBytes
	Faults          uint64
	FillMs          float64
}

func sawtooth(ctx context.Context, period time.Duration, periods, blocks int) (r sawtoothResult, err error) {
	rss := func() uint64 { n, _ := osmem.ResidentBytes(); return n }
	faults := func() uint64 { n, _ := osmem.ProcessFaults(); return n }
	all := make([]unsafe.Pointer, blocks)
	rng := rand.New(rand.NewPCG(1, 2))
	order := rng.Perm(blocks)[:blocks*9/10]
	fill := func(i int) error {
		p := hakmem.Malloc(sawtoothBlock)
		if p == nil {
			return errors.Join(fmt.Errorf("out of memory at block %d of %d; lower --peak", i, blocks), hakmem.Err())
		}
		b := unsafe.Slice((*byte)(p), sawtoothBlock)
		for j := 0; j < len(b); j += 4096 {
			b[j] = 1
		}
		all[i] = p
		return nil
	}
	idle, begin := rss(), faults()
	for i := range all {
		if err := fill(i); err != nil {
			return r, err
		}
	}
	r.LiveBytes = uint64(blocks-len(order)) * sawtoothBlock
	r.FirstFaults = faults() - begin
	for start := time.Now(); len(r.Periods) < periods; start = start.Add(period) {
		before := faults()
		for _, i := range order {
			hakmem.Free(all[i])
		}
		var p sawtoothPeriod
		var sum, looks float64
		for { // at least once, even if filling took more than a period
			if ctx.Err() != nil {
				return r, ctx.Err()
			}
			now := rss()
			p.EndRSS = float64(now-min(now, idle)) / float64(r.LiveBytes)
			sum += p.EndRSS
			looks++
			if time.Since(start) >= period {
				break
			}
			time.Sleep(min(10*time.Millisecond, period/20))
		}
		p.MeanRSS = sum / looks
		filling := time.Now()
		for _, i := range order {
			if err := fill(i); err != nil {
				return r, err
			}
		}
		p.FillMs = time.Since(filling).Seconds() * 1e3
		p.Faults = faults() - before
		r.Periods = append(r.Periods, p)
		r.MeanRSS += p.MeanRSS / float64(periods)
		rng.Shuffle(len(order), func(a, b int) { order[a], order[b] = order[b], order[a] })
	}
	r.Faults = faults() - begin
	for _, p := range all {
		hakmem.Free(p)
	}
	return r, nil
}

func (r sawtoothResult) print(out io.Writer) error {
	w := newTable(out)
	fmt.Fprint(w, "period\tmean RSS / live\tRSS / live at its end\tfaults\tfill, ms\n")
	for i, p := range r.Periods {
		fmt.Fprintf(w, "%d\t%.2f\t%.2f\t%d\t%.0f\n", i+1, p.MeanRSS, p.EndRSS, p.Faults, p.FillMs)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "live between the peaks %s; faults %d, of these %d until the first peak; mean RSS %.2f times the live bytes\n",
		size(float64(r.LiveBytes)), r.Faults, r.FirstFaults, r.MeanRSS)
	return err
}
