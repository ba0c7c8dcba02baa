package report

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/hakmem/hakmem/bench/result"
)

// render is the page about sources.
func render(t *testing.T, sources []Source) string {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, sources); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

var chartTag = regexp.MustCompile(`(?s)<svg class="chart".*?</svg>`)

// countMarks checks that a chart is XML with all coordinates in its viewBox, and returns the number
// of marks.
func countMarks(t *testing.T, svg string) int {
	t.Helper()
	marks := 0
	var w, h float64
	inside := func(x, y float64) {
		if !(x >= 0 && x <= w && y >= 0 && y <= h) {
			t.Errorf("(%v, %v) is outside of the %v x %v viewBox of\n%.200s", x, y, w, h, svg)
		}
	}
	d := xml.NewDecoder(strings.NewReader(svg))
	for {
		token, err := d.Token()
		if err == io.EOF {
			return marks
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, svg)
		}
		e, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		attr := map[string]string{}
		for _, a := range e.Attr {
			attr[a.Name.Local] = a.Value
		}
		switch e.Name.Local {
		case "svg":
			if _, err := fmt.Sscanf(attr["viewBox"], "0 0 %g %g", &w, &h); err != nil || w <= 0 || h <= 0 {
				t.Errorf("viewBox %q: %v", attr["viewBox"], err)
			}
			if attr["role"] != "img" || attr["aria-label"] == "" {
				t.Errorf("role %q, aria-label %q: want an image with a label", attr["role"], attr["aria-label"])
			}
		case "g":
			if slices.Contains(strings.Fields(attr["class"]), "mark") {
				marks++
			}
		case "path":
			checkPath(t, attr["d"], inside)
		case "text":
			inside(number(t, attr["x"]), number(t, attr["y"]))
		}
	}
}

func number(t *testing.T, s string) float64 {
	t.Helper()
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
		t.Errorf("coordinate %q is not a finite number", s)
	}
	return v
}

var pathCommand = regexp.MustCompile(`([A-Za-z])([^A-Za-z]*)`)

// checkPath passes the points that a path goes through to inside.
func checkPath(t *testing.T, d string, inside func(x, y float64)) {
	t.Helper()
	if pathCommand.ReplaceAllString(d, "") != "" || strings.Contains(d, "NaN") || strings.Contains(d, "Inf") {
		t.Errorf("path %q has more than commands and numbers", d)
	}
	var x, y float64
	for _, m := range pathCommand.FindAllStringSubmatch(d, -1) {
		var v []float64
		for _, f := range strings.Fields(m[2]) {
			v = append(v, number(t, f))
		}
		switch command := m[1]; {
		case (command == "M" || command == "L") && len(v) == 2:
			x, y = v[0], v[1]
		case command == "H" && len(v) == 1:
			x = v[0]
		case command == "V" && len(v) == 1:
			y = v[0]
		case command == "a" && len(v) == 7:
			x, y = x+v[5], y+v[6]
		case command == "Z" && len(v) == 0:
		default:
			t.Errorf("path %q: command %s with %d numbers", d, command, len(v))
		}
		inside(x, y)
	}
}

// Every datum has its mark: a known ratio has one in the overview and one in its workload, a curve
// has one in its chart.
func TestMarks(t *testing.T) {
	for _, test := range []struct {
		file                   string
		charts, marks, missing int
	}{
		// 24 pairs with ratios of time and memory; 20 results with both curves.
		{"collection.json", 2 + 4*4, 2*(24+24) + 2*20, 0},
		{"single.json", 2 + 4, 2*(8+8) + 2*6, 0},
		// No curves; of three peers one has no time and one no memory.
		{"old.json", 2 + 2, 2 * (2 + 2), 2},
		// 3 ratios of time, 1 of memory; 4 curves of memory, 3 of latency.
		{"edges.json", 2 + 3 + 0 + 4, 2*(3+1) + 4 + 3, 1 + 4},
	} {
		page := render(t, load(t, test.file))
		charts := chartTag.FindAllString(page, -1)
		marks := 0
		for _, svg := range charts {
			n := countMarks(t, svg)
			if n == 0 {
				t.Errorf("%s: a chart without a mark:\n%s", test.file, svg)
			}
			marks += n
		}
		missing := strings.Count(page, `<p class="missing">`)
		if len(charts) != test.charts || marks != test.marks || missing != test.missing {
			t.Errorf("%s: %d charts with %d marks, %d missing; want %+v", test.file, len(charts), marks, missing, test)
		}
	}
}

