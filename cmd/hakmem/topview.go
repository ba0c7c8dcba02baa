package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/hakmem/hakmem/internal/export"
)

// What a piece of text is, which decides on its colour.
type paint int

const (
	paintPlain paint = iota
	paintTitle
	paintSoft
	paintGood
	paintBad
	paintUsed
	paintLarge
	paintCached
	paintWarm
	paintTables
)

// The colours are those of the terminal's own palette, so that they fit a dark one and a light one.
var styles = map[paint]lipgloss.Style{
	paintTitle:  lipgloss.NewStyle().Bold(true),
	paintSoft:   lipgloss.NewStyle().Faint(true),
	paintGood:   lipgloss.NewStyle().Foreground(lipgloss.Green),
	paintBad:    lipgloss.NewStyle().Foreground(lipgloss.Red),
	paintUsed:   lipgloss.NewStyle().Foreground(lipgloss.Blue),
	paintLarge:  lipgloss.NewStyle().Foreground(lipgloss.Cyan),
	paintCached: lipgloss.NewStyle().Foreground(lipgloss.Magenta),
	paintWarm:   lipgloss.NewStyle().Foreground(lipgloss.Yellow),
	paintTables: lipgloss.NewStyle().Foreground(lipgloss.BrightBlack),
}

// painter gives a text its colour.
type painter func(text string, p paint) string

func colors(text string, p paint) string {
	if style, ok := styles[p]; ok {
		return style.Render(text)
	}
	return text
}

func plainPaint(text string, _ paint) string { return text }

// safe returns a text from another program without what a terminal would take as a command.
func safe(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, text)
}

// The widths of a row's parts, in columns: its name, its value, and the little bars between them.
const (
	nameColumns  = 24
	valueColumns = 12
	leastTrail   = 8 // with fewer columns there are no little bars
)

// inUnits writes a number of bytes in at most nine columns.
func inUnits(n float64) string {
	unit := 0
	for ; n >= 1000 && unit < len(byteUnits)-1; unit++ {
		n /= 1024
	}
	if unit == 0 {
		return fmt.Sprintf("%.0f B", n)
	}
	return fmt.Sprintf("%.*f %s", decimals(n), n, byteUnits[unit])
}

var byteUnits = [...]string{"B", "KiB", "MiB", "GiB", "TiB"}

// decimals is how many digits behind the point make three or four in all.
func decimals(n float64) int {
	switch {
	case n < 10:
		return 2
	case n < 100:
		return 1
	}
	return 0
}

func aSecond(n float64) string { return inUnits(n) + "/s" }

func times(n float64) string {
	switch {
	case n >= 1e6:
		return fmt.Sprintf("%.*f M/s", decimals(n/1e6), n/1e6)
	case n >= 1e4:
		return fmt.Sprintf("%.*f k/s", decimals(n/1e3), n/1e3)
	}
	return fmt.Sprintf("%.0f/s", n)
}

// topView writes the page for one width.
type topView struct {
	samples []export.Sample // the oldest first; at least one
	width   int
	paint   painter
	lines   []string
}

// topText returns the lines of the page. None is wider than width.
func topText(samples []export.Sample, width int, paint painter) []string {
	v := &topView{samples: samples, width: width, paint: paint}
	v.resident()
	v.freed()
	v.slowPaths()
	v.region()
	v.classes()
	v.sites()
	v.title("What hakmem has decided, and why", "")
	for line := range strings.Lines(v.last().Words) {
		for _, piece := range strings.Split(ansi.Wrap(safe(strings.TrimRight(line, "\n")), v.width, ""), "\n") {
			v.line(piece)
		}
	}
	return v.lines
}

func (v *topView) last() *export.Sample { return &v.samples[len(v.samples)-1] }

func (v *topView) figure(name string) float64 { return v.last().Figures.Plain[name] }

func (v *topView) line(text string) {
	v.lines = append(v.lines, ansi.Truncate(strings.TrimRight(text, " "), v.width, "…"))
}

