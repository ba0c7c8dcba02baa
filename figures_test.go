package hakmem

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hakmem/hakmem/internal/engine"
	"github.com/hakmem/hakmem/internal/sizeclass"
)

var update = flag.Bool("update", false, "rewrite figures_help.go: what go generate does")

// declared is a figure as stats.go declares it.
type declared struct{ field, name, kind, help string }

// declaredFigures reads the source of stats.go. It returns the figures in the order of the
// source, and where a field's comment, its tag and its type do not agree.
func declaredFigures(src []byte) (figures []declared, broken []string) {
	f, err := parser.ParseFile(token.NewFileSet(), "stats.go", src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, []string{err.Error()}
	}
	named := map[string]string{} // fields by name of figure
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.TYPE {
			continue
		}
		of := g.Specs[0].(*ast.TypeSpec)
		s, ok := of.Type.(*ast.StructType)
		if !ok || !of.Name.IsExported() {
			continue
		}
		if g.Doc == nil {
			broken = append(broken, of.Name.Name+" has no comment")
		}
		for _, field := range s.Fields.List {
			d, what := declaredFigure(field)
			where := of.Name.Name + "." + d.field
			if before := named[d.name]; d.name != "" && before != "" {
				what = append(what, "has the name of "+before)
			}
			for _, w := range what {
				broken = append(broken, where+" "+w)
			}
			if d.name != "" {
				d.field, named[d.name] = where, where
				figures = append(figures, d)
			}
		}
	}
	return figures, broken
}

var (
	figureName    = regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)
	firstSentence = regexp.MustCompile(`(?s)^(.*?\.)(\s|$)`)
)

// declaredFigure reads a field; name is empty if the field is no figure.
func declaredFigure(field *ast.Field) (d declared, broken []string) {
	bad := func(format string, a ...any) { broken = append(broken, fmt.Sprintf(format, a...)) }
	typ := nameOf(field.Type)
	switch len(field.Names) {
	case 0:
		d.field = typ
	case 1:
		d.field = field.Names[0].Name
	default:
		d.field = field.Names[0].Name
		bad("shares its declaration with %s: one field a line", field.Names[1].Name)
	}
	sentence := firstSentence.FindString(strings.Join(strings.Fields(field.Doc.Text()), " "))
	sentence = strings.TrimSpace(sentence)
	if sentence == "" {
		bad("has no comment with a sentence")
	}
	tag := ""
	if field.Tag != nil {
		text, err := strconv.Unquote(field.Tag.Value)
		if err != nil {
			bad("has the tag %s: %v", field.Tag.Value, err)
		}
		tag = reflect.StructTag(text).Get(statTag)
	}
	number := slices.Contains([]string{"uint64", "int", "bool", "float64", "time.Duration"}, typ)
	name, kind, _ := strings.Cut(tag, ",")
	switch {
	case kind == "label", tag == "-" && typ == "Site":
		return d, broken
	case !number && (tag == "" || strings.Contains(tag, "=")):
		return d, broken // it holds figures, or is none
	case !number:
		bad("has the tag %q, and its type %s is no number", tag, typ)
		return d, broken
	case tag == "":
		bad("is a number without a tag: give it `%s:\"name_unit,kind\"`", statTag)
		return d, broken
	}
	d.name, d.kind = name, kind
	if !figureName.MatchString(name) {
		bad("has the name %q, which is not in snake case", name)
	}
	if kind != Gauge && kind != Counter {
		bad("has the kind %q; there are %s and %s", kind, Gauge, Counter)
	}
	if total := strings.HasSuffix(name, "_total"); total != (kind == Counter) {
		bad("is a %s with the name %q: those of counters, and no others, end with _total", kind, name)
	}
	words := strings.Split(strings.TrimSuffix(name, "_total"), "_")
	unit := words[len(words)-1]
	if (unit == "seconds") != (typ == "time.Duration") {
		bad("has the unit %s and the type %s", unit, typ)
	}
	if (unit == "ratio") != (typ == "float64") {
		bad("has the unit %s and the type %s", unit, typ)
	}
	want := "number of" // that the sentence has to have
	switch {
	case typ == "bool":
		want, unit = "is whether ", ""
	case unit == "seconds":
		want, unit = "time", "" // the type says the rest
	case unit == "ratio":
		want = "ratio of"
	case unit == "bytes", unit == "cycles":
		want = "in " + unit
	}
	if !strings.Contains(sentence, want) || !strings.Contains(strings.ToLower(sentence), unit) {
		bad("has the unit %q, and the first sentence of its comment does not have %q and that unit: %s", unit, want, sentence)
	}
	help, ok := strings.CutPrefix(sentence, d.field+" is ")
	if !ok || help == "" {
		bad("has a comment that does not begin with %q: %s", d.field+" is", sentence)
		return d, broken
	}
	d.help = strings.ToUpper(help[:1]) + help[1:]
	return d, broken
}