// Bars are as long as the logarithm of their ratio. They lie to the right of the 1.0 line for a
// ratio above 1 and to its left for one below, and have two colours.
func TestBars(t *testing.T) {
	ratios := []float64{100, 10, 0.1, 0.01}
	var rows []bar
	for _, r := range ratios {
		rows = append(rows, bar{group: "hakmem", name: "glibc", ratio: r})
	}
	var c chart
	c.bars(rows, makeStyles(nil), noise{floor: 1.05, spread: 1.2}, [2]string{}, "", "")
	var one float64
	for _, p := range c.Back {
		if p.Class == "one" {
			one = extent(t, p.D)[0]
		}
	}
	var decade float64
	for i, m := range c.Marks {
		x := extent(t, m.Paths[0].D)
		start, end, class := x[0], x[1], "faster"
		if ratios[i] < 1 {
			start, end, class = x[1], x[0], "slower"
		}
		if i == 0 {
			decade = (end - one) / 2
		}
		if want := one + decade*math.Log10(ratios[i]); decade < 30 || math.Abs(start-one) > .2 || math.Abs(end-want) > .2 || m.Class != class {
			t.Errorf("%v×: a %s bar from %v to %v; want %s, from %v to %v", ratios[i], m.Class, start, end, class, one, want)
		}
	}
	var floor, spread []float64
	for _, p := range c.Back {
		switch p.Class {
		case "floor":
			floor = extent(t, p.D)
		case "spread":
			spread = extent(t, p.D)
		}
	}
	if floor == nil || spread == nil || !(spread[0] < floor[0] && floor[0] < one && one < floor[1] && floor[1] < spread[1]) {
		t.Errorf("the noise floor is %v and the spread %v; want both around %v, the spread wider", floor, spread, one)
	}
}

// extent is the smallest and the largest x of a path.
func extent(t *testing.T, d string) []float64 {
	t.Helper()
	lo, hi := math.Inf(1), math.Inf(-1)
	checkPath(t, d, func(x, _ float64) { lo, hi = min(lo, x), max(hi, x) })
	return []float64{lo, hi}
}

func TestMissing(t *testing.T) {
	of := func(name string) result.Result { return result.Result{Allocator: name, NsPerOp: 1} }
	for _, test := range []struct {
		name    string
		results []result.Result
		want    []string
	}{
		{"no peer", []result.Result{of("hakmem")}, []string{"No ratios: no peer was measured."}},
		{"no hakmem", []result.Result{of("glibc")}, []string{"No ratios: hakmem was not measured."}},
		{"no memory", []result.Result{of("hakmem"), of("glibc")}, []string{"No ratios: peak memory over idle is not known."}},
		{"no time", []result.Result{{Allocator: "hakmem"}, of("glibc")}, []string{"No ratios: no time is known."}},
		{"nothing", nil, []string{"No curves: resident memory was not sampled.", "No curves: no latency was sampled."}},
	} {
		r := result.Report{Workload: "w", Results: test.results}
		r.Complete()
		page := render(t, []Source{{Collection: result.Collection{Reports: []result.Report{r}}}})
		for _, want := range test.want {
			if !strings.Contains(page, `<p class="missing">`+want) {
				t.Errorf("%s: the page does not say %q", test.name, want)
			}
		}
	}
}

