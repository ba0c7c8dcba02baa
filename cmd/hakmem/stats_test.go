package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hakmem/hakmem"
)

func TestStats(t *testing.T) {
	status, out, errs := hakmemCommand("stats", "--json")
	var report struct {
		Figures []hakmem.Figure
		Errors  []string
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil || status != 0 {
		t.Fatalf("status %d, %v: %s", status, err, errs)
	}
	values := map[string]float64{}
	var none hakmem.Stats
	for f := range none.Figures() {
		values[f.Name] = -1 // a figure that has to be there
	}
	for _, f := range report.Figures {
		values[fmt.Sprint(f.Name, f.Labels)] = f.Value
		delete(values, f.Name)
		if f.Help == "" || f.Kind == "" {
			t.Errorf("%+v", f)
		}
	}
	for name, value := range values {
		if value == -1 {
			t.Errorf("%s is missing", name)
		}
	}
	if n := values["live_blocks[]"]; n < 50_000 {
		t.Errorf("%v live blocks after the workload", n)
	}
	if n := values["site_live_blocks[{site hakmem stats}]"]; n < 1000 {
		t.Errorf("%v live blocks of the site after the workload", n)
	}
	if values["committed_bytes[]"] < values["live_bytes[]"] || values["class_slabs[{class 16}]"] == 0 {
		t.Errorf("%v", values)
	}

	status, out, errs = hakmemCommand("stats")
	for _, want := range []string{"live_bytes ", "stage_partial_searches_total", "\nclass ", "\ncache ", "\nsite ", "\nhakmem stats "} {
		if status != 0 || !strings.Contains(out, want) {
			t.Errorf("status %d, no %q: %s%s", status, want, out, errs)
		}
	}
}

func TestStatsText(t *testing.T) {
	status, out, errs := hakmemCommand("stats", "--text")
	for _, want := range []string{"  live blocks\n", "\n=", "\nSize classes\n", "\"hakmem stats\""} {
		if status != 0 || !strings.Contains(out, want) {
			t.Errorf("status %d, no %q: %s%s", status, want, out, errs)
		}
	}
	if status, _, errs := hakmemCommand("stats", "--text", "--json"); status == 0 || !strings.Contains(errs, "exclude each other") {
		t.Errorf("both flags: status %d, %s", status, errs)
	}
}

func TestPrintStats(t *testing.T) {
	s := hakmem.Stats{
		Classes: []hakmem.ClassStats{{Size: 16, Live: 3}, {Size: 32}, {Size: 48, Flushes: 2}},
		Timing:  []hakmem.PhaseTiming{{Phase: "refill", Count: 4, Total: 1500 * time.Microsecond}},
		Sites:   []hakmem.SiteStats{{Site: 1, Name: "index", LiveBytes: 2048, LiveBlocks: 1, OneIn: 64}},
		Errors:  []error{errors.New("a refused commit")},
	}
	s.Live, s.Superslabs, s.Scavenger.HoldTime, s.Scavenger.Running = 3<<20, 7, 220*time.Millisecond, true
	s.Large.HugeCache.Bytes = 5 << 30
	var out strings.Builder
	if err := printStats(&out, &s); err != nil {
		t.Fatal(err)
	}
	var lines []string // with single spaces
	for line := range strings.Lines(out.String()) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	for _, want := range []string{
		"live_bytes 3.0 MiB The memory of blocks handed out and not yet freed, in bytes.",
		"superslabs 7 The number of superslabs in use.",
		"scavenger_running 1 Whether the scavenger's timer is set.",
		"class_* by class", "class live_blocks free_blocks magazine_blocks slabs front_hits misses_total refills_total flushes_total",
		"16 3 0 0 0 0 0 0 0",
		"48 0 0 0 0 0 0 0 2",
		"huge 0 0 0 0 5.0 GiB",
		"phase_* by phase", "phase runs_total cycles_total longest_cycles seconds",
		"refill 4 0 0 1.5ms",
		"site_live_* by site", "site bytes blocks one_in_blocks",
		"index 2.0 KiB 1 64",
		"problem: a refused commit",
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("no line %q", want)
		}
	}
	if !strings.Contains(out.String(), " 220ms ") {
		t.Error("the scavenger's window is not shown as 220ms")
	}
	for _, line := range lines {
		if strings.HasPrefix(line, "32 ") || strings.HasPrefix(line, "shared ") {
			t.Errorf("a row of zeros is printed: %s", line)
		}
	}
	if t.Failed() {
		t.Log(out.String())
	}
	out.Reset()
	if err := printStats(&out, new(hakmem.Stats)); err != nil || strings.Contains(out.String(), " by cache") {
		t.Errorf("no cache has a figure: %v, %s", err, out.String())
	}
}

func TestCommonWords(t *testing.T) {
	for _, x := range []struct {
		names []string
		want  string
	}{
		{[]string{"class_live_blocks", "class_slabs"}, "class_"},
		{[]string{"site_live_bytes", "site_live_blocks"}, "site_live_"},
		{[]string{"a_live", "b_live"}, ""},
		{[]string{"a_live"}, "a_"},
	} {
		if got := commonWords(x.names); got != x.want {
			t.Errorf("%q: %q, want %q", x.names, got, x.want)
		}
	}
}
