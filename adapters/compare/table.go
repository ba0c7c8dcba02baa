package main

import (
	"cmp"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/hakmem/hakmem/adapters/compare/internal/measure"
)

// table is what is printed.
type table struct {
	about string
	cells [][]string // the first row is the header
}

func (t *table) print(to io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n", t.about)
	for i, cells := range t.cells {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | "))
		if i == 0 {
			fmt.Fprintf(&b, "|%s\n", strings.Repeat("---|", len(cells)))
		}
	}
	_, err := io.WriteString(to, b.String())
	return err
}

// column is a column of the table.
type column struct {
	title string
	cell  func(r, first *row) string // first is the first variant of the same load
}

// table makes the table of all rows: the loads one after the other, each with all variants.
func (s *settings) table(rows []row) *table {
	c := &s.comparison
	t := &table{about: s.about()}
	columns := s.columns(rows)
	var header []string
	for _, col := range columns {
		header = append(header, col.title)
	}
	t.cells = append(t.cells, header)
	for i := range rows {
		var cells []string
		for _, col := range columns {
			cells = append(cells, col.cell(&rows[i], &rows[i-i%len(c.variants)]))
		}
		t.cells = append(t.cells, cells)
	}
	return t
}

// about says how the numbers came about.
func (s *settings) about() string {
	c := &s.comparison
	text := c.size
	if s.scale != 1 {
		text += fmt.Sprintf("; %v of that", s.scale)
	}
	runs := fmt.Sprintf("medians of %d runs", s.runs)
	if s.runs == 1 {
		runs = "one run"
	}
	if len(c.loads) == 1 {
		runs += fmt.Sprintf(", goroutines: %d", c.loads[0])
	}
	return fmt.Sprintf("`go run ./adapters/compare %s`: %s. %s, %s, %s.", c.name, text, runs, s.now().Format(time.DateOnly), machine())
}

func (s *settings) columns(rows []row) []column {
	c := &s.comparison
	columns := []column{
		{"variant", func(r, _ *row) string { return r.variant.name }},
		{"version", func(r, _ *row) string { return r.version() }},
	}
	if len(c.loads) > 1 {
		columns = append(columns, column{"goroutines", func(r, _ *row) string { return fmt.Sprint(r.goroutines) }})
	}
	columns = append(columns,
		column{"time (least to most)", func(r, _ *row) string {
			least, most := slices.MinFunc(r.results, bySeconds), slices.MaxFunc(r.results, bySeconds)
			return fmt.Sprintf("%s s (%s to %s)", digits(seconds(r)), digits(least.Seconds), digits(most.Seconds))
		}},
		column{"of the first", func(r, first *row) string { return fmt.Sprintf("%.2f", seconds(r)/seconds(first)) }},
		column{"CPU", func(r, _ *row) string { return r.cpu(func(s float64) string { return digits(s) + " s" }) }},
		column{"of the first", func(r, first *row) string {
			return r.cpu(func(s float64) string { return fmt.Sprintf("%.2f", s/cpuSeconds(first)) })
		}})
	if slices.ContainsFunc(rows, func(r row) bool { return r.results[0].Operations > 0 }) {
		columns = append(columns, column{"99.9th percentile", func(r, _ *row) string {
			return digits(r.median(func(m *measure.Result) float64 { return float64(m.P999.Nanoseconds()) / 1e3 })) + " µs"
		}})
	}
	columns = append(columns,
		column{"GC CPU", func(r, _ *row) string {
			return digits(r.median(func(m *measure.Result) float64 { return m.GCSeconds })) + " s"
		}},
		column{"collections", func(r, _ *row) string {
			return fmt.Sprintf("%.0f", r.median(func(m *measure.Result) float64 { return float64(m.Collections) }))
		}},
		memory("peak", func(m *measure.Result) int64 { return m.Peak }),
		memory(fmt.Sprintf("%v after close", c.later), func(m *measure.Result) int64 { return m.Left }),
		memory(fmt.Sprintf("%v after FreeOSMemory", c.later), func(m *measure.Result) int64 { return m.AfterFree }))
	for _, title := range figureNames(rows) {
		columns = append(columns, column{title, func(r, _ *row) string { return r.figure(title) }})
	}
	return columns
}

// memory is a column with bytes.
func memory(title string, of func(*measure.Result) int64) column {
	return column{title, func(r, _ *row) string {
		if !r.results[0].MemoryKnown {
			return "n/a"
		}
		return fmt.Sprintf("%.0f MiB", r.median(func(m *measure.Result) float64 { return float64(of(m)) / (1 << 20) }))
	}}
}

func bySeconds(a, b measure.Result) int { return cmp.Compare(a.Seconds, b.Seconds) }

func seconds(r *row) float64 {
	return r.median(func(m *measure.Result) float64 { return m.Seconds })
}

func cpuSeconds(r *row) float64 {
	return r.median(func(m *measure.Result) float64 { return m.CPUSeconds })
}

// cpu is a cell about processor time.
func (r *row) cpu(text func(seconds float64) string) string {
	if !r.results[0].CPUKnown {
		return "n/a"
	}
	return text(cpuSeconds(r))
}

// median is that of a number of all runs; of an even number of runs the lower one.
func (r *row) median(of func(*measure.Result) float64) float64 {
	var numbers []float64
	for i := range r.results {
		numbers = append(numbers, of(&r.results[i]))
	}
	slices.Sort(numbers)
	return numbers[(len(numbers)-1)/2]
}

// version is that of the variant's module.
func (r *row) version() string {
	switch r.variant.module {
	case "":
		return runtime.Version()
	case ofTree:
		return "this tree"
	}
	return cmp.Or(r.results[0].Versions[r.variant.module], "unknown")
}

// figureNames returns the names of all figures, in the order in which they were reported.
func figureNames(rows []row) (names []string) {
	for _, r := range rows {
		for _, f := range r.results[0].Figures {
			if !slices.Contains(names, f.Name) {
				names = append(names, f.Name)
			}
		}
	}
	return names
}

// figure is the cell of a figure.
func (r *row) figure(name string) string {
	unit, known := "", true
	value := r.median(func(m *measure.Result) float64 {
		i := slices.IndexFunc(m.Figures, func(f measure.Figure) bool { return f.Name == name })
		if i < 0 {
			known = false
			return 0
		}
		unit = m.Figures[i].Unit
		return m.Figures[i].Value
	})
	switch {
	case !known:
		return "n/a"
	case unit == "", unit == "/s", unit == "MiB":
		return strings.TrimSpace(fmt.Sprintf("%.0f %s", value, unit))
	}
	return digits(value) + " " + unit
}

// digits prints a number with three digits, or with all in front of the point if they are more.
func digits(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	case v >= 1 || v == 0:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}
