package report

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// The drawings of the page: their scales, axes, marks and styles. A chart belongs to whoever makes
// it.

// A chart is an SVG drawing as the template writes it. Everything is a path or a text; colours,
// dashes and fonts belong to the style sheet.
type chart struct {
	Title   string // over the drawing
	Label   string // what it shows, for readers who do not see it
	Note    string // under it
	Missing string // why there is nothing to draw; "" if there is
	Legend  []key
	W, H    px
	Back    []path // bands, grid, axes
	Marks   []mark // the data
	Texts   []text
}

type path struct{ Class, D string }

// A mark is one datum, or one allocator's line, with the text that appears when the pointer is over
// it.
type mark struct {
	Class, Title string
	Paths        []path
}

type text struct {
	Class string
	X, Y  px
	S     string
}

// A key is an allocator's entry in a legend.
type key struct {
	Class, Name string
	Line        bool // with a piece of its line
	Marker      string
}

// px is a coordinate. A tenth of a pixel is finer than anything visible.
type px float64

func (p px) String() string {
	return strconv.FormatFloat(math.Round(float64(p)*10)/10+0, 'f', -1, 64) // + 0: no "-0"
}

func hline(x0, x1, y px) string { return fmt.Sprintf("M%v %vH%v", x0, y, x1) }
func vline(x, y0, y1 px) string { return fmt.Sprintf("M%v %vV%v", x, y0, y1) }

func box(x0, y0, x1, y1 px) string {
	return fmt.Sprintf("M%v %vH%vV%vH%vZ", x0, y0, x1, y1, x0)
}

// style distinguishes an allocator from the others, alike in every chart: the class gives colour
// and dashes, the shape the markers.
type style struct {
	class string
	shape int
}

const (
	colours = 10 // classes a0 to a9 of the style sheet
	shapes  = 7  // of marker; no common divisor with colours, so that 70 differ
)

// usual has the allocators that always look the same.
var usual = []string{"hakmem", "hakmem-heap", "mimalloc", "jemalloc", "gperftools", "glibc", "go", "pool", "modernc"}

// makeStyles gives the usual allocators their own style and the others the next ones.
func makeStyles(names []string) map[string]style {
	return stylesOf(slices.Concat(usual, slices.Sorted(slices.Values(names))))
}

// stylesOf gives each name the next style.
func stylesOf(names []string) map[string]style {
	styles := map[string]style{}
	for _, name := range names {
		if _, ok := styles[name]; !ok {
			n := len(styles)
			styles[name] = style{fmt.Sprintf("a%d", n%colours), n % shapes}
		}
	}
	return styles
}

// marker draws the style's marker around a point.
func (s style) marker(x, y px) string {
	const r = 4
	polygon := func(points ...[2]px) string {
		var b strings.Builder
		for i, p := range points {
			b.WriteByte("ML"[min(i, 1)])
			fmt.Fprintf(&b, "%v %v", x+p[0]*r, y+p[1]*r)
		}
		return b.String() + "Z"
	}
	switch s.shape {
	case 0: // disc
		return fmt.Sprintf("M%v %va%v %v 0 1 0 %v 0a%v %v 0 1 0 %v 0Z", x-r, y, px(r), px(r), px(2*r), px(r), px(r), px(-2*r))
	case 1: // square
		return polygon([2]px{-.9, -.9}, [2]px{.9, -.9}, [2]px{.9, .9}, [2]px{-.9, .9})
	case 2: // diamond
		return polygon([2]px{0, -1.25}, [2]px{1.25, 0}, [2]px{0, 1.25}, [2]px{-1.25, 0})
	case 3: // triangle
		return polygon([2]px{0, -1.1}, [2]px{1.15, .9}, [2]px{-1.15, .9})
	case 4: // triangle on its head
		return polygon([2]px{0, 1.1}, [2]px{1.15, -.9}, [2]px{-1.15, -.9})
	case 5: // upright cross
		return polygon([2]px{-.4, -1.2}, [2]px{.4, -1.2}, [2]px{.4, -.4}, [2]px{1.2, -.4}, [2]px{1.2, .4}, [2]px{.4, .4},
			[2]px{.4, 1.2}, [2]px{-.4, 1.2}, [2]px{-.4, .4}, [2]px{-1.2, .4}, [2]px{-1.2, -.4}, [2]px{-.4, -.4})
	default: // hourglass
		return polygon([2]px{-1, -1.1}, [2]px{1, -1.1}, [2]px{-1, 1.1}, [2]px{1, 1.1})
	}
}

