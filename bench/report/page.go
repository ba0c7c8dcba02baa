package report

import (
	"cmp"
	"embed"
	"fmt"
	"html/template"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hakmem/hakmem/bench/result"
)

// The page: its sections, tables and charts, and the template that they are put into.

//go:embed *.html.tmpl
var templateFiles embed.FS

var templates = template.Must(template.ParseFS(templateFiles, "*.html.tmpl"))

// Write writes the page about all sources together, which are those of one Load.
func Write(w io.Writer, sources []Source) error {
	if len(sources) > 0 && sources[0].Tuning != nil {
		return templates.ExecuteTemplate(w, "tuning.html.tmpl", makeTuningPage(sources))
	}
	return templates.ExecuteTemplate(w, "page.html.tmpl", makePage(sources))
}

// head is what every page begins with.
type head struct {
	Title    string
	Machines []machine
	Sources  []sourceRow
}

type page struct {
	head
	Overview  []chart
	Worst     []worst
	Workloads []section
}

type machine struct {
	result.Machine
	Files string // "" if all files are from this machine
}

type sourceRow struct{ Name, Started, Took, Command string }

// worst is a table of the lowest ratios.
type worst struct {
	Title string
	Rows  []worstRow
}

type worstRow struct{ Workload, ID, Hakmem, Peer, Ratio, Ours, Theirs string }

// section is a workload's part of the page.
type section struct {
	ID, Name   string
	Conditions []string
	Command    string // "" if the source's own says it
	Charts     []chart
	Later      string // heading of the column of memory after all was freed
	Rows       []row
	Absent     []result.Absent
}

// row is an allocator's row in the table.
type row struct {
	Class, Name, Marker string
	Cells               []cell
	Version             string
}

type cell struct{ Text, Sub string }

const worstShown = 10

func makePage(sources []Source) page {
	var p page
	var names []string
	for _, s := range sources {
		p.addSource(s)
		for _, r := range s.Reports {
			for _, res := range r.Results {
				names = append(names, res.Allocator)
			}
			for _, x := range r.Ratios {
				names = append(names, x.Hakmem, x.Peer)
			}
		}
	}
	p.oneMachine()
	styles := makeStyles(names)
	labels := makeLabels(sources)
	var slow, big []ranked
	var timeRows, memoryRows []overviewRow
	for _, s := range sources {
		for i := range s.Reports {
			r := &s.Reports[i]
			n := len(p.Workloads)
			sec := makeSection(r, styles)
			sec.ID, sec.Name = fmt.Sprintf("w%d", n+1), labels[n]
			if command := Shell(r.Command); command != Shell(s.Command) {
				sec.Command = command
			}
			p.Workloads = append(p.Workloads, sec)
			timeRows = append(timeRows, overviewRows(barsOf(r, timeOf), sec.Name, noiseOf(r))...)
			memoryRows = append(memoryRows, overviewRows(barsOf(r, memoryOf), sec.Name, noise{})...)
			for _, x := range r.Ratios {
				ours, theirs := find(r, x.Hakmem), find(r, x.Peer)
				line := worstRow{Workload: sec.Name, ID: sec.ID, Hakmem: x.Hakmem, Peer: x.Peer}
				line.Ratio, line.Ours, line.Theirs = times(x.Raw), nanos(ours.NsPerOp), nanos(theirs.NsPerOp)
				slow = append(slow, ranked{x.Raw, line})
				line.Ratio, line.Ours, line.Theirs = times(x.Memory), size(float64(ours.OverIdle)), size(float64(theirs.OverIdle))
				big = append(big, ranked{x.Memory, line})
			}
		}
	}
	p.Overview = []chart{
		makeOverview("Time: peer ÷ hakmem", "Ratios of time over all workloads: one mark per peer, to the right of 1 where hakmem is faster",
			timeRows, styles, "hakmem slower", "hakmem faster"),
		makeOverview("Peak memory over idle: peer ÷ hakmem", "Ratios of peak memory over all workloads: one mark per peer, to the right of 1 where hakmem is smaller",
			memoryRows, styles, "hakmem larger", "hakmem smaller"),
	}
	p.Worst = []worst{{"Lowest ratios in time", lowest(slow)}, {"Lowest ratios in peak memory", lowest(big)}}
	p.Title = "hakmem report: " + count(len(p.Workloads), "workload", "workloads")
	return p
}

