package main

import (
	"cmp"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/hakmem/hakmem/bench/result"
)

func printJSON(out io.Writer, v any) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// printBench prints the report of bench: the results, and the ratio of each allocator's time to
// that of the first hakmem interface measured.
func printBench(out io.Writer, j job, report result.Report) error {
	if err := printResults(out, j, report); err != nil {
		return err
	}
	if err := printPlacements(out, report); err != nil {
		return err
	}
	w := newTable(out)
	for _, base := range report.Results {
		if !result.IsHakmem(base.Allocator) {
			continue
		}
		fmt.Fprintf(w, "\ntime over that of %s\traw\tnet\t\n", base.Allocator)
		for _, r := range report.Results {
			if r.Allocator != base.Allocator {
				fmt.Fprintf(w, "%s\t%s\t%s\t\n", r.Allocator, figure(result.Over(r.NsPerOp, base.NsPerOp), 2), figure(result.Over(r.NetNsPerOp, base.NetNsPerOp), 2))
			}
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// printResults prints what was measured, on which machine, and which contestants are absent. It
// fails if all are.
func printResults(out io.Writer, j job, report result.Report) error {
	m := report.Machine
	fmt.Fprintf(out, "%s\n%s, %d cores, %s/%s, kernel %s, %s\n\n", j.title(), m.CPU, m.Cores, m.OS, m.Arch, m.Kernel, m.Go)
	w := newTable(out)
	fmt.Fprint(w, "allocator\tMops/s\tns/op\tinterval\tnet ns/op\tpeak RSS\tover idle\tfaults\tversion\n")
	for _, r := range report.Results {
		fmt.Fprintf(w, "%s\t%.1f\t%.3f\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Allocator, r.OpsPerS/1e6, r.NsPerOp, spread(r), figure(r.NetNsPerOp, 3),
			rss(float64(r.PeakRSS)), rss(float64(r.OverIdle)), figure(float64(r.MinorFaults), 0), r.Version)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, l := range report.Loops {
		fmt.Fprintf(out, "the loop alone, in %s: %.3f ns\n", map[string]string{sideGo: "Go", sideC: "C"}[l.Side], l.NsPerOp)
	}
	if len(report.Absent) > 0 {
		fmt.Fprintln(out)
	}
	for _, a := range report.Absent {
		fmt.Fprintf(out, "absent: %s: %s\n", a.Allocator, a.Reason)
	}
	for _, r := range report.Results {
		for _, note := range r.Notes {
			fmt.Fprintf(out, "%s: %s\n", r.Allocator, note)
		}
	}
	return measured(report)
}

// measured returns an error if nothing was measured.
func measured(report result.Report) error {
	if len(report.Results) == 0 {
		return fmt.Errorf("%s: nothing could be measured", report.Workload)
	}
	return nil
}

func newTable(out io.Writer) *tabwriter.Writer {
	return tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
}

// listOf writes several names as flags do.
func listOf(names []string) string { return strings.Join(names, ",") }

// spread is the interval of the median time, with its confidence.
func spread(r result.Result) string {
	return fmt.Sprintf("%.2f-%.2f (%.0f %%)", r.Low, r.High, 100*r.Confidence)
}

// printMemory prints what compare measures in addition to the time.
func printMemory(out io.Writer, report result.Report) {
	fmt.Fprintln(out)
	w := newTable(out)
	fmt.Fprint(w, "allocator\tp50 ns\tp95\tp99\tp99.9\tclock\tRSS x time\tRSS later\tmemory calls\n")
	for _, r := range report.Results {
		fmt.Fprintf(w, "%s", r.Allocator)
		if l := r.Latency; l != nil {
			fmt.Fprintf(w, "\t%.0f\t%s\t%s\t%s\t%.0f", l.P50, figure(l.P95, 0), figure(l.P99, 0), figure(l.P999, 0), l.Clock)
		} else {
			fmt.Fprint(w, "\tn/a\tn/a\tn/a\tn/a\tn/a")
		}
		later, calls, area := "n/a", "n/a", "n/a"
		if r.RSSSeconds > 0 {
			area = size(r.RSSSeconds) + "·s"
		}
		if r.LaterRSS != nil {
			later = size(float64(*r.LaterRSS))
		}
		if r.MemoryCalls != nil {
			calls = strconv.FormatUint(*r.MemoryCalls, 10)
		}
		fmt.Fprintf(w, "\t%s\t%s\t%s\n", area, later, calls)
	}
	w.Flush()
	if n := report.Noise; n != nil {
		fmt.Fprintf(out, "noise: %s against itself: ratio %.3f, %d runs each over a range of %.1f %%\n", n.Allocator, n.Ratio, n.Runs, 100*n.Spread)
	}
}

func printRatios(out io.Writer, report result.Report) error {
	if len(report.Ratios) == 0 {
		return nil
	}
	fmt.Fprint(out, "\npeer's figure / hakmem's (above 1: hakmem is faster or smaller); p: the chance that time differs by chance\n")
	w := newTable(out)
	fmt.Fprint(w, "hakmem\tpeer\ttime\tnet\tworst to best placement\tp\tp99\tpeak over idle\tRSS x time\n")
	for _, r := range report.Ratios {
		placements := "-"
		if r.Low != r.High {
			placements = fmt.Sprintf("%.3f to %.3f", r.Low, r.High)
		}
		fmt.Fprintf(w, "%s\t%s\t%.3f\t%s\t%s\t%.3f\t%s\t%s\t%s\n", r.Hakmem, r.Peer, r.Raw, figure(r.Net, 3), placements, r.P, figure(r.P99, 2), figure(r.Memory, 2), figure(r.Area, 2))
	}
	return w.Flush()
}

// printWorst prints the ratios in which hakmem is furthest behind a peer.
func printWorst(out io.Writer, all result.Collection) error {
	const shown = 10
	for _, kind := range []struct {
		name  string
		of    func(result.Ratio) float64
		least uint64 // bytes over idle of either, below which a ratio is about a few pages
	}{
		{"time", func(r result.Ratio) float64 { return r.Raw }, 0},
		{"peak memory over idle (from 8 MiB)", func(r result.Ratio) float64 { return r.Memory }, 8 << 20},
	} {
		type row struct {
			workload string
			result.Ratio
		}
		var rows []row
		for _, report := range all.Reports {
			for _, r := range report.Ratios {
				if r.Hakmem == "hakmem" && kind.of(r) > 0 && (kind.least == 0 || most(report, "hakmem", r.Peer) >= kind.least) {
					rows = append(rows, row{report.Workload, r})
				}
			}
		}
		slices.SortStableFunc(rows, func(a, b row) int { return cmp.Compare(kind.of(a.Ratio), kind.of(b.Ratio)) })
		fmt.Fprintf(out, "\nthe worst ratios in %s\n", kind.name)
		w := newTable(out)
		for _, r := range rows[:min(shown, len(rows))] {
			fmt.Fprintf(w, "%s\t%s\t%.3f\n", r.workload, r.Peer, kind.of(r.Ratio))
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(out, "\n%d workloads in %.0f s\n", len(all.Reports), all.Seconds)
	return err
}

// most returns the memory over idle, in bytes, of the allocator that has most.
func most(report result.Report, names ...string) (bytes uint64) {
	for _, r := range report.Results {
		if slices.Contains(names, r.Allocator) {
			bytes = max(bytes, r.OverIdle)
		}
	}
	return bytes
}

// printCSV prints a line for each result.
func printCSV(out io.Writer, reports []result.Report) error {
	w := csv.NewWriter(out)
	w.Write([]string{"workload", "allocator", "version", "runs", "ops_per_s", "ns_per_op", "ns_per_op_low", "ns_per_op_high", "confidence", "net_ns_per_op",
		"p50_ns", "p95_ns", "p99_ns", "p99_9_ns", "peak_rss_bytes", "peak_over_idle_bytes", "rss_byte_seconds", "later_rss_bytes", "minor_faults", "memory_calls", "absent"})
	number := func(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
	for _, report := range reports {
		for _, r := range report.Results {
			line := []string{report.Workload, r.Allocator, r.Version, strconv.Itoa(len(r.Runs)), number(r.OpsPerS), number(r.NsPerOp), number(r.Low), number(r.High), number(r.Confidence), number(r.NetNsPerOp)}
			if l := r.Latency; l != nil {
				line = append(line, number(l.P50), number(l.P95), number(l.P99), number(l.P999))
			} else {
				line = append(line, "", "", "", "")
			}
			line = append(line, number(float64(r.PeakRSS)), number(float64(r.OverIdle)), number(r.RSSSeconds))
			later, calls := "", ""
			if r.LaterRSS != nil {
				later = strconv.FormatInt(*r.LaterRSS, 10)
			}
			if r.MemoryCalls != nil {
				calls = strconv.FormatUint(*r.MemoryCalls, 10)
			}
			w.Write(append(line, later, number(float64(r.MinorFaults)), calls, ""))
		}
		for _, a := range report.Absent {
			line := make([]string, 21)
			line[0], line[1], line[20] = report.Workload, a.Allocator, a.Reason
			w.Write(line)
		}
	}
	w.Flush()
	return w.Error()
}

// rss shows a number of bytes. 0 means that the system does not report it.
func rss(bytes float64) string {
	if bytes == 0 {
		return "n/a"
	}
	return size(bytes)
}

// size shows a number of bytes in the largest unit that leaves a digit before the point.
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

// figure shows a number. 0 means that it is not known.
func figure(v float64, decimals int) string {
	if v == 0 {
		return "n/a"
	}
	return strconv.FormatFloat(v, 'f', decimals, 64)
}