// title begins a part of the page.
func (v *topView) title(name, how string) {
	if len(v.lines) > 0 {
		v.line("")
	}
	v.line(v.paint(name, paintTitle))
	if how != "" {
		for _, piece := range strings.Split(ansi.Wrap(how, v.width, ""), "\n") {
			v.line(v.paint(piece, paintSoft))
		}
	}
}

// row writes a mark, a name, little bars and a value. middle gets the columns that are left for the bars.
func (v *topView) row(mark, name string, p paint, value string, middle func(columns int) string) {
	names := min(nameColumns, max(v.width-valueColumns-2, 4))
	name = ansi.Truncate(name, names, "…")
	line := v.paint(mark, p) + " " + name + strings.Repeat(" ", names-ansi.StringWidth(name))
	if room := v.width - 2 - names - valueColumns - 2; room >= leastTrail {
		bar := middle(room)
		line += " " + bar + strings.Repeat(" ", room-ansi.StringWidth(bar)+1)
	}
	v.line(line + fmt.Sprintf("%*s", valueColumns, value))
}

// trail draws values over time as little bars, the newest at the right.
func (v *topView) trail(value func(s, before *export.Sample) float64, p paint) func(int) string {
	return func(columns int) string {
		var values []float64
		most := 0.0
		for i := max(1, len(v.samples)-columns); i < len(v.samples); i++ {
			n := value(&v.samples[i], &v.samples[i-1])
			values, most = append(values, n), max(most, n)
		}
		var b strings.Builder
		for _, n := range values {
			b.WriteRune(level(n, most))
		}
		return strings.Repeat(" ", columns-len(values)) + v.paint(b.String(), p)
	}
}

var levels = []rune("▁▂▃▄▅▆▇█")

// level is the little bar for n of most.
func level(n, most float64) rune {
	if n <= 0 || most <= 0 {
		return levels[0]
	}
	return levels[min(int(n/most*float64(len(levels))), len(levels)-1)]
}

// share draws a bar of so much of the columns.
func (v *topView) share(n, of float64, p paint) func(int) string {
	return func(columns int) string {
		return v.paint(strings.Repeat("█", filled(n, of, columns)), p)
	}
}

// filled is how many of the columns n of a whole takes: at least one if there is anything.
func filled(n, of float64, columns int) int {
	if n <= 0 || of <= 0 {
		return 0
	}
	return min(max(int(n/of*float64(columns)+0.5), 1), columns)
}

// kind is a kind of memory, as a row. Its mark tells it apart in a bar where there are no colours.
type kind struct {
	mark    string
	name    string
	p       paint
	figures []string // added up
}

func (k kind) in(s *export.Sample) (n float64) {
	for _, f := range k.figures {
		n += s.Figures.Plain[f]
	}
	return n
}

var residentKinds = []kind{
	{"█", "slabs, up to 32 KiB", paintUsed, []string{"resident_slab_bytes"}},
	{"▓", "live large blocks", paintLarge, []string{"resident_large_live_bytes"}},
	{"▒", "cached large blocks", paintCached, []string{"resident_large_cached_bytes"}},
	{"░", "free pages", paintWarm, []string{"resident_free_bytes"}},
	{"▪", "tables, guarded blocks", paintTables, []string{"resident_table_bytes", "resident_guarded_bytes"}},
}

// Where the system does not say what is resident.
var countedKinds = []kind{
	{"█", "slabs and large blocks", paintUsed, []string{"used_bytes"}},
	{"░", "free pages", paintWarm, []string{"dirty_bytes"}},
}

