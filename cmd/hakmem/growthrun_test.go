package main

import (
	"encoding/json"
	"math"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hakmem/hakmem/bench/loops"
	"github.com/hakmem/hakmem/bench/result"
)

// TestGrowth runs cells of both sides, small ones, and one that no machine has the memory for.
func TestGrowth(t *testing.T) {
	const most = "1048576" // MiB: a TiB
	line := []string{"bench", "growth", "--alive", "1," + most, "--goroutines", "1,3", "--gomaxprocs", "1,2", "--alloc", "hakmem,hakmem-heap,glibc",
		"--rest", "20ms", "--replace", "3000", "--env", "UNUSED=a,b", "--json"}
	status, out, errs := hakmemCommand(line...)
	if status != 0 || errs != "" {
		t.Fatalf("status %d: %s", status, errs)
	}
	var r growthReport
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Cells) != 2*2*(2+2+1) || r.Rest != 0.02 || r.Started == "" {
		t.Fatalf("%d cells, rest %v, started %q", len(r.Cells), r.Rest, r.Started)
	}
	noGlibc := ""
	for _, c := range r.Cells {
		switch {
		case c.Alive > 1<<39:
			if runtime.GOOS == "linux" && (len(c.Runs) > 0 || !strings.Contains(c.Skipped, "are available") && c.Allocator != "glibc") {
				t.Errorf("%+v", c)
			}
			continue
		case c.Skipped != "" && c.Allocator == "glibc":
			noGlibc = c.Skipped
			continue
		case c.Skipped != "" || len(c.Runs) != 1:
			t.Errorf("%+v", c)
			continue
		}
		run := &c.Runs[0]
		isOurs := result.IsHakmem(c.Allocator)
		if (c.GOMAXPROCS > 0) != isOurs || c.Replaced != 3000 || c.Alive != c.Blocks*600 || c.Alive < 1<<20*9/10 || c.Alive > 1<<20 {
			t.Errorf("%+v", c)
		}
		if o := run.Lap(loops.LapReplace).Own; (o != nil) != isOurs || o != nil && (o.Live < c.Alive || o.Live > 2*c.Alive) {
			t.Errorf("%s: own figures %+v with %d bytes alive", c.Allocator, o, c.Alive)
		}
		for _, column := range growthColumns {
			if v := column.of(&c, run); math.IsInf(v, 0) || v < 0 && column.title != "all freed MiB" {
				t.Errorf("%s: %s %v", c.Allocator, column.title, v)
			}
		}
		if v := growthColumns[0].of(&c, run); !(v > 0) {
			t.Errorf("%s: %v ns to fill a block", c.Allocator, v)
		}
	}
	if noGlibc != "" {
		buildLibrary(t) // skips the test where there is no glibc to run with
		t.Fatal("glibc did not run: " + noGlibc)
	}
}

// TestGrowthSkips: where nothing fits, the table says why, and the status is not 0.
func TestGrowthSkips(t *testing.T) {
	if memoryAtHand() == math.MaxUint64 {
		t.Skip("skipped: the system does not say how much memory it has")
	}
	status, out, errs := hakmemCommand("bench", "growth", "--alive", "1048576", "--goroutines", "1", "--gomaxprocs", "2", "--alloc", "hakmem", "--rest", "1ms")
	if status != exitFailed || !strings.Contains(errs, "nothing could be measured") || !strings.Contains(out, "skipped: hakmem, 1024.0 GiB alive, 1 goroutines with GOMAXPROCS 2: it needs 1433.6 GiB of memory") {
		t.Errorf("status %d, %q, %q", status, out, errs)
	}
}

// TestGrowthTable has a cell of known figures: two runs, whose median is printed, and one without ticks.
func TestGrowthTable(t *testing.T) {
	const idle = 7 << 20
	run := func(fill float64) result.Run {
		own := func(ticks uint64) *result.Own { return &result.Own{Tables: 1 << 19, Seconds: 0.004, Ticks: ticks} }
		return result.Run{IdleRSS: idle, LaterRSS: idle + 3<<20, Laps: []result.Lap{
			{Name: loops.LapStart},
			{Name: loops.LapFill, Seconds: fill, MinorFaults: 250},
			{Name: loops.LapReplace, Seconds: 0.0003, RSS: idle + 20<<20, Own: own(0)},
			{Name: loops.LapTrimFull, Seconds: 0.012},
			{Name: loops.LapThin, Seconds: 0.00045, RSS: idle + 15<<20, Own: own(3)},
			{Name: loops.LapRest, Seconds: 5, CPU: 0.04, RSS: idle + 10<<20, Own: own(8)},
			{Name: loops.LapTrim, Seconds: 0.025, RSS: idle + 5<<20, Own: own(8)},
		}}
	}
	g := growthReport{Rest: 5, Cells: []growthCell{
		{Allocator: "hakmem", GOMAXPROCS: 64, Goroutines: 10, Blocks: 1000, Replaced: 3000, Alive: 10 << 20, Runs: []result.Run{run(0.0002), run(0.0004)}},
		{Allocator: "peer", Goroutines: 1, Blocks: 1, Alive: 1 << 20, Skipped: "a reason"},
	}}
	var out strings.Builder
	if err := g.print(&out); err != nil {
		t.Fatal(err)
	}
	got := strings.Join(strings.Fields(out.String()), " ")
	for _, want := range []string{
		"at rest for " + (5 * time.Second).String(),
		"10.0 MiB 10 hakmem 64 300 0.250 100 2.00 5.0 4.00 12.00 500 75 50 40 8.00 25.00 25 3.0",
		"skipped: peer, 1.0 MiB alive, 1 goroutines: a reason",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%s\nhas no %s", out.String(), want)
		}
	}
	if err := g.print(fullDisk{}); err == nil {
		t.Error("no error of a full disk")
	}
}