// oneMachine leaves out the names of files if all are from the same machine.
func (p *head) oneMachine() {
	if len(p.Machines) == 1 {
		p.Machines[0].Files = ""
	}
}

func (p *head) addSource(s Source) {
	line := sourceRow{Name: s.Name, Started: s.Started, Command: Shell(s.Command)}
	if t, err := time.Parse(time.RFC3339, s.Started); err == nil {
		line.Started = t.Format("2 January 2006, 15:04:05 -07:00")
	}
	if known(s.Seconds) && s.Seconds < 1e9 {
		line.Took = time.Duration(s.Seconds * float64(time.Second)).Round(time.Second).String()
	}
	p.Sources = append(p.Sources, line)
	all := []result.Machine{s.Machine}
	for _, r := range s.Reports {
		all = append(all, r.Machine)
	}
	for _, m := range all {
		i := slices.IndexFunc(p.Machines, func(have machine) bool { return have.Machine == m })
		switch {
		case i < 0:
			p.Machines = append(p.Machines, machine{m, s.Name})
		case !slices.Contains(strings.Split(p.Machines[i].Files, ", "), s.Name):
			p.Machines[i].Files += ", " + s.Name
		}
	}
}

// makeLabels names all reports in order: by workload; where that is not enough, also by the
// parameters that differ; then by file; then by number.
func makeLabels(sources []Source) []string {
	type named struct {
		*result.Report
		file string
	}
	var all []named
	values := map[string]map[string]map[string]bool{} // workload, parameter, values
	seen := map[string]int{}
	for _, s := range sources {
		for i := range s.Reports {
			r := &s.Reports[i]
			all = append(all, named{r, s.Name})
			seen[r.Workload]++
			if values[r.Workload] == nil {
				values[r.Workload] = map[string]map[string]bool{}
			}
			for k, v := range r.Params {
				if values[r.Workload][k] == nil {
					values[r.Workload][k] = map[string]bool{}
				}
				values[r.Workload][k][fmt.Sprint(v)] = true
			}
		}
	}
	labels := make([]string, len(all))
	taken := map[string]int{}
	for i, r := range all {
		labels[i] = r.Workload
		if seen[r.Workload] > 1 {
			for _, k := range slices.Sorted(maps.Keys(r.Params)) {
				if k != "runs" && len(values[r.Workload][k]) > 1 { // that is how it was measured, not what
					labels[i] += fmt.Sprintf(" %s=%v", k, r.Params[k])
				}
			}
		}
		taken[labels[i]]++
	}
	number := map[string]int{}
	for i, r := range all {
		if taken[labels[i]] > 1 && len(sources) > 1 {
			labels[i] += " (" + r.file + ")"
		}
		number[labels[i]]++
		if n := number[labels[i]]; n > 1 {
			labels[i] += fmt.Sprintf(" #%d", n)
		}
	}
	return labels
}

// find is the allocator's result, or a result in which nothing is known.
func find(r *result.Report, name string) result.Result {
	for _, res := range r.Results {
		if res.Allocator == name {
			return res
		}
	}
	return result.Result{Allocator: name}
}

// quantity picks one of a ratio's figures for the charts.
type quantity func(r *result.Report, x result.Ratio) bar

func timeOf(r *result.Report, x result.Ratio) bar {
	n := noiseOf(r)
	b := bar{group: x.Hakmem, name: x.Peer, ratio: x.Raw, low: x.Low, high: x.High, second: x.Net}
	ours, theirs := find(r, x.Hakmem), find(r, x.Peer)
	// Three runs each cannot give less than 0.1, whatever they are. Then the A/A run must decide,
	// if there was one.
	few := len(ours.Runs) <= 3 || len(theirs.Runs) <= 3
	chance := x.P > 0.05 && !few
	few = few && n.floor <= 1
	b.unclear = n.within(x.Raw) || chance || few
	b.title = fmt.Sprintf("%s over %s: %s in time (%s over %s)", x.Peer, x.Hakmem, times(x.Raw), nanos(theirs.NsPerOp), nanos(ours.NsPerOp))
	if known(x.Low) && known(x.High) && x.Low != x.High {
		b.title += fmt.Sprintf("; %s to %s by placement", times(x.Low), times(x.High))
	}
	switch {
	case chance:
		b.title += fmt.Sprintf("; p = %.2f: may be chance", x.P)
	case n.within(x.Raw):
		b.title += "; within the noise"
	case few:
		b.title += "; too few runs to tell from chance"
	}
	return b
}

