package hakmem_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/hakmem/hakmem"
	"github.com/hakmem/hakmem/internal/policy"
	"github.com/hakmem/hakmem/internal/testkit"
)

// The table of settings, the fields of Options with their comments, and the values that the
// engine reads are three lists of the same things.

// stem is what the names of one setting share: HAKMEM_MAG_MID_BYTES and MagMidBytes are both
// magmidbytes.
func stem(name string) string {
	return strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(name, "HAKMEM_"), "_", ""))
}

// factLine is the last line of a field's comment: the variable, its default, what the default is
// with the tag hakmem_racetrack if that differs, and its range or its words.
var factLine = regexp.MustCompile(`^(HAKMEM_\w+); default ([\w. ]+?)(?: \(([\w ]+) with hakmem_racetrack\))?, (?:from ([\w. ]+) to (\d+(?: [KMGT]iB)?)(?: [a-z]+)?|on or off|one of ([\w., ]+))\.$`)

// bytesOf spells a number as the environment would: "64 KiB" is "65536".
func bytesOf(text string) string {
	number, unit, _ := strings.Cut(text, " ")
	n, err := strconv.ParseInt(number, 10, 64)
	shift := map[string]int{"": 0, "KiB": 10, "MiB": 20, "GiB": 30, "TiB": 40}
	if by, ok := shift[unit]; err == nil && ok {
		return strconv.FormatInt(n<<by, 10)
	}
	return text
}

// TestOptionsTable reads options.go: every setting has a field, which has its stem and is explained
// in one to four sentences and the line of facts, and every field is a setting.
func TestOptionsTable(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "options.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{
		"HAKMEM_POLICY":        true, // read when the program starts; ImportPolicy does the same at any time
		"HAKMEM_POLICY_EXPORT": true, // from the program's start on; ExportPolicy does the same at any time
		"HAKMEM_TRACE":         true, // read before Configure could be called; StartTrace does the same
	}
	for _, field := range optionsFields(t, file) {
		name := field.Names[0].Name
		text, line, ok := strings.Cut(strings.TrimSpace(field.Doc.Text()), "\n\n")
		facts := factLine.FindStringSubmatch(line)
		if !ok || facts == nil {
			t.Errorf("%s: the last line is %q, want one such as HAKMEM_REFILL; default 64, from 1 to 127 blocks.", name, line)
			continue
		}
		if n := len(regexp.MustCompile(`\.(\s|$)`).FindAllString(text, -1)); n < 1 || n > 4 || !strings.HasPrefix(text, name+" ") {
			t.Errorf("%s: the comment has %d sentences and begins %.20q", name, n, text)
		}
		g := policy.Find(facts[1])
		if g == nil || g.Name != facts[1] || stem(g.Name) != stem(name) {
			t.Errorf("%s: %s is not its setting", name, facts[1])
			continue
		}
		seen[g.Name] = true
		wantDefault := facts[2]
		if testkit.Tracked && facts[3] != "" {
			wantDefault = facts[3]
		}
		if g.Kind == policy.Switch {
			wantDefault = map[string]string{"on": "1", "off": "0"}[wantDefault]
		}
		if got := bytesOf(wantDefault); got != g.Default {
			t.Errorf("%s: the comment has the default %s, the table %s", name, got, g.Default)
		}
		switch words := facts[6]; g.Kind {
		case policy.Number, policy.Rate:
			if bytesOf(facts[4]) != fmt.Sprint(g.Min) || bytesOf(facts[5]) != fmt.Sprint(g.Max) {
				t.Errorf("%s: the comment has the range %q to %q, the table %d to %d", name, facts[4], facts[5], g.Min, g.Max)
			}
		case policy.Decimal:
			if facts[4] != fmt.Sprint(float64(g.Min)/1000) || facts[5] != fmt.Sprint(float64(g.Max)/1000) {
				t.Errorf("%s: the comment has the range %q to %q, the table %d to %d thousandths", name, facts[4], facts[5], g.Min, g.Max)
			}
		case policy.Choice:
			if words != strings.Join(g.Choices, ", ") {
				t.Errorf("%s: the comment has the words %q, the table %q", name, words, g.Choices)
			}
		default:
			if facts[4] != "" || words != "" {
				t.Errorf("%s: the comment does not say: on or off", name)
			}
		}
	}
	for _, g := range policy.All() {
		if !seen[g.Name] {
			t.Errorf("no field of Options is %s", g.Name)
		}
	}
}

