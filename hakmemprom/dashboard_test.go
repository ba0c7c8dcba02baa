package hakmemprom

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/export"
)

// dashboard is what the test reads of dashboard.json.
type dashboard struct {
	Templating struct {
		List []struct{ Name, Type, Query string }
	}
	Panels []panel
}

type panel struct {
	ID          int
	Type, Title string
	GridPos     struct{ X, Y, W, H int }
	Targets     []target
	Description string
	Datasource  struct{ UID string }
}

type target struct{ Expr, LegendFormat string }

// targetLabels are the labels that Prometheus itself gives to the metrics of a target.
var targetLabels = []string{"job", "instance"}

var (
	metricPattern = regexp.MustCompile(`hakmem_[a-zA-Z0-9_]+`)
	selector      = regexp.MustCompile(`(hakmem_[a-zA-Z0-9_]+)(\{[^}]*\})?(\[[^\]]*\])?`)
	matcher       = regexp.MustCompile(`([a-zA-Z_]+)(=~|!~|!=|=)"`)
	grouping      = regexp.MustCompile(`\b(?:by|without|on|ignoring) *\(([^)]*)\)`)
	legendLabel   = regexp.MustCompile(`\{\{ *([a-zA-Z_]+) *\}\}`)
	ratePattern   = regexp.MustCompile(`\b(?:rate|increase)\($`)
)

// wrong returns what an expression and its legend say of metrics that is not so.
func (target target) wrong() (problems []string) {
	bad := func(what ...string) { problems = append(problems, strings.Join(what, " ")) }
	figures := map[string]hakmem.Figure{}
	for _, f := range export.Names() {
		figures[prefix+f.Name] = f
	}
	all := slices.Clone(targetLabels) // labels that any metric of the expression has
	found := 0
	for _, m := range selector.FindAllStringSubmatchIndex(target.Expr, -1) {
		part := func(i int) string { return target.Expr[max(m[i], 0):max(m[i+1], 0)] }
		name, matchers, window := part(2), part(4), part(6)
		f, known := figures[name]
		found++
		if !known {
			bad("there is no metric", name)
			continue
		}
		own := slices.Clone(targetLabels)
		for _, l := range f.Labels {
			own = append(own, l.Name)
		}
		all = append(all, own...)
		for _, x := range matcher.FindAllStringSubmatch(matchers, -1) {
			if !slices.Contains(own, x[1]) {
				bad(name, "has no label", x[1])
			}
		}
		if rate := ratePattern.MatchString(target.Expr[:m[0]]); rate != (window != "") || rate && f.Kind != hakmem.Counter {
			bad(name, "is a", f.Kind, "and rates are of counters over a window")
		}
	}
	if found == 0 {
		bad("there is no metric in it")
	}
	for _, x := range grouping.FindAllStringSubmatch(target.Expr, -1) {
		for l := range strings.SplitSeq(x[1], ",") {
			if !slices.Contains(all, strings.TrimSpace(l)) {
				bad("no metric has the label", l)
			}
		}
	}
	for _, x := range legendLabel.FindAllStringSubmatch(target.LegendFormat, -1) {
		if !slices.Contains(all, x[1]) || !regexp.MustCompile(`\bby *\([^)]*\b`+x[1]+`\b`).MatchString(target.Expr) {
			bad("the legend has a label that the result has not:", x[1])
		}
	}
	if strings.Count(target.Expr, "(") != strings.Count(target.Expr, ")") {
		bad("a bracket is open")
	}
	return problems
}

// TestDashboard: each expression of the dashboard is about metrics and labels that a collector has, and the
// panels lie next to each other.
func TestDashboard(t *testing.T) {
	text, err := os.ReadFile("dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	ids, cells, used := map[int]bool{}, map[[2]int]string{}, map[string]bool{}
	for _, p := range d.Panels {
		if ids[p.ID] || p.Title == "" {
			t.Errorf("panel %d %q: its number is taken, or it has no title", p.ID, p.Title)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if cells[[2]int{x, y}] != "" || x >= 24 { // a row of Grafana has 24 cells
					t.Fatalf("%q lies over %q, or beyond the edge", p.Title, cells[[2]int{x, y}])
				}
				cells[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if len(p.Targets) == 0 || p.Datasource.UID != "${datasource}" || p.Description == "" {
			t.Errorf("%q has no expression, no description, or another data source: %q", p.Title, p.Datasource.UID)
		}
		for _, x := range p.Targets {
			for _, problem := range x.wrong() {
				t.Errorf("%q: %s: %s", p.Title, x.Expr, problem)
			}
			for _, name := range metricPattern.FindAllString(x.Expr, -1) {
				used[name] = true
			}
		}
	}
	variables := 0
	for _, v := range d.Templating.List {
		if v.Type != "query" {
			continue
		}
		variables++
		for _, problem := range (target{Expr: v.Query}).wrong() {
			t.Errorf("variable %s: %s: %s", v.Name, v.Query, problem)
		}
	}
	if variables != len(targetLabels) {
		t.Errorf("%d variables, want one for each of %q", variables, targetLabels)
	}
	// What resident memory consists of, or the panel's sum would be too small.
	for _, f := range export.Names() {
		if strings.HasPrefix(f.Name, "resident_") && f.Name != "resident_bytes" && !used[prefix+f.Name] {
			t.Errorf("no panel has %s", prefix+f.Name)
		}
	}
}

// TestDashboardFinds shows what TestDashboard finds.
func TestDashboardFinds(t *testing.T) {
	for _, x := range []struct{ expr, legend, want string }{
		{`sum(hakmem_live_bytes{job=~"$job"})`, "live", ""},
		{`sum by (site) (hakmem_site_live_bytes)`, "{{site}}", ""},
		{`sum(rate(hakmem_returned_bytes_total[5m]))`, "", ""},
		{`hakmem_soft_limit_bytes > 0`, "", ""},
		{`sum(hakmem_alive_bytes)`, "", "no metric hakmem_alive_bytes"},
		{`sum(up)`, "", "no metric in it"},
		{`sum(hakmem_live_bytes{site="a"})`, "", "has no label site"},
		{`sum by (site) (hakmem_live_bytes)`, "", "no metric has the label site"},
		{`sum(hakmem_site_live_bytes)`, "{{site}}", "the legend has a label"},
		{`rate(hakmem_live_bytes[5m])`, "", "rates are of counters"},
		{`rate(hakmem_returned_bytes_total)`, "", "rates are of counters"},
		{`hakmem_returned_bytes_total[5m]`, "", "rates are of counters"},
		{`sum(hakmem_live_bytes`, "", "a bracket is open"},
	} {
		got := strings.Join(target{x.expr, x.legend}.wrong(), "; ")
		if (got == "") != (x.want == "") || !strings.Contains(got, x.want) {
			t.Errorf("%s, %q: %q, want %q", x.expr, x.legend, got, x.want)
		}
	}
}