// Any figures that JSON can hold give a page whose charts are in order.
func TestAnyFigures(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	any := func() float64 {
		switch v := math.Pow(10, rnd.Float64()*60-30); rnd.IntN(10) {
		case 0:
			return 0
		case 1:
			return -v
		case 2:
			return math.MaxFloat64
		case 3:
			return math.SmallestNonzeroFloat64
		default:
			return v
		}
	}
	curve := func() (c [][2]float64) {
		for range rnd.IntN(5) {
			c = append(c, [2]float64{any(), any()}, [2]float64{100 * rnd.Float64(), any()})
		}
		return c
	}
	for range 200 {
		later, calls := rnd.Int64()-rnd.Int64(), rnd.Uint64()
		r := result.Report{Workload: "w", Noise: &result.Noise{Ratio: any(), Spread: any()}}
		for _, name := range []string{"hakmem", "hakmem-heap", "glibc", "other"} {
			r.Results = append(r.Results, result.Result{Allocator: name, NsPerOp: any(), Low: any(), High: any(), Confidence: any(),
				NetNsPerOp: any(), OverIdle: rnd.Uint64() >> rnd.IntN(64), RSSSeconds: any(), LaterRSS: &later, Later: any(),
				MemoryCalls: &calls, Curve: curve(),
				Latency: &result.Latency{Samples: rnd.Uint64() >> rnd.IntN(64), P50: any(), P99: any(), Curve: curve()}})
		}
		r.Ratios = []result.Ratio{{Hakmem: "hakmem", Peer: "glibc", Raw: any(), Net: any(), Low: any(), High: any(), P: any(), Memory: any()}}
		r.Complete()
		for _, svg := range chartTag.FindAllString(render(t, []Source{{Collection: result.Collection{Seconds: any(), Reports: []result.Report{r}}}}), -1) {
			countMarks(t, svg)
		}
		if t.Failed() {
			t.Fatalf("%+v", r)
		}
	}
}

// The page needs nothing from elsewhere, and texts from the results stay text.
func TestSelfContained(t *testing.T) {
	page := render(t, load(t, "collection.json", "single.json", "old.json", "edges.json"))
	page = strings.ReplaceAll(page, `xmlns="http://www.w3.org/2000/svg"`, "") // a name, not an address
	for _, bad := range []string{"<script", "<img", "<link", "<iframe", "<i>", "<u>", "<b>", "@import", "url(", "http:", "https:", "ZgotmplZ"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page contains %q", bad)
		}
	}
	if m := regexp.MustCompile(`<[^>]*\s(src|srcset|style|on\w+)=`).FindString(page); m != "" {
		t.Errorf("the page contains %q", m)
	}
	for _, want := range []string{"&lt;script&gt;alert(1)&lt;/script&gt;", "&lt;/td&gt;&lt;script&gt;alert(3)", "absent: the dynamic linker does not find libtcmalloc_minimal.so.4"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not contain %q", want)
		}
	}
}

