package report

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/hakmem/hakmem/bench/result"
)

// The results as Markdown tables, for documents.

// The lines between which Markdown is put into a document.
const (
	MarkdownBegin = "<!-- results: what follows is written by `hakmem report` -->"
	MarkdownEnd   = "<!-- end of the results -->"
)

// behind is the ratio below which a figure is set in bold: hakmem is slower by more than the
// difference between two such runs on a quiet machine.
const behind = 0.97

// Markdown writes the results as tables of workloads by allocators: time, peak memory, memory
// later, and the 99th percentile of latencies. hakmem's column holds figures; the other columns
// hold their figures over hakmem's.
func Markdown(w io.Writer, sources []Source) error {
	var b bytes.Buffer
	for _, s := range sources {
		m := s.Machine
		took := ""
		if s.Seconds > 0 {
			took = fmt.Sprintf(", %.0f minutes", s.Seconds/60)
		}
		fmt.Fprintf(&b, "`%s`, %s%s: %s, %d cores, %s/%s, kernel %s, huge pages %s, %s.\n\n",
			Shell(s.Command), s.Started, took, m.CPU, m.Cores, m.OS, m.Arch, m.Kernel, m.HugePages, m.Go)
		versions(&b, s.Reports)
		selfRatios(&b, s.Reports)
		absent(&b, s.Reports)
		for _, t := range markdownTables {
			t.write(&b, s.Reports)
		}
	}
	_, err := w.Write(b.Bytes())
	return err
}

// Into replaces the text between the two marks by the tables.
func Into(text []byte, sources []Source) ([]byte, error) {
	for _, s := range sources {
		if s.Tuning != nil {
			return nil, fmt.Errorf("%s is from tune eval, of which there is a page and no Markdown", s.Name)
		}
	}
	begin, err := findMark(text, MarkdownBegin)
	if err != nil {
		return nil, err
	}
	end, err := findMark(text, MarkdownEnd)
	if err != nil {
		return nil, err
	}
	begin += len(MarkdownBegin)
	if end < begin {
		return nil, fmt.Errorf("the line %q stands before %q: put it behind", MarkdownEnd, MarkdownBegin)
	}
	var b bytes.Buffer
	b.Write(text[:begin])
	b.WriteString("\n\n")
	if err := Markdown(&b, sources); err != nil {
		return nil, err
	}
	b.Write(text[end:])
	return b.Bytes(), nil
}

// findMark returns where the mark begins. It refuses a second mark, or one within a text that
// explains it: the text in between would be replaced.
func findMark(text []byte, mark string) (int, error) {
	at := bytes.Index(text, []byte(mark))
	alone := at >= 0 && (at == 0 || text[at-1] == '\n')
	if alone {
		rest, _, _ := bytes.Cut(text[at+len(mark):], []byte("\n"))
		alone = len(bytes.TrimSpace(rest)) == 0
	}
	if n := bytes.Count(text, []byte(mark)); n != 1 || !alone {
		return 0, fmt.Errorf("it has %q %d times, and not once on a line of its own: put one line of it where the tables begin or end, and no other", mark, n)
	}
	return at, nil
}

// versions lists what was measured.
func versions(b *bytes.Buffer, reports []result.Report) {
	var list []string
	for _, r := range reports {
		for _, result := range r.Results {
			v := result.Allocator + " (" + result.Version + ")"
			if !slices.Contains(list, v) && result.Version != "" {
				list = append(list, v)
			}
		}
	}
	fmt.Fprintf(b, "Measured: %s.\n\n", strings.Join(list, ", "))
}

// selfRatios lists the differences that the A/A runs showed.
func selfRatios(b *bytes.Buffer, reports []result.Report) {
	var list []string
	who := ""
	for _, r := range reports {
		if r.Noise != nil {
			who = r.Noise.Allocator
			list = append(list, fmt.Sprintf("%s %.2f", r.Workload, r.Noise.Ratio))
		}
	}
	if len(list) > 0 {
		fmt.Fprintf(b, "%s over itself, in time, before each comparison: %s.\n\n", who, strings.Join(list, ", "))
	}
}