func memoryOf(r *result.Report, x result.Ratio) bar {
	ours, theirs := find(r, x.Hakmem), find(r, x.Peer)
	return bar{group: x.Hakmem, name: x.Peer, ratio: x.Memory, second: x.Area,
		title: fmt.Sprintf("%s over %s: %s in peak memory (%s over %s)", x.Peer, x.Hakmem, times(x.Memory),
			size(float64(theirs.OverIdle)), size(float64(ours.OverIdle)))}
}

// barsOf returns the bars of all ratios, hakmem's interfaces one after another.
func barsOf(r *result.Report, q quantity) []bar {
	var bars []bar
	for _, x := range r.Ratios {
		bars = append(bars, q(r, x))
	}
	slices.SortStableFunc(bars, func(a, b bar) int { return cmp.Compare(a.group, b.group) })
	return bars
}

func anyKnown(bars []bar) bool {
	return slices.ContainsFunc(bars, func(b bar) bool { return known(b.ratio) })
}

func overviewRows(bars []bar, label string, n noise) []overviewRow {
	var rows []overviewRow
	for _, b := range bars {
		b.title = label + ": " + b.title
		if len(rows) == 0 || rows[len(rows)-1].hakmem != b.group {
			rows = append(rows, overviewRow{workload: label, hakmem: b.group, noise: n})
		}
		row := &rows[len(rows)-1]
		row.marks = append(row.marks, b)
	}
	return rows
}

func makeOverview(title, label string, rows []overviewRow, styles map[string]style, worse, better string) chart {
	c := chart{Title: title, Label: label}
	if !slices.ContainsFunc(rows, func(r overviewRow) bool { return anyKnown(r.marks) }) {
		c.Missing = "No report has both hakmem and a peer with this figure."
		return c
	}
	c.overview(rows, styles, worse, better)
	return c
}

// noiseOf is the noise that the run of a program against itself showed.
func noiseOf(r *result.Report) noise {
	var n noise
	if r.Noise != nil && known(r.Noise.Ratio) {
		n.floor = max(r.Noise.Ratio, 1/r.Noise.Ratio)
		if known(r.Noise.Spread) {
			n.spread = 1 + r.Noise.Spread
		}
	}
	return n
}

type ranked struct {
	ratio float64
	row   worstRow
}

func lowest(all []ranked) []worstRow {
	all = slices.DeleteFunc(all, func(r ranked) bool { return !known(r.ratio) })
	slices.SortStableFunc(all, func(a, b ranked) int { return cmp.Compare(a.ratio, b.ratio) })
	var rows []worstRow
	for _, r := range all[:min(worstShown, len(all))] {
		rows = append(rows, r.row)
	}
	return rows
}

func makeSection(r *result.Report, styles map[string]style) section {
	s := section{Conditions: conditions(r), Absent: r.Absent, Later: "later"}
	s.Charts = []chart{timeChart(r, styles), memoryChart(r, styles), rssChart(r, styles), latencyChart(r, styles)}
	for _, res := range r.Results {
		if known(res.Later) {
			s.Later = fmt.Sprintf("%g s later", res.Later)
		}
		look := styles[res.Allocator]
		s.Rows = append(s.Rows, row{look.class, res.Allocator, look.marker(7, 7), cells(res), res.Version})
	}
	return s
}

// conditions are the circumstances in which the figures were obtained.
func conditions(r *result.Report) []string {
	var list []string
	for _, k := range slices.Sorted(maps.Keys(r.Params)) {
		list = append(list, fmt.Sprintf("%s %v", k, r.Params[k]))
	}
	for _, l := range r.Loops {
		list = append(list, fmt.Sprintf("empty loop (%s) %s", l.Side, nanos(l.NsPerOp)))
	}
	if n := r.Noise; n != nil && known(n.Ratio) {
		list = append(list, fmt.Sprintf("noise: %s against itself %.3f× over %s, runs spread by %.1f %%",
			n.Allocator, n.Ratio, count(n.Runs, "run each", "runs each"), 100*n.Spread))
	}
	if len(r.Environment) > 0 {
		list = append(list, "set: "+strings.Join(r.Environment, " "))
	}
	if len(r.Dropped) > 0 {
		list = append(list, "kept from the runs: "+strings.Join(r.Dropped, " "))
	}
	return list
}