func TestLabels(t *testing.T) {
	report := func(workload string, params ...any) result.Report {
		r := result.Report{Workload: workload, Params: map[string]any{}}
		for i := 0; i < len(params); i += 2 {
			r.Params[params[i].(string)] = params[i+1]
		}
		return r
	}
	one := result.Collection{Reports: []result.Report{
		report("hot", "threads", 1),
		report("mixed", "threads", 1, "ws", 400, "runs", 5),
		report("mixed", "threads", 4, "ws", 400, "runs", 7),
		report("mixed", "threads", 4, "ws", 400, "runs", 9),
	}}
	got := makeLabels([]Source{{Name: "a.json", Collection: one}})
	if want := []string{"hot", "mixed threads=1", "mixed threads=4", "mixed threads=4 #2"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	got = makeLabels([]Source{{Name: "a.json", Collection: one}, {Name: "b.json", Collection: result.Collection{Reports: one.Reports[:1]}}})
	if want := []string{"hot (a.json)", "mixed threads=1", "mixed threads=4 (a.json)", "mixed threads=4 (a.json) #2", "hot (b.json)"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestLowest(t *testing.T) {
	var all []ranked
	for i := range 20 {
		all = append(all, ranked{float64(20 - i), worstRow{Peer: strconv.Itoa(20 - i)}})
	}
	rows := lowest(append(all, ranked{ratio: 0}, ranked{ratio: -1}))
	if len(rows) != worstShown || rows[0].Peer != "1" || rows[9].Peer != "10" {
		t.Errorf("%+v; want 1 to 10", rows)
	}
}

// Colours stand out from the page's, in light and in dark: text by 4.5 to 1, marks by 3 to 1 (WCAG
// 2, 1.4.3 and 1.4.11).
func TestContrast(t *testing.T) {
	variable := regexp.MustCompile(`--(\w+): #([0-9a-f]{3,6})\b`)
	text, err := templateFiles.ReadFile("parts.html.tmpl")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile(`(?s):root \{.*?\}`).FindAllString(string(text), -1)
	if len(blocks) != 2 {
		t.Fatalf("%d blocks of colours, want light and dark", len(blocks))
	}
	for i, block := range blocks {
		colour := map[string]float64{}
		for _, m := range variable.FindAllStringSubmatch(block, -1) {
			colour[m[1]] = luminance(t, m[2])
		}
		least := map[string]float64{"ink": 4.5, "muted": 4.5, "link": 4.5, "faster": 3, "slower": 3}
		for n := range colours {
			least[fmt.Sprintf("c%d", n)] = 3
		}
		for name, want := range least {
			l, ok := colour[name]
			a, b := max(l, colour["paper"]), min(l, colour["paper"])
			if ratio := (a + .05) / (b + .05); !ok || ratio < want {
				t.Errorf("block %d: --%s has contrast %.2f, want %v", i+1, name, ratio, want)
			}
		}
	}
}

// luminance is WCAG's relative luminance of a colour.
func luminance(t *testing.T, hex string) float64 {
	t.Helper()
	if len(hex) == 3 {
		hex = strings.Join([]string{hex[:1], hex[:1], hex[1:2], hex[1:2], hex[2:], hex[2:]}, "")
	}
	rgb, err := strconv.ParseUint(hex, 16, 32)
	if err != nil {
		t.Fatal(err)
	}
	linear := func(c uint64) float64 {
		v := float64(c&255) / 255
		if v <= 0.04045 {
			return v / 12.92
		}
		return math.Pow((v+0.055)/1.055, 2.4)
	}
	return 0.2126*linear(rgb>>16) + 0.7152*linear(rgb>>8) + 0.0722*linear(rgb)
}

// TestUnclear: a ratio is shown as clear only where chance is unlikely.
func TestUnclear(t *testing.T) {
	for _, c := range []struct {
		runs int
		p    float64
		aa   float64 // the ratio of the program over itself
		want string  // "": it is clear
	}{
		{5, 0.008, 1.01, ""},
		{5, 0.008, 0, ""},
		{5, 0.3, 1.01, "p = 0.30: may be chance"},
		{5, 0.008, 1.3, "within the noise"},
		{3, 0.1, 0, "too few runs"},
		{3, 0.1, 1.3, "within the noise"},
		{3, 0.1, 1.01, ""},
		{0, 0, 0, "too few runs"},
	} {
		runs := make([]result.Run, c.runs)
		r := &result.Report{Results: []result.Result{{Allocator: "hakmem", Runs: runs}, {Allocator: "go", Runs: runs}}}
		if c.aa > 0 {
			r.Noise = &result.Noise{Ratio: c.aa}
		}
		b := timeOf(r, result.Ratio{Hakmem: "hakmem", Peer: "go", Raw: 1.2, P: c.p})
		if b.unclear != (c.want != "") || !strings.Contains(b.title, c.want) || c.want == "" && strings.Contains(b.title, ";") {
			t.Errorf("%+v: unclear %t, %q", c, b.unclear, b.title)
		}
	}
}
