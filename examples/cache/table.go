package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
)

// rows are the rows of the table, one for each measurement.
var rows = []struct {
	name string
	cell func(r *result) string
}{
	{"operations / s", func(r *result) string { return grouped(int64(r.rate())) }},
	{"hit rate of reads", func(r *result) string { return percent(float64(r.Hits), float64(r.Hits+r.Misses)) }},
	{"operation, median", func(r *result) string { return duration(r.P50) }},
	{"operation, p99.9", func(r *result) string { return duration(r.P999) }},
	{"operation, worst", func(r *result) string { return duration(r.Worst) }},
	{"GC cycles", func(r *result) string { return grouped(int64(r.GCCycles)) }},
	{"GC share of CPU", func(r *result) string { return percent(r.GCCPUSeconds, r.Seconds*float64(r.Procs)) }},
	{"GC pause, worst", func(r *result) string { return duration(r.GCPause) }},
	{"entries", func(r *result) string { return grouped(int64(r.Entries)) }},
	{"live values", func(r *result) string { return human(r.ValueBytes) }},
	{"RSS", func(r *result) string { return memory(r.RSS) }},
	{"RSS, peak", func(r *result) string { return memory(r.PeakRSS) }},
	{"RSS / live values", func(r *result) string { return ratio(float64(r.RSS), float64(r.ValueBytes)) }},
	{"peak RSS / live values", func(r *result) string { return ratio(float64(r.PeakRSS), float64(r.ValueBytes)) }},
}

// comparisons follow the table if there are two results. Above 1, hakmem is better.
var comparisons = []struct {
	name  string
	value func(r *result) float64
	less  bool // is better
}{
	{"operations / s", (*result).rate, false},
	{"operation, p99.9", func(r *result) float64 { return float64(r.P999) }, true},
	{"operation, worst", func(r *result) float64 { return float64(r.Worst) }, true},
	{"RSS / live values", func(r *result) float64 { return float64(r.RSS) / float64(max(r.ValueBytes, 1)) }, true},
	{"peak RSS / live values", func(r *result) float64 { return float64(r.PeakRSS) / float64(max(r.ValueBytes, 1)) }, true},
}

func (r *result) rate() float64 { return float64(r.Ops) / r.Seconds }

// table shows the results side by side.
func table(results []result) string {
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 3, ' ', tabwriter.AlignRight)
	line := func(name string, cell func(r *result) string) {
		fmt.Fprintf(w, "%-24s\t", name)
		for i := range results {
			fmt.Fprintf(w, "%s\t", cell(&results[i]))
		}
		fmt.Fprintln(w)
	}
	line("", func(r *result) string { return r.Backend })
	for _, row := range rows {
		line(row.name, row.cell)
	}
	w.Flush()
	if len(results) != 2 {
		return out.String()
	}
	fmt.Fprintf(&out, "\n%s against %s (above 1 is better)\n", results[0].Backend, results[1].Backend)
	for _, c := range comparisons {
		better, worse := c.value(&results[0]), c.value(&results[1])
		if c.less {
			better, worse = worse, better
		}
		fmt.Fprintf(&out, "%-24s %8s\n", c.name, ratio(better, worse))
	}
	return out.String()
}

func ratio(a, b float64) string {
	if a == 0 || b == 0 {
		return "n/a"
	}
	return fmt.Sprintf("%.2fx", a/b)
}

func percent(part, whole float64) string {
	if whole == 0 {
		return "n/a"
	}
	return fmt.Sprintf("%.1f %%", 100*part/whole)
}

func memory(bytes int64) string {
	if bytes == 0 {
		return "n/a"
	}
	return human(bytes)
}

// duration returns about three digits.
func duration(d time.Duration) string {
	switch {
	case d == 0:
		return "none"
	case d < time.Microsecond:
		return fmt.Sprintf("%d ns", d.Nanoseconds())
	case d < time.Millisecond:
		return fmt.Sprintf("%.3g µs", float64(d)/float64(time.Microsecond))
	case d < time.Second:
		return fmt.Sprintf("%.3g ms", float64(d)/float64(time.Millisecond))
	}
	return fmt.Sprintf("%.3g s", d.Seconds())
}

// grouped writes the digits in groups of three: 1 234 567.
func grouped(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + " " + s[i:]
	}
	return s
}