// resident writes where the memory is.
func (v *topView) resident() {
	kinds, whole, how := residentKinds, kind{"", "resident", paintPlain, []string{"resident_bytes"}}, "What the operating system counts as resident because of hakmem, and what for."
	if !slices.ContainsFunc(kinds, func(k kind) bool { return k.in(v.last()) > 0 }) {
		kinds, whole, how = countedKinds, kind{"", "counted", paintPlain, []string{"counted_bytes"}}, "This system does not say what is resident: the most that may be, by hakmem's own count."
	}
	v.title("Memory", how)
	all := whole.in(v.last())
	bar, left := "", v.width
	for _, k := range kinds {
		n := min(filled(k.in(v.last()), all, v.width), left)
		bar += v.paint(strings.Repeat(k.mark, n), k.p)
		left -= n
	}
	v.line(bar)
	of := func(k kind) func(s, _ *export.Sample) float64 {
		return func(s, _ *export.Sample) float64 { return k.in(s) }
	}
	for _, k := range append(slices.Clone(kinds), whole, kind{"", "live blocks", paintGood, []string{"live_bytes"}}) {
		v.row(cmp.Or(k.mark, " "), k.name, k.p, inUnits(k.in(v.last())), v.trail(of(k), k.p))
	}
	limit := func(name string) string {
		if n := v.figure(name); n > 0 {
			return inUnits(n)
		}
		return "none"
	}
	v.line(fmt.Sprintf("Limits: soft %s, hard %s; %.0f refusals, %.0f failed allocations.", limit("soft_limit_bytes"), limit("hard_limit_bytes"), v.figure("limit_refusals_total"), v.figure("failed_allocations_total")))
}

// rate is how fast a number grows, per second.
func rate(value func(*export.Sample) float64) func(s, before *export.Sample) float64 {
	return func(s, before *export.Sample) float64 {
		return max(0, value(s)-value(before)) / max(float64(s.Time-before.Time)/1000, 0.001)
	}
}

// rates writes a row for a rate.
func (v *topView) rates(name string, p paint, write func(float64) string, value func(*export.Sample) float64) {
	now := "–"
	r := rate(value)
	if n := len(v.samples); n > 1 {
		now = write(r(&v.samples[n-1], &v.samples[n-2]))
	}
	v.row("■", name, p, now, v.trail(r, p))
}

// sum returns a function that adds up figures, over their labels too.
func sum(figures ...string) func(*export.Sample) float64 {
	return func(s *export.Sample) (n float64) {
		for _, f := range figures {
			n += s.Figures.Plain[f]
			for _, value := range s.Figures.Labelled[f] {
				n += value
			}
		}
		return n
	}
}

// freed writes what became of freed memory.
func (v *topView) freed() {
	hold := time.Duration(v.figure("scavenger_hold_seconds") * float64(time.Second)).Round(10 * time.Millisecond)
	v.title("Freed memory", fmt.Sprintf("Free pages are kept for %v on average before they go back. That is right while little is wanted again too soon or kept in vain.", hold))
	v.rates("kept, and used again", paintGood, aSecond, sum("kept_reused_bytes_total"))
	v.rates("returned", paintUsed, aSecond, sum("returned_bytes_total"))
	v.rates("returned as holes", paintLarge, aSecond, sum("holes_returned_bytes_total"))
	v.rates("wanted again too soon", paintBad, aSecond, sum("faulted_again_bytes_total"))
	v.rates("kept in vain", paintWarm, aSecond, sum("kept_in_vain_bytes_total"))
}

// slowPaths writes what allocations waited for.
func (v *topView) slowPaths() {
	v.title("Faults and slow paths", "A page fault brings memory for a page that had none; a miss refills a magazine, the cache that serves most allocations.")
	v.rates("page faults", paintWarm, times, sum("faulted_tiny_pages", "faulted_mid_pages", "faulted_large_pages", "faulted_huge_pages"))
	v.rates("magazine misses", paintUsed, times, sum("class_misses_total"))
	v.rates("memory system calls", paintLarge, times, sum("reserve_calls_total", "commit_calls_total", "decommit_calls_total", "advise_calls_total", "populate_calls_total"))
	v.rates("caches emptied", paintCached, times, sum("drains_total"))
	if longest := v.last().Figures.Labelled["phase_longest_cycles"]; len(longest) > 0 {
		name, seconds := v.longestStall(longest)
		v.line(fmt.Sprintf("The longest stall since the start: %s, %v.", safe(name), time.Duration(seconds*float64(time.Second)).Round(time.Microsecond)))
	}
}