func timeChart(r *result.Report, styles map[string]style) chart {
	c := chart{Title: "Time, peer ÷ hakmem", Label: r.Workload + ": each peer's time over hakmem's; bars to the right of 1: hakmem is faster"}
	rows := barsOf(r, timeOf)
	if c.Missing = missingRatios(r, rows, "no time is known"); c.Missing != "" {
		return c
	}
	n := noiseOf(r)
	c.bars(rows, styles, n, [2]string{"raw", "net"}, "hakmem slower", "hakmem faster")
	c.Note = "Net: less the loop without an allocator."
	if slices.ContainsFunc(rows, func(b bar) bool { return b.unclear && known(b.ratio) }) {
		c.Note += " Pale bars may be chance."
	}
	if n.floor > 1 {
		c.Note += " Band: the noise floor, two series of the same program; paler, the spread of its runs."
	}
	return c
}

func memoryChart(r *result.Report, styles map[string]style) chart {
	c := chart{Title: "Peak memory over idle, peer ÷ hakmem", Label: r.Workload + ": each peer's peak memory over hakmem's; bars to the right of 1: hakmem is smaller"}
	rows := barsOf(r, memoryOf)
	if c.Missing = missingRatios(r, rows, "peak memory over idle is not known"); c.Missing != "" {
		return c
	}
	c.bars(rows, styles, noise{}, [2]string{"peak", "byte·s"}, "hakmem larger", "hakmem smaller")
	c.Note = "byte·s: resident memory over idle, integrated over the loop."
	return c
}

// missingRatios says why there are no bars; "" if there are.
func missingRatios(r *result.Report, rows []bar, unknown string) string {
	measured := func(hakmem bool) bool {
		return slices.ContainsFunc(r.Results, func(res result.Result) bool { return result.IsHakmem(res.Allocator) == hakmem })
	}
	switch {
	case anyKnown(rows):
		return ""
	case !measured(true):
		return "No ratios: hakmem was not measured."
	case !measured(false):
		return "No ratios: no peer was measured."
	default:
		return "No ratios: " + unknown + "."
	}
}

func rssChart(r *result.Report, styles map[string]style) chart {
	c := chart{Title: "Resident memory over time", Label: r.Workload + ": resident memory over time, one line per allocator"}
	var all []series
	var end, top float64
	for _, res := range r.Results {
		points := usable(res.Curve, func(p [2]float64) ([2]float64, bool) { return p, p[0] >= 0 && p[0] < 1e9 && known(p[1]) })
		if len(points) > 0 {
			all = append(all, series{name: res.Allocator, points: points})
		}
		for _, p := range points {
			end, top = max(end, p[0]), max(top, p[1])
		}
	}
	if len(all) == 0 {
		c.Missing = "No curves: resident memory was not sampled."
		return c
	}
	if !known(end) {
		end = 1
	}
	placeMarkers(all)
	unit := byteUnit(top)
	x := axis{scale{lo: 0, hi: end, from: lineLeft, to: lineRight}, linearTicks(end, 1, 5), seconds, "seconds since the loop began"}
	y := axis{scale{lo: 0, hi: top * 1.06, from: lineBottom, to: lineTop}, linearTicks(top*1.06, unit, 5), signedSize, ""}
	c.lines(x, y, all, styles, func(x, y float64) string { return size(y) + " at " + seconds(x) + " s" })
	return c
}