// scale maps the values lo to hi onto the coordinates from to to. A value outside ends at the edge.
type scale struct {
	lo, hi   float64
	from, to px
	log      bool
}

func (s scale) at(v float64) px {
	lo, hi := s.lo, s.hi
	if s.log {
		lo, hi, v = math.Log(lo), math.Log(hi), math.Log(max(v, s.lo))
	}
	part := (v - lo) / (hi - lo)
	return s.from + px(min(max(part, 0), 1))*(s.to-s.from)
}

// logTicks returns round values within a log scale that lie at least gap pixels apart. 1 is among
// them if it is in the range.
func logTicks(s scale, gap px) []float64 {
	decade := math.Abs(float64(s.to-s.from)) / math.Log10(s.hi/s.lo) // pixels
	mantissas := [][]float64{
		{1, 1.1, 1.2, 1.3, 1.5, 1.7, 2, 2.5, 3, 4, 5, 6, 7, 8, 9},
		{1, 1.2, 1.5, 2, 3, 4, 5, 6, 8},
		{1, 1.5, 2, 3, 5, 7},
		{1, 2, 5},
		{1, 3},
		{1},
	}
	stride := 1
	set := mantissas[len(mantissas)-1]
	for _, m := range mantissas {
		narrowest := math.Log10(10 / m[len(m)-1])
		for i := range m[1:] {
			narrowest = min(narrowest, math.Log10(m[i+1]/m[i]))
		}
		if narrowest*decade >= float64(gap) {
			set = m
			break
		}
	}
	for float64(stride)*decade < float64(gap) {
		stride++
	}
	var ticks []float64
	for e := int(math.Floor(math.Log10(s.lo))); e <= int(math.Ceil(math.Log10(s.hi))); e++ {
		if e%stride != 0 {
			continue
		}
		for _, m := range set {
			// Parsed from its text, so that a tick is 0.1 and not 0.10000000000000002.
			v, _ := strconv.ParseFloat(fmt.Sprintf("%ge%d", m, e), 64)
			if v >= s.lo && v <= s.hi {
				ticks = append(ticks, v)
			}
		}
	}
	return ticks
}

// linearTicks returns about n round multiples of unit from 0 to hi.
func linearTicks(hi, unit float64, n int) []float64 {
	rough := hi / unit / float64(n)
	step := math.Pow(10, math.Floor(math.Log10(rough)))
	for _, m := range []float64{2, 5, 10} {
		if step < rough {
			step = math.Pow(10, math.Floor(math.Log10(rough))) * m
		}
	}
	var ticks []float64
	for i := 0; float64(i)*step*unit <= hi; i++ {
		ticks = append(ticks, float64(i)*step*unit)
	}
	return ticks
}

// Measures of all charts: narrow enough that texts stay legible on a phone.
const (
	chartWidth = 480
	rowHeight  = 22
	axisHeight = 40
)

// series is one allocator's line: points in the order of x.
type series struct {
	name   string
	points [][2]float64
	at     []float64 // the x of its markers
}

// placeMarkers gives each line its markers, in other places than the others', so that lines that coincide are
// visible.
func placeMarkers(all []series) {
	for i := range all {
		s := &all[i]
		first, last := s.points[0][0], s.points[len(s.points)-1][0]
		const markers = 6
		for m := range markers {
			part := (float64(m) + (float64(i)+.5)/float64(len(all))) / markers
			s.at = append(s.at, first+part*(last-first))
		}
	}
}

// axis is a scale with its ticks.
type axis struct {
	scale
	ticks []float64
	label func(float64) string
	title string
}

// Where the axes of a line chart lie.
const (
	lineLeft, lineRight = px(58), px(chartWidth - 24)
	lineTop, lineBottom = px(10), px(214)
)