// longestStall returns the phase with the longest run, and how long that was.
func (v *topView) longestStall(longest map[string]float64) (phase string, seconds float64) {
	f := v.last().Figures.Labelled
	for _, name := range slices.Sorted(maps.Keys(longest)) {
		if cycles := f["phase_cycles_total"][name]; cycles > 0 {
			if s := longest[name] * f["phase_seconds"][name] / cycles; s > seconds {
				phase, seconds = name, s
			}
		}
	}
	return phase, seconds
}

// mapRows is how many lines the map of the region takes at most.
const mapRows = 8

// region draws the map of the region. A character stands for one cell of the sample, or several.
func (v *topView) region() {
	r := &v.last().Region
	cells := len(r.Used)
	per := max((cells+mapRows*v.width-1)/(mapRows*v.width), 1)
	v.title("Map", fmt.Sprintf("%s a character, lowest address first. █ ▓ ▒ ░ in use, wholly to hardly; ◌ holes in use; ○ free with memory; · free without.", inUnits(float64(r.CellBytes)*float64(per))))
	var b strings.Builder
	column := 0
	for from := 0; from < cells; from += per {
		to := min(from+per, cells)
		b.WriteString(v.cell(add(r.Used[from:to]), add(r.Holes[from:to]), add(r.Warm[from:to]), add(r.Returned[from:to])))
		if column++; column == v.width {
			v.line(b.String())
			b.Reset()
			column = 0
		}
	}
	if column > 0 {
		v.line(b.String())
	}
}

func add(numbers []uint32) (n float64) {
	for _, x := range numbers {
		n += float64(x)
	}
	return n
}

// cell is the character of a piece of the region.
func (v *topView) cell(used, holes, warm, returned float64) string {
	switch all := used + holes + warm + returned; {
	case used >= all*3/4:
		return v.paint("█", paintUsed)
	case used >= all/2:
		return v.paint("▓", paintUsed)
	case used >= all/4:
		return v.paint("▒", paintUsed)
	case holes > max(warm, returned):
		return v.paint("◌", paintCached)
	case used > 0:
		return v.paint("░", paintUsed)
	case warm > 0:
		return v.paint("○", paintWarm)
	}
	return v.paint("·", paintSoft)
}

// listed is how many classes and sites are listed.
const listed = 10

// entry is a row of a list of bars.
type entry struct {
	name  string
	bytes float64
	value string
}

// list writes the largest entries as bars.
func (v *topView) list(entries []entry, p paint) {
	slices.SortStableFunc(entries, func(x, y entry) int {
		return cmp.Or(cmp.Compare(y.bytes, x.bytes), cmp.Compare(x.name, y.name))
	})
	for _, e := range entries[:min(len(entries), listed)] {
		v.row("■", e.name, p, e.value, v.share(e.bytes, entries[0].bytes, p))
	}
}

// classes lists the size classes with the most memory.
func (v *topView) classes() {
	v.title("Size classes", "The bar is all memory of the class; the number is what is live of it.")
	f := v.last().Figures.Labelled
	var entries []entry
	for class, live := range f["class_live_blocks"] {
		size, err := strconv.ParseFloat(class, 64)
		if all := size * (live + f["class_free_blocks"][class] + f["class_magazine_blocks"][class]); err == nil && all > 0 {
			entries = append(entries, entry{inUnits(size), all, inUnits(size * live)})
		}
	}
	v.list(entries, paintUsed)
}

// sites lists the sites with the most live bytes.
func (v *topView) sites() {
	f := v.last().Figures.Labelled
	var entries []entry
	for name, bytes := range f["site_live_bytes"] {
		n := bytes * max(f["site_live_one_in_blocks"][name], 1)
		entries = append(entries, entry{safe(name), n, inUnits(n)})
	}
	how := "What blocks are for, by MallocAt or HAKMEM_SITES=pc. One that only grows may be a leak."
	if len(entries) == 0 {
		how = "The program names none (MallocAt, HAKMEM_SITES=pc)."
	}
	v.title("Sites", how)
	v.list(entries, paintGood)
}