// nameOf is a type as the source has it, for the types that stats.go uses.
func nameOf(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return nameOf(e.X) + "." + e.Sel.Name
	case *ast.ArrayType:
		return "[]" + nameOf(e.Elt)
	}
	return fmt.Sprintf("%T", e)
}

func statsSource(t *testing.T) (figures []declared, broken []string) {
	t.Helper()
	src, err := os.ReadFile("stats.go")
	if err != nil {
		t.Fatal(err)
	}
	return declaredFigures(src)
}

// TestFiguresDeclared holds the comment, the tag and the type of each field of stats.go
// against each other.
func TestFiguresDeclared(t *testing.T) {
	figures, broken := statsSource(t)
	for _, what := range broken {
		t.Errorf("stats.go: %s", what)
	}
	if len(figures) < 50 { // there were 67 when this was written
		t.Errorf("%d figures in stats.go", len(figures))
	}
}

// TestFiguresDeclaredFinds shows what TestFiguresDeclared finds.
func TestFiguresDeclaredFinds(t *testing.T) {
	for _, x := range []struct{ fields, want string }{
		{"// A is the number of calls.\nA uint64 `stat:\"a_calls_total,counter\"`", ""},
		{"// A is the memory of it, in bytes. More.\nA uint64 `stat:\"a_bytes,gauge\"`", ""},
		{"// A is whether it runs.\nA bool `stat:\"a_runs,gauge\"`", ""},
		{"// A has figures.\nA CacheStats `stat:\"cache=a\"`", ""},
		{"// A is its size, in bytes.\nA uint64 `stat:\"class,label\"`", ""},
		{"A uint64 `stat:\"a_calls,gauge\"`", "no comment"},
		{"// A is the number of calls.\nA uint64", "without a tag"},
		{"// A is the number of calls.\nA, B uint64 `stat:\"a_calls,gauge\"`", "one field a line"},
		{"// A is the number of calls.\nA uint64 `stat:\"aCalls,gauge\"`", "snake case"},
		{"// A is the number of calls.\nA uint64 `stat:\"a_calls,sum\"`", "the kind"},
		{"// A is the number of calls.\nA uint64 `stat:\"a_calls_total,gauge\"`", "end with _total"},
		{"// A is the number of calls.\nA uint64 `stat:\"a_calls,counter\"`", "end with _total"},
		{"// A is the number of calls.\nA uint64 `stat:\"a_frees,gauge\"`", `the unit "frees"`},
		{"// A is the number of bytes.\nA uint64 `stat:\"a_bytes,gauge\"`", `"in bytes"`},
		{"// A is the time, in seconds.\nA uint64 `stat:\"a_seconds,gauge\"`", "the type uint64"},
		{"// A is the time, in cycles.\nA time.Duration `stat:\"a_cycles,gauge\"`", "the type time.Duration"},
		{"// A is the ratio of it.\nA uint64 `stat:\"a_ratio,gauge\"`", "the type uint64"},
		{"// A is the number of calls.\nA float64 `stat:\"a_calls,gauge\"`", "the type float64"},
		{"// A is the part of it.\nA float64 `stat:\"a_ratio,gauge\"`", `"ratio of"`},
		{"// A is the ratio of it to B.\nA float64 `stat:\"a_ratio,gauge\"`", ""},
		{"// A is the age of it.\nA time.Duration `stat:\"a_seconds,gauge\"`", `"time"`},
		{"// A is the time of it.\nA time.Duration `stat:\"a_seconds,gauge\"`", ""},
		{"// A is set while it runs.\nA bool `stat:\"a_runs,gauge\"`", "is whether"},
		{"// The number of calls.\nA uint64 `stat:\"a_calls,gauge\"`", "does not begin with"},
		{"// A is the number of calls.\nA string `stat:\"a_calls,gauge\"`", "is no number"},
		{"// A is the number of calls.\nA uint64 `stat:\"calls,gauge\"`\n// B is the number of calls.\nB int `stat:\"calls,gauge\"`", "has the name of S.A"},
	} {
		_, broken := declaredFigures([]byte("package hakmem\n\n// S is a struct.\ntype S struct {\n" + x.fields + "\n}\n"))
		if all := strings.Join(broken, "\n"); (x.want == "") != (all == "") || !strings.Contains(all, x.want) {
			t.Errorf("%s\nfound: %s\nwant: %s", x.fields, all, x.want)
		}
	}
	if _, broken := declaredFigures([]byte("package hakmem\n\ntype S struct{}\n")); len(broken) != 1 {
		t.Errorf("a type without a comment: found %q", broken)
	}
}