func latencyChart(r *result.Report, styles map[string]style) chart {
	c := chart{Title: "Latency by percentile", Label: r.Workload + ": latency in nanoseconds against the percentile, one line per allocator"}
	var all []series
	lo, hi, right := math.Inf(1), 0.0, 1.0
	every, clock := uint64(0), 0.0
	for _, res := range r.Results {
		if res.Latency == nil {
			continue
		}
		points := latencyPoints(*res.Latency)
		if len(points) == 0 {
			continue
		}
		all = append(all, series{name: res.Allocator, points: points})
		for _, p := range points {
			lo, hi, right = min(lo, p[1]), max(hi, p[1]), max(right, p[0])
		}
		every, clock = max(every, res.Latency.Every), max(clock, res.Latency.Clock)
	}
	if len(all) == 0 {
		c.Missing = "No curves: no latency was sampled."
		return c
	}
	// At least a decade, for a scale that means something.
	lo, hi = lo/1.15, max(hi*1.15, lo*10)
	x := axis{scale: scale{lo: 0, hi: right, from: lineLeft, to: lineRight}, title: "percentile"}
	x.ticks = []float64{math.Log10(2)}
	for u := 1.0; u <= right; u++ {
		x.ticks = append(x.ticks, u)
	}
	x.label = percentile
	y := axis{scale: scale{lo: lo, hi: hi, from: lineBottom, to: lineTop, log: true}, label: nanos}
	y.ticks = logTicks(y.scale, 24)
	for i, s := range all {
		all[i].at = slices.Concat(x.ticks, []float64{s.points[len(s.points)-1][0]})
	}
	c.lines(x, y, all, styles, func(u, ns float64) string { return "p" + percentile(u) + " " + nanos(ns) })
	c.Note = "An operation is an allocation with the write of its first byte, or a free"
	if every > 1 {
		c.Note += fmt.Sprintf("; one of %d was sampled", every)
	}
	if known(clock) {
		c.Note += fmt.Sprintf("; the clock's own %s are subtracted", nanos(clock))
	}
	c.Note += "."
	return c
}

// latencyPoints has the curve's percentiles as log10(1/(1-p)). The 100th would lie at infinity
// there; it goes where the samples' resolution ends.
func latencyPoints(l result.Latency) [][2]float64 {
	curve := l.Curve
	if len(curve) == 0 {
		curve = [][2]float64{{50, l.P50}, {95, l.P95}, {99, l.P99}, {99.9, l.P999}}
	}
	finest := math.Log10(float64(max(l.Samples, 1)))
	return usable(curve, func(p [2]float64) ([2]float64, bool) {
		u := -math.Log10(1 - p[0]/100)
		if p[0] >= 100 {
			u = finest
		}
		// Below the clock's resolution a difference may come out as 0 or less.
		return [2]float64{u, max(p[1], 1)}, p[0] >= 0 && p[0] <= 100 && u < 12 && (p[0] < 100 || l.Samples > 0) && p[1] < 1e15
	})
}

// usable converts the points that can be drawn, in the order of x.
func usable(curve [][2]float64, convert func([2]float64) ([2]float64, bool)) [][2]float64 {
	var points [][2]float64
	for _, p := range curve {
		if q, ok := convert(p); ok {
			points = append(points, q)
		}
	}
	slices.SortStableFunc(points, func(a, b [2]float64) int { return cmp.Compare(a[0], b[0]) })
	return points
}

// cells are an allocator's figures, in the order of the table's head.
func cells(r result.Result) []cell {
	interval := ""
	if known(r.Low) && r.High > r.Low && known(r.High) {
		interval = fmt.Sprintf("%s–%s", figure(r.Low), figure(r.High))
		if known(r.Confidence) {
			interval += fmt.Sprintf(" (%.0f %%)", 100*r.Confidence)
		}
	} else if len(r.Runs) == 1 {
		interval = "one run"
	}
	later, calls := cell{Text: notKnown}, cell{Text: notKnown}
	if r.LaterRSS != nil {
		later.Text = signedSize(float64(*r.LaterRSS))
	}
	if r.MemoryCalls != nil {
		calls.Text = strconv.FormatUint(*r.MemoryCalls, 10)
	}
	faults := notKnown
	if r.MinorFaults > 0 {
		faults = strconv.FormatUint(r.MinorFaults, 10)
	}
	list := []cell{
		{figure(r.NsPerOp), interval}, {Text: figure(r.NetNsPerOp)},
		{Text: size(float64(r.OverIdle))}, later, {Text: faults}, calls,
	}
	var l result.Latency
	if r.Latency != nil {
		l = *r.Latency
	}
	for _, v := range []float64{l.P50, l.P95, l.P99, l.P999} {
		list = append(list, cell{Text: figure(v)})
	}
	return list
}
