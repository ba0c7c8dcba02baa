package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"runtime"
	"runtime/debug"
	"time"
	"unsafe"

	"github.com/urfave/cli/v3"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/bench/result"
	"github.com/hakmem/hakmem/internal/osmem"
)

// demandName is the hidden verb under which this program lives through one demand in a process of its own.
const demandName = "__demand"

// demandSpec says which demand.
type demandSpec struct {
	Pattern string
	Seed    uint64
	Length  time.Duration
}

func demandVerb() *cli.Command {
	return &cli.Command{
		Name: demandName, Hidden: true, HideHelp: true, SkipFlagParsing: true,
		Action: func(ctx context.Context, c *cli.Command) error {
			var s demandSpec
			if err := json.Unmarshal([]byte(c.Args().First()), &s); err != nil {
				return usagef("%s is not for use by hand: %w", demandName, err)
			}
			if err := checkSettings(); err != nil {
				return err
			}
			d := makeDemand(s.Pattern, s.Seed, s.Length)
			debug.SetGCPercent(-1) // Go's heap holds the demand from here on, and changes no more
			f, err := liveThrough(ctx, d, s.Length)
			if err != nil {
				return err
			}
			return json.NewEncoder(c.Root().Writer).Encode(f)
		},
	}
}

// lookEvery is the time between two looks at resident memory, a tenth of the scavenger's usual tick. A look
// takes some 10 µs.
const lookEvery = 10 * time.Millisecond

// life is a process that has a demand.
type life struct {
	demand
	blocks []unsafe.Pointer // by slot
	sizes  []int
	sites  [demandSites + 1]hakmem.Site
	live   int    // bytes
	idle   uint64 // bytes that were resident before the first block

	start  time.Time
	looked time.Duration // when memory was looked at last
	excess float64       // bytes beyond what was live then
	result.RealFigures
}

// liveThrough allocates, writes and frees blocks as the demand says, in real time and on one goroutine. It
// ends the demand with the given length, and frees what is left.
func liveThrough(ctx context.Context, d demand, length time.Duration) (result.RealFigures, error) {
	l := &life{demand: d, blocks: make([]unsafe.Pointer, d.slots), sizes: make([]int, d.slots)}
	l.Ops, l.Digest, l.Tags = len(d.ops), d.digest(), buildTags()
	for i := range l.sites[1:] {
		l.sites[i+1] = hakmem.RegisterSite(fmt.Sprintf("demand %d", i+1))
	}
	debug.FreeOSMemory()
	var ok bool
	if l.idle, ok = osmem.ResidentBytes(); !ok {
		return l.RealFigures, fmt.Errorf("resident memory is not known on %s", runtime.GOOS)
	}
	cpu, faults := cpuSeconds(), processFaults()
	l.start = time.Now()
	for _, op := range d.ops {
		if err := l.wait(ctx, op.at); err != nil {
			return l.RealFigures, err
		}
		l.Late = max(l.Late, (time.Since(l.start) - op.at).Seconds())
		if err := l.do(op); err != nil {
			return l.RealFigures, err
		}
	}
	if err := l.wait(ctx, length); err != nil {
		return l.RealFigures, err
	}
	l.look()
	l.CPU, l.Faults = cpuSeconds()-cpu, processFaults()-faults
	var s hakmem.Stats
	hakmem.ReadStats(&s)
	l.Returned, l.Hold = s.Scavenger.Returned, s.Scavenger.HoldTime.Seconds()
	for slot := range l.blocks {
		if l.blocks[slot] != nil {
			l.free(slot)
		}
	}
	if l.live != 0 {
		return l.RealFigures, fmt.Errorf("%d bytes are alive after everything was freed: the demand is broken", l.live)
	}
	return l.RealFigures, hakmem.Err()
}

// wait waits until a time since the start, and looks at memory meanwhile.
func (l *life) wait(ctx context.Context, until time.Duration) error {
	for {
		now := time.Since(l.start)
		if now-l.looked >= lookEvery {
			l.look()
		}
		if now >= until {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		time.Sleep(min(until-now, max(l.looked+lookEvery-now, 0)))
	}
}

// look looks at resident memory. What was held since the last look is taken to be what was found then.
func (l *life) look() {
	now := time.Since(l.start)
	const gib = 1 << 30
	l.Excess += l.excess * (now - l.looked).Seconds() / gib
	l.Live += float64(l.live) * (now - l.looked).Seconds() / gib
	rss, _ := osmem.ResidentBytes()
	l.excess = math.Max(float64(rss)-float64(l.idle)-float64(l.live), 0)
	l.looked = now
}

// do executes an operation. Each page of a new block is written.
func (l *life) do(op demandOp) error {
	if op.size == 0 {
		l.free(int(op.slot))
		return nil
	}
	var p unsafe.Pointer
	if op.site > 0 {
		p = hakmem.MallocAt(l.sites[op.site], uintptr(op.size))
	} else {
		p = hakmem.Malloc(uintptr(op.size))
	}
	if p == nil {
		return errors.Join(fmt.Errorf("out of memory with %s alive", size(float64(l.live))), hakmem.Err())
	}
	b := unsafe.Slice((*byte)(p), op.size)
	for i := 0; i < len(b); i += 4096 {
		b[i] = 1
	}
	b[len(b)-1] = 1
	l.blocks[op.slot], l.sizes[op.slot] = p, op.size
	l.live += op.size
	return nil
}

func (l *life) free(slot int) {
	hakmem.Free(l.blocks[slot])
	l.live -= l.sizes[slot]
	l.blocks[slot] = nil
}

func processFaults() uint64 {
	minor, major := osmem.ProcessFaults()
	return minor + major
}

// buildTags returns the build tags of this program.
func buildTags() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "-tags" {
			return s.Value
		}
	}
	return ""
}