// TestFiguresHelp compares figures_help.go with the comments, or writes it (-update).
func TestFiguresHelp(t *testing.T) {
	figures, broken := statsSource(t)
	if len(broken) > 0 {
		t.Fatalf("stats.go: %s", strings.Join(broken, "\n"))
	}
	var b bytes.Buffer
	b.WriteString(`// Code generated by go generate from the doc comments of stats.go. DO NOT EDIT.

package hakmem

// figureHelp returns the help text of the figures that have the name.
func figureHelp(name string) string {
	switch name {
`)
	for _, d := range figures {
		fmt.Fprintf(&b, "case %q: // %s\nreturn %q\n", d.name, d.field, d.help)
	}
	b.WriteString("}\nreturn \"\"\n}\n")
	want, err := format.Source(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("figures_help.go", want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile("figures_help.go"); err != nil || !bytes.Equal(got, want) {
		t.Errorf("figures_help.go is not what the comments of stats.go say: run go generate (%v)", err)
	}
}

// number gives every number below v a value of its own, and every slice of structs two elements.
// It returns the values that Figures has to yield, by the fields' paths.
func number(v reflect.Value, path string, next *uint64, want map[string]float64) {
	for i := range v.NumField() {
		f, field := v.Field(i), v.Type().Field(i)
		tag, at := field.Tag.Get(statTag), path+"."+field.Name
		*next++
		switch f.Kind() {
		case reflect.Struct:
			number(f, at, next, want)
			continue
		case reflect.Slice:
			if f.Type().Elem().Kind() != reflect.Struct {
				continue
			}
			f.Set(reflect.MakeSlice(f.Type(), 2, 2))
			for j := range f.Len() {
				number(f.Index(j), fmt.Sprintf("%s[%d]", at, j), next, want)
			}
			continue
		case reflect.String:
			f.SetString(fmt.Sprint("name ", *next))
			continue
		case reflect.Bool:
			f.SetBool(true)
			want[at] = 1
		case reflect.Int, reflect.Int64:
			f.SetInt(int64(*next))
			want[at] = float64(*next)
			if f.Type() == reflect.TypeFor[time.Duration]() {
				want[at] = float64(*next) / 1e9
			}
		case reflect.Float64:
			f.SetFloat(float64(*next))
			want[at] = float64(*next)
		default: // Uint panics if it is none
			if f.Uint() != 0 {
				panic("a field was not 0")
			}
			f.SetUint(*next)
			want[at] = float64(*next)
		}
		if strings.HasSuffix(tag, ",label") || tag == "-" {
			delete(want, at)
		}
	}
}

// TestFigures: each numeric field is yielded once, with its value, under a name and labels that
// no other has.
func TestFigures(t *testing.T) {
	var s Stats
	next, want := uint64(1), map[string]float64{}
	number(reflect.ValueOf(&s).Elem(), "Stats", &next, want)
	fields, _ := statsSource(t)
	kinds := map[string]string{}
	for _, d := range fields {
		kinds[d.name] = d.kind
	}
	var values []float64
	seen, names := map[string]bool{}, map[string]bool{}
	for f := range s.Figures() {
		values = append(values, f.Value)
		id := fmt.Sprint(f.Name, f.Labels)
		if seen[id] {
			t.Errorf("%s is yielded twice", id)
		}
		seen[id], names[f.Name] = true, true
		if f.Kind != kinds[f.Name] || f.Help == "" || f.Help != figureHelp(f.Name) {
			t.Errorf("%+v, declared as a %s", f, kinds[f.Name])
		}
		for _, l := range f.Labels {
			if !figureName.MatchString(l.Name) || l.Value == "" {
				t.Errorf("%s: label %+v", f.Name, l)
			}
		}
		if unit := strings.TrimSuffix(f.Name, "_total"); f.Unit == "" && f.Value != 1 || !strings.HasSuffix(unit, f.Unit) {
			t.Errorf("%s: unit %q", f.Name, f.Unit)
		}
	}
	wanted := slices.Sorted(maps.Values(want))
	if slices.Sort(values); !slices.Equal(values, wanted) {
		t.Errorf("%d values, want %d:\n%v\n%v", len(values), len(wanted), values, wanted)
	}
	if len(names) != len(fields) {
		t.Errorf("%d names, and stats.go declares %d", len(names), len(fields))
	}
	labels := map[string]string{
		"class_slabs":              fmt.Sprintf("[{class %d}]", s.Classes[0].Size),
		"large_cache_hits_total":   "[{cache shared}]",
		"phase_runs_total":         fmt.Sprintf("[{phase %s}]", s.Timing[0].Phase),
		"site_live_bytes":          fmt.Sprintf("[{site %s}]", s.Sites[0].Name),
		"live_bytes":               "[]",
		"scavenger_ticks_total":    "[]",
		"large_live_blocks":        "[]",
		"failed_allocations_total": "[]",
	}
	for name, l := range labels {
		if !seen[name+l] {
			t.Errorf("%s%s is not yielded", name, l)
		}
	}
	for range s.Figures() { // the loop may end at any figure
		break
	}
	for f := range s.Figures() {
		if f.Name == "class_slabs" {
			break
		}
	}
}

// TestStatsTakesAll: every figure of the engine arrives, each in its field.
func TestStatsTakesAll(t *testing.T) {
	var from engine.Totals
	next, sent := uint64(0), map[uint64]string{}
	var fill func(v reflect.Value, path string)
	fill = func(v reflect.Value, path string) {
		switch v.Kind() {
		case reflect.Struct:
			for i := range v.NumField() {
				if v.Type().Field(i).IsExported() {
					fill(v.Field(i), path+"."+v.Type().Field(i).Name)
				}
			}
		case reflect.Array: // of classes: 0 is none
			for i := 1; i < v.Len(); i++ {
				fill(v.Index(i), fmt.Sprintf("%s[%d]", path, i))
			}
		case reflect.Bool:
			v.SetBool(true)
		case reflect.Uint64:
			next++
			v.SetUint(next)
			sent[next] = path
		case reflect.Float64:
			next++
			v.SetFloat(float64(next))
			sent[next] = path
		default:
			next++
			v.SetInt(int64(next))
			sent[next] = path
		}
	}
	fill(reflect.ValueOf(&from).Elem(), "Totals")
	var s Stats
	s.take(&from)
	if len(s.Classes) != sizeclass.Num-sizeclass.Spare() || !s.Scavenger.Running {
		t.Errorf("%d classes, running %t", len(s.Classes), s.Scavenger.Running)
	}
	for value, path := range sent { // a spare class without a size has no entry
		for c := sizeclass.ID(sizeclass.NumFixed + 1); c <= sizeclass.Num; c++ {
			if c.Bytes() == 0 && strings.HasPrefix(path, fmt.Sprintf("Totals.Classes[%d]", c)) {
				delete(sent, value)
			}
		}
	}
	for f := range s.Figures() {
		value := f.Value
		if f.Unit == "seconds" {
			value *= 1e9
		}
		delete(sent, uint64(value+0.5))
	}
	for i := range s.Classes {
		delete(sent, s.Classes[i].Size)
	}
	for value, path := range sent {
		t.Errorf("%s, %d, is in no field of Stats", path, value)
	}
	if s.Large.Shared.Hits != from.Shared.Hits || s.Large.SiteCache.Hits != from.SiteCache.Hits || s.Large.HugeCache.Hits != from.HugeCache.Hits {
		t.Errorf("caches: %+v, from %+v, %+v, %+v", s.Large, from.Shared, from.SiteCache, from.HugeCache)
	}
}
