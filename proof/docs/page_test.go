package docs

import (
	"regexp"
	"strconv"
	"strings"
)

// page is a document in Markdown.
type page struct {
	name    string // below the root, with slashes
	chunks  []chunk
	blocks  []chunk // fenced code
	links   []reference
	anchors map[string]bool // of its headings
	heads   []string        // the headings' text
}

// chunk is a paragraph, a row of a table, or a block of code.
type chunk struct {
	line int // of the page, where it begins
	text string
	head string // the first cell of the table's first row
}

// reference is a piece of text on a line of the page.
type reference struct {
	line int
	text string
}

var (
	linkPattern = regexp.MustCompile(`\[([^\]]*)\]\(([^)\s]+)\)`)
	urlPattern  = regexp.MustCompile(`https?://[^\s)]+`)
	codePattern = regexp.MustCompile("`([^`]+)`")
	headPattern = regexp.MustCompile(`^#{1,6} (.*)$`)
)

// readPage splits a document.
func readPage(name, text string) *page {
	p := &page{name: name, anchors: map[string]bool{}}
	var open chunk // the paragraph or the block that the lines before belong to
	var lines []string
	fenced, head := false, ""
	end := func(to *[]chunk) {
		if len(lines) > 0 {
			open.text = strings.Join(lines, "\n")
			*to = append(*to, open)
		}
		open, lines = chunk{}, nil
	}
	for i, line := range strings.Split(text, "\n") {
		add := func() {
			if len(lines) == 0 {
				open = chunk{line: i + 1, head: head}
			}
			lines = append(lines, line)
		}
		row := strings.HasPrefix(line, "|")
		if !row {
			head = ""
		}
		switch {
		case strings.HasPrefix(line, "```"):
			if fenced {
				end(&p.blocks)
			} else {
				end(&p.chunks)
			}
			fenced = !fenced
		case fenced:
			add()
		case strings.TrimSpace(line) == "":
			end(&p.chunks)
		case row:
			end(&p.chunks)
			if head == "" {
				head = firstCell(line)
			}
			add()
			end(&p.chunks)
		default:
			if strings.HasPrefix(line, "* ") || headPattern.MatchString(line) {
				end(&p.chunks)
			}
			if m := headPattern.FindStringSubmatch(line); m != nil {
				p.heads = append(p.heads, m[1])
				p.anchors[p.newAnchor(m[1])] = true
			}
			add()
		}
	}
	end(&p.chunks)
	for i, c := range p.chunks {
		for _, m := range linkPattern.FindAllStringSubmatchIndex(c.text, -1) {
			p.links = append(p.links, reference{c.lineAt(m[0]), c.text[m[4]:m[5]]})
		}
		// What is checked below is the text of a link, not where it leads.
		c.text = linkPattern.ReplaceAllString(c.text, "[$1]")
		p.chunks[i].text = urlPattern.ReplaceAllString(c.text, "URL")
	}
	return p
}

// newAnchor returns the anchor that GitHub gives the heading: its letters, digits, hyphens and
// underscores, blanks as hyphens, and a number if the page has the same heading already.
func (p *page) newAnchor(head string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(head) {
		switch {
		case r == ' ':
			b.WriteByte('-')
		case r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r > 127:
			b.WriteRune(r)
		}
	}
	anchor := b.String()
	for n := 1; p.anchors[anchor]; n++ {
		anchor = b.String() + "-" + strconv.Itoa(n)
	}
	return anchor
}

// lineAt is the line of the page on which the byte at offset i of the chunk is.
func (c chunk) lineAt(i int) int { return c.line + strings.Count(c.text[:i], "\n") }

// code lists the code spans of the chunk. A bar is written \| in a row of a table.
func (c chunk) code() []reference {
	var spans []reference
	for _, m := range codePattern.FindAllStringSubmatchIndex(c.text, -1) {
		text := strings.ReplaceAll(c.text[m[2]:m[3]], `\|`, "|")
		spans = append(spans, reference{c.lineAt(m[0]), strings.Join(strings.Fields(text), " ")})
	}
	return spans
}

func firstCell(row string) string {
	cell, _, _ := strings.Cut(strings.TrimPrefix(row, "|"), "|")
	return strings.TrimSpace(cell)
}