// lines draws one line for each element of all. tell describes a point.
func (c *chart) lines(x, y axis, all []series, styles map[string]style, tell func(x, y float64) string) {
	c.W, c.H = chartWidth, lineBottom+axisHeight
	for _, v := range y.ticks {
		c.Back = append(c.Back, path{"grid", hline(lineLeft, lineRight, y.at(v))})
		c.Texts = append(c.Texts, text{"end", lineLeft - 6, y.at(v) + 4, y.label(v)})
	}
	for _, v := range x.ticks {
		c.Back = append(c.Back, path{"grid", vline(x.at(v), lineTop, lineBottom)})
		c.Texts = append(c.Texts, text{"middle", x.at(v), lineBottom + 16, x.label(v)})
	}
	c.Back = append(c.Back, path{"axis", hline(lineLeft, lineRight, lineBottom)})
	c.Texts = append(c.Texts, text{"end muted", lineRight, lineBottom + 34, x.title})
	for _, s := range all {
		look := styles[s.name]
		m := mark{Class: look.class, Title: s.name, Paths: []path{{"line", trace(x.scale, y.scale, s.points)}}}
		var places, told []string
		last := -1
		for _, at := range s.at {
			// The first point that is not before at. Rounding in the logarithm of a percentile must
			// not move it to the next.
			i, _ := slices.BinarySearchFunc(s.points, at-1e-6, func(p [2]float64, v float64) int { return cmp.Compare(p[0], v) })
			if i = min(i, len(s.points)-1); i == last {
				continue
			}
			last = i
			p := s.points[i]
			places = append(places, look.marker(x.at(p[0]), y.at(p[1])))
			told = append(told, tell(p[0], p[1]))
		}
		m.Paths = append(m.Paths, path{"dot", strings.Join(places, "")})
		m.Title += ": " + strings.Join(told, "; ")
		c.Marks = append(c.Marks, m)
		c.Legend = append(c.Legend, key{Class: look.class, Name: s.name, Line: true, Marker: look.marker(16, 7)})
	}
	// Drawn first, hakmem would lie under the others.
	slices.Reverse(c.Marks)
}

// trace is the path through the points. It leaves out points that would fall onto the one before,
// so that a curve of many thousand points stays small.
func trace(x, y scale, points [][2]float64) string {
	var b strings.Builder
	var px0, py0 px
	for i, p := range points {
		cx, cy := x.at(p[0]), y.at(p[1])
		if i > 0 && i < len(points)-1 && math.Abs(float64(cx-px0)) < .5 && math.Abs(float64(cy-py0)) < .5 {
			continue
		}
		b.WriteByte("ML"[min(i, 1)])
		fmt.Fprintf(&b, "%v %v", cx, cy)
		px0, py0 = cx, cy
	}
	return b.String()
}

// noise is how far ratios lie from 1 by chance alone, as factors above 1.
type noise struct{ floor, spread float64 }

// within reports whether a ratio may be chance.
func (n noise) within(ratio float64) bool {
	return n.floor > 1 && ratio < n.floor && ratio > 1/n.floor
}

// band draws the noise around 1.0: the spread of runs, and the floor on top of it.
func (c *chart) band(x scale, n noise, y0, y1 px) {
	if n.spread > 1 {
		c.Back = append(c.Back, path{"spread", box(x.at(1/n.spread), y0, x.at(n.spread), y1)})
	}
	if n.floor > 1 {
		c.Back = append(c.Back, path{"floor", box(x.at(1/n.floor), y0, x.at(n.floor), y1)})
	}
}

// ratioScale spans the ratios, and always a bit on both sides of 1.
func ratioScale(ratios []float64, from, to px) scale {
	lo, hi := 0.8, 1.25
	for _, r := range ratios {
		if known(r) {
			lo, hi = min(lo, r/1.08), max(hi, r*1.08)
		}
	}
	return scale{lo: lo, hi: hi, from: from, to: to, log: true}
}

// ratioAxis draws the ticks under the rows and the line at 1.0 through them, and labels the two
// sides of that line.
func (c *chart) ratioAxis(x scale, top, bottom px, worse, better string) {
	for _, v := range logTicks(x, 34) {
		class := "grid"
		if v == 1 {
			class = "one"
		}
		c.Back = append(c.Back, path{class, vline(x.at(v), top, bottom)})
		c.Texts = append(c.Texts, text{"middle", x.at(v), bottom + 16, strconv.FormatFloat(v, 'g', -1, 64) + "×"})
	}
	c.Texts = append(c.Texts,
		text{"muted", x.from, bottom + 34, "← " + worse},
		text{"end muted", x.to, bottom + 34, better + " →"})
}

// bar is one row of a chart of ratios.
type bar struct {
	group, name string
	ratio       float64
	low, high   float64 // in the worst and in the best placement; equal if there is only one
	second      float64 // a ratio of another kind, given as a number only
	unclear     bool    // it may be chance
	title       string
}

// Where the rows of charts of ratios lie.
const (
	barLeft, barRight       = px(104), px(chartWidth - 112)
	firstColumn, lastColumn = px(chartWidth - 58), px(chartWidth - 2)
)

