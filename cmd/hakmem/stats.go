package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"github.com/urfave/cli/v3"

	"github.com/hakmem/hakmem"
)

func statsVerb() *cli.Command {
	return &cli.Command{
		Name: "stats", Usage: "run a short workload and print the figures of ReadStats",
		Description: "The workload allocates 100,000 blocks of 16 B to 32 KiB and 8 of 64 KiB to 8 MiB, frees\n" +
			"every second one, and leaves the others alive. HAKMEM_* settings apply.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "json", Usage: "print the figures as JSON, with kind, unit and help"},
			&cli.BoolFlag{Name: "text", Usage: "print the page of WriteStats: where the memory is, as a sum"},
		},
		OnUsageError: badFlags,
		Action: func(_ context.Context, c *cli.Command) error {
			if err := errors.Join(noArguments(c), checkSettings()); err != nil {
				return err
			}
			if c.Bool("json") && c.Bool("text") {
				return errors.New("--json and --text exclude each other")
			}
			if err := statsWorkload(); err != nil {
				return err
			}
			if c.Bool("text") {
				return hakmem.WriteStats(c.Root().Writer)
			}
			var s hakmem.Stats
			hakmem.ReadStats(&s)
			if c.Bool("json") {
				return printStatsJSON(c.Root().Writer, &s)
			}
			return printStats(c.Root().Writer, &s)
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
		*(*byte)(p) = 1 // so that there are page faults to count
		if i%2 == 1 {
			hakmem.Free(p)
		}
	}
	return nil
}

// printStatsJSON prints every figure of s, and its errors as text.
func printStatsJSON(out io.Writer, s *hakmem.Stats) error {
	report := struct {
		Figures []hakmem.Figure `json:"figures"`
		Errors  []string        `json:"errors"`
	}{slices.Collect(s.Figures()), []string{}}
	for _, err := range s.Errors {
		report.Errors = append(report.Errors, err.Error())
	}
	return printJSON(out, report)
}

// printStats prints the figures without a label, one on a line, and then a table for each label: a
// row for each of its values, and a column for each name.
func printStats(out io.Writer, s *hakmem.Stats) error {
	var tables []*figureTable
	w := newTable(out)
	for f := range s.Figures() {
		if len(f.Labels) == 0 {
			fmt.Fprintf(w, "%s\t%s\t%s\n", f.Name, figureText(f), f.Help)
			continue
		}
		i := slices.IndexFunc(tables, func(t *figureTable) bool { return t.label == f.Labels[0].Name })
		if i < 0 {
			i, tables = len(tables), append(tables, &figureTable{label: f.Labels[0].Name})
		}
		tables[i].add(f)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, t := range tables {
		if err := t.print(out); err != nil {
			return err
		}
	}
	for _, err := range s.Errors {
		fmt.Fprintln(out, "problem:", err)
	}
	return nil
}

// figureTable has the figures of one label.
type figureTable struct {
	label string
	names []string
	rows  []figureRow
}

// figureRow has the figures that have the same value of the label.
type figureRow struct {
	value string
	texts map[string]string // by name
	zero  bool              // all are 0
}

func (t *figureTable) add(f hakmem.Figure) {
	if !slices.Contains(t.names, f.Name) {
		t.names = append(t.names, f.Name)
	}
	value := f.Labels[0].Value
	i := slices.IndexFunc(t.rows, func(r figureRow) bool { return r.value == value })
	if i < 0 {
		i, t.rows = len(t.rows), append(t.rows, figureRow{value: value, texts: map[string]string{}, zero: true})
	}
	t.rows[i].texts[f.Name] = figureText(f)
	t.rows[i].zero = t.rows[i].zero && f.Value == 0
}

// print prints the rows that have a figure other than 0, if there are any. The words that all names
// begin with stand above the table.
func (t *figureTable) print(out io.Writer) error {
	if !slices.ContainsFunc(t.rows, func(r figureRow) bool { return !r.zero }) {
		return nil
	}
	prefix := commonWords(t.names)
	fmt.Fprintf(out, "\n%s* by %s\n", prefix, t.label)
	w := newTable(out)
	fmt.Fprint(w, t.label)
	for _, name := range t.names {
		fmt.Fprintf(w, "\t%s", name[len(prefix):])
	}
	fmt.Fprintln(w)
	for _, r := range t.rows {
		if r.zero {
			continue
		}
		fmt.Fprint(w, r.value)
		for _, name := range t.names {
			fmt.Fprintf(w, "\t%s", r.texts[name])
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}

// commonWords returns the words that all names begin with, with the underscore behind them.
func commonWords(names []string) string {
	prefix := names[0]
	for _, name := range names[1:] {
		for !strings.HasPrefix(name, prefix) {
			prefix = prefix[:len(prefix)-1]
		}
	}
	return prefix[:strings.LastIndexByte(prefix, '_')+1]
}

// figureText shows a figure's value in its unit.
func figureText(f hakmem.Figure) string {
	switch f.Unit {
	case "bytes":
		return size(f.Value)
	case "seconds":
		return time.Duration(f.Value * 1e9).String()
	case "ratio":
		return strconv.FormatFloat(f.Value, 'f', 2, 64)
	}
	return strconv.FormatFloat(f.Value, 'f', -1, 64)
}
