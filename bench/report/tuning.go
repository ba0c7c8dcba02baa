package report

import (
	"fmt"
	"strings"

	"github.com/hakmem/hakmem/bench/result"
)

// The page about what tune eval wrote.

type tuningPage struct {
	head
	Sections []tuningSection
}

// tuningSection is about one price of memory.
type tuningSection struct {
	ID, Name string
	Words    []string
	Charts   []chart
	Tables   []tuningTable
}

// tuningTable is a table whose first column has names.
type tuningTable struct {
	Title string
	Head  []string
	Rows  [][]string
}

func makeTuningPage(sources []Source) tuningPage {
	var p tuningPage
	for _, s := range sources {
		p.addSource(s)
		for _, x := range s.Tuning.Simulated {
			p.Sections = append(p.Sections, simulatedSection(s.Tuning.Programs, x))
		}
		if r := s.Tuning.Real; r != nil {
			for _, x := range r.Prices {
				p.Sections = append(p.Sections, realSection(r, x))
			}
		}
		for i := range p.Sections {
			sec := &p.Sections[i]
			if sec.ID == "" {
				sec.ID = fmt.Sprintf("s%d", i+1)
				if len(sources) > 1 {
					sec.Name += " (" + s.Name + ")"
				}
			}
		}
	}
	p.oneMachine()
	p.Title = "hakmem: what the learner is worth"
	return p
}

// fixedArm reports whether a policy is a fixed hold time, which tune eval calls keep and the time.
func fixedArm(p result.SimulatedPolicy) bool { return strings.HasPrefix(p.Name, "keep ") }

func simulatedSection(programs string, s result.Simulation) tuningSection {
	sec := tuningSection{Name: fmt.Sprintf("Simulated: price %g, break-even %s s", s.Price, figure(s.BreakEven))}
	sec.Words = []string{
		fmt.Sprintf("Programs: %s.", programs),
		"The optimum knows how long each page will wait: 1× is the least that is possible. The price is what a GiB costs that is kept for a second, in CPU seconds.",
		"Static oracle: the best fixed hold time of each program, in hindsight; one static: the best for all programs; ticks: pages are returned at ticks only, as by the policies. Window: the rule before the learner. Shuffled: the learner with its costs exchanged at random. Looked at: programs that were looked at when the learner was made.",
	}
	var names []string
	for _, p := range s.Policies {
		names = append(names, p.Name)
	}
	styles := stylesOf(names)
	var rows []costBar
	for _, p := range s.Policies {
		b := costBar{group: "policies, and what is the best in hindsight", name: p.Name, ratio: p.Mean, title: fmt.Sprintf("%s: %s the optimum's cost", p.Name, times(p.Mean))}
		if fixedArm(p) {
			b.group = "the same hold time for all pages"
		}
		rows = append(rows, b)
	}
	sec.Charts = []chart{
		costChart("Cost over the optimum, geometric mean of all kinds of programs", rows, styles, "below the optimum", "dearer"),
		regretChart(s, styles),
	}
	sec.Tables = []tuningTable{policyTable(s), kindTable(s), playsTable(s)}
	if len(s.Recoveries) > 0 {
		sec.Tables = append(sec.Tables, recoveryTable(s))
	}
	return sec
}

