package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/hakmem/hakmem/bench"
)

func printJSON(out io.Writer, v any) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// printBench prints the report of bench: the results, and each allocator's
// time over that of the first hakmem API measured.
func printBench(out io.Writer, j job, report bench.Report) error {
	if err := printResults(out, j, report); err != nil {
		return err
	}
	w := newTable(out)
	for _, base := range report.Results {
		if !isHakmem(base.Allocator) {
			continue
		}
		fmt.Fprintf(w, "\ntime over that of %s\traw\tnet\t\n", base.Allocator)
		for _, r := range report.Results {
			if r.Allocator != base.Allocator {
				fmt.Fprintf(w, "%s\t%s\t%s\t\n", r.Allocator, ratio(r.NsPerOp, base.NsPerOp), ratio(r.NetNsPerOp, base.NetNsPerOp))
			}
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// printResults prints what was measured, where, and who is absent. It fails if
// everyone is.
func printResults(out io.Writer, j job, report bench.Report) error {
	m := report.Machine
	fmt.Fprintf(out, "%s\n%s, %d cores, %s/%s, kernel %s, %s\n\n", j.title(), m.CPU, m.Cores, m.OS, m.Arch, m.Kernel, m.Go)
	w := newTable(out)
	fmt.Fprint(w, "allocator\tMops/s\tns/op\tspread\tnet ns/op\tpeak RSS\tover idle\tfaults\tversion\n")
	for _, r := range report.Results {
		fmt.Fprintf(w, "%s\t%.1f\t%.3f\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Allocator, r.OpsPerS/1e6, r.NsPerOp, spread(r.Runs), known(r.NetNsPerOp, 3),
			rss(float64(r.PeakRSS)), rss(overIdle(r.Runs)), known(float64(r.MinorFaults), 0), r.Version)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if len(report.Absent) > 0 {
		fmt.Fprintln(out)
	}
	for _, a := range report.Absent {
		fmt.Fprintf(out, "absent: %s: %s\n", a.Allocator, a.Reason)
	}
	if len(report.Results) == 0 {
		return errors.New("nothing could be measured")
	}
	return nil
}

func newTable(out io.Writer) *tabwriter.Writer {
	return tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
}

func isHakmem(name string) bool { return strings.HasPrefix(name, "hakmem") }

// ratio is a/b as the tables show it.
func ratio(a, b float64) string {
	if a <= 0 || b <= 0 { // a loop faster than its own empty one: noise
		return "n/a"
	}
	return strconv.FormatFloat(a/b, 'f', 2, 64)
}

// spread is the range of the times among the layouts, or where there is but
// one, among the runs.
func spread(runs []bench.Run) string {
	times := bench.LayoutTimes(runs)
	var values []float64
	for _, t := range times {
		values = append(values, t)
	}
	if len(values) == 1 {
		values = values[:0]
		for _, r := range runs {
			values = append(values, r.NsPerOp)
		}
	}
	low, high := values[0], values[0]
	for _, v := range values {
		low, high = min(low, v), max(high, v)
	}
	return fmt.Sprintf("%.2f-%.2f", low, high)
}

// overIdle is the median of what a run's peak memory exceeded that before its
// loop by; 0 where memory is not known.
func overIdle(runs []bench.Run) float64 {
	var over []float64
	for _, r := range runs {
		if r.IdleRSS > 0 {
			over = append(over, float64(r.PeakRSS)-float64(r.IdleRSS))
		}
	}
	return bench.Median(over)
}

// rss shows a number of bytes that is 0 where the system does not tell it.
func rss(bytes float64) string {
	if bytes == 0 {
		return "n/a"
	}
	return size(bytes)
}

// size shows a number of bytes in the largest unit that leaves a digit before
// the point.
func size(bytes float64) string {
	units := []string{"B", "KiB", "MiB", "GiB"}
	i := 0
	for bytes >= 1024 && i < len(units)-1 {
		bytes /= 1024
		i++
	}
	if i == 0 {
		return fmt.Sprintf("%.0f B", bytes)
	}
	return fmt.Sprintf("%.1f %s", bytes, units[i])
}

// known shows a number that is 0 where it is not known.
func known(v float64, decimals int) string {
	if v == 0 {
		return "n/a"
	}
	return strconv.FormatFloat(v, 'f', decimals, 64)
}
