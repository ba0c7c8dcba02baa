package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"unsafe"

	"github.com/urfave/cli/v3"

	"github.com/hakmem/hakmem"
)

func statsVerb() *cli.Command {
	return &cli.Command{
		Name: "stats", Usage: "run a short workload and print what ReadStats reports",
		Description: "The workload allocates 100,000 blocks of 16 B to 32 KiB and 8 of 64 KiB to 8 MiB, frees\n" +
			"every second one, and leaves the others alive. HAKMEM_* gates apply.",
		Flags:        []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "print all of it as JSON"}},
		OnUsageError: badFlags,
		Action: func(_ context.Context, c *cli.Command) error {
			if err := errors.Join(noArguments(c), checkGates()); err != nil {
				return err
			}
			if err := statsWorkload(); err != nil {
				return err
			}
			var s hakmem.Stats
			hakmem.ReadStats(&s)
			if c.Bool("json") {
				return printStatsJSON(c.Root().Writer, s)
			}
			return printStats(c.Root().Writer, s)
		},
	}
}

// statsWorkload leaves something of every kind alive: blocks of all classes, large blocks, and a
// site.
func statsWorkload() error {
	const small, large = 100_000, 8 // enough for several slabs of every class
	site := hakmem.RegisterSite("hakmem stats")
	var blocks []unsafe.Pointer
	x := uint32(1)
	for i := range small {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		size := uintptr(16) << (x >> 8 % 11) // powers of two up to 16 KiB
		size += uintptr(x>>16) % size        // and the sizes between them
		var p unsafe.Pointer
		if i%16 == 0 {
			p = hakmem.MallocAt(site, size)
		} else {
			p = hakmem.Malloc(size)
		}
		blocks = append(blocks, p)
	}
	for i := range large {
		blocks = append(blocks, hakmem.Malloc(64<<10<<i))
	}
	for i, p := range blocks {
		if p == nil {
			return errors.Join(errors.New("the workload ran out of memory"), hakmem.Err())
		}
		*(*byte)(p) = 1 // so that there are page faults to report
		if i%2 == 1 {
			hakmem.Free(p)
		}
	}
	return nil
}

// printStatsJSON prints s with its errors as text.
func printStatsJSON(out io.Writer, s hakmem.Stats) error {
	texts := []string{}
	for _, err := range s.Errors {
		texts = append(texts, err.Error())
	}
	return printJSON(out, struct {
		hakmem.Stats
		Errors []string // hides the field of Stats
	}{s, texts})
}

func printStats(out io.Writer, s hakmem.Stats) error {
	w := newTable(out)
	row := func(name string, v any) { fmt.Fprintf(w, "%s\t%v\n", name, v) }
	row("reserved", size(float64(s.Reserved)))
	row("committed", size(float64(s.Committed)))
	row("metadata", size(float64(s.Metadata)))
	row("live", fmt.Sprintf("%s in %d blocks", size(float64(s.Live)), s.LiveBlocks))
	row("in magazines", size(float64(s.InMagazines)))
	row("superslabs", s.Superslabs)
	row("fronts", s.Fronts)
	row("drains", s.Drains)
	row("late double frees", s.LateDoubleFrees)
	row("out of memory", s.OutOfMemory)
	row("abandoned", fmt.Sprintf("%d Heaps, %d Arenas", s.Abandoned.Heaps, s.Abandoned.Arenas))
	row("spans", fmt.Sprintf("%d live, %s; %d warm, %s; %d made of free pages, %d given back", s.Large.LiveBlocks, size(float64(s.Large.LiveBytes)),
		s.Large.CachedBlocks, size(float64(s.Large.CachedBytes)), s.Large.Allocs, s.Large.Frees))
	cache := func(name string, c hakmem.CacheStats) {
		row(name, fmt.Sprintf("%d hits, %d misses, %d evictions; holds %d, %s", c.Hits, c.Misses, c.Evictions, c.Blocks, size(float64(c.Bytes))))
	}
	cache("shared slots", s.Large.Shared)
	cache("BigCache", s.Large.SiteCache)
	cache("whale cache", s.Large.HugeCache)
	sc := s.Scavenger
	row("memory", fmt.Sprintf("%s used, %s warm", size(float64(sc.Used)), size(float64(sc.Dirty))))
	row("kept", fmt.Sprintf("%s reused, %s in vain", size(float64(sc.KeptReused)), size(float64(sc.KeptInVain))))
	row("returned", fmt.Sprintf("%s rightly, %s faulted again, %s of holes", size(float64(sc.ReturnedRightly)), size(float64(sc.FaultedAgain)), size(float64(sc.Holes))))
	row("scavenger", fmt.Sprintf("%d ticks, window %v, running %t", sc.Ticks, sc.Window, sc.Running))
	row("pages faulted in", fmt.Sprintf("%d tiny, %d mid, %d large, %d big", s.PageFaults.Tiny, s.PageFaults.Mid, s.PageFaults.Large, s.PageFaults.Huge))
	row("slabs found in stage", fmt.Sprintf("0 lease %d, 0.5 empty %d, 1 partial %d, 2 cross-class %d, 3 superslab %d",
		s.Stages.OwnLease, s.Stages.Empty, s.Stages.Partial, s.Stages.CrossClass, s.Stages.Superslab))
	row("system calls", fmt.Sprintf("%d reserve, %d commit, %d decommit, %d failed",
		s.SystemCalls.Reserve, s.SystemCalls.Commit, s.SystemCalls.Decommit, s.SystemCalls.Failed))
	for _, site := range s.Sites {
		row("site "+site.Name, fmt.Sprintf("%s in %d blocks", size(float64(site.LiveBytes)), site.LiveBlocks))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprint(w, "\nclass\tlive\tfree\tin magazines\tslabs\thits\tmisses\trefills\tflushes\n")
	for _, c := range s.Classes {
		if c.Slabs > 0 || c.Misses > 0 {
			fmt.Fprintf(w, "%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\n", c.Size, c.Live, c.Free, c.InMagazines, c.Slabs, c.FrontHits, c.Misses, c.Refills, c.Flushes)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if len(s.Timing) > 0 {
		fmt.Fprint(w, "\nphase\truns\tcycles\tlongest\ttotal\n")
		for _, t := range s.Timing {
			fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%v\n", t.Phase, t.Count, t.Cycles, t.MaxCycles, t.Total)
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	for _, err := range s.Errors {
		fmt.Fprintln(out, "problem:", err)
	}
	return nil
}