// regretChart draws what was paid over the optimum in the course of the programs.
func regretChart(s result.Simulation, styles map[string]style) chart {
	c := chart{Title: "Regret: CPU time paid over the optimum, mean of all programs", Label: "CPU time that each policy paid over the optimum, against the part of the program that is over; one line per policy"}
	var all []series
	lo, hi := 0.0, 0.0
	for _, p := range s.Policies {
		var points [][2]float64
		for i, y := range p.Regret {
			if !known(y) && !known(-y) && y != 0 {
				continue
			}
			points = append(points, [2]float64{100 * float64(i+1) / float64(len(p.Regret)), y})
			lo, hi = min(lo, y), max(hi, y)
		}
		if len(points) > 0 {
			all = append(all, series{name: p.Name, points: append([][2]float64{{0, 0}}, points...)})
		}
	}
	if len(all) == 0 {
		c.Missing = "No curves: no regret is known."
		return c
	}
	if !known(hi) {
		hi = 1e-6 // no policy paid more than the optimum
	}
	placeMarkers(all)
	x := axis{scale{lo: 0, hi: 100, from: lineLeft, to: lineRight}, linearTicks(100, 1, 5), seconds, "% of the program's time"}
	y := axis{scale{lo: lo, hi: hi * 1.06, from: lineBottom, to: lineTop}, linearTicks(hi*1.06, 1, 5), func(v float64) string { return seconds(v) + " s" }, ""}
	c.lines(x, y, all, styles, func(x, y float64) string { return fmt.Sprintf("%s s at %.0f %%", seconds(y), x) })
	return c
}

func policyTable(s result.Simulation) tuningTable {
	t := tuningTable{Title: "Cost over the optimum, worst programs and adversaries",
		Head: []string{"hold time", "mean", "looked at", "most over the best static", "most over break-even", "adversary: after", "flip"}}
	worst := func(w *result.WorstProgram) string {
		switch {
		case w == nil:
			return ""
		case w.Seed == 0:
			return fmt.Sprintf("%s: %s", w.Kind, times(w.Ratio))
		}
		return fmt.Sprintf("%s, seed %d: %s", w.Kind, w.Seed, times(w.Ratio))
	}
	some := func(v float64) string {
		if v == 0 {
			return ""
		}
		return times(v)
	}
	for _, p := range s.Policies {
		t.Rows = append(t.Rows, []string{p.Name, times(p.Mean), some(p.LookedAt), worst(p.OverStatic), worst(p.OverBreakEven), some(p.After), some(p.Flip)})
	}
	return t
}