// optionsFields returns the fields of Options, each alone in its line and with a comment.
func optionsFields(t *testing.T, file *ast.File) []*ast.Field {
	t.Helper()
	var fields []*ast.Field
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.TypeSpec); ok && spec.Name.Name == "Options" {
			fields = spec.Type.(*ast.StructType).Fields.List
		}
		return true
	})
	if len(fields) == 0 {
		t.Fatal("options.go has no type Options, or Options has no fields")
	}
	for _, f := range fields {
		if len(f.Names) != 1 || f.Doc == nil {
			t.Fatalf("a field without a comment of its own: %v", f.Names)
		}
	}
	return fields
}

// TestStems: the values that the engine reads have the stems of their settings, and there are no
// others.
func TestStems(t *testing.T) {
	var fields, names []string
	for _, part := range []any{policy.Fixed{}, policy.Tuning{}} {
		for f := range reflect.TypeOf(part).Fields() {
			fields = append(fields, stem(f.Name))
		}
	}
	for _, g := range policy.All() {
		names = append(names, stem(g.Name))
	}
	slices.Sort(fields)
	slices.Sort(names)
	if !slices.Equal(fields, names) {
		t.Errorf("fields %q, settings %q", fields, names)
	}
}

// someValue has a value for each word and each limit; other fields are set to 7 or switched.
var someValue = map[string]any{
	"Mode": "minimal", "Keep": "1.5s", "Evo": "auto", "Elo": "leader", "THP": "never", "Dyn": "16512,4224", "WMax": "1.5", "Batch": "auto", "Touch": "auto", "Sites": "pc/5", "MemoryPrice": 0.013,
	"MemorySoft": 128 << 20, "MemoryHard": 256 << 20, "CommitMin": 4 << 20, "CommitMax": 8 << 20, "RegionBytes": 512 << 20,
}

var _ = testkit.Child("configure everything", configureEverything)

// configureEverything sets all fields: each arrives at its setting.
func configureEverything(string) error {
	var o hakmem.Options
	want := map[string]string{}
	v := reflect.ValueOf(&o).Elem()
	for f := range v.Type().Fields() {
		field := v.FieldByIndex(f.Index)
		text := "7"
		if some, ok := someValue[f.Name]; ok {
			field.Set(reflect.ValueOf(some))
			text = fmt.Sprint(some)
		} else if field.Kind() == reflect.Uint8 {
			on := f.Name == "Timing" || f.Name == "EmptyFirst" || f.Name == "Harden"
			field.Set(reflect.ValueOf(map[bool]hakmem.Toggle{true: hakmem.ToggleOn, false: hakmem.ToggleOff}[on]))
			text = map[bool]string{true: "1", false: "0"}[on]
		} else {
			field.SetInt(7)
		}
		want[stem(f.Name)] = text
	}
	want["guard"] = "1/7"
	if err := hakmem.Configure(o); err != nil {
		return err
	}
	for i := range policy.All() {
		g := &policy.All()[i]
		if w, ok := want[stem(g.Name)]; ok && g.Value(policy.Current()) != w {
			return fmt.Errorf("%s = %s, want %s", g.Name, g.Value(policy.Current()), w)
		} else if ok && w == g.Default {
			return fmt.Errorf("%s: %s is its default: choose another value for this test", g.Name, w)
		}
	}
	return nil
}

func TestConfigureEverything(t *testing.T) { testkit.InChild(t, "configure everything", "") }
