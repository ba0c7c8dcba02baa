package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hakmem/hakmem/adapters/compare/internal/measure"
)

var withSQLite = flag.Bool("sqlite", false, "compare the variants of SQLite too, which takes minutes to compile")

// TestSmall builds the programs and runs every comparison, with very little to do: all variants give the same answers,
// and the table has a row for each.
func TestSmall(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped with -short: it builds programs with many modules of others")
	}
	for _, c := range comparisons() {
		t.Run(c.name, func(t *testing.T) {
			if c.program == "sqlite" && !*withSQLite {
				t.Skip("skipped without -sqlite: SQLite takes minutes to compile for it")
			}
			var stdout, stderr bytes.Buffer
			if code := start([]string{c.name, "-scale=0.0005", "-runs=1", "-later=0"}, &stdout, &stderr); code != 0 {
				t.Fatalf("exit status %d: %s", code, &stderr)
			}
			out := stdout.String()
			for _, v := range c.variants {
				if n := strings.Count(out, "\n| "+v.name+" | "); n != len(c.loads) {
					t.Errorf("%d rows of %q, want %d:\n%s", n, v.name, len(c.loads), out)
				}
			}
			if strings.Contains(out, "unknown") {
				t.Errorf("a version is not known:\n%s", out)
			}
		})
	}
}

func TestBadInput(t *testing.T) {
	for args, want := range map[string]string{
		"":                              "no comparison is named: choose one of sqlite,",
		"redis":                         `no comparison "redis": choose one of sqlite,`,
		"map arrow":                     `"map" and "arrow": one comparison`,
		"map -runs 0":                   "-runs 0: choose 1",
		"-runs x map":                   "-runs",
		"map -scale 0":                  "-scale 0: choose 1e-06",
		"map -scale NaN":                "-scale NaN: choose 1e-06",
		"map -goroutines -1":            "-goroutines -1: choose 1",
		"map -later -2s":                "-later -2s: choose 0",
		"map -variants offheap":         `map has no variant "offheap": choose of "Go's map",`,
		"cache -variants otter,otter":   `"otter" is named twice`,
		"cache -variants otter,":        `no variant ""`,
		"arrow -seconds 1 -variants no": "-seconds",
	} {
		var stdout, stderr bytes.Buffer
		if code := start(strings.Fields(args), &stdout, &stderr); code != 2 || !strings.Contains(stderr.String(), want) || stdout.Len() > 0 {
			t.Errorf("%s: exit status %d, %s", args, code, &stderr)
		}
	}
	var stdout, stderr bytes.Buffer
	if code := start([]string{"-help"}, &stdout, &stderr); code != 0 || !strings.Contains(stderr.String(), "usage: compare NAME [flags], with a NAME of sqlite,") {
		t.Errorf("-help: exit status %d, %s", code, &stderr)
	}
}

// TestParse: the name may be anywhere, and the flags change the comparison.
func TestParse(t *testing.T) {
	for _, line := range []string{"cache -runs 3 -goroutines 7 -later 1s -variants otter,hakmem/cache", "-runs 3 -goroutines 7 cache -later 1s -variants otter,hakmem/cache"} {
		s, err := parse(strings.Fields(line), io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		c := s.comparison
		if c.name != "cache" || s.runs != 3 || s.scale != 1 || !slices.Equal(c.loads, []int{7}) || c.later != time.Second ||
			len(c.variants) != 2 || c.variants[0].name != "otter" || c.variants[1].name != "hakmem/cache" {
			t.Errorf("%s: %+v", line, s)
		}
	}
}

// results makes the results of runs that took so many seconds.
func results(seconds ...float64) (rs []measure.Result) {
	for _, s := range seconds {
		rs = append(rs, measure.Result{
			Seconds: s, CPUKnown: true, CPUSeconds: 2 * s, Operations: 1000, P999: time.Duration(s * 1e3), GCSeconds: s / 10, Collections: uint64(s * 10),
			MemoryKnown: true, Peak: int64(s) << 20, Left: 3 << 20, AfterFree: 2 << 20, Sum: 7,
			Figures:  []measure.Figure{{Name: "insert", Unit: "ns", Value: 100 * s}},
			Versions: map[string]string{"example.com/map": "v1.2.3"},
		})
	}
	return rs
}

func TestTable(t *testing.T) {
	a, b := variant{name: "theirs", module: "example.com/map"}, variant{name: "ours", module: ofTree}
	s := &settings{
		comparison: comparison{name: "toy", size: "ten things", loads: []int{1, 4}, later: 5 * time.Second, variants: []variant{a, b}},
		runs:       3, scale: 0.5, now: func() time.Time { return time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC) },
	}
	more := results(4, 4, 4)
	for i := range more {
		more[i].Figures = append(more[i].Figures, measure.Figure{Name: "found", Unit: "%", Value: 12.34})
		more[i].MemoryKnown, more[i].CPUKnown = false, false
	}
	var out bytes.Buffer
	if err := s.table([]row{{a, 1, results(2, 1, 9)}, {b, 1, results(1, 1.5, 1.25)}, {a, 4, results(8, 8, 8)}, {b, 4, more}}).print(&out); err != nil {
		t.Fatal(err)
	}
	_, rows, _ := strings.Cut(out.String(), "\n\n")
	const want = `| variant | version | goroutines | time (least to most) | of the first | CPU | of the first | 99.9th percentile | GC CPU | collections | peak | 5s after close | 5s after FreeOSMemory | insert | found |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
| theirs | v1.2.3 | 1 | 2.00 s (1.00 to 9.00) | 1.00 | 4.00 s | 1.00 | 2.00 µs | 0.200 s | 20 | 2 MiB | 3 MiB | 2 MiB | 200 ns | n/a |
| ours | this tree | 1 | 1.25 s (1.00 to 1.50) | 0.62 | 2.50 s | 0.62 | 1.25 µs | 0.125 s | 12 | 1 MiB | 3 MiB | 2 MiB | 125 ns | n/a |
| theirs | v1.2.3 | 4 | 8.00 s (8.00 to 8.00) | 1.00 | 16.0 s | 1.00 | 8.00 µs | 0.800 s | 80 | 8 MiB | 3 MiB | 2 MiB | 800 ns | n/a |
| ours | this tree | 4 | 4.00 s (4.00 to 4.00) | 0.50 | n/a | n/a | 4.00 µs | 0.400 s | 40 | n/a | n/a | n/a | 400 ns | 12.3 % |
`
	if rows != want {
		t.Errorf("%s\nwant\n%s", rows, want)
	}
	if about := fmt.Sprintf("`go run ./adapters/compare toy`: ten things; 0.5 of that. medians of 3 runs, 2026-12-01, %s.\n", machine()); !strings.HasPrefix(out.String(), about) {
		t.Errorf("%s\nwant\n%s", &out, about)
	}
}

// TestAgree: different answers are no comparison.
func TestAgree(t *testing.T) {
	rows := []row{{variant{name: "theirs"}, 1, results(1, 2)}, {variant{name: "ours"}, 1, results(1, 2)}}
	if err := agree(rows); err != nil {
		t.Error(err)
	}
	rows[1].results[1].Sum = 8
	if err := agree(rows); err == nil || !strings.Contains(err.Error(), `"ours" is 8, that of "theirs" is 7`) {
		t.Errorf("different sums: %v", err)
	}
}
