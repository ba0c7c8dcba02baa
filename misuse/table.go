package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
)

// table has the outcome of each case, size and level, in the words of outcome.text.
type table map[[3]string]string

func (t table) at(c *misuseCase, size, level string) string { return t[[3]string{c.name, size, level}] }

func tableOf(got []outcome) table {
	t := table{}
	for _, o := range got {
		t[[3]string{o.Case, o.Size, o.Level}] = o.text()
	}
	return t
}

// format returns the table as text, with a line for each case, level and outcome.
func (t table) format() []byte {
	var b bytes.Buffer
	b.WriteString("# case | level | outcome | sizes; see -update in misuse_test.go\n")
	for _, c := range cases {
		for _, l := range levels {
			var texts []string
			of := map[string][]string{}
			for _, size := range c.sizes {
				s := t.at(c, size, l.name)
				if of[s] == nil {
					texts = append(texts, s)
				}
				of[s] = append(of[s], size)
			}
			for _, s := range texts {
				fmt.Fprintf(&b, "%s | %s | %s | %s\n", c.name, l.name, s, strings.Join(of[s], " "))
			}
		}
	}
	return b.Bytes()
}

// readTable reads what format wrote.
func readTable(path string) (table, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	t := table{}
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		if strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		w := strings.Split(lines.Text(), " | ")
		if len(w) != 4 {
			return nil, fmt.Errorf("%s:%d: %q: want case | level | outcome | sizes", path, n, lines.Text())
		}
		for _, size := range strings.Fields(w[3]) {
			k := [3]string{w[0], size, w[1]}
			if _, twice := t[k]; twice {
				return nil, fmt.Errorf("%s:%d: %v twice", path, n, k)
			}
			t[k] = w[2]
		}
	}
	return t, lines.Err()
}

// The generated part of the document is between these lines.
const (
	beginMark = "<!-- written by: go run ./misuse -markdown -->"
	endMark   = "<!-- end -->"
)

func writeDocument(path string, t table) error {
	doc, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	head, rest, ok1 := bytes.Cut(doc, []byte(beginMark))
	_, tail, ok2 := bytes.Cut(rest, []byte(endMark))
	if !ok1 || !ok2 {
		return fmt.Errorf("%s lacks the lines %q and %q", path, beginMark, endMark)
	}
	return os.WriteFile(path, slices.Concat(head, []byte(beginMark+"\n\n"), t.markdown(), []byte("\n"+endMark), tail), 0o644)
}

// groups are the tables in docs/security.md.
var groups = []struct{ name, title, first string }{
	{"pointers", "A pointer that is not the start of a live block, given to Free, Realloc and UsableSize", "pointer"},
	{"frees", "One free too many", "what is freed"},
	{"bounds", "Bytes outside a block", "access"},
	{"after", "Bytes of a freed block", "access"},
	{"sizes", "Impossible sizes and arguments", "call"},
	{"typed", "Slices and types", "call"},
	{"owners", "Heaps and Arenas", "use"},
}

// markdown returns the tables for docs/security.md.
func (t table) markdown() []byte {
	var b bytes.Buffer
	var notes []string
	for _, g := range groups {
		fmt.Fprintf(&b, "#### %s\n| %s |", g.title, g.first)
		for _, l := range levels {
			fmt.Fprintf(&b, " %s |", l.name)
		}
		fmt.Fprintf(&b, "\n|---%s|\n", strings.Repeat("|---", len(levels)))
		for i := 0; i < len(cases); {
			row := []*misuseCase{cases[i]}
			for i++; i < len(cases) && cases[i].title == row[0].title; i++ {
				row = append(row, cases[i])
			}
			if row[0].group != g.name {
				continue
			}
			fmt.Fprintf(&b, "| %s |", row[0].title)
			for _, l := range levels {
				fmt.Fprintf(&b, " %s |", t.cell(row, l.name, &notes))
			}
			b.WriteByte('\n')
		}
		b.WriteByte('\n')
	}
	b.WriteString("Why it is not caught:\n")
	for i, n := range notes {
		fmt.Fprintf(&b, "%d. %s.\n", i+1, n)
	}
	b.WriteString("\n#### Compared with other allocators\n| misuse |")
	for _, l := range levels {
		fmt.Fprintf(&b, " hakmem %s |", l.name)
	}
	for _, p := range peers {
		fmt.Fprintf(&b, " %s |", p)
	}
	fmt.Fprintf(&b, "\n|---%s|\n", strings.Repeat("|---", len(levels)+len(peers)))
	for _, r := range peerRows {
		fmt.Fprintf(&b, "| %s |", r.title)
		for _, l := range levels {
			fmt.Fprintf(&b, " %s |", letter(t.at(caseNamed(r.name), r.size, l.name)))
		}
		for _, w := range strings.Fields(r.peers) {
			fmt.Fprintf(&b, " %s |", w)
		}
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// cell sums up the outcomes of a row's cases at a level: each outcome once, with the functions and
// sizes it applies to unless it applies to all.
func (t table) cell(row []*misuseCase, level string, notes *[]string) string {
	type part struct {
		text, note    string
		sizes, labels []string
	}
	var parts []part
	for _, c := range row {
		var own []part
		for _, size := range c.sizes {
			text := t.at(c, size, level)
			i := slices.IndexFunc(own, func(p part) bool { return p.text == text })
			if i < 0 {
				own = append(own, part{text: text})
				i = len(own) - 1
				if strings.HasPrefix(text, notCaught) || text == byChance {
					own[i].note = c.why.of(level)
				}
			}
			own[i].sizes = append(own[i].sizes, size)
		}
		for _, p := range own {
			label := c.op
			if len(own) > 1 {
				label = strings.TrimSpace(c.op + " " + strings.Join(p.sizes, ", "))
			}
			i := slices.IndexFunc(parts, func(q part) bool { return q.text == p.text && q.note == p.note })
			if i < 0 {
				parts = append(parts, p)
				i = len(parts) - 1
			}
			parts[i].labels = append(parts[i].labels, label)
		}
	}
	var out []string
	for _, p := range parts {
		s := strings.TrimPrefix(strings.TrimPrefix(p.text, atCall+": "), lawful+": ")
		if strings.HasPrefix(p.text, notCaught) {
			s = "**not caught**" + strings.TrimPrefix(p.text, notCaught)
		}
		if p.note != "" {
			i := slices.Index(*notes, p.note)
			if i < 0 {
				*notes = append(*notes, p.note)
				i = len(*notes) - 1
			}
			s += fmt.Sprintf(" [%d]", i+1)
		}
		if len(parts) > 1 {
			s += " (" + strings.Join(p.labels, ", ") + ")"
		}
		out = append(out, s)
	}
	return strings.Join(out, "; ")
}

// letter is the outcome in the notation of the comparison with other allocators.
func letter(text string) string {
	switch {
	case strings.HasPrefix(text, callLater):
		return "A/L"
	case text == atCall+": returns nil":
		return "yes"
	case strings.HasPrefix(text, atCall), text == later+" by Free: buffer overflow":
		return "A"
	case strings.HasPrefix(text, later):
		return "L"
	case strings.HasPrefix(text, fault+": AddressSanitizer"):
		return "A"
	case strings.HasPrefix(text, fault):
		return "V"
	case strings.HasPrefix(text, cannot):
		return "n/a"
	case text == lawful+": no":
		return "yes"
	}
	return "·"
}