// absent lists the allocators that could not be measured, and why.
func absent(b *bytes.Buffer, reports []result.Report) {
	for _, r := range reports {
		for _, a := range r.Absent {
			fmt.Fprintf(b, "Absent from %s: %s: %s.\n\n", r.Workload, a.Allocator, a.Reason)
		}
	}
}

// markdownTable is one figure of all workloads and allocators.
type markdownTable struct {
	title string
	// figure is the allocator's figure; ok is false if it is not known. show writes hakmem's.
	figure func(result.Result) (v float64, ok bool)
	show   func(float64) string
	// plain tables hold figures in all columns, because the figures may be 0 or less, where a ratio
	// says nothing.
	plain bool
}

const mib = 1 << 20

var markdownTables = []markdownTable{
	{title: "Time: ns per operation, and the others' over it",
		figure: func(r result.Result) (float64, bool) { return r.NsPerOp, r.NsPerOp > 0 },
		show:   func(v float64) string { return fmt.Sprintf("%.4g ns", v) }},
	{title: "Peak memory over idle: MiB, and the others' over it",
		figure: func(r result.Result) (float64, bool) { return float64(r.OverIdle) / mib, r.OverIdle > 0 },
		show:   func(v float64) string { return fmt.Sprintf("%.1f", v) }},
	{title: "Memory over idle some seconds after everything was freed: MiB", plain: true,
		figure: func(r result.Result) (float64, bool) {
			if r.LaterRSS == nil {
				return 0, false
			}
			return float64(*r.LaterRSS) / mib, true
		},
		show: func(v float64) string { return fmt.Sprintf("%.1f", v) }},
	{title: "Latency, 99th percentile: ns", plain: true,
		figure: func(r result.Result) (float64, bool) {
			if r.Latency == nil || r.Latency.P99 == 0 {
				return 0, false
			}
			return r.Latency.P99, true
		},
		show: func(v float64) string { return fmt.Sprintf("%.0f", v) }},
}

// baseOf returns the allocator whose figures the others' are divided by: hakmem, or the first of
// its interfaces that was measured, or else whichever allocator was measured first.
func baseOf(names []string) string {
	if i := slices.Index(names, "hakmem"); i >= 0 {
		return names[i]
	}
	if i := slices.IndexFunc(names, result.IsHakmem); i >= 0 {
		return names[i]
	}
	return strings.Join(names[:min(len(names), 1)], "")
}

func (t markdownTable) write(b *bytes.Buffer, reports []result.Report) {
	var names []string
	for _, r := range reports {
		for _, result := range r.Results {
			if !slices.Contains(names, result.Allocator) {
				names = append(names, result.Allocator)
			}
		}
	}
	base := baseOf(names)
	fmt.Fprintf(b, "**%s**\n\n| workload |", t.title)
	for _, name := range names {
		fmt.Fprintf(b, " %s |", name)
	}
	b.WriteString("\n|---|" + strings.Repeat("---:|", len(names)) + "\n")
	for _, r := range reports {
		var row strings.Builder
		any := false
		ours, known := t.figure(find(&r, base))
		for _, name := range names {
			v, ok := t.figure(find(&r, name))
			any = any || ok
			cell := "n/a"
			switch {
			case !ok:
			case name == base || t.plain:
				cell = t.show(v)
			case !known:
			case result.Over(v, ours) < behind && !result.IsHakmem(name):
				cell = fmt.Sprintf("**%.2f**", result.Over(v, ours))
			default:
				cell = fmt.Sprintf("%.2f", result.Over(v, ours))
			}
			fmt.Fprintf(&row, " %s |", cell)
		}
		if any {
			fmt.Fprintf(b, "| %s |%s\n", r.Workload, row.String())
		}
	}
	b.WriteString("\n")
}