// bars draws ratios as bars from the 1.0 line, under a heading for each group.
func (c *chart) bars(rows []bar, styles map[string]style, n noise, columns [2]string, worse, better string) {
	var all []float64
	for _, r := range rows {
		all = append(all, r.ratio, r.low, r.high)
	}
	x := ratioScale(all, barLeft, barRight)
	y := px(14)
	c.Texts = append(c.Texts, text{"end muted", firstColumn, y, columns[0]}, text{"end muted", lastColumn, y, columns[1]})
	group := ""
	for _, r := range rows {
		if r.group != group {
			group = r.group
			if y > 14 {
				y += 20
			}
			c.Texts = append(c.Texts, text{"strong", 0, y, clip("over "+group, 34)})
			y += 8
		}
		mid := y + rowHeight/2
		look := styles[r.name]
		c.Back = append(c.Back, path{look.class + " dot", look.marker(6, mid)})
		c.Texts = append(c.Texts,
			text{"", 16, mid + 4, clip(r.name, 13)},
			text{"end value", firstColumn, mid + 4, times(r.ratio)},
			text{"end muted", lastColumn, mid + 4, times(r.second)})
		if known(r.ratio) {
			c.Marks = append(c.Marks, barMark(r, x, mid))
		}
		y += rowHeight
	}
	y += 4
	c.band(x, n, 20, y)
	c.ratioAxis(x, 20, y, worse, better)
	c.W, c.H = chartWidth, y+axisHeight
}

func barMark(r bar, x scale, mid px) mark {
	class := "faster"
	if r.ratio < 1 {
		class = "slower"
	}
	if r.unclear {
		class += " unclear"
	}
	const half = 6
	from, to := x.at(min(r.ratio, 1)), x.at(max(r.ratio, 1))
	if to-from < 2 { // a ratio of 1 has to be visible, too
		from, to = from-1, from+1
	}
	m := mark{Class: class, Title: r.title, Paths: []path{{"bar", box(from, mid-half, to, mid+half)}}}
	if known(r.low) && known(r.high) && r.low != r.high {
		whisker := hline(x.at(r.low), x.at(r.high), mid) + vline(x.at(r.low), mid-3, mid+3) + vline(x.at(r.high), mid-3, mid+3)
		m.Paths = append(m.Paths, path{"whisker", whisker})
	}
	return m
}

// overviewRow is a workload over one interface of hakmem's, with one mark for each peer.
type overviewRow struct {
	workload, hakmem string
	noise            noise
	marks            []bar
}

// overview draws a row of marks for each element of rows, under their workloads' names.
func (c *chart) overview(rows []overviewRow, styles map[string]style, worse, better string) {
	var all []float64
	names := map[string]bool{}
	for _, r := range rows {
		for _, m := range r.marks {
			all = append(all, m.ratio)
			names[m.name] = names[m.name] || known(m.ratio)
		}
	}
	const left, right, top = px(92), px(chartWidth - 20), px(4)
	x := ratioScale(all, left, right)
	y := top
	workload := ""
	for _, r := range rows {
		if r.workload != workload {
			workload = r.workload
			y += 17
			c.Texts = append(c.Texts, text{"strong", 0, y, clip(workload, 64)})
			y += 4
		}
		mid := y + rowHeight/2 - 1
		c.band(x, r.noise, mid-9, mid+9)
		c.Back = append(c.Back, path{"row", hline(left, right, mid)})
		c.Texts = append(c.Texts, text{"muted", 0, mid + 4, clip(r.hakmem, 14)})
		drawn := len(c.Marks)
		for _, m := range r.marks {
			if known(m.ratio) {
				look := styles[m.name]
				c.Marks = append(c.Marks, mark{look.class, m.title, []path{{"dot", look.marker(x.at(m.ratio), mid)}}})
			}
		}
		if drawn == len(c.Marks) {
			c.Texts = append(c.Texts, text{"end muted", right, mid + 4, "not known"})
		}
		y += rowHeight
	}
	y += 4
	c.ratioAxis(x, top+4, y, worse, better)
	c.W, c.H = chartWidth, y+axisHeight
	for name, drawn := range names {
		if drawn {
			c.Legend = append(c.Legend, key{Class: styles[name].class, Name: name, Marker: styles[name].marker(7, 7)})
		}
	}
	order := func(name string) int {
		if i := slices.Index(usual, name); i >= 0 {
			return i
		}
		return len(usual)
	}
	slices.SortFunc(c.Legend, func(a, b key) int {
		return cmp.Or(cmp.Compare(order(a.Name), order(b.Name)), cmp.Compare(a.Name, b.Name))
	})
}

// clip shortens a text that would run into its neighbour; the tables have it in full.
func clip(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}
