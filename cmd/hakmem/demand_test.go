package main

import (
	"strings"
	"testing"

	"github.com/hakmem/hakmem/bench/trace"
	"github.com/hakmem/hakmem/internal/learn/sim"
)

// TestReadDemand: what is read is what the lines say.
func TestReadDemand(t *testing.T) {
	want := sim.PlaceLevels("d", []sim.Level{{At: 0, Pages: 10}, {At: 1e9}, {At: 2500e6, Pages: 10}, {At: 2500e6, Pages: 4}, {At: 60e9}})
	for _, text := range []string{
		"time_ms,level_pages\n0,10\n1000,0\n2500,10\n2500,4\n60000,0\n",
		"# from a monitor\n\ntime_ms level_pages\r\n0 10\r\n1000 0\r\n2500\t10\r\n\r\n2500, 4\r\n # the end\r\n60000 0",
	} {
		got, err := readDemand("d", strings.NewReader(text))
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		c := sim.CostsAt(0.13)
		if got.Name != "d" || got.Length != want.Length || got.Pages != want.Pages || sim.Optimum(got, c) != sim.Optimum(want, c) {
			t.Errorf("%q: %+v, want %+v", text, got, want)
		}
	}
}

// TestReadDemandRefuses: an error names the file, the line, what is wrong and what to do.
func TestReadDemandRefuses(t *testing.T) {
	const titles = "time_ms,level_pages\n"
	for _, c := range []struct{ text, want string }{
		{"", `d:1: nothing to read: the first line must be "time_ms,level_pages"`},
		{"# nothing\n", `d:2: nothing to read`},
		{"0,10\n", `d:1: "0,10": the first line must be "time_ms,level_pages"`},
		{"level_pages,time_ms\n", `d:1: "level_pages,time_ms": the first line must be`},
		{titles, "d:2: the demand has no length: its last line says when it ends"},
		{titles + "0,3\n0,4\n", "d:4: the demand has no length"},
		{titles + "0,3\n1000\n", `d:3: "1000": 1 fields: want a time in ms and a level in pages, such as "1500,900"`},
		{titles + "0,3,4\n", `d:2: "0,3,4": 3 fields`},
		{titles + "x,3\n", `d:2: "x,3": the time "x": use a whole number of ms from 0 to 86400000`},
		{titles + "-1,3\n", `the time "-1"`},
		{titles + "1.5,3\n", `the time "1.5"`},
		{titles + "86400001,3\n", `the time "86400001"`},
		{titles + "1,y\n", `the level "y": use a whole number of pages of 64 KiB from 0 to 1048576`},
		{titles + "1,1048577\n", `the level "1048577"`},
		{titles + "1,-5\n", `the level "-5"`},
		{titles + "1500,3\n\n1400,2\n", `d:4: "1400,2": the time before is 1500 ms: sort the lines by time`},
		{titles + "1,2\n" + strings.Repeat("1", 5000), "d:3: the line is longer than 4096 bytes: this is no demand file"},
	} {
		if _, err := readDemand("d", strings.NewReader(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.60q: %v, want %q", c.text, err, c.want)
		}
	}
}

// FuzzReadDemand: whatever a file holds, a trace or not, it is refused with its name, or can be simulated.
func FuzzReadDemand(f *testing.F) {
	f.Add("time_ms,level_pages\n0,10\n1000,0\n2500,10\n60000,0\n")
	f.Add("time_ms level_pages\r\n0\t1048576\r\n86400000 0")
	f.Add("time_ms,level_pages\n5,1\n4,1\n")
	f.Add("time_ms,level_pages\n18446744073709551616,1\n")
	f.Add("hakmem trace 1\n# at 5\na 0 1 65536\nr 0 2 100 1\n# at 1000\nf 0 2\n# at 2500\n")
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 1<<9 {
			t.Skip("a line may stand for 64 GiB in pages, which takes ms")
		}
		var p *sim.Placed
		var err error
		if strings.HasPrefix(text, "hakmem trace") {
			var r *trace.Reader
			if r, err = trace.NewReader("d", strings.NewReader(text)); err == nil {
				p, err = readTraceDemand("d", r)
			}
		} else {
			p, err = readDemand("d", strings.NewReader(text))
		}
		if err != nil {
			if !strings.HasPrefix(err.Error(), "d:") {
				t.Errorf("%v does not name the file", err)
			}
			return
		}
		c := sim.CostsAt(0.13)
		if best, hold := sim.BestStatic(p, c); best < sim.Optimum(p, c)*(1-1e-9) {
			t.Errorf("a hold time of %v costs %g, less than the optimum", hold, best)
		}
	})
}