func kindTable(s result.Simulation) tuningTable {
	t := tuningTable{Title: "Cost over the optimum by kind of program"}
	t.Head = append([]string{"hold time"}, s.Kinds...)
	for _, p := range s.Policies {
		row := []string{p.Name}
		for _, x := range p.Ratio {
			row = append(row, figure(x))
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

func playsTable(s result.Simulation) tuningTable {
	t := tuningTable{Title: "How often hold times were used, in % of the waits; each column up to its time", Head: []string{"hold time"}}
	for _, a := range s.Arms {
		t.Head = append(t.Head, fmt.Sprintf("%g s", a))
	}
	t.Head = append(t.Head, "more")
	for _, p := range s.Policies {
		if p.Plays == nil {
			continue
		}
		row := []string{p.Name}
		for _, x := range p.Plays {
			row = append(row, fmt.Sprintf("%.1f", 100*x))
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

func recoveryTable(s result.Simulation) tuningTable {
	t := tuningTable{Title: "Gaps between peaks until a policy is within 10 % of the best fixed hold time for a new regime", Head: []string{"hold time"}}
	for _, r := range s.Recoveries {
		t.Head = append(t.Head, fmt.Sprintf("%s, %g to %g s, of %d", r.Kind, r.From, r.To, r.Gaps))
	}
	for _, p := range s.Policies {
		if _, ok := s.Recoveries[0].Needed[p.Name]; !ok {
			continue
		}
		row := []string{p.Name}
		for _, r := range s.Recoveries {
			row = append(row, fmt.Sprintf("%.1f", r.Needed[p.Name]))
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

func realSection(r *result.RealTuning, x result.RealPrice) tuningSection {
	sec := tuningSection{Name: fmt.Sprintf("Real processes: price %g", x.Price)}
	sec.Words = []string{fmt.Sprintf("Runs of %s s under values of HAKMEM_KEEP, %s each and each twice. The cost is the CPU time over that of always, and the price for each GiB·s that is resident beyond what is alive. Ratios are over %s.",
		seconds(r.Seconds), count(len(r.Seeds), "seed", "seeds"), r.Baseline)}
	var names []string
	for _, a := range x.Arms {
		names = append(names, a.Name)
	}
	styles := stylesOf(names)
	var costs, memories []costBar
	for i, pattern := range append([]string{"all patterns, geometric mean"}, r.Patterns...) {
		for _, a := range x.Arms {
			cost, memory := costBar{group: pattern, name: a.Name, ratio: a.Cost}, costBar{group: pattern, name: a.Name, ratio: a.Memory}
			noise := ""
			if i > 0 {
				if i > len(a.Patterns) {
					continue
				}
				p := a.Patterns[i-1]
				cost.ratio, memory.ratio = p.CostRatio, p.MemoryRatio
				noise = fmt.Sprintf("; %.3g CPU s, %.3g GiB·s, %.0f faults, noise %.1f %%", p.CPU, p.Memory, p.Faults, 100*p.Spread)
			}
			cost.title = fmt.Sprintf("%s, %s: %s the cost of %s%s", pattern, a.Name, times(cost.ratio), r.Baseline, noise)
			memory.title = fmt.Sprintf("%s, %s: %s the memory of %s%s", pattern, a.Name, times(memory.ratio), r.Baseline, noise)
			costs, memories = append(costs, cost), append(memories, memory)
		}
	}
	sec.Charts = []chart{
		costChart("Cost over that of "+r.Baseline, costs, styles, "cheaper", "dearer"),
		costChart("Memory beyond what is alive (GiB·s) over that of "+r.Baseline, memories, styles, "less", "more"),
	}
	t := tuningTable{Title: "Cost and memory over those of " + r.Baseline,
		Head: []string{"arm", "cost", "worst", "with", "memory", "worst", "with", "noise of the cost", "most"}}
	for _, a := range x.Arms {
		t.Rows = append(t.Rows, []string{a.Name, times(a.Cost), times(a.Worst), a.On, times(a.Memory), times(a.WorstMemory), a.MemoryOn,
			fmt.Sprintf("%.1f %%", 100*a.Spread), fmt.Sprintf("%.1f %%", 100*a.MostSpread)})
	}
	sec.Tables = []tuningTable{t}
	return sec
}

// costBar is a row of a chart of costs.
type costBar struct {
	group, name, title string
	ratio              float64
}

// costChart draws ratios as bars from the 1.0 line, under a heading for each group.
func costChart(title string, rows []costBar, styles map[string]style, less, more string) chart {
	c := chart{Title: title, Label: title + "; bars to the right of 1: more"}
	var all []float64
	some := false
	for _, r := range rows {
		all = append(all, r.ratio)
		some = some || known(r.ratio)
	}
	if !some {
		c.Missing = "No ratio is known."
		return c
	}
	const left, right = px(124), px(chartWidth - 60)
	x := ratioScale(all, left, right)
	y, group := px(0), ""
	for _, r := range rows {
		if r.group != group {
			group = r.group
			y += 20
			c.Texts = append(c.Texts, text{"strong", 0, y, clip(group, 64)})
			y += 6
		}
		mid := y + rowHeight/2
		look := styles[r.name]
		c.Back = append(c.Back, path{look.class + " dot", look.marker(6, mid)})
		c.Texts = append(c.Texts, text{"", 16, mid + 4, clip(r.name, 17)}, text{"end value", chartWidth - 2, mid + 4, times(r.ratio)})
		if known(r.ratio) {
			m := barMark(bar{ratio: r.ratio, title: r.title}, x, mid)
			m.Class = look.class + " arm"
			c.Marks = append(c.Marks, m)
		}
		y += rowHeight
	}
	y += 4
	c.ratioAxis(x, 8, y, less, more)
	c.W, c.H = chartWidth, y+axisHeight
	return c
}
